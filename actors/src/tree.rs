//! The tree as its users see it.

mod audit;
mod callbacks;
mod deliveries;
mod figures;
mod lanes;
mod manage;
mod messages;
mod pairing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::oneshot;

pub use self::callbacks::Settled;
pub use self::figures::ActorPlace;
pub use self::manage::SessionPatch;
pub use self::pairing::PairingHandle;
use crate::MemoryStorage;
use crate::config::ConfigMsg;
use crate::kit::{ActorView, Handle, Reply, StartError, System, spawn_root};
use crate::ports::{
    Clock, Event, EventSink, Host, Ids, Models, NoEvents, NoTools, Storage, StoreError, Tools,
};
use crate::root::{Root, RootArgs, RootMsg};
use crate::service::Service;
use crate::session::{SessionMsg, already_ended, name_once};
use crate::sessions::{SessionsMsg, SpawnCall};
use crate::shared::Shared;
use crate::types::{
    Accepted, Mode, ModelRef, Origin, Outcome, Refusal, RunId, SessionKey, Settings, SettingsError,
    SpawnRequest, Timestamp, Usage,
};

/// How often a session is told to stop that panics on it: more often than it survives.
const ASKED_TO_STOP: u32 = 8;

/// What became of a steering message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steered {
    /// The open run takes it before its next step; should it end first, the message starts a run.
    Queued(RunId),
    /// No run was open, so it starts this one.
    Started(RunId),
}

/// What a cancel or a stop did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Runs that it ended, leaves first.
    pub ended: Vec<RunId>,
    /// The state the run was in already, if it had ended before.
    pub already: Option<Outcome>,
}

/// A session that is in memory, as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    /// Its name.
    pub key: SessionKey,
    /// The session that spawned it.
    pub parent: Option<SessionKey>,
    /// The label that the spawn gave.
    pub label: Option<String>,
    /// Whether it stays.
    pub mode: Mode,
    /// Its depth.
    pub depth: u32,
    /// Its open run, if it has one.
    pub run: Option<LiveRun>,
}

/// An open run, as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRun {
    /// Its id.
    pub id: RunId,
    /// `queued`, `running`, `yielded`, `ending`.
    pub state: &'static str,
    /// The model in use.
    pub model: ModelRef,
    /// Model calls so far.
    pub steps: u32,
    /// Tokens so far.
    pub usage: Usage,
    /// When it made its first step.
    pub started_at: Option<Timestamp>,
    /// The tools that run now.
    pub tools: Vec<Arc<str>>,
}

/// What a tree is started with.
pub struct TreeOptions {
    /// Time. Tests give a virtual clock.
    pub clock: Arc<dyn Clock>,
    /// Ids and randomness. Tests give a seed.
    pub ids: Arc<dyn Ids>,
    /// What must survive.
    pub storage: Arc<dyn Storage>,
    /// The models that there are.
    pub models: Arc<dyn Models>,
    /// The tools that there are.
    pub tools: Arc<dyn Tools>,
    /// Who listens.
    pub events: Arc<dyn EventSink>,
    /// What kind of process this is.
    pub host: Host,
    /// The root whose sessions are woken at the start for what an earlier process left waiting for them; none means
    /// every root. What waits for the sessions of other roots stays where it is until something else wakes them.
    pub only_root: Option<SessionKey>,
    /// Actors of the embedding program under the root.
    pub services: Vec<Service>,
    /// The settings in force until others are applied.
    pub settings: Settings,
    /// Faults for tests.
    #[cfg(feature = "faults")]
    pub faults: Option<Arc<dyn crate::kit::Faults>>,
}

