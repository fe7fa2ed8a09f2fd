//! A gateway in a process of its own, for the commands beside it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Done, World, send};

/// A running gateway; killed if a test forgets it.
pub struct Gateway {
    child: Option<Child>,
    /// What it said when it accepted clients.
    pub ready: Value,
}

impl Gateway {
    /// Starts one at a port that the system chooses, and returns once it accepts clients.
    pub fn start(world: &World) -> Self {
        Self::start_with(world, |_| {})
    }

    pub fn start_with(world: &World, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = world.process(&["gateway", "run", "--port", "0", "--json"]);
        change(&mut command);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !text.ends_with("\n}\n") {
            if stdout.read_line(&mut text).unwrap() == 0 {
                let mut why = String::new();
                child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
                panic!("the gateway did not start: {text}{why}");
            }
        }
        let ready = serde_json::from_str(&text).unwrap();
        Self { child: Some(child), ready }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// An address of it.
    pub fn url(&self) -> String {
        self.ready["urls"][0].as_str().unwrap().to_owned()
    }

    pub fn port(&self) -> u16 {
        self.url().rsplit_once(':').unwrap().1.parse().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    pub fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until it has brought itself down.
    #[cfg(feature = "faults")]
    pub fn dies(mut self) {
        let status = self.child.take().unwrap().wait().unwrap();
        assert_eq!(status.code(), None, "{status}");
    }

    /// Waits for its end.
    pub fn done(mut self) -> Done {
        self.child.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            _ = child.kill();
            _ = child.wait();
        }
    }
}
