//! What the actors of one tree share: the ports, and the addresses under which actors find each other.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{oneshot, watch};

use crate::config::ConfigMsg;
use crate::kit::{Handle, Msg, System};
use crate::pairing::PairingMsg;
use crate::policy::recovery::Pace;
use crate::ports::{
    Done, Event, EventSink, Host, Models, Op, Refused, Storage, StoreError, Tools, Transaction,
};
use crate::run::RunCell;
use crate::service::Service;
use crate::session::{SessionMeta, SessionMsg};
use crate::sessions::{LaneBook, SessionsMsg};
use crate::store::StoreMsg;
use crate::tree::TreeOptions;
use crate::types::{ModelRef, Monotonic, Outcome, RunId, SessionKey, Settings, StoredEntry, Timestamp};
use crate::watch::Book;

/// Milliseconds by which the calendar may be set without the dates of what is going on being told anew.
const CALENDAR_STEPS: u64 = 100;

/// The address of an actor of which there is one: a restarted one takes the place of its predecessor.
pub(crate) struct Slot<M: Msg>(RwLock<Option<Handle<M>>>);

impl<M: Msg> Default for Slot<M> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

impl<M: Msg> Slot<M> {
    pub(crate) fn set(&self, handle: Handle<M>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }

    /// Sends a message; gives it back if nobody is there.
    pub(crate) fn send(&self, message: M) -> Result<(), M> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Some(handle) => handle.send(message),
            None => Err(message),
        }
    }
}

/// A session that is awake: its door and what never changes about it.
#[derive(Debug, Clone)]
pub(crate) struct LiveEntry {
    pub(crate) handle: Handle<SessionMsg>,
    pub(crate) meta: Arc<SessionMeta>,
}

/// Ports and addresses of one tree.
pub(crate) struct Shared {
    pub(crate) system: Arc<System>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) models: Arc<dyn Models>,
    pub(crate) tools: Arc<dyn Tools>,
    pub(crate) events: Arc<dyn EventSink>,
    pub(crate) host: Host,
    pub(crate) services: Vec<Service>,
    /// The root whose sessions are woken at the start; none means every root.
    only_root: Option<SessionKey>,
    /// Sessions of other roots for which something waited at the start, and that sleep since then.
    left_asleep: Mutex<BTreeSet<SessionKey>>,
    settings: RwLock<Arc<Settings>>,
    pub(crate) store: Slot<StoreMsg>,
    pub(crate) config: Slot<ConfigMsg>,
    pub(crate) pairing: Slot<PairingMsg>,
    pub(crate) sessions: Slot<SessionsMsg>,
    /// The sessions that are awake. Written by the session manager alone.
    pub(crate) live: DashMap<SessionKey, LiveEntry>,
    /// The runs that have had their turn or are to be resumed. Written by their sessions.
    pub(crate) runs: DashMap<RunId, Arc<RunCell>>,
    waiters: Mutex<BTreeMap<RunId, Vec<oneshot::Sender<Outcome>>>>,
    /// When model calls of resumed runs are made, by provider.
    paces: Mutex<BTreeMap<String, Pace>>,
    started_at: Monotonic,
    /// The same by the calendar.
    started_on: Timestamp,
    /// Set once the tree is asked to suspend its runs.
    suspending: AtomicBool,
    /// What watchers see beside the live actors.
    pub(crate) book: Arc<Book>,
    /// Milliseconds from the monotonic clock to the calendar, as dates of watchers are made.
    offset: AtomicI64,
    /// What is known of the lanes.
    lanes: RwLock<[Arc<LaneBook>; 2]>,
    /// Who waits for the tree of a root to be quiet.
    watched: Mutex<BTreeMap<SessionKey, watch::Sender<()>>>,
}

