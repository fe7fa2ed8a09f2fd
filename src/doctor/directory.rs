//! Who can read the state directory and what is in it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Finding, Found, Patient, Problem, Remedy};
use crate::store::backup::DIRECTORY;

/// What the names of private files begin with. Others may be somebody's own.
const PRIVATE: [&str; 3] = ["offshoot.db", "offshoot.lock", "gateway."];
const WHY: &str = "transcripts, tokens and keys are in it, and other users of this machine can read them";

pub(super) fn look(patient: &Patient) -> Found {
    let dir = &patient.dir;
    if !dir.try_exists().map_err(Problem::io(dir))? {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    let metadata = std::fs::metadata(dir).map_err(Problem::io(dir))?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        findings.push(Finding::new(
            format!("{} belongs to user {}, and this is user {user}", dir.display(), metadata.uid()),
            "a daemon of this user may not be able to write to it",
            "run the commands as its owner, or give it to this user with `chown -R`",
        ));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let open = private(dir, 0o700);
        // One that was named may have other uses.
        findings.push(if patient.own { open } else { Finding { remedy: None, fixable: false, ..open } });
    }
    for place in [dir.clone(), dir.join(DIRECTORY)] {
        let within = place != *dir;
        let entries = match std::fs::read_dir(&place) {
            Ok(entries) => entries,
            Err(_) if within && !place.exists() => continue,
            Err(error) => return Err(Problem::io(&place)(error)),
        };
        for entry in entries {
            let path = entry.map_err(Problem::io(&place))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ours = within || PRIVATE.iter().any(|start| name.starts_with(start));
            // A file that went away meanwhile is nobody's any more.
            let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
            if ours && metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
                findings.push(private(&path, 0o600));
            }
        }
    }
    Ok(findings)
}

fn private(path: &Path, mode: u32) -> Finding {
    Finding::new(
        format!("others can access {}", path.display()),
        WHY,
        format!("`chmod {mode:o} {}`, or `offshoot doctor --fix`", path.display()),
    )
    .with_remedy(Remedy::MakePrivate { path: path.to_owned(), mode })
}
