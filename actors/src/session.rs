//! A session: one conversation, its runs one after the other, and the sessions that it spawned.
//!
//! Owns the transcript (while no run works on it), the queue of accepted runs, the results of children that wait
//! to be appended, and the place of every child in the tree. Started by the session manager for a root, by its
//! parent for a child; starts one run at a time and its child sessions. It alone commits the beginning and the
//! end of its runs; a run commits what lies between.
//!
//! A request comes in as [`SessionMsg::Prompt`], is committed as an accepted run, waits in its lane, and is
//! handed to a run actor with the transcript. The run reports at every step boundary, where results of children
//! and steering messages are appended, and at its end. The end and the announce to the parent are one
//! transaction; the parent hears of it after that.
//!
//! A panic is survived: the state is read from the store again, the run and the children go on meanwhile and
//! are found in the kit's book of children. Lost is only the message in hand; its sender sees its reply dropped.

mod accept;
mod announces;
mod change;
mod commit;
mod count;
mod inbox;
mod inject;
mod moves;
mod prompts;
mod requests;
mod results;
mod start;
mod stop;
mod taken;
mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub(crate) use self::accept::{refused_by_store, stopping, submitted};
use self::announces::Announces;
pub(crate) use self::change::{Change, SessionChange};
use self::commit::{End, Inbox, Ticket};
use self::inbox::{Delivery, Read};
use self::inject::Injected;
use self::moves::Inheritance;
pub use self::prompts::is_silent;
pub(crate) use self::results::{announce_of, notify_end, receiver, tell_end};
pub(crate) use self::stop::{already_ended, name_once};
use crate::kit::{Behaviour, Ctx, Exit, Handle, Intensity, Msg, Reply, StartError, Task};
use crate::ports::{Announce, OpenRun, Refused, RunRow, Steer, StoreError, StoredSession, Transaction};
use crate::run::{Fate, Report, RunCell};
use crate::sessions::{Named, Permit};
use crate::shared::{LiveEntry, Shared};
use crate::tree::{Steered, Stopped};
use crate::types::{
    AgentId, Cleanup, Mode, ModelChoice, OnParentExit, Origin, PromptRequest, Refusal, RunId, SessionKey,
    Submitted, Transcript, Usage,
};

/// What hardly ever changes about a session while it is awake.
#[derive(Debug, Clone)]
pub(crate) struct SessionMeta {
    pub(crate) key: SessionKey,
    pub(crate) agent: AgentId,
    pub(crate) parent: Option<SessionKey>,
    pub(crate) root: SessionKey,
    pub(crate) depth: u32,
    pub(crate) mode: Mode,
    pub(crate) cleanup: Cleanup,
    pub(crate) on_parent_exit: OnParentExit,
    /// The parent that it has outlived, if nobody came in its place.
    pub(crate) outlived: Option<SessionKey>,
    pub(crate) label: Option<String>,
    /// The model of its runs, where the agent's does not apply.
    pub(crate) model: Option<ModelChoice>,
    /// Its tools, by name.
    pub(crate) tools: Arc<[Arc<str>]>,
    /// Cancelled when the session is stopped; the scopes of its children hang below, but for those that outlive it.
    pub(crate) scope: CancellationToken,
}

/// Everything that a start needs.
#[derive(Debug)]
pub(crate) struct SessionArgs {
    pub(crate) shared: Arc<Shared>,
    pub(crate) meta: Arc<SessionMeta>,
    /// What the manager has read or just committed; a later start reads again.
    pub(crate) first: Option<Box<StoredSession>>,
    /// Whether this start follows on the spawn: nothing was ever below it.
    pub(crate) spawned: bool,
    /// Whether the manager still waits for this start. Where the session came up in another way meanwhile, what was read for
    /// it may be older than what it did since.
    pub(crate) wanted: Arc<AtomicBool>,
    /// How often its state was built.
    pub(crate) epoch: u64,
}

/// What a session calls its children.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SessionChild {
    Run(RunId),
    Session(SessionKey),
}

