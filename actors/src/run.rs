//! A run: from a prompt to a final answer, step by step.
//!
//! Owns the model call and the tool calls in hand, as tasks that are aborted when it is dropped. Started by its
//! session with the transcript and a lane permit; commits what lies between the session's own commits: each
//! answer before its tools start, each tool call as started before it starts and as finished with its result.
//! Reports to the session at every step boundary and at its end, and waits there until it is told to go on.
//!
//! A panic, its own or one of a model or tool, ends it: the session records it as crashed. What it had
//! committed stays; the step in hand is lost. One that an earlier process began goes on from its last committed step.

mod cell;
mod deadline;
mod model;
mod resume;
mod tools;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::cell::{Activity, Fate, Phase, RunCell, RunningTool};
pub(crate) use self::deadline::Deadline;
use self::tools::Finished;
use crate::kit::{Behaviour, Ctx, Handle, Msg, Reply, StartError, Task};
use crate::ports::{Answer, ModelError, Op, Refused, ToolOutput, ToolSpec, Transaction};
use crate::session::{SessionMeta, SessionMsg};
use crate::sessions::{LaneName, Permit, SessionsMsg};
use crate::shared::Shared;
use crate::store::pause;
use crate::types::{
    Entry, ModelChoice, Monotonic, RunId, RunLimits, StoredEntry, Terminal, ToolCall, Transcript, Usage,
};

/// Everything that a run needs. It is started once.
#[derive(Debug)]
pub(crate) struct RunArgs {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Handle<SessionMsg>,
    pub(crate) meta: Arc<SessionMeta>,
    pub(crate) model: ModelChoice,
    pub(crate) limits: RunLimits,
    pub(crate) cell: Arc<RunCell>,
    pub(crate) soft_at: Option<Monotonic>,
    pub(crate) limit: Option<Duration>,
    pub(crate) system: Option<Arc<str>>,
    pub(crate) tools: Arc<[Arc<ToolSpec>]>,
    pub(crate) first: Option<(Transcript, Permit)>,
    /// The epoch of the session that starts it.
    pub(crate) epoch: u64,
    /// Whether an earlier process began it.
    pub(crate) resumed: bool,
}

/// What a run tells its session.
#[derive(Debug)]
pub(crate) struct Report {
    /// The epoch of the session that the run has heard from last. One of an earlier epoch may be answered already.
    pub(crate) epoch: u64,
    pub(crate) transcript: Transcript,
    pub(crate) permit: Option<Permit>,
    pub(crate) kind: ReportKind,
}

/// Where the run stands.
#[derive(Debug, Clone)]
pub(crate) enum ReportKind {
    /// Between two steps.
    Boundary {
        /// Whether the model asked to wait for the children.
        wants_to_wait: bool,
    },
    /// The model gave its last answer, whole or cut off for this reason.
    Answered { entry: Entry, cut: Option<String> },
    /// It cannot go on.
    Failed { state: Terminal, reason: String },
    /// The store did not take a step: the transcript ends with entries that are not stored.
    Refused { reason: String },
}

/// The session's word to go on.
#[derive(Debug)]
pub(crate) struct Continue {
    pub(crate) epoch: u64,
    pub(crate) transcript: Transcript,
    pub(crate) permit: Permit,
    pub(crate) soft_at: Option<Monotonic>,
}

/// What a run is told.
#[derive(Debug)]
pub(crate) enum RunMsg {
    /// Make the first step, or go on from the last one that an earlier process made. From itself.
    Begin,
    /// The model answered or failed. From its task.
    Answered { step: u32, result: Box<Result<Answer, ModelError>> },
    /// The pause after a failed call is over. From a timer.
    PauseOver { step: u32 },
    /// The permit is back after a pause. From the manager.
    Granted { permit: Permit },
    /// A tool is done. From its task.
    ToolDone { call: Arc<str>, output: Box<ToolOutput> },
    /// What the run wrote is committed, or not. From the store.
    Committed { transaction: Transaction, result: Result<(), Refused> },
    /// Try again what the store could not take. From a timer.
    Retry,
    /// Go on after a boundary. From the session.
    Continue(Box<Continue>),
    /// Report again what was reported last, and ask again for a permit that is awaited. From the session, after a
    /// rebuild.
    Resync { epoch: u64 },
    /// Ask again for a permit, if one is awaited. From the session.
    LanesReset,
}

impl Msg for RunMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Answered { .. } => "answered",
            Self::PauseOver { .. } => "pause_over",
            Self::Granted { .. } => "granted",
            Self::ToolDone { .. } => "tool_done",
            Self::Committed { .. } => "committed",
            Self::Retry => "retry",
            Self::Continue(_) => "continue",
            Self::Resync { .. } => "resync",
            Self::LanesReset => "lanes_reset",
        }
    }
}

