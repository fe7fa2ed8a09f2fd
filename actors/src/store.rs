//! The store: the only actor that writes.
//!
//! Owns the way into the [`Storage`] port. The root starts it first and stops it last, so that every other
//! actor can commit for as long as it lives. A transaction comes in with the function that takes its fate; the
//! storage calls that from its own thread, and the function turns it into a message for the actor that asked.
//! A panic loses nothing: the storage itself lives outside of the state, and a transaction whose message is
//! dropped unhandled is refused.

use std::sync::Arc;
use std::time::Duration;

use crate::kit::{Backoff, Behaviour, Ctx, Intensity, Msg, StartError, System};
use crate::ports::{Done, Refused, StoreError, Transaction};
use crate::shared::Shared;

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(5) };

/// How long to wait before a store that refused so often in a row is asked again.
pub(crate) fn pause(refusals: u32, system: &System) -> Duration {
    BACKOFF.delay(refusals.min(16), system.ids.below(u64::MAX))
}

/// What the store is asked.
#[derive(Debug)]
pub(crate) enum StoreMsg {
    /// Apply a transaction. From any actor; never dropped silently.
    Commit(Pending),
}

impl Msg for StoreMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Commit(_) => "commit",
        }
    }
}

impl StoreMsg {
    pub(crate) const fn commit(transaction: Transaction, done: Done) -> Self {
        Self::Commit(Pending { transaction, done: Some(done) })
    }
}

/// A transaction that refuses itself when it is dropped before it reached the storage.
pub(crate) struct Pending {
    transaction: Transaction,
    done: Option<Done>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("ops", &self.transaction.len()).finish_non_exhaustive()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(Refused::Storage(StoreError::Unavailable("the store is stopping".to_owned()))));
        }
    }
}

/// The store's state.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
}

impl Behaviour for Store {
    const KIND: &'static str = "store";
    const SURVIVES: Option<Intensity> = Some(Intensity { max: 10, within: Duration::from_secs(60) });

    type Msg = StoreMsg;
    type Args = Arc<Shared>;
    type Child = ();

    async fn start(args: &mut Self::Args, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        args.store.set(ctx.myself().clone());
        Ok(Self { shared: Arc::clone(args) })
    }

    fn handle(&mut self, message: StoreMsg, _: &mut Ctx<Self>) {
        match message {
            StoreMsg::Commit(mut pending) => {
                if let Some(done) = pending.done.take() {
                    self.shared.storage.submit(std::mem::take(&mut pending.transaction), done);
                }
            }
        }
    }
}
