//! What a session commits, and what follows once it is committed.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use super::inbox::Delivery;
use super::inject::{InjectedAt, answer_injected};
use super::results::{announce_of, notify_end, receiver};
use super::taken::Taken;
use super::{Session, SessionChild, SessionMeta, SessionMsg, Stage, name_once};
use crate::kit::Ctx;
use crate::ports::{Announce, AuditRecord, Event, Op, Refused, RunEnd, RunRow, Transaction};
use crate::run::{Continue, RunMsg};
use crate::sessions::Permit;
use crate::shared::Shared;
use crate::store::pause;
use crate::types::{Origin, Outcome, RunId, Terminal, Transcript};

/// Results and steering messages, by their ids.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) announces: BTreeSet<RunId>,
    pub(super) steers: BTreeSet<Uuid>,
}

/// Who closes a run.
#[derive(Debug)]
pub(super) struct Closing {
    /// Whether its parent was stopped too and takes the result without a run.
    pub(super) quiet: bool,
    /// Who asked for it.
    pub(super) origin: Origin,
}

impl Closing {
    /// The run itself, or what became of it.
    pub(super) const OWN: Self = Self { quiet: false, origin: Origin::Timer };
}

/// The end of a run with all that is committed with it.
#[derive(Debug)]
pub(crate) struct End {
    pub(super) row: Box<RunRow>,
    pub(super) end: RunEnd,
    pub(super) announce: Option<Announce>,
    /// Whether the result says what the tree of this session has used.
    pub(super) counted: bool,
    pub(super) taken: Option<Taken>,
    /// The run on results that it leaves.
    pub(super) next: Option<Box<RunRow>>,
    pub(super) audit: Option<AuditRecord>,
}

/// A transaction on its way, with all that is needed when it comes back.
#[derive(Debug)]
pub(crate) enum Ticket {
    /// A run begins, with something appended before its first step.
    Start { run: RunId, taken: Taken, permit: Permit },
    /// Something is appended at a step boundary; without a permit the run has to get one first.
    Boundary { run: RunId, taken: Taken, permit: Option<Permit> },
    /// The run waits for the children of the session.
    Yield { run: RunId },
    /// A run works whose start the store could not take at first.
    Begun { run: RunId },
    /// Results or messages are appended while no run has its turn; `row` is the run that this starts.
    /// `injected` are those who wait for the places of messages in the agent's name.
    Deliver { delivery: Delivery, row: Option<Box<RunRow>>, taken: Taken, injected: Vec<InjectedAt> },
    /// A run ends.
    End(Box<End>),
}

impl Ticket {
    /// Whether it is of a run at a boundary, which waits until the store takes it. Others are made anew.
    const fn waits_for_the_store(&self) -> bool {
        matches!(self, Self::Start { .. } | Self::Boundary { .. } | Self::Yield { .. } | Self::Begun { .. })
    }

    /// Tells everybody else of what is committed. Called by the commit itself, so that no panic of this session
    /// can swallow it.
    fn tell(&self, shared: &Shared, meta: &SessionMeta) {
        let taken = match self {
            Self::Start { taken, .. } | Self::Boundary { taken, .. } | Self::Deliver { taken, .. } => {
                Some(taken)
            }
            Self::End(end) => end.taken.as_ref(),
            Self::Yield { .. } | Self::Begun { .. } => None,
        };
        if let Some(taken) = taken.filter(|taken| !taken.announces.is_empty()) {
            let (session, runs) = (meta.key.clone(), taken.announces.clone());
            shared.publish(Event::Announced { session, runs });
        }
        let appended = || {
            let entries = taken.map(|taken| taken.entries.as_slice()).unwrap_or_default();
            shared.tell_appended(&meta.key, entries);
        };
        match self {
            Self::Deliver { row: Some(row), .. } => {
                super::accept::tell_accepted(shared, meta, row);
                appended();
            }
            Self::Yield { run } => {
                shared.publish(Event::Yielded { session: meta.key.clone(), run: *run });
            }
            Self::End(end) => {
                let model = shared.runs.remove(&end.end.run).map(|(_, cell)| {
                    cell.close();
                    cell.update(|progress| progress.model.clone())
                });
                appended();
                // First, so that a parent that waits never counts too few.
                if let Some(next) = &end.next {
                    super::accept::tell_accepted(shared, meta, next);
                }
                notify_end(shared, &end.row, &end.end, end.announce.clone(), model.as_ref());
            }
            // No event tells of messages that start no run.
            Self::Deliver { row: None, .. } => {
                shared.changed(&meta.key);
                appended();
            }
            Self::Start { .. } | Self::Boundary { .. } => appended(),
            Self::Begun { .. } => {}
        }
    }
}