/// What a session is told.
#[derive(Debug)]
pub(crate) enum SessionMsg {
    /// Start a run with this message. From clients and tools.
    Prompt { request: Box<PromptRequest>, origin: Origin, reply: Reply<Result<Submitted, Refusal>> },
    /// A run with a message was committed, or not. From the store.
    PromptSettled {
        row: Box<RunRow>,
        named: Option<Box<Named>>,
        reply: Reply<Result<Submitted, Refusal>>,
        result: Result<(), Refused>,
    },
    /// Give this message to the open run before its next step. From clients and tools.
    Steer { text: String, origin: Origin, reply: Reply<Result<Steered, Refusal>> },
    /// Append this message in the agent's name between two turns, and tell its place. From clients.
    Inject { text: String, origin: Origin, reply: Reply<Result<u64, Refusal>> },
    /// A steering message was committed, or not. From the store.
    SteerSettled {
        steer: Box<Steer>,
        run: RunId,
        reply: Reply<Result<Steered, Refusal>>,
        result: Result<(), Refused>,
    },
    /// Change what is stored of the session. From clients.
    Change { change: Box<SessionChange>, origin: Origin, reply: Reply<Result<(), Refusal>> },
    /// A change was committed, or not. From the store.
    ChangeSettled { change: Change, reply: Reply<Result<(), Refusal>>, result: Result<(), Refused> },
    /// Start a child session under this one. From the manager.
    StartChild { args: Box<SessionArgs> },
    /// A child's run is terminal and committed. From that child's session.
    ChildEnded { run: RunId, announce: Option<Box<Announce>> },
    /// The run has its place in the lane. From the manager.
    Granted { run: RunId, permit: Permit },
    /// A transaction of this session was applied, or not. From the store.
    Committed { ticket: Box<Ticket>, transaction: Option<Transaction>, result: Result<(), Refused> },
    /// What the tree of this session has used, but for the run that ends. From a reading task.
    Counted { end: Box<End>, used: Result<Usage, StoreError> },
    /// The start of a run that did not wait for it was not applied. From the store.
    StartRefused { run: RunId, refused: Refused },
    /// The session as it is stored, read because of a run that had not begun and may have ended since. From a
    /// reading task.
    Loaded { read: Read, result: Box<Result<Option<StoredSession>, StoreError>> },
    /// The run waits in its lane for the permit that it gave back during a pause, or has it. From the run.
    Queueing { run: RunId, queueing: bool },
    /// The run is at a step boundary or at its end. From the run.
    Report { run: RunId, report: Box<Report> },
    /// The run's hard deadline has passed. From a timer.
    HardDeadline { run: RunId },
    /// End this run and what it spawned. From clients and tools.
    Cancel { run: RunId, origin: Origin, reply: Reply<Result<Stopped, Refusal>> },
    /// End everything at and below this session. From the manager or the parent.
    Stop { cascade: bool, reply: Reply<Vec<RunId>> },
    /// A child session has stopped, for this run if one is named, and tells which runs that ended. From that
    /// child.
    ChildStopped { run: Option<RunId>, ended: Vec<RunId> },
    /// A child's session is gone, and what it had said before has been heard. From itself.
    ChildLeft,
    /// Say again whether it is awake or asleep, and ask again for the permits it waits for. From the manager.
    Hello,
    /// A run whose result is for this session is committed as accepted. From the store.
    ChildOpened { open: Box<OpenRun> },
    /// Take over this live child of a session that goes away. From the manager.
    Adopt { child: Box<LiveEntry> },
    /// A session was handed over to this one, with open runs or results. From the store.
    Inherited,
    /// The session hangs below another one, or below none. From that one, or the manager.
    Moved { to: Option<SessionKey> },
    /// This child has outlived the session and hangs elsewhere. From the manager.
    ChildMoved { child: SessionKey },
    /// Go to sleep, unless there is work again. From the manager.
    Sleep,
    /// Nothing has happened for a while. From a timer.
    Quiet,
    /// Try again what the store refused. From a timer.
    Retry,
}

