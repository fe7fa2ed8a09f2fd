//! What the daemon's door costs, with the shipped binary as a process of its own: start, connect, a round trip, an idle
//! connection, an event to many. Each row beside its floor.
//!
//! `cargo bench --bench gateway` runs all; `-- --quick`, `-- --json` and words are those of the other benches.
#![allow(
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss
)]

mod client;
mod command;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "each bench uses a part of it")]
mod common;
mod connect;
mod daemon;
mod events;
mod floor;
mod health;
mod idle;
mod recovery;
mod start;
mod watch;

use common::Args;
use common::report::{Group, Row};

const GROUPS: &[Group] = &[
    ("start", |args| run(async move { start::measure(&args).await })),
    ("connect", |args| run(async move { connect::measure(&args).await })),
    ("health", |args| run(async move { health::measure(&args).await })),
    ("spawns", |args| run(async move { health::beside_spawns(&args).await })),
    ("idle", |args| run(async move { idle::measure(&args).await })),
    ("event", |args| run(async move { events::measure(&args).await })),
    ("recovery", |args| run(async move { recovery::measure(&args).await })),
    ("watch", |args| run(async move { watch::measure(&args).await })),
    ("command", |args| command::measure(&args)),
];

/// One thread is the client's: the other core is the daemon's.
fn run(rows: impl Future<Output = Vec<Row>>) -> Vec<Row> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(rows)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|flag| flag == floor::CHILD) {
        return floor::child(&arguments[1..]);
    }
    common::machine::raise_open_files();
    let args = Args::read();
    common::report::run(&args, GROUPS);
}
