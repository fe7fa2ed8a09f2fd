//! Whose turn it is in a session, and what a run reports while it has it.

use std::sync::Arc;

use super::commit::Ticket;
use super::{Active, Fate, Session, SessionChild, SessionMsg, Stage, Standing};
use crate::kit::{ChildSpec, Ctx, Exit, Reply};
use crate::ports::{Event, Op, Refused, Transaction};
use crate::run::{Phase, Report, ReportKind, Run, RunArgs};
use crate::sessions::{LaneName, Permit, SessionsMsg};
use crate::types::{Entry, Mode, Origin, Outcome, RunId, Terminal, Transcript};

/// A run has nothing to finish: its tasks are aborted when it is dropped.
const STOP_RUN_WITHIN: std::time::Duration = std::time::Duration::from_millis(100);

/// How long the manager has at least for the answer to a wish to sleep.
const ASK_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

impl Session {
    /// Does the next thing that can be done. Called after every change.
    pub(super) fn advance(&mut self, ctx: &mut Ctx<Self>) {
        if matches!(self.standing, Standing::Asleep) || self.delivering.is_some() || self.retry.is_some() {
            return;
        }
        if matches!(self.standing, Standing::Stopping { .. }) {
            return self.advance_stop(ctx);
        }
        if self.current.is_some() {
            return;
        }
        let woken = self.yielded.filter(|run| {
            self.children.is_empty()
                && self.inheriting.is_none()
                && self.runs.get(run).is_some_and(|active| matches!(active.stage, Stage::Yielded))
        });
        if let Some(run) = woken {
            self.wake_yielded(run, ctx);
        } else if let Some(row) = self.queue.pop_front() {
            self.take_turn(row, ctx);
        } else if self.has_news() {
            self.deliver(ctx);
        } else if !self.injected.is_empty() {
            self.append_injected(ctx);
        } else {
            self.rest(ctx);
        }
    }

    /// Whether something waits that is not held back for a run that waits for all children.
    fn has_news(&self) -> bool {
        !self.steers.is_empty() || (!self.announces.is_empty() && self.yielded.is_none())
    }

    /// An accepted run leaves the queue and waits for its place in the lane.
    fn take_turn(&mut self, row: Box<crate::ports::RunRow>, ctx: &Ctx<Self>) {
        let run = row.id;
        let active = self.untouched(row);
        let resume = active.cell.is_to_be_resumed();
        self.shared.runs.insert(run, Arc::clone(&active.cell));
        self.shared.book.has_turn(run);
        self.sleep = None;
        self.runs.insert(run, active);
        self.current = Some(run);
        self.ask_permit(run, resume, ctx);
    }

    fn ask_permit(&self, run: RunId, resume: bool, ctx: &Ctx<Self>) {
        let myself = ctx.myself().clone();
        let grant = Reply::to(move |permit| {
            // A permit that finds nobody is dropped, and so goes back.
            drop(myself.send(SessionMsg::Granted { run, permit }));
        });
        let lane = if self.meta.depth == 0 { LaneName::Main } else { LaneName::Subagent };
        let fair = self.meta.parent.clone().unwrap_or_else(|| self.meta.key.clone());
        self.tell_manager(SessionsMsg::Acquire { lane, fair, run, resume, grant });
    }

    /// A run that gave its permit away queues for it again, ahead of new ones; its clock stands meanwhile.
    pub(super) fn queue_again(&mut self, run: RunId, ctx: &Ctx<Self>) {
        let now = ctx.system().clock.monotonic();
        if let Some(active) = self.runs.get_mut(&run) {
            active.stage = Stage::Queued;
            active.cell.deadline(|deadline| deadline.pause(now));
            active.timer = None;
            active.cell.update(|progress| progress.phase = Phase::Queued);
            self.ask_permit(run, true, ctx);
        }
    }

    /// The manager was rebuilt: what it had for this session, a stop perhaps, is lost. A run that has not begun may
    /// have been ended in the store, and does not begin before that is known.
    pub(super) fn on_hello(&mut self, ctx: &mut Ctx<Self>) {
        self.say_up(ctx);
        if matches!(self.standing, Standing::Stopping { .. }) {
            self.bequeath();
        }
        if let Some(run) = self.current.filter(|run| self.has_not_begun(*run, ctx)) {
            self.transcript = None;
            // What is being read may be older than what was lost.
            self.read_again(Some(run), ctx);
        }
        self.ask_permits(ctx);
    }

