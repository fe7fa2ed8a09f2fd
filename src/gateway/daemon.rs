//! What the actors of the gateway share: the tree behind them and the facts of this process.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use offshoot_actors::TreeHandle;
use offshoot_actors::kit::Handle;
use offshoot_actors::ports::{Clock, Event, StoreHealth};
use offshoot_actors::types::{Scope, SessionKey, Timestamp};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use super::admission::{MAX_HTTP, Place, Places};
use super::admit::Admitted;
use super::audit::{Entered, Happening, Repeats};
use super::callbacks::CallbacksMsg;
use super::client::Client;
use super::ending::Ending;
use super::events;
use super::hub::Hub;
use super::limits::{FailureLimits, Proof, RateLimit, Untold};
use super::methods::{self, Answer};
use super::presence::Presence;
use super::projector::{Change, ProjectorMsg, Told};
use super::record::{self, Record};
use super::reload::Reloading;
use super::runs::Runs;
use super::shared_token;
use super::socket::Turns;
use super::traces::Traces;
use super::tree::Revisions;
use super::vitals::Vitals;
use super::watch::Watches;
use super::watcher::WatcherMsg;
use crate::config::{Config, Document};
use crate::metrics::Metrics;
use crate::protocol::error::ErrorShape;
use crate::protocol::hello::{
    AdminSnapshot, Features, Granted, HelloOk, NewerDefaults, Policy, Server, SessionDefaults, Snapshot,
};
use crate::protocol::presence::PresenceEntry;
use crate::runtime::LiveModels;
use crate::store;
use crate::{telemetry, tools};

/// The version that clients are told.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Models that metrics name.
const MODELS: usize = 200;
/// When a client that came too early may try again.
const SOON: Duration = Duration::from_millis(500);

/// What a daemon is made of before its tree runs.
pub(crate) struct DaemonParts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Arc<Config>,
    pub(crate) state_dir: PathBuf,
    pub(crate) tls: Option<TlsAcceptor>,
    /// The models of the tree, where the configuration may exchange them.
    pub(crate) models: Option<Arc<LiveModels>>,
}

/// The daemon, for everything at the bridge. One for the life of the process: a gateway that is restarted finds it as
/// it was.
pub(crate) struct Daemon {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hub: Hub,
    /// In which large texts are written to clients.
    pub(crate) turns: Turns,
    pub(crate) presence: Presence,
    /// Of views of the tree.
    pub(crate) revisions: Revisions,
    /// Runs whose text is passed on while it comes.
    pub(crate) watches: Watches,
    /// What runs are called on the wire.
    pub(crate) runs: Runs,
    /// What clients were told of them.
    pub(crate) told: Arc<Told>,
    pub(crate) metrics: Metrics,
    /// Sockets that have not finished the handshake.
    unfinished: Places,
    /// Connections that speak HTTP.
    http: Places,
    /// Those who keep failing to prove themselves.
    pub(crate) failures: Mutex<FailureLimits>,
    untold: Mutex<Untold>,
    /// What the audit record has of those who come and are refused.
    repeats: Mutex<Repeats>,
    /// The same of the webhooks.
    pub(crate) hook_failures: Mutex<FailureLimits>,
    pub(crate) state_dir: PathBuf,
    pub(crate) started_at: Timestamp,
    /// The health snapshot.
    pub(crate) vitals: Vitals,
    /// What a collector is told of runs.
    pub(crate) traces: Arc<Traces>,
    /// The configuration file.
    pub(crate) reloading: Reloading,
    /// What commands beside us read of it, if they find it.
    record: Mutex<Option<Record>>,
    /// What the configuration was at the start.
    pub(crate) started_with: Document,
    /// The process among those before and after it.
    pub(crate) instance: String,
    models: Option<Arc<LiveModels>>,
    tls: Option<TlsAcceptor>,
    tree: OnceLock<TreeHandle>,
    config: RwLock<Arc<Config>>,
    callbacks: RwLock<Option<Handle<CallbacksMsg>>>,
    /// Tells clients what the tree looks like.
    watcher: RwLock<Option<Handle<WatcherMsg>>>,
    /// Tells clients of what happens in the tree.
    projector: RwLock<Option<Handle<ProjectorMsg>>>,
    bound: watch::Sender<BTreeSet<SocketAddr>>,
    /// The last connection's number: a gateway that is started again counts on.
    connections: AtomicU64,
    /// From its beginning on nobody else is let in.
    pub(crate) ending: Ending,
}

