//! Sessions that failed for good: what was open in them and below is ended in the store.

use std::sync::Arc;

use super::residents::Resident;
use super::settle::{DETACHED, Verdict, read, settle};
use super::waiting::Waiting;
use super::{Sessions, SessionsMsg};
use crate::kit::Ctx;
use crate::ports::BoxFuture;
use crate::shared::LiveEntry;
use crate::types::SessionKey;

impl Sessions {
    /// A session failed for good, and with it everything below: what was open there is ended in the store, and
    /// nothing of it is woken before that is done.
    pub(super) fn settle_subtree(&mut self, key: &SessionKey, reason: &str, ctx: &mut Ctx<Self>) {
        // One that was moved and lives hangs elsewhere by now.
        let lives = |other: &SessionKey, resident: &Resident| {
            let alive = matches!(resident, Resident::Awake(entry) if !entry.handle.info().has_left());
            alive && self.moves.contains(other)
        };
        let residents = self.residents.iter();
        let below =
            residents.filter(|(other, resident)| self.is_below(other, key) && !lives(other, resident));
        let mut keys: Vec<SessionKey> = below.map(|(other, _)| other.clone()).collect();
        keys.push(key.clone());
        for key in &keys {
            self.shared.live.remove(key);
            let mut resident = self.residents.remove(key);
            self.starts_no_more(key, resident.as_ref());
            if let Some(Resident::Awake(LiveEntry { meta, .. }) | Resident::Sleeping { meta, .. }) = &resident
            {
                meta.scope.cancel();
            }
            let waiting = resident.as_mut().and_then(Resident::waiting).map(std::mem::take);
            let mut waiting = waiting.unwrap_or_default();
            // It died with the session that it was to outlive: what it had open is not among what is ended here.
            waiting.extend(self.moves.contains(key).then_some(Waiting::Nothing));
            self.residents.insert(key.clone(), Resident::Settling { waiting });
        }
        for key in &keys {
            self.left(key);
            self.arrived(key);
        }
        // Whoever was to hang below one of them needs another place.
        for key in keys.iter().filter(|key| self.moves.has_below(key)).cloned().collect::<Vec<_>>() {
            self.on_bequeath(key, None, ctx);
        }
        self.unsettled.add(&keys);
        let unsettled = Arc::clone(&self.unsettled);
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
                    settle(&shared, runs, Verdict::session_failed(&reason), DETACHED).await;
                }
                Err(error) => {
                    tracing::error!(session = %key, %error, "a failed session could not be settled")
                }
            }
            // What was on its way to them when they failed is in the store.
            let waiting = read(&shared, DETACHED, || shared.storage.waiting_sessions()).await;
            let waiting = waiting.unwrap_or_default();
            unsettled.remove(&keys);
            // Those that were awake have other places by now; it may have been asleep with children that sleep.
            drop(myself.send(SessionsMsg::Bequeath { of: key, reply: None }));
            drop(myself.send(SessionsMsg::Settled { keys, waiting }));
        });
    }

    pub(super) fn on_settled(&mut self, keys: &[SessionKey], waiting: &[SessionKey], ctx: &mut Ctx<Self>) {
        self.settlements += 1;
        for key in keys {
            if let Some(Resident::Settling { waiting: items }) = self.residents.get_mut(key) {
                items.extend(waiting.contains(key).then_some(Waiting::Nothing));
                if !self.unsettled.holds(key) {
                    self.leave(key, ctx);
                }
            }
        }
    }

    /// Whether a session has an actor below another one, or is about to.
    fn is_below(&self, session: &SessionKey, key: &SessionKey) -> bool {
        let under = |session: &SessionKey| self.residents.get(session).and_then(Resident::under);
        std::iter::successors(under(session), |up| under(up)).any(|up| up == key)
    }
}
