//! What a flood does to the gateway's other clients and to its memory: the shipped program, flooded from outside.
//!
//! `cargo bench --bench floods` runs all; `-- --quick` shows that they run; `-- slow` runs the rows whose name holds the
//! word; `--json` prints one document.
#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss
)]

mod client;
#[path = "../common/mod.rs"]
mod common;
mod daemon;
mod flood;
mod watch;

use common::Args;
use common::report::{Row, Verdict};
use daemon::Daemon;
use flood::Flood;
use watch::Watched;

/// What the daemon may have in RAM when it idles, and what a connection may take.
const IDLE: f64 = 15.0;
/// Round trips of another client, in milliseconds.
const HEALTH: f64 = 10.0;

/// A group of rows: its name, the memory that it may take beside an idle daemon's, in MiB, at its highest and afterwards,
/// and the flood.
const FLOODS: &[(&str, [f64; 2], Flood)] = &[
    // Those that are there at the same time, at 20 KiB each, and the buffers of their handshakes.
    ("connects: 2,000 a second", [40.0, 20.0], Flood::Connects { each_second: 2_000, seconds: 10 }),
    // What waits is shared: 50 MiB. Each has two copies of the message that is being written. The session has what was said,
    // also afterwards, and the store's writer 32 MiB of its pages.
    (
        "slow: 200 clients that read nothing",
        [96.0 + 50.0 + 100.0, 96.0 + 32.0 + 16.0],
        Flood::Slow { clients: 200, mebibytes: 96 },
    ),
    (
        "garbage: 20 times 64 MiB before the handshake",
        [8.0, 4.0],
        Flood::Garbage { times: 20, mebibytes: 64 },
    ),
    // 20 KiB each, and the 16 KiB that its frame claims.
    ("vanishing: 2,000 clients in the middle of a frame", [70.0, 35.0], Flood::Vanishing { clients: 2_000 }),
];

fn main() {
    let args = Args::read();
    common::machine::raise_open_files();
    let machine = common::machine::describe(args.quick);
    if !args.json {
        machine.iter().for_each(|(name, value)| println!("{name:<20} {value}"));
    }
    let mut rows = Vec::new();
    for (name, room, flood) in FLOODS.iter().filter(|(name, ..)| args.wants(name)) {
        let flood = if args.quick { flood.quick() } else { *flood };
        let row = measure(name, *room, flood);
        if !args.json {
            row.print();
        }
        rows.push(row.json());
    }
    if args.json {
        let machine: serde_json::Map<_, _> =
            machine.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        println!("{:#}", serde_json::json!({ "machine": machine, "rows": rows }));
    }
}

/// A daemon of its own for each flood.
fn measure(name: &str, [highest, afterwards]: [f64; 2], flood: Flood) -> Row {
    let daemon = Daemon::start();
    let watched = Watched::of(&daemon);
    let quiet = watched.health(watch::QUIET);
    let before = daemon.resident();
    watched.begin();
    let notes = flood.run(&daemon);
    let during = watched.end();
    let peak = daemon.peak();
    watched.health(watch::SETTLING);
    let after = daemon.resident();
    let p99 = during.percentile(99) / 1_000.0;
    let mut row = Row::new(name)
        .verdict(Verdict::at_most(p99, HEALTH, "ms").by("health of another client, p99, meanwhile"))
        .verdict(Verdict::at_most(peak, IDLE + highest, "MiB").by("resident at its highest"))
        .verdict(Verdict::at_most(after, IDLE + afterwards, "MiB").by("resident afterwards"))
        .samples("health while nothing else happens", &quiet)
        .samples("health meanwhile", &during)
        .value("resident before", before, "MiB")
        .value("resident at its highest", peak, "MiB")
        .value("resident 15 s afterwards", after, "MiB");
    for note in notes {
        row = row.note(note);
    }
    daemon.stop();
    row
}
