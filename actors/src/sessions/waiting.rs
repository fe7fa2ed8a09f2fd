//! What waits for a session on its way up or down.

use super::SpawnCall;
use crate::ports::StoredSession;
use crate::session::SessionMsg;
use crate::types::{Refusal, SessionKey};

/// What waits for a session.
#[derive(Debug)]
pub(super) enum Waiting {
    Message(Box<SessionMsg>),
    Spawn(Box<SpawnCall>),
    /// A child session to be started under it, with the count of settlements when it was read.
    Child(Box<StoredSession>, u64),
    /// Only that it is awake.
    Nothing,
}

impl Waiting {
    /// Whether it may be the first that a session gets.
    pub(super) fn begins(&self) -> bool {
        match self {
            Self::Message(message) => {
                matches!(&**message, SessionMsg::Prompt { .. } | SessionMsg::Steer { .. })
                    || message.creates()
            }
            Self::Spawn(_) => true,
            Self::Child(..) | Self::Nothing => false,
        }
    }

    /// For a session that is read from now on: it knows from the store who was opened below it, and what became of them since.
    /// That it is to be awake stays.
    pub(super) fn for_a_new_read(self) -> Self {
        match self {
            Self::Message(message) if matches!(*message, SessionMsg::ChildOpened { .. }) => Self::Nothing,
            other => other,
        }
    }

    /// Refuses what somebody asks for and can ask for again; returns everything else.
    pub(super) fn refuse_request(self, refusal: &Refusal) -> Option<Self> {
        match self {
            Self::Message(message) if message.is_request() => message.refuse(refusal.clone()),
            Self::Spawn(call) => call.reply.send(Err(refusal.clone())),
            other => return Some(other),
        }
        None
    }
}

/// The answer to whoever comes while so many wait already for a session whose runs are being ended.
pub(super) fn too_many(key: &SessionKey, waiting: usize) -> Refusal {
    let text = format!(
        "{waiting} requests wait already for session {key}, which has runs that the store does not end"
    );
    Refusal::error("store", text).with_hint("try again once the store takes changes")
}
