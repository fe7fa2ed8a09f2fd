//! What the tree tells.

use std::sync::Mutex;

use offshoot_actors::ports::{Event, EventSink};

/// Remembers every event but the pieces of text.
#[derive(Default)]
pub struct Events(Mutex<Vec<Event>>);

impl EventSink for Events {
    fn publish(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Events {
    pub fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.all().iter().filter(|event| wanted(event)).count()
    }
}
