//! Durable storage as a port: transactions in, rows out.
//!
//! The contract, which one suite tests against every implementation:
//!
//! - Transactions are applied in the order of submission, each of them whole or not at all. A refused one
//!   leaves no trace and does not disturb its neighbours.
//! - `done` is called exactly once per transaction: after it is durable, or after it was refused.
//! - A read that begins after a `done` sees what that transaction wrote.
//! - An empty transaction is a barrier: its `done` comes after all earlier ones.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::BoxFuture;
use crate::types::{
    AgentId, AnnounceItem, Cleanup, Entry, Mode, ModelChoice, ModelRef, Origin, Outcome, RunId, SessionKey,
    StoredEntry, Terminal, Timestamp, ToolStatus, Usage,
};

/// Why a run exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// A spawn, as the first run of a child session.
    Spawn,
    /// A message to the session.
    Message,
    /// Results of children that came while no run was open.
    Announce,
}

impl Cause {
    /// The name in the store and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spawn => "spawn",
            Self::Message => "message",
            Self::Announce => "announce",
        }
    }
}

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// Committed, waiting in its session or its lane.
    Accepted,
    /// Making steps.
    Running,
    /// Waiting for the children of its session.
    Yielded,
    /// Terminal.
    Ended(Terminal),
}

impl RunState {
    /// The name in the store and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Yielded => "yielded",
            Self::Ended(state) => state.as_str(),
        }
    }

    /// Whether the run has not ended.
    #[must_use]
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Ended(_))
    }
}

/// What kind of process accepted a run. Only a daemon's runs outlive their process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Host {
    /// One command, which ends with its work.
    OneShot,
    /// The daemon.
    Daemon,
}

impl Host {
    /// The name in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneShot => "oneshot",
            Self::Daemon => "daemon",
        }
    }
}

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Its name.
    pub key: SessionKey,
    /// Its agent.
    pub agent: AgentId,
    /// The session that spawned it.
    pub parent: Option<SessionKey>,
    /// The first session of its tree; itself if nobody spawned it.
    pub root: SessionKey,
    /// 0 for a root.
    pub depth: u32,
    /// A name for people.
    pub label: Option<String>,
    /// Whether it stays after its first run.
    pub mode: Mode,
    /// What happens to it after its result was delivered.
    pub cleanup: Cleanup,
    /// The model of its runs, where the agent's does not apply.
    pub model: Option<ModelChoice>,
    /// The most that its tools may be; none means what the agent's policy says.
    pub tools: Option<Arc<[Arc<str>]>>,
    /// The run that waits for this session's children.
    pub yielded: Option<RunId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a run was last added to it or ended, or an entry was appended.
    pub updated_at: Timestamp,
}

/// A run as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// Its session.
    pub session: SessionKey,
    /// Why it exists.
    pub cause: Cause,
    /// The run whose tool call spawned it.
    pub spawner: Option<RunId>,
    /// The session that gets its result.
    pub announce_to: Option<SessionKey>,
    /// Whether that session wants the result.
    pub expects_completion: bool,
    /// The client's name for it.
    pub wire_id: Option<String>,
    /// The model and its fallbacks, as the answer to the request named them.
    pub model: ModelChoice,
    /// The model that was called last.
    pub model_used: Option<ModelRef>,
    /// The hard deadline, from the first step on.
    pub timeout: Option<Duration>,
    /// The message that starts it, while that is not yet in the transcript.
    pub input: Option<Entry>,
    /// Where it is in its life.
    pub state: RunState,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Tokens of the run itself.
    pub usage: Usage,
    /// Model calls that it made.
    pub steps: u32,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it made its first step.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What kind of process accepted it.
    pub host: Host,
}

/// A run's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// The run.
    pub run: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// Tokens of the run itself.
    pub usage: Usage,
    /// Model calls that it made.
    pub steps: u32,
    /// When.
    pub at: Timestamp,
}

/// A result on its way to a parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// The session that gets it.
    pub to: SessionKey,
    /// The run whose tool call spawned the child.
    pub spawner: Option<RunId>,
    /// What happens to the child session once it is delivered.
    pub cleanup: Cleanup,
    /// Whether the receiver takes it without a run of its own, because it was stopped together with the child.
    pub quiet: bool,
    /// When the child ended.
    pub at: Timestamp,
    /// The result.
    pub item: AnnounceItem,
}

/// A steering message that its run has not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steer {
    /// Its id.
    pub id: Uuid,
    /// The session.
    pub session: SessionKey,
    /// The message.
    pub text: String,
    /// Who sent it.
    pub origin: Origin,
    /// When.
    pub at: Timestamp,
}

/// The name of a client's request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestKey {
    /// Who asked.
    pub principal: String,
    /// What for: `spawn`, `prompt`, ...
    pub method: &'static str,
    /// The client's key.
    pub key: String,
}

