//! The health snapshot: taken from the store now and then, and read from memory by everybody else.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use offshoot_actors::ports::{
    DeliveryTally, ListFilter, Page, SessionRow, Storage, StoreError, StoreHealth, Tallies, Trouble,
};
use offshoot_actors::types::{AgentId, Scope, Timestamp};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::daemon::Daemon;
use super::deliveries::counts;
use super::events::raw;
use super::hub::{Gate, Outgoing};
use super::outbox::Lossy;

/// Sessions of each agent that are named.
const RECENT: u32 = 5;
/// How long after the start of the process clients wait for the first look.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// Agents whose sessions are named: each is a question to the store.
const NAMED: usize = 64;

/// What the store held when it was last looked at.
#[derive(Debug, Default)]
struct Looked {
    /// When; none before the first look.
    at: Option<Timestamp>,
    tallies: Tallies,
    recent: BTreeMap<AgentId, Vec<SessionRow>>,
    deliveries: DeliveryTally,
    took_ms: u64,
}

/// The snapshot as it was written last.
#[derive(Debug, Default)]
struct Written {
    /// None before the first one.
    text: Option<Arc<RawValue>>,
    /// How the store was then.
    store: StoreHealth,
}

/// The snapshot.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    looked: RwLock<Arc<Looked>>,
    written: RwLock<Written>,
    /// How it was when everybody was told last.
    told: RwLock<StoreHealth>,
    /// Whether the first look is over.
    begun: watch::Sender<bool>,
}

impl Vitals {
    /// The snapshot as JSON; none before the first one.
    pub(crate) fn text(&self) -> Option<Arc<RawValue>> {
        self.written().text.clone()
    }

    /// The same, if the store was like this when it was written.
    pub(crate) fn text_with(&self, store: &StoreHealth) -> Option<Arc<RawValue>> {
        let written = self.written();
        if written.store == *store { written.text.clone() } else { None }
    }

