//! How fast a spawn, a run's end and a stop are, and what a session takes: each row beside its floor.
//!
//! `cargo bench` runs all; `cargo bench -- --quick` shows that they run; `cargo bench -- memory` runs the rows whose
//! name holds the word; `--json` prints one document. `docs/performance.md` says how to read it.
#![allow(
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss
)]

mod accept;
mod announce;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "each bench uses a part of it")]
mod common;
mod memory;
mod start;
mod stop;
mod watch;
mod world;

use common::Args;
use common::report::{Group, Row};
use tokio::runtime::Runtime;

/// That of the shipped binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Rows are measured from a task, as a tool call is one, not from the thread that waits for the runtime.
fn run(rows: impl Future<Output = Vec<Row>> + Send + 'static) -> Vec<Row> {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async { tokio::spawn(rows).await.unwrap() })
}

const GROUPS: &[Group] = &[
    ("spawn in memory", |args| run(async move { accept::in_memory(&args).await })),
    ("spawn durable", |args| run(async move { accept::durable(&args).await })),
    ("spawn in flight", |args| run(async move { accept::in_flight(&args).await })),
    ("announce", |args| run(async move { announce::measure(&args).await })),
    ("memory", |args| memory::measure(&args)),
    ("stop", |args| run(async move { stop::measure(&args).await })),
    ("watch snapshot", |args| run(async move { watch::snapshot(&args).await })),
    ("watch child", |args| run(async move { watch::child(&args).await })),
    ("watch message", |args| run(async move { watch::message(&args).await })),
    ("start", |args| run(async move { start::measure(&args).await })),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, kind, count] = arguments.as_slice()
        && flag == memory::CHILD
    {
        let (kind, count) = (kind.clone(), count.parse().unwrap());
        // The process is done when it has printed: what it holds need not be taken apart.
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            tokio::spawn(async move { memory::child(&kind, count).await }).await.unwrap()
        });
        std::process::exit(0);
    }
    let args = Args::read();
    common::report::run(&args, GROUPS);
}
