//! The audit record, read: a page at a time, beside whoever writes to it.

use std::path::Path;

use offshoot_actors::ports::{AuditColumns, AuditFilter, AuditPage, AuditPageOf, AuditRow, StoreError};
use offshoot_actors::types::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::verify::{AuditError, AuditVerified, verify};
use super::{AuditHash, AuditHead};
use crate::store::backup::Progress;
use crate::store::error::{OpenError, store_error};
use crate::store::schema::Database;

/// The audit record of a state directory. Takes no lock and changes nothing.
#[derive(Debug)]
pub struct AuditReader {
    pub(super) connection: Connection,
}

impl AuditReader {
    /// Opens it.
    ///
    /// # Errors
    /// [`OpenError::Missing`] if there is no store yet; it is of another version, or cannot be read.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let (_, connection) = Database::for_reading(dir)?;
        Ok(Self { connection })
    }

    /// Rows before this one, the newest first, at most `limit`, looked at in pieces.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn page(
        &self,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<AuditPage, StoreError> {
        page(&self.connection, filter, before, limit).map_err(store_error)
    }

    /// The newest row that is asked for, at most `limit` of them, however many must be looked at.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(
        &self,
        filter: &AuditFilter,
        limit: u32,
        progress: &Progress,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let last = AuditHead::load(&self.connection).map_err(store_error)?.row;
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            if left == 0 {
                return Ok(found);
            }
            let AuditPage { rows, next } = self.page(filter, before, left)?;
            found.extend(rows);
            if next.is_none() {
                return Ok(found);
            }
            before = next;
            let looked = last.saturating_sub(next.unwrap_or(last));
            progress.reads(u64::try_from(looked).unwrap_or(0), u64::try_from(last).unwrap_or(0));
        }
    }

    /// Checks the whole record, and that it has a row with the hash that was noted earlier.
    ///
    /// # Errors
    /// The first row that is not what was written, or why the store cannot be read.
    pub fn verify(&self, noted: Option<AuditHash>, progress: &Progress) -> Result<AuditVerified, AuditError> {
        verify(&self.connection, noted, progress)
    }
}

/// Rows before this one, the newest first.
pub(in crate::store) fn page(
    connection: &Connection,
    filter: &AuditFilter,
    before: Option<i64>,
    limit: u32,
) -> rusqlite::Result<AuditPage> {
    let mut statement = connection.prepare_cached(
        "SELECT id, at, event, session_key, run_id, origin, facts FROM audit \
         WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC",
    )?;
    let mut rows = statement.query([before])?;
    let mut page = AuditPageOf::new(limit);
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        let event = text(row, 2)?.unwrap_or_default();
        let (session, run) = (text(row, 3)?, text(row, 4)?);
        let columns = AuditColumns {
            at: Timestamp(row.get(1)?),
            event: &event,
            session: session.as_deref(),
            run: run.as_deref(),
        };
        let origin = || text(row, 5).ok().flatten().and_then(|origin| serde_json::from_str(&origin).ok());
        let asked_for = filter.admits(columns, origin).then(|| whole(number, columns, row)).transpose()?;
        if page.looked(number, asked_for).is_break() {
            break;
        }
    }
    Ok(page.page())
}

fn whole(number: i64, columns: AuditColumns<'_>, row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    let (origin, facts) = (text(row, 5)?.unwrap_or_default(), text(row, 6)?.unwrap_or_default());
    let facts: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&facts).unwrap_or_default();
    let fact = |(name, fact)| match fact {
        serde_json::Value::String(fact) => (name, fact),
        other => (name, other.to_string()),
    };
    Ok(AuditRow {
        row: number,
        at: columns.at,
        event: columns.event.to_owned(),
        origin: serde_json::from_str(&origin).ok(),
        session: columns.session.map(str::to_owned),
        run: columns.run.map(str::to_owned),
        facts: facts.into_iter().map(fact).collect(),
    })
}

/// A text as it stands there. What somebody wrote may be none.
pub(super) fn text<'a>(
    row: &'a Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<std::borrow::Cow<'a, str>>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text)),
        _ => None,
    })
}
