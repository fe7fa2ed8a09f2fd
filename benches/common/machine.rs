//! What the figures depend on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A directory that is removed at the end, on the file system that cargo builds on.
pub fn state_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Lines about the machine and the build, by name.
pub fn describe(quick: bool) -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    vec![
        ("cores", cores.to_string()),
        ("load at the start", load),
        ("memory", memory()),
        ("system", command("uname", &["-srm"])),
        ("compiler", command("rustc", &["--version"])),
        ("build", build()),
        ("state directory on", file_system(Path::new(env!("CARGO_TARGET_TMPDIR")))),
        ("mode", if quick { "quick: few samples, figures are rough".into() } else { "full".into() }),
    ]
}

fn build() -> String {
    let checks = if cfg!(debug_assertions) { "with debug assertions: do not compare" } else { "optimised" };
    let profile = std::env::current_exe().ok().and_then(|exe| {
        let name = exe.parent()?.parent()?.file_name()?.to_str()?.to_owned();
        Some(name)
    });
    format!("{checks}, profile directory {}", profile.unwrap_or_default())
}

fn command(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|_| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().into())
}

fn memory() -> String {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.map_or_else(|| "unknown".into(), |total| total.trim().to_owned())
}

/// Type and options of the file system that holds `path`.
fn file_system(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| PathBuf::from(path));
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?, fields.next()?))
        })
        .filter(|(point, ..)| path.starts_with(point))
        .max_by_key(|(point, ..)| point.len());
    mount.map_or_else(|| "unknown".into(), |(_, kind, options)| format!("{kind} ({options})"))
}

/// Memory of this process that is in RAM, in bytes.
pub fn resident() -> u64 {
    resident_of(std::process::id())
}

/// Memory of a process that is in RAM, in bytes.
pub fn resident_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = kib.and_then(|text| text.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Time that a process has spent on all cores, in microseconds.
pub fn spent_by(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold spaces; user and system time are in hundredths of a second (proc(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 * 1e4
}

/// Thousands of clients are as many files.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}
