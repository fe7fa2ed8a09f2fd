//! The shipped program, with a state directory of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::machine::state_dir;

pub const TOKEN: &str = "a-token-for-benches";
pub struct Daemon {
    child: Child,
    pub address: SocketAddr,
    _home: TempDir,
}

impl Daemon {
    pub fn start() -> Self {
        let home = state_dir();
        let mut child = Command::new(env!("CARGO_BIN_EXE_offshoot"))
            .args(["gateway", "run", "--port", "0", "--json"])
            .env_clear()
            .env("HOME", home.path())
            .env("OFFSHOOT_GATEWAY_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        while serde_json::from_str::<Value>(&line).is_err() {
            assert!(output.read_line(&mut line).unwrap() > 0, "the gateway did not start: {line}");
        }
        let ready: Value = serde_json::from_str(&line).unwrap();
        let url = ready["urls"][0].as_str().unwrap();
        let address = url.rsplit('/').next().unwrap().parse().unwrap();
        Self { child, address, _home: home }
    }

    /// Memory that is in RAM, in MiB.
    pub fn resident(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// The same at its highest since its start.
    pub fn peak(&self) -> f64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> f64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the gateway lives");
        let kib = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        kib.trim().split(' ').next().unwrap().parse::<f64>().unwrap() / 1024.0
    }

    pub fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the gateway ended with {status}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
