//! Work that an actor owns and that may take long.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::task::AbortHandle;

/// A running task. Dropping it aborts the work at its next await.
#[derive(Debug)]
pub struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Task {
    /// Runs `work` and gives its result, or the text of its panic, to `then`.
    pub(super) fn spawn<T: Send + 'static>(
        work: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(Result<T, String>) + Send + 'static,
    ) -> Self {
        // An async block would hold the work twice.
        let work = AssertUnwindSafe(work).catch_unwind();
        let task = work.map(|result| then(result.map_err(|panic| panic_text(panic.as_ref()))));
        Self(tokio::spawn(task).abort_handle())
    }
}

/// The text of a panic.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a text".to_owned())
}
