//! The end of runs from outside: cancel, stop, deadline, crash.
//!
//! All of them abort first and record after: the run's token stops model calls and tools, its actor is killed,
//! the children that it spawned are stopped and waited for, and then its end is committed together with their
//! results. So the leaves end first, and no result is lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::commit::Closing;
use super::inbox::Due;
use super::{Active, Fate, Session, SessionChild, SessionMsg, Stage, Standing};
use crate::kit::{Ctx, Handle, Reply};
use crate::sessions::SessionsMsg;
use crate::tree::Stopped;
use crate::types::{Origin, Outcome, Refusal, RunId, SessionKey, Terminal};

/// Tells a session once that a child has stopped, also if whoever had to answer went away without a word.
struct Told {
    myself: Handle<SessionMsg>,
    run: Option<RunId>,
    ended: Vec<RunId>,
}

impl Drop for Told {
    fn drop(&mut self) {
        let ended = std::mem::take(&mut self.ended);
        // A session that is gone waits for nobody.
        drop(self.myself.send(SessionMsg::ChildStopped { run: self.run, ended }));
    }
}

impl Session {
    pub(super) fn on_cancel(
        &mut self,
        run: RunId,
        origin: Origin,
        reply: Reply<Result<Stopped, Refusal>>,
        ctx: &mut Ctx<Self>,
    ) {
        if let Some(index) = self.queue.iter().position(|row| row.id == run)
            && let Some(row) = self.queue.remove(index)
        {
            // It takes its turn for as long as its end is committed, so that its end is one like the others.
            let active = self.untouched(row);
            self.runs.insert(run, active);
        }
        let Some(active) = self.runs.get_mut(&run) else {
            let shared = Arc::clone(&self.shared);
            // Detached: the answer is the caller's, whatever becomes of this session.
            tokio::spawn(async move { reply.send(already_ended(&shared, run).await) });
            return;
        };
        active.cancels.push(reply);
        self.abort(
            run,
            Fate {
                state: Terminal::Cancelled,
                reason: format!("cancelled by {}", origin.in_words()),
                origin,
                quiet: false,
            },
            ctx,
        );
    }

    /// Ends a run that did not come to its own end.
    pub(super) fn abort(&mut self, run: RunId, why: Fate, ctx: &mut Ctx<Self>) {
        let Some(active) = self.runs.get_mut(&run) else { return };
        if active.stage.is_last() {
            return;
        }
        // Of two reasons the first counts, also across a rebuild.
        let _ = active.cell.fate.set(why);
        self.go_through(run, ctx);
    }

    /// Carries out a fate that is decided.
    pub(super) fn go_through(&mut self, run: RunId, ctx: &mut Ctx<Self>) {
        let Some(active) = self.runs.get_mut(&run) else { return };
        let cell = Arc::clone(&active.cell);
        let Some(fate) = cell.fate.get() else { return };
        let stops_children = fate.stops_children();
        cell.cancelled.cancel();
        active.timer = None;
        let before = std::mem::replace(&mut active.stage, Stage::Joining);
        if matches!(before, Stage::Queued) {
            self.tell_manager(SessionsMsg::Forget { run });
        }
        let works = matches!(before, Stage::Running | Stage::Boundary | Stage::Yielding | Stage::Starting);
        if works && self.current == Some(run) {
            self.transcript = None;
        }
        ctx.children_mut().kill(&SessionChild::Run(run));
        if stops_children {
            let mut spawned = cell.spawned().clone();
            let open: BTreeSet<&SessionKey> = self.children.values().map(|child| &child.session).collect();
            // One that is awake although its own runs have ended may wait for what it spawned itself.
            spawned.retain(|key| {
                open.contains(key) || ctx.children().contains(&SessionChild::Session(key.clone()))
            });
            if let Some(active) = self.runs.get_mut(&run) {
                active.stopping = spawned.len();
            }
            for key in spawned {
                self.stop_child(&key, Some(run), ctx);
            }
        }
        self.check_joined(ctx);
    }

    /// Whether runs are open in sessions that this run spawned.
    fn has_open_spawned(&self, active: &Active) -> bool {
        let spawned = active.cell.spawned();
        self.children.values().any(|child| spawned.contains(&child.session))
    }

