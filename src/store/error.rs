//! What can go wrong with the database, in the words of the port and of whoever opens it.

use std::path::{Path, PathBuf};

use offshoot_actors::ports::{Refused, StoreError};
use rusqlite::ErrorCode;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes to the state directory.
    #[error(
        "the state directory {} is in use by {}: wait until that has ended, or set OFFSHOOT_STATE_DIR to another directory",
        dir.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The state directory.
        dir: PathBuf,
        /// The process, if it has said which it is.
        pid: Option<u32>,
    },
    /// There is nothing to read.
    #[error("there is no store at {}: nothing has run with this state directory yet", file.display())]
    Missing {
        /// The database file.
        file: PathBuf,
    },
    /// A newer version of the program has written the database.
    #[error(
        "{} has schema version {found}, this program knows versions up to {known}: use the newer program",
        file.display()
    )]
    Newer {
        /// The database file.
        file: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// An older version of the program has written the database, which is open for reading only.
    #[error(
        "{} has schema version {found}, this program reads version {known}: run a command that writes, such as `offshoot run`, to bring it up to date",
        file.display()
    )]
    Older {
        /// The database file.
        file: PathBuf,
        /// Its schema version.
        found: i64,
        /// The one that this program reads.
        known: i64,
    },
    /// The file is not a database, or a damaged one.
    #[error(
        "{} is damaged or not a database ({problem}): `offshoot doctor` says what is wrong, `offshoot backup restore FILE` puts a copy in its place; or move it away to begin anew",
        file.display()
    )]
    Damaged {
        /// The database file.
        file: PathBuf,
        /// What SQLite says.
        problem: String,
    },
    /// A file or a directory cannot be made or opened.
    #[error("cannot open {}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// Anything else that the database refuses.
    #[error("cannot open {}: {error}", file.display())]
    Store {
        /// The database file.
        file: PathBuf,
        /// What is wrong.
        #[source]
        error: StoreError,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), error }
    }

    pub(super) fn sqlite(file: &Path) -> impl Fn(rusqlite::Error) -> Self {
        move |error| match plain(error) {
            StoreError::Damaged(problem) => Self::Damaged { file: file.to_owned(), problem },
            error => Self::Store { file: file.to_owned(), error },
        }
    }

    pub(super) fn store(file: &Path, error: StoreError) -> Self {
        Self::Store { file: file.to_owned(), error }
    }
}

/// Why a change was not made.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(Refused),
    Sqlite(rusqlite::Error),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Sqlite(rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
    }
}

impl From<postcard::Error> for Failure {
    fn from(error: postcard::Error) -> Self {
        Self::Sqlite(rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refused) => refused,
            Failure::Sqlite(error) => Self::Storage(store_error(error)),
        }
    }
}

/// SQLite's error in the words of the port, with what to do.
pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    match plain(error) {
        StoreError::Damaged(text) => StoreError::Damaged(format!(
            "{text}: `offshoot doctor` says what is wrong, `offshoot backup restore` puts a copy in its place"
        )),
        StoreError::Full(text) => full(&text),
        StoreError::ReadOnly(text) => read_only(&text),
        error => error,
    }
}

pub(super) fn full(text: &str) -> StoreError {
    StoreError::Full(format!("{text}: free some space, nothing has to be restarted"))
}

pub(super) fn read_only(text: &str) -> StoreError {
    StoreError::ReadOnly(format!("{text}: make the state directory writable"))
}

/// The same without what to do.
pub(super) fn plain(error: rusqlite::Error) -> StoreError {
    use rusqlite::Error;

    let text = error.to_string();
    match error {
        Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => StoreError::Full(text),
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreError::ReadOnly(text),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Damaged(text),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::Unavailable(format!(
                "another program holds the database, close it and try again: {text}"
            )),
            _ => StoreError::Other(text),
        },
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..) => StoreError::Damaged(text),
        _ => StoreError::Other(text),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn kind(code: i32) -> StoreError {
        store_error(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
    }

    #[test]
    fn the_command_that_brings_an_older_database_up_to_date_exists() {
        let error = OpenError::Older { file: "offshoot.db".into(), found: 1, known: 2 };
        assert!(error.to_string().contains("`offshoot run`"), "{error}");
    }

    #[test]
    fn every_kind_of_failure_has_its_name() {
        assert!(matches!(kind(ffi::SQLITE_FULL), StoreError::Full(_)));
        assert!(matches!(kind(ffi::SQLITE_READONLY_DBMOVED), StoreError::ReadOnly(_)));
        assert!(matches!(kind(ffi::SQLITE_CORRUPT_INDEX), StoreError::Damaged(_)));
        assert!(matches!(kind(ffi::SQLITE_NOTADB), StoreError::Damaged(_)));
        assert!(matches!(kind(ffi::SQLITE_BUSY), StoreError::Unavailable(_)));
        assert!(matches!(kind(ffi::SQLITE_IOERR_FSYNC), StoreError::Other(_)));
    }
}
