//! Requests that start runs, and their answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AgentId, ModelChoice, RecoveryMode, RunId, Secret, SessionKey, Timestamp};

/// Whether a child session ends with its run or stays for further messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One run.
    #[default]
    Run,
    /// The session stays and takes further messages.
    Session,
}

/// What happens to a child session after its result was delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cleanup {
    /// It stays.
    #[default]
    Keep,
    /// It is deleted with its transcript.
    Delete,
}

/// What becomes of a child session when its parent goes away: is stopped with its subtree, is deleted, or fails for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnParentExit {
    /// It is stopped with it.
    #[default]
    Stop,
    /// It goes on without a parent; nobody takes its result.
    Continue,
    /// It goes on below the nearest ancestor that stays, which gets its result; without one it goes on alone.
    HandOver,
}

impl OnParentExit {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stop, Self::Continue, Self::HandOver];

    /// The name in the store, on the wire and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Continue => "continue",
            Self::HandOver => "hand-over",
        }
    }

    /// Whether the child goes on.
    #[must_use]
    pub const fn outlives(self) -> bool {
        !matches!(self, Self::Stop)
    }
}

/// A client's name for a request, so that a repeat is the same request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key, unique per principal and method.
    pub key: String,
    /// Whether the request may have been sent before. `false` saves a look into the store.
    pub may_repeat: bool,
}

/// A wish to start a run in a new child session.
#[derive(Debug, Clone)]
pub struct SpawnRequest {
    /// The session on whose behalf the child is spawned.
    pub parent: SessionKey,
    /// The task, as the child's first message.
    pub task: String,
    /// A name for people.
    pub label: Option<String>,
    /// The target agent; none means the parent's.
    pub agent: Option<String>,
    /// A model or alias; none means what the configuration says.
    pub model: Option<String>,
    /// The hard deadline; none means the configured one, zero means none.
    pub timeout: Option<Duration>,
    /// Whether the child session stays.
    pub mode: Mode,
    /// What happens to it afterwards.
    pub cleanup: Cleanup,
    /// Whether the parent gets the result.
    pub expects_completion: bool,
    /// What becomes of it when the daemon goes down; none means what the configuration says.
    pub recovery: Option<RecoveryMode>,
    /// What becomes of it when its parent goes away.
    pub on_parent_exit: OnParentExit,
    /// The client's key for this request.
    pub idempotency: Option<IdempotencyKey>,
}

impl SpawnRequest {
    /// A request with every choice left to the configuration.
    #[must_use]
    pub fn new(parent: SessionKey, task: impl Into<String>) -> Self {
        Self {
            parent,
            task: task.into(),
            label: None,
            agent: None,
            model: None,
            timeout: None,
            mode: Mode::Run,
            cleanup: Cleanup::Keep,
            expects_completion: true,
            recovery: None,
            on_parent_exit: OnParentExit::default(),
            idempotency: None,
        }
    }
}

/// An accepted spawn, with everything that was resolved. The run uses exactly these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The child's run.
    pub run: RunId,
    /// The child's session.
    pub session: SessionKey,
    /// The target agent.
    pub agent: AgentId,
    /// The model and its fallbacks.
    pub model: ModelChoice,
    /// The hard deadline, if there is one.
    pub timeout: Option<Duration>,
    /// The child's depth; a main session has 0.
    pub depth: u32,
    /// Whether the session stays.
    pub mode: Mode,
    /// Whether the parent gets the result.
    pub expects_completion: bool,
    /// Tools that the child has.
    pub tools: Arc<[Arc<str>]>,
}

/// Whether a request was not allowed or not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefusalKind {
    /// A policy or a limit says no.
    Forbidden,
    /// The request is wrong, or could not be carried out.
    Error,
}

/// A refused request: the exact reason, and what changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Refusal {
    /// Whether it was not allowed or not possible.
    pub kind: RefusalKind,
    /// A stable name for programs and metrics: `depth`, `children`, `agent_not_allowed`, ...
    pub code: &'static str,
    /// The reason, as clients of the protocol know it.
    pub message: String,
    /// The setting, limit or command that changes the answer.
    pub hint: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{} ({hint})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl Refusal {
    /// A refusal by policy or limit.
    #[must_use]
    pub fn forbidden(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Forbidden, code, message: message.into(), hint: Some(hint.into()) }
    }

    /// A request that is wrong or could not be carried out.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Error, code, message: message.into(), hint: None }
    }

    /// The answer to whoever names a session that does not exist.
    #[must_use]
    pub fn unknown_session(key: &SessionKey) -> Self {
        Self::error("unknown_session", format!("there is no session {key}"))
            .with_hint("list the sessions with `offshoot sessions list`")
    }

    /// The answer to whoever names a run that does not exist.
    #[must_use]
    pub fn unknown_run(run: RunId) -> Self {
        Self::error("unknown_run", format!("there is no run {run}"))
            .with_hint("list the runs with `offshoot runs list`")
    }

    /// The same with what changes it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A message for a session, which starts a run there.
#[derive(Debug, Clone)]
pub struct PromptRequest {
    /// The session; a session of a known agent is made if it does not exist.
    pub session: SessionKey,
    /// The message.
    pub text: String,
    /// A model or alias for this run only.
    pub model: Option<String>,
    /// The hard deadline; none means the configured one.
    pub timeout: Option<Duration>,
    /// The client's name for the run, up to 512 bytes.
    pub wire_id: Option<String>,
    /// The client's key for this request.
    pub idempotency: Option<IdempotencyKey>,
    /// Where the run's result is wanted outside: kept in the commit that accepts the run. A request that repeats an
    /// earlier one keeps nothing.
    pub callback: Option<Callback>,
}

/// Where the result of a run is wanted outside.
#[derive(Debug, Clone)]
pub struct Callback {
    /// The address, in which there may be a secret.
    pub address: Secret,
    /// When it was asked for. With the address it names what was kept, for whoever takes it out again.
    pub at: Timestamp,
}

impl PromptRequest {
    /// A message with every choice left to the configuration.
    #[must_use]
    pub fn new(session: SessionKey, text: impl Into<String>) -> Self {
        Self {
            session,
            text: text.into(),
            model: None,
            timeout: None,
            wire_id: None,
            idempotency: None,
            callback: None,
        }
    }
}

/// An accepted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The run that will answer it.
    pub run: RunId,
    /// Its session.
    pub session: SessionKey,
    /// The model and its fallbacks.
    pub model: ModelChoice,
    /// Whether an earlier request of the same name started the run, and this one nothing.
    pub repeated: bool,
}