impl Session {
    pub(super) fn commit(&self, transaction: Transaction, ticket: Ticket, ctx: &Ctx<Self>) {
        let (myself, shared, meta) = (ctx.myself().clone(), Arc::clone(&self.shared), Arc::clone(&self.meta));
        let ticket = Box::new(ticket);
        let kept = ticket.waits_for_the_store().then(|| transaction.clone());
        self.shared.commit(transaction, move |result| {
            if result.is_ok() {
                ticket.tell(&shared, &meta);
            }
            // A session that died reads the outcome from the store when it wakes.
            drop(myself.send(SessionMsg::Committed { ticket, transaction: kept, result }));
        });
    }

    pub(super) fn on_committed(
        &mut self,
        ticket: Ticket,
        transaction: Option<Transaction>,
        result: Result<(), Refused>,
        ctx: &mut Ctx<Self>,
    ) {
        if let Err(Refused::Storage(error)) = &result
            && error.passes()
            && let Some(transaction) = transaction
        {
            tracing::warn!(session = %self.meta.key, %error, "a run waits for the store, will try again");
            self.held.push((transaction, Box::new(ticket)));
            return self.try_again(ctx);
        }
        if result.is_ok() {
            self.retries = 0;
        }
        match (ticket, result) {
            (Ticket::Start { run, taken, permit }, Ok(())) => {
                self.took(&taken);
                self.run_begins(run, taken.transcript, permit, ctx);
            }
            (Ticket::Boundary { run, taken, permit }, Ok(())) => {
                self.took(&taken);
                self.go_on(run, taken.transcript, permit, ctx);
            }
            (Ticket::Yield { run }, Ok(())) => self.yield_begins(run, ctx),
            (Ticket::Begun { .. }, Ok(())) => {}
            (Ticket::Deliver { delivery, row, taken, injected }, Ok(())) => {
                self.took(&taken);
                answer_injected(injected, Ok(()));
                if !self.is_delivered(&delivery) {
                    return self.advance(ctx);
                }
                self.next = None;
                self.transcript = Some(taken.transcript);
                if let Some(row) = row.filter(|row| !self.knows(row.id)) {
                    self.queue.push_front(row);
                }
                self.advance(ctx);
            }
            (Ticket::End(end), Ok(())) => self.ended(*end, ctx),
            (Ticket::End(mut end), Err(Refused::Ended { state, .. })) => {
                // Somebody else was first, and told whoever had to know.
                self.used = None;
                end.end.outcome.state = state;
                end.announce = None;
                end.next = None;
                // Nothing was appended with it.
                end.taken = None;
                self.suspect_inbox(ctx);
                self.ended(*end, ctx);
            }
            (Ticket::End(end), Err(Refused::Moved { to, .. })) => {
                self.hang_below(to);
                self.commit_end(end, ctx);
            }
            (Ticket::End(end), Err(refused)) => self.end_refused(end, &refused, ctx),
            (Ticket::Deliver { delivery, injected, .. }, Err(refused)) => {
                answer_injected(injected, Err(&refused));
                if !self.is_delivered(&delivery) {
                    return self.advance(ctx);
                }
                self.next = None;
                if let Refused::Moved { to, .. } = &refused {
                    self.hang_below(to.clone());
                }
                tracing::warn!(session = %self.meta.key, %refused, "results could not be appended, will try again");
                self.suspect_inbox(ctx);
                self.doubt(&refused, ctx);
                self.try_again(ctx);
            }
            (
                Ticket::Start { run, .. }
                | Ticket::Boundary { run, .. }
                | Ticket::Yield { run }
                | Ticket::Begun { run },
                Err(refused),
            ) => {
                self.transcript = None;
                self.fail_run(run, format!("the store refused to go on: {refused}"), ctx);
            }
        }
    }

