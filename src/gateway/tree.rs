//! The tree on the wire: views of it as the protocol writes them.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use offshoot_actors::types::{Mode, Timestamp, Usage};
use offshoot_actors::{
    ActorFigures, LaneView, Look, Node, RunNode, SessionNode, Snapshot, Spending, Totals, TreeHandle,
};

use super::daemon::Daemon;
use crate::protocol::error::ErrorShape;
use crate::protocol::tree as wire;

/// Numbers views.
#[derive(Debug, Default)]
pub(crate) struct Revisions(AtomicU64);

impl Revisions {
    /// The number of the next view.
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Takes a snapshot by the configuration in force.
pub(crate) fn look(daemon: &Daemon, tree: &TreeHandle) -> Snapshot {
    let config = daemon.config();
    tree.snapshot(&Look { prices: &config.prices, silent_after: config.gateway.silent_after })
}

/// What of a snapshot is wanted; none if there is nothing at that place.
pub(crate) fn part<'a>(
    snapshot: &'a Snapshot,
    place: Option<&str>,
    recent: bool,
) -> Option<Cow<'a, Snapshot>> {
    let part = match place {
        Some(place) => Cow::Owned(snapshot.part(place)?),
        None => Cow::Borrowed(snapshot),
    };
    Some(if recent { part } else { Cow::Owned(part.without_recent()) })
}

/// There is nothing of that name.
pub(crate) fn nothing_at(place: Option<&str>) -> ErrorShape {
    let place: String = place.unwrap_or_default().chars().take(200).collect();
    ErrorShape::invalid(format!(
        "there is no actor, session or run {place:?} in the tree now: name a path, a session key or a run id of it; \
         what has slept for more than an hour is in the list of sessions alone"
    ))
}

/// A snapshot as a view with a number, of at most so many nodes.
pub(crate) fn view(snapshot: &Snapshot, rev: u64, limit: usize) -> wire::Tree {
    let total = snapshot.nodes.len();
    wire::Tree {
        ts: snapshot.at.0,
        started_at: snapshot.started_at.0,
        rev,
        total,
        truncated: total > limit,
        lanes: lanes(&snapshot.lanes),
        totals: totals(&snapshot.totals),
        // A parent comes before its children, so none that is shown lacks what it hangs below.
        nodes: snapshot.nodes.iter().take(limit).map(node).collect(),
    }
}

pub(crate) fn lanes(lanes: &[LaneView]) -> Vec<wire::Lane> {
    let lane = |lane: &LaneView| wire::Lane {
        name: lane.name.to_owned(),
        active: lane.active,
        queued: lane.queued,
        limit: lane.limit,
    };
    lanes.iter().map(lane).collect()
}

pub(crate) fn totals(totals: &Totals) -> wire::Totals {
    let Totals { spent: used, actors, running, queued, yielded } = *totals;
    wire::Totals { spent: spent(used), actors, runs: wire::OpenRuns { running, queued, yielded } }
}

pub(crate) fn node(node: &Node) -> wire::Node {
    wire::Node {
        id: node.id.to_string(),
        parent: node.parent.as_ref().map(ToString::to_string),
        name: node.name.to_string(),
        path: node.path.to_string(),
        kind: node.kind.to_owned(),
        state: node.state.to_owned(),
        actor: node.actor.as_ref().map(actor),
        session: node.session.as_deref().map(session),
        run: node.run.as_deref().map(run),
    }
}

fn actor(actor: &ActorFigures) -> wire::Actor {
    wire::Actor {
        since: actor.since.0,
        restarts: actor.restarts,
        last_failure: actor.last_failure.clone(),
        restarted_at: millis(actor.restarted_at),
        mailbox: actor.mailbox,
        mailbox_high: actor.mailbox_high,
        handled: actor.handled,
        busy_ms: (actor.busy.as_secs_f64() * 1_000_000.0).round() / 1_000.0,
        in_hand: actor
            .in_hand
            .map(|(message, since)| wire::InHand { message: message.to_owned(), since: since.0 }),
        progress_at: millis(actor.progress_at),
        waits_since: millis(actor.waits_since),
        stuck: actor.stuck,
    }
}

fn session(session: &SessionNode) -> wire::Session {
    let children = session.children;
    wire::Session {
        key: session.key.to_string(),
        agent_id: session.agent.to_string(),
        label: session.label.clone(),
        mode: match session.mode {
            Mode::Run => "run",
            Mode::Session => "session",
        }
        .to_owned(),
        depth: session.depth,
        awake: session.awake,
        status: session.status.to_owned(),
        children: wire::Children { live: children.live, done: children.done, failed: children.failed },
        spent: session.spent.map(spent),
        subtree: session.subtree.map(spent),
    }
}

fn run(run: &RunNode) -> wire::Run {
    let id = run.id.to_string();
    wire::Run {
        run_id: run.wire_id.clone().unwrap_or_else(|| id.clone()),
        id,
        session_key: run.session.to_string(),
        agent_id: run.session.agent().to_string(),
        cause: run.cause.to_owned(),
        state: run.state.to_owned(),
        reason: run.reason.clone(),
        doing: run.doing.map(str::to_owned),
        lane: run.lane.map(str::to_owned),
        lane_position: run.lane_position,
        depth: run.depth,
        model_asked: run.model_asked.to_string(),
        model: run.model.to_string(),
        accepted_at: run.accepted_at.0,
        started_at: millis(run.started_at),
        ended_at: millis(run.ended_at),
        silent_since: millis(run.silent_since),
        silent: run.silent,
        step: run.step,
        max_steps: run.max_steps,
        tools: run
            .tools
            .iter()
            .map(|tool| wire::Tool {
                name: tool.name.to_string(),
                arg: tool.argument.to_string(),
                since: tool.since.0,
            })
            .collect(),
        text: run.text.clone(),
        spent: spent(run.spent),
        deadline_at: millis(run.deadline_at),
        timeout_ms: run.timeout.map(whole_millis),
    }
}

pub(crate) fn spent(spent: Spending) -> wire::Spent {
    wire::Spent { usage: tokens(spent.usage), cost_usd: spent.cost }
}

fn tokens(usage: Usage) -> wire::Tokens {
    wire::Tokens { input: usage.input, output: usage.output, cached: usage.cached }
}

fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| at.0)
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
