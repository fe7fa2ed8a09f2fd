//! What arrives for a session from its children and its clients, and how it enters the transcript.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::{Inbox, Ticket};
use super::prompts::NOTHING_REPORTED;
use super::taken::Taken;
use super::{Active, Session, SessionArgs, SessionChild, SessionMsg, Stage, Standing};
use crate::kit::{ChildSpec, Ctx};
use crate::ports::{Announce, Cause, Op, OpenRun, Refused, RunRow, StoreError, StoredSession, Transaction};
use crate::run::Fate;
use crate::sessions::SessionsMsg;
use crate::types::{Cleanup, Entry, RunId, SessionKey, Transcript};

/// A child session may have a stop of its own subtree to finish.
pub(super) const STOP_CHILD_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// Stands for one transaction that changes the transcript while no run has its turn. What comes back of one that was sent
/// before a panic is known from the store since, and maybe more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Delivery(Arc<()>);

/// Stands for one read of the session. What comes of one that was given up may be older than what is known since.
#[derive(Debug, Clone, Default)]
pub(crate) struct Read(Arc<()>);

/// Which part of what has arrived is taken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Due {
    /// All of it.
    All,
    /// What clients said.
    Steers,
    /// The results that nobody is to be woken for, of children that this run spawned.
    QuietOf(RunId),
}

impl Due {
    pub(super) fn takes(self, announce: &Announce) -> bool {
        match self {
            Self::All => true,
            Self::Steers => false,
            Self::QuietOf(run) => announce.quiet && announce.spawner == Some(run),
        }
    }
}

impl Session {
    pub(super) fn on_start_child(&mut self, args: SessionArgs, ctx: &mut Ctx<Self>) {
        if !args.wanted.load(Ordering::Acquire) {
            return;
        }
        let key: SessionKey = args.meta.key.clone();
        let child = SessionChild::Session(key.clone());
        let (name, outlives): (Arc<str>, _) = (key.as_str().into(), args.meta.on_parent_exit.outlives());
        if let Some(handle) = ctx.children().handle::<SessionMsg>(&child) {
            // It lives, or is about to end; either way it says so.
            drop(handle.send(SessionMsg::Hello));
            return;
        }
        if let Err(error) = ctx.spawn::<Self>(child, name, ChildSpec::alike(STOP_CHILD_WITHIN), args) {
            self.tell_manager(SessionsMsg::Down { key, failure: Some(error.to_string()) });
        } else if matches!(self.standing, Standing::Stopping { .. }) && !outlives {
            self.stop_child(&key, None, ctx);
        }
    }

    pub(super) fn on_child_opened(&mut self, open: OpenRun, ctx: &Ctx<Self>) {
        let spawner = open.spawner.and_then(|run| self.runs.get_mut(&run));
        // It was asked for by a run that was cancelled meanwhile.
        let fated = |active: &&mut Box<Active>| active.cell.fate.get().is_some_and(Fate::stops_children);
        if let Some(active) = spawner.filter(fated).filter(|_| !open.on_parent_exit.outlives()) {
            active.stopping += 1;
            self.stop_child(&open.session, open.spawner, ctx);
        }
        if open.on_parent_exit.outlives() && matches!(self.standing, Standing::Stopping { .. }) {
            self.bequeath();
        }
        self.used = None;
        // The word may have waited while the session was away, and the run may have ended since.
        if self.shared.is_open(open.run) && !self.announces.contains(open.run) {
            self.children.insert(open.run, open);
        }
    }

    pub(super) fn on_child_ended(
        &mut self,
        run: RunId,
        announce: Option<Box<Announce>>,
        ctx: &mut Ctx<Self>,
    ) {
        let was_open = self.children.remove(&run).is_some();
        self.note_ended(run);
        if let Some(announce) = announce
            && !self.announces.contains(run)
        {
            if was_open {
                self.announces.add(*announce);
            } else {
                // After a rebuild it may be taken already; the store knows. What is being read may be older than the end.
                self.read_again(None, ctx);
            }
        }
        self.check_joined(ctx);
        self.advance(ctx);
    }

    /// The run on the results that `ending` leaves when it ends. It is committed with that end: it belongs to what
    /// the parent waits for, which must not see this session without an open run in between.
    pub(super) fn next_on_results(
        &self,
        ending: RunId,
        taken: Option<&Taken>,
        ctx: &Ctx<Self>,
    ) -> Option<Box<RunRow>> {
        let taken: BTreeSet<RunId> = taken.iter().flat_map(|taken| taken.announces.iter().copied()).collect();
        let left = |announce: &Announce| !announce.quiet && !taken.contains(&announce.item.run);
        let due = matches!(self.standing, Standing::Open)
            && self.yielded.is_none_or(|yielded| yielded == ending)
            && self.queue.is_empty()
            && self.suspect.is_none()
            && self.announces.iter().any(left);
        if due { self.new_row_of(Cause::Announce, ctx).map(Box::new) } else { None }
    }