impl TreeOptions {
    /// Options with the given ports, for a program that ends with its work and listens to nothing.
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        storage: Arc<dyn Storage>,
        models: Arc<dyn Models>,
        tools: Arc<dyn Tools>,
        settings: Settings,
    ) -> Self {
        Self {
            clock,
            ids,
            storage,
            models,
            tools,
            events: Arc::new(NoEvents),
            host: Host::OneShot,
            only_root: None,
            services: Vec::new(),
            settings,
            #[cfg(feature = "faults")]
            faults: None,
        }
    }

    /// Options for a tree that keeps nothing beyond its process and whose agents have no tools.
    #[must_use]
    pub fn in_memory(clock: impl Clock, ids: impl Ids, models: impl Models, settings: Settings) -> Self {
        let (clock, ids) = (Arc::new(clock), Arc::new(ids));
        let storage = Arc::new(MemoryStorage::new());
        Self::new(clock, ids, storage, Arc::new(models), Arc::new(NoTools), settings)
    }
}

impl fmt::Debug for TreeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeOptions").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A running tree. Dropping it leaves the tree running; [`Tree::stop`] ends it.
#[derive(Debug)]
pub struct Tree {
    handle: TreeHandle,
    root: Handle<RootMsg>,
}

impl Tree {
    /// Starts the tree and waits until all of it takes messages.
    ///
    /// # Errors
    /// The settings are wrong, or the storage cannot be read.
    pub async fn start(options: TreeOptions) -> Result<Self, StartError> {
        let system = System::new(Arc::clone(&options.clock), Arc::clone(&options.ids));
        let events = Arc::clone(&options.events);
        let system = system.on_trouble(move |note| events.publish(Event::Noted(note)));
        #[cfg(feature = "faults")]
        let system = match &options.faults {
            Some(faults) => system.with_faults(Arc::clone(faults)),
            None => system,
        };
        let system = Arc::new(system);
        let shared = Arc::new(Shared::new(Arc::clone(&system), options));
        let (sender, ready) = oneshot::channel();
        let args = RootArgs { shared: Arc::clone(&shared), ready: Some(Reply::Channel(sender)) };
        let root = spawn_root::<Root>(system, "offshoot".into(), args)?;
        ready.await.map_err(|_| StartError("the root ended while it started".to_owned()))??;
        Ok(Self { handle: TreeHandle { shared }, root })
    }

    /// A handle for those who use the tree.
    #[must_use]
    pub fn handle(&self) -> TreeHandle {
        self.handle.clone()
    }

    /// Waits until the tree has ended by itself, because its root gave up.
    pub async fn ended(&self) {
        self.root.ended().await;
    }

    /// Lets no run begin another step and nothing be spawned, and waits until no run is at work, at most so long. What is
    /// open stays open, and the next start of a daemon goes on with it. A stop is to follow.
    pub async fn suspend(&self, within: Duration) {
        let (sender, receiver) = oneshot::channel();
        let message = SessionsMsg::Suspend { within, reply: Reply::Channel(sender) };
        if self.handle.shared.sessions.send(message).is_ok() {
            // A manager that panics on it leaves its runs as a crash would.
            let _ = receiver.await;
        }
    }

    /// Stops the tree, children before parents, and waits until it is gone. Runs that are open stay open in the
    /// store.
    pub async fn stop(self) {
        self.root.stop();
        self.ended().await;
    }
}

/// A handle to a running tree. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TreeHandle {
    shared: Arc<Shared>,
}

fn gone() -> Refusal {
    Refusal::error("gone", "the actor that had the request went away before it answered")
        .with_hint("repeat the request with the same idempotency key")
}

impl TreeHandle {
    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Spawns a sub-agent: answers once it is committed, long before the child is done.
    ///
    /// # Errors
    /// The refusal, with its exact reason and what changes it.
    pub async fn spawn(&self, request: SpawnRequest, origin: Origin) -> Result<Accepted, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let call = SpawnCall { request, origin, named: None, reply: Reply::Channel(sender) };
        if self.shared.sessions.send(SessionsMsg::Spawn(Box::new(call))).is_err() {
            return Err(gone());
        }
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Cancels a run and the open descendants that it spawned. Answers when all of them are terminal.
    ///
    /// # Errors
    /// The run does not exist, or the store refuses.
    pub async fn cancel(&self, run: RunId, origin: Origin) -> Result<Stopped, Refusal> {
        let session = match self.shared.runs.get(&run).map(|cell| cell.session.clone()) {
            Some(session) => session,
            None => match self.shared.storage.run(run).await {
                Ok(Some(row)) if row.state.is_open() => row.session,
                _ => return already_ended(&self.shared, run).await,
            },
        };
        self.ask(&session, |reply| SessionMsg::Cancel { run, origin, reply }).await
    }

