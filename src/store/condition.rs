//! What the store's work has shown of it: whether it takes transactions, and what it met that is damaged.
//!
//! The log has a line when that changes, not one for each transaction: whoever is refused is told himself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use offshoot_actors::ports::{StoreError, StoreHealth, Trouble};
use offshoot_actors::types::Timestamp;

/// Shared by the writer, the readers, and whoever asks.
#[derive(Debug, Default)]
pub(super) struct Condition {
    health: RwLock<StoreHealth>,
    /// Whether there is anything in it, without the lock: clients look at it thousands of times a second.
    troubled: AtomicBool,
    /// Whether it refuses, without the lock: asked after each commit.
    refuses: AtomicBool,
    /// Transactions that were refused since it began to.
    refused: AtomicU64,
}

impl Condition {
    pub(super) fn health(&self) -> StoreHealth {
        if !self.troubled.load(Ordering::Acquire) {
            return StoreHealth::default();
        }
        self.health.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Acquire)
    }

    /// Transactions were refused for this.
    pub(super) fn refused(&self, error: &StoreError, transactions: usize) {
        self.met(error);
        self.refused.fetch_add(u64::try_from(transactions).unwrap_or(u64::MAX), Ordering::Relaxed);
        let mut health = self.health.write().unwrap_or_else(PoisonError::into_inner);
        match &mut health.refuses {
            Some(known) if known.error == *error => {}
            Some(known) => {
                tracing::error!(%error, "the store refuses work for another reason");
                known.error = error.clone();
            }
            none => {
                tracing::error!(%error, "the store refuses work");
                *none = Some(Trouble { error: error.clone(), since: now() });
                self.troubled.store(true, Ordering::Release);
            }
        }
        self.refuses.store(true, Ordering::Release);
    }

    /// A commit was made.
    pub(super) fn works(&self) {
        if !self.refuses() {
            return;
        }
        let mut health = self.health.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = health.refuses.take() {
            self.troubled.store(health.damaged.is_some(), Ordering::Release);
            let refused = self.refused.swap(0, Ordering::Relaxed);
            let seconds = (now() - trouble.since).as_secs();
            tracing::warn!(refused, seconds, "the store takes work again");
        }
        self.refuses.store(false, Ordering::Release);
    }

    /// Something failed with this: damage is kept in mind.
    pub(super) fn met(&self, error: &StoreError) {
        if !matches!(error, StoreError::Damaged(_)) {
            return;
        }
        let mut health = self.health.write().unwrap_or_else(PoisonError::into_inner);
        if health.damaged.is_none() {
            tracing::error!(%error, "a part of the store is damaged; the rest of it goes on");
            health.damaged = Some(Trouble { error: error.clone(), since: now() });
            self.troubled.store(true, Ordering::Release);
        }
    }
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
