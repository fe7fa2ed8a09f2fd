//! Spawn to accepted, and accepted to the first model request.

use std::sync::Arc;
use std::time::Instant;

use offshoot_actors::types::SessionKey;

use crate::common::floor::{BareWriter, Rows};
use crate::common::machine::state_dir;
use crate::common::report::{Row, Verdict};
use crate::common::{Args, Samples, median, micros, timed};
use crate::world::{Plan, TASK, World, open, root, spawn};

/// Spawns that one session makes before the next one has its turn, so that no session gets very wide.
const PER_PARENT: usize = 50;

/// A task of tokio's that answers over a oneshot.
async fn task_and_oneshot() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    tokio::spawn(async move { sender.send(()) });
    receiver.await.unwrap();
}

/// One spawn, and how long it took to be accepted; then, after its first model request, how long that took.
async fn one(world: &mut World, parent: &SessionKey, to_accepted: &mut Samples, to_call: &mut Samples) {
    let (accepted, taken) = timed(world.spawn(parent, TASK)).await;
    to_accepted.push(taken);
    let (accepted, called) = world.first_call(accepted.run).await;
    to_call.push(called.saturating_duration_since(accepted));
}

fn to_call_row(store: &str, to_call: &Samples, task: &Samples) -> Row {
    Row::new(format!("first model request: accepted to the child's first model request, {store}"))
        .verdict(Verdict::at_most(to_call.p50(), 100.0, "µs"))
        .samples("accepted to first model request", to_call)
        .samples("floor: tokio task and oneshot", task)
}

pub async fn in_memory(args: &Args) -> Vec<Row> {
    let mut world = World::in_memory(Plan::default()).await;
    let (mut accepted, mut to_call, mut task): (Samples, Samples, Samples) = Default::default();
    let warm_up = args.samples(500, 50);
    for sample in 0..warm_up + args.samples(5_000, 500) {
        if sample == warm_up {
            (accepted, to_call, task) = Default::default();
        }
        task.push(timed(task_and_oneshot()).await.1);
        one(&mut world, &root(sample / PER_PARENT), &mut accepted, &mut to_call).await;
    }
    world.tree.stop().await;
    vec![
        Row::new("spawn in memory: spawn to accepted, in-memory store")
            .verdict(Verdict::at_most(accepted.p50(), 30.0, "µs"))
            .samples("spawn to accepted", &accepted)
            .samples("floor: tokio task and oneshot", &task),
        to_call_row("in-memory store", &to_call, &task),
    ]
}

/// The rows of a spawn as the store writes them.
pub async fn rows() -> Rows {
    let dir = state_dir();
    let storage = open(dir.path());
    let world = World::start(Arc::clone(&storage) as _, Plan::default()).await;
    world.spawn(&root(0), TASK).await;
    world.tree.stop().await;
    storage.close();
    Rows::of_last_spawn(dir.path())
}

fn set_up(pragmas: &[(&'static str, String)]) -> String {
    let pragmas: Vec<String> = pragmas.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pragmas.join(" ")
}

pub async fn durable(args: &Args) -> Vec<Row> {
    let (dir, bare_dir) = (state_dir(), state_dir());
    let storage = open(dir.path());
    let pragmas = storage.pragmas();
    let mut world = World::start(storage, Plan::default()).await;
    let bare = BareWriter::start(bare_dir.path(), rows().await);
    let (mut accepted, mut to_call, mut floor, mut task): (Samples, Samples, Samples, Samples) =
        Default::default();
    let warm_up = args.samples(100, 20);
    for sample in 0..warm_up + args.samples(1_500, 150) {
        if sample == warm_up {
            (accepted, to_call, floor, task) = Default::default();
        }
        task.push(timed(task_and_oneshot()).await.1);
        floor.push(timed(bare.commit()).await.1);
        one(&mut world, &root(sample / PER_PARENT), &mut accepted, &mut to_call).await;
    }
    world.tree.stop().await;
    vec![
        Row::new("spawn durable: spawn to accepted, SQLite FULL, one at a time")
            .verdict(
                Verdict::at_most(accepted.p50() - floor.p50(), 40.0, "µs").by("p50 less the floor's p50"),
            )
            .samples("spawn to accepted", &accepted)
            .samples("floor: bare writer thread and oneshot", &floor)
            .note(format!("store: {}", set_up(&pragmas)))
            .note(format!("floor: {}", set_up(&bare.pragmas))),
        to_call_row("SQLite FULL", &to_call, &task),
    ]
}

/// Requests that wait for their commit at once.
const IN_FLIGHT: usize = 256;

/// `count` operations, 256 at a time; how many a second.
async fn rate<F, R>(count: usize, work: F) -> f64
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send,
{
    let work = Arc::new(work);
    let begun = Instant::now();
    let workers = (0..IN_FLIGHT).map(|_| {
        let work = Arc::clone(&work);
        tokio::spawn(async move {
            for _ in 0..count / IN_FLIGHT {
                work().await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    ((count / IN_FLIGHT) * IN_FLIGHT) as f64 / (micros(begun.elapsed()) / 1e6)
}

pub async fn in_flight(args: &Args) -> Vec<Row> {
    let count = args.samples(25_600, 5_120);
    let rows = rows().await;
    let (mut spawned, mut bare_rates) = (Vec::new(), Vec::new());
    for _ in 0..args.samples(3, 1) {
        let dir = state_dir();
        let bare = Arc::new(BareWriter::start(dir.path(), rows.clone()));
        let rate_of_bare = rate(count, move || {
            let bare = Arc::clone(&bare);
            async move { bare.commit().await }
        });
        bare_rates.push(rate_of_bare.await);

        let dir = state_dir();
        // One run has the only place in the lane and never ends, so that no other begins.
        let world = World::durable(dir.path(), Plan { lane: 1, telling: false }).await;
        world.spawn(&root(0), TASK).await;
        world.wait_hanging(1).await;
        let handle = world.handle.clone();
        let rate_of_spawns = rate(count, move || {
            let handle = handle.clone();
            async move { drop(spawn(&handle, &root(0), TASK).await) }
        });
        spawned.push(rate_of_spawns.await);
        world.tree.stop().await;
    }
    let (rate, floor) = (median(spawned), median(bare_rates));
    vec![
        Row::new("spawn in flight: durable spawns of one session, 256 in flight, SQLite FULL")
            .verdict(Verdict::at_least(rate, 20_000.0, "spawns/s"))
            .value("spawns accepted", rate, "/s")
            .value("floor: bare writer with group commit", floor, "/s")
            .note(format!("{count} spawns whose runs wait in the lane; median of {}", args.samples(3, 1))),
    ]
}
