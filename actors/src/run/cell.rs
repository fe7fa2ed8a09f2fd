//! What can be read of a run from outside while it works, also when its actor is stuck or dead.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Deadline;
use crate::ports::{Cause, Host, Op, RunRow, RunTrace};
use crate::types::{ModelChoice, ModelRef, Monotonic, Origin, RunId, SessionKey, Terminal, Timestamp, Usage};
use crate::watch::AcceptedRun;

/// Where a run is, for people who watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Queued,
    Running,
    Yielded,
    Ending,
}

impl Phase {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Yielded => "yielded",
            Self::Ending => "ending",
        }
    }
}

/// How a run is ended from outside. Kept here, so that a rebuilt session finishes what it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) state: Terminal,
    pub(crate) reason: String,
    /// Who asked for it.
    pub(crate) origin: Origin,
    /// Its parent was stopped too and takes the result without a run.
    pub(crate) quiet: bool,
}

impl Fate {
    /// Whether the children that the run spawned are stopped with it.
    pub(crate) const fn stops_children(&self) -> bool {
        self.state.stops_children()
    }
}

/// What a run that has its place in the lane is about, for people who watch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Activity {
    /// What it did is being committed, or the session has the word.
    #[default]
    Committing,
    /// A model call is in flight.
    Model,
    /// Tool calls run, or are being recorded.
    Tools,
    /// Pauses after a failed call.
    BackingOff,
    /// Waits for the permit that it gave back.
    Queueing,
}

/// A tool call that runs now.
#[derive(Debug, Clone)]
pub(crate) struct RunningTool {
    pub(crate) call: Arc<str>,
    pub(crate) name: Arc<str>,
    /// What it was called with, short and without secrets.
    pub(crate) argument: Arc<str>,
    pub(crate) since: Timestamp,
}

/// What a run has done so far.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) phase: Phase,
    pub(crate) model: ModelRef,
    pub(crate) steps: u32,
    pub(crate) usage: Usage,
    pub(crate) started_at: Option<Timestamp>,
    /// The text of the step in hand, or of the last one that had any.
    pub(crate) text: String,
    /// Whether the next piece begins a new step's text.
    pub(crate) fresh: bool,
    pub(crate) tools: Vec<RunningTool>,
    pub(crate) activity: Activity,
    /// The last sign of life: text, a step, the start or the end of a tool call. None before the first step.
    pub(crate) heard: Option<Timestamp>,
    /// Steps that it may make, once it works.
    pub(crate) max_steps: Option<u32>,
}

/// One run's progress, its clock, and the token that aborts it. What is here outlives a rebuild of the session.
#[derive(Debug)]
pub(crate) struct RunCell {
    pub(crate) id: RunId,
    pub(crate) session: SessionKey,
    /// What it was accepted with; children of the same agent inherit it.
    pub(crate) model: ModelChoice,
    pub(crate) cause: Cause,
    /// The client's name for it.
    pub(crate) wire_id: Option<String>,
    pub(crate) accepted_at: Timestamp,
    /// The run whose tool call spawned it.
    pub(crate) spawner: Option<RunId>,
    pub(crate) cancelled: CancellationToken,
    pub(crate) fate: OnceLock<Fate>,
    progress: Mutex<Progress>,
    deadline: Mutex<Deadline>,
    spawned: Mutex<BTreeSet<SessionKey>>,
    /// Whether its end is told, or about to be.
    ended: Mutex<bool>,
    /// Tool calls that an earlier process started and that have no result; none if this process accepted it or it had not
    /// begun.
    left: Option<Vec<Arc<str>>>,
    /// Whether this process has started its actor.
    begun: AtomicBool,
    /// Starts in a row that died with it at work, and whether this one counts too; none where nobody counts.
    attempts: Option<Mutex<Attempts>>,
    /// The number of its actor, 0 without one.
    actor: AtomicU64,
}

/// What a run may have to do with daemons that died.
#[derive(Debug)]
struct Attempts {
    earlier: u32,
    /// Whether it is at work, and that is on its way to the store.
    at_work: bool,
}

impl RunCell {
    /// The cell of a run that waits; its token hangs below the scope of its session.
    pub(crate) fn of(row: &RunRow, scope: &CancellationToken) -> Self {
        let progress = Progress {
            phase: Phase::Queued,
            model: row.model.primary.clone(),
            steps: row.steps,
            usage: row.usage,
            started_at: row.started_at,
            text: String::new(),
            fresh: true,
            tools: Vec::new(),
            activity: Activity::default(),
            heard: None,
            max_steps: None,
        };
        Self {
            id: row.id,
            session: row.session.clone(),
            model: row.model.clone(),
            cause: row.cause,
            wire_id: row.wire_id.clone(),
            accepted_at: row.accepted_at,
            spawner: row.spawner,
            cancelled: scope.child_token(),
            fate: OnceLock::new(),
            progress: Mutex::new(progress),
            deadline: Mutex::new(Deadline::new(row.timeout, row.used)),
            spawned: Mutex::default(),
            ended: Mutex::default(),
            left: None,
            begun: AtomicBool::new(false),
            attempts: Self::attempts(row, true),
            actor: AtomicU64::new(0),
        }
    }

