//! What a snapshot shows, as plain values.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::sessions::LaneView;
use crate::types::{AgentId, Mode, ModelRef, RunId, SessionKey, Timestamp, Usage};

/// What a node is called. It stays the same for as long as the node is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeId {
    /// An actor, by its number in this process.
    Actor(u64),
    /// A session without an actor.
    Session(SessionKey),
    /// A run without an actor: one that waits or has ended.
    Run(RunId),
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Actor(number) => write!(f, "{number}"),
            Self::Session(key) => write!(f, "s:{key}"),
            Self::Run(run) => write!(f, "r:{run}"),
        }
    }
}

/// The tree, or a part of it, as of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The moment.
    pub at: Timestamp,
    /// When the process began.
    pub started_at: Timestamp,
    /// The lanes.
    pub lanes: [LaneView; 2],
    /// Sums over what is shown, before it was cut off.
    pub totals: Totals,
    /// Parents before their children, siblings by name.
    pub nodes: Vec<Node>,
}

/// Sums over the nodes of a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Tokens of the sessions and of all below them, as far as they are known.
    pub spent: Spending,
    /// Live actors.
    pub actors: u64,
    /// Runs that make steps.
    pub running: u64,
    /// Runs that wait for their turn or for a place in their lane.
    pub queued: u64,
    /// Runs that wait for children.
    pub yielded: u64,
}

/// Tokens and what they cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spending {
    /// The tokens.
    pub usage: Usage,
    /// US dollars; none where a model without a price was used.
    pub cost: Option<f64>,
}

impl Default for Spending {
    fn default() -> Self {
        Self { usage: Usage::default(), cost: Some(0.0) }
    }
}

impl std::ops::AddAssign for Spending {
    fn add_assign(&mut self, other: Self) {
        self.usage += other.usage;
        self.cost = self.cost.zip(other.cost).map(|(a, b)| a + b);
    }
}

/// One actor, or a session or a run that has none now.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is called.
    pub id: NodeId,
    /// What it hangs below; none for the root.
    pub parent: Option<NodeId>,
    /// Its name among its siblings.
    pub name: Arc<str>,
    /// Names from the root, joined by `/`.
    pub path: Arc<str>,
    /// `session`, `run`, `store`, ...
    pub kind: &'static str,
    /// `starting`, `running`, `rebuilding`, `stopping`; without an actor `sleeping` or `ended`.
    pub state: &'static str,
    /// Figures of its actor.
    pub actor: Option<ActorFigures>,
    /// What the session is about.
    pub session: Option<Box<SessionNode>>,
    /// What the run is about.
    pub run: Option<Box<RunNode>>,
}

/// Figures of an actor.
#[derive(Debug, Clone, PartialEq)]
pub struct ActorFigures {
    /// When it was started.
    pub since: Timestamp,
    /// How often its state was rebuilt, or it took the place of one that failed.
    pub restarts: u32,
    /// The last failure, of itself or of its predecessor.
    pub last_failure: Option<String>,
    /// When that was mended.
    pub restarted_at: Option<Timestamp>,
    /// Messages that wait.
    pub mailbox: u32,
    /// The most that ever waited.
    pub mailbox_high: u32,
    /// Messages handled.
    pub handled: u64,
    /// Time spent in handlers.
    pub busy: Duration,
    /// The message in hand, and since when.
    pub in_hand: Option<(&'static str, Timestamp)>,
    /// When the last message was done.
    pub progress_at: Option<Timestamp>,
    /// Since when messages wait and none is taken.
    pub waits_since: Option<Timestamp>,
    /// Whether it does not answer: a message is in hand for long, or messages wait for long and none is taken.
    pub stuck: bool,
}

/// Child runs of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildCounts {
    /// Open.
    pub live: u64,
    /// Ended with a result, whole or in part.
    pub done: u64,
    /// Ended otherwise.
    pub failed: u64,
}

/// What there is to see of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionNode {
    /// Its name.
    pub key: SessionKey,
    /// Its agent.
    pub agent: AgentId,
    /// A name for people.
    pub label: Option<String>,
    /// Whether it stays.
    pub mode: Mode,
    /// 0 if nobody spawned it.
    pub depth: u32,
    /// Whether it has an actor.
    pub awake: bool,
    /// The state of its newest run, `idle` without one.
    pub status: &'static str,
    /// Runs that it spawned. The ended ones are none until they are known.
    pub children: ChildCounts,
    /// What its own runs have used, once that is known.
    pub spent: Option<Spending>,
    /// The same of all below it, with itself.
    pub subtree: Option<Spending>,
}

/// A tool call that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolNode {
    /// The tool.
    pub name: Arc<str>,
    /// What it was called with, short and without secrets.
    pub argument: Arc<str>,
    /// Since when.
    pub since: Timestamp,
}

/// What there is to see of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunNode {
    /// Its id.
    pub id: RunId,
    /// The client's name for it.
    pub wire_id: Option<String>,
    /// Its session.
    pub session: SessionKey,
    /// Why it exists.
    pub cause: &'static str,
    /// The run whose tool call spawned it.
    pub spawner: Option<RunId>,
    /// `queued`, `running`, `yielded`, `ending`, or how it has ended.
    pub state: &'static str,
    /// Why it ended so, where there is a reason.
    pub reason: Option<String>,
    /// What it is about.
    pub doing: Option<&'static str>,
    /// The lane that it waits in or has its place in.
    pub lane: Option<&'static str>,
    /// Its place among those that wait, from 1.
    pub lane_position: Option<usize>,
    /// Its session's depth.
    pub depth: u32,
    /// The model that it was accepted with.
    pub model_asked: ModelRef,
    /// The model that was called last.
    pub model: ModelRef,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it made its first step.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The last sign of life, while it is to give some.
    pub silent_since: Option<Timestamp>,
    /// Whether that is too long ago.
    pub silent: bool,
    /// The step in hand, or the last one.
    pub step: u32,
    /// Steps that it may make.
    pub max_steps: Option<u32>,
    /// Tool calls that run.
    pub tools: Vec<ToolNode>,
    /// The end of its last text.
    pub text: Option<String>,
    /// Tokens and cost so far.
    pub spent: Spending,
    /// When it is cut off, if its clock runs.
    pub deadline_at: Option<Timestamp>,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// Sums over nodes, parents before their children.
