//! Writes files that only their owner may read, whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Copies of earlier contents that are kept: `.bak`, and so many more with a number.
const COPIES: u32 = 4;

/// Puts a content in a file's place. Nobody ever sees half of it.
///
/// # Errors
/// It cannot be written; the file is as it was.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let draft = dir.join(format!(".offshoot-{}.tmp", Uuid::new_v4()));
    let written = write_new(&draft, content).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // Whatever is left of it is nobody's.
        let _ = fs::remove_file(&draft);
    }
    written?;
    File::open(dir)?.sync_all()
}

/// Takes a file from everybody but its owner, where others may read it. What was open to them is no secret any more, and
/// only a person can say what follows from that.
pub fn keep_private(path: &Path) {
    let Ok(facts) = fs::metadata(path) else { return };
    if facts.permissions().mode() & 0o077 == 0 {
        return;
    }
    tracing::warn!(path = %path.display(), "others could read this secret; it is closed to them now");
    if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(0o600)) {
        tracing::warn!(path = %path.display(), %error, "others can still read this secret");
    }
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Keeps a copy of a file beside it, and a few that were made before.
///
/// # Errors
/// A copy cannot be written.
pub(super) fn keep_copies(path: &Path) -> io::Result<()> {
    let copy = |number: u32| -> PathBuf {
        let mut name = OsString::from(path);
        name.push(".bak");
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name.into()
    };
    for number in (0..COPIES).rev() {
        match fs::rename(copy(number), copy(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    write_private(&copy(0), &fs::read(path)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_last_contents_are_kept_and_all_of_it_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("offshoot.json");
        for number in 0..8 {
            if number > 0 {
                keep_copies(&path).unwrap();
            }
            write_private(&path, number.to_string().as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let names = ["offshoot.json", "offshoot.json.bak", "offshoot.json.bak.1", "offshoot.json.bak.4"];
        assert_eq!(names.map(read), ["7", "6", "5", "2"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6);
        for entry in fs::read_dir(dir.path()).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder");
        fs::create_dir(&path).unwrap();
        assert!(write_private(&path, b"x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