/// A request that was carried out before.
#[derive(Debug, Clone)]
pub struct Earlier {
    /// SHA-256 of its parameters.
    pub digest: [u8; 32],
    /// The run that it started.
    pub run: RunRow,
    /// That run's session, as it was last if it is deleted.
    pub session: SessionRow,
}

/// One line of the audit record. The store chains them by hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// What: `spawn.accepted`, `spawn.refused`, `run.cancelled`, `tool.started`, ...
    pub event: &'static str,
    /// Who asked.
    pub origin: Origin,
    /// The session it is about.
    pub session: Option<SessionKey>,
    /// The run it is about.
    pub run: Option<RunId>,
    /// Facts, by name.
    pub facts: Vec<(&'static str, String)>,
}

/// A tool call that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolMark {
    /// The call's id.
    pub call: Arc<str>,
    /// The tool's name.
    pub name: Arc<str>,
}

/// One change. Each is refused, and with it its transaction, where its condition does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Adds a session. Refused if it exists, or its parent does not.
    CreateSession(Box<SessionRow>),
    /// Adds a run in state `Accepted`, `Running` never, without outcome and end. Refused if it exists or its
    /// session does not.
    InsertRun(Box<RunRow>),
    /// Names the request that the run of this transaction answers. Refused with [`Refused::Repeated`] if the
    /// name is taken, and if there is no such run.
    NameRequest {
        /// The name.
        key: RequestKey,
        /// SHA-256 of the parameters.
        digest: [u8; 32],
        /// The run.
        run: RunId,
    },
    /// Appends entries. Refused if they are not the session's next without gaps, or `open_run` has ended.
    Append {
        /// The session.
        session: SessionKey,
        /// The run that writes, which must be open.
        open_run: Option<RunId>,
        /// The entries, in order.
        entries: Vec<Arc<StoredEntry>>,
    },
    /// The run goes on: from `Accepted` or `Yielded` to `Running`. Refused if it has ended. Clears `input`
    /// and the session's `yielded` if that is this run; sets `started_at` the first time.
    StartRun {
        /// The run.
        run: RunId,
        /// When.
        at: Timestamp,
    },
    /// What the run has used so far. Refused if it has ended.
    RecordStep {
        /// The run.
        run: RunId,
        /// Model calls so far.
        steps: u32,
        /// Tokens so far.
        usage: Usage,
        /// The model that answered.
        model: ModelRef,
    },
    /// Tool calls start. Refused if the run has ended, or one of them was started before.
    StartTools {
        /// The run.
        run: RunId,
        /// The step that asked for them.
        step: u32,
        /// The calls.
        calls: Vec<ToolMark>,
        /// When.
        at: Timestamp,
    },
    /// A tool call is over. Refused if the run has ended, or the call was not started or is over already.
    FinishTool {
        /// The run.
        run: RunId,
        /// The step that asked for it.
        step: u32,
        /// The call's id.
        call: Arc<str>,
        /// How it ended.
        status: ToolStatus,
        /// When.
        at: Timestamp,
    },
    /// The run waits for the children of its session. Refused if it has ended.
    YieldRun {
        /// The run.
        run: RunId,
    },
    /// The run ends. Clears the session's `yielded` if that is this run. Refused with [`Refused::Ended`] if it
    /// has ended before.
    EndRun(Box<RunEnd>),
    /// Puts a result on its way. Refused if that run's result was ever put on its way before, also if it was
    /// taken since: the store remembers per run whether its result is open or delivered. Refused if there is
    /// no such run.
    QueueAnnounce(Box<Announce>),
    /// Takes results off their way. Refused if one of them is not there.
    TakeAnnounces {
        /// The session that they are for.
        session: SessionKey,
        /// The children's runs.
        runs: Vec<RunId>,
    },
    /// Keeps a steering message for its run. Refused if its id is taken or its session does not exist.
    QueueSteer(Box<Steer>),
    /// Takes steering messages. Refused if one of them is not there.
    TakeSteers {
        /// The session.
        session: SessionKey,
        /// Their ids.
        ids: Vec<Uuid>,
    },
    /// Deletes a session with its transcript and its steering messages, unless it has open runs, child
    /// sessions or undelivered results, its own or ones that wait for it: then this does nothing, as for a
    /// session that does not exist. Its runs stay, and count in the trees that it belonged to.
    DeleteSession {
        /// The session.
        session: SessionKey,
    },
    /// Adds a line to the audit record.
    Audit(Box<AuditRecord>),
}

/// Changes that are made together.
pub type Transaction = Vec<Op>;

/// Called once with the fate of a transaction, from any thread.
pub type Done = Box<dyn FnOnce(Result<(), Refused>) + Send + 'static>;

/// Why the storage itself failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no room on the device.
    #[error("the state directory's device is full: {0}")]
    Full(String),
    /// The database cannot be written.
    #[error("the store is read-only: {0}")]
    ReadOnly(String),
    /// The database is damaged.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The storage is closed or its writer is gone.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Anything else.
    #[error("the store failed: {0}")]
    Other(String),
}