    fn has_not_begun(&self, run: RunId, ctx: &Ctx<Self>) -> bool {
        let stage = self.runs.get(&run).map(|active| &active.stage);
        matches!(stage, Some(Stage::Queued | Stage::Loading(_))) && Self::run_handle(ctx, run).is_none()
    }

    /// Drops a run that has not begun and is not open any more. Whoever ended it told whoever had to know.
    pub(super) fn drop_ended(&mut self, run: RunId, ctx: &Ctx<Self>) {
        if !self.has_not_begun(run, ctx) {
            return;
        }
        self.shared.runs.remove(&run);
        self.tell_manager(SessionsMsg::Forget { run });
        self.current = self.current.filter(|current| *current != run);
        for reply in self.runs.remove(&run).into_iter().flat_map(|active| active.cancels) {
            let shared = Arc::clone(&self.shared);
            // Detached: the answer is the caller's, whatever becomes of this session.
            tokio::spawn(async move { reply.send(super::already_ended(&shared, run).await) });
        }
    }

    pub(super) fn ask_permits(&self, ctx: &Ctx<Self>) {
        for (run, active) in &self.runs {
            if matches!(active.stage, Stage::Queued) {
                self.ask_permit(*run, Self::run_handle(ctx, *run).is_some(), ctx);
            } else if let Some(handle) = Self::run_handle(ctx, *run) {
                drop(handle.send(crate::run::RunMsg::LanesReset));
            }
        }
    }

    pub(super) fn on_granted(&mut self, run: RunId, permit: Permit, ctx: &mut Ctx<Self>) {
        let Some(active) = self.runs.get_mut(&run) else { return };
        if !matches!(active.stage, Stage::Queued) {
            return;
        }
        if Self::run_handle(ctx, run).is_some() {
            let Some(transcript) = self.transcript.take() else {
                active.stage = Stage::Loading(permit);
                return self.load(ctx);
            };
            return self.go_on(run, transcript, Some(permit), ctx);
        }
        active.stage = Stage::Loading(permit);
        self.resume_loading(ctx);
    }

    /// Goes on with the run that has its place and needs the transcript.
    pub(super) fn resume_loading(&mut self, ctx: &mut Ctx<Self>) {
        let Some(run) = self.current else { return };
        let Some(active) = self.runs.get_mut(&run) else { return };
        if !matches!(active.stage, Stage::Loading(_)) {
            return;
        }
        let Some(transcript) = self.transcript.take() else { return self.load(ctx) };
        let Stage::Loading(permit) = std::mem::replace(&mut active.stage, Stage::Starting) else { return };
        if Self::run_handle(ctx, run).is_some() {
            active.stage = Stage::Boundary;
            return self.go_on(run, transcript, Some(permit), ctx);
        }
        self.begin(run, transcript, permit, ctx);
    }

    /// Commits a run's start. What has arrived meanwhile and the run's own message are appended with it; where
    /// there is nothing to append, the run does not wait for the commit.
    fn begin(&mut self, run: RunId, transcript: Transcript, permit: Permit, ctx: &mut Ctx<Self>) {
        let at = ctx.system().clock.now();
        let Some(active) = self.runs.get_mut(&run) else { return self.transcript = Some(transcript) };
        if active.cell.is_to_be_resumed() {
            // What has arrived waits for the boundary: its last step may lack results.
            return self.run_begins(run, transcript, permit, ctx);
        }
        let input = active.row.input.take();
        let fresh = self.shared.has_accepted(active.row.accepted_at);
        let taken = self.take_inbox(transcript, Some(run), input, self.due(), ctx);
        let mut transaction = vec![Op::StartRun { run, at }];
        taken.ops(&self.meta.key, Some(run), &mut transaction);
        // One that a daemon accepted which died may be what it died of: that it begins is counted first. Where the store
        // is known to refuse, a run waits with its first call until it does not.
        if fresh && taken.entries.is_empty() && self.shared.storage.health().refuses.is_none() {
            let myself = ctx.myself().clone();
            self.shared.commit(transaction, move |result| {
                if let Err(refused) = result {
                    // A session that is gone takes the run with it.
                    drop(myself.send(SessionMsg::StartRefused { run, refused }));
                }
            });
            return self.run_begins(run, taken.transcript, permit, ctx);
        }
        self.commit(transaction, Ticket::Start { run, taken, permit }, ctx);
    }

