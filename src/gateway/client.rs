//! A client that is connected: what it may do, and where it is reached.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offshoot_actors::kit::Handle;
use offshoot_actors::types::{DeviceId, Origin, Role, Scope, Scopes, SessionKey, Timestamp};

use super::connection::ConnectionMsg;
use super::outbox::Outbox;
use super::watching::TreeWatch;
use crate::protocol::connect::ClientInfo;
use crate::protocol::hello::AuthMethod;
use crate::protocol::version::Protocol;

/// Sessions whose messages one client may follow by name.
const MAX_FOLLOWED: usize = 1_000;
/// Runs whose tool events a client gets because it started them; the oldest are forgotten.
const MAX_STARTED: usize = 256;

/// A client after its `hello-ok`. What it may do never changes: for other rights it connects again.
#[derive(Debug)]
pub(crate) struct Client {
    /// The connection's number in this process.
    pub(crate) number: u64,
    /// The connection's id on the wire.
    pub(crate) connection: String,
    pub(crate) protocol: Protocol,
    pub(crate) role: Role,
    pub(crate) scopes: Scopes,
    pub(crate) device: Option<DeviceId>,
    /// How it proved itself.
    pub(crate) method: AuthMethod,
    pub(crate) address: IpAddr,
    /// Whether it takes the tool events of the runs that it starts.
    pub(crate) tool_events: bool,
    /// What it says of itself.
    pub(crate) facts: ClientInfo,
    pub(crate) since: Timestamp,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) actor: Handle<ConnectionMsg>,
    pub(crate) follows: Follows,
}

impl Client {
    /// Who asks, as a value for everything behind the bridge.
    pub(crate) fn origin(&self) -> Origin {
        Origin::Client {
            connection: self.number,
            device: self.device.as_ref().map(ToString::to_string),
            scopes: self.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        }
    }

    /// Whether it holds the scope, itself or by one that implies it.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.role == Role::Operator && self.scopes.implied().contains(scope)
    }
}

/// Which sessions and runs a client wants to hear of.
#[derive(Debug, Default)]
pub(crate) struct Follows {
    /// Changes of all sessions (`sessions.subscribe`).
    all: AtomicBool,
    lists: Mutex<Lists>,
    /// What it wants to see of the tree, if anything, and what it was told last.
    tree: Mutex<Option<TreeWatch>>,
}

#[derive(Debug, Default)]
struct Lists {
    /// Messages of these sessions (`sessions.messages.subscribe`).
    sessions: BTreeSet<SessionKey>,
    /// Runs that it started, by their names on the wire, the oldest first.
    started: Vec<String>,
}

impl Follows {
    /// What it follows of the tree, to be looked at or set.
    pub(crate) fn tree(&self) -> MutexGuard<'_, Option<TreeWatch>> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a request is queued: if it was that with the first view of the tree, what changes may follow it.
    pub(crate) fn answered(&self, request: &str) {
        if let Some(watch) = self.tree().as_mut() {
            watch.answered(request);
        }
    }

    pub(crate) fn set_all(&self, all: bool) {
        self.all.store(all, Ordering::Relaxed);
    }

    pub(crate) fn all(&self) -> bool {
        self.all.load(Ordering::Relaxed)
    }

    /// Whether there was room for one more.
    pub(crate) fn session(&self, key: SessionKey) -> bool {
        let sessions = &mut self.lock().sessions;
        if sessions.len() >= MAX_FOLLOWED && !sessions.contains(&key) {
            return false;
        }
        sessions.insert(key);
        true
    }

    pub(crate) fn leave_session(&self, key: &SessionKey) {
        self.lock().sessions.remove(key);
    }

    /// Whether it hears what is said in this session.
    pub(crate) fn hears(&self, key: &SessionKey) -> bool {
        self.all() || self.lock().sessions.contains(key)
    }

    pub(crate) fn started(&self, run: &str) {
        let started = &mut self.lock().started;
        if started.len() >= MAX_STARTED {
            started.remove(0);
        }
        started.push(run.to_owned());
    }

    pub(crate) fn has_started(&self, run: &str) -> bool {
        self.lock().started.iter().any(|known| known == run)
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
