//! Who is connected, as clients show it to people.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use offshoot_actors::types::Timestamp;

use super::client::Client;
use super::hub::Hub;
use crate::protocol::client::ClientMode;
use crate::protocol::event::StateVersion;
use crate::protocol::presence::{MAX_ENTRIES, PresenceEntry, TTL_MS};

/// Entries beyond the connected clients, and how often either changed.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// Those who left of late, and what clients said of themselves, the newest last.
    noted: Mutex<VecDeque<(String, PresenceEntry)>>,
    touched: AtomicBool,
    presence: AtomicU64,
    health: AtomicU64,
}

impl Presence {
    /// Whether a client is shown at all: commands come and go too fast.
    pub(crate) fn shows(client: &Client) -> bool {
        !matches!(client.facts.mode, ClientMode::Cli | ClientMode::Probe)
    }

    /// What clients compare their copies with.
    pub(crate) fn version(&self) -> StateVersion {
        StateVersion {
            presence: self.presence.load(Ordering::Relaxed),
            health: self.health.load(Ordering::Relaxed),
        }
    }

    /// Someone came or went.
    pub(crate) fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    /// The next version, if someone came or went since the last one.
    pub(crate) fn changed(&self) -> Option<StateVersion> {
        if !self.touched.swap(false, Ordering::Relaxed) {
            return None;
        }
        self.presence.fetch_add(1, Ordering::Relaxed);
        Some(self.version())
    }

    /// The health snapshot was taken anew.
    pub(crate) fn health_changed(&self) -> StateVersion {
        self.health.fetch_add(1, Ordering::Relaxed);
        self.version()
    }

    /// Keeps an entry under a key for a while, in the place of an older one.
    pub(crate) fn note(&self, key: String, entry: PresenceEntry) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|(known, _)| *known != key);
        if noted.len() >= MAX_ENTRIES {
            noted.pop_front();
        }
        noted.push_back((key, entry));
        drop(noted);
        self.touch();
    }

    /// The list: the gateway itself, the connected clients, and those who left less than five minutes ago.
    pub(crate) fn list(&self, gateway: PresenceEntry, hub: &Hub, now: Timestamp) -> Vec<PresenceEntry> {
        let mut entries = vec![gateway];
        let mut keys = Vec::new();
        for client in hub.clients().iter().filter(|client| Self::shows(client)) {
            if entries.len() >= MAX_ENTRIES {
                break;
            }
            let key = key_of(client);
            if !keys.contains(&key) {
                entries.push(entry_of(client, "connect", client.since));
                keys.push(key);
            }
        }
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|(_, entry)| now.0.saturating_sub(entry.ts) < TTL_MS);
        let room = MAX_ENTRIES.saturating_sub(entries.len());
        let gone = noted.iter().rev().filter(|(key, _)| !keys.contains(key));
        entries.extend(gone.take(room).map(|(_, entry)| entry.clone()));
        entries
    }
}

/// The key under which a client is one: its device, else its instance, else its connection.
pub(crate) fn key_of(client: &Client) -> String {
    let device = client.device.as_ref().map(ToString::to_string);
    device.or_else(|| client.facts.instance_id.clone()).unwrap_or_else(|| client.connection.clone())
}

/// A client's entry.
pub(crate) fn entry_of(client: &Client, reason: &str, at: Timestamp) -> PresenceEntry {
    let facts = &client.facts;
    let mode = facts.mode.as_str();
    let host = facts.display_name.clone().unwrap_or_else(|| facts.id.as_str().to_owned());
    PresenceEntry {
        ip: Some(client.address.to_string()),
        version: Some(facts.version.clone()),
        platform: Some(facts.platform.clone()),
        device_family: facts.device_family.clone(),
        model_identifier: facts.model_identifier.clone(),
        mode: Some(mode.to_owned()),
        reason: Some(reason.to_owned()),
        text: format!("{host} ({}) · {mode} {} · {reason}", client.address, facts.version),
        host: Some(host),
        ts: at.0,
        device_id: client.device.as_ref().map(ToString::to_string),
        roles: Some(vec![client.role.as_str().to_owned()]),
        scopes: Some(client.scopes.iter().map(|scope| scope.as_str().to_owned()).collect()),
        instance_id: facts.instance_id.clone(),
        ..PresenceEntry::default()
    }
}
