//! Puts a snapshot together.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Look;
use super::book::{EndedRun, SHOWN_FOR, SessionFacts, WaitingRun, last_of};
use super::view::totals;
use super::view::{
    ActorFigures, ChildCounts, Node, NodeId, RunNode, SessionNode, Snapshot, Spending, ToolNode,
};
use super::walk::{Found, Walk};
use crate::kit::ActorInfo;
use crate::policy::cost::Spent;
use crate::policy::watch::{STUCK_AFTER, is_overdue};
use crate::ports::{Cause, RunState};
use crate::run::{Activity, Phase, RunCell};
use crate::session::SessionMeta;
use crate::sessions::LaneName;
use crate::shared::{LiveEntry, Shared};
use crate::types::{Monotonic, RunId, SessionKey, Timestamp};

/// What hangs below a node.
enum Below {
    Actor(usize),
    /// A session that sleeps.
    Sleeping(Arc<SessionFacts>),
    /// An open run without an actor.
    Cell(Arc<RunCell>),
    Waiting(Arc<WaitingRun>),
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
}

struct Builder<'a> {
    shared: &'a Shared,
    look: &'a Look<'a>,
    now: Timestamp,
    monotonic: Monotonic,
    /// Milliseconds from the monotonic clock to the calendar.
    offset: i64,
    walk: Walk,
    /// The sessions that are awake, by the numbers of their actors.
    awake: BTreeMap<u64, Arc<SessionMeta>>,
    /// Open runs, by the numbers of their actors.
    cells: BTreeMap<u64, Arc<RunCell>>,
    /// What has no actor, by the session that it hangs below.
    others: BTreeMap<SessionKey, Vec<Below>>,
    /// Sleeping sessions whose parents are not shown.
    adrift: Vec<Below>,
    positions: BTreeMap<RunId, usize>,
    nodes: Vec<Node>,
    /// The place of each node's parent.
    parents: Vec<usize>,
    /// The newest open run of each session.
    newest: BTreeMap<SessionKey, (Timestamp, &'static str)>,
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
        newest: BTreeMap::new(),
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
        for LiveEntry { handle, meta } in live {
            self.awake.insert(handle.cell().get_id().pid(), meta);
        }
        let lived: BTreeSet<u64> = self.walk.actors.iter().map(|found| found.number).collect();
        let mut known = BTreeSet::new();
        let cells: Vec<_> = self.shared.runs.iter().map(|entry| Arc::clone(entry.value())).collect();
        for cell in cells {
            known.insert(cell.id);
            match cell.actor().filter(|number| lived.contains(number)) {
                Some(number) => drop(self.cells.insert(number, cell)),
                None => self.others.entry(cell.session.clone()).or_default().push(Below::Cell(cell)),
            }
        }
        let waiting: Vec<_> =
            self.shared.book.waiting.iter().map(|entry| Arc::clone(entry.value())).collect();
        for run in waiting.into_iter().filter(|run| known.insert(run.id)) {
            self.others.entry(run.session.clone()).or_default().push(Below::Waiting(run));
        }
        for book in self.shared.lanes() {
            self.positions.extend(book.order().into_iter().zip(1..));
        }
        self.gather_recent(&known);
    }

    fn gather_recent(&mut self, open: &BTreeSet<RunId>) {
        let since = Timestamp(self.now.0.saturating_sub(millis(SHOWN_FOR)));
        for run in self.shared.book.ended_since(since).into_iter().filter(|run| !open.contains(&run.id)) {
            self.others.entry(run.session.clone()).or_default().push(Below::Ended(run));
        }
        let mut asleep: BTreeMap<SessionKey, Arc<SessionFacts>> = self.shared.book.recent_sessions(since);
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
            children.extend(self.walk.take_below(number).into_iter().map(Below::Actor));
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

    fn node(&mut self, below: Below, parent: usize, path: &mut String) -> Node {
        let (above, depth) = match self.nodes.get(parent) {
            Some(node) => (Some(node.id.clone()), node.session.as_ref().map_or(0, |session| session.depth)),
            None => (None, 0),
        };
        match below {
            Below::Actor(place) => {
                let (info, number) =
                    (Arc::clone(&self.walk.actors[place].info), self.walk.actors[place].number);
                path.push_str(&info.name);
                let (figures, state) = self.figures(&info);
                let session = self.session_of(&info, number);
                let run = self.cells.remove(&number).map(|cell| Box::new(self.open_run(&cell, depth)));
                Node {
                    id: NodeId::Actor(number),
                    parent: above,
                    name: Arc::clone(&info.name),
                    path: path.as_str().into(),
                    kind: info.kind,
                    state,
                    actor: Some(figures),
                    session,
                    run,
                }
            }
            Below::Sleeping(facts) => {
                let id = NodeId::Session(facts.key.clone());
                let session = Some(Box::new(session_node(&facts, false)));
                self.without_actor(id, above, facts.key.as_str(), "session", path, session, None)
            }
            Below::Cell(cell) => {
                let run = Some(Box::new(self.open_run(&cell, depth)));
                self.without_actor(NodeId::Run(cell.id), above, &run_name(cell.id), "run", path, None, run)
            }
            Below::Waiting(waiting) => {
                let run = Some(Box::new(self.waiting_run(&waiting, depth)));
                self.without_actor(
                    NodeId::Run(waiting.id),
                    above,
                    &run_name(waiting.id),
                    "run",
                    path,
                    None,
                    run,
                )
            }
            Below::Ended(ended) => {
                let run = Some(Box::new(self.ended_run(&ended, depth)));
                self.without_actor(NodeId::Run(ended.id), above, &run_name(ended.id), "run", path, None, run)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is one fact of the node")]
    fn without_actor(
        &self,
        id: NodeId,
        parent: Option<NodeId>,
        name: &str,
        kind: &'static str,
        path: &mut String,
        session: Option<Box<SessionNode>>,
        run: Option<Box<RunNode>>,
    ) -> Node {
        path.push_str(name);
        let ended = run.as_ref().is_some_and(|run| run.ended_at.is_some());
        let state = if ended { "ended" } else { "sleeping" };
        Node {
            id,
            parent,
            name: name.into(),
            path: path.as_str().into(),
            kind,
            state,
            actor: None,
            session,
            run,
        }
    }

    fn figures(&self, info: &ActorInfo) -> (ActorFigures, &'static str) {
        let seen = info.glimpse();
        let quiet_since = seen.in_hand.map(|(_, since)| since).or(seen.waits_since);
        let figures = ActorFigures {
            since: seen.started,
            restarts: seen.restarts,
            last_failure: seen.last_failure,
            restarted_at: seen.restarted,
            mailbox: seen.mailbox,
            mailbox_high: seen.mailbox_high,
            handled: seen.handled,
            busy: seen.busy,
            in_hand: seen.in_hand.map(|(message, since)| (message, self.date(since))),
            progress_at: seen.progress.map(|at| self.date(at)),
            stuck: quiet_since.is_some_and(|since| is_overdue(since, STUCK_AFTER, self.monotonic)),
        };
        (figures, seen.state.as_str())
    }

    fn session_of(&self, info: &ActorInfo, number: u64) -> Option<Box<SessionNode>> {
        if info.kind != "session" {
            return None;
        }
        if let Some(meta) = self.awake.get(&number) {
            return Some(Box::new(session_node(&SessionFacts::from(&**meta), true)));
        }
        // On its way up or to sleep.
        let key: SessionKey = info.name.parse().ok()?;
        let facts = self.shared.book.facts(&key)?;
        Some(Box::new(session_node(&facts, true)))
    }

    fn open_run(&mut self, cell: &RunCell, depth: u32) -> RunNode {
        let (passes, timeout) = cell.deadline(|deadline| (deadline.passes_at(), deadline.limit()));
        let mut node = RunNode {
            id: cell.id,
            wire_id: cell.wire_id.clone(),
            session: cell.session.clone(),
            cause: cell.cause.as_str(),
            spawner: cell.spawner,
            state: "",
            reason: cell.fate.get().map(|fate| fate.reason.clone()),
            doing: None,
            lane: None,
            lane_position: None,
            depth,
            model_asked: cell.model.primary.clone(),
            model: cell.model.primary.clone(),
            accepted_at: cell.accepted_at,
            started_at: None,
            ended_at: None,
            silent_since: None,
            silent: false,
            step: 0,
            max_steps: None,
            tools: Vec::new(),
            text: None,
            spent: Spending::default(),
            deadline_at: passes.map(|at| self.date(at)),
            timeout,
        };
        cell.update(|progress| {
            let works = progress.phase == Phase::Running;
            let in_hand =
                works && progress.activity != Activity::Committing && progress.activity != Activity::Tools;
            node.state = progress.phase.as_str();
            node.doing = Some(match (progress.phase, progress.activity) {
                (Phase::Queued, _) | (Phase::Running, Activity::Queueing) => "waiting for its lane",
                (Phase::Yielded, _) => "waiting for children",
                (Phase::Ending, _) | (Phase::Running, Activity::Committing) => "committing",
                (Phase::Running, Activity::Model) => "model",
                (Phase::Running, Activity::Tools) if progress.tools.is_empty() => "committing",
                (Phase::Running, Activity::Tools) => "tools",
                (Phase::Running, Activity::BackingOff) => "backing off",
            });
            node.model = progress.model.clone();
            node.started_at = progress.started_at;
            node.silent_since = progress.heard.filter(|_| works);
            node.step = progress.steps.saturating_add(u32::from(in_hand));
            node.max_steps = progress.max_steps;
            node.text = (!progress.text.is_empty()).then(|| last_of(&progress.text));
            node.spent.usage = progress.usage;
            let tools = progress.tools.iter().map(|tool| ToolNode {
                name: Arc::clone(&tool.name),
                argument: Arc::clone(&tool.argument),
                since: tool.since,
            });
            node.tools = tools.collect();
        });
        node.silent = node.silent_since.is_some_and(|since| self.now - since > self.look.silent_after);
        node.spent.cost = self.look.prices.cost(&node.model, node.spent.usage).map(|cost| cost.total());
        self.queue(&mut node);
        node
    }

    fn waiting_run(&mut self, run: &WaitingRun, depth: u32) -> RunNode {
        let mut node = RunNode {
            id: run.id,
            wire_id: run.wire_id.clone(),
            session: run.session.clone(),
            cause: run.cause.as_str(),
            spawner: run.spawner,
            state: Phase::Queued.as_str(),
            reason: None,
            doing: Some("waiting for its turn"),
            lane: None,
            lane_position: None,
            depth,
            model_asked: run.model.clone(),
            model: run.model.clone(),
            accepted_at: run.accepted_at,
            started_at: None,
            ended_at: None,
            silent_since: None,
            silent: false,
            step: 0,
            max_steps: None,
            tools: Vec::new(),
            text: None,
            spent: Spending::default(),
            deadline_at: None,
            timeout: run.timeout,
        };
        self.queue(&mut node);
        node
    }

    fn ended_run(&self, run: &EndedRun, depth: u32) -> RunNode {
        RunNode {
            id: run.id,
            wire_id: run.wire_id.clone(),
            session: run.session.clone(),
            cause: run.cause.as_str(),
            spawner: run.spawner,
            state: run.state.as_str(),
            reason: run.reason.clone(),
            doing: None,
            lane: None,
            lane_position: None,
            depth,
            model_asked: run.model_asked.clone(),
            model: run.model.clone(),
            accepted_at: run.accepted_at,
            started_at: run.started_at,
            ended_at: Some(run.ended_at),
            silent_since: None,
            silent: false,
            step: run.steps,
            max_steps: None,
            tools: Vec::new(),
            text: run.text.clone(),
            spent: Spending {
                usage: run.usage,
                cost: self.look.prices.cost(&run.model, run.usage).map(|cost| cost.total()),
            },
            deadline_at: None,
            timeout: run.timeout,
        }
    }

    /// Fills in where it waits, and notes it as the newest of its session if it is.
    fn queue(&mut self, node: &mut RunNode) {
        node.lane = Some(LaneName::at(node.depth).as_str());
        node.lane_position = self.positions.get(&node.id).copied();
        let newest = self.newest.entry(node.session.clone()).or_insert((node.accepted_at, node.state));
        if newest.0 <= node.accepted_at {
            *newest = (node.accepted_at, node.state);
        }
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
        let open = self.newest.get(&session.key).copied();
        session.status = match (open, latest) {
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

    fn date(&self, at: Monotonic) -> Timestamp {
        Timestamp(i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX).saturating_add(self.offset))
    }
}

fn session_node(facts: &SessionFacts, awake: bool) -> SessionNode {
    SessionNode {
        key: facts.key.clone(),
        agent: facts.agent.clone(),
        label: facts.label.clone(),
        mode: facts.mode,
        depth: facts.depth,
        awake,
        status: "idle",
        children: ChildCounts::default(),
        spent: None,
        subtree: None,
    }
}

/// Siblings are in the order of their names.
fn name_of<'a>(below: &'a Below, actors: &'a [Found]) -> (Cow<'a, str>, u64) {
    match below {
        Below::Actor(place) => ((&*actors[*place].info.name).into(), actors[*place].number),
        Below::Sleeping(facts) => (facts.key.as_str().into(), 0),
        Below::Cell(cell) => (run_name(cell.id).into(), 0),
        Below::Waiting(run) => (run_name(run.id).into(), 0),
        Below::Ended(run) => (run_name(run.id).into(), 0),
    }
}

fn run_name(run: RunId) -> String {
    format!("run {run}")
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
