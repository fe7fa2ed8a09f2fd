//! Events about the connections themselves: the challenge, who came and left, the tick, the end.

use offshoot_actors::ports::PairingEvent;
use offshoot_actors::types::{Scope, Timestamp};
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::audit;
use super::client::Client;
use super::daemon::Daemon;
use super::hub::{Gate, Outgoing};
use super::outbox::Lossy;
use super::presence::{self, Presence};
use super::record;
use super::registry;
use crate::protocol::event::EventText;
use crate::protocol::version::Protocol;

/// Every event that may come, as `hello-ok` lists them.
pub(crate) const NAMES: &[&str] = &[
    "connect.challenge",
    "agent",
    "chat",
    "session.message",
    "session.tool",
    "sessions.changed",
    "task",
    "presence",
    "tick",
    "health",
    "shutdown",
    "device.pair.requested",
    "device.pair.resolved",
    "subagent.spawned",
    "subagent.started",
    "subagent.progress",
    "subagent.ended",
    "tree",
];

/// The first frame on every socket.
pub(crate) fn challenge(nonce: &str, now: Timestamp) -> String {
    let payload = json!({ "nonce": nonce, "ts": now.0 });
    EventText::of("connect.challenge", &payload, None).map(|event| event.without_seq()).unwrap_or_default()
}

/// A payload as JSON; what cannot be written is nothing.
pub(crate) fn raw(payload: &impl Serialize) -> Box<RawValue> {
    to_raw_value(payload).unwrap_or_default()
}

/// A client came.
pub(crate) fn came(daemon: &Daemon, client: &Client) {
    audit::opened(daemon, client);
    if Presence::shows(client) {
        daemon.presence.touch();
    }
}

/// A client left.
pub(crate) fn left(daemon: &Daemon, client: &Client) {
    if Presence::shows(client) {
        let entry = presence::entry_of(client, "disconnect", daemon.clock.now());
        daemon.presence.note(presence::key_of(client), entry);
    }
}

/// Sends the list of who is there to whoever may read it, if it changed since the last time: when a thousand clients
/// come at once, each of them is not told a thousand times.
pub(crate) fn presence(daemon: &Daemon) {
    let Some(version) = daemon.presence.changed() else { return };
    let payload = |_: Protocol| raw(&json!({ "presence": daemon.presence_list() }));
    let gate = Gate::Scope(Scope::Read);
    daemon.hub.broadcast(&Outgoing::new("presence", gate, Lossy::Droppable, &payload).with_state(version));
}

/// Shows clients that the connection lives.
pub(crate) fn tick(daemon: &Daemon) {
    let payload = |_: Protocol| raw(&json!({ "ts": daemon.clock.now().0 }));
    daemon.hub.broadcast(&Outgoing::new("tick", Gate::Everyone, Lossy::Needed, &payload));
}

/// Tells that the daemon goes away, and when another one is expected in its place, if one is.
pub(crate) fn shutdown(daemon: &Daemon, reason: &str) {
    let payload = |_: Protocol| {
        let mut told = json!({ "reason": reason });
        if let (Some(back_in), Some(told)) = (daemon.ending.back_in(), told.as_object_mut()) {
            told.insert("restartExpectedMs".to_owned(), record::millis(back_in).into());
        }
        raw(&told)
    };
    daemon.hub.broadcast(&Outgoing::new("shutdown", Gate::Everyone, Lossy::Needed, &payload));
}

/// Tells those who may approve devices of what happens to them.
pub(crate) fn pairing(daemon: &Daemon, event: &PairingEvent) {
    let gate = Gate::Scope(Scope::Pairing);
    match event {
        PairingEvent::Requested(request) => {
            let payload = |_: Protocol| raw(&registry::pending(request));
            daemon.hub.broadcast(&Outgoing::new("device.pair.requested", gate, Lossy::Droppable, &payload));
        }
        PairingEvent::Resolved { request, device, verdict, at } => {
            let payload = |_: Protocol| {
                raw(
                    &json!({ "requestId": request, "deviceId": device, "decision": verdict.as_str(), "ts": at.0 }),
                )
            };
            daemon.hub.broadcast(&Outgoing::new("device.pair.resolved", gate, Lossy::Droppable, &payload));
        }
        PairingEvent::Removed { .. }
        | PairingEvent::TokenRotated { .. }
        | PairingEvent::TokenRevoked { .. } => {}
    }
}
