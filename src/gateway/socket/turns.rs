//! Large texts are written in turns: what goes to hundreds of clients at once would keep every small answer waiting until
//! all of it is copied.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Clients to which something large is being written at one moment; a few, so that each core has one.
const AT_ONCE: usize = 4;

/// The turns of all clients.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// One client's place among them.
pub(super) struct Turn {
    of: Turns,
    waits: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
    has: Option<OwnedSemaphorePermit>,
}

impl Turn {
    pub(super) const fn new(of: Turns) -> Self {
        Self { of, waits: None, has: None }
    }

    /// Waits for it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has.is_none() {
            let all = &self.of.0;
            // Nobody ever closes it.
            let waits =
                self.waits.get_or_insert_with(|| Arc::clone(all).acquire_owned().map(Result::ok).boxed());
            self.has = ready!(waits.as_mut().poll(cx));
            self.waits = None;
        }
        Poll::Ready(())
    }

    /// Somebody else may write.
    pub(super) fn over(&mut self) {
        self.has = None;
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("has", &self.has.is_some()).finish_non_exhaustive()
    }
}