/// What the run is doing.
#[derive(Debug)]
enum Doing {
    /// Nothing yet.
    Begins,
    /// A model call is in flight.
    Calling { _call: Task },
    /// Pauses after a failed call, without a permit.
    Pausing { _timer: Task },
    /// Waits since then for the permit that it gave back.
    Queueing { since: Monotonic },
    /// What comes before a model call is being committed: a notice to the model, or that the run is at work again.
    Noting,
    /// Tool calls are being started, run and recorded.
    Tools(Box<Tools>),
    /// The session has the word.
    Reported(ReportKind),
}

/// The tool calls of one step.
#[derive(Debug, Default)]
struct Tools {
    /// Not started yet, in the order in which the model asked for them.
    waiting: VecDeque<ToolCall>,
    /// Being committed as started.
    starting: Vec<ToolCall>,
    /// Those of them that an earlier process started.
    repeated: BTreeSet<Arc<str>>,
    running: BTreeMap<Arc<str>, (ToolCall, Task)>,
    /// Done, not yet recorded.
    finished: Vec<Finished>,
    /// Whether a commit is in flight.
    committing: bool,
    wants_to_wait: bool,
}

/// The run's state.
#[derive(Debug)]
pub(crate) struct Run {
    shared: Arc<Shared>,
    session: Handle<SessionMsg>,
    meta: Arc<SessionMeta>,
    cell: Arc<RunCell>,
    limits: RunLimits,
    system: Option<Arc<str>>,
    tools: Arc<[Arc<ToolSpec>]>,
    transcript: Transcript,
    permit: Option<Permit>,
    /// The model in use, then its fallbacks.
    models: VecDeque<crate::types::ModelRef>,
    /// Failed calls of the model in use, in a row.
    failures: u32,
    step: u32,
    usage: Usage,
    soft_at: Option<Monotonic>,
    limit: Option<Duration>,
    doing: Doing,
    /// The epoch of the session, as it was heard last.
    epoch: u64,
    /// Whether an earlier process began it and it has called no model since.
    resumed: bool,
    /// What the store could not take, until it is tried again.
    held: Option<(Transaction, Task)>,
    /// How often it could not, in a row.
    refusals: u32,
}

impl Behaviour for Run {
    const KIND: &'static str = "run";

    type Msg = RunMsg;
    type Args = RunArgs;
    type Child = ();

    async fn start(args: &mut RunArgs, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let (transcript, permit) =
            args.first.take().ok_or_else(|| StartError("a run is started once".to_owned()))?;
        let (step, usage) = args.cell.update(|progress| {
            progress.max_steps = Some(args.limits.max_steps);
            (progress.steps, progress.usage)
        });
        args.cell.set_actor(ctx.myself().cell().get_id().pid());
        let mut models = VecDeque::from([args.model.primary.clone()]);
        models.extend(args.model.fallbacks.iter().cloned());
        drop(ctx.myself().send(RunMsg::Begin));
        Ok(Self {
            shared: Arc::clone(&args.shared),
            session: args.session.clone(),
            meta: Arc::clone(&args.meta),
            cell: Arc::clone(&args.cell),
            limits: args.limits,
            system: args.system.take(),
            tools: Arc::clone(&args.tools),
            transcript,
            permit: Some(permit),
            models,
            failures: 0,
            step,
            usage,
            soft_at: args.soft_at,
            limit: args.limit,
            doing: Doing::Begins,
            epoch: args.epoch,
            resumed: args.resumed,
            held: None,
            refusals: 0,
        })
    }

    fn handle(&mut self, message: RunMsg, ctx: &mut Ctx<Self>) {
        match message {
            RunMsg::Begin if self.resumed => self.resume(ctx),
            RunMsg::Begin => self.next_step(ctx),
            RunMsg::Answered { step, result } => self.on_answered(step, *result, ctx),
            RunMsg::PauseOver { step } => self.on_pause_over(step, ctx),
            RunMsg::Granted { permit } => self.on_granted(permit, ctx),
            RunMsg::ToolDone { call, output } => self.on_tool_done(&call, *output, ctx),
            RunMsg::Committed { transaction, result } => self.on_committed(transaction, result, ctx),
            RunMsg::Retry => {
                if let Some((transaction, _)) = self.held.take() {
                    self.commit(transaction, ctx);
                }
            }
            RunMsg::Continue(word) => self.on_continue(*word, ctx),
            RunMsg::Resync { epoch } => {
                self.epoch = epoch;
                self.tell_report();
                // That the lanes began anew may be what the session lost.
                self.ask_again(ctx);
            }
            RunMsg::LanesReset => self.ask_again(ctx),
        }
    }
}

