//! Changes, and why they are refused.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::deliveries::CallbackMark;
use super::pairing::{BootstrapRow, DeviceRow, DeviceTokenRow, PairRequestRow};
use super::rows::{Announce, CallbackRow, Host, RequestKey, RunRow, SessionRow, Steer};
use crate::types::{
    DeviceId, ModelChoice, ModelRef, Origin, Outcome, RunId, SessionKey, StoredEntry, Terminal, Timestamp,
    ToolStatus, Usage,
};

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

/// One line of the audit record. The store chains them by hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// What: `spawn.accepted`, `spawn.refused`, `run.cancelled`, `tool.started`, `device.approved`, ...
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
    /// and the session's `yielded` if that is this run; sets `started_at` the first time. Its `attempts` are 1 from now on
    /// if they are 0, unless it was `Yielded`: such a run has yet to get its place in the lane.
    StartRun {
        /// The run.
        run: RunId,
        /// When.
        at: Timestamp,
    },
    /// What the run has used so far. Refused if it has ended. One that is `Accepted` is `Running` from now on: its start
    /// may not have been taken.
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
    /// How much of its deadline the run has used. Refused if it has ended.
    RecordTime {
        /// The run.
        run: RunId,
        /// The time used so far.
        used: Duration,
    },
    /// A start of the daemon goes on with these runs, and counts as one that died before any run of a daemon was at work
    /// until one starts or counts its attempts. Refused if one of them has ended.
    ResumeRuns {
        /// The runs.
        runs: Vec<RunId>,
    },
    /// At so many starts in a row this run was at work: it goes to work in this one, or waits again. Refused if it has
    /// ended.
    CountAttempts {
        /// The run.
        run: RunId,
        /// The starts, with this one if it is at work.
        attempts: u32,
    },
    /// No open run that this kind of process accepted counts attempts any more, and no start of a daemon counts as one that
    /// died: the daemon stops in order, or has been up for a while.
    ForgetAttempts {
        /// The kind of process.
        host: Host,
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
        /// The run that goes on with them, if there is one.
        by: Option<RunId>,
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
    /// Deletes a session with its transcript, unless it has open runs, child sessions, steering messages that
    /// nobody took, or undelivered results, its own or ones that wait for it: then this does nothing, as for a
    /// session that does not exist. Its runs stay, and count in the trees that it belonged to.
    DeleteSession {
        /// The session.
        session: SessionKey,
        /// Whether its parent goes with it, and so on, if that is to be deleted too and was kept by it alone.
        with_parents: bool,
    },
    /// Deletes a session that was exported, as `DeleteSession` does but without its parents. Refused where that would do
    /// nothing, and if the session was written to since it was read.
    RetireSession {
        /// The session.
        session: SessionKey,
        /// When it was last written to, as it was read.
        written_at: Timestamp,
        /// Entries of its transcript, as it was read.
        entries: u64,
    },
    /// Forgets the names of requests that were carried out before this time, the oldest first. One stays while its run is
    /// open, or the run that spawned this one, which may repeat the request.
    ForgetRequests {
        /// The time.
        before: Timestamp,
        /// Most names that are forgotten.
        limit: u32,
    },
    /// Forgets deleted sessions that were last written to before this time, with their runs, the oldest first. One stays
    /// while there is anything of a session below it, or a result of its runs is still wanted: what a tree has used is
    /// the sum over its runs.
    ForgetSessions {
        /// The time.
        before: Timestamp,
        /// Most sessions that are forgotten.
        limit: u32,
    },
    /// Empties a session's transcript, which begins anew at this time. Refused if the session does not exist or has
    /// open runs.
    ResetSession {
        /// The session.
        session: SessionKey,
        /// When.
        at: Timestamp,
    },
    /// Gives a session another label or model; what is none stays. Refused if it does not exist.
    PatchSession {
        /// The session.
        session: SessionKey,
        /// The label, or that it has none.
        label: Option<Option<String>>,
        /// The model, or that the agent's applies.
        model: Option<Option<ModelChoice>>,
    },
    /// A session outlives its parent. Below another one (`to`): that gets the results of its open runs and those that are
    /// on their way to `from`. Without one: nobody takes these results, and its row says whom it has outlived. Its root
    /// and its depth stay. Refused if its parent is not `from`, or `to` does not exist or is the session itself.
    MoveSession {
        /// The session.
        session: SessionKey,
        /// The parent that goes away.
        from: SessionKey,
        /// The one that comes in its place.
        to: Option<SessionKey>,
    },
    /// Changes nothing: a condition for the others. Refused with [`Refused::Moved`] if the session hangs below another
    /// one, and as any change of a session that does not exist.
    ExpectParent {
        /// The session.
        session: SessionKey,
        /// Its parent.
        parent: Option<SessionKey>,
    },
    /// A result that is on its way has no receiver any more: it stays where it is, visible to people, and nothing waits
    /// for it. Refused if it is not on its way.
    AbandonAnnounce {
        /// The child's run.
        run: RunId,
    },
    /// Adds a device, or puts the row in the place of the one that it has.
    PutDevice(Box<DeviceRow>),
    /// Removes a device with its tokens and its request for approval. Refused if it is not there.
    RemoveDevice {
        /// The device.
        device: DeviceId,
    },
    /// Gives a device a token for a role, in the place of the one that it has. Refused if there is no such device.
    PutDeviceToken(Box<DeviceTokenRow>),
    /// Keeps a device's request for approval, in the place of the one that it has. Refused if another device has a
    /// request of that id.
    PutPairRequest(Box<PairRequestRow>),
    /// Takes a request for approval. Refused if it is not there.
    TakePairRequest {
        /// The request.
        request: Uuid,
    },
    /// Keeps a setup code. Refused if its id or its hash is taken.
    AddBootstrap(Box<BootstrapRow>),
    /// Takes a setup code. Refused if it is not there, so that it is good for one device.
    TakeBootstrap {
        /// The code's id.
        code: Uuid,
    },
    /// Keeps where the result of a run is wanted, in the place of what was kept for it before. Refused if there is no such
    /// run.
    PutCallback(Box<CallbackRow>),
    /// What became of an attempt to deliver a callback. Its address is forgotten once it is delivered. Refused if it is
    /// not there as it is here, or settled: another may have been put in its place.
    MarkCallback {
        /// What was asked for.
        callback: Box<CallbackRow>,
        /// What became of it.
        mark: CallbackMark,
    },
    /// A callback is due at once, and its attempts are counted anew. Refused if there is none, or it is settled.
    RetryCallback {
        /// The run.
        run: RunId,
    },
    /// Nobody wants a callback any more; its address is forgotten. Refused if there is none, or it is settled.
    DismissCallback {
        /// The run.
        run: RunId,
        /// When.
        at: Timestamp,
    },
    /// Takes a result off its way for good, because nobody is to have it. Refused if it is not on its way.
    DismissAnnounce {
        /// The child's run.
        run: RunId,
    },
    /// Adds a line to the audit record.
    Audit(Box<AuditRecord>),
}

impl Op {
    /// The session that it deletes, if it does; parents that go with it are not named.
    #[must_use]
    pub const fn deletes(&self) -> Option<&SessionKey> {
        match self {
            Self::DeleteSession { session, .. } | Self::RetireSession { session, .. } => Some(session),
            _ => None,
        }
    }
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

impl StoreError {
    /// Whether it may go well later, when there is room again or the device is back.
    #[must_use]
    pub const fn passes(&self) -> bool {
        !matches!(self, Self::Damaged(_))
    }
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
    /// The session hangs below another one than was expected, or below none.
    #[error("session {session} has outlived its parent")]
    Moved {
        /// The session.
        session: SessionKey,
        /// Its parent.
        to: Option<SessionKey>,
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
