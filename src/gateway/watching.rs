//! What watchers of the tree are told: views that build on each other, made once for all who want the same.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::types::Monotonic;
use offshoot_actors::{Difference, LaneView, Node, NodeId, Snapshot, TreeHandle};
use serde::Serialize;

use super::client::Client;
use super::daemon::Daemon;
use super::methods::{Answer, answer};
use super::tree;
use crate::protocol::error::ErrorShape;
use crate::protocol::event::EventText;
use crate::protocol::tree::{Delta, Full, Tree};

/// How often a node is told whose figures alone change.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
/// Where so many nodes changed, and that is most of them, the whole view is told: it is shorter than what changed.
const MANY: usize = 200;

/// What one watcher wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Topic {
    pub(crate) path: Option<String>,
    pub(crate) recent: bool,
    pub(crate) limit: usize,
    pub(crate) interval: Duration,
}

/// A client that follows the tree.
#[derive(Debug, Clone)]
pub(crate) struct TreeWatch {
    topic: Arc<Topic>,
    /// The view that it has; 0 for none.
    rev: u64,
    /// The number of the last event that it was sent.
    seq: u64,
    /// The request that the first view answers, until that answer is queued: what came before it would be lost on the
    /// client, and with it all that builds on it.
    begins: Option<String>,
}

/// Somebody who begins to watch, and waits for the first view.
pub(crate) struct Newcomer {
    pub(crate) client: Arc<Client>,
    pub(crate) topic: Topic,
    /// The id of its request.
    pub(crate) request: String,
    pub(crate) reply: tokio::sync::oneshot::Sender<Answer>,
}

impl std::fmt::Debug for Newcomer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Newcomer").field("client", &self.client.number).field("topic", &self.topic).finish()
    }
}

/// A node as it was told.
#[derive(Debug)]
struct Told {
    node: Node,
    at: Monotonic,
    /// The look in which it was seen last.
    seen: u64,
}

/// What all who watch the same have been told.
#[derive(Debug, Default)]
pub(super) struct View {
    nodes: BTreeMap<NodeId, Told>,
    /// The order of the nodes.
    order: Vec<NodeId>,
    lanes: Vec<LaneView>,
    looks: u64,
}

/// What changed between two looks.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The places in the snapshot of nodes that are new or not what they were.
    pub(super) changed: Vec<usize>,
    pub(super) gone: Vec<NodeId>,
    lanes: bool,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty() && !self.lanes
    }
}

impl View {
    /// Goes on to what is there now: the first `limit` nodes of it. Figures that alone changed are left as they were told
    /// until a second has passed since.
    pub(super) fn update(&mut self, snapshot: &Snapshot, limit: usize, now: Monotonic) -> Changes {
        self.looks += 1;
        let looks = self.looks;
        let mut changes = Changes { lanes: self.lanes != snapshot.lanes, ..Changes::default() };
        self.lanes = snapshot.lanes.to_vec();
        self.order.clear();
        for (place, node) in snapshot.nodes.iter().take(limit).enumerate() {
            self.order.push(node.id.clone());
            match self.nodes.get_mut(&node.id) {
                None => {
                    self.nodes.insert(node.id.clone(), Told { node: node.clone(), at: now, seen: looks });
                    changes.changed.push(place);
                }
                Some(told) => {
                    told.seen = looks;
                    let tells = match told.node.difference(node) {
                        Difference::None => false,
                        Difference::Figures => now.since(told.at) >= FIGURES_EVERY,
                        Difference::State => true,
                    };
                    if tells {
                        (told.node, told.at) = (node.clone(), now);
                        changes.changed.push(place);
                    }
                }
            }
        }
        if self.nodes.len() > self.order.len() {
            let gone = self.nodes.extract_if(.., |_, told| told.seen != looks);
            changes.gone = gone.map(|(id, _)| id).collect();
        }
        changes
    }

    /// The nodes as they were told, in the order of the tree.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.order.iter().filter_map(|id| self.nodes.get(id)).map(|told| &told.node)
    }
}

#[derive(Debug)]
struct Group {
    view: View,
    rev: u64,
    due: Monotonic,
}

/// Everybody's views. One piece of work at a time is done on it, beside the actors.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    groups: BTreeMap<Arc<Topic>, Group>,
}

#[derive(Serialize)]
struct Subscribed<'a> {
    subscribed: bool,
    snapshot: &'a Tree,
}

/// Those who watch, by what they watch.
type Watchers = BTreeMap<Arc<Topic>, Vec<Arc<Client>>>;

impl Desk {
    /// Tells everybody whose time has come, and those who begin. Returns how long nothing is to be done; none if nobody
    /// watches.
    pub(crate) fn work(
        &mut self,
        daemon: &Daemon,
        handle: &TreeHandle,
        newcomers: Vec<Newcomer>,
    ) -> Option<Duration> {
        let now = daemon.clock.monotonic();
        let mut first: BTreeMap<Arc<Topic>, Vec<Newcomer>> = BTreeMap::new();
        for newcomer in newcomers {
            let topic = Arc::new(newcomer.topic.clone());
            first.entry(topic).or_default().push(newcomer);
        }
        let watchers = watchers(daemon);
        self.groups.retain(|topic, _| watchers.contains_key(topic) || first.contains_key(topic));
        let topics: Vec<Arc<Topic>> = watchers.keys().chain(first.keys()).cloned().collect();
        let is_due = |groups: &BTreeMap<Arc<Topic>, Group>, topic| {
            groups.get(topic).is_none_or(|group| group.due <= now)
        };
        if topics.iter().any(|topic| first.contains_key(topic) || is_due(&self.groups, topic)) {
            let snapshot = tree::look(daemon, handle);
            for topic in topics.iter().collect::<BTreeSet<_>>() {
                let new = first.remove(topic).unwrap_or_default();
                if !new.is_empty() || is_due(&self.groups, topic) {
                    let clients = watchers.get(topic).map(Vec::as_slice).unwrap_or_default();
                    self.tell(daemon, topic, &snapshot, now, clients, new);
                }
            }
        }
        let next = self.groups.values().map(|group| group.due).min()?;
        Some(next.since(daemon.clock.monotonic()))
    }

