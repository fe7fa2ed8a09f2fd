//! Sessions that outlive their parents: decided and committed here, and carried out by the actors themselves.
//!
//! What is committed and not carried out yet stands outside of the manager's state, as a panic must not lose it: a session
//! would hang below another actor than the store says, and its former parent could not end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::oneshot;

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

/// Whether those that outlive a session have their places.
pub(crate) type Placed = Result<(), StoreError>;

/// A session goes away, and those that outlive it need another place.
#[derive(Debug)]
pub(crate) struct Bequest {
    of: SessionKey,
    /// Who waits until they have it, or hears why they cannot.
    reply: Option<Reply<Placed>>,
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
    waiting: Vec<(BTreeSet<SessionKey>, Reply<Placed>)>,
}

impl Sessions {
    pub(super) fn on_bequeath(&mut self, of: SessionKey, reply: Option<Reply<Placed>>, ctx: &Ctx<Self>) {
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
        // Detached: the message that it sends holds all that is needed to go on.
        tokio::spawn(async move {
            if !pause.is_zero() {
                shared.system.clock.sleep(pause).await;
            }
            let barrier = || -> BoxFuture<_> {
                let shared = Arc::clone(&shared);
                Box::pin(async move { shared.barrier().await })
            };
            let decided = read(&shared, DETACHED, barrier).await;
            let mut found = Vec::with_capacity(queued.len());
            for bequest in queued {
                let survivors = match &decided {
                    Ok(()) => survivors(&shared, &bequest.of).await,
                    Err(error) => Err(error.clone()),
                };
                found.push((bequest, survivors));
            }
            drop(myself.send(SessionsMsg::Survivors { found }));
        });
    }

    /// Commits who gets which place: each session that goes away by itself, so that what is damaged of one holds up no other.
    pub(super) fn on_survivors(
        &mut self,
        found: Vec<(Bequest, Result<Survivors, StoreError>)>,
        ctx: &mut Ctx<Self>,
    ) {
        let at = ctx.system().clock.now();
        let (mut moved, mut fates, mut submitted) = (BTreeSet::new(), Vec::new(), Vec::new());
        for (bequest, found) in found {
            let mut own = match found {
                Ok(survivors) => moves(&survivors, |key| self.stays(key)),
                Err(error) => {
                    fates.push((bequest, Vec::new(), Err(error.into())));
                    continue;
                }
            };
            // One that goes away may be below another.
            own.retain(|wanted| moved.insert(wanted.session.clone()));
            if own.is_empty() {
                fates.push((bequest, own, Ok(())));
                continue;
            }
            // Before the commit: a spawn meanwhile must find them counted.
            for Move { session, to, .. } in &own {
                self.tally.hand_over(session, to.as_ref());
            }
            let transaction: Transaction = own.iter().flat_map(|wanted| wanted.ops(at)).collect();
            let (shared, moving) = (Arc::clone(&self.shared), Arc::clone(&self.moves));
            let (sender, fate) = oneshot::channel();
            self.shared.commit(transaction, move |result| {
                if result.is_ok() {
                    tell(&shared, &moving, &own);
                }
                // Nobody waits only where the tree is gone.
                drop(sender.send((bequest, own, result)));
            });
            submitted.push(fate);
        }
        if submitted.is_empty() {
            return self.on_bequeathed(fates, ctx);
        }
        let myself = ctx.myself().clone();
        // Detached: a manager that was rebuilt finds in `moves` what is to be done.
        tokio::spawn(async move {
            fates.extend(join_all(submitted).await.into_iter().flatten());
            drop(myself.send(SessionsMsg::Bequeathed { fates }));
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

    pub(super) fn on_bequeathed(
        &mut self,
        fates: Vec<(Bequest, Vec<Move>, Result<(), Refused>)>,
        ctx: &mut Ctx<Self>,
    ) {
        self.bequests.at_work = false;
        let (mut moved, mut done) = (BTreeSet::new(), Vec::new());
        let queued = std::mem::take(&mut self.bequests.queued);
        for (bequest, moves, result) in fates {
            let Err(refused) = result else {
                moved.extend(moves.into_iter().map(|moved| moved.session));
                done.push(bequest);
                continue;
            };
            for Move { session, from, .. } in &moves {
                self.tally.hand_over(session, Some(from));
            }
            match refused {
                Refused::Storage(error) if !error.passes() => {
                    tracing::error!(
                        session = %bequest.of, %error,
                        "sessions that outlive it cannot be moved: it waits until they have ended"
                    );
                    self.provided_for(&bequest.of);
                    if let Some(reply) = bequest.reply {
                        reply.send(Err(error));
                    }
                }
                refused => {
                    tracing::warn!(
                        session = %bequest.of, %refused,
                        "sessions that outlive it could not be moved, will try again"
                    );
                    self.bequests.queued.push(bequest);
                }
            }
        }
        let pause = if self.bequests.queued.is_empty() { Duration::ZERO } else { pause(1, ctx.system()) };
        self.bequests.queued.extend(queued);
        if !moved.is_empty() {
            // What was read before has them below their former parents.
            self.settlements += 1;
        }
        for Bequest { of, reply } in done {
            self.provided_for(&of);
            self.bequests.waiting.extend(reply.map(|reply| (moved.clone(), reply)));
        }
        for session in &moved {
            self.pursue(session, ctx);
        }
        self.answer_bequests();
        self.work_on_bequests(pause, ctx);
    }

    /// Nothing is to be done any more for a session that goes away: one without an actor is gone.
    fn provided_for(&mut self, of: &SessionKey) {
        if !self.residents.contains_key(of) {
            self.bequests.leaving.remove(of);
        }
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
            let moved = SessionMsg::ChildMoved { child: key.clone() };
            match self.residents.get_mut(&former) {
                // One that has ended waits for nobody.
                Some(Resident::Awake(entry)) => drop(entry.handle.send(moved)),
                // What was read for it may be older than the move.
                Some(Resident::Starting { waiting, .. }) => waiting.push(Waiting::Message(Box::new(moved))),
                _ => {}
            }
        }
        self.answer_bequests();
    }

    fn answer_bequests(&mut self) {
        let moving = Arc::clone(&self.moves);
        let done = |(keys, _): &mut (BTreeSet<SessionKey>, Reply<Placed>)| {
            keys.retain(|key| moving.contains(key));
            keys.is_empty()
        };
        for (_, reply) in self.bequests.waiting.extract_if(.., done) {
            reply.send(Ok(()));
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

/// Reads who outlives a session, as soon as that can be read, unless it never can.
async fn survivors(shared: &Shared, of: &SessionKey) -> Result<Survivors, StoreError> {
    let question = || -> BoxFuture<_> {
        let asked = shared.storage.survivors(of.clone());
        Box::pin(async move {
            match asked.await {
                Err(error) if !error.passes() => Ok(Err(error)),
                answer => answer.map(Ok),
            }
        })
    };
    read(shared, DETACHED, question).await.flatten()
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
