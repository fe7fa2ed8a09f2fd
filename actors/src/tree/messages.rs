//! Messages to sessions, as users of the tree send them.

use super::{Steered, TreeHandle};
use crate::session::{SessionMsg, submitted};
use crate::sessions::Named;
use crate::types::{Origin, PromptRequest, Refusal, SessionKey, Submitted};

impl TreeHandle {
    /// Sends a message to a session, which starts a run there. Its result is announced to the parent if a run of
    /// the parent sends it. A repeat of a message that was accepted is answered as such, whatever would refuse a new one.
    ///
    /// # Errors
    /// The refusal, with its exact reason and what changes it.
    pub async fn submit(&self, request: PromptRequest, origin: Origin) -> Result<Submitted, Refusal> {
        let key = request.session.clone();
        let repeats = request.idempotency.as_ref().is_some_and(|key| key.may_repeat);
        let named = Named::prompt(&request, &origin).filter(|_| repeats);
        let asked = self.ask(&key, |reply| SessionMsg::Prompt { request: Box::new(request), origin, reply });
        match (asked.await, named) {
            (Err(refusal), Some(named)) => self.repeated(named).await.unwrap_or(Err(refusal)),
            (answer, _) => answer,
        }
    }

    /// The answer to a message that was accepted before under the same name, which is not sent again; none if there is
    /// no such message.
    pub async fn submitted_before(
        &self,
        request: &PromptRequest,
        origin: Origin,
    ) -> Option<Result<Submitted, Refusal>> {
        self.repeated(Named::prompt(request, &origin)?).await
    }

    async fn repeated(&self, named: Named) -> Option<Result<Submitted, Refusal>> {
        // The first one may be on its way into the store.
        self.shared.barrier().await.ok()?;
        let earlier = self.shared.storage.earlier(named.key.clone()).await.ok()??;
        Some(named.same(earlier).map(|earlier| submitted(&earlier.run, true)))
    }

    /// Gives a message to a session's open run before its next step, or starts a run with it, as
    /// [`submit`](Self::submit) does.
    ///
    /// # Errors
    /// The refusal, with its exact reason and what changes it.
    pub async fn steer(&self, session: SessionKey, text: String, origin: Origin) -> Result<Steered, Refusal> {
        self.ask(&session, |reply| SessionMsg::Steer { text, origin, reply }).await
    }

    /// Appends a message in the agent's name that no model wrote, and that starts no run. Answers its place in the
    /// transcript.
    ///
    /// # Errors
    /// There is no such session, a run is at work in it, or the store refuses.
    pub async fn inject(&self, session: SessionKey, text: String, origin: Origin) -> Result<u64, Refusal> {
        self.ask(&session, |reply| SessionMsg::Inject { text, origin, reply }).await
    }
}
