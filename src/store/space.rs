//! Gives back the space of what was deleted, in small steps while nobody writes, and empties the log.
//!
//! SQLite keeps pages that became free for what is written later, and its log as long as it once was. A store that
//! has been quiet for a moment gives back most of both; whoever writes meanwhile waits for one step at most.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::Durability;
use super::error::OpenError;
use super::lock::StateLock;
use super::schema::Database;

/// How long nobody must have written.
const QUIET: Duration = Duration::from_secs(2);
/// Between two steps.
const PAUSE: Duration = Duration::from_millis(10);
/// Pages that one step gives back, 2 MiB: some milliseconds.
const STEP: u32 = 512;
/// Free pages that stay for what is written next, 4 MiB.
const KEEP: i64 = 1_024;
/// Bytes of the log that are not worth the work.
const SMALL_LOG: u64 = 1 << 20;
/// Pages of a store that was made without the means for all this, and that a start brings to it: 64 MiB, well under a
/// second. A larger one is left to `offshoot store compact`.
const CONVERTED: i64 = 16_384;
/// `auto_vacuum` of a store whose free pages can be given back.
const INCREMENTAL: i64 = 2;

/// What there is to do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Space {
    /// Nothing until somebody writes.
    #[default]
    Tidy,
    /// A step, after so long without a write.
    Due(Duration),
}

impl Space {
    /// Something was written.
    pub(super) const fn written(&mut self) {
        *self = Self::Due(QUIET);
    }

    /// How long to wait for a write before the next step.
    pub(super) const fn wait(self) -> Option<Duration> {
        match self {
            Self::Tidy => None,
            Self::Due(wait) => Some(wait),
        }
    }

    /// Makes one step.
    pub(super) fn step(&mut self, connection: &Connection) {
        let stepped = match give_back(connection) {
            Ok(true) => return *self = Self::Due(PAUSE),
            Ok(false) => empty_log(connection),
            Err(error) => Err(error),
        };
        if let Err(error) = stepped {
            tracing::warn!(%error, "free space of the store could not be given back, will try again after the next write");
        }
        *self = Self::Tidy;
    }
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}

/// Whether there was something to give back.
fn give_back(connection: &Connection) -> rusqlite::Result<bool> {
    let free = number(connection, "freelist_count")?;
    if free <= KEEP || number(connection, "auto_vacuum")? != INCREMENTAL {
        return Ok(false);
    }
    // Each row is a page that is gone.
    let mut step = connection.prepare(&format!("PRAGMA incremental_vacuum({STEP})"))?;
    let mut pages = step.query([])?;
    while pages.next()?.is_some() {}
    drop(pages);
    Ok(number(connection, "freelist_count")? < free)
}

/// Moves the log into the database and empties it, unless somebody reads from it.
fn empty_log(connection: &Connection) -> rusqlite::Result<()> {
    let log = connection.path().map(|path| format!("{path}-wal"));
    let long = log.and_then(|log| std::fs::metadata(log).ok()).is_some_and(|log| log.len() > SMALL_LOG);
    if !long {
        return Ok(());
    }
    let patience = number(connection, "busy_timeout")?;
    // Whoever writes next must not wait for a reader.
    connection.busy_timeout(Duration::ZERO)?;
    let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    connection.busy_timeout(Duration::from_millis(patience.unsigned_abs()))?;
    emptied
}

/// Before the first table is made: free pages of this store can be given back. One that has tables is left alone: SQLite
/// would write to it, which a store on a full device does not take.
pub(super) fn prepare_new(connection: &Connection) -> rusqlite::Result<()> {
    if number(connection, "page_count")? == 0 { prepare(connection) } else { Ok(()) }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "auto_vacuum", INCREMENTAL)
}

/// Brings a small store to it that was made before free pages could be given back.
pub(super) fn convert(connection: &Connection) -> rusqlite::Result<()> {
    if number(connection, "auto_vacuum")? == INCREMENTAL || number(connection, "page_count")? > CONVERTED {
        return Ok(());
    }
    prepare(connection)?;
    if let Err(error) = connection.execute_batch("VACUUM") {
        tracing::warn!(%error, "space of the store is not given back: free some and run `offshoot store compact`");
    }
    Ok(())
}

/// Writes the whole store anew, without free space in it. Returns its size in bytes before and after.
///
/// # Errors
/// Another process has it open for writing, it is not there or damaged, or there is no room for a second copy.
pub fn compact(dir: &Path) -> Result<(u64, u64), OpenError> {
    // A directory without a store gets none.
    Database::for_reading(dir).map(drop).or_else(|error| match error {
        OpenError::Older { .. } => Ok(()),
        other => Err(other),
    })?;
    let _lock = StateLock::take(dir)?;
    let (database, connection) = Database::open_writer(dir, Durability::Full)?;
    let size = || {
        let file = std::fs::metadata(database.file());
        file.map(|file| file.len()).map_err(OpenError::io(database.file()))
    };
    let log =
        |connection: &Connection| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    let sqlite = OpenError::sqlite(database.file());
    log(&connection).map_err(&sqlite)?;
    let before = size()?;
    // The copy may be larger than memory.
    connection.pragma_update(None, "temp_store", "FILE").map_err(&sqlite)?;
    let written = prepare(&connection).and_then(|()| connection.execute_batch("VACUUM"));
    written.and_then(|()| log(&connection)).map_err(&sqlite)?;
    Ok((before, size()?))
}