    /// Stops a session with its whole subtree. Answers when all runs that were open in it are terminal, but for those of
    /// another kind of host, which are not this process's to end; what it is given meanwhile wakes it again.
    ///
    /// # Errors
    /// The session does not exist, or the store cannot be read.
    pub async fn stop(&self, session: SessionKey, origin: Origin) -> Result<Stopped, Refusal> {
        let asked_at = self.shared.system.clock.now();
        let awake = self.shared.live.get(&session).map(|entry| entry.meta.scope.clone());
        if let Some(scope) = &awake {
            scope.cancel();
            self.audit_stop(&session, &origin);
        }
        // One that sleeps is woken for it: it may be on its way up. Asked at the same time, those who outlive it find other
        // places: it does not end before they have.
        let (mut ended, ()) =
            futures::future::try_join(self.stop_session(&session, false), self.bequeath(&session)).await?;
        let read = |error: StoreError| Refusal::error("store", error.to_string());
        self.shared.barrier().await.map_err(read)?;
        if awake.is_none() {
            let exists = self.shared.storage.session(session.clone()).await.map_err(read)?.is_some();
            // One that is gone by now may have been deleted with the end that this stop gave it.
            if !exists && ended.is_empty() {
                return Err(Refusal::unknown_session(&session));
            }
            self.audit_stop(&session, &origin);
            self.shared.barrier().await.map_err(read)?;
        }
        let mut left = self.shared.storage.open_in_subtree(session.clone()).await.map_err(read)?;
        // The clock of a process goes only forward, whatever becomes of the calendar.
        left.retain(|open| open.row.accepted_at <= asked_at && open.row.host == self.shared.host);
        // Below a session that was on its way up nobody heard of the stop. Each ends its runs itself: ended in the
        // store alone, they would begin all the same.
        let left: BTreeSet<SessionKey> = left.into_iter().map(|open| open.session.key).collect();
        for stopped in join_all(left.iter().map(|key| self.stop_session(key, *key != session))).await {
            ended.extend(stopped?);
        }
        name_once(&mut ended);
        Ok(Stopped { ended, already: None })
    }

    /// Tells one session to stop, and again if a panic swallowed that.
    async fn stop_session(&self, session: &SessionKey, cascade: bool) -> Result<Vec<RunId>, Refusal> {
        for _ in 0..ASKED_TO_STOP {
            let (sender, receiver) = oneshot::channel();
            self.shared.deliver(session, SessionMsg::Stop { cascade, reply: Reply::Channel(sender) });
            if let Ok(ended) = receiver.await {
                return Ok(ended);
            }
        }
        Err(gone())
    }

    /// Has those find other places who outlive a session that is being stopped, and asks again if a panic swallowed that.
    async fn bequeath(&self, session: &SessionKey) -> Result<(), Refusal> {
        for _ in 0..ASKED_TO_STOP {
            let (sender, receiver) = oneshot::channel();
            let (of, reply) = (session.clone(), Some(Reply::Channel(sender)));
            let sent = self.shared.sessions.send(SessionsMsg::Bequeath { of, reply });
            if sent.is_ok()
                && let Ok(answer) = receiver.await
            {
                return answer.map_err(|error| {
                    let text = format!("what outlives session {session} cannot be moved: {error}");
                    Refusal::error("store", text).with_hint(
                        "the session is stopped once that has ended; `offshoot doctor` looks at the store",
                    )
                });
            }
        }
        Err(gone())
    }

    /// Every tool that agents may have.
    #[must_use]
    pub fn tools(&self) -> &Arc<dyn Tools> {
        &self.shared.tools
    }

