//! Whether the device of the state directory takes what will be written.

use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{Finding, Found, Patient, Problem};

/// The log of the database grows to half of this before it is moved into the database.
const LITTLE: u64 = 64 * 1024 * 1024;
/// Files of the database, with those of SQLite beside it, and room for a backup.
const FEW_FILES: u64 = 16;

pub(super) fn look(patient: &Patient) -> Found {
    let dir = &patient.dir;
    // The directory may not be there yet, its device is.
    let Some(place) = dir.ancestors().find(|place| place.exists()) else { return Ok(Vec::new()) };
    let device = statvfs(place).map_err(|error| Problem::io(place)(error.into()))?;
    let mut findings = Vec::new();
    if device.f_flag.contains(StatVfsMountFlags::RDONLY) || stopped_writing(place) {
        findings.push(Finding::new(
            format!("the device of {} is read-only", dir.display()),
            "a daemon refuses every request that would change something, and a new one does not start",
            "find out why with `dmesg`, then `mount -o remount,rw` it, or name another directory with --state-dir",
        ));
    }
    let free = device.f_bavail.saturating_mul(device.f_frsize);
    if free < LITTLE {
        findings.push(Finding::new(
            format!("the device of {} has {} KiB left", dir.display(), free / 1024),
            "without room for its next commit a daemon refuses work; it loses nothing, and goes on when there is room",
            "free some space; `df` and `du` say where it went",
        ));
    }
    if device.f_files > 0 && device.f_favail < FEW_FILES {
        findings.push(Finding::new(
            format!("the device of {} can take {} more files", dir.display(), device.f_favail),
            "SQLite needs files beside the database, and a backup is one",
            "remove files that nobody needs; `df -i` says how many there are",
        ));
    }
    Ok(findings)
}

/// Whether the kernel has stopped writing to the device after an error. It may call it writable nevertheless, and only
/// say so among the options of the mount.
fn stopped_writing(place: &Path) -> bool {
    let (Ok(place), Ok(mounts)) = (place.canonicalize(), std::fs::read_to_string("/proc/self/mounts")) else {
        return false;
    };
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (at, _, options) = (fields.next()?.to_owned(), fields.next()?, fields.next()?.to_owned());
        place.starts_with(&at).then_some((at.len(), options))
    };
    // Of two at the same place the later one lies over the other.
    let found = mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length);
    found.is_some_and(|(_, options)| options.split(',').any(|option| option == "emergency_ro"))
}