    fn tell(
        &mut self,
        daemon: &Daemon,
        topic: &Arc<Topic>,
        snapshot: &Snapshot,
        now: Monotonic,
        clients: &[Arc<Client>],
        newcomers: Vec<Newcomer>,
    ) {
        let part = tree::part(snapshot, topic.path.as_deref(), topic.recent);
        let known = self.groups.contains_key(topic);
        let part = match part {
            Some(part) => part,
            // Of what is gone by now, those who watched it are told that.
            None if known => Cow::Owned(snapshot.emptied()),
            None => return newcomers.into_iter().for_each(|newcomer| newcomer.find_nothing()),
        };
        let due = now + topic.interval;
        let group = self.groups.entry(Arc::clone(topic)).or_insert_with(|| Group {
            view: View::default(),
            rev: 0,
            due,
        });
        group.due = due;
        let changes = group.view.update(&part, topic.limit, now);
        let base = group.rev;
        if !changes.is_empty() || base == 0 {
            group.rev = daemon.revisions.next();
        }
        let many = changes.changed.len() >= MANY && changes.changed.len() * 2 > part.nodes.len();
        let (mut delta, mut full) = (None, None);
        for client in clients {
            let Some(mut watch) = client.follows.tree().clone() else { continue };
            if watch.begins.is_some() || watch.rev == group.rev || !client.outbox.has_taken(watch.seq) {
                continue;
            }
            let event = if watch.rev == base && base != 0 && !many {
                delta.get_or_insert_with(|| group.delta(&part, &changes, base, topic.limit))
            } else {
                full.get_or_insert_with(|| event(&Full { full: true, tree: group.whole(&part) }))
            };
            let Some(event) = event else { continue };
            if let Some(seq) = client.outbox.offer(event) {
                (watch.rev, watch.seq) = (group.rev, seq);
                watch.put_back(client);
            }
        }
        if !newcomers.is_empty() {
            let tree = group.whole(&part);
            for newcomer in newcomers {
                newcomer.welcome(topic, &tree);
            }
        }
    }
}

impl Group {
    fn delta(&self, part: &Snapshot, changes: &Changes, base: u64, limit: usize) -> Option<EventText> {
        event(&Delta {
            rev: self.rev,
            base,
            ts: part.at.0,
            total: part.nodes.len(),
            truncated: part.nodes.len() > limit,
            lanes: tree::lanes(&part.lanes),
            totals: tree::totals(&part.totals),
            changed: changes.changed.iter().map(|place| tree::node(&part.nodes[*place])).collect(),
            gone: changes.gone.iter().map(ToString::to_string).collect(),
        })
    }

    /// All that was told, as of this snapshot.
    fn whole(&self, part: &Snapshot) -> Tree {
        let nodes = self.view.nodes().map(tree::node).collect();
        let limit = self.view.order.len();
        Tree { nodes, truncated: part.nodes.len() > limit, ..tree::view(part, self.rev, 0) }
    }
}

impl TreeWatch {
    /// The answer to that request is queued.
    pub(crate) fn answered(&mut self, request: &str) {
        self.begins.take_if(|begins| begins == request);
    }

    /// Notes what the client was told, unless it watches something else by now.
    fn put_back(self, client: &Client) {
        let mut now = client.follows.tree();
        if now.as_ref().is_some_and(|now| Arc::ptr_eq(&now.topic, &self.topic)) {
            *now = Some(self);
        }
    }
}

impl Newcomer {
    fn welcome(self, topic: &Arc<Topic>, tree: &Tree) {
        let (topic, begins) = (Arc::clone(topic), Some(self.request));
        *self.client.follows.tree() = Some(TreeWatch { topic, rev: tree.rev, seq: 0, begins });
        // A client that is gone by now needs no answer.
        drop(self.reply.send(answer(&Subscribed { subscribed: true, snapshot: tree })));
    }

    fn find_nothing(self) {
        let error = tree::nothing_at(self.topic.path.as_deref());
        drop(self.reply.send(Err::<_, ErrorShape>(error)));
    }
}

fn watchers(daemon: &Daemon) -> Watchers {
    let mut watchers = Watchers::new();
    for client in daemon.hub.clients() {
        let topic = client.follows.tree().as_ref().map(|watch| Arc::clone(&watch.topic));
        if let Some(topic) = topic {
            watchers.entry(topic).or_default().push(client);
        }
    }
    watchers
}

fn event(payload: &impl Serialize) -> Option<EventText> {
    EventText::of("tree", payload, None).ok()
}

#[cfg(test)]
mod tests;
