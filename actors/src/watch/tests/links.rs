//! Snapshots against ractor's own links, while everything changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorCell, ActorStatus};

use super::super::*;
use crate::ports::{Clock, FnModels, Ids, ModelError, ModelErrorKind, ModelRequest, SeededIds, TokioClock};
use crate::run::RunMsg;
use crate::session::SessionMsg;
use crate::tree::{Tree, TreeOptions};
use crate::types::{AgentId, ModelRef, Origin, PromptRequest, SessionKey, Settings, SpawnRequest, Timestamp};

fn look(handle: &TreeHandle) -> Snapshot {
    let prices = Prices::default();
    handle.snapshot(&Look { prices: &prices, silent_after: Duration::from_secs(120) })
}

/// What ractor says: each linked actor with its parent, but for those that are on their way out.
fn links(root: &ActorCell) -> BTreeMap<u64, Option<u64>> {
    let mut found = BTreeMap::from([(root.get_id().pid(), None)]);
    let mut todo = vec![root.clone()];
    while let Some(cell) = todo.pop() {
        for child in cell.get_children() {
            if child.get_status() < ActorStatus::Stopping {
                found.insert(child.get_id().pid(), Some(cell.get_id().pid()));
                todo.push(child);
            }
        }
    }
    found
}

fn shown(snapshot: &Snapshot, handle: &TreeHandle) -> BTreeMap<u64, Option<u64>> {
    let leaves = |number: u64| {
        let actors = handle.shared().system.index.all();
        let info = actors.into_iter().find(|info| info.cell().get_id().pid() == number);
        info.is_none_or(|info| info.cell().get_status() >= ActorStatus::Stopping)
    };
    let nodes = snapshot.nodes.iter().filter_map(|node| match (&node.id, &node.parent) {
        (NodeId::Actor(number), None) => Some((*number, None)),
        (NodeId::Actor(number), Some(NodeId::Actor(parent))) if !leaves(*number) => {
            Some((*number, Some(*parent)))
        }
        _ => None,
    });
    nodes.collect()
}

fn prompt(session: SessionKey) -> PromptRequest {
    PromptRequest::new(session, "work")
}

/// A model that takes its time, and now and then fails or panics.
fn restless(ids: Arc<SeededIds>) -> impl crate::ports::Models {
    FnModels::new(move |_: ModelRequest, _| {
        let (pause, fate) = (ids.below(400), ids.below(12));
        async move {
            TokioClock::starting_at(Timestamp(0)).sleep(Duration::from_millis(pause)).await;
            match fate {
                0 => panic!("the model panicked"),
                1 => Err(ModelError::new(ModelErrorKind::Failed, "no")),
                _ => Ok(crate::ports::Answer::text("done")),
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_agrees_with_ractors_own_links_at_a_thousand_random_moments() {
    let ids = Arc::new(SeededIds::new(7));
    let clock = TokioClock::starting_at(Timestamp(1_000_000));
    let settings = Settings::with_model(AgentId::main(), ModelRef::rehearsal());
    let options = TreeOptions::in_memory(clock, SeededIds::new(3), restless(Arc::clone(&ids)), settings);
    let tree = Tree::start(options).await.unwrap();
    let handle = tree.handle();
    let root = handle.shared().system.index.all().into_iter().find(|info| info.is_first()).unwrap();
    let main: SessionKey = "agent:main:main".parse().unwrap();
    let (mut seen, mut most) = (BTreeMap::new(), 0);
    for moment in 0..1_000_u64 {
        let mut sessions = handle.live();
        sessions.retain(|session| session.depth < 3);
        let any = |below: usize| usize::try_from(ids.below(u64::try_from(below).unwrap())).unwrap();
        let chosen = (!sessions.is_empty()).then(|| sessions[any(sessions.len())].key.clone());
        let key = chosen.unwrap_or_else(|| main.clone());
        let asked = handle.clone();
        match ids.below(8) {
            0..4 => drop(tokio::spawn(async move {
                let request = SpawnRequest::new(key, "work");
                drop(asked.spawn(request, Origin::Timer).await);
            })),
            4 => drop(tokio::spawn(async move {
                drop(asked.submit(prompt(key), Origin::Timer).await);
            })),
            5 => drop(tokio::spawn(async move { drop(asked.stop(key, Origin::Timer).await) })),
            6 => {
                // Whatever it is about, it ends with a crash.
                let runs = handle.shared().system.index.handles::<RunMsg>();
                if !runs.is_empty() {
                    runs[any(runs.len())].cell().kill();
                }
            }
            _ => {
                let sessions = handle.shared().system.index.handles::<SessionMsg>();
                if sessions.len() > 4 && moment % 5 == 0 {
                    sessions[any(sessions.len())].cell().kill();
                }
            }
        }
        for _ in 0..ids.below(6) {
            tokio::task::yield_now().await;
        }
        if ids.below(3) == 0 {
            handle.shared().system.clock.sleep(Duration::from_millis(ids.below(60))).await;
        }
        let snapshot = look(&handle);
        assert_eq!(shown(&snapshot, &handle), links(root.cell()), "moment {moment}");
        let mut known = std::collections::BTreeSet::new();
        for node in &snapshot.nodes {
            assert!(node.parent.as_ref().is_none_or(|parent| known.contains(parent)), "{node:?}");
            assert!(known.insert(node.id.clone()), "{} is there twice", node.id);
            *seen.entry(node.kind).or_insert(0_u32) += 1;
        }
        most = most.max(snapshot.nodes.len());
    }
    assert!(most > 40 && seen["run"] > 1_000 && seen["session"] > 1_000, "{most} {seen:?}");
    tree.stop().await;
}
