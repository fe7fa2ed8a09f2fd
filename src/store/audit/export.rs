//! The audit record as lines of JSON that others can check.

use offshoot_actors::ports::StoreError;
use offshoot_actors::types::Timestamp;
use rusqlite::types::ValueRef;
use serde::Serialize;

use super::read::{AuditReader, text};
use super::{AuditHash, AuditHead};
use crate::store::backup::Progress;
use crate::store::error::store_error;

/// Rows that are read at once.
const PAGE: u32 = 1_000;

/// A row as it goes out: every text that its hash is made of stands there as it is stored.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    row: i64,
    at: i64,
    event: &'a str,
    origin: &'a str,
    session: Option<&'a str>,
    run: Option<&'a str>,
    facts: &'a str,
    prev_hash: String,
    hash: String,
}

/// What was exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditExported {
    /// How many rows.
    pub rows: u64,
    /// The first one.
    pub first: Option<i64>,
    /// The last one.
    pub last: Option<i64>,
    /// The hash of the last one.
    pub head: Option<String>,
}

/// Why not everything was exported.
#[derive(Debug)]
pub enum AuditExportError<E> {
    /// The store cannot be read.
    Store(StoreError),
    /// The lines are not taken.
    Sink(E),
}

impl AuditReader {
    /// Passes on the rows there are at this moment, the oldest first, as lines of JSON: all of them, or those from the
    /// first one on that is not of an earlier time.
    ///
    /// # Errors
    /// The store cannot be read, or the lines are not taken.
    pub fn export<E>(
        &self,
        since: Option<Timestamp>,
        progress: &Progress,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<AuditExported, AuditExportError<E>> {
        let read = |error| AuditExportError::Store(store_error(error));
        let last = AuditHead::load(&self.connection).map_err(read)?.row;
        let mut exported = AuditExported::default();
        let mut from = match since {
            Some(since) => self.first_since(since).map_err(read)?,
            None => Some(i64::MIN),
        };
        let mut lines = Vec::new();
        while let Some(number) = from.filter(|number| *number <= last) {
            lines.clear();
            from = self.lines(number, last, &mut lines, &mut exported).map_err(read)?;
            sink(&lines).map_err(AuditExportError::Sink)?;
            let done = exported.last.unwrap_or_default();
            progress.reads(u64::try_from(done).unwrap_or(0), u64::try_from(last).unwrap_or(0));
        }
        Ok(exported)
    }

    fn first_since(&self, since: Timestamp) -> rusqlite::Result<Option<i64>> {
        self.connection.query_row("SELECT min(id) FROM audit WHERE at >= ?1", [since.0], |row| row.get(0))
    }

    /// Adds the lines of a page of rows. Returns where to go on.
    fn lines(
        &self,
        from: i64,
        last: i64,
        lines: &mut Vec<u8>,
        exported: &mut AuditExported,
    ) -> rusqlite::Result<Option<i64>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, at, event, origin, session_key, run_id, facts, prev_hash, hash FROM audit \
             WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3",
        )?;
        let mut rows = statement.query((from, last, PAGE))?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let hash = |column| match row.get_ref(column)? {
                ValueRef::Blob(hash) => Ok::<_, rusqlite::Error>(hex(hash)),
                _ => Ok(String::new()),
            };
            let (number, hash, prev_hash) = (row.get(0)?, hash(8)?, hash(7)?);
            let (event, origin) = (text(row, 2)?.unwrap_or_default(), text(row, 3)?.unwrap_or_default());
            let (session, run, facts) = (text(row, 4)?, text(row, 5)?, text(row, 6)?.unwrap_or_default());
            let line = Line {
                row: number,
                at: row.get(1)?,
                event: &event,
                origin: &origin,
                session: session.as_deref(),
                run: run.as_deref(),
                facts: &facts,
                prev_hash,
                hash: hash.clone(),
            };
            let written = serde_json::to_writer(&mut *lines, &line);
            written.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            lines.push(b'\n');
            count += 1;
            exported.rows += 1;
            exported.first.get_or_insert(number);
            exported.last = Some(number);
            exported.head = Some(hash);
        }
        Ok(exported.last.filter(|_| count == PAGE).and_then(|last| last.checked_add(1)))
    }
}

fn hex(bytes: &[u8]) -> String {
    match bytes.try_into() {
        Ok(hash) => AuditHash(hash).to_string(),
        Err(_) => String::new(),
    }
}
