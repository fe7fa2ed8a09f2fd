//! Where the database file is, and what its device says when SQLite only knows that something failed.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use offshoot_actors::ports::StoreError;
use rustix::process::{Resource, getrlimit};
use uuid::Uuid;

use super::error::{full, read_only};

/// The file that is open, under its name: what is written to a file that has no name any more is lost with the process.
#[derive(Debug, Clone)]
pub(super) struct Place {
    file: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    pub(super) fn of(file: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(file)?;
        Ok(Self { file: file.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    /// Whether the file still has its name.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match std::fs::metadata(&self.file) {
            Ok(found) if found.dev() == self.device && found.ino() == self.inode => Ok(()),
            Ok(_) => Err(gone(&self.file, "is another file than the one that was opened")),
            Err(error) => Err(missing(&self.file, &error)),
        }
    }

    /// What failed, in the words of the device where SQLite has none. It is asked by the only thing that finds out: a
    /// kernel that stopped writing after an error may still call the device writable.
    pub(super) fn explain(&self, error: StoreError) -> StoreError {
        let StoreError::Other(text) = error else { return error };
        match write_something(self.file.parent().unwrap_or(&self.file)) {
            Err(error) => match error.kind() {
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                    read_only(&format!("{text} ({error})"))
                }
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => full(&format!("{text} ({error})")),
                _ => StoreError::Other(format!("{text} ({error})")),
            },
            Ok(()) => match getrlimit(Resource::Fsize).current {
                Some(bytes) => StoreError::Other(format!(
                    "{text}: files of this process may have {bytes} bytes at most, see `ulimit -f`"
                )),
                None => StoreError::Other(text),
            },
        }
    }
}

/// Why the file could not be opened once more, in words that help where it is simply not there.
pub(super) fn unopened(file: &Path, error: StoreError) -> StoreError {
    std::fs::metadata(file).err().map_or(error, |why| missing(file, &why))
}

fn missing(file: &Path, error: &io::Error) -> StoreError {
    gone(file, &format!("cannot be found any more ({error})"))
}

fn gone(file: &Path, what: &str) -> StoreError {
    StoreError::Unavailable(format!(
        "{} {what}: put it back, or stop what uses the state directory and start it again",
        file.display()
    ))
}

/// As much as a commit does at least, to a file of its own.
fn write_something(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".offshoot-{}.tmp", Uuid::new_v4()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let written = file.write_all(&[0; 4_096]).and_then(|()| file.sync_all());
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}
