//! Puts a snapshot together: what hangs where, and what it adds up to.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Look;
use super::book::{AcceptedRun, EndedRun, SHOWN_FOR, SessionFacts};
use super::view::{Node, NodeId, Snapshot, Spending, totals};
use super::walk::{Found, Walk};
use crate::policy::cost::Spent;
use crate::ports::{Cause, RunState};
use crate::run::RunCell;
use crate::session::SessionMeta;
use crate::shared::{LiveEntry, Shared};
use crate::types::{Monotonic, RunId, SessionKey, Timestamp};

/// What hangs below a node.
pub(super) enum Below {
    Actor(usize),
    /// A session that sleeps.
    Sleeping(Arc<SessionFacts>),
    /// An open run without an actor.
    Cell(Arc<RunCell>),
    Waiting(Arc<AcceptedRun>),
    Ended(Arc<EndedRun>),
}

/// What a node adds to those above it.
#[derive(Default, Clone, Copy)]
struct Sums {
    /// Of open runs of the session itself.
    own: Spending,
    /// Of open runs of the session and of those below.
    all: Spending,
    live: u64,
    /// The open run of the session itself that was accepted last, and how it stands.
    newest: Option<(Timestamp, &'static str)>,
}

pub(super) struct Builder<'a> {
    pub(super) shared: &'a Shared,
    pub(super) look: &'a Look<'a>,
    pub(super) now: Timestamp,
    pub(super) monotonic: Monotonic,
    /// Milliseconds from the monotonic clock to the calendar.
    pub(super) offset: i64,
    pub(super) walk: Walk,
    /// The sessions that are awake, by the numbers of their actors.
    pub(super) awake: BTreeMap<u64, Arc<SessionMeta>>,
    /// Open runs, by the numbers of their actors.
    pub(super) cells: BTreeMap<u64, Arc<RunCell>>,
    /// What has no actor, by the session that it hangs below.
    others: BTreeMap<SessionKey, Vec<Below>>,
    /// Sleeping sessions whose parents are not shown.
    adrift: Vec<Below>,
    pub(super) positions: BTreeMap<RunId, usize>,
    pub(super) nodes: Vec<Node>,
    /// The place of each node's parent.
    parents: Vec<usize>,
}

pub(super) fn snapshot(shared: &Shared, look: &Look<'_>) -> Snapshot {
    let (now, monotonic) = (shared.system.clock.now(), shared.system.clock.monotonic());
    let mut builder = Builder {
        shared,
        look,
        now,
        monotonic,
        offset: shared.calendar(now, monotonic),
        walk: Walk::of(&shared.system.index),
        awake: BTreeMap::new(),
        cells: BTreeMap::new(),
        others: BTreeMap::new(),
        adrift: Vec::new(),
        positions: BTreeMap::new(),
        nodes: Vec::new(),
        parents: Vec::new(),
    };
    builder.gather();
    builder.lay_out();
    builder.add_up();
    builder.finish()
}

