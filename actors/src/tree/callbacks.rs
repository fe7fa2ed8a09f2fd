//! Where results are wanted outside, as users of the tree keep it.

use super::TreeHandle;
use crate::ports::{CallbackMark, CallbackRow, Op, RunRow, StoreError, Transaction};
use crate::types::{Origin, Outcome, Refusal, RunId};

/// A run of which nothing is left to do.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The run.
    pub row: RunRow,
    /// How it ended.
    pub outcome: Outcome,
    /// The runs in which its session took up the results of what it spawned, oldest first.
    pub follow_ups: Vec<RunRow>,
}

impl TreeHandle {
    /// Keeps where the result of a run is wanted, in the place of what was kept for it before. Answers once that is
    /// committed.
    ///
    /// # Errors
    /// There is no such run, or the store does not take it.
    pub async fn keep_callback(&self, callback: CallbackRow) -> Result<(), Refusal> {
        self.commit(vec![Op::PutCallback(Box::new(callback))]).await
    }

    /// Keeps what became of an attempt to deliver it. That nothing more is tried is entered into the audit record.
    ///
    /// # Errors
    /// With code `conflict`: it is not wanted any more, or another is kept in its place. Or the store does not take the
    /// change.
    pub async fn mark_callback(&self, callback: CallbackRow, mark: CallbackMark) -> Result<(), Refusal> {
        let (run, receiver) = (callback.run, callback.receiver());
        let given_up = match &mark {
            CallbackMark::Failed { reason, attempts, next: None } => Some(vec![
                ("kind", "callback".to_owned()),
                ("receiver", receiver),
                ("reason", reason.clone()),
                ("attempts", attempts.to_string()),
            ]),
            _ => None,
        };
        let mut transaction = Transaction::from([Op::MarkCallback { callback: Box::new(callback), mark }]);
        transaction.extend(
            given_up.map(|facts| self.audit_of("delivery.failed", Origin::Timer, (None, run), facts)),
        );
        self.commit(transaction).await
    }

    /// Has it tried again at once, whatever became of it since somebody asked for that with
    /// [`retry_delivery`](Self::retry_delivery).
    ///
    /// # Errors
    /// With code `conflict`: it is not wanted any more. Or the store does not take the change.
    pub async fn renew_callback(&self, run: RunId) -> Result<(), Refusal> {
        self.commit(vec![Op::RetryCallback { run }]).await
    }

    /// Waits until a run and all that it led to are done. Returns the runs of its own session, at
    /// most `limit` of the newest, the oldest first: the run itself, and those on the results of what it spawned.
    ///
    /// # Errors
    /// The run does not exist, or the store cannot be read.
    pub async fn settled(&self, run: RunId, limit: u32) -> Result<Settled, Refusal> {
        let read = |error: StoreError| Refusal::error("store", error.to_string());
        let outcome = self.outcome(run).await?;
        let storage = &self.shared.storage;
        let row = storage.run(run).await.map_err(read)?.ok_or_else(|| Refusal::unknown_run(run))?;
        // What it led to lies in its tree. One whose session is deleted led to nothing more.
        let session = storage.session(row.session.clone()).await.map_err(read)?;
        let root = session.map_or_else(|| row.session.clone(), |session| session.root);
        let mut changes = self.shared.watch_root(&root);
        let led_to = |limit| storage.consequences(run, Some(row.session.clone()), limit);
        while led_to(0).await.map_err(read)?.pending {
            // The store may show an end before its commit tells of it, never after.
            changes.changed().await;
        }
        // The rows hold all texts: they are read once nothing changes them any more.
        let found = led_to(limit).await.map_err(read)?;
        // What it spawned has sessions of its own: the others took up results.
        let follow_ups = found.runs.into_iter().filter(|other| other.id != run).collect();
        Ok(Settled { row, outcome, follow_ups })
    }
}
