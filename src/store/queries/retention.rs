//! What is due to be given up.

use offshoot_actors::ports::{QuietFilter, QuietSession};
use offshoot_actors::types::SessionKey;
use rusqlite::{Connection, Result, params};

use super::all;
use crate::store::rows::{cleanup_text, quiet, session_columns};

pub(in crate::store) fn quiet_sessions(
    connection: &Connection,
    filter: &QuietFilter,
    limit: u32,
) -> Result<Vec<QuietSession>> {
    let after = filter.after.as_ref().map(SessionKey::as_str).unwrap_or_default();
    all(
        connection,
        concat!(
            "SELECT ",
            session_columns!(),
            ", s.next_seq FROM sessions s WHERE s.mode = 'run' AND s.cleanup = ?1 \
             AND s.updated_at BETWEEN ?2 AND ?3 AND (s.updated_at > ?2 OR s.key > ?4) AND ",
            quiet!(),
            " ORDER BY s.updated_at, s.key LIMIT ?5"
        ),
        params![cleanup_text(filter.cleanup), filter.written.start().0, filter.written.end().0, after, limit],
        |mut columns| {
            let row = columns.session()?;
            Ok(QuietSession { row, entries: columns.value::<i64>()?.unsigned_abs() })
        },
    )
}
