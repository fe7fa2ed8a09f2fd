//! Puts a copy in the place of the database.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{BackupError, Contents, Partial, Progress, stamp, sync_directory, verify};
use crate::store::lock::StateLock;
use crate::store::schema::DATABASE_FILE;

/// What was put back.
#[derive(Debug)]
pub struct Restored {
    /// What the copy holds.
    pub contents: Contents,
    /// The database in whose place it is; none where there was none.
    pub replaced: Option<PathBuf>,
}

/// Puts a copy in the place of the database of a state directory, once it is checked. What was there is kept beside it.
/// At every moment there is one of the two under the name.
///
/// # Errors
/// A process has the state directory, the copy is not whole, or the system refuses. Nothing was changed then.
pub fn restore(state_dir: &Path, file: &Path, progress: &Progress) -> Result<Restored, BackupError> {
    let lock = StateLock::take(state_dir)?;
    let target = std::path::absolute(state_dir.join(DATABASE_FILE)).map_err(BackupError::io(state_dir))?;
    if same(file, &target) {
        return Err(BackupError::Exists(target));
    }
    verify(file, progress)?;
    let partial = Partial::beside(&target)?;
    progress.copies(&partial.path, fs::metadata(file).map_or(0, |metadata| metadata.len()));
    copy(file, &partial.path)?;
    progress.checks();
    let contents = verify(&partial.path, progress)?;
    super::sync(&partial.path)?;
    let replaced = put_aside(&target)?;
    fs::rename(&partial.path, &target).map_err(BackupError::io(&target))?;
    sync_directory(&target)?;
    drop(lock);
    Ok(Restored { contents, replaced })
}

fn same(file: &Path, target: &Path) -> bool {
    matches!((fs::canonicalize(file), fs::canonicalize(target)), (Ok(file), Ok(target)) if file == target)
}

/// A copy may have a log of its own, if somebody made it with other means.
fn copy(file: &Path, to: &Path) -> Result<(), BackupError> {
    let log = with(file, "-wal");
    if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        let name = to.to_str().ok_or_else(|| BackupError::Name(to.to_owned()))?;
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let copied = connection.and_then(|connection| connection.execute("VACUUM INTO ?1", [name]));
        return copied.map(|_| ()).map_err(BackupError::sqlite(to));
    }
    let mut from = fs::File::open(file).map_err(BackupError::io(file))?;
    let mut partial = OpenOptions::new().write(true).open(to).map_err(BackupError::io(to))?;
    io::copy(&mut from, &mut partial).map(|_| ()).map_err(BackupError::io(to))
}

/// Gives the database a second name, and leaves nothing that would be taken for a part of another one.
fn put_aside(target: &Path) -> Result<Option<PathBuf>, BackupError> {
    let (log, index) = (with(target, "-wal"), with(target, "-shm"));
    if !target.try_exists().map_err(BackupError::io(target))? {
        // A log without its database would be taken for one of the copy's.
        if log.try_exists().map_err(BackupError::io(&log))? {
            fs::rename(&log, with(&free_name(target)?, "-wal")).map_err(BackupError::io(&log))?;
        }
        remove(&index)?;
        return Ok(None);
    }
    let aside = free_name(target)?;
    if let Err(error) = fold(target) {
        // It is damaged, perhaps: its log goes with it, under the name by which SQLite finds it.
        tracing::warn!(%error, "the log of the replaced database stays beside it");
    }
    fs::hard_link(target, &aside).map_err(BackupError::io(&aside))?;
    match fs::metadata(&log) {
        Ok(metadata) if metadata.len() > 0 => {
            fs::rename(&log, with(&aside, "-wal")).map_err(BackupError::io(&log))?;
        }
        _ => remove(&log)?,
    }
    remove(&index)?;
    Ok(Some(aside))
}

/// Moves the log into the database.
fn fold(target: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(target, flags)?;
    connection.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()))
}

fn free_name(target: &Path) -> Result<PathBuf, BackupError> {
    let now = Connection::open_in_memory().and_then(|connection| stamp(&connection));
    let now = now.map_err(BackupError::sqlite(target))?;
    let names = (0..).map(|number: u32| match number {
        0 => with(target, &format!(".replaced-{now}")),
        more => with(target, &format!(".replaced-{now}.{more}")),
    });
    let mut free = names.filter(|name| !name.exists());
    free.next().ok_or_else(|| BackupError::Exists(target.to_owned()))
}

/// The name with something behind it.
fn with(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn remove(file: &Path) -> Result<(), BackupError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::io(file)(error)),
        _ => Ok(()),
    }
}
