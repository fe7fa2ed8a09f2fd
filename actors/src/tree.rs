//! The tree as its users see it.

use std::sync::Arc;

use crate::ports::Storage;
use crate::types::{
    Accepted, Mode, ModelRef, Origin, Outcome, PromptRequest, Refusal, RunId, SessionKey, Settings,
    SpawnRequest, Submitted, Timestamp, Usage,
};

/// What became of a steering message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steered {
    /// The open run takes it before its next step.
    Queued(RunId),
    /// No run could take it, so it started one.
    Started(RunId),
}

/// What a cancel or a stop did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Runs that it ended, leaves first.
    pub ended: Vec<RunId>,
    /// The state the run was in already, if it had ended before.
    pub already: Option<Outcome>,
}

/// A session that is in memory, as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    /// Its name.
    pub key: SessionKey,
    /// The session that spawned it.
    pub parent: Option<SessionKey>,
    /// The label that the spawn gave.
    pub label: Option<String>,
    /// Whether it stays.
    pub mode: Mode,
    /// Its depth.
    pub depth: u32,
    /// Its open run, if it has one.
    pub run: Option<LiveRun>,
}

/// An open run, as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRun {
    /// Its id.
    pub id: RunId,
    /// `queued`, `running`, `yielded`, `ending`.
    pub state: &'static str,
    /// The model in use.
    pub model: ModelRef,
    /// Model calls so far.
    pub steps: u32,
    /// Tokens so far.
    pub usage: Usage,
    /// When it made its first step.
    pub started_at: Option<Timestamp>,
    /// The tools that run now.
    pub tools: Vec<Arc<str>>,
}

/// A handle to a running tree. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TreeHandle;

impl TreeHandle {
    /// Spawns a sub-agent: answers once it is committed, long before the child is done.
    ///
    /// # Errors
    /// The refusal, with its exact reason and what changes it.
    pub async fn spawn(&self, _request: SpawnRequest, _origin: Origin) -> Result<Accepted, Refusal> {
        Err(Refusal::error("", ""))
    }

    /// Sends a message to a session, which starts a run there.
    ///
    /// # Errors
    /// The refusal, with its exact reason and what changes it.
    pub async fn submit(&self, _request: PromptRequest, _origin: Origin) -> Result<Submitted, Refusal> {
        Err(Refusal::error("", ""))
    }

    /// Gives a message to a session's open run before its next step, or starts a run with it.
    ///
    /// # Errors
    /// The refusal, with its exact reason and what changes it.
    pub async fn steer(
        &self,
        _session: SessionKey,
        _text: String,
        _origin: Origin,
    ) -> Result<Steered, Refusal> {
        Err(Refusal::error("", ""))
    }

    /// Cancels a run and the open descendants that it spawned. Answers when all of them are terminal.
    ///
    /// # Errors
    /// The run does not exist, or the store refuses.
    pub async fn cancel(&self, _run: RunId, _origin: Origin) -> Result<Stopped, Refusal> {
        Err(Refusal::error("", ""))
    }

    /// Stops a session with its whole subtree. Answers when all of its runs are terminal.
    ///
    /// # Errors
    /// The session does not exist, or the store refuses.
    pub async fn stop(&self, _session: SessionKey, _origin: Origin) -> Result<Stopped, Refusal> {
        Err(Refusal::error("", ""))
    }

    /// Waits until a run is terminal.
    ///
    /// # Errors
    /// The run does not exist, or the store cannot be read.
    pub async fn outcome(&self, _run: RunId) -> Result<Outcome, Refusal> {
        Err(Refusal::error("", ""))
    }

    /// Waits until no run is open and no result is on its way in the tree of `root`.
    pub async fn quiet(&self, _root: &SessionKey) {}

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        unreachable!()
    }

    /// The store, for reading.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        unreachable!()
    }

    /// The sessions that are in memory, by name.
    #[must_use]
    pub fn live(&self) -> Vec<LiveSession> {
        Vec::new()
    }
}
