//! The stop of a large tree.

use std::time::{Duration, Instant};

use futures::future::join_all;
use offshoot_actors::types::{Origin, SessionKey};

use crate::common::machine::state_dir;
use crate::common::report::{Row, Verdict};
use crate::common::{Args, median, micros};
use crate::world::{Plan, TASK, World, root, spawn};

/// Spawns that are asked for at once while a tree is built.
const AT_ONCE: usize = 256;

async fn fan_out(world: &World, parents: &[SessionKey], each: usize) -> Vec<SessionKey> {
    let mut children = Vec::with_capacity(parents.len() * each);
    let wanted: Vec<&SessionKey> =
        parents.iter().flat_map(|parent| std::iter::repeat_n(parent, each)).collect();
    for some in wanted.chunks(AT_ONCE) {
        let spawned = some.iter().map(|parent| spawn(&world.handle, parent, TASK));
        children.extend(join_all(spawned).await.into_iter().map(|accepted| accepted.session));
    }
    children
}

/// Milliseconds until the last model call was dropped, and until all was committed.
async fn stop(levels: &[usize]) -> (f64, f64) {
    let dir = state_dir();
    let world = World::durable(dir.path(), Plan { telling: false, ..Plan::default() }).await;
    let mut parents = vec![root(0)];
    let mut expected = 0;
    for each in levels {
        parents = fan_out(&world, &parents, *each).await;
        expected += parents.len();
    }
    world.wait_hanging(u64::try_from(expected).unwrap()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    let stopped = world.handle.stop(root(0), Origin::Operator).await.unwrap();
    let joined = begun.elapsed();
    assert_eq!((stopped.ended.len(), world.probe.hanging()), (expected, 0));
    let aborted = world.probe.last_drop_after(begun);
    world.tree.stop().await;
    (micros(aborted) / 1e3, micros(joined) / 1e3)
}

/// Milliseconds to abort and join as many bare tasks.
async fn floor(count: usize) -> f64 {
    let tasks: Vec<_> = (0..count).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let begun = Instant::now();
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    join_all(tasks).await;
    micros(begun.elapsed()) / 1e3
}

pub async fn measure(args: &Args) -> Vec<Row> {
    let wide = args.samples(100, 32);
    let count = wide * wide;
    let times = args.samples(3, 1);
    let mut rows = Vec::new();
    for (name, levels) in [("100 x 100", vec![wide, wide]), ("flat", vec![count])] {
        let (mut aborted, mut joined, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..times {
            bare.push(floor(count).await);
            let (first, last) = stop(&levels).await;
            aborted.push(first);
            joined.push(last);
        }
        let (aborted, joined) = (median(aborted), median(joined));
        let row = Row::new(format!("stop: a tree of {count} running children, {name}, SQLite FULL"))
            .verdict(Verdict::at_most(aborted, 100.0, "ms").by("last model call aborted"))
            .verdict(Verdict::at_most(joined, 400.0, "ms").by("all joined and committed"))
            .value("floor: as many tokio tasks aborted and joined", median(bare), "ms")
            .note(format!("levels {levels:?}; median of {times}"));
        rows.push(row);
    }
    rows
}