    /// Waits until a run is terminal.
    ///
    /// # Errors
    /// The run does not exist, or the store cannot be read.
    pub async fn outcome(&self, run: RunId) -> Result<Outcome, Refusal> {
        let mut ended = self.shared.watch_run(run);
        match self.shared.storage.run(run).await {
            Ok(Some(row)) => match row.outcome {
                Some(outcome) => Ok(outcome),
                None => ended.outcome().await.ok_or_else(gone),
            },
            Ok(None) => Err(Refusal::unknown_run(run)),
            Err(error) => Err(Refusal::error("store", error.to_string())),
        }
    }

    /// Waits until no run is open and no result is on its way in the tree of `root`, and everybody was told. A run of
    /// another kind of host counts for nothing: this process neither executes it nor ends it. Nor does what an earlier
    /// process left waiting for a session that [`TreeOptions::only_root`] leaves asleep.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn quiet(&self, root: &SessionKey) -> Result<(), Refusal> {
        let read = |error: StoreError| Refusal::error("store", error.to_string());
        let mut changes = self.shared.watch_root(root);
        loop {
            changes.seen();
            if !self.shared.is_at_work(root).await.map_err(read)? {
                // The store shows an end before its commit tells of it.
                return self.shared.barrier().await.map_err(read);
            }
            changes.changed().await;
        }
    }

    /// Puts other settings in force.
    ///
    /// # Errors
    /// A setting is out of its range; the old ones stay in force.
    pub async fn apply(&self, settings: Settings) -> Result<(), SettingsError> {
        let restarting = || SettingsError {
            path: "",
            problem: "the configuration is being restarted, try again".to_owned(),
        };
        let (sender, receiver) = oneshot::channel();
        let message = ConfigMsg::Apply { settings: Arc::new(settings), reply: Reply::Channel(sender) };
        if self.shared.config.send(message).is_err() {
            return Err(restarting());
        }
        receiver.await.unwrap_or_else(|_| Err(restarting()))
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.shared.settings()
    }

    /// The store, for reading.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.shared.storage
    }

    /// The models that there are.
    #[must_use]
    pub fn models(&self) -> &Arc<dyn Models> {
        &self.shared.models
    }

    /// Every actor of the tree, by path.
    #[must_use]
    pub fn actors(&self) -> Vec<ActorView> {
        self.shared.system.index.views()
    }

    /// The sessions that are in memory, by name.
    #[must_use]
    pub fn live(&self) -> Vec<LiveSession> {
        let mut runs: BTreeMap<SessionKey, LiveRun> = BTreeMap::new();
        let mut cells: Vec<_> = self.shared.runs.iter().map(|entry| Arc::clone(entry.value())).collect();
        cells.sort_by_key(|cell| cell.id);
        for cell in cells {
            let progress = cell.progress();
            let run = LiveRun {
                id: cell.id,
                state: progress.phase.as_str(),
                model: progress.model,
                steps: progress.steps,
                usage: progress.usage,
                started_at: progress.started_at,
                tools: progress.tools.into_iter().map(|tool| tool.name).collect(),
            };
            // Of two runs, one that has yielded and one that works, the one that works is shown.
            match runs.get(&cell.session) {
                Some(known) if known.state != "yielded" => {}
                _ => drop(runs.insert(cell.session.clone(), run)),
            }
        }
        let live = self.shared.live_sessions().into_iter();
        live.map(|entry| {
            let meta = entry.meta;
            LiveSession {
                key: meta.key.clone(),
                parent: meta.parent.clone(),
                label: meta.label.clone(),
                mode: meta.mode,
                depth: meta.depth,
                run: runs.remove(&meta.key),
            }
        })
        .collect()
    }

    async fn ask<T: Send + 'static>(
        &self,
        session: &SessionKey,
        message: impl FnOnce(Reply<Result<T, Refusal>>) -> SessionMsg,
    ) -> Result<T, Refusal> {
        let (sender, receiver) = oneshot::channel();
        self.shared.deliver(session, message(Reply::Channel(sender)));
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }
}
