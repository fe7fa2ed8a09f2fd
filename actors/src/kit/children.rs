//! The book that an actor keeps of its children.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join_all, select};
use ractor::ActorId;

use super::index::ActorInfo;
use super::mailbox::{Handle, Msg};
use super::system::{Note, NoteKind};

/// How a parent treats a child when it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildSpec {
    /// How long the child may take to stop, with its own children, before it is killed with them.
    pub stop_within: Duration,
    /// Whether siblings that were started earlier wait for its end. Others stop side by side, and first.
    pub in_order: bool,
}

impl ChildSpec {
    /// One of a fixed list of children, stopped in reverse order of start.
    #[must_use]
    pub const fn in_order(stop_within: Duration) -> Self {
        Self { stop_within, in_order: true }
    }

    /// One of many alike, stopped side by side.
    #[must_use]
    pub const fn alike(stop_within: Duration) -> Self {
        Self { stop_within, in_order: false }
    }
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It stopped by itself.
    Normal,
    /// This parent asked it to.
    Asked,
    /// Somebody else killed it.
    Killed,
    /// It panicked, or its start failed.
    Failed(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("stopped"),
            Self::Asked => f.write_str("asked to stop"),
            Self::Killed => f.write_str("killed"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

#[derive(Debug)]
struct Child<K> {
    key: K,
    info: Arc<ActorInfo>,
    spec: ChildSpec,
    asked: bool,
}

/// The children of one actor. It survives a rebuild of the actor's state.
#[derive(Debug)]
pub struct Children<K> {
    /// By id, which is the order of start. Boxed, because most actors have one child, and a node of the map has room
    /// for eleven.
    by_id: BTreeMap<Order, Box<Child<K>>>,
    by_key: BTreeMap<K, Order>,
}

/// Ids in the order in which they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Order(u64);

impl From<ActorId> for Order {
    fn from(id: ActorId) -> Self {
        Self(id.pid())
    }
}

impl<K: Ord + Clone> Children<K> {
    pub(super) const fn new() -> Self {
        Self { by_id: BTreeMap::new(), by_key: BTreeMap::new() }
    }

    pub(super) fn insert(&mut self, key: K, info: Arc<ActorInfo>, spec: ChildSpec) {
        let id = info.cell().get_id().into();
        self.by_key.insert(key.clone(), id);
        self.by_id.insert(id, Box::new(Child { key, info, spec, asked: false }));
    }

    /// Takes a child that ended off the book. Returns its key, itself and whether its end was asked for.
    pub(super) fn remove(&mut self, id: ActorId) -> Option<(K, Arc<ActorInfo>, bool)> {
        let id = id.into();
        let child = self.by_id.remove(&id)?;
        // A successor under the same key keeps its entry.
        if self.by_key.get(&child.key) == Some(&id) {
            self.by_key.remove(&child.key);
        }
        Some((child.key, child.info, child.asked))
    }

    pub(super) fn id_of(&self, key: &K) -> Option<ActorId> {
        self.by_id.get(self.by_key.get(key)?).map(|child| child.info.cell().get_id())
    }

    pub(super) fn key_of(&self, id: ActorId) -> Option<&K> {
        self.by_id.get(&id.into()).map(|child| &child.key)
    }

    /// The handle of a child, if it is there and takes such messages.
    #[must_use]
    pub fn handle<M: Msg>(&self, key: &K) -> Option<Handle<M>> {
        Handle::of(&self.by_id.get(self.by_key.get(key)?)?.info)
    }

    /// What is known of a child, if it is there.
    pub(crate) fn info(&self, key: &K) -> Option<&Arc<ActorInfo>> {
        self.by_id.get(self.by_key.get(key)?).map(|child| &child.info)
    }

    /// The keys of all children.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.by_key.keys()
    }

    /// Whether there is a child under this key.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    /// Whether there is no child.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How many children there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Takes a child off the book that does not hang below this actor any more. Returns whether it did.
    pub(super) fn release(&mut self, key: &K, myself: ActorId) -> bool {
        self.id_of(key).is_some_and(|id| self.sweep(id, myself).is_some())
    }

    /// The same for a child by its id. Returns its key.
    pub(super) fn sweep(&mut self, id: ActorId, myself: ActorId) -> Option<K> {
        self.by_id.get(&id.into()).filter(|child| !child.is_here(myself))?;
        self.remove(id).map(|(key, ..)| key)
    }

    /// Those that do not hang below this actor any more: adopted by another one, or ended.
    pub(super) fn strangers(&self, myself: ActorId) -> Vec<ActorId> {
        let strangers = self.by_id.values().filter(|child| !child.is_here(myself));
        strangers.map(|child| child.info.cell().get_id()).collect()
    }

    /// Ends a child at its next await; its `stopping` does not run. Returns whether it was there.
    pub fn kill(&mut self, key: &K) -> bool {
        let Some(child) = self.by_key.get(key).and_then(|id| self.by_id.get_mut(id)) else { return false };
        child.asked = true;
        child.info.cell().kill();
        true
    }

    /// Stops all children and waits for them: those that are alike side by side, then the others in reverse
    /// order of start, each with its time and then a kill. Those that another actor adopted stay.
    pub(super) async fn stop_all(&mut self, myself: ActorId) {
        let mut children = std::mem::take(&mut self.by_id);
        self.by_key.clear();
        children.retain(|_, child| !child.is_elsewhere(myself));
        let (in_order, alike): (Vec<_>, Vec<_>) =
            children.into_values().partition(|child| child.spec.in_order);
        for child in &alike {
            child.info.stop();
        }
        join_all(alike.iter().map(|child| child.join())).await;
        for child in in_order.iter().rev() {
            child.info.stop();
            child.join().await;
        }
    }
}

impl<K> Child<K> {
    /// Whether it hangs below this actor.
    fn is_here(&self, myself: ActorId) -> bool {
        self.info.cell().try_get_supervisor().is_some_and(|supervisor| supervisor.get_id() == myself)
    }

    /// Whether it hangs below another actor than this one.
    fn is_elsewhere(&self, myself: ActorId) -> bool {
        self.info.cell().try_get_supervisor().is_some_and(|supervisor| supervisor.get_id() != myself)
    }

    /// Waits for the end and kills when it does not come in time.
    async fn join(&self) {
        if self.ends().await {
            return;
        }
        self.info.cell().kill();
        self.info.system.note(Note { path: self.info.path(), actor: self.info.kind, kind: NoteKind::Killed });
        // A kill waits for the current await only; a handler that blocks its thread outlives this.
        self.ends().await;
    }

    /// Whether the end comes in time.
    async fn ends(&self) -> bool {
        let ended = pin!(self.info.ended());
        let limit = self.info.system.clock.sleep(self.spec.stop_within);
        matches!(select(ended, limit).await, Either::Left(_))
    }
}
