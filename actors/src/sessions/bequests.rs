//! Sessions that outlive their parents: decided and committed here, and carried out by the actors themselves.
//!
//! What is committed and not carried out yet stands outside of the manager's state, as a panic must not lose it: a session
//! would hang below another actor than the store says, and its former parent could not end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::residents::{Resident, STOP_WITHIN};
use super::settle::{DETACHED, read};
use super::waiting::Waiting;
use super::{Sessions, SessionsMsg};
use crate::kit::{ChildSpec, Ctx, Reply};
use crate::policy::exits::{Move, moves};
use crate::ports::{BoxFuture, Event, Refused, StoreError, Survivors, Transaction};
use crate::session::SessionMsg;
use crate::shared::{LiveEntry, Shared};
use crate::store::pause;
use crate::types::SessionKey;

/// A session goes away, and those that outlive it need another place.
#[derive(Debug)]
pub(crate) struct Bequest {
    of: SessionKey,
    /// Who waits until they have it.
    reply: Option<Reply<()>>,
}

/// A session that has another place in the store than its actor.
#[derive(Debug, Clone)]
struct Moving {
    from: BTreeSet<SessionKey>,
    to: Option<SessionKey>,
}

/// What is committed and not carried out yet.
#[derive(Debug, Default)]
pub(super) struct Moves(Mutex<BTreeMap<SessionKey, Moving>>);

impl Moves {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionKey, Moving>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, moves: &[Move]) {
        let mut all = self.lock();
        for Move { session, from, to } in moves {
            let new = || Moving { from: BTreeSet::new(), to: None };
            let moving = all.entry(session.clone()).or_insert_with(new);
            moving.from.insert(from.clone());
            moving.to.clone_from(to);
        }
    }

    pub(super) fn contains(&self, key: &SessionKey) -> bool {
        self.lock().contains_key(key)
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn to(&self, key: &SessionKey) -> Option<Option<SessionKey>> {
        self.lock().get(key).map(|moving| moving.to.clone())
    }

    pub(super) fn has_below(&self, key: &SessionKey) -> bool {
        self.lock().values().any(|moving| moving.to.as_ref() == Some(key))
    }

    /// The sessions that are to hang below this one.
    fn below(&self, key: &SessionKey) -> Vec<SessionKey> {
        let all = self.lock();
        all.iter().filter(|(_, moving)| moving.to.as_ref() == Some(key)).map(|(key, _)| key.clone()).collect()
    }
}

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Bequests {
    queued: Vec<Bequest>,
    /// Whether some are being read or committed: one after the other, so that nobody is moved below a session that has
    /// bequeathed already.
    at_work: bool,
    /// Sessions that go away, from when that is told until they are gone: nobody is moved below them.
    leaving: BTreeSet<SessionKey>,
    /// Who waits until these sessions have their places.
    waiting: Vec<(BTreeSet<SessionKey>, Reply<()>)>,
}

impl Sessions {
    pub(super) fn on_bequeath(&mut self, of: SessionKey, reply: Option<Reply<()>>, ctx: &Ctx<Self>) {
        self.bequests.leaving.insert(of.clone());
        if reply.is_none() && self.bequests.queued.iter().any(|queued| queued.of == of) {
            return;
        }
        self.bequests.queued.push(Bequest { of, reply });
        self.work_on_bequests(Duration::ZERO, ctx);
    }

    /// Reads who outlives the sessions that go away, after everything that was committed before.
    fn work_on_bequests(&mut self, pause: Duration, ctx: &Ctx<Self>) {
        if self.bequests.at_work || self.bequests.queued.is_empty() {
            return;
        }
        self.bequests.at_work = true;
        let queued = std::mem::take(&mut self.bequests.queued);
        let (shared, myself) = (Arc::clone(&self.shared), ctx.myself().clone());
        let keys: Vec<SessionKey> = queued.iter().map(|bequest| bequest.of.clone()).collect();
        // Detached: the message that it sends holds all that is needed to go on.
        tokio::spawn(async move {
            if !pause.is_zero() {
                shared.system.clock.sleep(pause).await;
            }
            let barrier = || -> BoxFuture<_> {
                let shared = Arc::clone(&shared);
                Box::pin(async move { shared.barrier().await })
            };
            let mut found = match read(&shared, DETACHED, barrier).await {
                Ok(()) => Ok(Vec::with_capacity(queued.len())),
                Err(error) => Err(error),
            };
            for key in keys {
                if let Ok(all) = &mut found {
                    match read(&shared, DETACHED, || shared.storage.survivors(key.clone())).await {
                        Ok(survivors) => all.push(survivors),
                        Err(error) => found = Err(error),
                    }
                }
            }
            drop(myself.send(SessionsMsg::Survivors { bequests: queued, found }));
        });
    }

