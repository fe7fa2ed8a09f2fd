//! The store's threads.

use std::thread::{Builder, JoinHandle, current};

use offshoot_actors::ports::StoreError;

pub(super) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let started = Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|error| StoreError::Other(format!("cannot start the thread {name}: {error}")))
}

/// Waits for the end of a thread, unless it is the one that asks.
pub(super) fn join(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread.filter(|thread| thread.thread().id() != current().id())
        && thread.join().is_err()
    {
        tracing::error!("a thread of the store panicked");
    }
}
