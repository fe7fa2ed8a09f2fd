//! `logging.*`: what the daemon logs, and where.

use std::path::{Path, PathBuf};

use super::read::{Cursor, Reader};
use crate::telemetry::LogFile;

/// Bytes of one file.
const MAX_BYTES: u32 = 100 * 1024 * 1024;
/// Files beside the one that is written to.
const KEEP: u32 = 5;
/// Where the file is, below the state directory.
const FILE: &str = "logs/offshoot.log";
/// Levels, as OpenClaw names them too.
const LEVELS: &[(&str, &str)] = &[
    ("silent", "off"),
    ("off", "off"),
    ("fatal", "error"),
    ("error", "error"),
    ("warn", "warn"),
    ("info", "info"),
    ("debug", "debug"),
    ("trace", "trace"),
];

/// What the daemon logs, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// What goes to the file; `off` for no file.
    pub level: &'static str,
    /// What goes to standard error, where the command line does not say so.
    pub console: Option<&'static str>,
    /// The file; none for the usual one.
    pub file: Option<PathBuf>,
    /// Bytes of one file.
    pub max_bytes: u64,
    /// Files beside the one that is written to.
    pub keep: u32,
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: "info", console: None, file: None, max_bytes: MAX_BYTES.into(), keep: KEEP }
    }
}

impl Logging {
    /// The file of a daemon with this state directory, if it is to have one.
    #[must_use]
    pub fn file_in(&self, state_dir: &Path) -> Option<LogFile> {
        let path = || self.file.clone().unwrap_or_else(|| state_dir.join(FILE));
        (self.level != "off").then(|| LogFile { path: path(), max_bytes: self.max_bytes, keep: self.keep })
    }

    /// Whether another file is meant.
    #[must_use]
    pub fn is_elsewhere(&self, other: &Self) -> bool {
        let place =
            |logging: &Self| (logging.file.clone(), logging.max_bytes, logging.keep, logging.level == "off");
        place(self) != place(other)
    }
}

/// Reads `logging`. `home` is what a path's `~` stands for.
pub(super) fn read(root: &Cursor<'_>, home: Option<&Path>, reader: &mut Reader<'_>) -> Logging {
    let usual = Logging::default();
    let Some(section) = reader.section(root, "logging") else { return usual };
    let file = section.get("file").and_then(|file| reader.filled_text(&file));
    let expand = |text: String| match (text.trim().strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text.trim()),
    };
    Logging {
        level: reader.word_at(&section, "level", LEVELS).unwrap_or(usual.level),
        console: reader.word_at(&section, "consoleLevel", LEVELS),
        file: file.map(expand),
        max_bytes: reader.whole_at(&section, "maxFileBytes", 1..=u32::MAX).map_or(usual.max_bytes, u64::from),
        keep: reader.whole_at(&section, "maxFiles", 0..=100).unwrap_or(usual.keep),
    }
}