impl Msg for SessionMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Prompt { .. } => "prompt",
            Self::PromptSettled { .. } => "prompt_settled",
            Self::Steer { .. } => "steer",
            Self::Inject { .. } => "inject",
            Self::SteerSettled { .. } => "steer_settled",
            Self::Change { .. } => "change",
            Self::ChangeSettled { .. } => "change_settled",
            Self::StartChild { .. } => "start_child",
            Self::ChildEnded { .. } => "child_ended",
            Self::Granted { .. } => "granted",
            Self::Committed { .. } => "committed",
            Self::Counted { .. } => "counted",
            Self::StartRefused { .. } => "start_refused",
            Self::Loaded { .. } => "loaded",
            Self::Queueing { .. } => "queueing",
            Self::Report { .. } => "report",
            Self::HardDeadline { .. } => "hard_deadline",
            Self::Cancel { .. } => "cancel",
            Self::Stop { .. } => "stop",
            Self::ChildStopped { .. } => "child_stopped",
            Self::ChildLeft => "child_left",
            Self::Hello => "hello",
            Self::ChildOpened { .. } => "child_opened",
            Self::Adopt { .. } => "adopt",
            Self::Inherited => "inherited",
            Self::Moved { .. } => "moved",
            Self::ChildMoved { .. } => "child_moved",
            Self::Sleep => "sleep",
            Self::Quiet => "quiet",
            Self::Retry => "retry",
        }
    }
}

/// How far an open run has come.
#[derive(Debug)]
enum Stage {
    /// Waits for its place in the lane, for its first step or after a wait.
    Queued,
    /// Has its place, waits for the transcript.
    Loading(Permit),
    /// Its start is being committed.
    Starting,
    /// The run actor works.
    Running,
    /// What was appended at a boundary is being committed; `None` if the run comes from a wait.
    Boundary,
    /// That it waits for the children of the session is being committed.
    Yielding,
    /// Waits for the children of the session.
    Yielded,
    /// Aborted; waits for the end of the children that it spawned.
    Joining,
    /// Has ended; what its result has used is being read.
    Counting { _task: Task },
    /// Its end is being committed, or waits to be tried again.
    Ending { retry: Option<Box<Ticket>> },
}

impl Stage {
    /// Whether the run, or what is being committed of it, has the session's transcript.
    const fn has_transcript(&self) -> bool {
        matches!(
            self,
            Self::Running | Self::Boundary | Self::Starting | Self::Counting { .. } | Self::Ending { .. }
        )
    }

    /// Whether the run makes no step any more.
    const fn is_last(&self) -> bool {
        matches!(self, Self::Joining | Self::Counting { .. } | Self::Ending { .. })
    }
}

/// An open run that has left the queue.
#[derive(Debug)]
struct Active {
    row: Box<RunRow>,
    stage: Stage,
    cell: Arc<RunCell>,
    /// Fires at the hard deadline; none while the clock stands.
    timer: Option<Task>,
    /// Who waits for its cancellation.
    cancels: Vec<Reply<Result<Stopped, Refusal>>>,
    /// Child sessions that are being stopped with this run and have not told yet what that ended.
    stopping: usize,
    /// Runs that ended because this one was cancelled.
    stopped: Vec<RunId>,
}

impl Active {
    /// A run at this stage, whose clock stands.
    fn at(stage: Stage, row: Box<RunRow>, cell: Arc<RunCell>) -> Box<Self> {
        Box::new(Self {
            row,
            stage,
            cell,
            timer: None,
            cancels: Vec::new(),
            stopping: 0,
            stopped: Vec::new(),
        })
    }
}

/// Whether the session takes work.
#[derive(Debug)]
enum Standing {
    Open,
    /// Everything at and below it ends; then it sleeps.
    Stopping {
        replies: Vec<Reply<Vec<RunId>>>,
        ended: Vec<RunId>,
        /// Children that are gone and whose last words may wait in the mailbox.
        leaving: usize,
    },
    /// It hands every message back and ends when its door is closed.
    Asleep,
}

