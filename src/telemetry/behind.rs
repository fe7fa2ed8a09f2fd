//! The log file, and a daemon's standard error that nobody may read: lines are handed to a thread for each, so that no
//! actor waits for the disk or a pipe.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::clock;
use super::rotation::{LogFile, Rotation};

/// Bytes of lines that wait to be written. More are lost, and counted.
const MAX_WAITING: usize = 4 * 1024 * 1024;
/// The thread writes lines, and nothing that takes much of a stack.
const STACK: usize = 256 * 1024;

pub(super) static FILE: Behind = Behind(OnceLock::new());
pub(super) static CONSOLE: Behind = Behind(OnceLock::new());

/// Lines that a thread writes, once it was begun.
pub(super) struct Behind(OnceLock<Log>);

#[derive(Debug, Default)]
struct Log {
    queue: Mutex<Queue>,
    /// There are lines.
    filled: Condvar,
    /// All are written.
    emptied: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<String>,
    bytes: usize,
    /// Whether some are being written.
    busy: bool,
}

/// Where a thread writes.
enum Sink {
    File(Rotation),
    Console,
}

/// Writes the log to a file, too, from now on. The first one counts.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn log_to(settings: LogFile) -> io::Result<()> {
    FILE.begin("log-file", Sink::File(Rotation::new(settings)))
}

/// Lets nobody wait from now on for who reads standard error.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn console_behind() -> io::Result<()> {
    CONSOLE.begin("log-console", Sink::Console)
}

/// How many lines were lost because the disk, or who reads standard error, did not keep up or failed.
pub(crate) fn lines_lost() -> u64 {
    let logs = [&FILE, &CONSOLE].into_iter().filter_map(|behind| behind.0.get());
    logs.map(|log| log.lost.load(Ordering::Relaxed)).sum()
}

/// Waits until every line is written, at most so long.
pub(crate) fn flush(within: Duration) {
    let until = Instant::now() + within;
    for log in [&FILE, &CONSOLE].into_iter().filter_map(|behind| behind.0.get()) {
        log.flush(until);
    }
}

impl Behind {
    fn begin(&'static self, name: &str, sink: Sink) -> io::Result<()> {
        if self.0.set(Log::default()).is_err() {
            return Ok(());
        }
        let Some(log) = self.0.get() else { return Ok(()) };
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK);
        thread.spawn(move || log.work(sink)).map(drop)
    }

    /// Whether there is a thread for the lines.
    pub(super) fn is_begun(&self) -> bool {
        self.0.get().is_some()
    }

    /// Hands a line over. Never waits for its being written.
    pub(super) fn write(&self, line: String) {
        let Some(log) = self.0.get() else { return };
        let mut queue = log.lock();
        if queue.bytes + line.len() > MAX_WAITING {
            log.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push(line);
        drop(queue);
        log.filled.notify_one();
    }
}

impl Sink {
    fn write(&mut self, lines: &[String]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write(lines, clock::day(SystemTime::now())),
            Self::Console => {
                let mut to = io::stderr().lock();
                for line in lines {
                    // A line that has no reader is lost, here as everywhere.
                    _ = to.write_all(line.as_bytes());
                }
                Ok(())
            }
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "the log file",
            Self::Console => "standard error",
        }
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self, until: Instant) {
        let mut queue = self.lock();
        while queue.busy || !queue.lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.emptied.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn work(&self, mut sink: Sink) {
        let (mut told, mut fails) = (0, false);
        loop {
            let lines = self.take();
            let written = sink.write(&lines);
            let failed = written.is_err();
            if failed {
                self.lost.fetch_add(lines.len() as u64, Ordering::Relaxed);
            }
            match written {
                Err(error) if !fails => {
                    tracing::error!(%error, "the log file cannot be written to; its lines are lost until it can");
                }
                Ok(()) => {
                    let lost = self.lost.load(Ordering::Relaxed);
                    if lost > told {
                        tracing::warn!(lines = lost - told, "lines for {} were lost", sink.name());
                        told = lost;
                    }
                }
                Err(_) => {}
            }
            fails = failed;
        }
    }

    /// Waits for lines.
    fn take(&self) -> Vec<String> {
        let mut queue = self.lock();
        queue.busy = false;
        if queue.lines.is_empty() {
            self.emptied.notify_all();
        }
        while queue.lines.is_empty() {
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        (queue.bytes, queue.busy) = (0, true);
        std::mem::take(&mut queue.lines)
    }
}
