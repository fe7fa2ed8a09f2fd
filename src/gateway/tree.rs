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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use offshoot_actors::NodeId;
    use offshoot_actors::ports::{Answer, Clock, FnModels, Ids, ModelRequest, SeededIds, TokioClock};
    use offshoot_actors::types::{
        AgentId, ModelRef, Origin, PromptRequest, SessionKey, Settings, SpawnRequest,
    };
    use offshoot_actors::{Tree, TreeOptions};
    use serde_json::{Value, json};

    use super::*;

    fn name(id: &NodeId) -> String {
        match id {
            NodeId::Actor(number) => number.to_string(),
            NodeId::Session(key) => format!("s:{}", key.as_str()),
            NodeId::Run(run) => format!("r:{run}"),
        }
    }

    /// What a client is to read of each node that the kit has, in this order.
    fn seen(snapshot: &Snapshot) -> Vec<Value> {
        let of = |node: &Node| {
            let session = node.session.as_ref().map(|session| session.key.as_str());
            let run = node.run.as_ref().map(|run| (run.id.to_string(), run.session.as_str()));
            let parent = node.parent.as_ref().map(name);
            json!([name(&node.id), parent, node.kind, *node.name, *node.path, node.state, session, run])
        };
        snapshot.nodes.iter().map(of).collect()
    }

    fn written(view: &wire::Tree) -> Vec<Value> {
        let of = |node: &Value| {
            let run = node.get("run").map(|run| json!([run["id"], run["sessionKey"]]));
            let (id, parent, session) = (&node["id"], &node["parent"], &node["session"]["key"]);
            json!([id, parent, node["kind"], node["name"], node["path"], node["state"], session, run])
        };
        serde_json::to_value(view).unwrap()["nodes"].as_array().unwrap().iter().map(of).collect()
    }

    fn time() -> TokioClock {
        TokioClock::starting_at(Timestamp(1_000_000))
    }

    /// With the test of the kit, by which its snapshot agrees with ractor's own links, this is what a client can trust.
    #[tokio::test(start_paused = true)]
    async fn a_view_has_the_nodes_and_links_of_its_snapshot_at_random_moments() {
        let ids = Arc::new(SeededIds::new(11));
        let chance = Arc::clone(&ids);
        let model = FnModels::new(move |_: ModelRequest, _| {
            let pause = chance.below(400);
            async move {
                time().sleep(Duration::from_millis(pause)).await;
                Ok(Answer::text("done"))
            }
        });
        let settings = Settings::with_model(AgentId::main(), ModelRef::rehearsal());
        let options = TreeOptions::in_memory(time(), SeededIds::new(3), model, settings);
        let tree = Tree::start(options).await.unwrap();
        let handle = tree.handle();
        let main: SessionKey = "agent:main:main".parse().unwrap();
        let prices = offshoot_actors::policy::cost::Prices::default();
        let (mut ids_seen, mut most) = (BTreeSet::new(), 0);
        for moment in 0..300_u64 {
            let mut live = handle.live();
            live.retain(|session| session.depth < 3);
            let any = usize::try_from(ids.below(live.len().max(1) as u64)).unwrap();
            let key = live.get(any).map_or_else(|| main.clone(), |session| session.key.clone());
            let asked = handle.clone();
            match ids.below(8) {
                0..5 => drop(tokio::spawn(async move {
                    drop(asked.spawn(SpawnRequest::new(key, "work"), Origin::Timer).await);
                })),
                5 | 6 => drop(tokio::spawn(async move {
                    let request = PromptRequest::new(key, "work");
                    drop(asked.submit(request, Origin::Timer).await);
                })),
                _ => drop(tokio::spawn(async move { drop(asked.stop(key, Origin::Timer).await) })),
            }
            time().sleep(Duration::from_millis(ids.below(60))).await;
            let snapshot = handle.snapshot(&Look { prices: &prices, silent_after: Duration::from_secs(120) });
            let seen = seen(&snapshot);
            let whole = view(&snapshot, moment, wire::MAX_NODES);
            assert_eq!(written(&whole), seen, "moment {moment}");
            assert_eq!((whole.rev, whole.total, whole.truncated), (moment, seen.len(), false));
            let limit = seen.len() / 2;
            let half = view(&snapshot, moment, limit);
            assert_eq!((&*written(&half), half.truncated), (&seen[..limit], true));
            ids_seen.extend(
                snapshot
                    .nodes
                    .iter()
                    .map(|node| std::mem::discriminant(&node.id))
                    .map(|of| format!("{of:?}")),
            );
            most = most.max(seen.len());
        }
        assert!(ids_seen.len() == 3 && most > 40, "{ids_seen:?} {most}");
        tree.stop().await;
    }
}