    pub(super) fn run_begins(
        &mut self,
        run: RunId,
        transcript: Transcript,
        permit: Permit,
        ctx: &mut Ctx<Self>,
    ) {
        let (now, at) = (ctx.system().clock.monotonic(), ctx.system().clock.now());
        let Some(active) = self.runs.get_mut(&run) else { return self.transcript = Some(transcript) };
        if !matches!(active.stage, Stage::Starting) {
            self.transcript = Some(transcript);
            return self.advance(ctx);
        }
        active.stage = Stage::Running;
        let at = *active.row.started_at.get_or_insert(at);
        let cell = Arc::clone(&active.cell);
        let resumed = cell.is_to_be_resumed();
        let model = active.row.model.clone();
        let (soft_at, limit) = active.cell.deadline(|deadline| {
            deadline.run(now);
            (deadline.soft_at(now), deadline.limit())
        });
        active.cell.update(|progress| {
            progress.phase = Phase::Running;
            progress.started_at = Some(at);
        });
        Self::arm(active, ctx);
        self.shared.publish(Event::Started { session: self.meta.key.clone(), run });
        let settings = self.shared.settings();
        let prompt = settings.agent(&self.meta.agent).and_then(|agent| agent.system_prompt.clone());
        let args = RunArgs {
            shared: Arc::clone(&self.shared),
            session: ctx.myself().clone(),
            meta: Arc::clone(&self.meta),
            model,
            limits: settings.runs,
            cell: Arc::clone(&cell),
            soft_at,
            limit,
            system: super::prompts::system(&self.meta, prompt.as_deref(), settings.subagents.max_depth),
            tools: self.tool_specs(),
            first: Some((transcript, permit)),
            epoch: self.epoch,
            resumed,
        };
        let name: Arc<str> = format!("run {run}").into();
        let child = SessionChild::Run(run);
        match ctx.spawn::<Run>(child, name, ChildSpec::alike(STOP_RUN_WITHIN), args) {
            Ok(_) => cell.begin(),
            Err(error) => self.fail_run(run, error.to_string(), ctx),
        }
    }

    /// A run works whose start the store did not take: it must not end as one that never began.
    pub(super) fn on_start_refused(&mut self, run: RunId, refused: &Refused, ctx: &mut Ctx<Self>) {
        if let Refused::Storage(error) = refused
            && error.passes()
        {
            let at = ctx.system().clock.now();
            self.held.push((vec![Op::StartRun { run, at }], Box::new(Ticket::Begun { run })));
            return self.try_again(ctx);
        }
        self.fail_run(run, format!("the store refused the start of the run: {refused}"), ctx);
    }

    /// A run works but has no permit after a pause: its clock, which the run itself sets, stands until it has.
    pub(super) fn on_queueing(&mut self, run: RunId, queueing: bool, ctx: &Ctx<Self>) {
        let Some(active) = self.runs.get_mut(&run) else { return };
        if !matches!(active.stage, Stage::Running) {
            return;
        }
        Self::arm(active, ctx);
        let phase = if queueing { Phase::Queued } else { Phase::Running };
        active.cell.update(|progress| progress.phase = phase);
    }

