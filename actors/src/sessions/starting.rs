//! Sessions whose actors are on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Sessions;
use super::residents::Resident;
use super::waiting::Waiting;
use crate::kit::Ctx;
use crate::types::SessionKey;

impl Sessions {
    /// A session's actor is on its way, started by this parent.
    pub(super) fn starts(
        &mut self,
        key: SessionKey,
        under: Option<SessionKey>,
        waiting: Vec<Waiting>,
    ) -> Arc<AtomicBool> {
        if let Some(parent) = &under {
            self.starting.entry(parent.clone()).or_default().insert(key.clone());
        }
        let wanted = Arc::new(AtomicBool::new(true));
        self.residents.insert(key, Resident::Starting { under, waiting, wanted: Arc::clone(&wanted) });
        wanted
    }

    /// A session is not on its way any more, as it was.
    pub(super) fn starts_no_more(&mut self, key: &SessionKey, was: Option<&Resident>) {
        let Some(Resident::Starting { under, wanted, .. }) = was else { return };
        wanted.store(false, Ordering::Release);
        if let Some(parent) = under
            && let Some(starting) = self.starting.get_mut(parent)
        {
            starting.remove(key);
            if starting.is_empty() {
                self.starting.remove(parent);
            }
        }
    }

    /// A session was rebuilt after a panic: if that was on the start of a child, the child is started again.
    pub(super) fn start_again_under(&mut self, parent: &SessionKey, ctx: &Ctx<Self>) {
        for key in self.starting.remove(parent).unwrap_or_default() {
            if self.residents.get(&key).and_then(Resident::under) == Some(parent) {
                self.wake_again(&key, ctx);
            }
        }
    }

    /// Reads a session on its way once more: what was read is lost, or older than a settlement that may have ended
    /// its runs.
    pub(super) fn wake_again(&mut self, key: &SessionKey, ctx: &Ctx<Self>) {
        if let Some(Resident::Starting { waiting, .. }) = self.residents.get_mut(key) {
            let waiting = std::mem::take(waiting);
            let was = self.residents.remove(key);
            self.starts_no_more(key, was.as_ref());
            self.wake(key.clone(), waiting, ctx);
        }
    }
}
