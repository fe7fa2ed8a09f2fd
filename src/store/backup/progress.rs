//! How far a copy is, for whoever waits for it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How far the work on a copy is.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Stage>);

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Opening,
    Copying {
        to: PathBuf,
        of: u64,
    },
    Checking,
    Reading {
        done: u64,
        of: u64,
    },
}

impl Progress {
    pub(super) fn copies(&self, to: &Path, of: u64) {
        self.set(Stage::Copying { to: to.to_owned(), of });
    }

    /// From now on pages and rows are checked.
    pub fn checks(&self) {
        self.set(Stage::Checking);
    }

    /// So many rows of the audit record are read, of so many.
    pub(in crate::store) fn reads(&self, done: u64, of: u64) {
        self.set(Stage::Reading { done, of });
    }

    fn set(&self, stage: Stage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// What is being done at this moment, in words.
    #[must_use]
    pub fn text(&self) -> String {
        const MIB: u64 = 1024 * 1024;
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Stage::Opening => "opening".to_owned(),
            Stage::Copying { to, of } => {
                let done = std::fs::metadata(to).map_or(0, |metadata| metadata.len());
                format!("copying: {} of at most {} MiB", done / MIB, of.div_ceil(MIB))
            }
            Stage::Reading { done, of } => format!("reading the audit record: {done} of {of} rows"),
            Stage::Checking => "checking every page and the audit record".to_owned(),
        }
    }
}
