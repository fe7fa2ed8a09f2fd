//! The files that there are.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use offshoot_actors::types::{SessionKey, Timestamp};
use serde::Deserialize;

use super::{DIRECTORY, EXTENSION};

/// Longest first line: a key, a label and some words.
const MAX_HEAD: u64 = 64 * 1024;

/// A session that was archived, as the first line of its file tells it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Archived {
    /// Its name.
    pub session_key: SessionKey,
    /// The session that spawned it.
    pub parent: Option<SessionKey>,
    /// Its name for people.
    pub label: Option<String>,
    /// Its depth.
    pub depth: u32,
    /// When it was last written to.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub exported_at: Timestamp,
    /// The file.
    #[serde(skip)]
    pub file: PathBuf,
}

/// The sessions that were archived last, at most `limit`. Files that are none are left out.
///
/// # Errors
/// The directory cannot be read.
pub fn archived(state_dir: &Path, limit: usize) -> io::Result<Vec<Archived>> {
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for agent in entries(&state_dir.join(DIRECTORY))? {
        for file in entries(&agent)? {
            if file.extension().is_some_and(|extension| extension == EXTENSION)
                && let Ok(written) = file.metadata().and_then(|facts| facts.modified())
            {
                files.push((written, file));
            }
        }
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    Ok(files.into_iter().filter_map(|(_, file)| head(file)).take(limit).collect())
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn head(file: PathBuf) -> Option<Archived> {
    let mut line = String::new();
    BufReader::new(File::open(&file).ok()?.take(MAX_HEAD)).read_line(&mut line).ok()?;
    let head: Archived = serde_json::from_str(&line).ok()?;
    Some(Archived { file, ..head })
}