    fn written(&self) -> RwLockReadGuard<'_, Written> {
        self.written.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self) -> Arc<Looked> {
        Arc::clone(&self.looked.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Daemon {
    /// The results on their way when the store was last looked at.
    pub(crate) fn deliveries_seen(&self) -> DeliveryTally {
        self.vitals.looked().deliveries
    }

    /// Looks into the store and takes the snapshot anew.
    ///
    /// # Errors
    /// The store cannot be read; the snapshot stays as it was.
    pub(crate) async fn take_vitals(&self, storage: &Arc<dyn Storage>) -> Result<(), StoreError> {
        let (at, began) = (self.clock.now(), self.clock.monotonic());
        let tallies = storage.tallies().await?;
        let config = self.config();
        let agents = config.settings.agents.keys().cloned().collect();
        let deliveries = storage.delivery_tally(Some(Arc::new(agents))).await?;
        let mut recent = BTreeMap::new();
        let with_sessions = config.settings.agents.keys().filter(|id| tallies.sessions.contains_key(id));
        for agent in with_sessions.take(NAMED) {
            let filter = ListFilter { agent: Some(agent.clone()), ..ListFilter::default() };
            let rows = storage.list_sessions(filter, Page { offset: 0, limit: RECENT }).await?;
            recent.insert(agent.clone(), rows);
        }
        let took = self.clock.monotonic().since(began).as_millis();
        let took_ms = u64::try_from(took).unwrap_or(u64::MAX);
        let looked = Looked { at: Some(at), tallies, recent, deliveries, took_ms };
        *self.vitals.looked.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(looked);
        self.write_vitals();
        Ok(())
    }

    /// Looks for the first time, beside the start of everything else.
    pub(crate) async fn take_first_vitals(&self, storage: &Arc<dyn Storage>) {
        if let Err(error) = self.take_vitals(storage).await {
            tracing::warn!(%error, "the health snapshot could not be taken");
        }
        self.vitals.begun.send_replace(true);
    }

    /// Waits for the first look, so that a client finds real figures, however early it comes; those of a large store come a
    /// moment later.
    pub(crate) async fn first_vitals(&self) {
        let mut begun = self.vitals.begun.subscribe();
        let left = FIRST_LOOK.saturating_sub(self.clock.now() - self.started_at);
        tokio::select! {
            _ = begun.wait_for(|begun| *begun) => {}
            () = self.clock.sleep(left) => {}
        }
    }

    /// Writes the snapshot anew from what is known, after a change of the configuration.
    pub(crate) fn write_vitals(&self) {
        let store = self.store_health();
        let text: Arc<RawValue> = raw(&snapshot(self, &self.vitals.looked(), &store)).into();
        *self.vitals.written.write().unwrap_or_else(PoisonError::into_inner) =
            Written { text: Some(text), store };
    }

    /// Tells of the store where something has changed about it, and has it try again where it refuses work: nobody else
    /// may ask anything of it for hours.
    pub(crate) fn look_at_store(&self) {
        let Ok(tree) = self.tree() else { return };
        if tree.storage().health().refuses.is_some() {
            tree.storage().try_again();
        }
        self.note_store();
        let health = self.vitals.written().store.clone();
        let told = *self.vitals.told.read().unwrap_or_else(PoisonError::into_inner) == health;
        if !told {
            *self.vitals.told.write().unwrap_or_else(PoisonError::into_inner) = health;
            self.tell_vitals();
        }
    }

    /// Writes the snapshot anew if something about the store has changed.
    fn note_store(&self) {
        let known = self.vitals.written().store == self.store_health();
        if !known {
            self.write_vitals();
        }
    }

    /// Sends the snapshot to whoever may read it.
    pub(crate) fn tell_vitals(&self) {
        let Some(text) = self.vitals.text() else { return };
        let state = self.presence.health_changed();
        let payload = |_| RawValue::to_owned(&text);
        let gate = Gate::Scope(Scope::Read);
        self.hub.broadcast(&Outgoing::new("health", gate, Lossy::Droppable, &payload).with_state(state));
    }
}

/// How the store is, for people and programs.
pub(crate) fn store_json(health: &StoreHealth) -> Value {
    let trouble = |trouble: &Trouble| {
        let Trouble { error, since } = trouble;
        json!({ "kind": error.kind(), "reason": error.to_string(), "since": since.0 })
    };
    json!({
        "ok": health.refuses.is_none(),
        "refuses": health.refuses.as_ref().map(trouble),
        "damaged": health.damaged.as_ref().map(trouble),
    })
}

fn snapshot(daemon: &Daemon, looked: &Looked, store: &StoreHealth) -> Value {
    let config = daemon.config();
    // Also where the snapshot is written anew for another reason, the figures are those of the look.
    let now = looked.at.unwrap_or_else(|| daemon.clock.now());
    let default = &config.settings.default_agent;
    let path = daemon.store_path();
    let recent = |agent: &AgentId| -> Vec<Value> {
        let rows = looked.recent.get(agent).map(Vec::as_slice).unwrap_or_default();
        let row = |row: &SessionRow| {
            let age = now.0.saturating_sub(row.updated_at.0);
            json!({ "key": row.key, "updatedAt": row.updated_at.0, "age": age })
        };
        rows.iter().map(row).collect()
    };
    let sessions = |agent: &AgentId| {
        let count = looked.tallies.sessions.get(agent).copied().unwrap_or(0);
        json!({ "path": path, "count": count, "recent": recent(agent) })
    };
    let agent = |id: &AgentId| {
        json!({
            "agentId": id,
            "isDefault": id == default,
            "heartbeat": { "enabled": false, "every": "disabled", "everyMs": null, "prompt": "", "target": "none",
                "ackMaxChars": 300 },
            "sessions": sessions(id),
        })
    };
    json!({
        "ok": store.refuses.is_none(),
        "ts": now.0,
        "durationMs": looked.took_ms,
        "channels": {},
        "channelOrder": [],
        "channelLabels": {},
        "heartbeatSeconds": 0,
        "defaultAgentId": default,
        "agents": config.settings.agents.keys().map(agent).collect::<Vec<_>>(),
        "sessions": {
            "path": path,
            "count": looked.tallies.sessions.values().sum::<u64>(),
            "recent": recent(default),
        },
        "plugins": { "loaded": [], "errors": [], "unavailable": [] },
        "store": store_json(store),
        "deliveries": counts(&looked.deliveries),
        "configReload": daemon.reloading.report(),
    })
}
