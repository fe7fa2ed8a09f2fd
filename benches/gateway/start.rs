//! From the start of the process until a client is in, and what an idle daemon takes.

use std::time::{Duration, Instant};

use super::client::upgrade;
use super::common::report::{Row, Verdict};
use super::common::{Args, Samples, machine, median};
use super::daemon::Daemon;
use super::floor::Floor;

/// After it a daemon has done what it does at its start.
const SETTLED: Duration = Duration::from_secs(3);

pub async fn measure(args: &Args) -> Vec<Row> {
    let times = args.samples(40, 3);
    let (mut fresh, mut again, mut floor) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..times {
        let (daemon, took) = Daemon::timed(machine::state_dir()).await;
        fresh.push(took);
        let (_daemon, took) = Daemon::timed(daemon.stop()).await;
        again.push(took);
        let begun = Instant::now();
        let bare = Floor::echo(1, 1);
        upgrade(bare.connect().await, bare.address).await;
        floor.push(begun.elapsed());
    }
    let (mut unseen, mut seen) = (Vec::new(), Vec::new());
    for _ in 0..args.samples(5, 1) {
        for (daemon, resident) in [(Daemon::unseen().await, &mut unseen), (Daemon::start().await, &mut seen)]
        {
            tokio::time::sleep(SETTLED).await;
            resident.push(daemon.resident() as f64 / 1_048_576.0);
        }
    }
    let start = Row::new("daemon start to hello-ok")
        .verdict(Verdict::at_most(again.p50() / 1e3, 30.0, "ms").by("state directory of before"))
        .samples("state directory of before", &again)
        .samples("new state directory", &fresh)
        .samples("floor: a process with tokio and tungstenite", &floor);
    let idle = Row::new("idle daemon, resident")
        .verdict(Verdict::at_most(median(unseen), 15.0, "MiB"))
        .verdict(Verdict::at_most(median(seen), 15.0, "MiB").by("after the first client has come and gone"));
    vec![start, idle]
}
