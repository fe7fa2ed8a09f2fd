//! The mark that `offshoot gateway restart` leaves in the state directory before it has the service manager end the
//! gateway. The signal with which that ends it is the same as for a stop; by the mark the gateway knows that the next one
//! follows at once, and tells clients when to come back.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use offshoot_actors::types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::write_private;

const FILE: &str = "gateway.restart";
/// Longer than any mark; what is beyond is something else.
const MAX_FILE: u64 = 256;
/// An older mark is of a restart that never came.
const FRESH: Duration = Duration::from_secs(60);

/// How long clients are told to stay away: what a start takes, with a margin.
pub const BACK_IN: Duration = Duration::from_millis(1_500);

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    /// When the restart was asked for.
    at: Timestamp,
}

/// Where the mark is.
pub(crate) fn file(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Leaves the mark.
///
/// # Errors
/// The state directory cannot be written to.
pub fn announce(state_dir: &Path, now: Timestamp) -> io::Result<()> {
    write_private(&file(state_dir), &serde_json::to_vec(&Mark { at: now })?)
}

/// Takes the mark away, and tells when clients may come back: none where no restart was asked for, or too long ago.
#[must_use]
pub fn take(state_dir: &Path, now: Timestamp) -> Option<Duration> {
    let mark = read(state_dir);
    forget(state_dir);
    let at = mark?.at;
    // One of the future is of a clock that was set back since: how old it is nobody knows.
    (at <= now && now - at <= FRESH).then_some(BACK_IN)
}

/// Takes the mark away, when the next gateway has started or none will.
pub fn forget(state_dir: &Path) {
    // Mostly there is none, and one that stays is believed for a minute only.
    _ = std::fs::remove_file(file(state_dir));
}

/// What cannot be read or understood is no mark.
fn read(state_dir: &Path) -> Option<Mark> {
    let mut text = Vec::new();
    File::open(file(state_dir)).ok()?.take(MAX_FILE).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_mark_is_believed_once_and_while_it_is_fresh() {
        let dir = tempfile::tempdir().unwrap();
        let (asked, within) = (Timestamp(1_000_000), Timestamp(1_060_000));
        assert_eq!(take(dir.path(), asked), None, "nobody asked for it");
        announce(dir.path(), asked).unwrap();
        let mode = std::fs::metadata(file(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(take(dir.path(), within), Some(BACK_IN));
        assert_eq!(take(dir.path(), within), None, "it was taken");
        for other in [Timestamp(1_060_001), Timestamp(999_999)] {
            announce(dir.path(), asked).unwrap();
            assert_eq!(take(dir.path(), other), None, "{other:?}");
        }
        std::fs::write(file(dir.path()), "{").unwrap();
        assert_eq!(take(dir.path(), asked), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