/// Why a transaction was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The run has ended before, in this state.
    #[error("run {run} has ended as {state}")]
    Ended {
        /// The run.
        run: RunId,
        /// How it had ended.
        state: Terminal,
    },
    /// A condition of a change does not hold.
    #[error("{0}")]
    Conflict(String),
    /// The request's name is taken.
    #[error("a request with this idempotency key was carried out before")]
    Repeated,
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StoreError),
}

/// A session with all that its actor needs.
#[derive(Debug, Clone)]
pub struct StoredSession {
    /// Its row.
    pub row: SessionRow,
    /// Its transcript.
    pub transcript: Vec<Arc<StoredEntry>>,
    /// Its open runs, oldest first.
    pub runs: Vec<RunRow>,
    /// Results that wait for it, oldest first.
    pub announces: Vec<Announce>,
    /// Steering messages that wait in it, oldest first.
    pub steers: Vec<Steer>,
    /// Open runs that announce to it, with their sessions and the runs that spawned them.
    pub children: Vec<OpenRun>,
}

impl RunRow {
    /// What others know of it while it is open.
    #[must_use]
    pub fn open(&self, root: &SessionKey, depth: u32) -> OpenRun {
        OpenRun {
            run: self.id,
            session: self.session.clone(),
            announce_to: self.announce_to.clone(),
            root: root.clone(),
            depth,
            cause: self.cause,
            spawner: self.spawner,
            host: self.host,
        }
    }
}

/// A run that has not ended, with its place in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// The run.
    pub run: RunId,
    /// Its session.
    pub session: SessionKey,
    /// The session that gets its result.
    pub announce_to: Option<SessionKey>,
    /// The first session of its tree.
    pub root: SessionKey,
    /// Its session's depth.
    pub depth: u32,
    /// Why it exists.
    pub cause: Cause,
    /// The run whose tool call spawned it.
    pub spawner: Option<RunId>,
    /// What kind of process accepted it.
    pub host: Host,
}

/// An open run of a subtree with its whole row.
#[derive(Debug, Clone)]
pub struct SubtreeRun {
    /// The run.
    pub row: RunRow,
    /// Its session.
    pub session: SessionRow,
}

/// Which rows a list holds.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only of this agent.
    pub agent: Option<AgentId>,
    /// Only of this session (runs), or children of it (sessions).
    pub session: Option<SessionKey>,
    /// Only in the tree of this root session.
    pub root: Option<SessionKey>,
    /// Only open runs (runs), or sessions that have one (sessions).
    pub open: bool,
    /// Only rows written at or after this time: a run's end, else start, else acceptance; a session's
    /// `updated_at`.
    pub since: Option<Timestamp>,
}

/// At most `limit` rows, the last one added first, after skipping `offset`.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Rows to skip.
    pub offset: u32,
    /// Most rows to return.
    pub limit: u32,
}

/// Keeps what must survive.
pub trait Storage: Send + Sync + 'static {
    /// Applies a transaction. Returns at once.
    fn submit(&self, transaction: Transaction, done: Done);

    /// A session with all that its actor needs.
    fn load_session(&self, key: SessionKey) -> BoxFuture<Result<Option<StoredSession>, StoreError>>;

    /// A session's row.
    fn session(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionRow>, StoreError>>;

    /// A run's row.
    fn run(&self, run: RunId) -> BoxFuture<Result<Option<RunRow>, StoreError>>;

    /// A page of a transcript: entries with `from <= seq`, oldest first.
    fn entries(
        &self,
        key: SessionKey,
        from: u64,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>>;

    /// The request of that name, if it was carried out.
    fn earlier(&self, key: RequestKey) -> BoxFuture<Result<Option<Earlier>, StoreError>>;

    /// Every open run, oldest first.
    fn open_runs(&self) -> BoxFuture<Result<Vec<OpenRun>, StoreError>>;

    /// The open runs of a session and of all its descendants, deepest first.
    fn open_in_subtree(&self, key: SessionKey) -> BoxFuture<Result<Vec<SubtreeRun>, StoreError>>;

    /// Sessions that have results or steering messages waiting for them.
    fn waiting_sessions(&self) -> BoxFuture<Result<Vec<SessionKey>, StoreError>>;

    /// Tokens of all runs of a session and of all its descendants, the deleted ones included.
    fn subtree_usage(&self, key: SessionKey) -> BoxFuture<Result<Usage, StoreError>>;

    /// Sessions, newest first.
    fn list_sessions(&self, filter: ListFilter, page: Page)
    -> BoxFuture<Result<Vec<SessionRow>, StoreError>>;

    /// Runs, newest first.
    fn list_runs(&self, filter: ListFilter, page: Page) -> BoxFuture<Result<Vec<RunRow>, StoreError>>;
}