    /// Commits the end of aborted runs whose actors and children have ended: what a run still said and wrote comes
    /// before its end.
    pub(super) fn check_joined(&mut self, ctx: &mut Ctx<Self>) {
        let stopping = matches!(self.standing, Standing::Stopping { .. });
        let done = |run: RunId, active: &Active| {
            let open = || if stopping { !self.children.is_empty() } else { self.has_open_spawned(active) };
            let waits = active.cell.fate.get().is_none_or(Fate::stops_children);
            matches!(active.stage, Stage::Joining)
                && !ctx.children().contains(&SessionChild::Run(run))
                && (!waits || (active.stopping == 0 && !open()))
        };
        let joined: Vec<RunId> =
            self.runs.iter().filter(|(run, active)| done(**run, active)).map(|(run, _)| *run).collect();
        for run in joined {
            self.record(run, ctx);
        }
    }

    fn record(&mut self, run: RunId, ctx: &mut Ctx<Self>) {
        // Another run that works has the transcript; then the results wait for its next step.
        let others = self.current.is_some_and(|current| current != run && self.transcript.is_none());
        let due = Due::QuietOf(run);
        let takes = !others && self.announces.iter().any(|announce| due.takes(announce));
        if takes && self.transcript.is_none() {
            return self.load(ctx);
        }
        let Some(active) = self.runs.get_mut(&run) else { return };
        let Some(why) = active.cell.fate.get().cloned() else { return };
        let (row, partial) = (active.row.clone(), active.cell.partial());
        let taken = match self.transcript.take() {
            Some(transcript) if takes => {
                self.lent = Some(run);
                Some(self.take_inbox(transcript, Some(run), None, due, ctx))
            }
            transcript => {
                self.transcript = transcript;
                None
            }
        };
        let closing = Closing { quiet: why.quiet, origin: why.origin };
        self.end_run(row, Outcome::ended(why.state, why.reason, partial), closing, taken, ctx);
    }

    /// Stops a child session, because `run` that spawned it is aborted or because this session stops.
    pub(super) fn stop_child(&self, key: &SessionKey, run: Option<RunId>, ctx: &Ctx<Self>) {
        if let Some(entry) = self.shared.live.get(key).filter(|entry| !entry.meta.on_parent_exit.outlives()) {
            entry.meta.scope.cancel();
        }
        let told = Told { myself: ctx.myself().clone(), run, ended: Vec::new() };
        let reply = Reply::to(move |ended| {
            let mut told = told;
            told.ended = ended;
        });
        // Those below it that do not end with it.
        if run.is_some() {
            self.tell_manager(SessionsMsg::Bequeath { of: key.clone(), reply: None });
        }
        let message = SessionMsg::Stop { cascade: true, reply };
        match ctx.children().handle::<SessionMsg>(&SessionChild::Session(key.clone())) {
            Some(handle) => drop(handle.send(message)),
            None => self.shared.deliver(key, message),
        }
    }

    pub(super) fn on_child_stopped(
        &mut self,
        run: Option<RunId>,
        mut ended: Vec<RunId>,
        ctx: &mut Ctx<Self>,
    ) {
        match run.map(|run| self.runs.get_mut(&run)) {
            Some(Some(active)) => {
                active.stopping = active.stopping.saturating_sub(1);
                active.stopped.append(&mut ended);
            }
            // The run has ended without it: a rebuild lost what it waited for.
            Some(None) => {}
            None => {
                if let Standing::Stopping { ended: all, .. } = &mut self.standing {
                    all.append(&mut ended);
                }
            }
        }
        self.check_joined(ctx);
        self.advance(ctx);
    }

    /// That a child is gone is heard before what it said last, which runs it ended: a stop hears that out.
    pub(super) fn child_gone(&mut self, ctx: &mut Ctx<Self>) {
        if let Standing::Stopping { leaving, .. } = &mut self.standing
            && ctx.myself().send(SessionMsg::ChildLeft).is_ok()
        {
            *leaving += 1;
        }
        self.advance(ctx);
    }

    pub(super) fn on_child_left(&mut self, ctx: &mut Ctx<Self>) {
        if let Standing::Stopping { leaving, .. } = &mut self.standing {
            *leaving = leaving.saturating_sub(1);
        }
        self.advance(ctx);
    }

