//! In which state files were when they were read, so that a later change of them is seen.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells one content of a file from another without reading it. A file that is replaced is another one, whatever
/// time it claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    length: u64,
    /// When it was changed, in seconds and nanoseconds: by its content, and by anything.
    times: [(i64, i64); 2],
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            times: [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())],
        }
    }
}

/// The files of a configuration, each in the state in which it was read. One that could not be read has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

impl Stamps {
    /// A file that is not there yet.
    pub(super) fn missing(path: Option<&Path>) -> Self {
        Self(path.into_iter().map(|path| (path.to_owned(), None)).collect())
    }

    pub(super) fn note(&mut self, path: &Path, stamp: Option<Stamp>) {
        if !self.0.iter().any(|(known, _)| known == path) {
            self.0.push((path.to_owned(), stamp));
        }
    }

    /// The same files as they are now.
    #[must_use]
    pub fn now(&self) -> Self {
        let now = |path: &PathBuf| path.metadata().ok().map(|metadata| Stamp::of(&metadata));
        Self(self.0.iter().map(|(path, _)| (path.clone(), now(path))).collect())
    }
}