pub(super) fn totals(nodes: &[Node]) -> Totals {
    let mut totals = Totals::default();
    let mut sessions = BTreeSet::new();
    // Of a run alone, no session has what it used.
    if let Some(run) = nodes.first().and_then(|node| node.run.as_ref()) {
        totals.spent += run.spent;
    }
    for node in nodes {
        totals.actors += u64::from(node.actor.is_some());
        match node.run.as_ref().filter(|run| run.ended_at.is_none()).map(|run| run.state) {
            Some("running" | "ending") => totals.running += 1,
            Some("queued") => totals.queued += 1,
            Some("yielded") => totals.yielded += 1,
            _ => {}
        }
        if let Some(session) = &node.session {
            // What a session above shows is not counted again.
            let inside = node.parent.as_ref().is_some_and(|parent| sessions.contains(parent));
            if !inside && let Some(subtree) = session.subtree {
                totals.spent += subtree;
            }
            sessions.insert(&node.id);
        }
    }
    totals
}

impl Snapshot {
    /// What has this path, is this session, or is this run by its id or its client's name, with all below it; none if there
    /// is nothing of that name. Of runs of the same name the newest is meant.
    #[must_use]
    pub fn part(&self, place: &str) -> Option<Self> {
        let by_name = |node: &Node| {
            &*node.path == place || node.session.as_ref().is_some_and(|session| session.key.as_str() == place)
        };
        let is_run = |node: &Node| {
            let named = |run: &RunNode| run.wire_id.as_deref() == Some(place);
            node.run.as_deref().is_some_and(named) || node.name.strip_prefix("run ") == Some(place)
        };
        let newest = || {
            let runs = self.nodes.iter().enumerate().filter(|(_, node)| is_run(node));
            runs.max_by_key(|(_, node)| node.run.as_ref().map(|run| run.accepted_at)).map(|(place, _)| place)
        };
        let first = self.nodes.iter().position(by_name).or_else(newest)?;
        // All below it come right after it.
        let mut inside = BTreeSet::from([&self.nodes[first].id]);
        let below = self.nodes[first + 1..].iter().take_while(|node| {
            let is_inside = node.parent.as_ref().is_some_and(|parent| inside.contains(parent));
            is_inside && inside.insert(&node.id)
        });
        let nodes: Vec<Node> = self.nodes[first..=first].iter().chain(below).cloned().collect();
        Some(Self { totals: totals(&nodes), nodes, ..*self })
    }

    /// The same without what only the last hour has left: sleeping sessions and ended runs.
    #[must_use]
    pub fn without_recent(&self) -> Self {
        let nodes: Vec<Node> = self.nodes.iter().filter(|node| !node.is_recent()).cloned().collect();
        Self { totals: totals(&nodes), nodes, ..*self }
    }

    /// The same with nothing in it.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self { totals: Totals::default(), nodes: Vec::new(), ..*self }
    }
}

/// How two views of one node differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Not at all.
    None,
    /// In figures that change all the time.
    Figures,
    /// In what somebody who watches wants to know at once.
    State,
}

impl Node {
    /// Whether it is there only because it was a while ago.
    #[must_use]
    pub fn is_recent(&self) -> bool {
        self.state == "ended" || (self.session.is_some() && self.actor.is_none())
    }

    /// How this view differs from a later one.
    #[must_use]
    pub fn difference(&self, later: &Self) -> Difference {
        if self == later {
            return Difference::None;
        }
        let same = (&self.parent, &self.path, self.state) == (&later.parent, &later.path, later.state)
            && both(self.actor.as_ref(), later.actor.as_ref(), ActorFigures::looks_like)
            && both(self.session.as_deref(), later.session.as_deref(), SessionNode::looks_like)
            && both(self.run.as_deref(), later.run.as_deref(), RunNode::looks_like);
        if same { Difference::Figures } else { Difference::State }
    }
}

fn both<T>(one: Option<&T>, other: Option<&T>, alike: impl Fn(&T, &T) -> bool) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => alike(one, other),
        (None, None) => true,
        _ => false,
    }
}

impl ActorFigures {
    fn looks_like(&self, other: &Self) -> bool {
        let known = |of: &Self| (of.since, of.restarts, of.stuck);
        known(self) == known(other) && self.last_failure == other.last_failure
    }
}

impl SessionNode {
    fn looks_like(&self, other: &Self) -> bool {
        let known = |of: &Self| (of.mode, of.depth, of.awake, of.status, of.children);
        known(self) == known(other) && self.label == other.label
    }
}

impl RunNode {
    fn looks_like(&self, other: &Self) -> bool {
        let known = |of: &Self| (of.state, of.doing, of.lane, of.started_at, of.ended_at, of.silent, of.step);
        known(self) == known(other)
            && (&self.tools, &self.model, &self.reason, self.deadline_at)
                == (&other.tools, &other.model, &other.reason, other.deadline_at)
    }
}
