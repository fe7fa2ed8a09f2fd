//! Where the tree's events enter the bridge.

use std::fmt;
use std::sync::Arc;

use offshoot_actors::ports::{Event, EventSink, PairingEvent};
use offshoot_actors::types::Origin;

use super::daemon::Daemon;
use super::outbox::Close;
use crate::telemetry;

/// Takes the tree's events. Nothing of them is lost by a gateway that restarts: they are about what is stored.
pub(crate) struct Sink {
    daemon: Arc<Daemon>,
}

impl Sink {
    pub(crate) const fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon }
    }
}

impl EventSink for Sink {
    fn publish(&self, event: Event) {
        let now = self.daemon.clock.monotonic();
        self.daemon.metrics.tally.hear(&event, now, &self.daemon.config().prices);
        telemetry::happened(&event);
        self.daemon.traces.hear(&event);
        self.daemon.watches.hear(&event);
        // Before whoever submitted the run gets its answer: the name is known from then on.
        match &event {
            Event::Pairing(event) => return self.daemon.on_pairing(event),
            // Nothing that clients are told.
            Event::StepStarted { .. } | Event::Noted(_) | Event::Watched(_) => return,
            Event::Submitted { run, wire_id: Some(name), .. } => self.daemon.runs.accepted(*run, name),
            Event::Ended { run, .. } => self.daemon.runs.ended(*run),
            _ => {}
        }
        self.daemon.project(event);
    }

    fn listens(&self) -> bool {
        self.daemon.hub.len() > 0 || self.daemon.watches.any()
    }
}

impl Daemon {
    /// Tells whoever manages devices, and closes the connections of a device that lost what it came in with.
    fn on_pairing(&self, event: &PairingEvent) {
        super::events::pairing(self, event);
        let (device, origin, reason) = match event {
            PairingEvent::Requested(_) | PairingEvent::Resolved { .. } => return,
            PairingEvent::Removed { device, origin } => (device, origin, "device removed"),
            PairingEvent::TokenRotated { device, origin, .. } => (device, origin, "device token rotated"),
            PairingEvent::TokenRevoked { device, origin, .. } => (device, origin, "device token revoked"),
        };
        let asker = match origin {
            Origin::Client { connection, .. } => Some(*connection),
            _ => None,
        };
        self.hub.close_device(device, asker, &Close::new(4001, reason));
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}
