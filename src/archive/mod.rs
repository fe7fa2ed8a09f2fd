//! Sessions as files: one JSON document a line, first the session, then its runs, its transcript, and an end.
//!
//! A session that is archived is written to a file below the state directory before it is deleted. The file gets its
//! name once all of it is on the disk, and the same session always gets the same name: a crash at any moment leaves the
//! session, or its file, or both, and the next look writes the file again.

mod lines;
mod read;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use offshoot_actors::ports::{SessionRow, Storage, StoreError};
use offshoot_actors::types::{SessionKey, Timestamp};
use sha2::{Digest, Sha256};

pub use self::lines::Lines;
pub use self::read::{Archived, archived};

/// The directory in the state directory.
const DIRECTORY: &str = "archive";
const EXTENSION: &str = "jsonl";
/// Bytes that are gathered before they are written.
const PIECE: usize = 1 << 20;
/// Longest name of a file, well below what file systems take.
const MAX_NAME: usize = 200;

/// Why a session was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be written.
    #[error("{} cannot be written: {error}", .path.display())]
    Io {
        /// The file or its directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The session cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ArchiveError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), error }
    }
}

/// Where a session's file is, or would be.
#[must_use]
pub fn file_of(state_dir: &Path, session: &SessionKey) -> PathBuf {
    let agent = session.agent();
    let rest = session.as_str().strip_prefix("agent:").unwrap_or(session.as_str());
    let rest = rest.strip_prefix(agent.as_str()).and_then(|rest| rest.strip_prefix(':')).unwrap_or(rest);
    let rest = rest.strip_prefix("subagent:").unwrap_or(rest);
    let mut name = String::with_capacity(rest.len());
    for byte in rest.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    if name.len() > MAX_NAME {
        name = Sha256::digest(rest.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    }
    state_dir.join(DIRECTORY).join(agent.as_str()).join(format!("{name}.{EXTENSION}"))
}

/// Writes a session to its file, which others may not read. It is safe once [`settle`] has been called for its directory.
/// Returns the file and how many entries it holds.
///
/// # Errors
/// The session cannot be read or the file not be written; an earlier file is as it was.
pub async fn write(
    state_dir: &Path,
    storage: &dyn Storage,
    row: &SessionRow,
    at: Timestamp,
) -> Result<(PathBuf, u64), ArchiveError> {
    let path = file_of(state_dir, &row.key);
    let mut lines = Lines::new(storage, row.clone(), at);
    let mut draft = Draft { path: path.clone(), file: None };
    let mut gathered = Vec::new();
    while let Some(piece) = lines.next().await? {
        gathered.extend(piece);
        if gathered.len() > PIECE {
            let bytes = std::mem::take(&mut gathered);
            draft = blocking(&path, move || draft.append(&bytes)).await?;
        }
    }
    blocking(&path, move || draft.append(&gathered)?.finish()).await?;
    Ok((path, lines.entries()))
}

/// Makes the names of the files in these directories as durable as their contents.
///
/// # Errors
/// The system refuses.
pub async fn settle(directories: impl IntoIterator<Item = PathBuf>) -> Result<(), ArchiveError> {
    for directory in directories {
        let path = directory.clone();
        blocking(&path, move || File::open(directory)?.sync_all()).await?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ArchiveError> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(ArchiveError::io(path))
}

/// A file that does not have its name yet.
#[derive(Debug)]
struct Draft {
    path: PathBuf,
    file: Option<File>,
}

impl Draft {
    /// The same for the same session: what a crash left is written over.
    fn temporary(&self) -> PathBuf {
        self.path.with_extension("tmp")
    }

    fn append(mut self, bytes: &[u8]) -> io::Result<Self> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.begin()?,
        };
        file.write_all(bytes)?;
        self.file = Some(file);
        Ok(self)
    }

    fn begin(&self) -> io::Result<File> {
        if let Some(directory) = self.path.parent() {
            make(directory)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(self.temporary())
    }

    fn finish(self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.sync_all()?;
        }
        fs::rename(self.temporary(), &self.path)
    }
}

/// Makes a directory and what is above it, so that it is there after a power cut too.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent() {
        make(above)?;
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => File::open(above)?.sync_all()?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_its_session_and_no_name_leaves_the_directory() {
        let name = |key: &str| {
            let path = file_of(Path::new("/state"), &key.parse().unwrap());
            path.strip_prefix("/state/archive").unwrap().display().to_string()
        };
        let id = "0b1c8f5e-6a3d-4d0e-9f5e-1c2d3e4f5a6b";
        assert_eq!(name(&format!("agent:main:subagent:{id}")), format!("main/{id}.jsonl"));
        assert_eq!(name("agent:main:notes/../../x"), "main/notes%2f%2e%2e%2f%2e%2e%2fx.jsonl");
        assert_ne!(name("agent:main:a:b"), name("agent:main:a%3ab"));
        let long = name(&format!("agent:main:{}", "é".repeat(100)));
        assert!(long.len() < MAX_NAME && long.ends_with(".jsonl"), "{long}");
    }
}
