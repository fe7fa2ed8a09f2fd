//! The live actors, readable at any moment without asking one of them.

mod figures;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use ractor::{ActorCell, ActorId};

pub use self::figures::KindFigures;
use super::mailbox::{Handle, Msg};
use super::system::System;
use crate::types::{Monotonic, Timestamp};

/// Where an actor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorState {
    /// It runs its `start` and takes no messages yet.
    Starting,
    /// It takes messages.
    Running,
    /// It panicked and its state is being rebuilt; messages wait.
    Rebuilding,
    /// It was asked to stop and takes no further messages; then it stops its children and itself.
    Stopping,
}

impl ActorState {
    /// The state's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Rebuilding => "rebuilding",
            Self::Stopping => "stopping",
        }
    }

    const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Starting,
            1 => Self::Running,
            2 => Self::Rebuilding,
            _ => Self::Stopping,
        }
    }
}

/// No message is in hand.
const IDLE: u64 = u64::MAX;

/// What is known of one actor. Written by its envelope, read by anyone.
#[derive(Debug)]
pub struct ActorInfo {
    pub(super) system: Arc<System>,
    cell: ActorCell,
    /// `session`, `run`, `store`, ...
    pub kind: &'static str,
    /// Its name among its siblings.
    pub name: Arc<str>,
    parent: Mutex<Option<ActorId>>,
    started: Timestamp,
    state: AtomicU8,
    left: AtomicBool,
    restarts: AtomicU32,
    depth: AtomicU32,
    high_water: AtomicU32,
    handled: AtomicU64,
    busy_ns: AtomicU64,
    waited_ns: AtomicU64,
    /// When the message in hand was taken, `IDLE` without one.
    in_hand_since: AtomicU64,
    in_hand: Mutex<&'static str>,
    /// When the last message was done, `IDLE` before the first.
    done_at: AtomicU64,
    /// When a message came last while none waited.
    waits_since: AtomicU64,
    past: Mutex<Past>,
}

/// What went wrong in an actor's life, or in those of its predecessors.
#[derive(Debug, Clone, Default)]
struct Past {
    failure: Option<Box<str>>,
    /// When the state was rebuilt last, or the actor was started again.
    restarted: Option<Timestamp>,
}

/// What can be read of an actor in a moment: nothing is made for it but what went wrong.
#[derive(Debug, Clone)]
pub(crate) struct Glimpse {
    pub(crate) state: ActorState,
    pub(crate) started: Timestamp,
    pub(crate) restarts: u32,
    pub(crate) last_failure: Option<String>,
    pub(crate) restarted: Option<Timestamp>,
    pub(crate) mailbox: u32,
    pub(crate) mailbox_high: u32,
    pub(crate) handled: u64,
    pub(crate) busy: Duration,
    pub(crate) in_hand: Option<(&'static str, Monotonic)>,
    pub(crate) progress: Option<Monotonic>,
    /// Since when messages wait and none is taken.
    pub(crate) waits_since: Option<Monotonic>,
}

/// A copy of what is known of one actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorView {
    /// Its number in this process.
    pub id: u64,
    /// The number of its parent.
    pub parent: Option<u64>,
    /// Its path from the root, names joined by `/`.
    pub path: String,
    /// `session`, `run`, `store`, ...
    pub kind: &'static str,
    /// Where it is in its life.
    pub state: ActorState,
    /// When it was started.
    pub started: Timestamp,
    /// How often its state was rebuilt.
    pub restarts: u32,
    /// Its last panic, or why the last rebuild failed.
    pub last_failure: Option<String>,
    /// Messages that wait.
    pub mailbox: u32,
    /// The most that ever waited.
    pub mailbox_high: u32,
    /// Messages handled.
    pub handled: u64,
    /// Time spent in handlers.
    pub busy: Duration,
    /// Time that handled messages had waited, summed.
    pub waited: Duration,
    /// The message in hand and for how long.
    pub in_hand: Option<(&'static str, Duration)>,
}

impl ActorInfo {
    pub(super) fn new(
        system: &Arc<System>,
        cell: ActorCell,
        kind: &'static str,
        name: Arc<str>,
        parent: Option<ActorId>,
    ) -> Self {
        Self {
            system: Arc::clone(system),
            cell,
            kind,
            name,
            parent: Mutex::new(parent),
            started: system.clock.now(),
            state: AtomicU8::new(ActorState::Starting as u8),
            left: AtomicBool::new(false),
            restarts: AtomicU32::new(0),
            depth: AtomicU32::new(0),
            high_water: AtomicU32::new(0),
            handled: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            waited_ns: AtomicU64::new(0),
            in_hand_since: AtomicU64::new(IDLE),
            in_hand: Mutex::new(""),
            done_at: AtomicU64::new(IDLE),
            waits_since: AtomicU64::new(0),
            past: Mutex::default(),
        }
    }

