//! Whether the audit record is what was written.

use std::path::Path;

use offshoot_actors::ports::StoreError;
use offshoot_actors::types::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::{AuditHash, AuditHead, Chain};
use crate::store::backup::Progress;
use crate::store::error::{OpenError, store_error};
use crate::store::schema::Database;

/// Rows that are read at once. Between two pages nothing is held open, so that a daemon at work can take its log back.
const PAGE: u32 = 1_000;
/// Longest event of a row that is named.
const MAX_EVENT: usize = 80;

/// Why the audit record cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A row is not what was written, or does not follow the one before it.
    #[error("audit row {row}{} {how}", told(*at, event))]
    Broken {
        /// The first such row.
        row: i64,
        /// When it happened, as far as there is a row of this number.
        at: Option<Timestamp>,
        /// What it says that happened.
        event: String,
        /// What is wrong.
        how: Break,
    },
    /// No row tells of a run that is there, and that came with its row.
    #[error(
        "the newest audit rows were cut off after row {last}: no row tells of run {run}, which was spawned at {}",
        time(*at)
    )]
    Cut {
        /// The last row that is there.
        last: i64,
        /// The run.
        run: String,
        /// When it was accepted.
        at: Timestamp,
    },
    /// No row has a hash that one had.
    #[error(
        "no audit row has the hash {head}: the newest rows were cut off, or all of them were written anew"
    )]
    HeadMissing {
        /// The hash.
        head: AuditHash,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// A column of it was changed.
    #[error("was changed")]
    Changed,
    /// It was bound to another row than the one before it.
    #[error(
        "does not follow the row before it: one of the two was changed, or rows between them were removed or put in"
    )]
    Unbound,
    /// It was removed.
    #[error("is missing: the next one is row {next}")]
    Missing {
        /// The next row.
        next: i64,
    },
    /// Rows are counted from 1.
    #[error("was put in")]
    PutIn,
}

fn told(at: Option<Timestamp>, event: &str) -> String {
    at.map_or_else(String::new, |at| format!(" ({}, {event})", time(at)))
}

/// A time for people and for programs.
pub(crate) fn time(at: Timestamp) -> String {
    let since = u64::try_from(at.0).ok().map(std::time::Duration::from_millis);
    let at_time = since.and_then(|since| std::time::UNIX_EPOCH.checked_add(since));
    // What somebody wrote there may be no time.
    let is_time = |time: &std::time::SystemTime| *time < std::time::UNIX_EPOCH + LAST_YEAR;
    at_time
        .filter(is_time)
        .map_or_else(|| at.0.to_string(), |time| humantime::format_rfc3339_millis(time).to_string())
}

/// Before the year 10000, from which on times are not written.
const LAST_YEAR: std::time::Duration = std::time::Duration::from_secs(253_402_300_800);

/// The audit record, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditVerified {
    /// How many rows it has.
    pub rows: u64,
    /// The hash of the last one; none without rows.
    pub head: Option<AuditHash>,
    /// The row that has the hash that was asked for.
    pub noted: Option<i64>,
}

/// Checks the whole audit record of a state directory. Returns how many rows it has.
///
/// # Errors
/// The first row that is not what was written, or why the store cannot be read.
pub fn verify_audit(dir: &Path) -> Result<u64, AuditError> {
    let (_, connection) = Database::for_reading(dir)?;
    verify(&connection, None, &Progress::default()).map(|verified| verified.rows)
}

/// Checks the whole record, and that it has a row of the noted hash.
pub(in crate::store) fn verify(
    connection: &Connection,
    noted: Option<AuditHash>,
    progress: &Progress,
) -> Result<AuditVerified, AuditError> {
    let read = |error| AuditError::Store(store_error(error));
    // Before the rows: what is spawned meanwhile comes with its own.
    let newest = newest_spawn(connection).map_err(read)?;
    let last = AuditHead::load(connection).map_err(read)?.row;
    let mut check = Check { head: AuditHead::EMPTY, noted, noted_at: None, newest };
    let mut from = i64::MIN;
    loop {
        let (rows, next) = check.page(connection, from)?;
        progress.reads(u64::try_from(check.head.row).unwrap_or(0), u64::try_from(last).unwrap_or(0));
        match next {
            Some(next) if rows == PAGE => from = next,
            _ => break,
        }
    }
    let Check { head, noted, noted_at, newest } = check;
    if let Some((run, at)) = newest {
        return Err(AuditError::Cut { last: head.row, run, at });
    }
    if let (Some(head), None) = (noted, noted_at) {
        return Err(AuditError::HeadMissing { head });
    }
    let rows = head.row.unsigned_abs();
    Ok(AuditVerified { rows, head: (rows > 0).then_some(head.hash), noted: noted_at })
}

