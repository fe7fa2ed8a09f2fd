//! Time as a port, so that a test can pause it.

use std::time::Duration;

use super::BoxFuture;
use crate::types::{Monotonic, Timestamp};

/// Tells the time and waits.
pub trait Clock: Send + Sync + 'static {
    /// The calendar's time.
    fn now(&self) -> Timestamp;
    /// The monotonic time.
    fn monotonic(&self) -> Monotonic;
    /// Ends after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<()>;
}

/// Tokio's clock; with tokio's paused time it is virtual.
#[derive(Debug)]
pub struct TokioClock {
    start: tokio::time::Instant,
    epoch: Timestamp,
}

impl TokioClock {
    /// A clock whose calendar reads `epoch` now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the port that everything else takes time from")]
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { start: tokio::time::Instant::now(), epoch }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.epoch.0.saturating_add(elapsed))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        #[expect(clippy::disallowed_methods, reason = "this is the port that everything else waits with")]
        Box::pin(tokio::time::sleep(duration))
    }
}
