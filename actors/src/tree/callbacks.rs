//! Where results are wanted outside, as users of the tree keep it.

use tokio::sync::oneshot;

use super::TreeHandle;
use crate::ports::{CallbackRow, Op, Refused};
use crate::types::{Refusal, RunId};

impl TreeHandle {
    /// Keeps where the result of a run is wanted, in the place of what was kept for it before. Answers once that is
    /// committed.
    ///
    /// # Errors
    /// There is no such run, or the store does not take it.
    pub async fn keep_callback(&self, callback: CallbackRow) -> Result<(), Refusal> {
        self.change_callbacks(Op::PutCallback(Box::new(callback))).await
    }

    /// Forgets it: the result was delivered, or nobody will take it.
    ///
    /// # Errors
    /// It is not there, or the store does not take the change.
    pub async fn drop_callback(&self, run: RunId) -> Result<(), Refusal> {
        self.change_callbacks(Op::TakeCallback { run }).await
    }

    async fn change_callbacks(&self, op: Op) -> Result<(), Refusal> {
        let (sender, receiver) = oneshot::channel();
        self.shared.commit(vec![op], move |result| {
            // Who no longer waits needs no answer.
            let _ = sender.send(result);
        });
        match receiver.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Refused::Storage(error))) => Err(Refusal::error("store", error.to_string())),
            Ok(Err(refused)) => Err(Refusal::error("conflict", refused.to_string())),
            Err(_) => Err(super::gone()),
        }
    }
}
