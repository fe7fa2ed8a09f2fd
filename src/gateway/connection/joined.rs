//! A client's place among the others.

use std::sync::Arc;

use crate::gateway::daemon::Daemon;
use crate::gateway::events;

/// A client among the others. Whatever ends its connection takes it out.
#[derive(Debug)]
pub(super) struct Joined {
    daemon: Arc<Daemon>,
    number: u64,
}

impl Joined {
    /// The place of a client that has joined.
    pub(super) const fn new(daemon: Arc<Daemon>, number: u64) -> Self {
        Self { daemon, number }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(client) = self.daemon.hub.left(self.number) {
            events::left(&self.daemon, &client);
        }
    }
}