    /// What has arrived may not be what is stored: the next read tells. One that is under way may be older than what has
    /// arrived.
    fn suspect_inbox(&mut self, ctx: &Ctx<Self>) {
        self.transcript = None;
        self.suspect = Some(self.inbox());
        if self.loading.is_some() {
            self.read_again(None, ctx);
        }
    }

    /// Forgets what a transaction took out of the inbox.
    fn took(&mut self, taken: &Taken) {
        if self.loading.is_some() {
            self.meanwhile.announces.extend(&taken.announces);
            self.meanwhile.steers.extend(&taken.steers);
        }
        self.announces.forget(taken.announces.iter().copied());
        for run in &taken.announces {
            // One that was found in the store: the word that it has ended may come yet.
            self.children.remove(run);
        }
        if !taken.steers.is_empty() {
            self.steers.retain(|steer| !taken.steers.contains(&steer.id));
        }
    }

    /// Commits the end of a run. `taken` is what is appended with it.
    pub(super) fn end_run(
        &mut self,
        row: Box<RunRow>,
        outcome: Outcome,
        closing: Closing,
        taken: Option<Taken>,
        ctx: &Ctx<Self>,
    ) {
        let at = ctx.system().clock.now();
        let (usage, steps, started) = self.shared.runs.get(&row.id).map_or_else(
            || (row.usage, row.steps, row.started_at),
            |cell| cell.update(|progress| (progress.usage, progress.steps, progress.started_at)),
        );
        let end = RunEnd { run: row.id, outcome, usage, steps, at };
        let (label, cleanup) = (self.meta.label.as_ref(), self.meta.cleanup);
        let used = self.used.unwrap_or_default() + usage;
        let to = receiver(&row, self.meta.outlived.as_ref());
        let announce = announce_of(&row, to, &end, started, closing.quiet, used, label, cleanup);
        let counted = announce.is_none() || self.used.is_some();
        // A stop is on record once, by its own name, and not again for each run that it ends.
        let asked_for = end.outcome.state == Terminal::Cancelled && closing.origin != Origin::Timer;
        let audit = asked_for.then(|| AuditRecord {
            at,
            event: "run.cancelled",
            origin: closing.origin,
            session: Some(row.session.clone()),
            run: Some(row.id),
            facts: end.outcome.reason.iter().map(|reason| ("reason", reason.clone())).collect(),
        });
        let next =
            if row.announce_to.is_some() { self.next_on_results(row.id, taken.as_ref(), ctx) } else { None };
        let end = Box::new(End { row, end, announce, counted, taken, next, audit });
        self.commit_end(end, ctx);
    }