impl Daemon {
    pub(crate) fn new(parts: DaemonParts) -> Self {
        let DaemonParts { clock, config, state_dir, tls, models } = parts;
        let started_at = clock.now();
        let traces = Arc::new(Traces::new(Arc::clone(&clock), config.otel.clone()));
        let failures = Mutex::new(FailureLimits::new(config.gateway.auth.rate_limit));
        let metrics = Metrics::new(tools::names().map(|(name, _)| name), methods::families());
        metrics.tally.know_models(config.models_named(MODELS));
        Self {
            clock,
            hub: Hub::default(),
            turns: Turns::default(),
            presence: Presence::default(),
            revisions: Revisions::default(),
            watches: Watches::default(),
            runs: Runs::default(),
            told: Arc::default(),
            metrics,
            unfinished: Places::default(),
            http: Places::default(),
            failures,
            untold: Mutex::default(),
            repeats: Mutex::default(),
            hook_failures: Mutex::new(FailureLimits::new(RateLimit::HOOKS)),
            state_dir,
            started_at,
            vitals: Vitals::default(),
            traces,
            reloading: Reloading::default(),
            record: Mutex::new(None),
            started_with: config.document.clone(),
            instance: Self::new_id(),
            models,
            tls,
            tree: OnceLock::new(),
            config: RwLock::new(config),
            callbacks: RwLock::new(None),
            watcher: RwLock::new(None),
            ending: Ending::default(),
            projector: RwLock::new(None),
            bound: watch::Sender::new(BTreeSet::new()),
            connections: AtomicU64::new(0),
        }
    }

    /// The tree, from the moment when its root starts the gateway.
    pub(crate) fn set_tree(self: &Arc<Self>, tree: TreeHandle) {
        // A gateway that is started again is given the same one.
        if self.tree.set(tree).is_ok() {
            let daemon = Arc::downgrade(self);
            telemetry::find_actors(move |whose| {
                let daemon = daemon.upgrade()?;
                let tree = daemon.tree.get()?;
                match whose {
                    telemetry::Whose::Actor(number) => tree.place(number),
                    telemetry::Whose::Session(key) => tree.place_of_session(&key.parse().ok()?),
                }
            });
        }
    }