impl Shared {
    pub(crate) fn new(system: Arc<System>, options: TreeOptions) -> Self {
        Self {
            paces: Mutex::default(),
            started_at: system.clock.monotonic(),
            started_on: system.clock.now(),
            suspending: AtomicBool::new(false),
            system,
            storage: options.storage,
            models: options.models,
            tools: options.tools,
            events: options.events,
            host: options.host,
            services: options.services,
            only_root: options.only_root,
            left_asleep: Mutex::default(),
            settings: RwLock::new(Arc::new(options.settings)),
            store: Slot::default(),
            config: Slot::default(),
            pairing: Slot::default(),
            sessions: Slot::default(),
            live: DashMap::new(),
            runs: DashMap::new(),
            book: Arc::default(),
            offset: AtomicI64::new(i64::MIN),
            lanes: RwLock::new(LaneBook::both()),
            waiters: Mutex::default(),
            watched: Mutex::default(),
        }
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The sessions that are awake, by name: a seed must replay a run, and the index has no order of its own.
    pub(crate) fn live_sessions(&self) -> Vec<LiveEntry> {
        let mut live: Vec<LiveEntry> = self.live.iter().map(|entry| entry.value().clone()).collect();
        live.sort_by(|a, b| a.meta.key.cmp(&b.meta.key));
        live
    }

    /// How long a resumed run waits before it calls this model: all of them at once would be too many for a provider.
    pub(crate) fn pace(&self, model: &ModelRef, now: Monotonic) -> Duration {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = paces.entry(model.provider().to_owned()).or_default();
        pace.next_at().saturating_sub(now.since(self.started_at))
    }

    /// Whether this process has accepted what was accepted at that time.
    pub(crate) fn has_accepted(&self, at: Timestamp) -> bool {
        at >= self.started_on
    }

    /// The books of the lanes, of a session manager that begins.
    pub(crate) fn set_lanes(&self, lanes: [Arc<LaneBook>; 2]) {
        *self.lanes.write().unwrap_or_else(PoisonError::into_inner) = lanes;
    }

    /// What is known of the lanes, first that of runs that nobody spawned.
    pub(crate) fn lanes(&self) -> [Arc<LaneBook>; 2] {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Milliseconds from the monotonic clock to the calendar: the same ones as long as the calendar does not jump, so that
    /// the date of one moment does not change from look to look.
    pub(crate) fn calendar(&self, now: Timestamp, monotonic: Monotonic) -> i64 {
        let offset = now.0.saturating_sub(i64::try_from(monotonic.0 / 1_000_000).unwrap_or(i64::MAX));
        let known = self.offset.load(Ordering::Relaxed);
        if known.abs_diff(offset) <= CALENDAR_STEPS {
            return known;
        }
        self.offset.store(offset, Ordering::Relaxed);
        offset
    }

    /// When this process began, by the calendar.
    pub(crate) const fn started_on(&self) -> Timestamp {
        self.started_on
    }

    /// How long this process has been up.
    pub(crate) fn uptime(&self) -> Duration {
        self.system.clock.monotonic().since(self.started_at)
    }

    /// From now on runs stop at the end of their step, and nothing else begins.
    pub(crate) fn suspend(&self) {
        self.suspending.store(true, Ordering::Release);
    }

    pub(crate) fn is_suspending(&self) -> bool {
        self.suspending.load(Ordering::Acquire)
    }

    /// Puts settings in force. The configuration actor alone does this.
    pub(crate) fn set_settings(&self, settings: Arc<Settings>) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Hands a transaction to the store actor. `done` is called in any case, once.
    pub(crate) fn commit(
        &self,
        transaction: Transaction,
        done: impl FnOnce(Result<(), Refused>) + Send + 'static,
    ) {
        let doomed: Vec<SessionKey> = transaction.iter().filter_map(Op::deletes).cloned().collect();
        let done: Done = if doomed.is_empty() {
            Box::new(done)
        } else {
            let book = Arc::clone(&self.book);
            Box::new(move |result| {
                book.deleted(&doomed);
                done(result);
            })
        };
        let message = StoreMsg::commit(transaction, done);
        // A message that comes back unsent refuses its transaction when it is dropped.
        drop(self.store.send(message));
    }

    /// Commits a transaction, and waits for it.
    ///
    /// # Errors
    /// The store refused it, or is gone.
    pub(crate) async fn committed(&self, transaction: Transaction) -> Result<(), Refused> {
        let (sender, receiver) = oneshot::channel();
        self.commit(transaction, move |result| {
            // Who no longer waits needs no answer.
            let _ = sender.send(result);
        });
        let gone = || StoreError::Unavailable("the store went away".to_owned());
        receiver.await.unwrap_or_else(|_| Err(gone().into()))
    }

    /// Waits until everything that was handed to the store before is decided.
    ///
    /// # Errors
    /// The store is not available.
    pub(crate) async fn barrier(&self) -> Result<(), StoreError> {
        self.committed(Transaction::new()).await.map_err(|refused| match refused {
            Refused::Storage(error) => error,
            refused => StoreError::Other(refused.to_string()),
        })
    }

    /// At the start, before anything is woken: leaves asleep whoever is of another root and has something waiting.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn leave_other_roots_asleep(&self) -> Result<(), StoreError> {
        let Some(root) = &self.only_root else { return Ok(()) };
        let mut others = BTreeSet::new();
        for key in self.storage.waiting_sessions().await? {
            if self.storage.session(key.clone()).await?.is_none_or(|row| row.root != *root) {
                others.insert(key);
            }
        }
        *self.left_asleep.lock().unwrap_or_else(PoisonError::into_inner) = others;
        Ok(())
    }

    /// Whether sessions of this root are this process's to wake.
    pub(crate) fn is_ours(&self, root: &SessionKey) -> bool {
        self.only_root.as_ref().is_none_or(|only| only == root)
    }

    /// A session is woken, and takes what waits for it.
    pub(crate) fn takes_up(&self, key: &SessionKey) {
        self.left_asleep.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Whether a run of this process is open in the tree of this root, or something waits for a session of it that is
    /// to take it. After everything that was handed to the store before is decided.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn is_at_work(&self, root: &SessionKey) -> Result<bool, StoreError> {
        self.barrier().await?;
        let left = self.storage.unfinished(root.clone(), self.host).await?;
        let asleep = self.left_asleep.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(left.open || left.waiting.iter().any(|key| !asleep.contains(key) && self.is_configured(key)))
    }

    /// The sessions that are to take what waits for them in the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn waiting_sessions(&self) -> Result<Vec<SessionKey>, StoreError> {
        let mut waiting = self.storage.waiting_sessions().await?;
        let asleep = self.left_asleep.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|key| !asleep.contains(key) && self.is_configured(key));
        Ok(waiting)
    }

    /// Whether a session's agent can act on what waits for it. Otherwise that stays where somebody sees it.
    fn is_configured(&self, key: &SessionKey) -> bool {
        self.settings().agent(&key.agent()).is_some()
    }

    /// Sends a message to a session by its name, waking it if it sleeps.
    pub(crate) fn deliver(&self, key: &SessionKey, message: SessionMsg) {
        let unsent = match self.live.get(key) {
            Some(entry) => entry.handle.send(message).err(),
            None => Some(message),
        };
        if let Some(message) = unsent
            && let Err(SessionsMsg::Deliver { message, .. }) =
                self.sessions.send(SessionsMsg::Deliver { key: key.clone(), message: Box::new(message) })
        {
            message.refuse(crate::session::stopping());
        }
    }

    pub(crate) fn publish(&self, event: Event) {
        if let Event::Moved { session, to, .. } = &event {
            self.book.moved(session, to.as_ref());
        }
        let settled = match &event {
            Event::Ended { session, .. } | Event::Announced { session, .. } => Some(session.clone()),
            _ => None,
        };
        self.events.publish(event);
        if let Some(session) = settled {
            self.changed(&session);
        }
    }

    /// Tells of entries that are committed.
    pub(crate) fn tell_appended(&self, session: &SessionKey, entries: &[Arc<StoredEntry>]) {
        if !entries.is_empty() && self.events.listens() {
            self.events.publish(Event::Appended { session: session.clone(), entries: entries.to_vec() });
        }
    }

    /// Something has ended in this session, or was taken by it: tells whoever waits for its tree to be quiet to look
    /// again.
    pub(crate) fn changed(&self, session: &SessionKey) {
        if self.watched().is_empty() {
            return;
        }
        let root = self.live.get(session).map(|entry| entry.meta.root.clone());
        let watched = self.watched();
        match root {
            Some(root) => watched.get(&root).into_iter().for_each(|root| _ = root.send(())),
            // Of one that sleeps the root is not at hand.
            None => watched.values().for_each(|root| _ = root.send(())),
        }
    }

    /// Hears of every change in the tree of this root from now on.
    pub(crate) fn watch_root(&self, root: &SessionKey) -> RootWatch<'_> {
        let changes =
            self.watched().entry(root.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        RootWatch { shared: self, root: root.clone(), changes: Some(changes) }
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<SessionKey, watch::Sender<()>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a run that this process accepted has not ended, as far as is told.
    pub(crate) fn is_open(&self, run: RunId) -> bool {
        // In this order: a run has its cell before it is no longer among those that wait.
        self.book.is_waiting(run) || self.runs.contains_key(&run)
    }

    /// Tells whoever waits for a run that its end is committed.
    pub(crate) fn ended(&self, run: RunId, outcome: &Outcome) {
        let waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
        for waiter in waiters.into_iter().flatten() {
            // Who no longer waits misses nothing.
            let _ = waiter.send(outcome.clone());
        }
    }

    /// Waits for the run's outcome if its end is committed from now on.
    pub(crate) fn watch_run(&self, run: RunId) -> RunWatch<'_> {
        let (sender, outcome) = oneshot::channel();
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner).entry(run).or_default().push(sender);
        RunWatch { shared: self, run, outcome }
    }
}

