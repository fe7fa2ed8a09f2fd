//! How busy the tree is, for users of it.

use tokio::sync::oneshot;

use super::{TreeHandle, gone};
use crate::kit::Reply;
use crate::sessions::{LaneView, SessionsMsg};
use crate::types::Refusal;

impl TreeHandle {
    /// The lanes, with what runs and waits in each.
    ///
    /// # Errors
    /// The session manager is being restarted.
    pub async fn lanes(&self) -> Result<[LaneView; 2], Refusal> {
        let (sender, receiver) = oneshot::channel();
        let message = SessionsMsg::Lanes { reply: Reply::Channel(sender) };
        self.shared.sessions.send(message).map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())
    }
}
