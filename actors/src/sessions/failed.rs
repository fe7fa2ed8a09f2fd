//! Sessions that failed for good: what was open in them and below is ended in the store.

use std::sync::Arc;

use super::residents::{Resident, Waiting};
use super::settle::{DETACHED, Verdict, read, settle};
use super::{Sessions, SessionsMsg};
use crate::kit::Ctx;
use crate::ports::BoxFuture;
use crate::session::SessionMeta;
use crate::types::{SessionKey, Terminal};

impl Sessions {
    /// A session failed for good, and with it everything below: what was open there is ended in the store, and
    /// nothing of it is woken before that is done.
    pub(super) fn settle_subtree(&mut self, key: &SessionKey, reason: &str, ctx: &Ctx<Self>) {
        let live = self.shared.live_sessions().into_iter();
        let mut keys: Vec<SessionKey> = live
            .filter(|entry| self.is_below(&entry.meta, key))
            .map(|entry| entry.meta.key.clone())
            .collect();
        keys.push(key.clone());
        keys.extend(keys.iter().flat_map(|key| self.starting_under(key)).collect::<Vec<_>>());
        for key in &keys {
            if let Some((_, entry)) = self.shared.live.remove(key) {
                entry.meta.scope.cancel();
            }
            let waiting =
                self.residents.remove(key).and_then(|mut resident| resident.waiting().map(std::mem::take));
            let waiting = waiting.unwrap_or_default();
            self.residents.insert(key.clone(), Resident::Sleeping { waiting });
        }
        let (shared, myself, key) = (Arc::clone(&self.shared), ctx.myself().clone(), key.clone());
        let reason = format!("its session failed: {reason}");
        // Detached: it must be done whatever becomes of this actor.
        tokio::spawn(async move {
            let runs = || -> BoxFuture<_> {
                let (shared, key) = (Arc::clone(&shared), key.clone());
                Box::pin(async move {
                    shared.barrier().await?;
                    shared.storage.open_in_subtree(key).await
                })
            };
            match read(&shared, DETACHED, runs).await {
                Ok(mut runs) => {
                    runs.retain(|run| run.row.host == shared.host);
                    let verdict = Verdict { state: Terminal::Crashed, reason: &reason, quiet: false };
                    settle(&shared, runs, verdict, DETACHED).await;
                }
                Err(error) => {
                    tracing::error!(session = %key, %error, "a failed session could not be settled")
                }
            }
            // What was on its way to them when they failed is in the store.
            let waiting = read(&shared, DETACHED, || shared.storage.waiting_sessions()).await;
            let waiting = waiting.unwrap_or_default();
            drop(myself.send(SessionsMsg::Settled { keys, waiting }));
        });
    }

    pub(super) fn on_settled(&mut self, keys: &[SessionKey], waiting: &[SessionKey], ctx: &Ctx<Self>) {
        self.settlements += 1;
        for key in keys {
            if let Some(Resident::Sleeping { waiting: items }) = self.residents.get_mut(key) {
                items.extend(waiting.contains(key).then_some(Waiting::Nothing));
                self.leave(key, ctx);
            }
        }
    }

    fn is_below(&self, meta: &SessionMeta, key: &SessionKey) -> bool {
        let mut parent = meta.parent.clone();
        while let Some(up) = parent {
            if up == *key {
                return true;
            }
            parent = self.shared.live.get(&up).and_then(|entry| entry.meta.parent.clone());
        }
        false
    }
}
