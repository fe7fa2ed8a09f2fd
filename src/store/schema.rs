//! The database file: where it is, how it is opened, which version its tables have.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::Durability;
use super::error::OpenError;
use super::lock::make_private;
use super::space;

/// The file of the database in the state directory.
pub(crate) const DATABASE_FILE: &str = "offshoot.db";

const STEPS: &[M<'static>] = &[
    M::up(include_str!("migrations/0001_store.sql")),
    M::up(include_str!("migrations/0002_announced.sql")),
    M::up(include_str!("migrations/0003_devices.sql")),
    M::up(include_str!("migrations/0004_callbacks.sql")),
    M::up(include_str!("migrations/0005_consequences.sql")),
    M::up(include_str!("migrations/0006_recovery.sql")),
    M::up(include_str!("migrations/0007_deliveries.sql")),
    M::up(include_str!("migrations/0008_retention.sql")),
    M::up(include_str!("migrations/0009_exit.sql")),
    M::up(include_str!("migrations/0010_starts.sql")),
];
pub(super) const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

/// How long a statement waits for somebody at the `sqlite3` shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// More than there are different statements, so that each is prepared once.
const STATEMENTS: usize = 128;
/// Page caches, in KiB.
const WRITER_CACHE_KIB: i64 = 32 * 1024;
const READER_CACHE_KIB: i64 = 8 * 1024;
/// Pages in the write-ahead log after which a commit moves them into the database, about 32 MiB: rare enough
/// that commits seldom wait for it, small enough that a start after a crash reads it in a moment.
const CHECKPOINT_PAGES: i64 = 8_000;

/// The database in a state directory.
#[derive(Debug, Clone)]
pub(super) struct Database {
    file: PathBuf,
    /// Nobody has it open, and reading it must not make files beside it.
    immutable: bool,
}

impl Database {
    fn new(dir: &Path) -> Self {
        Self { file: dir.join(DATABASE_FILE), immutable: false }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Opens it for the one writer, makes it if it is missing, and brings its tables up to date.
    pub(super) fn open_writer(dir: &Path, durability: Durability) -> Result<(Self, Connection), OpenError> {
        let database = Self::new(dir);
        database.create(dir)?;
        let file = database.file.clone();
        let sqlite = OpenError::sqlite(&file);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&database.file, flags).map_err(&sqlite)?;
        keep_log(&connection).map_err(&sqlite)?;
        // Before anything is set: what a newer program wrote is not touched.
        let version = version(&connection).map_err(&sqlite)?;
        if version > known_version() {
            return Err(database.newer(version));
        }
        // A copy that was put back may have another mode.
        make_private(&database.file, 0o600).map_err(OpenError::io(&file))?;
        database.set_up_writer(&connection, durability).map_err(&sqlite)?;
        if version > 0 && version < known_version() {
            let (file, to) = (file.display(), known_version());
            // By default nothing less is shown, and whoever waits for the start wonders.
            tracing::warn!(%file, from = version, to, "brings the store up to date; a large one takes a while");
        }
        MIGRATIONS.to_latest(&mut connection).map_err(|error| match error {
            rusqlite_migration::Error::RusqliteError { err, .. } => sqlite(err),
            other => OpenError::Damaged { file: database.file.clone(), problem: other.to_string() },
        })?;
        space::convert(&connection).map_err(&sqlite)?;
        Ok((database, connection))
    }

    /// Looks at it without writing, locking or making anything.
    pub(super) fn for_reading(dir: &Path) -> Result<(Self, Connection), OpenError> {
        match Self::look_at(dir.join(DATABASE_FILE))? {
            (database, _, found) if found < known_version() => {
                Err(OpenError::Older { file: database.file, found, known: known_version() })
            }
            (database, connection, _) => Ok((database, connection)),
        }
    }

    /// The same with a file of any name and of any version that is known, which it says.
    pub(super) fn look_at(file: PathBuf) -> Result<(Self, Connection, i64), OpenError> {
        let missing = || OpenError::Missing { file: file.clone() };
        match std::fs::metadata(&file) {
            Ok(metadata) if metadata.len() == 0 => return Err(missing()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(OpenError::io(&file)(error)),
        }
        // A writer leaves its log in place. Without one this is a copy, which SQLite would make a log for.
        let mut log = file.as_os_str().to_owned();
        log.push("-wal");
        let log = PathBuf::from(log);
        let immutable = !log.try_exists().map_err(OpenError::io(&log))?;
        let database = Self { file: file.clone(), immutable };
        let sqlite = OpenError::sqlite(&file);
        let connection = database.open_reader().map_err(&sqlite)?;
        match version(&connection).map_err(&sqlite)? {
            0 => Err(missing()),
            found if found > known_version() => Err(database.newer(found)),
            found => Ok((database, connection, found)),
        }
    }

    /// A further connection, which only reads.
    pub(super) fn open_reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = if self.immutable {
            Connection::open_with_flags(immutable_uri(&self.file), flags | OpenFlags::SQLITE_OPEN_URI)?
        } else {
            Connection::open_with_flags(&self.file, flags)?
        };
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(connection)
    }

    fn newer(&self, found: i64) -> OpenError {
        OpenError::Newer { file: self.file.clone(), found, known: known_version() }
    }

    /// Makes an empty file that only its owner may read; SQLite gives its log the same mode.
    fn create(&self, dir: &Path) -> Result<(), OpenError> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file) {
            Ok(file) => {
                let synced = file.sync_all().and_then(|()| File::open(dir)?.sync_all());
                synced.map_err(OpenError::io(&self.file))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(OpenError::io(&self.file)(error)),
        }
    }

    fn set_up_writer(&self, connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.busy_timeout(BUSY_TIMEOUT)?;
        space::prepare_new(connection)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        let synchronous = match durability {
            Durability::Full => "FULL",
            Durability::Normal => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
        keep_log(connection)
    }

    /// A connection in the place of the one writer's, which failed. Its tables are up to date.
    pub(super) fn reopen_writer(&self, durability: Durability) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags)?;
        self.set_up_writer(&connection, durability)?;
        Ok(connection)
    }
}

/// The log stays when the last connection closes, so that a reader finds it and makes no files.
fn keep_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(|_| ())
}

/// Writes what is there already, with all that belongs to a commit.
pub(super) fn write_nothing_new(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("BEGIN IMMEDIATE; PRAGMA user_version = {}; COMMIT", known_version()))
}

/// What durability and speed depend on, as it is in force.
pub(super) fn pragmas(connection: &Connection) -> Vec<(&'static str, String)> {
    const NAMES: [&str; 7] = [
        "journal_mode",
        "synchronous",
        "wal_autocheckpoint",
        "page_size",
        "cache_size",
        "foreign_keys",
        "auto_vacuum",
    ];
    let value = |name| {
        let read = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
        match connection.pragma_query_value(None, name, read) {
            Ok(rusqlite::types::Value::Integer(number)) => number.to_string(),
            Ok(rusqlite::types::Value::Text(text)) => text,
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        }
    };
    NAMES.map(|name| (name, value(name))).into()
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

pub(super) fn known_version() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

fn immutable_uri(file: &Path) -> String {
    let mut uri = String::from("file:");
    for character in file.to_string_lossy().chars() {
        match character {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            other => uri.push(other),
        }
    }
    uri + "?immutable=1"
}
