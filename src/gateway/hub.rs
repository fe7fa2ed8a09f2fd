//! Every connected client, and how one event reaches many of them.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use offshoot_actors::types::{DeviceId, Role, Scope};
use serde_json::value::RawValue;

use super::client::Client;
use super::connection::ConnectionMsg;
use super::outbox::{Close, Lossy};
use crate::protocol::event::{EventText, StateVersion};
use crate::protocol::hello::AuthMethod;
use crate::protocol::version::Protocol;

/// Who may hear an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Everyone,
    /// Operators that hold the scope.
    Scope(Scope),
}

impl Gate {
    fn lets(self, client: &Client) -> bool {
        match self {
            Self::Everyone => true,
            Self::Scope(scope) => client.role == Role::Operator && client.may(scope),
        }
    }
}

/// An event on its way out: its payload is made once for each protocol that somebody speaks.
pub(crate) struct Outgoing<'a> {
    name: &'static str,
    gate: Gate,
    lossy: Lossy,
    state: Option<StateVersion>,
    payload: &'a dyn Fn(Protocol) -> Box<RawValue>,
    made: [OnceCell<Option<EventText>>; 2],
}

impl<'a> Outgoing<'a> {
    /// An event with a payload of JSON for each protocol.
    pub(crate) fn new(
        name: &'static str,
        gate: Gate,
        lossy: Lossy,
        payload: &'a dyn Fn(Protocol) -> Box<RawValue>,
    ) -> Self {
        Self { name, gate, lossy, state: None, payload, made: [const { OnceCell::new() }; 2] }
    }

    pub(crate) const fn with_state(mut self, state: StateVersion) -> Self {
        self.state = Some(state);
        self
    }

    /// Gives it to the client, if its gate lets it through.
    pub(crate) fn send(&self, client: &Client) {
        if !self.gate.lets(client) {
            return;
        }
        let slot = match client.protocol {
            Protocol::V3 => &self.made[0],
            Protocol::V4 => &self.made[1],
        };
        let make = || EventText::new(self.name, &(self.payload)(client.protocol), self.state).ok();
        if let Some(event) = slot.get_or_init(make) {
            client.outbox.event(event, self.lossy);
        }
    }
}

/// How much of what became worthless is remembered for those who are on their way in.
const REMEMBERED: usize = 64;

/// What clients came in with that is worth nothing any more.
#[derive(Debug)]
enum Worthless {
    /// What a device came in with.
    Device(DeviceId),
    /// What was proved in these ways.
    Methods(Vec<AuthMethod>),
}

impl Worthless {
    fn is_of(&self, client: &Client) -> bool {
        match self {
            Self::Device(device) => client.device.as_ref() == Some(device),
            Self::Methods(methods) => methods.contains(&client.method),
        }
    }
}

#[derive(Debug, Default)]
struct Invalidated {
    /// How often that happened.
    count: u64,
    /// The last ones, the newest first.
    recent: VecDeque<Worthless>,
}

/// The clients, by the numbers of their connections.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    clients: DashMap<u64, Arc<Client>>,
    count: AtomicUsize,
    invalidated: Mutex<Invalidated>,
}

impl Hub {
    /// How often what clients prove themselves with has become worthless.
    pub(crate) fn invalidations(&self) -> u64 {
        self.lock_invalidated().count
    }

    /// Whether what this client came in with has become worthless since that count, or may have.
    pub(crate) fn is_worthless(&self, client: &Client, since: u64) -> bool {
        let invalidated = self.lock_invalidated();
        let missed = usize::try_from(invalidated.count.saturating_sub(since)).unwrap_or(usize::MAX);
        let mut recent = invalidated.recent.iter().take(missed);
        missed > invalidated.recent.len() || recent.any(|worthless| worthless.is_of(client))
    }

    /// Before anybody is closed: a client that is on its way in is here by now, or finds this afterwards.
    fn invalidate(&self, worthless: Worthless) {
        let mut invalidated = self.lock_invalidated();
        invalidated.count += 1;
        invalidated.recent.truncate(REMEMBERED - 1);
        invalidated.recent.push_front(worthless);
    }

    fn lock_invalidated(&self) -> MutexGuard<'_, Invalidated> {
        self.invalidated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn join(&self, client: Arc<Client>) {
        if self.clients.insert(client.number, client).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a connection out that is gone. Returns who it was, if it had come so far.
    pub(crate) fn left(&self, number: u64) -> Option<Arc<Client>> {
        let (_, client) = self.clients.remove(&number)?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(client)
    }

    /// How many are connected.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Everyone who is connected, oldest first.
    pub(crate) fn clients(&self) -> Vec<Arc<Client>> {
        let mut clients: Vec<_> = self.clients.iter().map(|entry| Arc::clone(entry.value())).collect();
        clients.sort_unstable_by_key(|client| client.number);
        clients
    }

    /// Gives an event to everyone whom its gate lets through and `wants` names.
    pub(crate) fn send(&self, event: &Outgoing<'_>, wants: impl Fn(&Client) -> bool) {
        for client in &self.clients {
            if wants(&client) {
                event.send(&client);
            }
        }
    }

    /// Gives an event to everyone whom its gate lets through.
    pub(crate) fn broadcast(&self, event: &Outgoing<'_>) {
        self.send(event, |_| true);
    }

    /// Closes the connections of a device at once. The one that asked for it gets its answer before.
    pub(crate) fn close_device(&self, device: &DeviceId, asker: Option<u64>, close: &Close) {
        self.invalidate(Worthless::Device(*device));
        for client in &self.clients {
            if client.device.as_ref() == Some(device) {
                let message = if Some(client.number) == asker {
                    ConnectionMsg::Dismiss(close.clone())
                } else {
                    ConnectionMsg::CutOff(close.clone())
                };
                // One that is gone needs no closing.
                drop(client.actor.send(message));
            }
        }
    }

    /// Closes every connection when its open requests have ended.
    pub(crate) fn drain_all(&self, close: &Close) {
        for client in &self.clients {
            drop(client.actor.send(ConnectionMsg::Drain(close.clone())));
        }
    }

    /// Closes the connections of those who proved themselves in these ways at once, but for one.
    pub(crate) fn close_proved_by(&self, methods: Vec<AuthMethod>, keep: Option<u64>, close: &Close) {
        if methods.is_empty() {
            return;
        }
        self.invalidate(Worthless::Methods(methods.clone()));
        for client in &self.clients {
            if methods.contains(&client.method) && Some(client.number) != keep {
                drop(client.actor.send(ConnectionMsg::CutOff(close.clone())));
            }
        }
    }

    /// Closes every connection.
    pub(crate) fn close_all(&self, close: &Close) {
        for client in &self.clients {
            drop(client.actor.send(ConnectionMsg::Disconnect(close.clone())));
        }
    }
}
