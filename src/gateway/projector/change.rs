//! A change of a session that is no event of a run.

use offshoot_actors::ports::Overview;
use offshoot_actors::types::{Scope, SessionKey};
use serde_json::{Map, json};

use crate::gateway::daemon::Daemon;
use crate::gateway::events::raw;
use crate::gateway::hub::{Gate, Outgoing};
use crate::gateway::outbox::Lossy;
use crate::gateway::rows::{RowShape, session_row};
use crate::protocol::version::Protocol;

/// What a client changed. It is told after what the tree did before it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) session: SessionKey,
    /// What was done: `create`, `patch`, `reset` or `delete`.
    pub(crate) reason: &'static str,
    /// The session as it is now; none if it is gone.
    pub(crate) now: Option<Overview>,
}

/// Sends `sessions.changed`. A session that is gone has no row.
pub(super) fn tell(daemon: &Daemon, change: &Change) {
    let Change { session: key, reason, now: session } = change;
    let (settings, now) = (daemon.config().settings.clone(), daemon.clock.now());
    let payload = |protocol: Protocol| {
        let mut payload = Map::new();
        if let Some(session) = session {
            let row = session_row(session, &RowShape { protocol, settings: &settings, now });
            // Older clients read the members beside the row.
            payload.extend(row.clone().into_iter().filter(|(name, _)| name != "key"));
            payload.insert("session".to_owned(), row.into());
        }
        payload.insert("sessionKey".to_owned(), json!(key));
        payload.insert("reason".to_owned(), json!(reason));
        payload.insert("ts".to_owned(), json!(now.0));
        raw(&payload)
    };
    let event = Outgoing::new("sessions.changed", Gate::Scope(Scope::Read), Lossy::Droppable, &payload);
    daemon.hub.send(&event, |client| client.follows.all());
}
