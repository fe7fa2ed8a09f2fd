//! What the clients of a test saw, in the order in which they saw it.

use std::sync::{Arc, Mutex};

/// One thing that a client saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It sent a request under this idempotency key, for the first time or again.
    Asked {
        key: String,
    },
    /// The request was accepted, as this run.
    Accepted {
        key: String,
        run: Run,
    },
    Refused {
        key: String,
        why: String,
    },
    /// No answer came: it may or may not have been accepted.
    Unknown {
        key: String,
    },
    /// It was told that the run has ended, as this.
    Told {
        key: String,
        ok: bool,
    },
}

/// How an answer names a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Run {
    /// By the name that the client gave it.
    Wire(String),
    /// By its own id.
    Id(String),
}

/// Where clients write down what they saw.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Vec<Event>>>);

impl History {
    pub fn push(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }
}
