//! The program in a process of its own, on a state directory that outlives it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The shared secret of every daemon here.
pub const TOKEN: &str = "a-token-for-tests";

/// A home directory with a state directory in it.
pub struct Place {
    home: PathBuf,
    _goes: Option<TempDir>,
    /// Whether the state is on a disk of its own, which can be filled.
    pub has_disk: bool,
}

impl Place {
    pub fn new(config: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { home: home.path().to_owned(), _goes: Some(home), has_disk: false }.with(config)
    }

    /// One whose state directory is there already and stays.
    pub fn at(home: &Path, config: &str) -> Self {
        Self { home: home.to_owned(), _goes: None, has_disk: true }.with(config)
    }

    fn with(self, config: &str) -> Self {
        fs::create_dir_all(self.state()).unwrap();
        fs::write(self.state().join("offshoot.json"), config).unwrap();
        self
    }

    pub fn state(&self) -> PathBuf {
        self.home.join(".offshoot")
    }

    /// What the daemons wrote to standard error.
    pub fn log(&self) -> PathBuf {
        self.home.join("daemon.log")
    }

    /// Keeps everything for whoever looks into a failure, and says where it is.
    pub fn keep(self) -> PathBuf {
        let state = self.state();
        let home = self._goes.map_or(self.home, TempDir::keep);
        if self.has_disk {
            let kept = home.join("state");
            fs::create_dir_all(&kept).unwrap();
            for file in fs::read_dir(state).unwrap().flatten() {
                _ = fs::copy(file.path(), kept.join(file.file_name()));
            }
        }
        home
    }

    /// The program, as the state directory's own, at the end of another command.
    pub fn program(&self, wrapper: &[&str]) -> Command {
        let built = env!("CARGO_BIN_EXE_offshoot").to_owned();
        let program = std::env::var("NEMESIS_PROGRAM").unwrap_or(built);
        let words = [wrapper, &[&program]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env_clear();
        command.env("HOME", &self.home).env("OFFSHOOT_GATEWAY_TOKEN", TOKEN);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// Starts a gateway and does not wait for it.
    pub fn start(&self, wrapper: &[&str]) -> Starting {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut child = self
            .program(wrapper)
            .args(["gateway", "run", "--port", "0", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Starting { daemon: Daemon { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) }, output }
    }
}

/// A gateway that does not accept clients yet.
pub struct Starting {
    daemon: Daemon,
    output: BufReader<std::process::ChildStdout>,
}

impl Starting {
    /// Waits until it accepts clients.
    ///
    /// # Errors
    /// How it ended instead.
    pub fn ready(mut self) -> Result<Daemon, ExitStatus> {
        let mut text = String::new();
        while !text.ends_with("\n}\n") {
            if self.output.read_line(&mut text).unwrap() == 0 {
                return Err(self.daemon.child.wait().unwrap());
            }
        }
        let ready: Value = serde_json::from_str(&text).unwrap();
        let url = ready["urls"][0].as_str().unwrap();
        self.daemon.address = url.rsplit('/').next().unwrap().parse().unwrap();
        Ok(self.daemon)
    }

    pub fn kill(self) {
        self.daemon.kill();
    }
}

/// A running gateway; killed if a test forgets it.
pub struct Daemon {
    child: Child,
    pub address: SocketAddr,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended.
    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn stop(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
