//! How far a connection is, and what it has until it is there.

use std::sync::Arc;

use offshoot_actors::kit::Task;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::gateway::admission::Place;
use crate::gateway::client::Client;
use crate::gateway::methods::Call;
use crate::gateway::peer::Peer;
use crate::gateway::wire::Allowance;

/// How far a connection is.
#[derive(Debug)]
pub(super) enum State {
    /// The challenge is out.
    Greeted { nonce: String, entrant: Entrant },
    /// What the client sent is being checked. What it sends meanwhile is read once it is known.
    Checking { id: String, _check: Task, entrant: Entrant, queued: Vec<Utf8Bytes>, invalidations: u64 },
    /// The client is known.
    Open {
        client: Arc<Client>,
        /// To be filled with the next request: most are answered at once, and leave it as it was. None while one is
        /// looked at.
        blank: Option<Call>,
        wrong_role: u32,
    },
    /// The last word is said; the socket is being closed.
    Closing,
}

/// A client that is not known yet.
#[derive(Debug)]
pub(super) struct Entrant {
    pub(super) peer: Arc<Peer>,
    pub(super) headers: Arc<http::HeaderMap>,
    pub(super) allowance: Allowance,
    pub(super) _overdue: Task,
    pub(super) _unfinished: Place,
}
