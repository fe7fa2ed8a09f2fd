//! A daemon: the shipped binary, with a home of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Client, Identity};
use crate::common::machine;

pub const TOKEN: &str = "a-token-for-benches";

pub struct Daemon {
    child: Child,
    home: TempDir,
    pub address: SocketAddr,
}

impl Daemon {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        let (daemon, _) = Self::timed(machine::state_dir()).await;
        daemon
    }

    /// Starts one in a home directory. Returns how long it took from the start of the process to `hello-ok`.
    pub async fn timed(home: TempDir) -> (Self, Duration) {
        Self::with_lane(home, 64).await
    }

    /// The same, with so many sub-agents at work at once.
    pub async fn with_lane(home: TempDir, lane: usize) -> (Self, Duration) {
        let begun = Instant::now();
        let daemon = Self::launch(home, lane);
        Client::connect_soon(daemon.address, &Identity::Command).await;
        (daemon, begun.elapsed())
    }

    /// Starts one that no client has come to, and waits until it is ready.
    pub async fn unseen() -> Self {
        let daemon = Self::launch(machine::state_dir(), 64);
        while !daemon.home.path().join(".offshoot/gateway.json").exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        daemon
    }

    fn launch(home: TempDir, lane: usize) -> Self {
        let lanes = format!(
            "subagents: {{ maxChildrenPerAgent: 1000000, maxDescendants: 1000000, maxConcurrent: {lane} }}"
        );
        let address = free_address();
        let config = format!(
            "{{ gateway: {{ port: {}, auth: {{ mode: 'token', token: '{TOKEN}' }} }},
                agents: {{ defaults: {{ {} }} }} }}",
            address.port(),
            lanes
        );
        let state = home.path().join(".offshoot");
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join("offshoot.json"), config).unwrap();
        let child = command(home.path()).args(["gateway", "run"]).spawn().unwrap();
        Self { child, home, address }
    }

    /// A command of the same home.
    pub fn command(&self) -> Command {
        command(self.home.path())
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// What of it is in RAM, in bytes.
    pub fn resident(&self) -> u64 {
        machine::resident_of(self.child.id())
    }

    /// Time that it has spent on all cores, in microseconds.
    pub fn spent(&self) -> f64 {
        machine::spent_by(self.child.id())
    }

    /// Ends it like `kill -9`, and returns its home.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.home, machine::state_dir())
    }

    /// Ends it as a signal does, and returns its home.
    pub fn stop(mut self) -> TempDir {
        self.command().args(["gateway", "stop"]).status().unwrap();
        self.child.wait().unwrap();
        // Nothing is left to end.
        std::mem::replace(&mut self.home, machine::state_dir())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offshoot"));
    command.env_clear().env("HOME", home).current_dir(home);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// One that nobody listens at.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