/// The session's state.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    meta: Arc<SessionMeta>,
    /// Counts the times that this state was built. What a run told an earlier one is known from the store, or is told again.
    epoch: u64,
    standing: Standing,
    /// Absent while a run works on it, and after one was aborted.
    transcript: Option<Transcript>,
    /// What the store held when the state was rebuilt while a run worked. The answer to what the run reports next
    /// may have been lost, and then this is newer than what it reports again.
    reread: Option<Transcript>,
    /// The run that was aborted and whose end, which is being committed, has the transcript. Nobody else goes on before.
    lent: Option<RunId>,
    /// What is being read of it.
    loading: Option<(Read, Task)>,
    /// A run that has not begun and may have ended since: the next read tells.
    doubted: Option<RunId>,
    /// What was taken out of the inbox while the session is being read, which may still show it.
    meanwhile: Inbox,
    /// Accepted runs that wait for their turn in this session.
    queue: VecDeque<Box<RunRow>>,
    /// Open runs that had their turn: at most one that works, and at most one that has yielded. Boxed, because a node
    /// of the map has room for eleven.
    runs: BTreeMap<RunId, Box<Active>>,
    /// The run whose turn it is.
    current: Option<RunId>,
    /// The run that waits for the children.
    yielded: Option<RunId>,
    /// Results that wait to be appended, in order of arrival.
    announces: Announces,
    /// What was there when the inbox began to be read again because it did not fit the store.
    suspect: Option<Inbox>,
    steers: VecDeque<Steer>,
    /// Messages in the agent's name that wait until no run has its turn.
    injected: VecDeque<Injected>,
    /// Open runs of children, of this kind of process alone.
    children: BTreeMap<RunId, OpenRun>,
    /// Set while it is being read which open runs it got with children of a session that went away.
    inheriting: Option<Inheritance>,
    /// What is being appended, or emptied, while no run has its turn.
    delivering: Option<Delivery>,
    /// The run that this starts: what is said to the session meanwhile is for it already.
    next: Option<RunId>,
    /// Prompts and steering messages that are being committed.
    accepting: u32,
    /// Ends of runs that never had their turn, which the store could not take yet.
    #[expect(clippy::vec_box, reason = "they come out of tickets and go into tickets as they are")]
    unsettled: Vec<Box<End>>,
    /// Transactions of runs at a boundary that the store could not take, until they are tried again.
    held: Vec<(Transaction, Box<Ticket>)>,
    /// Tokens of the runs that have ended, as long as the session had no children and was not read from the store.
    used: Option<Usage>,
    retries: u32,
    retry: Option<Task>,
    sleep: Option<Task>,
}

impl Behaviour for Session {
    const KIND: &'static str = "session";
    const SURVIVES: Option<Intensity> = Some(Intensity { max: 5, within: Duration::from_secs(60) });

    type Msg = SessionMsg;
    type Args = SessionArgs;
    type Child = SessionChild;

    async fn start(args: &mut SessionArgs, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        start::start(args, ctx).await
    }

    fn child_swept(&mut self, _: SessionChild, ctx: &mut Ctx<Self>) {
        self.advance(ctx);
    }

    async fn failing(args: &mut SessionArgs, ctx: &mut Ctx<Self>) {
        moves::hand_on(args, ctx).await;
    }

