//! Changes of sessions that are no messages to their agents.

use std::time::Duration;

use super::{Stopped, TreeHandle};
use crate::session::{SessionChange, SessionMsg};
use crate::stored::delete_stopped;
use crate::types::{Origin, Refusal, SessionKey};

/// How long a session that was stopped may take until what it told its parent is taken.
const SETTLE_STEP: Duration = Duration::from_millis(25);
const SETTLE_STEPS: u32 = 200;

/// New names of a session; what is none stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionPatch {
    /// The label, or that it has none.
    pub label: Option<Option<String>>,
    /// A model or alias for its runs, or that the agent's applies.
    pub model: Option<Option<String>>,
}

impl TreeHandle {
    /// Makes a session of a known agent, if it does not exist, with these names.
    ///
    /// # Errors
    /// The agent or the model is not known, or the store refuses.
    pub async fn create_session(
        &self,
        session: &SessionKey,
        patch: SessionPatch,
        origin: Origin,
    ) -> Result<(), Refusal> {
        self.change(session, patch, true, origin).await
    }

    /// Gives a session other names. A run that works keeps its model.
    ///
    /// # Errors
    /// The session or the model is not known, or the store refuses.
    pub async fn patch_session(
        &self,
        session: &SessionKey,
        patch: SessionPatch,
        origin: Origin,
    ) -> Result<(), Refusal> {
        self.change(session, patch, false, origin).await
    }

    async fn change(
        &self,
        session: &SessionKey,
        patch: SessionPatch,
        create: bool,
        origin: Origin,
    ) -> Result<(), Refusal> {
        let SessionPatch { label, model } = patch;
        let change = Box::new(SessionChange::Patch { label, model, create });
        self.ask(session, |reply| SessionMsg::Change { change, origin, reply }).await
    }

    /// Stops a session with its whole subtree and empties its transcript: the next message begins a new conversation
    /// under the same name. What its sub-agents have told it goes with the rest.
    ///
    /// # Errors
    /// The session does not exist, somebody gave it work meanwhile, or the store refuses.
    pub async fn reset_session(&self, session: &SessionKey, origin: Origin) -> Result<Stopped, Refusal> {
        let stopped = self.stop(session.clone(), origin.clone()).await?;
        let change = Box::new(SessionChange::Reset);
        self.ask(session, |reply| SessionMsg::Change { change, origin, reply }).await?;
        Ok(stopped)
    }

    /// Stops a session with its whole subtree and deletes all of it. Returns the sessions that it deleted, leaves
    /// first. Their runs stay on record.
    ///
    /// # Errors
    /// The session does not exist, somebody gave it work meanwhile, or the store refuses.
    pub async fn delete_session(
        &self,
        session: &SessionKey,
        origin: Origin,
    ) -> Result<Vec<SessionKey>, Refusal> {
        self.stop(session.clone(), origin.clone()).await?;
        let (storage, clock) = (self.storage(), &self.shared.system.clock);
        let mut left = SETTLE_STEPS;
        loop {
            match delete_stopped(storage.as_ref(), clock.as_ref(), session, origin.clone()).await {
                // Its parent is being told how its runs ended.
                Err(refusal) if refusal.code == "session_open" && left > 0 => left -= 1,
                other => {
                    // Also of a refusal: a part of it may be gone.
                    self.shared.book.deleted(other.as_deref().unwrap_or(std::slice::from_ref(session)));
                    return other;
                }
            }
            clock.sleep(SETTLE_STEP).await;
        }
    }
}
