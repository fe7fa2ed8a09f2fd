//! `tree.*` and `runs.recent`: what there is now and was a while ago, for people who watch.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use offshoot_actors::types::{RunId, SessionKey, Timestamp};
use offshoot_actors::{Node, RunNode, SHOWN_FOR, Snapshot};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Answer, Call, Method, READ, answer, later, now};
use crate::gateway::tree;
use crate::gateway::watcher::WatcherMsg;
use crate::gateway::watching::{Newcomer, Topic};
use crate::protocol::error::ErrorShape;
use crate::protocol::tree::{MAX_NODES, Recent, RecentRun, Wanted};

pub(super) const METHODS: &[Method] = &[
    later("tree.get", READ, get),
    later("tree.subscribe", READ, subscribe),
    now("tree.unsubscribe", READ, unsubscribe),
    later("runs.recent", READ, recent),
];

/// Milliseconds between two events of one watcher.
const INTERVAL_MS: RangeInclusive<u64> = 100..=10_000;
const USUAL_INTERVAL_MS: u64 = 500;

/// Runs of one answer.
const MAX_RUNS: usize = 10_000;
const USUAL_RUNS: usize = 2_000;

/// The place that is wanted; none for the whole tree.
fn place(wanted: &Wanted) -> Option<String> {
    let path = wanted.path.as_deref()?.trim();
    (!path.is_empty()).then(|| path.to_owned())
}

fn get(mut call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let wanted: Wanted = call.params()?;
        let limit = call.within("limit", wanted.limit, 1..=MAX_NODES)?.unwrap_or(MAX_NODES);
        call.forget_params();
        // Ten thousand nodes take some milliseconds, which no connection should wait for.
        let look = tokio::task::spawn_blocking(move || {
            let place = place(&wanted);
            let snapshot = tree::look(&call.daemon, call.daemon.tree()?);
            let part = tree::part(&snapshot, place.as_deref(), wanted.recent.unwrap_or(true));
            let part = part.ok_or_else(|| tree::nothing_at(place.as_deref()))?;
            answer(&tree::view(&part, call.daemon.revisions.next(), limit))
        });
        look.await.unwrap_or_else(|error| Err(ErrorShape::unavailable(error.to_string())))
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct WantedOften {
    #[serde(flatten)]
    wanted: Wanted,
    interval_ms: Option<u64>,
}

fn subscribe(mut call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let WantedOften { wanted, interval_ms } = call.params()?;
        let limit = call.within("limit", wanted.limit, 1..=MAX_NODES)?.unwrap_or(MAX_NODES);
        let interval = call.within("intervalMs", interval_ms, INTERVAL_MS)?.unwrap_or(USUAL_INTERVAL_MS);
        call.forget_params();
        let (path, recent) = (place(&wanted), wanted.recent.unwrap_or(true));
        let topic = Topic { path, recent, limit, interval: Duration::from_millis(interval) };
        let (reply, answer) = oneshot::channel();
        let request = call.id.clone();
        let newcomer = Newcomer { client: Arc::clone(&call.client), topic, request, reply };
        call.daemon.tell_watcher(WatcherMsg::Subscribe(Box::new(newcomer)));
        let gone = || Err(ErrorShape::unavailable("the tree cannot be shown now, try again"));
        answer.await.unwrap_or_else(|_| gone())
    })
}

fn unsubscribe(call: &Call) -> Answer {
    *call.client.follows.tree() = None;
    answer(&json!({ "subscribed": false }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct Since {
    since_ms: Option<u64>,
    limit: Option<usize>,
}

fn recent(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let Since { since_ms, limit } = call.params()?;
        let limit = call.within("limit", limit, 1..=MAX_RUNS)?.unwrap_or(USUAL_RUNS);
        let look = tokio::task::spawn_blocking(move || {
            let now = call.now();
            let usual = i64::try_from(SHOWN_FOR.as_millis()).unwrap_or(i64::MAX);
            let back = since_ms.map_or(usual, |back| i64::try_from(back).unwrap_or(i64::MAX));
            let since = Timestamp(now.0.saturating_sub(back));
            let handle = call.daemon.tree()?;
            let mut runs = open_runs(&tree::look(&call.daemon, handle));
            let open: BTreeSet<String> = runs.iter().map(|run| run.id.clone()).collect();
            let ended = handle.ended_since(since, &call.daemon.config().prices);
            for (run, facts) in ended.into_iter().filter(|(run, _)| !open.contains(&run.id.to_string())) {
                let (label, parent) =
                    facts.map(|facts| (facts.label.clone(), facts.parent.clone())).unwrap_or_default();
                runs.push(recent_run(&run, label, parent));
            }
            runs.sort_by(|a, b| (a.accepted_at, &a.id).cmp(&(b.accepted_at, &b.id)));
            // The newest ones, where there are too many.
            runs.drain(..runs.len().saturating_sub(limit));
            answer(&Recent { ts: now.0, runs })
        });
        look.await.unwrap_or_else(|error| Err(ErrorShape::unavailable(error.to_string())))
    })
}

/// The open runs of a snapshot, each below the node of its session.
fn open_runs(snapshot: &Snapshot) -> Vec<RecentRun> {
    let sessions: BTreeMap<_, _> =
        snapshot.nodes.iter().filter(|node| node.session.is_some()).map(|node| (&node.id, node)).collect();
    let session_above = |node: &Node| node.parent.as_ref().and_then(|parent| sessions.get(parent).copied());
    let open = snapshot.nodes.iter().filter(|node| node.state != "ended");
    let runs = open.filter_map(|node| Some((node.run.as_deref()?, session_above(node))));
    let shown = |(run, node): (_, Option<&Node>)| {
        let session = node.and_then(|node| node.session.as_ref());
        let above = node.and_then(session_above).and_then(|node| node.session.as_ref());
        recent_run(
            run,
            session.and_then(|session| session.label.clone()),
            above.map(|session| session.key.clone()),
        )
    };
    runs.map(shown).collect()
}

fn recent_run(run: &RunNode, label: Option<String>, parent: Option<SessionKey>) -> RecentRun {
    let id = run.id.to_string();
    RecentRun {
        run_id: run.wire_id.clone().unwrap_or_else(|| id.clone()),
        id,
        session_key: run.session.to_string(),
        parent_run: run.spawner.as_ref().map(RunId::to_string),
        parent_session: parent.as_ref().map(SessionKey::to_string),
        label,
        agent_id: run.session.agent().to_string(),
        state: run.state.to_owned(),
        reason: run.reason.clone(),
        model: run.model.to_string(),
        accepted_at: run.accepted_at.0,
        started_at: run.started_at.map(|at| at.0),
        ended_at: run.ended_at.map(|at| at.0),
        spent: tree::spent(run.spent),
    }
}