    pub(super) fn commit_end(&mut self, mut end: Box<End>, ctx: &Ctx<Self>) {
        if !end.counted {
            return self.count(end, ctx);
        }
        if self.meta.on_parent_exit.outlives() {
            self.readdress(&mut end);
        }
        let mut transaction = Transaction::new();
        self.expect_parent(&mut transaction, Some(&end.row));
        if let Some(taken) = &end.taken {
            taken.ops(&self.meta.key, Some(end.end.run), &mut transaction);
            transaction.extend(taken.step(end.end.run, end.end.steps, end.end.usage));
        }
        transaction.extend(end.next.iter().map(|next| Op::InsertRun(next.clone())));
        transaction.push(Op::EndRun(Box::new(end.end.clone())));
        match &end.announce {
            Some(announce) => {
                transaction.push(Op::QueueAnnounce(Box::new(announce.clone())));
                if end.row.announce_to.is_none() {
                    transaction.push(Op::AbandonAnnounce { run: end.end.run });
                }
            }
            // A child that announces nothing is deleted by itself.
            None if (end.row.announce_to.is_some() || self.meta.outlived.is_some())
                && self.deletes_at_once(self.meta.cleanup) =>
            {
                transaction.push(Op::DeleteSession { session: self.meta.key.clone(), with_parents: true });
            }
            None => {}
        }
        transaction.extend(end.audit.iter().map(|audit| Op::Audit(Box::new(audit.clone()))));
        #[cfg(feature = "faults")]
        if ctx.system().has_bug(crate::kit::Bug::AnnounceBeforeCommit)
            && let (Some(announce), Some(parent)) = (&end.announce, &end.row.announce_to)
        {
            let announce = Some(Box::new(announce.clone()));
            let message = SessionMsg::ChildEnded { run: end.end.run, announce };
            self.shared.deliver(parent, message);
        }
        if let Some(active) = self.runs.get_mut(&end.end.run) {
            active.stage = Stage::Ending { retry: None };
            active.cell.update(|progress| progress.phase = crate::run::Phase::Ending);
        }
        self.commit(transaction, Ticket::End(end), ctx);
    }

    /// The store could not take a run's end: nothing may be lost, so it is asked again until it can.
    fn end_refused(&mut self, mut end: Box<End>, refused: &Refused, ctx: &mut Ctx<Self>) {
        tracing::warn!(run = %end.end.run, %refused, "the end of a run could not be committed, will try again");
        if matches!(refused, Refused::Conflict(_)) {
            // What it wanted to append does not fit; the end itself must not wait for that.
            end.taken = None;
            end.next = None;
            self.lent = self.lent.filter(|lent| *lent != end.end.run);
            self.suspect_inbox(ctx);
        }
        self.end_later(end, ctx);
    }

    /// Sees to it that the result is for whom it is to be by now: the session may have outlived its parent since the end
    /// was decided.
    fn readdress(&self, end: &mut End) {
        let to = &self.meta.parent;
        let rows = [Some(&mut end.row), end.next.as_mut()].into_iter().flatten();
        for row in rows.filter(|row| row.announce_to.is_some()) {
            row.announce_to.clone_from(to);
        }
        if let (Some(announce), Some(to)) = (&mut end.announce, to.as_ref().or(self.meta.outlived.as_ref())) {
            announce.to.clone_from(to);
        }
    }

    pub(super) fn end_later(&mut self, end: Box<End>, ctx: &Ctx<Self>) {
        match self.runs.get_mut(&end.end.run) {
            Some(active) => active.stage = Stage::Ending { retry: Some(Box::new(Ticket::End(end))) },
            None => self.unsettled.push(end),
        }
        self.try_again(ctx);
    }

    /// Whether the run of a ticket still stands where the ticket left it.
    fn is_awaited(&self, ticket: &Ticket) -> bool {
        let stage = |run: &RunId| self.runs.get(run).map(|active| &active.stage);
        match ticket {
            Ticket::Start { run, .. } => matches!(stage(run), Some(Stage::Starting)),
            Ticket::Boundary { run, .. } => matches!(stage(run), Some(Stage::Boundary)),
            Ticket::Yield { run } => matches!(stage(run), Some(Stage::Yielding)),
            // One that waits for its children would be woken by it; one that made a step runs in the store as well.
            Ticket::Begun { run } => matches!(stage(run), Some(Stage::Running)),
            Ticket::Deliver { .. } | Ticket::End(_) => false,
        }
    }

