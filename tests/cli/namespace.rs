//! A mount namespace of its own with a small device for the state directory, where the system lets us make one.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::daemon::Gateway;
use crate::skipped::skipped;
use crate::support::{Done, World};

/// Where the device is.
const MOUNT: &str = "/mnt";

/// A gateway whose state directory is on a device of its own.
pub struct Small {
    pub world: World,
    pub gateway: Gateway,
}

/// Whether namespaces can be made here. Where not, a test that needs one is skipped.
pub fn allowed() -> bool {
    let made = Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "none", MOUNT]).output();
    let allowed = made.is_ok_and(|output| output.status.success());
    if !allowed {
        skipped("a mount namespace with a device of its own");
    }
    allowed
}

/// A program with what it is given, run by the shell in a namespace with a device of this size, in KiB.
pub fn wrap(command: &mut Command, kib: u32, prepare: &str) {
    let script = format!("mount -t tmpfs -o size={kib}k none {MOUNT} && {prepare} exec \"$0\" \"$@\"");
    let mut words: Vec<OsString> = ["-Urm", "sh", "-c", &script].map(OsString::from).into();
    words.push(command.get_program().to_owned());
    words.extend(command.get_args().map(ToOwned::to_owned));
    let mut wrapped = Command::new("unshare");
    wrapped.args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
    wrapped.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    *command = wrapped;
}

impl Small {
    pub fn start(kib: u32) -> Self {
        let world = World::new();
        let gateway = Gateway::start_with(&world, |command| {
            command.args(["--state-dir", &format!("{MOUNT}/state")]);
            wrap(command, kib, "");
        });
        Self { world, gateway }
    }

    /// A program that sees the device.
    pub fn inside(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.gateway.pid().to_string();
        command.args(["--preserve-credentials", "-U", "-m", "-t", &target, program]).args(arguments);
        command.env("HOME", self.world.path(""));
        command
    }

    /// A command of ours that sees the device.
    pub fn run(&self, arguments: &[&str]) -> Done {
        let state = format!("{MOUNT}/state");
        let arguments = [arguments, &["--state-dir", &state]].concat();
        self.inside(env!("CARGO_BIN_EXE_offshoot"), &arguments).output().unwrap().into()
    }

    /// The shared secret of the gateway.
    pub fn token(&self) -> String {
        let output = self.inside("cat", &[&format!("{MOUNT}/state/gateway.token")]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let to = format!("of={MOUNT}/ballast");
        let dd = ["if=/dev/zero", &to, "bs=4k", "oflag=append", "conv=notrunc"];
        let filled = self.inside("dd", &dd).output();
        assert!(String::from_utf8_lossy(&filled.unwrap().stderr).contains("No space left"));
    }

    /// Takes all the room but so many KiB, or all where somebody else takes them meanwhile.
    pub fn leave(&self, kib: u32) {
        let count = format!("$(( $(stat -f -c %a {MOUNT}) - {} ))", kib / 4);
        let script = format!("dd if=/dev/zero of={MOUNT}/ballast bs=4k count={count}");
        self.inside("sh", &["-c", &script]).output().unwrap();
    }

    /// Gives it back.
    pub fn make_room(&self) {
        let removed = self.inside("rm", &[&format!("{MOUNT}/ballast")]).status().unwrap();
        assert!(removed.success());
    }
}
