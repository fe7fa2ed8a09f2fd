//! Messages that somebody asks for something with, and the answer where no session can take them.

use super::{SessionChange, SessionMsg};
use crate::types::Refusal;

impl SessionMsg {
    /// Whether somebody asks for something, and can ask again if that is refused. A stop by the parent goes on until
    /// it is carried out: the parent waits for the ends of the runs.
    pub(crate) const fn is_request(&self) -> bool {
        matches!(
            self,
            Self::Prompt { .. }
                | Self::Steer { .. }
                | Self::Change { .. }
                | Self::Inject { .. }
                | Self::Cancel { .. }
                | Self::Stop { cascade: false, .. }
        )
    }

    /// Whether it asks for a session to be made.
    pub(crate) fn creates(&self) -> bool {
        matches!(self, Self::Change { change, .. } if matches!(**change, SessionChange::Patch { create: true, .. }))
    }

    /// Answers a message that no session can take.
    pub(crate) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Prompt { reply, .. } => reply.send(Err(refusal)),
            Self::Steer { reply, .. } => reply.send(Err(refusal)),
            Self::Change { reply, .. } => reply.send(Err(refusal)),
            Self::Inject { reply, .. } => reply.send(Err(refusal)),
            Self::Cancel { reply, .. } => reply.send(Err(refusal)),
            Self::Stop { reply, .. } => reply.send(Vec::new()),
            _ => {}
        }
    }
}