    pub(super) fn on_report(&mut self, run: RunId, report: Report, ctx: &mut Ctx<Self>) {
        let Report { epoch, transcript, permit, kind } = report;
        let Some(active) = self.runs.get_mut(&run) else { return };
        if !matches!(active.stage, Stage::Running) || epoch != self.epoch {
            return;
        }
        // After a rebuild the store may hold what the run has not seen.
        let own = [self.transcript.take(), self.reread.take()].into_iter().flatten();
        let newest = own.max_by_key(Transcript::next_seq);
        let newest = newest.filter(|own| own.next_seq() > transcript.next_seq());
        let answered_before = newest.is_some();
        let transcript = newest.unwrap_or(transcript);
        match kind {
            // One run at a time waits for the children: another one that asks to goes on without.
            ReportKind::Boundary { wants_to_wait: true }
                if self.yielded.is_none() && !self.children.is_empty() =>
            {
                active.stage = Stage::Yielding;
                let mut transaction = vec![Op::YieldRun { run }];
                transaction.extend(active.cell.time(ctx.system().clock.monotonic()));
                transaction.extend(active.cell.rests());
                self.transcript = Some(transcript);
                drop(permit);
                self.commit(transaction, Ticket::Yield { run }, ctx);
            }
            ReportKind::Boundary { .. } => self.boundary(run, transcript, permit, None, ctx),
            // What it is to go on with is in the transcript, after the answer.
            ReportKind::Answered { .. } if answered_before => {
                self.boundary(run, transcript, permit, None, ctx);
            }
            ReportKind::Answered { entry, .. } if !self.steers.is_empty() => {
                self.boundary(run, transcript, permit, Some(entry), ctx);
            }
            ReportKind::Answered { entry, cut } => {
                drop(permit);
                let text = match &entry {
                    Entry::Assistant { text, .. } => text.clone(),
                    _ => String::new(),
                };
                let outcome = match cut {
                    None => Outcome::ok(text),
                    Some(reason) => Outcome::ended(Terminal::Partial, reason, Some(text)),
                };
                self.finish(run, outcome, transcript, Some(entry), ctx);
            }
            ReportKind::Failed { state, reason } => {
                drop(permit);
                let partial = active.cell.partial();
                self.finish(run, Outcome::ended(state, reason, partial), transcript, None, ctx);
            }
            // The next run gets the transcript as the store has it.
            ReportKind::Refused { reason } => {
                drop(permit);
                let (row, partial) = (active.row.clone(), active.cell.partial());
                let outcome = Outcome::ended(Terminal::Error, reason, partial);
                self.end_run(row, outcome, super::commit::Closing::OWN, None, ctx);
            }
        }
    }

    /// A step boundary: what has arrived is appended, then the run goes on.
    fn boundary(
        &mut self,
        run: RunId,
        transcript: Transcript,
        permit: Option<Permit>,
        answer: Option<Entry>,
        ctx: &mut Ctx<Self>,
    ) {
        let Some(active) = self.runs.get_mut(&run) else { return };
        active.stage = Stage::Boundary;
        let (steps, usage) = active.cell.update(|progress| (progress.steps, progress.usage));
        if answer.is_none() && !self.has_news() {
            return self.go_on(run, transcript, permit, ctx);
        }
        let at = ctx.system().clock.now();
        let mut transcript = transcript;
        let answer = answer.map(|answer| transcript.push(Some(run), at, answer));
        let mut taken = self.take_inbox(transcript, Some(run), None, self.due(), ctx);
        taken.entries.splice(0..0, answer);
        let mut transaction = Transaction::new();
        taken.ops(&self.meta.key, Some(run), &mut transaction);
        transaction.extend(taken.step(run, steps, usage));
        self.commit(transaction, Ticket::Boundary { run, taken, permit }, ctx);
    }

    /// A run that came to its own end.
    fn finish(
        &mut self,
        run: RunId,
        outcome: Outcome,
        mut transcript: Transcript,
        answer: Option<Entry>,
        ctx: &mut Ctx<Self>,
    ) {
        let Some(active) = self.runs.get(&run) else { return };
        let row = active.row.clone();
        let at = ctx.system().clock.now();
        let entries: Vec<_> = answer.map(|entry| transcript.push(Some(run), at, entry)).into_iter().collect();
        let taken = super::taken::Taken { entries, transcript, ..Default::default() };
        self.end_run(row, outcome, super::commit::Closing::OWN, Some(taken), ctx);
    }

    /// A run that cannot go on through no fault of its model.
    pub(super) fn fail_run(&mut self, run: RunId, reason: String, ctx: &mut Ctx<Self>) {
        self.abort(run, Fate { state: Terminal::Error, reason, quiet: false, origin: Origin::Timer }, ctx);
    }