#[cfg(feature = "faults")]
impl Drop for Run {
    fn drop(&mut self) {
        // One that was aborted from outside was cancelled before; this one panicked.
        let forgets = self.shared.system.has_bug(crate::kit::Bug::PermitForgottenOnPanic);
        if forgets && !self.cell.cancelled.is_cancelled() {
            std::mem::forget(self.permit.take());
        }
    }
}

/// The entries that a transaction appends.
fn appended(transaction: &Transaction) -> Vec<Arc<StoredEntry>> {
    let appends = transaction.iter().filter_map(|op| match op {
        Op::Append { entries, .. } => Some(entries),
        _ => None,
    });
    appends.flatten().cloned().collect()
}

impl Run {
    fn id(&self) -> RunId {
        self.cell.id
    }

    fn commit(&self, transaction: Transaction, ctx: &Ctx<Self>) {
        let (myself, shared, session) =
            (ctx.myself().clone(), Arc::clone(&self.shared), self.meta.key.clone());
        // Whether anybody listens is asked when there is something to tell: somebody may come meanwhile.
        let kept = transaction.clone();
        self.shared.commit(transaction, move |result| {
            if result.is_ok() {
                shared.tell_appended(&session, &appended(&kept));
            }
            // A run that is gone has been ended by its session.
            drop(myself.send(RunMsg::Committed { transaction: kept, result }));
        });
    }

    fn on_committed(&mut self, transaction: Transaction, result: Result<(), Refused>, ctx: &mut Ctx<Self>) {
        match result {
            // A step that was paid for waits until the store takes it: nothing else happens in the run meanwhile, and a
            // deadline or a cancel ends it as ever.
            Err(Refused::Storage(error)) if error.passes() => {
                tracing::warn!(run = %self.id(), %error, "a step could not be committed, will try again");
                self.refusals = self.refusals.saturating_add(1);
                let pause = pause(self.refusals, ctx.system());
                self.held = Some((transaction, ctx.after(pause, RunMsg::Retry)));
            }
            Err(refused) => {
                self.report(ReportKind::Refused { reason: format!("the store refused a step: {refused}") });
            }
            Ok(()) => {
                self.refusals = 0;
                self.go_on_committed(ctx);
            }
        }
    }

    fn go_on_committed(&mut self, ctx: &mut Ctx<Self>) {
        match &self.doing {
            Doing::Noting => self.call_model(ctx),
            Doing::Tools(_) => self.tools_committed(ctx),
            _ => {}
        }
    }

    /// Gives the session the word, with the permit: between two steps nothing runs.
    fn report(&mut self, kind: ReportKind) {
        self.cell.turn_to(Activity::Committing, self.shared.system.clock.now());
        self.doing = Doing::Reported(kind);
        self.tell_report();
    }

    fn tell_report(&mut self) {
        let Doing::Reported(kind) = &self.doing else { return };
        let (transcript, kind) = (self.transcript.clone(), kind.clone());
        let report = Report { epoch: self.epoch, transcript, permit: self.permit.take(), kind };
        // A session that is gone takes this run with it.
        drop(self.session.send(SessionMsg::Report { run: self.id(), report: Box::new(report) }));
    }

    fn on_continue(&mut self, word: Continue, ctx: &mut Ctx<Self>) {
        if !matches!(self.doing, Doing::Reported(_)) {
            return;
        }
        self.epoch = word.epoch;
        self.transcript = word.transcript;
        self.permit = Some(word.permit);
        self.soft_at = self.soft_at.and(word.soft_at);
        self.next_step(ctx);
    }

    /// Asks for the permit that it waits for, if it does: one that asks again keeps one place.
    fn ask_again(&self, ctx: &Ctx<Self>) {
        if matches!(self.doing, Doing::Queueing { .. }) {
            self.ask_permit(ctx);
        }
    }

    fn ask_permit(&self, ctx: &Ctx<Self>) {
        let myself = ctx.myself().clone();
        let grant = Reply::to(move |permit| {
            // A permit that finds nobody is dropped, and so goes back.
            drop(myself.send(RunMsg::Granted { permit }));
        });
        let lane = if self.meta.depth == 0 { LaneName::Main } else { LaneName::Subagent };
        let fair = self.meta.parent.clone().unwrap_or_else(|| self.meta.key.clone());
        let acquire = SessionsMsg::Acquire { lane, fair, run: self.id(), resume: true, grant };
        // A manager that is being restarted has every waiting run ask again.
        drop(self.shared.sessions.send(acquire));
    }

    /// What the run has used so far, as it is committed with each step.
    fn record_step(&self, ctx: &Ctx<Self>) -> impl Iterator<Item = Op> + use<> {
        let model = self.models.front().cloned().unwrap_or_else(|| self.cell.progress().model);
        let step = Op::RecordStep { run: self.id(), steps: self.step, usage: self.usage, model };
        std::iter::once(step).chain(self.cell.time(ctx.system().clock.monotonic()))
    }
}
