//! Keeps the program hearing while one of its threads is held up.
//!
//! Of tokio's threads one waits for sockets and timers, for all of them. What it is woken for it does itself; the others are
//! woken only for what it cannot do at once. Should that one piece of work never return, nobody waits for sockets and timers
//! any more: the daemon would be deaf in just the moment in which somebody wants to see what it is stuck in. Work that comes
//! from outside wakes another thread, which then finds that nobody waits, and does. That helps for as long as one thread is left
//! that is not held up. The task that the held up one woke last waits with it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Handle;

/// How often somebody else is woken.
const EVERY: Duration = Duration::from_millis(250);

/// A thread that gives the others something to do now and then, until it is dropped.
pub(super) struct Pulse {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    pub(super) fn of(runtime: Handle) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let beat = move || {
            while !ends.load(Ordering::Acquire) {
                drop(runtime.spawn(async {}));
                thread::park_timeout(EVERY);
            }
        };
        let thread = thread::Builder::new().name("pulse".to_owned()).spawn(beat)?;
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does nothing that panics.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tokio::time::sleep;

    use super::*;

    #[test]
    fn timers_go_on_while_what_one_of_them_woke_holds_a_thread_up() {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let pulse = Pulse::of(runtime.handle().clone()).unwrap();
        let (hold, held) = channel::<()>();
        let (tell, told) = channel();
        runtime.spawn(async move {
            sleep(Duration::from_millis(300)).await;
            tell.send(()).unwrap();
        });
        runtime.spawn(async move {
            sleep(Duration::from_millis(100)).await;
            _ = held.recv();
        });
        told.recv_timeout(Duration::from_secs(20)).unwrap();
        drop(pulse);
        drop(hold);
    }
}