    /// Whether results wait that nobody is to be woken for.
    pub(super) fn only_quiet(&self) -> bool {
        self.steers.is_empty() && self.announces.iter().all(|announce| announce.quiet)
    }

    /// What may enter the transcript now: results are kept for a run that waits for the children.
    pub(super) const fn due(&self) -> Due {
        if self.yielded.is_some() { Due::Steers } else { Due::All }
    }

    /// Whether a child session goes with its result. One that is exported first goes once that is done.
    pub(super) fn deletes_at_once(&self, cleanup: Cleanup) -> bool {
        cleanup == Cleanup::Delete && !self.shared.settings().retention.export_deleted
    }

    /// Takes what is due onto the end of `transcript`, as part of `run`, and `input`, the run's own message,
    /// after the results and before what was said to the run.
    pub(super) fn take_inbox(
        &self,
        mut transcript: Transcript,
        run: Option<RunId>,
        input: Option<Entry>,
        due: Due,
        ctx: &Ctx<Self>,
    ) -> Taken {
        let announces = self.announces.iter().filter(|announce| due.takes(announce));
        let steers = self.steers.iter().filter(|_| !matches!(due, Due::QuietOf(_)));
        let at = ctx.system().clock.now();
        let mut entries = Vec::new();
        let items: Vec<_> = announces.clone().map(|announce| announce.item.clone()).collect();
        if !items.is_empty() {
            entries.push(transcript.push(run, at, Entry::Announce { items }));
        }
        entries.extend(input.map(|input| transcript.push(run, at, input)));
        for steer in steers.clone() {
            let entry = Entry::User { text: steer.text.clone(), origin: steer.origin.clone() };
            entries.push(transcript.push(run, at, entry));
        }
        Taken {
            announces: announces.clone().map(|announce| announce.item.run).collect(),
            steers: steers.map(|steer| steer.id).collect(),
            // A run that is stopped takes them with its end.
            by: run.filter(|_| !matches!(due, Due::QuietOf(_))),
            delete: announces
                .filter(|announce| self.deletes_at_once(announce.cleanup))
                .map(|announce| announce.item.session.clone())
                .collect(),
            entries,
            transcript,
        }
    }

    /// No run has its turn and something waits: appends it, and starts a run on it unless nobody is to be woken.
    pub(super) fn deliver(&mut self, ctx: &mut Ctx<Self>) {
        let due = self.due();
        let quiet = self.only_quiet() || !matches!(self.standing, Standing::Open);
        let cause = if !self.announces.iter().any(|announce| due.takes(announce) && !announce.quiet) {
            Cause::Message
        } else {
            Cause::Announce
        };
        let row = if quiet { None } else { self.new_row_of(cause, ctx) };
        let Some(transcript) = self.transcript.take() else { return self.load(ctx) };
        self.next = row.as_ref().map(|row| row.id);
        let taken = self.take_inbox(transcript, self.next, None, due, ctx);
        let mut transaction = Transaction::new();
        self.expect_parent(&mut transaction, row.as_ref());
        if let Some(row) = &row {
            transaction.push(Op::InsertRun(Box::new(row.clone())));
        }
        taken.ops(&self.meta.key, None, &mut transaction);
        #[cfg(feature = "faults")]
        if ctx.system().has_bug(crate::kit::Bug::AnnounceTakenBeforeCommit) {
            let early = transaction.extract_if(.., |op| matches!(op, Op::TakeAnnounces { .. })).collect();
            self.shared.commit(early, |_| {});
        }
        let delivery = Delivery::default();
        self.delivering = Some(delivery.clone());
        self.commit(
            transaction,
            Ticket::Deliver { delivery, row: row.map(Box::new), taken, injected: Vec::new() },
            ctx,
        );
    }

    /// A transaction between two turns is decided; false if this is not the one that is awaited.
    pub(super) fn is_delivered(&mut self, delivery: &Delivery) -> bool {
        self.delivering.take_if(|awaited| Arc::ptr_eq(&awaited.0, &delivery.0)).is_some()
    }

    /// All children of a yielded session have ended: its run goes on with their results.
    pub(super) fn wake_yielded(&mut self, run: RunId, ctx: &mut Ctx<Self>) {
        let Some(transcript) = self.transcript.take() else { return self.load(ctx) };
        let Some(active) = self.runs.get_mut(&run) else { return };
        active.stage = Stage::Boundary;
        self.yielded = None;
        self.current = Some(run);
        let mut taken = self.take_inbox(transcript, Some(run), None, Due::All, ctx);
        if taken.announces.is_empty() {
            let at = ctx.system().clock.now();
            let notice = Entry::Notice { text: NOTHING_REPORTED.to_owned() };
            taken.entries.push(taken.transcript.push(Some(run), at, notice));
        }
        let mut transaction = vec![Op::StartRun { run, at: ctx.system().clock.now() }];
        taken.ops(&self.meta.key, Some(run), &mut transaction);
        self.commit(transaction, Ticket::Boundary { run, taken, permit: None }, ctx);
    }

