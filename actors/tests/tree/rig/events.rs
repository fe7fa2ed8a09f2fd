//! What the tree tells.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use offshoot_actors::ports::{Event, EventSink};

/// Remembers every event, unless nobody listens.
#[derive(Default)]
pub struct Events {
    told: Mutex<Vec<Event>>,
    deaf: AtomicBool,
}

impl EventSink for Events {
    fn publish(&self, event: Event) {
        self.told.lock().unwrap().push(event);
    }

    fn listens(&self) -> bool {
        !self.deaf.load(Ordering::SeqCst)
    }
}

impl Events {
    /// Whether anybody listens from now on.
    pub fn listen(&self, listens: bool) {
        self.deaf.store(!listens, Ordering::SeqCst);
    }

    pub fn all(&self) -> Vec<Event> {
        self.told.lock().unwrap().clone()
    }

    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.all().iter().filter(|event| wanted(event)).count()
    }
}
