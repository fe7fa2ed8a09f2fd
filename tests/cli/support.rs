//! A home directory, and the program in it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub struct World {
    home: TempDir,
    state: Option<TempDir>,
}

/// What a finished command left.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is UTF-8");
        Self {
            code: output.status.code().expect("the command was not killed"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Done {
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in stderr: {}", self.stderr);
        self
    }

    /// The one document on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\nstderr: {}", self.stdout, self.stderr))
    }
}

impl World {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), state: None }
    }

    /// With a configuration in its place.
    pub fn with(config: &str) -> Self {
        let world = Self::new();
        world.configure(config);
        world
    }

    /// One that keeps its state in the home directory, and one that keeps it elsewhere.
    pub fn both() -> [Self; 2] {
        let elsewhere = Self { state: Some(tempfile::tempdir().unwrap()), ..Self::new() };
        [Self::new(), elsewhere]
    }

    pub fn configure(&self, config: &str) {
        self.write(self.state().join("offshoot.json").to_str().unwrap(), config);
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    pub fn state(&self) -> PathBuf {
        self.state.as_ref().map_or_else(|| self.path(".offshoot"), |dir| dir.path().to_owned())
    }

    /// What the program finds in its environment.
    pub fn surroundings(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let state = self.state.as_ref().map(|dir| ("OFFSHOOT_STATE_DIR", dir.path()));
        [("HOME", self.home.path())].into_iter().chain(state)
    }

    pub fn command(&self, arguments: &[&str]) -> assert_cmd::Command {
        let mut command = assert_cmd::cargo::cargo_bin_cmd!("offshoot");
        command.env_clear().envs(self.surroundings()).current_dir(self.home.path()).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        self.command(arguments).output().unwrap().into()
    }

    /// The program with pipes.
    pub fn process(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_offshoot"));
        command.env_clear().envs(self.surroundings()).current_dir(self.home.path()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a command that goes on, and returns once a line on its standard error says that a run runs.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut running = self.begin(&[arguments, &["--verbose"]].concat());
        running.until("running");
        running
    }

    /// Starts a command that goes on.
    pub fn begin(&self, arguments: &[&str]) -> Running {
        let child = self.process(arguments).spawn().unwrap();
        let mut running = Running { child: Some(child), stderr: None, said: String::new() };
        let stderr = running.child.as_mut().and_then(|child| child.stderr.take()).unwrap();
        running.stderr = Some(BufReader::new(stderr));
        running
    }

    /// The runs of the store, the newest first.
    pub fn runs(&self) -> Vec<Value> {
        let list = self.run(&["runs", "list", "--json", "--limit", "10000"]).exits(0).json();
        list["runs"].as_array().unwrap().clone()
    }

    /// The transcript of a session.
    pub fn entries(&self, session: &str) -> Vec<Value> {
        let shown = self.run(&["sessions", "show", session, "--json", "--entries", "10000"]).exits(0).json();
        shown["entries"].as_array().unwrap().iter().map(|stored| stored["entry"].clone()).collect()
    }

    /// What a tool answered in a session, oldest first.
    pub fn tool_results(&self, session: &str, tool: &str) -> Vec<Value> {
        let entries = self.entries(session);
        let results = entries.iter().filter(|entry| entry["type"] == "tool_result" && entry["name"] == tool);
        results.map(|entry| serde_json::from_str(entry["text"].as_str().unwrap()).unwrap()).collect()
    }

    /// The results of children that were delivered to a session, oldest first.
    pub fn delivered(&self, session: &str) -> Vec<Value> {
        let entries = self.entries(session);
        let announces = entries.iter().filter(|entry| entry["type"] == "announce");
        announces.flat_map(|entry| entry["items"].as_array().unwrap().clone()).collect()
    }

    pub fn sessions(&self) -> Vec<Value> {
        let list = self.run(&["sessions", "list", "--json"]).exits(0).json();
        list["sessions"].as_array().unwrap().clone()
    }
}

pub fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// A command that goes on; killed if a test forgets it.
pub struct Running {
    child: Option<Child>,
    stderr: Option<BufReader<ChildStderr>>,
    said: String,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Reads standard error up to a line that ends with `text`.
    pub fn until(&mut self, text: &str) {
        let stderr = self.stderr.as_mut().unwrap();
        loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "no {text:?} in stderr: {}", self.said);
            self.said.push_str(&line);
            if line.trim_end().ends_with(text) {
                return;
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    pub fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn done(mut self) -> Done {
        let mut rest = String::new();
        std::io::Read::read_to_string(self.stderr.as_mut().unwrap(), &mut rest).unwrap();
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        let mut done = Done::from(output);
        done.stderr = format!("{}{rest}", self.said);
        done
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            _ = child.kill();
            _ = child.wait();
        }
    }
}
