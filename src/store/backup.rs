//! Copies of the database: made while somebody writes to it, checked, and put back.
//!
//! A copy is one file. It has its name only once it is whole, checked and on the device; until then it is called
//! `<name>.<process>.partial`. What a copy takes the place of stays beside it.

mod progress;
mod restore;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use offshoot_actors::ports::StoreError;
use rusqlite::Connection;

pub use self::progress::Progress;
pub use self::restore::{Restored, restore};
use super::audit::{self, AuditError};
use super::error::{OpenError, plain, store_error};
use super::schema::{DATABASE_FILE, Database};

/// What unfinished copies are called, after the name that they are to have.
pub(crate) const PARTIAL: &str = ".partial";
/// The directory for copies that nobody gave a place, in the state directory.
pub(crate) const DIRECTORY: &str = "backups";
/// Problems of one kind that are told.
const MAX_PROBLEMS: u32 = 20;

/// What a database holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// The version of its tables.
    pub schema: i64,
    /// Its size.
    pub bytes: u64,
    /// Sessions.
    pub sessions: u64,
    /// Entries of their transcripts.
    pub entries: u64,
    /// Runs.
    pub runs: u64,
    /// Runs that have not ended.
    pub open_runs: u64,
    /// Results on their way.
    pub undelivered: u64,
    /// Rows of the audit record, whose chain is whole.
    pub audit_rows: u64,
}

/// Why a copy cannot be made, used or put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database of the state directory cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no such copy.
    #[error("there is no backup at {}", .0.display())]
    Missing(PathBuf),
    /// A file of that name exists.
    #[error("{} exists already: name another file", .0.display())]
    Exists(PathBuf),
    /// A name that SQLite cannot be told.
    #[error("the name of {} is not UTF-8: name another file", .0.display())]
    Name(PathBuf),
    /// What is in the file does not fit together.
    #[error("{} is not whole: {}", file.display(), problems.join("; "))]
    Broken {
        /// The file.
        file: PathBuf,
        /// What is wrong, the first few.
        problems: Vec<String>,
    },
    /// The audit record is not what was written.
    #[error("{}: {error}", file.display())]
    Audit {
        /// The file.
        file: PathBuf,
        /// Where.
        error: AuditError,
    },
    /// It cannot be read or written.
    #[error("{}: {error}", file.display())]
    Store {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        error: StoreError,
    },
    /// A file cannot be made, moved or synced.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl BackupError {
    fn io(file: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Io { file: file.to_owned(), error }
    }

    /// Of a copy: the words for damage of the store itself would not fit.
    fn sqlite(file: &Path) -> impl Fn(rusqlite::Error) -> Self {
        move |error| match plain(error) {
            StoreError::Damaged(problem) => Self::Broken { file: file.to_owned(), problems: vec![problem] },
            error => Self::Store { file: file.to_owned(), error },
        }
    }

    fn open_copy(error: OpenError) -> Self {
        match error {
            OpenError::Missing { file } => Self::Missing(file),
            OpenError::Damaged { file, problem } => Self::Broken { file, problems: vec![problem] },
            error => Self::Open(error),
        }
    }
}

/// Copies the database of a state directory to a file, as it is at one moment, beside whoever writes to it: nobody
/// waits for the copy. Without a name it gets one by the time in `backups`. Returns the file.
///
/// # Errors
/// The file exists, cannot be written, or is not whole in the end; the database cannot be read.
pub fn create(
    state_dir: &Path,
    file: Option<&Path>,
    progress: &Progress,
) -> Result<(PathBuf, Contents), BackupError> {
    let (database, connection, _) = Database::look_at(state_dir.join(DATABASE_FILE))?;
    let source = database.file().to_owned();
    let file = match file {
        Some(file) => std::path::absolute(file).map_err(BackupError::io(file))?,
        None => {
            let dir = state_dir.join(DIRECTORY);
            super::lock::make_private_dir(&dir).map_err(BackupError::io(&dir))?;
            dir.join(format!("offshoot-{}.db", stamp(&connection).map_err(BackupError::sqlite(&source))?))
        }
    };
    if file.try_exists().map_err(BackupError::io(&file))? {
        return Err(BackupError::Exists(file));
    }
    let partial = Partial::beside(&file)?;
    let name = partial.path.to_str().ok_or_else(|| BackupError::Name(file.clone()))?;
    progress.copies(&partial.path, std::fs::metadata(&source).map_or(0, |metadata| metadata.len()));
    let copied = connection.execute("VACUUM INTO ?1", [name]);
    copied.map_err(|error| explained(&source, &partial.path, error))?;
    drop(connection);
    progress.checks();
    let contents = verify(&partial.path, progress)?;
    partial.finish(&file)?;
    Ok((file, contents))
}

