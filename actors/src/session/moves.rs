//! Children that outlive a session, and sessions that get another parent.
//!
//! The session manager decides and commits; what follows goes from actor to actor: the new parent adopts the child and
//! tells it, the child tells the manager where it hangs, and the manager tells the parent that goes away, which ends only
//! after that. Whoever panics on the way finds in the store what it missed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::inbox::STOP_CHILD_WITHIN;
use super::{Session, SessionArgs, SessionChild, SessionMeta, SessionMsg, Standing};
use crate::kit::{ChildSpec, Ctx, Reply};
use crate::ports::{Op, OpenRun, RunRow, Transaction};
use crate::sessions::SessionsMsg;
use crate::shared::LiveEntry;
use crate::types::{RunId, SessionKey};

/// How long a session that fails waits for those to be taken over that are to outlive it. What takes longer ends with it.
const HAND_ON_WITHIN: Duration = Duration::from_secs(5);

/// What is heard of runs of children while it is being read which of them are open.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    ended: BTreeSet<RunId>,
}

/// Before a session that failed stops its children: has those taken over that outlive it.
pub(super) async fn hand_on(args: &SessionArgs, ctx: &Ctx<Session>) {
    if !ctx.children().keys().any(|child| matches!(child, SessionChild::Session(_))) {
        return;
    }
    let (sender, done) = oneshot::channel();
    let (of, reply) = (args.meta.key.clone(), Some(Reply::Channel(sender)));
    if args.shared.sessions.send(SessionsMsg::Bequeath { of, reply }).is_ok() {
        let limit = ctx.system().clock.sleep(HAND_ON_WITHIN);
        // A manager that panics on it, or a store that does not take it: then they end with this session.
        futures::future::select(done, limit).await;
    }
}

impl Session {
    /// A child of a session that goes away comes below this one.
    pub(super) fn on_adopt(&mut self, child: &LiveEntry, ctx: &mut Ctx<Self>) {
        let key = child.meta.key.clone();
        let adopted = matches!(self.standing, Standing::Open)
            && ctx
                .adopt(
                    SessionChild::Session(key.clone()),
                    child.handle.info(),
                    ChildSpec::alike(STOP_CHILD_WITHIN),
                )
                .is_ok();
        if !adopted {
            return self.tell_manager(SessionsMsg::NotAdopted { child: key, by: self.meta.key.clone() });
        }
        // One that has just died is told of as down.
        drop(child.handle.send(SessionMsg::Moved { to: Some(self.meta.key.clone()) }));
    }

    /// Reads which results of new children are there and which are to come.
    pub(super) fn inherit(&mut self, ctx: &Ctx<Self>) {
        self.used = None;
        self.inheriting.get_or_insert_default();
        // What is being read may be older than the move.
        self.read_again(None, ctx);
    }

    pub(super) fn note_ended(&mut self, run: RunId) {
        if let Some(inheritance) = &mut self.inheriting {
            inheritance.ended.insert(run);
        }
    }

    pub(super) fn take_inheritance(&mut self, children: Vec<OpenRun>) {
        let Some(Inheritance { ended }) = self.inheriting.take() else { return };
        let own = |open: &OpenRun| open.host == self.shared.host && !ended.contains(&open.run);
        self.children.extend(children.into_iter().filter(own).map(|open| (open.run, open)));
    }

    /// This session has outlived its parent.
    pub(super) fn on_moved(&mut self, to: Option<SessionKey>, ctx: &mut Ctx<Self>) {
        self.hang_below(to);
        self.say_up(ctx);
        self.advance(ctx);
    }

    /// From now on results are for `to`, or for nobody.
    pub(super) fn hang_below(&mut self, to: Option<SessionKey>) {
        if self.meta.parent == to {
            return;
        }
        let from = self.meta.parent.clone();
        let outlived = if to.is_none() { from.clone() } else { None };
        self.meta = Arc::new(SessionMeta { parent: to.clone(), outlived, ..SessionMeta::clone(&self.meta) });
        let queued = self.queue.iter_mut().map(Box::as_mut);
        let rows = queued.chain(self.runs.values_mut().map(|active| active.row.as_mut()));
        let rows = rows.chain(self.unsettled.iter_mut().map(|end| end.row.as_mut()));
        for row in rows.filter(|row| row.announce_to == from) {
            row.announce_to.clone_from(&to);
        }
    }

    /// Before changes that say for whom a result is: refused if the session has been moved meanwhile.
    pub(super) fn expect_parent(&self, into: &mut Transaction, row: Option<&RunRow>) {
        if self.meta.on_parent_exit.outlives() && row.is_some_and(|row| row.announce_to.is_some()) {
            let (session, parent) = (self.meta.key.clone(), self.meta.parent.clone());
            into.push(Op::ExpectParent { session, parent });
        }
    }

    /// A child has outlived this session, which may end now as far as that one is concerned.
    pub(super) fn on_child_moved(&mut self, child: &SessionKey, ctx: &mut Ctx<Self>) {
        // It may come before the word that this session is stopped, which it must not outrun.
        if matches!(self.standing, Standing::Open) && self.meta.scope.is_cancelled() {
            self.standing = Standing::Stopping { replies: Vec::new(), ended: Vec::new(), leaving: 0 };
            self.sleep = None;
            self.stop_all(true, ctx);
        }
        ctx.release(&SessionChild::Session(child.clone()));
        self.children.retain(|_, open| open.session != *child);
        let of_child = self.announces.iter().filter(|announce| announce.item.session == *child);
        let of_child: Vec<RunId> = of_child.map(|announce| announce.item.run).collect();
        self.announces.forget(of_child);
        self.used = None;
        self.check_joined(ctx);
        self.advance(ctx);
    }

    /// Asks the manager to find other parents for those that outlive this session.
    pub(super) fn bequeath(&self) {
        self.tell_manager(SessionsMsg::Bequeath { of: self.meta.key.clone(), reply: None });
    }
}
