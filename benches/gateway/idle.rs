//! What a connection takes that says nothing.

use std::time::Duration;

use super::client::{Client, Identity};
use super::common::Args;
use super::common::report::{Row, Verdict};
use super::daemon::Daemon;

/// After it a daemon has given back what the connects took for a moment.
const SETTLED: Duration = Duration::from_secs(3);

pub async fn measure(args: &Args) -> Vec<Row> {
    let daemon = Daemon::start().await;
    let count = args.samples(10_000, 200);
    // What the first connections bring is not theirs.
    for _ in 0..100 {
        Client::connect(daemon.address, &Identity::Command).await;
    }
    tokio::time::sleep(SETTLED).await;
    let before = daemon.resident();
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(Client::connect(daemon.address, &Identity::Command).await);
    }
    tokio::time::sleep(SETTLED).await;
    let after = daemon.resident();
    let mut kept = clients.swap_remove(0);
    kept.call("health", serde_json::json!({})).await;
    drop(clients);
    tokio::time::sleep(SETTLED).await;
    let each = after.saturating_sub(before) as f64 / count as f64 / 1024.0;
    vec![
        Row::new(format!("{count} idle authenticated connections, each"))
            .verdict(Verdict::at_most(each, 20.0, "KiB"))
            .value("resident before", before as f64 / 1_048_576.0, "MiB")
            .value("resident with them", after as f64 / 1_048_576.0, "MiB")
            .value("resident after them", daemon.resident() as f64 / 1_048_576.0, "MiB"),
    ]
}
