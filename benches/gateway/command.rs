//! A whole process that asks a running daemon.

use std::process::Command;
use std::time::Instant;

use super::common::report::{Row, Verdict};
use super::common::{Args, Samples};
use super::daemon::Daemon;

pub fn measure(args: &Args) -> Vec<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let daemon = runtime.block_on(Daemon::start());
    let timed = |mut command: Command| {
        let begun = Instant::now();
        assert!(command.status().unwrap().success());
        begun.elapsed()
    };
    let health = || {
        let mut command = daemon.command();
        command.args(["gateway", "call", "health"]);
        command
    };
    (0..5).for_each(|_| _ = timed(health()));
    let count = args.samples(300, 10);
    let ours: Samples = (0..count).map(|_| timed(health())).collect();
    let bare: Samples = (0..count).map(|_| timed(Command::new("true"))).collect();
    vec![
        Row::new("the whole process, `offshoot gateway call health`, p50")
            .verdict(Verdict::at_most(ours.p50() / 1e3, 10.0, "ms"))
            .samples("gateway call health", &ours)
            .samples("floor: exec of `true`", &bare),
    ]
}
