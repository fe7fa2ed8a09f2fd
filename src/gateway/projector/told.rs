//! The runs of which clients were told something, and not yet their end. It outlives a panic of the projector.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offshoot_actors::types::RunId;

/// Each with the number of its last `agent` event.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<BTreeMap<RunId, Arc<AtomicU64>>>);

impl Told {
    /// The run's number, which goes on where it was.
    pub(super) fn number(&self, run: RunId) -> Arc<AtomicU64> {
        Arc::clone(self.lock().entry(run).or_default())
    }

    /// The end was told.
    pub(super) fn end(&self, run: RunId) {
        self.lock().remove(&run);
    }

    /// Those whose end was not.
    pub(super) fn open(&self) -> Vec<RunId> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Arc<AtomicU64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
