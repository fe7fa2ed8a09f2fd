//! Requests that a client may send again: the same name with the same parameters is the same request.

use sha2::{Digest, Sha256};

use crate::ports::{Earlier, RequestKey};
use crate::shared::Shared;
use crate::types::{Accepted, Origin, PromptRequest, Refusal, SpawnRequest};

/// A request's name with the digest of its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) key: RequestKey,
    pub(crate) digest: [u8; 32],
}

impl Named {
    /// The name of a spawn, if its client gave one.
    pub(super) fn spawn(request: &SpawnRequest, origin: &Origin) -> Option<Self> {
        let idempotency = request.idempotency.as_ref()?;
        let mut hash = Sha256::new();
        for part in [
            request.parent.as_str(),
            &request.task,
            request.label.as_deref().unwrap_or_default(),
            request.agent.as_deref().unwrap_or_default(),
            request.model.as_deref().unwrap_or_default(),
            &format!(
                "{:?} {:?} {:?} {}",
                request.timeout, request.mode, request.cleanup, request.expects_completion
            ),
        ] {
            // The length keeps two different lists of parts apart.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        // Digests of requests that say nothing of it are older than the word.
        if let Some(recovery) = request.recovery {
            hash.update(recovery.as_str());
        }
        if request.on_parent_exit.outlives() {
            hash.update(request.on_parent_exit.as_str());
        }
        let key = RequestKey { principal: origin.principal(), method: "spawn", key: idempotency.key.clone() };
        Some(Self { key, digest: hash.finalize().into() })
    }

    /// The name of a message, if its client gave one.
    pub(crate) fn prompt(request: &PromptRequest, origin: &Origin) -> Option<Self> {
        let idempotency = request.idempotency.as_ref()?;
        let parameters =
            format!("{}\n{:?}\n{:?}\n{}", request.session, request.model, request.timeout, request.text);
        let digest = Sha256::digest(parameters.as_bytes()).into();
        let key =
            RequestKey { principal: origin.principal(), method: "prompt", key: idempotency.key.clone() };
        Some(Self { key, digest })
    }

    /// What was carried out under this name.
    pub(crate) async fn earlier(&self, shared: &Shared) -> Result<Earlier, Refusal> {
        match shared.storage.earlier(self.key.clone()).await {
            Ok(Some(earlier)) => self.same(earlier),
            Ok(None) => Err(Refusal::error("store", "the earlier request is not stored any more")),
            Err(error) => Err(Refusal::error("store", error.to_string())),
        }
    }

    /// The earlier request, if its parameters were the same.
    pub(crate) fn same(&self, earlier: Earlier) -> Result<Earlier, Refusal> {
        if earlier.digest == self.digest { Ok(earlier) } else { Err(self.differs()) }
    }

    pub(super) fn differs(&self) -> Refusal {
        Refusal::error(
            "idempotency_conflict",
            format!("idempotency key {:?} was used for a request with other parameters", self.key.key),
        )
        .with_hint("use a new key for a new request")
    }
}

/// The answer that an earlier spawn got.
pub(super) fn accepted(earlier: &Earlier) -> Accepted {
    let Earlier { run, session, .. } = earlier;
    Accepted {
        run: run.id,
        session: session.key.clone(),
        agent: session.agent.clone(),
        model: run.model.clone(),
        timeout: run.timeout,
        depth: session.depth,
        mode: session.mode,
        expects_completion: run.expects_completion,
        tools: session.tools.clone().unwrap_or_default(),
    }
}