    /// Asks the store again after a while.
    pub(super) fn try_again(&mut self, ctx: &Ctx<Self>) {
        if self.retry.is_none() {
            self.retries = self.retries.saturating_add(1);
            let pause = pause(self.retries, ctx.system());
            self.retry = Some(ctx.after(pause, SessionMsg::Retry));
        }
    }

    pub(super) fn on_retry(&mut self, ctx: &mut Ctx<Self>) {
        self.retry = None;
        let mut ends = std::mem::take(&mut self.unsettled);
        for active in self.runs.values_mut() {
            if let Stage::Ending { retry } = &mut active.stage
                && let Some(ticket) = retry.take()
                && let Ticket::End(end) = *ticket
            {
                ends.push(end);
            }
        }
        for end in ends {
            self.commit_end(end, ctx);
        }
        for (transaction, ticket) in std::mem::take(&mut self.held) {
            // One whose run was aborted meanwhile is dropped: the run ends without it.
            if self.is_awaited(&ticket) {
                self.commit(transaction, *ticket, ctx);
            }
        }
        if self.inheriting.is_some() {
            self.load(ctx);
        }
        // What waits for the session to be read again.
        self.resume_loading(ctx);
        self.check_joined(ctx);
        self.advance(ctx);
    }

    /// A run's end is committed and told: the next one has its turn.
    fn ended(&mut self, end: End, ctx: &mut Ctx<Self>) {
        let End { end, taken, next, .. } = end;
        let run = end.run;
        self.used = self.used.map(|used| used + end.usage);
        if let Some(taken) = taken {
            self.took(&taken);
            self.transcript = Some(taken.transcript);
        }
        ctx.children_mut().kill(&SessionChild::Run(run));
        self.shared.runs.remove(&run);
        let active = self.runs.remove(&run);
        self.queue.extend(next.filter(|next| !self.knows(next.id)));
        if self.current == Some(run) {
            self.current = None;
        }
        if self.yielded == Some(run) {
            self.yielded = None;
        }
        let mut stopped = vec![run];
        if let Some(active) = active {
            stopped.splice(0..0, active.stopped);
            name_once(&mut stopped);
            for reply in active.cancels {
                let already = (end.outcome.state != Terminal::Cancelled).then(|| end.outcome.clone());
                let ended = if already.is_some() { Vec::new() } else { stopped.clone() };
                reply.send(Ok(crate::tree::Stopped { ended, already }));
            }
        }
        if let super::Standing::Stopping { ended, .. } = &mut self.standing {
            ended.append(&mut stopped);
        }
        self.given_back(run, ctx);
        self.advance(ctx);
    }

    /// The run goes on with the transcript; it gets its permit back first if it gave it away.
    pub(super) fn go_on(
        &mut self,
        run: RunId,
        transcript: Transcript,
        permit: Option<Permit>,
        ctx: &mut Ctx<Self>,
    ) {
        let now = ctx.system().clock.monotonic();
        let Some(active) = self.runs.get_mut(&run) else { return self.transcript = Some(transcript) };
        if !matches!(active.stage, Stage::Boundary | Stage::Queued) {
            self.transcript = Some(transcript);
            return self.advance(ctx);
        }
        // A tree that suspends its runs lets none begin another step.
        let Some(permit) = permit.filter(|_| !self.shared.is_suspending()) else {
            self.transcript = Some(transcript);
            return self.queue_again(run, ctx);
        };
        active.stage = Stage::Running;
        active.cell.update(|progress| progress.phase = crate::run::Phase::Running);
        let soft_at = active.cell.deadline(|deadline| {
            deadline.run(now);
            deadline.soft_at(now)
        });
        Self::arm(active, ctx);
        if let Some(handle) = Self::run_handle(ctx, run) {
            // A run that died meanwhile is noticed as a child that exited.
            let word = Continue { epoch: self.epoch, transcript, permit, soft_at };
            drop(handle.send(RunMsg::Continue(Box::new(word))));
        }
    }
}