    pub(super) fn on_survivors(
        &mut self,
        bequests: Vec<Bequest>,
        found: Result<Vec<Survivors>, StoreError>,
        ctx: &mut Ctx<Self>,
    ) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "it cannot be read who outlives the sessions that go away, will try again");
                return self.bequeath_again(bequests, ctx);
            }
        };
        let stays = |key: &SessionKey| self.stays(key);
        let all = found.iter().flat_map(|survivors| moves(survivors, stays));
        let all: BTreeMap<SessionKey, Move> = all.map(|wanted| (wanted.session.clone(), wanted)).collect();
        let all: Vec<Move> = all.into_values().collect();
        if all.is_empty() {
            return self.on_bequeathed(bequests, Vec::new(), Ok(()), ctx);
        }
        let at = ctx.system().clock.now();
        let transaction: Transaction = all.iter().flat_map(|wanted| wanted.ops(at)).collect();
        // Before the commit: a spawn meanwhile must find them counted.
        for Move { session, to, .. } in &all {
            self.tally.hand_over(session, to.as_ref());
        }
        let (myself, shared, moving) =
            (ctx.myself().clone(), Arc::clone(&self.shared), Arc::clone(&self.moves));
        self.shared.commit(transaction, move |result| {
            if result.is_ok() {
                tell(&shared, &moving, &all);
            }
            // A manager that was rebuilt finds in `moves` what is to be done.
            drop(myself.send(SessionsMsg::Bequeathed { bequests, moves: all, result }));
        });
    }

    /// Whether a session may get children: it does not go away itself.
    fn stays(&self, key: &SessionKey) -> bool {
        !self.bequests.leaving.contains(key)
            && match self.residents.get(key) {
                Some(Resident::Awake(entry)) => !entry.meta.scope.is_cancelled(),
                Some(Resident::Sleeping { meta, .. }) => !meta.scope.is_cancelled(),
                Some(Resident::Settling { .. }) => false,
                Some(Resident::Loading { .. } | Resident::Starting { .. }) | None => true,
            }
    }

    fn bequeath_again(&mut self, bequests: Vec<Bequest>, ctx: &Ctx<Self>) {
        self.bequests.at_work = false;
        self.bequests.queued.splice(0..0, bequests);
        let pause = pause(1, ctx.system());
        self.work_on_bequests(pause, ctx);
    }

    pub(super) fn on_bequeathed(
        &mut self,
        bequests: Vec<Bequest>,
        moves: Vec<Move>,
        result: Result<(), Refused>,
        ctx: &mut Ctx<Self>,
    ) {
        if let Err(refused) = result {
            tracing::warn!(%refused, "sessions that outlive their parents could not be moved, will try again");
            for Move { session, from, .. } in &moves {
                self.tally.hand_over(session, Some(from));
            }
            return self.bequeath_again(bequests, ctx);
        }
        self.bequests.at_work = false;
        if !moves.is_empty() {
            // What was read before has them below their former parents.
            self.settlements += 1;
        }
        for Bequest { of, reply } in bequests {
            if !self.residents.contains_key(&of) {
                self.bequests.leaving.remove(&of);
            }
            let pending = moves.iter().map(|moved| moved.session.clone());
            self.bequests.waiting.extend(reply.map(|reply| (pending.collect(), reply)));
        }
        for Move { session, .. } in &moves {
            self.pursue(session, ctx);
        }
        self.answer_bequests();
        self.work_on_bequests(Duration::ZERO, ctx);
    }

    /// Has the actor of a session that was moved linked where it belongs now.
    pub(super) fn pursue(&mut self, key: &SessionKey, ctx: &mut Ctx<Self>) {
        let Some(to) = self.moves.to(key) else { return };
        let entry = match self.residents.get(key) {
            // It says so when it is up, or has ended.
            Some(Resident::Starting { .. } | Resident::Sleeping { .. }) => return,
            Some(Resident::Loading { .. } | Resident::Settling { .. }) | None => {
                return self.arrived(key);
            }
            Some(Resident::Awake(entry)) if entry.meta.parent == to && self.hangs_below(entry, &to, ctx) => {
                return self.arrived(key);
            }
            Some(Resident::Awake(entry)) => entry.clone(),
        };
        match to {
            Some(to) => {
                let adopt = SessionMsg::Adopt { child: Box::new(entry) };
                self.wait_for(&to, Waiting::Message(Box::new(adopt)), ctx);
            }
            None => {
                let spec = ChildSpec::alike(STOP_WITHIN);
                // One that is ending already is told of as down.
                if ctx.adopt(key.clone(), entry.handle.info(), spec).is_ok() {
                    drop(entry.handle.send(SessionMsg::Moved { to: None }));
                }
            }
        }
    }

    /// Whether a session's actor is linked where it belongs. One that was rebuilt knows its parent from the store, and may
    /// still be linked to the former one.
    fn hangs_below(&self, entry: &LiveEntry, to: &Option<SessionKey>, ctx: &Ctx<Self>) -> bool {
        let above = match to.as_ref().map(|to| self.residents.get(to)) {
            None => ctx.myself().cell().get_id(),
            Some(Some(Resident::Awake(parent))) => parent.handle.cell().get_id(),
            Some(_) => return false,
        };
        entry.handle.cell().try_get_supervisor().is_some_and(|supervisor| supervisor.get_id() == above)
    }

    /// After a rebuild: goes on with sessions that are awake. Of the others each says where it hangs once it is up.
    pub(super) fn go_on_moving(&mut self, ctx: &mut Ctx<Self>) {
        let moving: Vec<SessionKey> = self.moves.lock().keys().cloned().collect();
        for key in moving {
            if matches!(self.residents.get(&key), Some(Resident::Awake(_))) {
                self.pursue(&key, ctx);
            }
        }
    }

    /// Those that are to hang below a session that has just come up, and may have missed it.
    pub(super) fn pursue_below(&mut self, key: &SessionKey, ctx: &mut Ctx<Self>) {
        for child in self.moves.below(key) {
            self.pursue(&child, ctx);
        }
    }

    /// A session hangs where it belongs, or has no actor that hangs elsewhere.
    pub(super) fn arrived(&mut self, key: &SessionKey) {
        let Some(Moving { from, .. }) = self.moves.lock().remove(key) else { return };
        for former in from {
            if let Some(Resident::Awake(entry)) = self.residents.get(&former) {
                // One that has ended waits for nobody.
                drop(entry.handle.send(SessionMsg::ChildMoved { child: key.clone() }));
            }
        }
        self.answer_bequests();
    }

    fn answer_bequests(&mut self) {
        let moving = Arc::clone(&self.moves);
        let done = |(keys, _): &mut (BTreeSet<SessionKey>, Reply<()>)| {
            keys.retain(|key| moving.contains(key));
            keys.is_empty()
        };
        for (_, reply) in self.bequests.waiting.extract_if(.., done) {
            reply.send(());
        }
    }

    /// A session did not take a child: it goes away itself, or the child is ending.
    pub(super) fn on_not_adopted(&mut self, child: &SessionKey, by: SessionKey, ctx: &Ctx<Self>) {
        if self.moves.to(child) == Some(Some(by.clone())) && !self.stays(&by) {
            self.on_bequeath(by, None, ctx);
        }
    }

    /// A session has ended, and with it its actor.
    pub(super) fn left(&mut self, key: &SessionKey) {
        self.bequests.leaving.remove(key);
    }
}

/// Tells of moves that are committed. Called by the commit itself.
fn tell(shared: &Shared, moving: &Moves, moves: &[Move]) {
    moving.add(moves);
    for Move { session, from, to } in moves {
        // It must not wake as one whose children have all ended.
        if let Some(to) = to {
            shared.deliver(to, SessionMsg::Inherited);
        }
        let (session, from, to) = (session.clone(), from.clone(), to.clone());
        shared.publish(Event::Moved { session, from, to });
    }
}
