//! What processes left that ended without a chance to clear up.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::{Finding, Found, Patient, Problem, Remedy};
use crate::gateway::record;
use crate::store::backup::{DIRECTORY, PARTIAL};
use crate::store::{Holder, died_with_lock};

/// A draft of this age is nobody's: each is there for the time of one write.
const OLD: Duration = Duration::from_secs(600);

pub(super) fn look(patient: &Patient) -> Found {
    let dir = &patient.dir;
    let mut findings = Vec::new();
    if patient.holder == Some(Holder::Nobody) {
        if let Some(pid) = died_with_lock(dir).map_err(Problem::io(dir))? {
            let what =
                format!("process {pid} died with the state directory: its name is still in the lock file");
            let why = "it is in nobody's way, and tells that a process was killed";
            findings.push(Finding::new(what, why, FIX).with_remedy(Remedy::ClearLock));
        }
        for path in record::files(dir).filter(|path| path.exists()) {
            let what = format!("{} is of a gateway that does not run any more", path.display());
            let why = "no command believes it, but a person may";
            findings.push(Finding::new(what, why, FIX).with_remedy(Remedy::RemoveUnused(path)));
        }
    }
    for place in [dir.clone(), dir.join(DIRECTORY)] {
        let Ok(entries) = std::fs::read_dir(&place) else { continue };
        for entry in entries {
            let path = entry.map_err(Problem::io(&place))?.path();
            if is_left(&path) {
                let what = format!("{} was never finished", path.display());
                let why = "nobody reads it, and it takes space";
                findings.push(Finding::new(what, why, FIX).with_remedy(Remedy::Remove(path)));
            }
        }
    }
    Ok(findings)
}

const FIX: &str = "`offshoot doctor --fix` removes it";

fn is_left(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let Some(of) = name.strip_suffix(PARTIAL) {
        let pid = of.rsplit('.').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        return pid.is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH));
    }
    let draft = name.starts_with(".offshoot-") && name.ends_with(".tmp");
    let changed = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let age = changed.ok().and_then(|changed| SystemTime::now().duration_since(changed).ok());
    draft && age.is_some_and(|age| age > OLD)
}