    /// Where the actor is in its life.
    #[must_use]
    pub fn state(&self) -> ActorState {
        ActorState::from_u8(self.state.load(Ordering::Relaxed))
    }

    /// How often its state was rebuilt.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// How often it was restarted and when last, if ever.
    fn last_restart(&self) -> Option<(u32, Timestamp)> {
        let restarts = self.restarts();
        // Most actors never were: no lock is taken of those.
        if restarts == 0 { None } else { self.past().restarted.map(|last| (restarts, last)) }
    }

    /// Messages that wait.
    #[must_use]
    pub fn mailbox(&self) -> u32 {
        self.depth.load(Ordering::Acquire)
    }

    /// Goes to a state, except that nothing follows on `Stopping`.
    pub(super) fn set_state(&self, state: ActorState) {
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            (now != ActorState::Stopping as u8).then_some(state as u8)
        });
    }

    /// Closes the door and stops the actor before its next message.
    pub(super) fn stop(&self) {
        self.set_state(ActorState::Stopping);
        self.cell.stop(None);
    }

    /// Waits until the actor has ended.
    pub(super) async fn ended(&self) {
        // The only join that also waits when somebody else asked the actor to stop first.
        let _ = self.cell.wait(None).await;
        // The state of an actor that was killed while it waited for a message travels to its parent.
        self.system.index.actors.remove(&self.cell.get_id());
    }

    /// Waits until the actor's own task dropped its state. ractor tells of the end just before.
    pub(super) async fn dropped(&self) {
        while !self.has_left() {
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn enter(self: &Arc<Self>) {
        self.system.index.actors.insert(self.cell.get_id(), Arc::clone(self));
    }

    pub(super) fn leave(&self) {
        self.system.index.retire(self.kind, self.handled.load(Ordering::Relaxed));
        self.system.index.actors.remove(&self.cell.get_id());
        self.left.store(true, Ordering::Release);
    }

    /// Whether it has ended and dropped its state.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    pub(super) fn panicked(&self, reason: &str) {
        self.past().failure = Some(reason.into());
    }

    pub(super) fn rebuilt(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.past().restarted = Some(self.system.clock.now());
    }

    /// It takes the place of actors that failed one after the other, the last one for this reason.
    pub(crate) fn succeeds(&self, failed: u32, reason: &str) {
        self.restarts.fetch_add(failed, Ordering::Relaxed);
        let mut past = self.past();
        past.failure.get_or_insert_with(|| reason.into());
        past.restarted.get_or_insert(self.started);
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enqueued(&self) -> Monotonic {
        let now = self.system.clock.monotonic();
        // Before anybody can see that one waits: the time of the one before it would count for it.
        if self.depth.load(Ordering::Relaxed) == 0 {
            self.waits_since.store(now.0, Ordering::Relaxed);
        }
        let depth = self.depth.fetch_add(1, Ordering::Release) + 1;
        if depth > self.high_water.load(Ordering::Relaxed) {
            self.high_water.fetch_max(depth, Ordering::Relaxed);
        }
        now
    }

    pub(super) fn refused(&self) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that a message is taken from the mailbox. Only the actor's own task calls this.
    pub(super) fn begin(&self, sent: Monotonic, now: Monotonic) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
        grow(&self.waited_ns, nanos(now.since(sent)));
        self.in_hand_since.store(now.0, Ordering::Relaxed);
    }

    /// Names the message in hand.
    pub(super) fn name_in_hand(&self, message: &'static str) {
        *self.in_hand.lock().unwrap_or_else(PoisonError::into_inner) = message;
    }

    /// Notes that the message in hand is done and returns the time. Only the actor's own task calls this.
    pub(super) fn end(&self, begun: Monotonic) -> Monotonic {
        let now = self.system.clock.monotonic();
        grow(&self.busy_ns, nanos(now.since(begun)));
        grow(&self.handled, 1);
        self.done_at.store(now.0, Ordering::Relaxed);
        self.in_hand_since.store(IDLE, Ordering::Relaxed);
        now
    }

    fn in_hand(&self) -> Option<(&'static str, Monotonic)> {
        let since = self.in_hand_since.load(Ordering::Relaxed);
        (since != IDLE).then(|| {
            let message = *self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
            (message, Monotonic(since))
        })
    }

    /// Since when messages wait and none is taken. Each message that is done is one that was taken.
    fn waits_since(&self) -> Option<Monotonic> {
        (self.mailbox() > 0).then(|| {
            let (done, waiting) =
                (self.done_at.load(Ordering::Relaxed), self.waits_since.load(Ordering::Relaxed));
            Monotonic(if done == IDLE { waiting } else { waiting.max(done) })
        })
    }

    /// What there is to see of it now. Takes no lock that the actor holds for more than a moment.
    pub(crate) fn glimpse(&self) -> Glimpse {
        let done = self.done_at.load(Ordering::Relaxed);
        let in_hand = self.in_hand();
        let past = self.past().clone();
        Glimpse {
            state: self.state(),
            started: self.started,
            restarts: self.restarts(),
            last_failure: past.failure.map(String::from),
            restarted: past.restarted,
            mailbox: self.mailbox(),
            mailbox_high: self.high_water.load(Ordering::Relaxed),
            handled: self.handled.load(Ordering::Relaxed),
            busy: Duration::from_nanos(self.busy_ns.load(Ordering::Relaxed)),
            in_hand,
            progress: (done != IDLE).then_some(Monotonic(done)),
            waits_since: if in_hand.is_none() { self.waits_since() } else { None },
        }
    }

    /// Since when it does not answer: with the message in hand, or with messages that wait while it takes none.
    pub(crate) fn held_up(&self) -> Option<(Option<&'static str>, Monotonic)> {
        match self.in_hand() {
            Some((message, since)) => Some((Some(message), since)),
            None => Some((None, self.waits_since()?)),
        }
    }

    /// Whether it was started as the first of its tree.
    pub(crate) fn is_first(&self) -> bool {
        self.parent().is_none()
    }

    fn parent(&self) -> Option<ActorId> {
        *self.parent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another actor has adopted it.
    pub(super) fn hang_below(&self, parent: ActorId) {
        *self.parent.lock().unwrap_or_else(PoisonError::into_inner) = Some(parent);
    }

    /// The path from the root, names joined by `/`.
    #[must_use]
    pub fn path(&self) -> String {
        let mut names = vec![Arc::clone(&self.name)];
        let mut parent = self.parent();
        while let Some(info) = parent.and_then(|id| self.system.index.get(id)) {
            names.push(Arc::clone(&info.name));
            parent = info.parent();
        }
        names.reverse();
        names.join("/")
    }

    /// The actor's ractor cell.
    #[must_use]
    pub const fn cell(&self) -> &ActorCell {
        &self.cell
    }

    /// A copy of what is known now.
    #[must_use]
    pub fn view(&self) -> ActorView {
        let now = self.system.clock.monotonic();
        ActorView {
            id: self.cell.get_id().pid(),
            parent: self.parent().map(|id| id.pid()),
            path: self.path(),
            kind: self.kind,
            state: self.state(),
            started: self.started,
            restarts: self.restarts(),
            last_failure: self.past().failure.as_deref().map(str::to_owned),
            mailbox: self.mailbox(),
            mailbox_high: self.high_water.load(Ordering::Relaxed),
            handled: self.handled.load(Ordering::Relaxed),
            busy: Duration::from_nanos(self.busy_ns.load(Ordering::Relaxed)),
            waited: Duration::from_nanos(self.waited_ns.load(Ordering::Relaxed)),
            in_hand: self.in_hand().map(|(message, since)| (message, now.since(since))),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Adds to a figure that one task alone writes, which costs less than an atomic addition.
fn grow(figure: &AtomicU64, by: u64) {
    figure.store(figure.load(Ordering::Relaxed).saturating_add(by), Ordering::Relaxed);
}

/// Every live actor of one tree, from before its `start` until after its end.
#[derive(Debug, Default)]
pub struct ActorIndex {
    actors: DashMap<ActorId, Arc<ActorInfo>>,
    /// Messages that actors handled which are gone, by kind.
    retired: DashMap<&'static str, u64>,
}

impl ActorIndex {
    /// What is known of an actor.
    #[must_use]
    pub fn get(&self, id: ActorId) -> Option<Arc<ActorInfo>> {
        self.actors.get(&id).map(|entry| Arc::clone(entry.value()))
    }

    /// Whether an actor lives.
    #[must_use]
    pub fn contains(&self, id: ActorId) -> bool {
        self.actors.contains_key(&id)
    }

    /// How many actors live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.actors.len()
    }

    /// Whether no actor lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actors.is_empty()
    }

    /// The handles of all actors that take messages of this type, oldest first.
    #[must_use]
    pub fn handles<M: Msg>(&self) -> Vec<Handle<M>> {
        let mut handles: Vec<Handle<M>> =
            self.actors.iter().filter_map(|entry| Handle::of(entry.value())).collect();
        handles.sort_by_key(|handle| handle.cell().get_id().pid());
        handles
    }

    /// Every live actor, in no order. Each part of the index is held for as long as it takes to copy its addresses.
    pub(crate) fn all(&self) -> Vec<Arc<ActorInfo>> {
        let mut all = Vec::with_capacity(self.actors.len() + 16);
        all.extend(self.actors.iter().map(|entry| Arc::clone(entry.value())));
        all
    }

    /// A copy of what is known of every actor, by path.
    #[must_use]
    pub fn views(&self) -> Vec<ActorView> {
        let infos: Vec<_> = self.actors.iter().map(|entry| Arc::clone(entry.value())).collect();
        let mut views: Vec<_> = infos.iter().map(|info| info.view()).collect();
        views.sort_by(|a, b| a.path.cmp(&b.path).then(a.id.cmp(&b.id)));
        views
    }
}