    /// The tree.
    ///
    /// # Errors
    /// It is not there yet: the client may try again.
    pub(crate) fn tree(&self) -> Result<&TreeHandle, ErrorShape> {
        self.tree.get().ok_or_else(|| ErrorShape::unavailable("the gateway is starting").retry_after(SOON))
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another configuration in force for what the bridge decides.
    pub(crate) fn set_config(&self, config: Arc<Config>) {
        self.metrics.tally.know_models(config.models_named(MODELS));
        self.traces.configure(config.otel.clone());
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Who delivers results to callers that left an address, from now on.
    pub(crate) fn set_callbacks(&self, callbacks: Handle<CallbacksMsg>) {
        *self.callbacks.write().unwrap_or_else(PoisonError::into_inner) = Some(callbacks);
    }

    /// Who tells clients what the tree looks like, from now on.
    pub(crate) fn set_watcher(&self, watcher: Handle<WatcherMsg>) {
        *self.watcher.write().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
    }

    /// Asks who tells clients what the tree looks like. A message that finds nobody is dropped, and its reply with it.
    pub(crate) fn tell_watcher(&self, message: WatcherMsg) {
        if let Some(watcher) = &*self.watcher.read().unwrap_or_else(PoisonError::into_inner) {
            drop(watcher.send(message));
        }
    }

    /// Tells who delivers results of something that the store knows.
    pub(crate) fn tell_callbacks(&self, message: CallbacksMsg) {
        if let Some(callbacks) = &*self.callbacks.read().unwrap_or_else(PoisonError::into_inner) {
            // One that is being restarted reads from the store what is to be delivered.
            drop(callbacks.send(message));
        }
    }

    /// From now on nobody else is let in, and connections end because the daemon does, not because clients go away.
    pub(crate) fn set_stopping(&self, back_in: Option<Duration>) {
        self.ending.begin(back_in);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.ending.has_begun()
    }

    /// Who tells clients of what happens in the tree, from now on.
    pub(crate) fn set_projector(&self, projector: Handle<ProjectorMsg>) {
        *self.projector.write().unwrap_or_else(PoisonError::into_inner) = Some(projector);
    }

    /// Has clients told of an event. Never waits; before the projector is there nobody is connected.
    pub(crate) fn project(&self, event: Event) {
        self.tell_projector(ProjectorMsg::Happened(Box::new(event)));
    }

    /// Has clients told that one of them changed a session, after what happened in it before.
    pub(crate) fn project_change(&self, change: Change) {
        self.tell_projector(ProjectorMsg::Changed(Box::new(change)));
    }

    fn tell_projector(&self, message: ProjectorMsg) {
        if let Some(projector) = &*self.projector.read().unwrap_or_else(PoisonError::into_inner) {
            // One that is being restarted reads from the store what is open.
            drop(projector.send(message));
        }
    }

    /// Lets the commands beside us find the gateway.
    ///
    /// # Errors
    /// The state directory cannot be written to.
    pub(crate) fn set_record(&self, record: Record) -> io::Result<()> {
        // What an earlier process kept.
        shared_token::forget_kept(&self.state_dir);
        record.write(&self.state_dir)?;
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Some(record);
        Ok(())
    }

    /// Tells the commands beside us how long an orderly end may take from now on.
    pub(crate) fn record_grace(&self) {
        let grace_ms = record::millis(self.config().settings.recovery.grace);
        let mut kept = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = kept.as_mut().filter(|record| record.grace_ms != grace_ms) else { return };
        record.grace_ms = grace_ms;
        if let Err(error) = record.write(&self.state_dir) {
            tracing::warn!(%error, "commands of this machine do not learn how long a stop may take now");
        }
    }

    /// Tells the commands beside us what clients prove from now on.
    pub(crate) fn record_auth(&self, token_file: Option<PathBuf>) {
        let auth_mode = self.config().gateway.auth.mode.as_str();
        let mut kept = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = &mut *kept else { return };
        if record.auth_mode == auth_mode && record.token_file == token_file {
            return;
        }
        record.auth_mode = auth_mode.to_owned();
        record.token_file = token_file;
        if let Err(error) = record.write(&self.state_dir) {
            tracing::warn!(%error, "commands of this machine do not learn how clients prove themselves now");
        }
        shared_token::forget_kept(&self.state_dir);
    }

    /// Lets the commands beside us find what clients prove until the restart: the file that was changed may not have it
    /// any more.
    pub(crate) fn record_kept_auth(&self) {
        let config = self.config();
        let mut kept = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = kept.as_mut().filter(|record| record.token_file.is_none()) else { return };
        let recorded = shared_token::keep(&config.gateway.auth, &self.state_dir).and_then(|file| {
            record.token_file = file;
            record.write(&self.state_dir)
        });
        if let Err(error) = recorded {
            tracing::warn!(%error, "commands of this machine do not find what clients prove until the restart");
        }
    }

    pub(crate) fn models(&self) -> Option<&LiveModels> {
        self.models.as_deref()
    }

    /// Where sessions are kept.
    pub(crate) fn store_path(&self) -> PathBuf {
        self.state_dir.join(store::DATABASE_FILE)
    }

    pub(crate) const fn tls(&self) -> Option<&TlsAcceptor> {
        self.tls.as_ref()
    }

    /// Where the gateway listens, once it does.
    pub(crate) fn set_bound(&self, bound: BTreeSet<SocketAddr>) {
        self.bound.send_replace(bound);
    }

    /// Where the gateway listens; empty until it does.
    pub(crate) fn bound(&self) -> watch::Receiver<BTreeSet<SocketAddr>> {
        self.bound.subscribe()
    }

    /// An id that nobody can guess: of a connection, of a challenge.
    pub(crate) fn new_id() -> String {
        Uuid::new_v4().to_string()
    }

    /// A place among the sockets that have not finished the handshake, if there is one for this address.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Place> {
        self.unfinished.enter(address, self.config().gateway.unfinished_per_address)
    }

    /// A place among the connections that speak HTTP, if there is one for this address.
    pub(crate) fn enter_http(&self, address: IpAddr) -> Option<Place> {
        self.http.enter(address, MAX_HTTP)
    }

    /// Tells the person that somebody could not prove himself.
    pub(crate) fn tell_failure(&self, proof: Proof, address: IpAddr) {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failures) = untold.failed(self.clock.monotonic()) {
            tracing::warn!(%address, ?proof, failures, "somebody could not prove himself");
        }
    }

