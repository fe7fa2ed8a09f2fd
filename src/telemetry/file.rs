//! The log file: lines are handed to a thread of its own, so that no actor waits for the disk.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::clock;
use super::rotation::{LogFile, Rotation};

/// Bytes of lines that wait for the disk. More are lost, and counted.
const MAX_WAITING: usize = 4 * 1024 * 1024;
/// The thread writes lines, and nothing that takes much of a stack.
const STACK: usize = 256 * 1024;

static LOG: OnceLock<Log> = OnceLock::new();

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

/// Writes the log to a file, too, from now on. The first one counts.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn log_to(settings: LogFile) -> io::Result<()> {
    if LOG.set(Log::default()).is_err() {
        return Ok(());
    }
    let Some(log) = LOG.get() else { return Ok(()) };
    let thread = std::thread::Builder::new().name("log-file".to_owned()).stack_size(STACK);
    thread.spawn(move || log.work(Rotation::new(settings))).map(drop)
}

/// Hands a line over. Never waits for the disk.
pub(super) fn write(line: String) {
    let Some(log) = LOG.get() else { return };
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

/// How many lines were lost because the disk did not keep up or failed.
pub(crate) fn lines_lost() -> u64 {
    LOG.get().map_or(0, |log| log.lost.load(Ordering::Relaxed))
}

/// Waits until every line is written, at most so long.
pub(crate) fn flush(within: Duration) {
    let Some(log) = LOG.get() else { return };
    let until = Instant::now() + within;
    let mut queue = log.lock();
    while queue.busy || !queue.lines.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        queue = log.emptied.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, mut file: Rotation) {
        let (mut told, mut fails) = (0, false);
        loop {
            let lines = self.take();
            let written = file.write(&lines, clock::day(SystemTime::now()));
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
                        tracing::warn!(lines = lost - told, "lines of the log were lost");
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
