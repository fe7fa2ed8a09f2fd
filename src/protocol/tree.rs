//! The tree for people who watch: `tree.get`, `tree.subscribe` and the event `tree`.
//!
//! All times are milliseconds since the Unix epoch. What is unknown or not there is left out.

use serde::{Deserialize, Serialize};

/// Most nodes of one answer.
pub const MAX_NODES: usize = 10_000;

/// What of the tree is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
pub struct Wanted {
    /// The path of an actor, the key of a session, or a run by its id or its name: that one with all below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Sleeping sessions and ended runs of the last hour too, unless this is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recent: Option<bool>,
    /// Most nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// The tree as of one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tree {
    /// The moment.
    pub ts: i64,
    /// When the daemon started.
    pub started_at: i64,
    /// The number of this view: events name the one that they build on.
    pub rev: u64,
    /// Nodes that there are.
    pub total: usize,
    /// Whether some of them are left out.
    pub truncated: bool,
    /// The lanes.
    pub lanes: Vec<Lane>,
    /// Sums over all nodes.
    pub totals: Totals,
    /// Parents before their children, siblings by name.
    pub nodes: Vec<Node>,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delta {
    /// The number of this view.
    pub rev: u64,
    /// The number of the view that it builds on.
    pub base: u64,
    /// The moment.
    pub ts: i64,
    /// Nodes that there are.
    pub total: usize,
    /// Whether some of them are left out.
    pub truncated: bool,
    /// The lanes.
    pub lanes: Vec<Lane>,
    /// Sums over all nodes.
    pub totals: Totals,
    /// Nodes that are new, or not what they were: whole, parents before their children.
    pub changed: Vec<Node>,
    /// The ids of nodes that are there no more.
    pub gone: Vec<String>,
}

/// A whole view in place of what changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Full {
    /// True: everything from before is void.
    pub full: bool,
    /// The view.
    #[serde(flatten)]
    pub tree: Tree,
}

/// How busy a lane is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// `main` or `subagent`.
    pub name: String,
    /// Runs that execute.
    pub active: u32,
    /// Runs that wait for their turn.
    pub queued: usize,
    /// Runs that may execute at once.
    pub limit: u32,
}

/// Tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Of prompts, cached ones included.
    pub input: u64,
    /// Of answers.
    pub output: u64,
    /// Of prompts, from a provider's cache.
    pub cached: u64,
}

/// Tokens, and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spent {
    /// Tokens.
    pub usage: Tokens,
    /// US dollars, where the price of each model is known that used any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// Sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Tokens and their cost.
    #[serde(flatten)]
    pub spent: Spent,
    /// Live actors.
    pub actors: u64,
    /// Open runs.
    pub runs: OpenRuns,
}

/// Open runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRuns {
    /// Those that make steps.
    pub running: u64,
    /// Those that wait for their turn.
    pub queued: u64,
    /// Those that wait for children.
    pub yielded: u64,
}

/// One actor, or a session or a run without one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// The number of the actor, `s:` with a session's key, or `r:` with a run's id.
    pub id: String,
    /// What it hangs below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its name among its siblings.
    pub name: String,
    /// Names from the root, joined by `/`.
    pub path: String,
    /// `session`, `run`, `store`, ...
    pub kind: String,
    /// `starting`, `running`, `rebuilding`, `stopping`; without an actor `sleeping` or `ended`.
    pub state: String,
    /// Figures of the actor.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// What the session is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// What the run is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
}

/// Figures of an actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// When it was started.
    pub since: i64,
    /// How often it was restarted.
    pub restarts: u32,
    /// Its last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// When it was restarted last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<i64>,
    /// Messages that wait.
    pub mailbox: u32,
    /// The most that ever waited.
    pub mailbox_high: u32,
    /// Messages handled.
    pub handled: u64,
    /// Milliseconds spent in handlers.
    pub busy_ms: f64,
    /// The message in hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_hand: Option<InHand>,
    /// When the last message was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_at: Option<i64>,
    /// Since when messages wait and none is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_since: Option<i64>,
    /// Whether it does not answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stuck: bool,
}

/// A message in hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InHand {
    /// Its name.
    pub message: String,
    /// Since when.
    pub since: i64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Its name.
    pub key: String,
    /// Its agent.
    pub agent_id: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `run` or `session`.
    pub mode: String,
    /// 0 if nobody spawned it.
    pub depth: u32,
    /// Whether it has an actor.
    pub awake: bool,
    /// The state of its newest run, `idle` without one.
    pub status: String,
    /// Runs that it spawned.
    pub children: Children,
    /// What its own runs have used, once that is known.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
    /// The same with all below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtree: Option<Spent>,
}

/// Runs that a session spawned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Children {
    /// Open.
    pub live: u64,
    /// Ended with a result.
    pub done: u64,
    /// Ended without one.
    pub failed: u64,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its id.
    pub id: String,
    /// The client's name for it, else the id.
    pub run_id: String,
    /// Its session.
    pub session_key: String,
    /// Its agent.
    #[serde(default)]
    pub agent_id: String,
    /// `spawn`, `message` or `announce`.
    pub cause: String,
    /// `queued`, `running`, `yielded`, `ending`, or how it has ended.
    pub state: String,
    /// Why it ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    /// `main` or `subagent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// Its place among those that wait there, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane_position: Option<usize>,
    /// Its session's depth.
    pub depth: u32,
    /// The model that it was accepted with.
    pub model_asked: String,
    /// The model that was called last.
    pub model: String,
    /// When it was accepted.
    pub accepted_at: i64,
    /// When it made its first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<i64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    /// Its last sign of life, while it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<i64>,
    /// Whether that is too long ago.
    #[serde(default, skip_serializing_if = "is_false")]
    pub silent: bool,
    /// The step in hand, or the last one.
    pub step: u32,
    /// Steps that it may make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u32>,
    /// Tool calls that run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// The end of its last text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Tokens and their cost.
    #[serde(flatten)]
    pub spent: Spent,
    /// When it is cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<i64>,
    /// Milliseconds that it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A tool call that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// The tool.
    pub name: String,
    /// What it was called with, short and without secrets.
    pub arg: String,
    /// Since when.
    pub since: i64,
}

/// Runs for a time line (`runs.recent`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    /// The moment.
    pub ts: i64,
    /// Open ones, and those that ended a while ago: the one accepted first comes first.
    pub runs: Vec<RecentRun>,
}

/// A run of a time line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecentRun {
    /// Its id.
    pub id: String,
    /// The client's name for it, else the id.
    pub run_id: String,
    /// Its session.
    pub session_key: String,
    /// The run whose tool call spawned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_run: Option<String>,
    /// The session above its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_session: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its agent.
    pub agent_id: String,
    /// As in the tree.
    pub state: String,
    /// Why it ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The model that was called last.
    pub model: String,
    /// When it was accepted.
    pub accepted_at: i64,
    /// When it made its first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<i64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    /// Tokens and their cost.
    #[serde(flatten)]
    pub spent: Spent,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_false(value: &bool) -> bool {
    !*value
}
