//! What must hold after every input, whatever it was.

use std::io::{self, Write};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;

use super::CONFIG;
use super::make::Kind;
use super::peer::PATIENCE;
use crate::rig::{Client, Daemon};

/// Panics of this process that are not a test's own.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
const LOOK: Duration = Duration::from_millis(2);

/// A daemon that is being watched, and a client of it that behaves.
pub struct Oracle {
    pub daemon: Daemon,
    client: Client,
    errors: Lines,
    /// Tasks when nobody but the client was there.
    tasks: usize,
    kind: Kind,
    _logging: DefaultGuard,
}

impl Oracle {
    pub async fn start(kind: Kind) -> Self {
        hear_panics();
        let errors = Lines::default();
        let log = errors.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::ERROR)
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        let logging = tracing::subscriber::set_default(subscriber);
        let daemon = Daemon::with_file(CONFIG).await;
        let client = daemon.client().await;
        Self { daemon, client, errors, tasks: tasks(), kind, _logging: logging }
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// What does not hold.
    pub async fn check(&mut self) -> Result<(), String> {
        self.quiet()?;
        let looked = AssertUnwindSafe(self.look()).catch_unwind().await;
        looked.map_err(|_| "another client is not served any more".to_owned())??;
        self.quiet()
    }

    /// Ends the daemon, and looks whether anything of it is left.
    ///
    /// # Errors
    /// What is left, or what happened meanwhile.
    pub async fn end(self) -> Result<(), String> {
        let Self { daemon, client, errors, .. } = self;
        drop(client);
        daemon.stop().await;
        until(|| tasks() == 0).await.map_err(|()| format!("{} tasks are left of the daemon", tasks()))?;
        quiet(&errors)
    }

    fn quiet(&self) -> Result<(), String> {
        quiet(&self.errors)
    }

    async fn look(&mut self) -> Result<(), String> {
        let health = self.client.call("health", json!({})).await;
        health.map_err(|error| format!("another client gets no health: {error}"))?;
        let began = Instant::now();
        loop {
            let actors = self.actors().await;
            let of_kind = |kind: &'static str| actors.iter().filter(move |actor| actor["kind"] == kind);
            if let Some(actor) = actors.iter().find(|actor| actor["restarts"] != 0) {
                return Err(format!("an actor was restarted: {actor}"));
            }
            match of_kind("connection").count() {
                1 => break,
                0 => return Err("the gateway was restarted".to_owned()),
                left if began.elapsed() > PATIENCE => return Err(format!("{left} connections are left")),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
        // What a client asked for may well go on without it.
        if self.kind == Kind::Stranger {
            let most = self.tasks;
            until(|| tasks() <= most).await.map_err(|()| format!("{} tasks, {most} before", tasks()))?;
        }
        self.client.events();
        Ok(())
    }

    async fn actors(&mut self) -> Vec<Value> {
        let mut tree = self.client.call("sessions.tree", json!({"includeActors": true})).await.unwrap();
        tree["actors"].as_array_mut().map(std::mem::take).unwrap()
    }
}

fn quiet(errors: &Lines) -> Result<(), String> {
    let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(panic) = panics.pop() {
        return Err(format!("a panic: {panic}"));
    }
    let text = std::mem::take(&mut *errors.0.lock().unwrap_or_else(PoisonError::into_inner));
    if text.is_empty() {
        Ok(())
    } else {
        Err(format!("an error was logged: {}", String::from_utf8_lossy(&text)))
    }
}

async fn until(mut holds: impl FnMut() -> bool) -> Result<(), ()> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > PATIENCE {
            return Err(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Every actor and every socket has one.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// From now on a panic is noted wherever it happens, also where it is caught.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.location().is_none_or(|at| !at.file().starts_with("tests/")) {
                PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
            }
            before(info);
        }));
    });
}

/// Memory of this process that is in RAM, in MiB.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// What was logged.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
