//! From the end of a child to the parent's next model request.

use std::time::Duration;

use offshoot_actors::types::RunId;

use crate::accept::rows;
use crate::common::floor::BareWriter;
use crate::common::machine::state_dir;
use crate::common::report::{Row, Verdict};
use crate::common::{Args, Samples, timed};
use crate::world::{Plan, Seen, World, root};

/// Results that one session gets before the next one has its turn, so that no transcript gets long.
const PER_PARENT: usize = 10;

/// The child's model answers; the next request with results is its parent's.
async fn one(world: &mut World) -> Duration {
    let answered = world.open_gate().await;
    let called = world.next(|seen| match seen {
        Seen::Called { at, results: true, .. } => Some(at),
        _ => None,
    });
    called.await.duration_since(answered)
}

async fn until_called(world: &mut World, run: RunId) {
    world.next(|seen| matches!(seen, Seen::Called { run: seen, .. } if seen == run).then_some(())).await;
}

/// The parent has no run: the result starts one.
async fn idle(world: &mut World, sample: usize) -> Duration {
    let child = world.spawn(&root(sample / PER_PARENT), "gate").await;
    until_called(world, child.run).await;
    let taken = one(world).await;
    world.handle.quiet(&root(sample / PER_PARENT)).await.unwrap();
    taken
}

/// The parent's run has called `sessions_yield`.
async fn yielded(world: &mut World, sample: usize) -> Duration {
    let key = root(1_000_000 + sample / PER_PARENT);
    let run = world.submit(&key, "spawn and wait").await;
    let live = |session: &offshoot_actors::LiveSession| {
        session.run.as_ref().is_some_and(|of| of.id == run && of.state == "yielded")
    };
    while !world.handle.live().iter().any(live) {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let taken = one(world).await;
    world.handle.outcome(run).await.unwrap();
    world.handle.quiet(&key).await.unwrap();
    taken
}

pub async fn measure(args: &Args) -> Vec<Row> {
    let (dir, bare_dir) = (state_dir(), state_dir());
    let mut settings = crate::world::settings(1_000_000);
    // Sessions that are done leave at once, so that looking for the one that waits stays cheap.
    settings.sleep_after = Duration::from_millis(200);
    let mut world = World::with(crate::world::open(dir.path()), Plan::default(), settings).await;
    let bare = BareWriter::start(bare_dir.path(), rows().await);
    let (mut of_idle, mut of_yielded, mut floor): (Samples, Samples, Samples) = Default::default();
    let warm_up = args.samples(30, 10);
    for sample in 0..warm_up + args.samples(500, 60) {
        if sample == warm_up {
            (of_idle, of_yielded, floor) = Default::default();
        }
        floor.push(timed(bare.commit()).await.1);
        of_idle.push(idle(&mut world, sample).await);
        floor.push(timed(bare.commit()).await.1);
        of_yielded.push(yielded(&mut world, sample).await);
    }
    world.tree.stop().await;
    let row = |name: &str, samples: &Samples| {
        let over = samples.p50() - 2.0 * floor.p50();
        Row::new(format!(
            "announce: child's end to the parent's next model request, parent {name}, SQLite FULL"
        ))
        .verdict(Verdict::at_most(over, 80.0, "µs").by("p50 less twice the floor's p50"))
        .samples("child's answer to parent's request", samples)
        .samples("floor: one bare commit", &floor)
    };
    vec![row("idle", &of_idle), row("yielded", &of_yielded)]
}
