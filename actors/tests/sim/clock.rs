//! A clock whose calendar jumps while its monotonic time goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use offshoot_actors::ports::{BoxFuture, Clock, TokioClock};
use offshoot_actors::types::{Monotonic, Timestamp};

use super::scenario::Life;

pub struct SimClock {
    steady: Arc<TokioClock>,
    off: AtomicI64,
}

impl SimClock {
    /// The clock of a process, which jumps as that plans.
    pub fn start(steady: &Arc<TokioClock>, life: &Life) -> Arc<Self> {
        let clock = Arc::new(Self { steady: Arc::clone(steady), off: AtomicI64::new(life.calendar) });
        for (after, off) in life.jumps.clone() {
            let jumping = Arc::clone(&clock);
            drop(tokio::spawn(async move {
                jumping.sleep(after).await;
                jumping.off.store(off, Ordering::Relaxed);
            }));
        }
        clock
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.steady.now().0 + self.off.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Monotonic {
        self.steady.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        self.steady.sleep(duration)
    }
}
