//! What a running gateway says of itself in its state directory, so that commands beside it find it: where it listens,
//! and what clients must prove. It holds no secret.
//!
//! The record counts only while the process that it names holds the directory's lock: what a killed gateway left is
//! never believed.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use offshoot_actors::types::Timestamp;
use serde::{Deserialize, Serialize};

use super::{restart, shared_token};
use crate::store::{Holder, holder};

const FILE: &str = "gateway.json";
/// Longer than any record; a file of this size is something else.
const MAX_FILE: u64 = 64 * 1024;

/// A gateway that accepts clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its process.
    pub pid: u32,
    /// The process namespace in which that id counts, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<String>,
    /// Its version.
    pub version: String,
    /// Since when it accepts clients.
    pub started_at: Timestamp,
    /// Where it listens.
    pub urls: Vec<String>,
    /// `gateway.auth.mode`.
    pub auth_mode: String,
    /// The file with the token that it made for itself, or with the secret that it asks for until its restart; none if
    /// the configuration has the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// SHA-256 of its certificate; none without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// `agents.defaults.recovery.grace` in milliseconds: what runs get when it is told to end. None in one of an earlier
    /// version, which gave them none.
    #[serde(default)]
    pub grace_ms: u64,
}

/// Who has a state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Running {
    /// Nobody.
    Nobody,
    /// A gateway that accepts clients.
    Gateway(Record),
    /// A process that is no gateway, or one that does not accept clients yet or any more.
    Other(Option<u32>),
}

impl Record {
    /// Puts the record into the directory, whole or not at all.
    ///
    /// # Errors
    /// The system refuses.
    pub fn write(&self, state_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let path = state_dir.join(FILE);
        let unfinished = state_dir.join(format!("{FILE}.new"));
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let written = file.write_all(&text).and_then(|()| fs::rename(&unfinished, &path));
        if written.is_err() {
            // Whatever is left of it is nobody's.
            _ = fs::remove_file(&unfinished);
        }
        written
    }

    /// Whether the id of its process means the same process here.
    #[must_use]
    pub fn shares_our_processes(&self) -> bool {
        match (&self.pid_namespace, pid_namespace()) {
            (Some(its), Some(ours)) => *its == ours,
            _ => true,
        }
    }
}

/// Takes the record away, before the gateway stops taking clients.
pub fn remove(state_dir: &Path) {
    // One that stays names a process that does not hold the lock any more, and is not believed.
    _ = fs::remove_file(state_dir.join(FILE));
    shared_token::forget_kept(state_dir);
}

/// The files of a running gateway, which are nobody's once it does not run any more.
pub(crate) fn files(state_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let own = [FILE.to_owned(), format!("{FILE}.new")].map(|name| state_dir.join(name));
    own.into_iter().chain([shared_token::kept(state_dir), restart::file(state_dir)])
}

/// The namespace that the ids of processes belong to, where the system tells.
#[must_use]
pub fn pid_namespace() -> Option<String> {
    fs::read_link("/proc/self/ns/pid").ok()?.into_os_string().into_string().ok()
}

/// A time as a record has it.
#[must_use]
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Who has the state directory at this moment.
///
/// # Errors
/// The system refuses.
pub fn running(state_dir: &Path) -> io::Result<Running> {
    let Holder::Process(pid) = holder(state_dir)? else { return Ok(Running::Nobody) };
    Ok(match read(state_dir)? {
        Some(record) if Some(record.pid) == pid => Running::Gateway(record),
        _ => Running::Other(pid),
    })
}

/// The record as it is in the directory; one that cannot be understood is none.
fn read(state_dir: &Path) -> io::Result<Option<Record>> {
    let path = state_dir.join(FILE);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.len() > MAX_FILE => return Ok(None),
        Ok(_) => {}
    }
    Ok(serde_json::from_slice(&fs::read(&path)?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, SqliteStorage};

    fn record(pid: u32) -> Record {
        Record {
            pid,
            pid_namespace: pid_namespace(),
            version: "1".to_owned(),
            started_at: Timestamp(7),
            urls: vec!["ws://127.0.0.1:1".to_owned()],
            auth_mode: "token".to_owned(),
            token_file: Some("/x".into()),
            fingerprint: None,
            grace_ms: 5_000,
        }
    }

    #[test]
    fn a_record_counts_while_its_process_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let ours = record(std::process::id());
        ours.write(dir.path()).unwrap();
        assert_eq!(running(dir.path()).unwrap(), Running::Nobody);
        let storage = SqliteStorage::open(dir.path(), Durability::Normal).unwrap();
        assert_eq!(running(dir.path()).unwrap(), Running::Gateway(ours.clone()));
        assert!(ours.shares_our_processes());
        record(1).write(dir.path()).unwrap();
        let other = Running::Other(Some(std::process::id()));
        assert_eq!(running(dir.path()).unwrap(), other, "what an earlier gateway left");
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(running(dir.path()).unwrap(), other);
        remove(dir.path());
        assert_eq!(running(dir.path()).unwrap(), other);
        drop(storage);
    }

    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        record(1).write(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
