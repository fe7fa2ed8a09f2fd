//! Only one process writes to a state directory.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::OpenError;

const LOCK_FILE: &str = "offshoot.lock";
/// How often the lock is asked for: whoever has it may only look at it, see [`in_use`]. With the pauses between, a
/// tenth of a second: a look takes microseconds, also where its process has to wait for a processor meanwhile.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(2);
/// More digits than any process id has.
const MAX_PID_TEXT: u64 = 20;

/// The right to write to a state directory, until it is dropped or the process is gone: the kernel keeps it.
#[derive(Debug)]
pub(super) struct StateLock {
    file: File,
}

impl StateLock {
    /// Makes the directory if it is missing and takes its lock.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        make_private_dir(dir).map_err(OpenError::io(dir))?;
        let path = dir.join(LOCK_FILE);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(OpenError::io(&path))?;
        let mut tries = 1;
        while let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            match errno {
                Errno::WOULDBLOCK if tries < TRIES => std::thread::sleep(PAUSE),
                Errno::WOULDBLOCK => {
                    return Err(OpenError::InUse { dir: dir.to_owned(), pid: read_pid(&file) });
                }
                errno => return Err(OpenError::io(&path)(errno.into())),
            }
            tries += 1;
        }
        let pid = std::process::id().to_string();
        let written = file.set_len(0).and_then(|()| file.write_all(pid.as_bytes()));
        written.map_err(OpenError::io(&path))?;
        Ok(Self { file })
    }
}

impl Drop for StateLock {
    fn drop(&mut self) {
        // The content is for people only; closing the file releases the lock whatever it says.
        _ = self.file.set_len(0);
    }
}

/// Whether a process writes to a state directory, or could, at this moment. Makes nothing.
///
/// # Errors
/// The system refuses.
pub fn in_use(dir: &Path) -> io::Result<bool> {
    Ok(holder(dir)? != Holder::Nobody)
}

/// Who writes to a state directory at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// A process; its id, unless it is only just beginning.
    Process(Option<u32>),
}

/// Who has the state directory. Makes nothing.
///
/// # Errors
/// The system refuses.
pub fn holder(dir: &Path) -> io::Result<Holder> {
    let file = match File::open(dir.join(LOCK_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(error) => return Err(error),
    };
    // Given back at once, as the file is closed.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Holder::Nobody),
        Err(Errno::WOULDBLOCK) => Ok(Holder::Process(read_pid(&file))),
        Err(errno) => Err(errno.into()),
    }
}

/// Does something while no process can begin to write to the state directory. What a dead process left in the lock file
/// goes with that.
///
/// # Errors
/// A process writes there, or the system refuses. Nothing was done then.
pub fn while_unused<T>(dir: &Path, work: impl FnOnce() -> T) -> Result<T, OpenError> {
    let lock = StateLock::take(dir)?;
    let done = work();
    drop(lock);
    Ok(done)
}

/// The process that held the lock last and did not give it up itself, where nobody holds it now.
///
/// # Errors
/// The system refuses.
pub fn died_with_lock(dir: &Path) -> io::Result<Option<u32>> {
    match File::open(dir.join(LOCK_FILE)) {
        Ok(file) => Ok(read_pid(&file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a directory that nobody but its owner can access, if it is missing.
pub(super) fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Takes everybody but the owner's access to a file or directory away, if there is one that others can access.
///
/// # Errors
/// The system refuses.
pub fn make_private(path: &Path, mode: u32) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            std::fs::set_permissions(path, Permissions::from_mode(mode))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(MAX_PID_TEXT).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_writer_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let lock = StateLock::take(&state).unwrap();
        let error = StateLock::take(&state).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, OpenError::InUse { pid: Some(pid), .. } if pid == std::process::id()));
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert!(text.contains("OFFSHOOT_STATE_DIR"), "{text}");
        drop(lock);
        StateLock::take(&state).unwrap();
    }

    #[test]
    fn what_a_dead_process_left_does_not_lock() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LOCK_FILE), "999999").unwrap();
        StateLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_look_tells_whether_somebody_writes_and_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!in_use(dir.path()).unwrap());
        assert!(!dir.path().join(LOCK_FILE).exists(), "a look makes nothing");
        let lock = StateLock::take(dir.path()).unwrap();
        assert!(in_use(dir.path()).unwrap());
        assert_eq!(holder(dir.path()).unwrap(), Holder::Process(Some(std::process::id())));
        drop(lock);
        assert!(!in_use(dir.path()).unwrap());
        std::fs::write(dir.path().join(LOCK_FILE), "999999").unwrap();
        assert!(!in_use(dir.path()).unwrap(), "what a dead process left");
        let looking = std::thread::spawn({
            let dir = dir.path().to_owned();
            move || {
                (0..500).all(|_| {
                    std::thread::yield_now();
                    in_use(&dir).is_ok()
                })
            }
        });
        while !looking.is_finished() {
            drop(StateLock::take(dir.path()).unwrap());
        }
        assert!(looking.join().unwrap());
    }

    #[test]
    fn directory_and_file_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let _lock = StateLock::take(&state).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state), 0o700);
        assert_eq!(mode(&state.join(LOCK_FILE)), 0o600);
    }
}