impl Builder<'_> {
    /// Copies what there is beside the actors.
    fn gather(&mut self) {
        let live: Vec<_> = self.shared.live.iter().map(|entry| entry.value().clone()).collect();
        let numbered = |entry: LiveEntry| (entry.handle.cell().get_id().pid(), entry.meta);
        self.awake = live.into_iter().map(numbered).collect();
        let mut lived: Vec<u64> = self.walk.actors.iter().map(|found| found.number).collect();
        lived.sort_unstable();
        let cells: Vec<_> = self.shared.runs.iter().map(|entry| Arc::clone(entry.value())).collect();
        let mut waiting: Vec<_> =
            self.shared.book.waiting.iter().map(|entry| Arc::clone(entry.value())).collect();
        let mut open: Vec<RunId> = cells.iter().map(|cell| cell.id).collect();
        open.sort_unstable();
        let mut working = Vec::with_capacity(cells.len());
        for cell in cells {
            match cell.actor().filter(|number| lived.binary_search(number).is_ok()) {
                Some(number) => working.push((number, cell)),
                None => self.others.entry(cell.session.clone()).or_default().push(Below::Cell(cell)),
            }
        }
        self.cells = working.into_iter().collect();
        // One that got its turn meanwhile is among both.
        waiting.retain(|run| open.binary_search(&run.id).is_err());
        open.extend(waiting.iter().map(|run| run.id));
        open.sort_unstable();
        for run in waiting {
            self.others.entry(run.session.clone()).or_default().push(Below::Waiting(run));
        }
        for book in self.shared.lanes() {
            self.positions.extend(book.order().into_iter().zip(1..));
        }
        self.gather_recent(&open);
    }

    fn gather_recent(&mut self, open: &[RunId]) {
        let since = Timestamp(self.now.0.saturating_sub(millis(SHOWN_FOR)));
        let ended = self.shared.book.ended_since(since);
        for run in ended.into_iter().filter(|run| open.binary_search(&run.accepted.id).is_err()) {
            self.others.entry(run.accepted.session.clone()).or_default().push(Below::Ended(run));
        }
        let mut asleep = self.shared.book.recent_sessions(since);
        if asleep.is_empty() {
            return;
        }
        let awake: BTreeSet<&SessionKey> = self.awake.values().map(|meta| &meta.key).collect();
        asleep.retain(|key, _| !awake.contains(key));
        for facts in asleep.values() {
            let below = Below::Sleeping(Arc::clone(facts));
            match facts
                .parent
                .as_ref()
                .filter(|parent| awake.contains(parent) || asleep.contains_key(*parent))
            {
                Some(parent) => self.others.entry(parent.clone()).or_default().push(below),
                None => self.adrift.push(below),
            }
        }
    }

    /// Puts the nodes into their order.
    fn lay_out(&mut self) {
        let Some(root) = self.walk.root else { return };
        self.nodes.reserve(self.walk.actors.len() + self.others.len());
        let mut path = String::new();
        let mut stack = vec![(Below::Actor(root), usize::MAX)];
        while let Some((below, parent)) = stack.pop() {
            path.clear();
            if let Some(parent) = self.nodes.get(parent) {
                path.push_str(&parent.path);
                path.push('/');
            }
            let place = self.nodes.len();
            let node = self.node(below, parent, &mut path);
            let children = self.children(&node);
            self.nodes.push(node);
            self.parents.push(parent);
            // The last one is taken first.
            stack.extend(children.into_iter().rev().map(|child| (child, place)));
        }
    }

    fn children(&mut self, node: &Node) -> Vec<Below> {
        let mut children = Vec::new();
        if let NodeId::Actor(number) = node.id {
            children.extend(self.walk.below(number).map(Below::Actor));
        }
        if let Some(session) = &node.session
            && let Some(others) = self.others.remove(&session.key)
        {
            children.extend(others);
        }
        if node.kind == "sessions" {
            children.append(&mut self.adrift);
        }
        if children.len() > 1 {
            let actors = &self.walk.actors;
            children.sort_by(|a, b| name_of(a, actors).cmp(&name_of(b, actors)));
        }
        children
    }

    /// Has each session show what it and those below it have used.
    fn add_up(&mut self) {
        let mut sums = vec![Sums::default(); self.nodes.len()];
        for place in (0..self.nodes.len()).rev() {
            let above = self.parents[place];
            let mine = sums[place];
            let open = self.nodes[place].run.as_ref().filter(|run| run.ended_at.is_none());
            if let Some(run) = open {
                let spawned = run.cause == Cause::Spawn.as_str();
                let spent = run.spent;
                if let Some(above) = sums.get_mut(above) {
                    above.own += spent;
                    above.all += spent;
                    if above.newest.is_none_or(|(at, _)| at < run.accepted_at) {
                        above.newest = Some((run.accepted_at, run.state));
                    }
                }
                // The session that it is in hangs below the one that spawned it.
                if spawned && let Some(over) = self.parents.get(above).and_then(|over| sums.get_mut(*over)) {
                    over.live += 1;
                }
            }
            if self.nodes[place].session.is_some() {
                self.sum_session(place, mine);
            }
            if let Some(above) = sums.get_mut(above)
                && self.nodes[place].run.is_none()
            {
                above.all += mine.all;
            }
        }
    }

    fn sum_session(&mut self, place: usize, sums: Sums) {
        let Some(session) = &mut self.nodes[place].session else { return };
        session.children.live = sums.live;
        let entry = self.shared.book.sessions.get(&session.key);
        let figures = entry.as_ref().and_then(|entry| entry.figures.as_ref());
        let latest = entry.as_ref().and_then(|entry| entry.latest);
        session.status = match (sums.newest, latest) {
            (Some((_, state)), _) => state,
            (None, Some((_, RunState::Ended(state)))) => state.as_str(),
            (None, _) => "idle",
        };
        let Some(figures) = figures else { return };
        let prices = self.look.prices;
        let spending = |spent: &Spent| Spending { usage: spent.usage(), cost: spent.cost(prices) };
        let mut own = spending(&figures.own);
        let mut all = own;
        all += spending(&figures.below);
        own += sums.own;
        all += sums.all;
        (session.children.done, session.children.failed) = (figures.done, figures.failed);
        (session.spent, session.subtree) = (Some(own), Some(all));
    }

    fn finish(self) -> Snapshot {
        let lanes = self.shared.lanes();
        Snapshot {
            at: self.now,
            started_at: self.shared.started_on(),
            lanes: [lanes[0].view(self.shared), lanes[1].view(self.shared)],
            totals: totals(&self.nodes),
            nodes: self.nodes,
        }
    }
}

/// Siblings are in the order of their names.
fn name_of<'a>(below: &'a Below, actors: &'a [Found]) -> (Cow<'a, str>, u64) {
    match below {
        Below::Actor(place) => ((&*actors[*place].info.name).into(), actors[*place].number),
        Below::Sleeping(facts) => (facts.key.as_str().into(), 0),
        Below::Cell(cell) => (run_name(cell.id).into(), 0),
        Below::Waiting(run) => (run_name(run.id).into(), 0),
        Below::Ended(run) => (run_name(run.accepted.id).into(), 0),
    }
}

pub(super) fn run_name(run: RunId) -> String {
    format!("run {run}")
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