/// The run that was spawned last, which came with its row of the audit record.
fn newest_spawn(connection: &Connection) -> rusqlite::Result<Option<(String, Timestamp)>> {
    let sql = "SELECT id, accepted_at FROM runs WHERE cause = 'spawn' ORDER BY number DESC LIMIT 1";
    connection.query_row(sql, [], |row| Ok((row.get(0)?, Timestamp(row.get(1)?)))).optional()
}

struct Check {
    head: AuditHead,
    noted: Option<AuditHash>,
    noted_at: Option<i64>,
    /// The run that no row was found of yet.
    newest: Option<(String, Timestamp)>,
}

impl Check {
    /// Checks the rows from this number on. Returns how many there were, and where to go on.
    fn page(&mut self, connection: &Connection, from: i64) -> Result<(u32, Option<i64>), AuditError> {
        let read = |error| AuditError::Store(store_error(error));
        let mut statement = connection
            .prepare_cached(
                "SELECT id, at, event, origin, session_key, run_id, facts, prev_hash, hash FROM audit \
                 WHERE id >= ?1 ORDER BY id LIMIT ?2",
            )
            .map_err(read)?;
        let mut rows = statement.query((from, PAGE)).map_err(read)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(read)? {
            self.row(row)?;
            count += 1;
        }
        Ok((count, self.head.row.checked_add(1)))
    }

    fn row(&mut self, row: &Row<'_>) -> Result<(), AuditError> {
        let read = |error| AuditError::Store(store_error(error));
        match follow(&self.head, row).map_err(read)? {
            Ok(head) => self.head = head,
            Err(how) => return Err(broken(&self.head, row, how)),
        }
        if self.noted == Some(self.head.hash) {
            self.noted_at = Some(self.head.row);
        }
        if let Some((run, _)) = &self.newest
            && matches!(row.get_ref(5).map_err(read)?, ValueRef::Text(text) if text == run.as_bytes())
        {
            self.newest = None;
        }
        Ok(())
    }
}

fn broken(head: &AuditHead, row: &Row<'_>, how: Break) -> AuditError {
    if matches!(how, Break::Missing { .. }) {
        return AuditError::Broken { row: head.row.saturating_add(1), at: None, event: String::new(), how };
    }
    let integer = |column| match row.get_ref(column) {
        Ok(ValueRef::Integer(number)) => Some(number),
        _ => None,
    };
    let event = match row.get_ref(2) {
        Ok(ValueRef::Text(text)) => {
            let event = String::from_utf8_lossy(text);
            event.chars().filter(|c| !c.is_control()).take(MAX_EVENT).collect()
        }
        _ => String::new(),
    };
    let number = integer(0).unwrap_or(head.row.saturating_add(1));
    AuditError::Broken { row: number, at: integer(1).map(Timestamp), event, how }
}

/// The row as the new end of the chain, or why it is not that.
fn follow(head: &AuditHead, row: &Row<'_>) -> rusqlite::Result<Result<AuditHead, Break>> {
    let (ValueRef::Integer(id), ValueRef::Integer(at)) = (row.get_ref(0)?, row.get_ref(1)?) else {
        return Ok(Err(Break::Changed));
    };
    if id <= head.row {
        return Ok(Err(Break::PutIn));
    }
    if id != head.row + 1 {
        return Ok(Err(Break::Missing { next: id }));
    }
    let blob = |column| {
        Ok::<_, rusqlite::Error>(match row.get_ref(column)? {
            ValueRef::Blob(stored) => stored.try_into().ok().map(AuditHash),
            _ => None,
        })
    };
    let (Some(previous), Some(stored)) = (blob(7)?, blob(8)?) else { return Ok(Err(Break::Changed)) };
    let Some(hash) = hash_of(&head.hash, (id, at), row)? else { return Ok(Err(Break::Changed)) };
    if previous == head.hash {
        let follows = hash == stored;
        return Ok(if follows { Ok(AuditHead { row: id, hash }) } else { Err(Break::Changed) });
    }
    // Whole in itself: it was written after another row than the one before it.
    let whole = hash_of(&previous, (id, at), row)? == Some(stored);
    Ok(Err(if whole { Break::Unbound } else { Break::Changed }))
}

/// What the row's columns make with the hash before it; none if they are of types that nobody writes.
fn hash_of(previous: &AuditHash, (id, at): (i64, i64), row: &Row<'_>) -> rusqlite::Result<Option<AuditHash>> {
    let mut chain = Chain::after(previous, id, at);
    for column in 2..7 {
        match row.get_ref(column)? {
            ValueRef::Text(text) => chain.text(Some(text)),
            ValueRef::Null => chain.text(None),
            ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_) => return Ok(None),
        }
    }
    Ok(Some(chain.finish()))
}