    pub(super) fn on_stop(&mut self, cascade: bool, reply: Reply<Vec<RunId>>, ctx: &mut Ctx<Self>) {
        // Its parent goes away, and it does not go with it.
        if cascade && self.meta.on_parent_exit.outlives() && !self.meta.scope.is_cancelled() {
            return reply.send(Vec::new());
        }
        self.meta.scope.cancel();
        match &mut self.standing {
            Standing::Stopping { replies, .. } => return replies.push(reply),
            Standing::Asleep => return reply.send(Vec::new()),
            Standing::Open => {
                self.standing = Standing::Stopping { replies: vec![reply], ended: Vec::new(), leaving: 0 };
            }
        }
        self.sleep = None;
        self.stop_all(cascade, ctx);
    }

    /// Aborts every run and stops every child.
    pub(super) fn stop_all(&mut self, cascade: bool, ctx: &mut Ctx<Self>) {
        let awake = ctx.children().keys().filter_map(|child| match child {
            SessionChild::Session(key) => Some(key),
            SessionChild::Run(_) => None,
        });
        let open = self.children.values().filter(|child| !child.on_parent_exit.outlives());
        let open = open.map(|child| &child.session);
        let children: BTreeSet<SessionKey> = awake.chain(open).cloned().collect();
        for key in children {
            self.stop_child(&key, None, ctx);
        }
        self.abort_all(cascade, ctx);
        self.advance(ctx);
    }

    fn abort_all(&mut self, cascade: bool, ctx: &mut Ctx<Self>) {
        for row in std::mem::take(&mut self.queue) {
            let active = self.untouched(row);
            self.runs.insert(active.row.id, active);
        }
        let reason = if cascade { "its parent was stopped" } else { "the session was stopped" };
        let still = self.runs.iter().filter(|(_, active)| !active.stage.is_last());
        let still: Vec<RunId> = still.map(|(run, _)| *run).collect();
        for run in still {
            let why = Fate {
                state: Terminal::Cancelled,
                reason: reason.to_owned(),
                origin: Origin::Timer,
                quiet: cascade,
            };
            self.abort(run, why, ctx);
        }
    }

    /// A stop is complete when every run and every child is gone and every result is appended.
    pub(super) fn advance_stop(&mut self, ctx: &mut Ctx<Self>) {
        self.refuse_injected();
        self.check_joined(ctx);
        self.abort_all(true, ctx);
        let leaving = matches!(self.standing, Standing::Stopping { leaving: 1.., .. });
        let busy = leaving
            || !self.runs.is_empty()
            || !self.unsettled.is_empty()
            || !ctx.children().is_empty()
            || !self.children.is_empty()
            || self.accepting > 0
            || self.loading.is_some();
        if busy {
            return;
        }
        // Steering messages that no run can take any more stand in the transcript, unanswered.
        if !self.announces.is_empty() || !self.steers.is_empty() {
            return self.deliver(ctx);
        }
        let Standing::Stopping { replies, ended, .. } =
            std::mem::replace(&mut self.standing, Standing::Asleep)
        else {
            return;
        };
        for reply in replies {
            reply.send(ended.clone());
        }
        self.answer_sleep(true, ctx);
    }
}

/// Leaves each run in the list once: a session answers each of those who told it to stop, its parent and the run
/// that spawned it.
pub(crate) fn name_once(ended: &mut Vec<RunId>) {
    let mut known = BTreeSet::new();
    ended.retain(|run| known.insert(*run));
}

/// The answer to a cancel that came too late.
pub(crate) async fn already_ended(shared: &crate::shared::Shared, run: RunId) -> Result<Stopped, Refusal> {
    match shared.storage.run(run).await {
        Ok(Some(row)) if row.state.is_open() && row.host != shared.host => Err(Refusal::error(
            "other_process",
            format!("run {run} belongs to another process ({})", row.host.as_str()),
        )
        .with_hint("cancel it where it runs")),
        Ok(Some(row)) => Ok(Stopped { ended: Vec::new(), already: row.outcome }),
        Ok(None) => Err(Refusal::unknown_run(run)),
        Err(error) => Err(Refusal::error("store", error.to_string())),
    }
}
