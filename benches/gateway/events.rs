//! One event to many subscribers, until the last has it.

use std::time::Instant;

use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, Identity, upgrade};
use super::common::report::{Row, Verdict};
use super::common::{Args, Samples};
use super::daemon::Daemon;
use super::floor::Floor;

/// Where an event's text has its name.
const NAME: std::ops::Range<usize> = 25..41;
const EVENT: &str = "sessions.changed";

pub async fn measure(args: &Args) -> Vec<Row> {
    let subscribers = args.samples(1_000, 20);
    let rounds = args.samples(200, 5);
    let daemon = Daemon::start().await;
    let mut sockets = Vec::new();
    for _ in 0..subscribers {
        let mut client = Client::connect(daemon.address, &Identity::Command).await;
        client.call("sessions.subscribe", json!({})).await;
        sockets.push(client.socket);
    }
    let mut trigger = Client::connect(daemon.address, &Identity::Command).await;
    trigger.call("sessions.create", json!({ "key": "agent:main:bench" })).await;
    let (mut heard, mut bytes) = listen(sockets, |text| text.get(NAME) == Some(EVENT));
    // Those of the new session.
    settle(&mut heard, &mut bytes).await;
    let mut ours = Samples::default();
    let before = daemon.spent();
    for round in 0..rounds {
        let patch = json!({ "key": "agent:main:bench", "label": format!("label {round}") });
        let request =
            json!({ "type": "req", "id": format!("p{round}"), "method": "sessions.patch", "params": patch });
        trigger.socket.send(Message::text(request.to_string())).await.unwrap();
        ours.push(first_to_last(&mut heard, subscribers).await);
    }
    let each = |spent: f64| spent / (rounds * subscribers) as f64;
    let spent = each(daemon.spent() - before);
    let size = bytes.recv().await.unwrap();
    drop(daemon);

    let floor = Floor::fan_out(subscribers, size);
    let mut sockets = Vec::new();
    // Whoever comes before the last is the one that triggers, and hears nothing.
    for _ in 0..subscribers - 1 {
        sockets.push(upgrade(floor.connect().await, floor.address).await);
    }
    let mut trigger = upgrade(floor.connect().await, floor.address).await;
    sockets.push(upgrade(floor.connect().await, floor.address).await);
    let (mut heard, _) = listen(sockets, |text| text.get(NAME) != Some(EVENT));
    let mut bare = Samples::default();
    let before = floor.spent();
    for _ in 0..rounds {
        trigger.send(Message::text("x")).await.unwrap();
        bare.push(first_to_last(&mut heard, subscribers).await);
    }
    let spent_by_floor = each(floor.spent() - before);
    vec![
        Row::new(format!("one event to {subscribers} subscribers, first to last, p50"))
            .verdict(Verdict::at_most(ours.p50() / bare.p50(), 1.3, "times the floor"))
            .samples("sessions.changed", &ours)
            .samples("floor: bare TCP writes", &bare)
            .value("frame", size as f64, "bytes")
            .value("processor time of the daemon for each subscriber", spent, "µs")
            .value("the same of the floor", spent_by_floor, "µs"),
    ]
}

/// A task for each subscriber that tells when an event came.
fn listen(
    sockets: Vec<WebSocketStream<TcpStream>>,
    only: fn(&str) -> bool,
) -> (mpsc::UnboundedReceiver<Instant>, mpsc::UnboundedReceiver<usize>) {
    let (told, heard) = mpsc::unbounded_channel();
    let (sizes, bytes) = mpsc::unbounded_channel();
    for mut socket in sockets {
        let (told, sizes) = (told.clone(), sizes.clone());
        tokio::spawn(async move {
            loop {
                // The daemon ends while its subscribers listen.
                let Some(Ok(message)) = socket.next().await else { return };
                if let Message::Text(text) = message
                    && only(&text)
                {
                    let _ = sizes.send(text.len());
                    if told.send(Instant::now()).is_err() {
                        return;
                    }
                }
            }
        });
    }
    (heard, bytes)
}

async fn first_to_last(heard: &mut mpsc::UnboundedReceiver<Instant>, count: usize) -> std::time::Duration {
    let first = heard.recv().await.unwrap();
    let mut last = first;
    for _ in 1..count {
        last = last.max(heard.recv().await.unwrap());
    }
    last - first
}

/// Takes what is on its way from before.
async fn settle(heard: &mut mpsc::UnboundedReceiver<Instant>, bytes: &mut mpsc::UnboundedReceiver<usize>) {
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    while heard.try_recv().is_ok() {}
    while bytes.try_recv().is_ok() {}
}