    /// Enters into the audit record what happened, or counts it. Nobody waits for it.
    pub(crate) fn witness(&self, what: Happening) {
        let first = self.repeats().happened(what, self.clock.monotonic());
        self.enter_rows(first);
    }

    /// Enters what was counted for long enough; at the end of the daemon all of it.
    pub(crate) fn witness_repeats(&self) {
        let now = self.clock.monotonic();
        let rows = if self.is_stopping() { self.repeats().all(now) } else { self.repeats().due(now) };
        self.enter_rows(rows);
    }

    fn repeats(&self) -> std::sync::MutexGuard<'_, Repeats> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before there is a tree nobody is let in.
    fn enter_rows(&self, rows: impl IntoIterator<Item = Entered>) {
        let Some(tree) = self.tree.get() else { return };
        rows.into_iter().for_each(|(event, origin, facts)| tree.audit(event, origin, facts));
    }

    /// How many connections were numbered.
    pub(crate) fn connected(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The number of the next connection.
    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Who is there, the gateway itself first.
    pub(crate) fn presence_list(&self) -> Vec<PresenceEntry> {
        let gateway = PresenceEntry {
            host: Some("offshoot".to_owned()),
            version: Some(VERSION.to_owned()),
            platform: Some(std::env::consts::OS.to_owned()),
            mode: Some("gateway".to_owned()),
            reason: Some("self".to_owned()),
            text: format!("Gateway: offshoot {VERSION}"),
            ts: self.started_at.0,
            ..PresenceEntry::default()
        };
        self.presence.list(gateway, &self.hub, self.clock.now())
    }

    /// The answer to a connect.
    pub(crate) fn hello(&self, client: &Client, admitted: &Admitted) -> Answer {
        let config = self.config();
        let admin = client.may(Scope::Admin).then(|| AdminSnapshot {
            config_path: config.source.path().map(|path| path.display().to_string()),
            state_dir: self.state_dir.display().to_string(),
            auth_mode: config.gateway.auth.mode.as_str(),
        });
        let agent = &config.settings.default_agent;
        let snapshot = Snapshot {
            presence: self.presence_list(),
            health: methods::health::snapshot(self),
            state_version: self.presence.version(),
            uptime_ms: self.uptime_ms(),
            session_defaults: SessionDefaults {
                default_agent_id: agent.to_string(),
                main_key: "main".to_owned(),
                main_session_key: SessionKey::main(agent).to_string(),
                scope: "per-sender",
                newer: Some(NewerDefaults {
                    model_configured: true,
                    ownership: "legacy",
                    selection_required: false,
                }),
            },
            admin,
        };
        let granted = Granted {
            method: admitted.method,
            role: admitted.role,
            scopes: client.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            device: admitted.granted_device.clone(),
        };
        let features =
            Features { methods: methods::names(), events: events::NAMES.into(), capabilities: None };
        let server = Server { version: VERSION.to_owned(), conn_id: client.connection.clone() };
        let hello = HelloOk::new(client.protocol, server, features, snapshot, &granted, Policy::default());
        methods::answer(&hello)
    }

    /// How long a client may take for the handshake.
    pub(crate) fn handshake_within(&self) -> Duration {
        self.config().gateway.handshake_timeout
    }

    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from((self.clock.now() - self.started_at).as_millis()).unwrap_or(u64::MAX)
    }

    /// What keeps clients from working; empty when nothing does.
    pub(crate) fn failing(&self) -> Vec<&'static str> {
        if self.is_stopping() {
            return vec!["stopping"];
        }
        match self.tree.get() {
            None => vec!["starting"],
            Some(tree) if tree.storage().health().refuses.is_some() => vec!["store"],
            Some(_) => Vec::new(),
        }
    }

    /// How the store is; well, before there is a tree.
    pub(crate) fn store_health(&self) -> StoreHealth {
        self.tree.get().map(|tree| tree.storage().health()).unwrap_or_default()
    }
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}