/// Somebody who waits for a tree to be quiet; forgotten when dropped.
pub(crate) struct RootWatch<'a> {
    shared: &'a Shared,
    root: SessionKey,
    /// There until it is dropped.
    changes: Option<watch::Receiver<()>>,
}

impl RootWatch<'_> {
    /// What has changed until now counts for nothing.
    pub(crate) fn seen(&mut self) {
        if let Some(changes) = &mut self.changes {
            changes.mark_unchanged();
        }
    }

    /// The next change.
    pub(crate) async fn changed(&mut self) {
        if let Some(changes) = &mut self.changes {
            // The sender stays for as long as anybody watches.
            let _ = changes.changed().await;
        }
    }
}

impl Drop for RootWatch<'_> {
    fn drop(&mut self) {
        let mut watched = self.shared.watched();
        // Under the lock: of two that leave at once, one must find that it is the last.
        drop(self.changes.take());
        if watched.get(&self.root).is_some_and(|root| root.receiver_count() == 0) {
            watched.remove(&self.root);
        }
    }
}

/// Somebody who waits for a run's end; forgotten when dropped.
pub(crate) struct RunWatch<'a> {
    shared: &'a Shared,
    run: RunId,
    outcome: oneshot::Receiver<Outcome>,
}

impl RunWatch<'_> {
    /// The outcome; none where the tree is gone.
    pub(crate) async fn outcome(&mut self) -> Option<Outcome> {
        (&mut self.outcome).await.ok()
    }
}

impl Drop for RunWatch<'_> {
    fn drop(&mut self) {
        self.outcome.close();
        let mut waiters = self.shared.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut list) = waiters.entry(self.run) {
            list.get_mut().retain(|waiter| !waiter.is_closed());
            if list.get().is_empty() {
                list.remove();
            }
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("live", &self.live.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