    /// Only the runs of a daemon count them. That a run begins counts as the first one, with its start.
    fn attempts(row: &RunRow, at_work: bool) -> Option<Mutex<Attempts>> {
        let attempts = Attempts { earlier: if at_work { 0 } else { row.attempts }, at_work };
        (row.host == Host::Daemon).then(|| Mutex::new(attempts))
    }

    /// The cell of a run that an earlier process began, with what it left behind.
    pub(crate) fn left_behind(row: &RunRow, scope: &CancellationToken, trace: Option<RunTrace>) -> Self {
        let (started, spawned) = trace.map(|trace| (trace.started, trace.spawned)).unwrap_or_default();
        let spawned = Mutex::new(spawned.into_iter().collect());
        Self { spawned, left: Some(started), attempts: Self::attempts(row, false), ..Self::of(row, scope) }
    }

    /// As watchers see what it was accepted with; `timeout` is how long it may take now.
    pub(crate) fn accepted(&self, timeout: Option<Duration>) -> AcceptedRun {
        AcceptedRun {
            id: self.id,
            wire_id: self.wire_id.clone(),
            session: self.session.clone(),
            cause: self.cause,
            spawner: self.spawner,
            model: self.model.primary.clone(),
            accepted_at: self.accepted_at,
            timeout,
        }
    }

    /// The run goes to work: what is to be committed before it does, unless that is known already.
    pub(crate) fn goes_to_work(&self) -> Option<Op> {
        self.count(true)
    }

    /// The run has given its permit back: it is no part of what this process may die of.
    pub(crate) fn rests(&self) -> Option<Op> {
        self.count(false)
    }

    fn count(&self, at_work: bool) -> Option<Op> {
        let mut known = self.attempts.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut known.at_work, at_work) == at_work {
            return None;
        }
        let attempts = known.earlier.saturating_add(u32::from(at_work));
        Some(Op::CountAttempts { run: self.id, attempts })
    }

    /// What happened at earlier starts does not count any more.
    pub(crate) fn forgive(&self) {
        if let Some(known) = &self.attempts {
            known.lock().unwrap_or_else(PoisonError::into_inner).earlier = 0;
        }
    }

    /// Whether an earlier process began it and this one has not gone on with it yet.
    pub(crate) fn is_to_be_resumed(&self) -> bool {
        self.left.is_some() && !self.has_begun()
    }

    /// Whether an earlier process started this tool call, which has no result.
    pub(crate) fn was_started(&self, call: &Arc<str>) -> bool {
        self.left.as_ref().is_some_and(|left| left.contains(call))
    }

    /// This process has started its actor.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// The number of its actor, which makes itself known at its start.
    pub(crate) fn set_actor(&self, number: u64) {
        self.actor.store(number, Ordering::Release);
    }

    pub(crate) fn actor(&self) -> Option<u64> {
        Some(self.actor.load(Ordering::Acquire)).filter(|number| *number > 0)
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// What is recorded of its deadline, if it has one.
    pub(crate) fn time(&self, now: Monotonic) -> Option<Op> {
        let used = self.deadline(|deadline| deadline.limit().map(|_| deadline.used(now)))?;
        Some(Op::RecordTime { run: self.id, used })
    }

    /// A copy of the progress.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the progress.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What it is about from now on: a sign of life.
    pub(crate) fn turn_to(&self, activity: Activity, at: Timestamp) {
        self.update(|progress| {
            progress.activity = activity;
            progress.heard = Some(at);
        });
    }

    /// Reads or sets the run's clock.
    pub(crate) fn deadline<T>(&self, look: impl FnOnce(&mut Deadline) -> T) -> T {
        look(&mut self.deadline.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The sessions that its tool calls spawned: what is open in or below them ends with the run if that is cancelled,
    /// also where their first runs have ended.
    pub(crate) fn spawned(&self) -> MutexGuard<'_, BTreeSet<SessionKey>> {
        self.spawned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what nobody may see after the run's end, unless that is told already: on several threads an aborted call may
    /// be in the middle of a piece of text.
    pub(crate) fn before_end(&self, act: impl FnOnce()) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if !*ended {
            act();
        }
    }

    /// The run's end is about to be told.
    pub(crate) fn close(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// The text there was until now, for a run that ends otherwise than with its answer.
    pub(crate) fn partial(&self) -> Option<String> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        (!progress.text.is_empty()).then(|| progress.text.clone())
    }
}
