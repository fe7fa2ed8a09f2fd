//! What is to reach somebody, as users of the tree see it and decide on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::TreeHandle;
use crate::ports::{
    AuditRecord, DeliveryFilter, DeliveryKind, DeliveryRow, DeliveryState, DeliveryTally, Op, Page, Receiver,
    Refused, StoreError, Transaction, Undeliverable,
};
use crate::session::SessionMsg;
use crate::types::{AgentId, Cleanup, Origin, Refusal, RunId, SessionKey};

impl TreeHandle {
    /// What is to reach somebody or has reached them, the result of the newest run first. Whether an agent is configured
    /// is judged by the settings in force, whatever the filter says.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn deliveries(
        &self,
        filter: DeliveryFilter,
        page: Page,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let filter = DeliveryFilter { agents: Some(self.configured()), ..filter };
        self.shared.storage.deliveries(filter, page).await
    }

    /// How many deliveries are not settled.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn delivery_tally(&self) -> Result<DeliveryTally, StoreError> {
        self.shared.storage.delivery_tally(Some(self.configured())).await
    }

    fn configured(&self) -> Arc<BTreeSet<AgentId>> {
        Arc::new(self.shared.settings().agents.keys().cloned().collect())
    }

    /// Tries a delivery again that is not settled: a callback is due at once, with its attempts counted anew; for a
    /// result on its way to a session that session is woken. Returns the delivery as it was then.
    ///
    /// # Errors
    /// There is no such delivery, it is settled, or nobody can take it; or the store refuses.
    pub async fn retry_delivery(
        &self,
        kind: DeliveryKind,
        run: RunId,
        origin: Origin,
    ) -> Result<DeliveryRow, Refusal> {
        let row = self.unsettled(kind, run).await?;
        if let DeliveryState::Undeliverable(why) = &row.state {
            let refusal = Refusal::forbidden(
                "undeliverable",
                format!("the result of run {run} cannot be delivered: {why}"),
                match why {
                    Undeliverable::NoAgent => "add the agent to agents.list, or dismiss the delivery",
                    Undeliverable::NoSession => "dismiss the delivery; the result stays with its run",
                },
            );
            return Err(refusal);
        }
        let audit = self.audit_of("delivery.retried", origin, session_of(&row), facts(&row));
        match &row.receiver {
            Receiver::Address(_) => self.commit(vec![Op::RetryCallback { run }, audit]).await?,
            Receiver::Session(key) => {
                self.commit(vec![audit]).await?;
                // What it is told is what it was told when the run ended; one that has the result already knows that.
                let stored = self.shared.storage.load_session(key.clone()).await.map_err(unread)?;
                let waits = stored.and_then(|stored| {
                    stored.announces.into_iter().find(|announce| announce.item.run == run)
                });
                if let Some(announce) = waits {
                    let message = SessionMsg::ChildEnded { run, announce: Some(Box::new(announce)) };
                    self.shared.deliver(key, message);
                }
            }
        }
        Ok(self.delivery(kind, run).await?.unwrap_or(row))
    }

    /// Ends a delivery that nobody wants any more. A result on its way to a session is only dismissed if that session
    /// cannot take it: otherwise it takes it, soon. Returns the delivery as it is then.
    ///
    /// # Errors
    /// There is no such delivery, it is settled, or its receiver takes it; or the store refuses.
    pub async fn dismiss_delivery(
        &self,
        kind: DeliveryKind,
        run: RunId,
        origin: Origin,
    ) -> Result<DeliveryRow, Refusal> {
        let row = self.unsettled(kind, run).await?;
        let audit = self.audit_of("delivery.dismissed", origin, session_of(&row), facts(&row));
        match &row.receiver {
            Receiver::Address(_) => {
                let at = self.shared.system.clock.now();
                self.commit(vec![Op::DismissCallback { run, at }, audit]).await?;
            }
            Receiver::Session(key) => {
                // One that is awake has the result in its hands, and would find that it is gone.
                let takes = match &row.state {
                    // What somebody left behind who went away, nobody has.
                    DeliveryState::Undeliverable(Undeliverable::NoSession) => false,
                    DeliveryState::Undeliverable(Undeliverable::NoAgent) => {
                        self.shared.live.contains_key(key)
                    }
                    _ => true,
                };
                if takes {
                    let text =
                        format!("the result of run {run} is on its way to session {key}, which takes it");
                    let hint = format!(
                        "`offshoot runs list --open --session {key}` shows what keeps it; deleting or resetting the session \
                         takes the result with it"
                    );
                    return Err(Refusal::forbidden("delivery_open", text, hint));
                }
                let mut transaction = vec![Op::DismissAnnounce { run }, audit];
                let child = self.shared.storage.session(row.session.clone()).await.map_err(unread)?;
                if child.is_some_and(|child| child.cleanup == Cleanup::Delete) {
                    let session = row.session.clone();
                    transaction.push(Op::DeleteSession { session, with_parents: true });
                }
                self.commit(transaction).await?;
                self.shared.changed(key);
            }
        }
        Ok(self.delivery(kind, run).await?.unwrap_or(row))
    }

    async fn delivery(&self, kind: DeliveryKind, run: RunId) -> Result<Option<DeliveryRow>, Refusal> {
        let filter = DeliveryFilter { kind: Some(kind), run: Some(run), ..DeliveryFilter::default() };
        let found = self.deliveries(filter, Page { offset: 0, limit: 1 }).await;
        Ok(found.map_err(unread)?.into_iter().next())
    }

    async fn unsettled(&self, kind: DeliveryKind, run: RunId) -> Result<DeliveryRow, Refusal> {
        let found = self.delivery(kind, run).await?;
        let row = found.ok_or_else(|| {
            Refusal::error("unknown_delivery", format!("run {run} has no {kind} to deliver"))
                .with_hint("list the deliveries with `offshoot deliveries list`")
        })?;
        if row.state.is_settled() {
            let text = format!("the {kind} of run {run} was {} before", row.state.status());
            return Err(Refusal::error("settled", text));
        }
        Ok(row)
    }

    pub(super) fn audit_of(
        &self,
        event: &'static str,
        origin: Origin,
        (session, run): (Option<SessionKey>, RunId),
        facts: Vec<(&'static str, String)>,
    ) -> Op {
        let at = self.shared.system.clock.now();
        Op::Audit(Box::new(AuditRecord { at, event, origin, session, run: Some(run), facts }))
    }

    /// Commits changes of deliveries.
    pub(super) async fn commit(&self, transaction: Transaction) -> Result<(), Refusal> {
        self.shared.committed(transaction).await.map_err(|refused| match refused {
            Refused::Storage(error) => unread(error),
            refused => Refusal::error("conflict", refused.to_string()),
        })
    }
}

fn unread(error: StoreError) -> Refusal {
    Refusal::error("store", error.to_string())
}

fn session_of(row: &DeliveryRow) -> (Option<SessionKey>, RunId) {
    (Some(row.session.clone()), row.run)
}

fn facts(row: &DeliveryRow) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("kind", row.kind.to_string()),
        ("receiver", row.receiver.to_string()),
        ("state", row.state.status().to_string()),
    ];
    match &row.state {
        DeliveryState::Failed { reason, attempts, .. } => {
            facts.extend([("reason", reason.clone()), ("attempts", attempts.to_string())]);
        }
        DeliveryState::Undeliverable(why) => facts.push(("reason", why.to_string())),
        DeliveryState::Open | DeliveryState::Delivered | DeliveryState::Dismissed => {}
    }
    facts
}
