use std::collections::BTreeMap;
use std::sync::Arc;

use offshoot_actors::types::{Timestamp, Usage};
use offshoot_actors::{ActorFigures, Spending, Totals};
use proptest::prelude::*;

use super::*;

const LANE: LaneView = LaneView { name: "main", active: 0, queued: 0, limit: 1 };

fn node(id: u64, state: &'static str, handled: u64) -> Node {
    let actor = ActorFigures {
        since: Timestamp(1),
        restarts: 0,
        last_failure: None,
        restarted_at: None,
        mailbox: 0,
        mailbox_high: 0,
        handled,
        busy: Duration::ZERO,
        in_hand: None,
        progress_at: None,
        waits_since: None,
        stuck: false,
    };
    let name: Arc<str> = id.to_string().into();
    Node {
        id: NodeId::Actor(id),
        parent: (id > 0).then_some(NodeId::Actor(0)),
        path: Arc::clone(&name),
        name,
        kind: "any",
        state,
        actor: Some(actor),
        session: None,
        run: None,
    }
}

fn snapshot(nodes: Vec<Node>) -> Snapshot {
    let totals = Totals {
        spent: Spending { usage: Usage::default(), cost: None },
        actors: 0,
        running: 0,
        queued: 0,
        yielded: 0,
    };
    Snapshot { at: Timestamp(5), started_at: Timestamp(1), lanes: [LANE; 2], totals, nodes }
}

const fn at(millis: u64) -> Monotonic {
    Monotonic(millis * 1_000_000)
}

#[test]
fn figures_alone_are_told_once_a_second_and_states_at_once() {
    let mut view = View::default();
    let mut look = |state, handled, millis| {
        let now = snapshot(vec![node(0, state, handled)]);
        view.update(&now, 10, at(millis)).changed.len()
    };
    assert_eq!(look("running", 1, 0), 1);
    assert_eq!(look("running", 2, 500), 0);
    assert_eq!(look("stopping", 3, 600), 1);
    assert_eq!(look("stopping", 4, 1_500), 0);
    assert_eq!(look("stopping", 4, 1_600), 1);
    assert_eq!(look("stopping", 4, 9_000), 0);
}

#[test]
fn what_is_beyond_the_limit_is_gone() {
    let mut view = View::default();
    let all = || snapshot((0..5).map(|id| node(id, "running", 0)).collect());
    assert_eq!(view.update(&all(), 5, at(0)).changed.len(), 5);
    let changes = view.update(&all(), 3, at(0));
    assert_eq!((changes.changed, changes.gone), (vec![], vec![NodeId::Actor(3), NodeId::Actor(4)]));
    assert!(view.update(&all(), 3, at(0)).is_empty());
}

/// A few nodes in a few states, some of them there.
fn trees() -> impl Strategy<Value = Vec<(u64, bool, u64)>> {
    prop::collection::btree_map(0..12_u64, (any::<bool>(), 0..3_u64), 0..12)
        .prop_map(|nodes| nodes.into_iter().map(|(id, (state, handled))| (id, state, handled)).collect())
}

proptest! {
    /// A client that does as it is told has after each step what it would be given whole; and of what it does not have as
    /// it is now it is told a second later.
    #[test]
    fn what_is_told_adds_up_to_the_view(steps in prop::collection::vec((trees(), 0..1_500_u64), 1..20)) {
        let (mut view, mut client, mut now) = (View::default(), BTreeMap::new(), 0);
        for (nodes, pause) in steps {
            now += pause;
            let state = |stops| if stops { "stopping" } else { "running" };
            let nodes = nodes.into_iter().map(|(id, stops, handled)| node(id, state(stops), handled)).collect();
            let snapshot = snapshot(nodes);
            for now in [now, now + 1_000] {
                let changes = view.update(&snapshot, 100, at(now));
                for id in changes.gone {
                    prop_assert!(client.remove(&id).is_some());
                }
                for place in changes.changed {
                    let node = &snapshot.nodes[place];
                    client.insert(node.id.clone(), node.clone());
                }
                let whole: BTreeMap<_, _> = view.nodes().map(|node| (node.id.clone(), node.clone())).collect();
                prop_assert_eq!(&client, &whole);
            }
            let shown: Vec<&Node> = view.nodes().collect();
            prop_assert_eq!(shown, snapshot.nodes.iter().collect::<Vec<_>>());
            now += 1_000;
        }
    }
}
