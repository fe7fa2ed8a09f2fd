//! What is stored of sessions, runs and messages between them.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::types::{
    AgentId, AnnounceItem, Cleanup, Entry, Mode, ModelChoice, ModelRef, OnParentExit, Origin, Outcome,
    RecoveryMode, RunId, Secret, SessionKey, Terminal, Timestamp, Usage,
};

/// Why a run exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// A spawn, as the first run of a child session.
    Spawn,
    /// A message to the session. Announced to its parent where that sent it.
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

    /// How the run has ended, if it has.
    #[must_use]
    pub const fn terminal(self) -> Option<Terminal> {
        match self {
            Self::Ended(state) => Some(state),
            Self::Accepted | Self::Running | Self::Yielded => None,
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
    /// The session that spawned it, or the one that it was handed over to.
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
    /// What becomes of it when its parent goes away.
    pub on_parent_exit: OnParentExit,
    /// The parent that it has outlived, if nobody came in its place: its results were for that one.
    pub outlived: Option<SessionKey>,
    /// When it was made, or its transcript was emptied last.
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
    /// How much of its deadline it had used when that was last recorded.
    pub used: Duration,
    /// What its spawn says of a daemon that goes down; none means what the configuration says.
    pub recovery: Option<RecoveryMode>,
    /// Starts of the daemon in a row at which it was at work, this one included.
    pub attempts: u32,
}

/// Where somebody outside wants the result of a run, once the run and what it spawned are done.
#[derive(Debug, Clone)]
pub struct CallbackRow {
    /// The run.
    pub run: RunId,
    /// The address, in which there may be a secret.
    pub address: Secret,
    /// When it was asked for.
    pub at: Timestamp,
}

impl PartialEq for CallbackRow {
    fn eq(&self, other: &Self) -> bool {
        (self.run, self.at) == (other.run, other.at) && self.address.expose() == other.address.expose()
    }
}

impl Eq for CallbackRow {}

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
