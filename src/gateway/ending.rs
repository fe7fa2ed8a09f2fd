//! The end of the daemon as those see it who still work for somebody.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How far the end has come, and who it waits for.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// Nobody else is let in.
    begun: CancellationToken,
    /// When another daemon is expected in the place of this one, where somebody said so.
    back_in: OnceLock<Duration>,
    /// What has not ended by now is cut off.
    due: CancellationToken,
    /// One more for each HTTP connection that has had a request.
    at_work: Arc<()>,
}

/// Somebody who has a request at work, as long as it is held.
#[derive(Debug)]
pub(crate) struct AtWork {
    _one: Arc<()>,
}

impl Ending {
    /// `back_in` is set first: whoever sees that the end has begun sees it too.
    pub(crate) fn begin(&self, back_in: Option<Duration>) {
        if let Some(back_in) = back_in {
            self.back_in.get_or_init(|| back_in);
        }
        self.begun.cancel();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// When another daemon is expected in the place of this one.
    pub(crate) fn back_in(&self) -> Option<Duration> {
        self.back_in.get().copied()
    }

    /// Waits until the end begins.
    pub(crate) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Has requests end now with what they have.
    pub(crate) fn cut_off(&self) {
        self.due.cancel();
    }

    /// Waits until requests are to end.
    pub(crate) async fn due(&self) {
        self.due.cancelled().await;
    }

    pub(crate) fn enter(&self) -> AtWork {
        AtWork { _one: Arc::clone(&self.at_work) }
    }

    /// Whether nobody has a request at work.
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.at_work) == 1
    }
}
