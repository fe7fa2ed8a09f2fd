//! Where the database file is, and what its device says when SQLite only knows that something failed.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use offshoot_actors::ports::StoreError;
use rustix::fs::{StatVfsMountFlags, statvfs};

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
        let gone = |what: String| {
            StoreError::Unavailable(format!(
                "{} {what}: put it back, or stop what uses the state directory and start it again",
                self.file.display()
            ))
        };
        match std::fs::metadata(&self.file) {
            Ok(found) if found.dev() == self.device && found.ino() == self.inode => Ok(()),
            Ok(_) => Err(gone("is another file than the one that was opened".to_owned())),
            Err(error) => Err(gone(format!("cannot be found any more ({error})"))),
        }
    }

    /// What failed, in the words of the device where SQLite has none.
    pub(super) fn explain(&self, error: StoreError) -> StoreError {
        let StoreError::Other(text) = error else { return error };
        let dir = self.file.parent().unwrap_or(&self.file);
        match statvfs(dir) {
            Ok(device) if device.f_flag.contains(StatVfsMountFlags::RDONLY) => super::error::read_only(&text),
            Ok(device) if device.f_bavail == 0 || (device.f_files > 0 && device.f_favail == 0) => {
                super::error::full(&text)
            }
            _ => StoreError::Other(text),
        }
    }
}
