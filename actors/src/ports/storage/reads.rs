//! What the storage is asked for, beside plain rows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::rows::{Announce, Cause, Host, RunRow, RunState, SessionRow, Steer};
use crate::policy::cost::Spent;
use crate::types::{
    AgentId, Cleanup, Entry, ModelRef, OnParentExit, RecoveryMode, RunId, SessionKey, StoredEntry, Terminal,
    Timestamp, Usage,
};

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
    /// What those of its runs have left behind that are at work or wait for children.
    pub traces: Vec<RunTrace>,
}

/// What a run has left behind that its row and its transcript do not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTrace {
    /// The run.
    pub run: RunId,
    /// Tool calls, by id, that were started and have no result.
    pub started: Vec<Arc<str>>,
    /// Children of its session that its tool calls spawned and that end with it if it is cancelled, the deleted ones left
    /// out, oldest first.
    pub spawned: Vec<SessionKey>,
}

/// An open run as the next start of the daemon finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftRun {
    /// The run.
    pub open: OpenRun,
    /// Where it is in its life.
    pub state: RunState,
    /// What its spawn says of a daemon that goes down.
    pub recovery: Option<RecoveryMode>,
    /// Starts that died with it at work.
    pub attempts: u32,
    /// Starts in a row that went on with runs of daemons and died before any was at work: the same for all runs.
    pub died: u32,
    /// How the run that spawned it has ended, if it has.
    pub spawner_ended: Option<Terminal>,
    /// When its session was last written to.
    pub written_at: Timestamp,
}

impl RunRow {
    /// What others know of it while it is open.
    #[must_use]
    pub fn open(&self, root: &SessionKey, depth: u32, on_parent_exit: OnParentExit) -> OpenRun {
        OpenRun {
            run: self.id,
            session: self.session.clone(),
            announce_to: self.announce_to.clone(),
            root: root.clone(),
            depth,
            cause: self.cause,
            spawner: self.spawner,
            host: self.host,
            on_parent_exit,
        }
    }
}

/// What a run led to: the runs that it spawned, at any depth, and those in which its session and the sessions below took
/// up the results of these. What the session's own parent makes of its result is none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consequences {
    /// The run itself and the others, oldest first.
    pub runs: Vec<RunRow>,
    /// Those of `runs` that took up results but are there for something else, such as the message of another client: what
    /// they spawn is none of it.
    pub takers: BTreeSet<RunId>,
    /// Whether any of all of them, also of those that were not asked for, is open, or has a result on its way.
    pub pending: bool,
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
    /// What becomes of its session when the parent of that goes away. A run that is cancelled ends only what goes with it.
    pub on_parent_exit: OnParentExit,
}

/// An open run of a subtree with its whole row.
#[derive(Debug, Clone)]
pub struct SubtreeRun {
    /// The run.
    pub row: RunRow,
    /// Its session.
    pub session: SessionRow,
}

/// An open run with its whole row.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenRow {
    /// The run.
    pub row: RunRow,
    /// Its session.
    pub session: SessionRow,
    /// How the transcript begins, of a run that was spawned.
    pub first: Option<Entry>,
}

/// What is to be done about the children of a session that goes away with all that goes with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survivors {
    /// The sessions above it, the nearest one first.
    pub ancestors: Vec<SessionKey>,
    /// Sessions below it that outlive the parent that they have, of which each goes away: oldest first.
    pub sessions: Vec<SessionRow>,
}

impl SubtreeRun {
    /// What others know of it while it is open.
    #[must_use]
    pub fn open(&self) -> OpenRun {
        let Self { row, session } = self;
        row.open(&session.root, session.depth, session.on_parent_exit)
    }
}

/// What is not done in the tree of a root session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Whether a run is open.
    pub open: bool,
    /// Its sessions that have results or steering messages waiting for them.
    pub waiting: Vec<SessionKey>,
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
    /// Runs alone: only those that exist for this reason.
    pub cause: Option<Cause>,
    /// Runs alone: only those whose result this session gets.
    pub announce_to: Option<SessionKey>,
    /// Only rows written at or after this time: a run's end, else start, else acceptance; a session's
    /// `updated_at`.
    pub since: Option<Timestamp>,
}

/// Which sessions an overview shows.
#[derive(Debug, Clone, Default)]
pub struct OverviewFilter {
    /// What lists of sessions are filtered by.
    pub list: ListFilter,
    /// Only this session.
    pub key: Option<SessionKey>,
    /// Only with this label.
    pub label: Option<String>,
    /// Only with this text in key or label; ASCII letters in any case.
    pub search: Option<String>,
    /// Only those that nobody spawned.
    pub roots: bool,
}

/// Which quiet sessions are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuietFilter {
    /// When they were last written to.
    pub written: RangeInclusive<Timestamp>,
    /// Of those written to at the very beginning of that time only those whose keys come after this one.
    pub after: Option<SessionKey>,
    /// What becomes of them after their result was delivered.
    pub cleanup: Cleanup,
}

/// A session in which nothing is open any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuietSession {
    /// Its row.
    pub row: SessionRow,
    /// Entries of its transcript.
    pub entries: u64,
}

/// Sessions with what a list shows of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overviews {
    /// How many there are, on this page and off it.
    pub total: u64,
    /// This page of them.
    pub sessions: Vec<Overview>,
}