    pub(super) fn yield_begins(&mut self, run: RunId, ctx: &mut Ctx<Self>) {
        let Some(active) = self.runs.get_mut(&run) else { return };
        // A rebuild reads the commit from the store, and may have woken the run before it hears of it here.
        if matches!(active.stage, Stage::Yielding) {
            active.stage = Stage::Yielded;
            active.cell.update(|progress| progress.phase = crate::run::Phase::Yielded);
            self.current = None;
            self.yielded = Some(run);
        }
        self.advance(ctx);
    }

    /// Reads the session again: its transcript was with a run that is gone, or the inbox did not fit the store. Where an
    /// end has the transcript, that brings it back.
    pub(super) fn load(&mut self, ctx: &Ctx<Self>) {
        if self.loading.is_none() && (self.lent.is_none() || self.inheriting.is_some()) {
            self.read_again(None, ctx);
        }
    }

    /// A run has ended. Where its end had the transcript, those who wait for that go on.
    pub(super) fn given_back(&mut self, run: RunId, ctx: &mut Ctx<Self>) {
        if self.lent.take_if(|lent| *lent == run).is_some() && self.loading.is_none() {
            self.resume_loading(ctx);
            self.check_joined(ctx);
        }
    }

    /// The store did not take a request of a client. Where that does not fit what is stored, the session may have been
    /// deleted: it is read again, and stops if it is not there, so that the next request finds what is.
    pub(super) fn doubt(&mut self, refused: &Refused, ctx: &Ctx<Self>) {
        if matches!(refused, Refused::Conflict(_)) {
            self.transcript = None;
            self.load(ctx);
        }
    }

    /// Reads the session, and gives up what is being read; `doubted` is a run that has not begun and may have ended since.
    pub(super) fn read_again(&mut self, doubted: Option<RunId>, ctx: &Ctx<Self>) {
        let (shared, key) = (Arc::clone(&self.shared), self.meta.key.clone());
        let work = async move {
            shared.barrier().await?;
            shared.storage.load_session(key).await
        };
        self.doubted = doubted.or(self.doubted);
        let read = Read::default();
        let of = read.clone();
        let loaded = |result| SessionMsg::Loaded { read: of, result: Box::new(result) };
        self.loading = Some((read, ctx.task(work, loaded)));
        if self.suspect.is_some() {
            self.suspect = Some(self.inbox());
        }
    }

    /// The ids of what has arrived.
    pub(super) fn inbox(&self) -> Inbox {
        Inbox {
            announces: self.announces.iter().map(|announce| announce.item.run).collect(),
            steers: self.steers.iter().map(|steer| steer.id).collect(),
        }
    }

    pub(super) fn on_loaded(
        &mut self,
        read: &Read,
        result: Result<Option<StoredSession>, StoreError>,
        ctx: &mut Ctx<Self>,
    ) {
        // One that was given up may have come to its end all the same.
        if self.loading.take_if(|(awaited, _)| Arc::ptr_eq(&awaited.0, &read.0)).is_none() {
            return;
        }
        let stored = match result {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                tracing::error!(session = %self.meta.key, "is not stored any more, stopping");
                return ctx.stop();
            }
            Err(error) => {
                tracing::warn!(session = %self.meta.key, %error, "cannot be read, will try again");
                return self.try_again(ctx);
            }
        };
        self.take_inheritance(stored.children);
        if let Some(run) = self.doubted.take().filter(|run| stored.runs.iter().all(|row| row.id != *run)) {
            self.drop_ended(run, ctx);
        }
        // What has arrived since is not in what was read.
        if let Some(known) = self.suspect.take() {
            self.announces.forget(known.announces);
            self.steers.retain(|steer| !known.steers.contains(&steer.id));
        }
        let meanwhile = std::mem::take(&mut self.meanwhile);
        for announce in stored.announces {
            if !meanwhile.announces.contains(&announce.item.run) {
                self.announces.add(announce);
            }
        }
        for steer in stored.steers {
            if meanwhile.steers.contains(&steer.id) {
                continue;
            }
            if !self.steers.iter().any(|known| known.id == steer.id) {
                self.steers.push_back(steer);
            }
        }
        // A run that works has the transcript, or its end that is being committed; what was read is older than that.
        let works = self
            .current
            .and_then(|run| self.runs.get(&run))
            .is_some_and(|active| active.stage.has_transcript());
        let read = Transcript::new(stored.transcript);
        // Something may have been appended since it was read.
        let newer = self.transcript.as_ref().is_none_or(|own| own.next_seq() < read.next_seq());
        // So is it if an end has it.
        if !works && self.lent.is_none() && newer {
            self.transcript = Some(read);
        }
        self.resume_loading(ctx);
        self.check_joined(ctx);
        self.advance(ctx);
    }
}
