//! What watchers of the tree cost a daemon whose runs are busy.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, Identity};
use super::common::report::{Row, Verdict};
use super::common::{Args, machine};
use super::daemon::Daemon;

const WATCHERS: usize = 20;

pub async fn measure(args: &Args) -> Vec<Row> {
    let (runs, seconds) = (args.samples(1_000, 20), args.samples(20, 2) as u64);
    let (daemon, _) = Daemon::with_lane(machine::state_dir(), runs).await;
    let mut client = Client::connect(daemon.address, &Identity::Command).await;
    // A step each second, for longer than it is looked at.
    let task = "Call: session_status {}\nWait: 1s\n".repeat(600);
    for run in 0..runs {
        let parent = format!("agent:main:bench-{}", run % 20);
        client
            .call("sessions.spawn", json!({ "key": parent, "task": task, "label": format!("{run}") }))
            .await;
    }
    // They hear of the runs too, which costs as much whether they watch the tree or not.
    let watches = Arc::new(Notify::new());
    let mut bytes = Vec::new();
    for _ in 0..WATCHERS {
        let mut watcher = Client::connect(daemon.address, &Identity::Command).await;
        let watches = Arc::clone(&watches);
        bytes.push(tokio::spawn(async move {
            let (mut bytes, mut events) = (0, 0);
            let mut begins = pin!(watches.notified());
            let mut watching = false;
            loop {
                tokio::select! {
                    () = begins.as_mut(), if !watching => {
                        watcher.call("tree.subscribe", json!({ "intervalMs": 100 })).await;
                        watching = true;
                    }
                    message = watcher.socket.next() => match message {
                        Some(Ok(Message::Text(text))) if text.contains("\"event\":\"tree\"") => {
                            bytes += text.len();
                            events += 1;
                        }
                        Some(Ok(_)) => {}
                        _ => return (bytes, events),
                    }
                }
            }
        }));
    }
    let alone = spent(&daemon, seconds).await;
    watches.notify_waiters();
    let watched = spent(&daemon, seconds).await;
    drop(daemon);
    let (mut told, mut events) = (0, 0);
    for watcher in bytes {
        let (bytes, count) = watcher.await.unwrap();
        (told, events) = (told + bytes, events + count);
    }
    vec![
        Row::new(format!("{WATCHERS} watchers at 10 updates a second over {runs} busy runs"))
            .verdict(Verdict::at_most(watched - alone, 5.0, "% of a core").by("above the floor"))
            .value("daemon with watchers", watched, "% of a core")
            .value("floor: the daemon with as many clients that watch nothing", alone, "% of a core")
            .value("events to each watcher", events as f64 / WATCHERS as f64, "")
            .value("bytes of each", told as f64 / events.max(1) as f64, "bytes"),
    ]
}

/// How much of a core the daemon takes meanwhile.
async fn spent(daemon: &Daemon, seconds: u64) -> f64 {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = daemon.spent();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    (daemon.spent() - before) / (seconds as f64 * 10_000.0)
}