    pub(super) fn on_run_exited(&mut self, run: RunId, exit: Exit, ctx: &mut Ctx<Self>) {
        let Some(active) = self.runs.get(&run) else { return self.advance(ctx) };
        match active.stage {
            Stage::Counting { .. } | Stage::Ending { .. } => return,
            Stage::Joining => {
                self.check_joined(ctx);
                return self.advance(ctx);
            }
            _ => {}
        }
        let reason = match exit {
            Exit::Failed(reason) => reason,
            other => other.to_string(),
        };
        self.abort(run, Fate { state: Terminal::Crashed, reason, quiet: false, origin: Origin::Timer }, ctx);
    }

    pub(super) fn on_hard_deadline(&mut self, run: RunId, ctx: &mut Ctx<Self>) {
        let Some(active) = self.runs.get(&run) else { return };
        let now = ctx.system().clock.monotonic();
        let (limit, left) = active.cell.deadline(|deadline| (deadline.limit(), deadline.left(now)));
        if left.is_some_and(|left| left.is_zero()) {
            let limit = limit.unwrap_or_default();
            let reason = format!("the run took longer than its limit of {} s", limit.as_secs_f64());
            self.abort(
                run,
                Fate { state: Terminal::Timeout, reason, quiet: false, origin: Origin::Timer },
                ctx,
            );
        }
    }

    /// Sets the timer of the hard deadline, unless the run's clock stands.
    pub(super) fn arm(active: &mut Active, ctx: &Ctx<Self>) {
        let now = ctx.system().clock.monotonic();
        let run = active.row.id;
        let left = active.cell.deadline(|deadline| deadline.left(now).filter(|_| deadline.runs()));
        active.timer = left.map(|left| ctx.after(left, SessionMsg::HardDeadline { run }));
    }

    /// Nothing is left to do: asks the manager for sleep after a while, at once where nobody will come back.
    fn rest(&mut self, ctx: &mut Ctx<Self>) {
        if !self.is_quiet(ctx) {
            return;
        }
        if self.sleep.is_some() {
            return;
        }
        if self.meta.depth > 0 && self.meta.mode == Mode::Run {
            self.on_quiet(ctx);
        } else {
            self.sleep = Some(ctx.after(self.shared.settings().sleep_after, SessionMsg::Quiet));
        }
    }

    pub(super) fn is_quiet(&self, ctx: &Ctx<Self>) -> bool {
        self.runs.is_empty()
            && self.queue.is_empty()
            && self.unsettled.is_empty()
            && self.children.is_empty()
            && ctx.children().is_empty()
            && self.accepting == 0
            && self.delivering.is_none()
            && !self.has_news()
            && self.injected.is_empty()
            && self.loading.is_none()
            && self.inheriting.is_none()
    }

    /// Asks the manager for sleep, and again later if that came to nothing: the manager may know of a spawn that
    /// is being committed, or may have lost the message to a panic.
    pub(super) fn on_quiet(&mut self, ctx: &Ctx<Self>) {
        self.sleep = None;
        if self.is_quiet(ctx) {
            self.tell_manager(SessionsMsg::Quiet { key: self.meta.key.clone() });
            let pause = self.shared.settings().sleep_after.max(ASK_AGAIN_AFTER);
            self.sleep = Some(ctx.after(pause, SessionMsg::Quiet));
        }
    }

    /// The manager has closed the way in; what still came before it has been handled.
    pub(super) fn on_sleep(&mut self, ctx: &mut Ctx<Self>) {
        let agreed = self.is_quiet(ctx) && matches!(self.standing, Standing::Open);
        if agreed {
            self.standing = Standing::Asleep;
            self.sleep = None;
        }
        self.answer_sleep(agreed, ctx);
        if !agreed {
            self.advance(ctx);
        }
    }

    pub(super) fn answer_sleep(&self, agreed: bool, ctx: &Ctx<Self>) {
        let (meta, handle) = (Arc::clone(&self.meta), ctx.myself().clone());
        self.tell_manager(SessionsMsg::SleepAnswer { meta, handle, agreed });
    }
}