    fn handle(&mut self, message: SessionMsg, ctx: &mut Ctx<Self>) {
        if matches!(self.standing, Standing::Asleep) {
            return match message {
                SessionMsg::Hello => self.answer_sleep(true, ctx),
                // Of no use to whoever is woken; to be woken by these would have no end.
                SessionMsg::Sleep | SessionMsg::Quiet | SessionMsg::Retry | SessionMsg::ChildLeft => {}
                // Whoever is woken reads it; heard after the child's end it would count for good.
                SessionMsg::ChildOpened { .. } | SessionMsg::Moved { .. } | SessionMsg::ChildMoved { .. } => {
                }
                // Nothing of it is open. Woken below a parent that stops, it would be stopped again.
                SessionMsg::Stop { reply, .. } => reply.send(Vec::new()),
                message => self.hand_back(message),
            };
        }
        match message {
            SessionMsg::Prompt { request, origin, reply } => self.on_prompt(*request, origin, reply, ctx),
            SessionMsg::PromptSettled { row, named, reply, result } => {
                self.on_prompt_settled(row, named, reply, result, ctx);
            }
            SessionMsg::Steer { text, origin, reply } => self.on_steer(text, origin, reply, ctx),
            SessionMsg::Inject { text, origin, reply } => self.on_inject(text, origin, reply, ctx),
            SessionMsg::SteerSettled { steer, run, reply, result } => {
                self.on_steer_settled(*steer, run, reply, result, ctx);
            }
            SessionMsg::Change { change, origin, reply } => self.on_change(*change, origin, reply, ctx),
            SessionMsg::ChangeSettled { change, reply, result } => {
                self.on_change_settled(change, reply, result, ctx);
            }
            SessionMsg::StartChild { args } => self.on_start_child(*args, ctx),
            SessionMsg::ChildEnded { run, announce } => self.on_child_ended(run, announce, ctx),
            SessionMsg::Granted { run, permit } => self.on_granted(run, permit, ctx),
            SessionMsg::Committed { ticket, transaction, result } => {
                self.on_committed(*ticket, transaction, result, ctx);
            }
            SessionMsg::Counted { end, used } => self.on_counted(end, used, ctx),
            SessionMsg::StartRefused { run, refused } => self.on_start_refused(run, &refused, ctx),
            SessionMsg::Loaded { read, result } => self.on_loaded(&read, *result, ctx),
            SessionMsg::Queueing { run, queueing } => self.on_queueing(run, queueing, ctx),
            SessionMsg::Report { run, report } => self.on_report(run, *report, ctx),
            SessionMsg::HardDeadline { run } => self.on_hard_deadline(run, ctx),
            SessionMsg::Cancel { run, origin, reply } => self.on_cancel(run, origin, reply, ctx),
            SessionMsg::Stop { cascade, reply } => self.on_stop(cascade, reply, ctx),
            SessionMsg::ChildStopped { run, ended } => self.on_child_stopped(run, ended, ctx),
            SessionMsg::ChildLeft => self.on_child_left(ctx),
            SessionMsg::Hello => self.on_hello(ctx),
            SessionMsg::ChildOpened { open } => self.on_child_opened(*open, ctx),
            SessionMsg::Adopt { child } => self.on_adopt(&child, ctx),
            SessionMsg::Inherited => self.inherit(ctx),
            SessionMsg::Moved { to } => self.on_moved(to, ctx),
            SessionMsg::ChildMoved { child } => self.on_child_moved(&child, ctx),
            SessionMsg::Sleep => self.on_sleep(ctx),
            SessionMsg::Quiet => self.on_quiet(ctx),
            SessionMsg::Retry => self.on_retry(ctx),
        }
    }

    fn child_exited(&mut self, child: SessionChild, exit: Exit, ctx: &mut Ctx<Self>) {
        match child {
            SessionChild::Run(run) => self.on_run_exited(run, exit, ctx),
            SessionChild::Session(key) => {
                let failure = match exit {
                    Exit::Failed(reason) => Some(reason),
                    Exit::Killed => Some("killed".to_owned()),
                    Exit::Normal | Exit::Asked => None,
                };
                self.tell_manager(crate::sessions::SessionsMsg::Down { key, failure });
                self.child_gone(ctx);
            }
        }
    }
}

impl Session {
    /// A run that has not had its turn in this process.
    fn untouched(&self, row: Box<RunRow>) -> Box<Active> {
        let known = self.shared.runs.get(&row.id).map(|cell| Arc::clone(&cell));
        let cell = known.unwrap_or_else(|| Arc::new(RunCell::of(&row, &self.meta.scope)));
        Active::at(Stage::Queued, row, cell)
    }

    /// The handle of the run's actor, if it lives.
    fn run_handle(ctx: &Ctx<Self>, run: RunId) -> Option<Handle<crate::run::RunMsg>> {
        ctx.children().handle(&SessionChild::Run(run))
    }

    /// Tells the manager that this session takes messages.
    fn say_up(&self, ctx: &Ctx<Self>) {
        let (meta, handle) = (Arc::clone(&self.meta), ctx.myself().clone());
        self.tell_manager(crate::sessions::SessionsMsg::Up { meta, handle });
    }

    fn tell_manager(&self, message: crate::sessions::SessionsMsg) {
        // A manager that is being restarted learns the same from the store.
        drop(self.shared.sessions.send(message));
    }
}