/// SQLite tells of both files alike.
fn explained(source: &Path, target: &Path, error: rusqlite::Error) -> BackupError {
    let error = store_error(error);
    let file = if matches!(error, StoreError::Damaged(_)) { source } else { target };
    BackupError::Store { file: file.to_owned(), error }
}

/// Checks a copy: its pages, what its rows refer to, and the chain of its audit record. Changes nothing.
///
/// # Errors
/// There is none, it is not whole, or a newer program has written it.
pub fn verify(file: &Path, progress: &Progress) -> Result<Contents, BackupError> {
    let (_, connection, schema) = Database::look_at(file.to_owned()).map_err(BackupError::open_copy)?;
    progress.checks();
    let sqlite = BackupError::sqlite(file);
    let problems = problems(&connection).map_err(&sqlite)?;
    if !problems.is_empty() {
        return Err(BackupError::Broken { file: file.to_owned(), problems });
    }
    let audit_rows = audit::verify(&connection, None, progress)
        .map_err(|error| BackupError::Audit { file: file.to_owned(), error })?
        .rows;
    let bytes = std::fs::metadata(file).map_err(BackupError::io(file))?.len();
    let count = |sql: &str| {
        let counted = connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        counted.map(i64::unsigned_abs).map_err(&sqlite)
    };
    Ok(Contents {
        schema,
        bytes,
        sessions: count("SELECT count(*) FROM sessions")?,
        entries: count("SELECT count(*) FROM entries")?,
        runs: count("SELECT count(*) FROM runs")?,
        open_runs: count("SELECT count(*) FROM runs WHERE ended_at IS NULL")?,
        undelivered: count("SELECT count(*) FROM outbox")?,
        audit_rows,
    })
}

/// What is wrong with the pages of a database and what its rows refer to; the first few of each.
pub(super) fn problems(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({MAX_PROBLEMS})"))?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    for row in rows {
        let text = row?;
        // Several problems of a table come in one row.
        problems
            .extend(text.lines().filter(|line| *line != "ok" && !line.starts_with("***")).map(str::to_owned));
    }
    if !problems.is_empty() {
        problems.truncate(MAX_PROBLEMS as usize);
        return Ok(problems);
    }
    let mut statement = connection.prepare(
        "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2 ORDER BY 1, 2",
    )?;
    let rows = statement.query_map([], |row| {
        let (table, parent, count): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(format!("{count} rows of {table} refer to rows of {parent} that are not there"))
    })?;
    rows.collect()
}

/// The time as a part of a name: `20260131T235959Z`.
fn stamp(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT strftime('%Y%m%dT%H%M%SZ', 'now')", [], |row| row.get(0))
}

/// A file that is not finished. It goes with its value.
pub(crate) struct Partial {
    pub(crate) path: PathBuf,
}

impl Partial {
    /// An empty one, for nobody but its owner.
    pub(crate) fn beside(file: &Path) -> Result<Self, BackupError> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}{PARTIAL}", std::process::id()));
        let path = file.with_file_name(name);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        made.map_err(BackupError::io(&path))?;
        Ok(Self { path })
    }

    /// On the device, under its name, which nobody has taken meanwhile.
    pub(crate) fn finish(self, file: &Path) -> Result<(), BackupError> {
        sync(&self.path)?;
        match std::fs::hard_link(&self.path, file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BackupError::Exists(file.to_owned()));
            }
            // A file system without links.
            Err(_) => std::fs::rename(&self.path, file).map_err(BackupError::io(file))?,
        }
        sync_directory(file)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
    }
}

fn sync(file: &Path) -> Result<(), BackupError> {
    File::open(file).and_then(|file| file.sync_all()).map_err(BackupError::io(file))
}

fn sync_directory(file: &Path) -> Result<(), BackupError> {
    sync(file.parent().unwrap_or_else(|| Path::new("/")))
}