/// A session with what a list shows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Its row.
    pub row: SessionRow,
    /// Its open runs, oldest first.
    pub open: Vec<RunGlance>,
    /// The run that was accepted last.
    pub latest: Option<RunGlance>,
    /// The sessions that it spawned, newest first, at most [`Overview::MAX_CHILDREN`].
    pub children: Vec<SessionKey>,
    /// Entries of its transcript.
    pub entries: u64,
    /// Tokens of the prompt that its latest answer in the transcript was given to.
    pub context: Option<u64>,
}

impl Overview {
    /// Most children that are named.
    pub const MAX_CHILDREN: u32 = 100;
}

/// A run without its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunGlance {
    /// Its id.
    pub id: RunId,
    /// The client's name for it.
    pub wire_id: Option<String>,
    /// Where it is in its life.
    pub state: RunState,
    /// The model that was called last, or is to be called first.
    pub model: ModelRef,
    /// Tokens of the run itself.
    pub usage: Usage,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it made its first step.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl From<&RunRow> for RunGlance {
    fn from(row: &RunRow) -> Self {
        Self {
            id: row.id,
            wire_id: row.wire_id.clone(),
            state: row.state,
            model: row.model_used.clone().unwrap_or_else(|| row.model.primary.clone()),
            usage: row.usage,
            accepted_at: row.accepted_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
        }
    }
}

/// What a session and those below it have used, and how what it spawned has ended. Open runs count for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFigures {
    /// Of its own runs.
    pub own: Spent,
    /// Of the runs of all its descendants, the deleted ones included.
    pub below: Spent,
    /// Runs that it spawned and that ended with a result, whole or in part.
    pub done: u64,
    /// Runs that it spawned and that ended otherwise.
    pub failed: u64,
    /// The run of its own that was accepted last: when, and how it stands.
    pub latest: Option<(Timestamp, RunState)>,
    /// Of the runs that count the ones that ended last, by when they did: all of them, or `MAX_NEWEST`.
    pub newest: BTreeSet<(Timestamp, RunId)>,
}

impl SessionFigures {
    /// Ended runs that are named.
    pub const MAX_NEWEST: usize = 64;

    /// Counts a run so many levels below the session, with when it ended if it has.
    pub fn count(
        &mut self,
        level: u64,
        (run, ended_at): (RunId, Option<Timestamp>),
        (cause, state): (Cause, RunState),
        accepted_at: Timestamp,
        (model, usage): (&ModelRef, Usage),
    ) {
        if level == 0 && self.latest.is_none_or(|(at, _)| at <= accepted_at) {
            self.latest = Some((accepted_at, state));
        }
        let Some(ended) = state.terminal() else { return };
        self.newest.extend(ended_at.map(|at| (at, run)));
        if self.newest.len() > Self::MAX_NEWEST {
            self.newest.pop_first();
        }
        if level == 0 { &mut self.own } else { &mut self.below }.add(model, usage);
        if level == 1 && cause == Cause::Spawn {
            match ended {
                Terminal::Ok | Terminal::Partial => self.done += 1,
                _ => self.failed += 1,
            }
        }
    }
}

/// How often the runs of a session called a tool on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolUse {
    /// The session, which may be deleted.
    pub session: SessionKey,
    /// The tool's name.
    pub tool: String,
    /// The day, counted from the Unix epoch.
    pub day: i64,
    /// Calls that were started.
    pub calls: u64,
    /// Those of them that failed.
    pub failed: u64,
}

/// What the runs of a session used of a model on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunUse {
    /// The session, which may be deleted.
    pub session: SessionKey,
    /// The model that was called last, or was to be called first.
    pub model: ModelRef,
    /// The day, counted from the Unix epoch, on which they ended, or started if they have not ended.
    pub day: i64,
    /// How many they are.
    pub runs: u64,
    /// Model calls that they made.
    pub steps: u64,
    /// Those of them that ended without a result.
    pub failed: u64,
    /// Their tokens.
    pub usage: Usage,
    /// The time of the last of them.
    pub latest: Timestamp,
}

/// Whose tool calls or runs are counted.
#[derive(Debug, Clone, Default)]
pub struct ToolUseFilter {
    /// Only of this session.
    pub session: Option<SessionKey>,
    /// Only calls started, or runs that ended, at or after this time.
    pub since: Timestamp,
    /// Milliseconds from UTC to the clock whose days are meant.
    pub offset_ms: i64,
}

/// At most `limit` rows, the last one added first, after skipping `offset`.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Rows to skip.
    pub offset: u32,
    /// Most rows to return.
    pub limit: u32,
}

/// How much there is, all of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Sessions of each agent that has any.
    pub sessions: BTreeMap<AgentId, u64>,
    /// Runs, those of deleted sessions too, for each cause and state that occurs.
    pub runs: Vec<RunTally>,
}

/// How many runs have one cause and one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunTally {
    /// The cause.
    pub cause: Cause,
    /// The state.
    pub state: RunState,
    /// How many.
    pub count: u64,
}

/// What the runs of one day used of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayUsage {
    /// Days since the first of January 1970, at the offset that was asked for.
    pub day: i64,
    /// The model that was called last, or was to be called first.
    pub model: ModelRef,
    /// Runs that ended then, or that were accepted then and have not ended.
    pub runs: u64,
    /// Their tokens.
    pub usage: Usage,
}

/// Milliseconds of a day.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
