//! The round trip of a request that is answered from memory: alone, in a pipeline, and beside a thousand spawns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, Identity, answer, is_event, text, upgrade};
use super::common::report::{Row, Verdict};
use super::common::{Args, Samples, median};
use super::daemon::Daemon;
use super::floor::Floor;

const REQUEST: &str = r#"{"type":"req","id":"00000000-0000-4000-8000-000000000000","method":"health"}"#;
/// Clients that spawn, and spawns that each has in flight.
const SPAWNERS: usize = 20;
const IN_FLIGHT: usize = 50;
/// From one request of the client beside them to the next.
const PACE: Duration = Duration::from_millis(5);

pub async fn measure(args: &Args) -> Vec<Row> {
    let daemon = Daemon::start().await;
    let mut client = Client::connect(daemon.address, &Identity::Command).await.socket;
    client.send(Message::text(REQUEST)).await.unwrap();
    let length = answer(&mut client).await.len();
    let echo = Floor::echo(1, length);
    let mut bare = upgrade(echo.connect().await, echo.address).await;
    text(&mut bare).await;

    let count = args.samples(20_000, 200);
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    for round in 0..count + count / 10 {
        let one = round_trip(&mut client).await;
        let other = round_trip(&mut bare).await;
        if round >= count / 10 {
            ours.push(one);
            floor.push(other);
        }
    }
    let single = Row::new("health, round trip, p50")
        .verdict(Verdict::at_most(ours.p50(), floor.p50() + 30.0, "µs").by("the floor and 30 µs"))
        .samples("health", &ours)
        .samples("floor: bare tungstenite echo", &floor)
        .value("answer", length as f64, "bytes");

    let count = args.samples(200_000, 1_000);
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    let rounds = args.samples(7, 1);
    let (before, before_echo) = (daemon.spent(), echo.spent());
    for _ in 0..rounds {
        ours.push(pipelined(&mut client, count).await);
        floor.push(pipelined(&mut bare, count).await);
    }
    let each = |spent: f64| spent / (rounds * count) as f64;
    let (spent, spent_by_echo) = (each(daemon.spent() - before), each(echo.spent() - before_echo));
    let (ours, floor) = (median(ours), median(floor));
    let pipeline = Row::new("health, pipelined on one connection")
        .verdict(Verdict::at_least(ours / floor * 100.0, 80.0, "%").by("of the floor's rate"))
        .value("health", ours, "a second")
        .value("floor: bare tungstenite echo", floor, "a second")
        .value("processor time of the daemon for each", spent, "µs")
        .value("the same of the floor", spent_by_echo, "µs");
    vec![single, pipeline]
}

async fn round_trip(socket: &mut WebSocketStream<TcpStream>) -> Duration {
    let begun = Instant::now();
    socket.send(Message::text(REQUEST)).await.unwrap();
    answer(socket).await;
    begun.elapsed()
}

/// Requests a second, when the next ones do not wait for the answers.
async fn pipelined(socket: &mut WebSocketStream<TcpStream>, count: usize) -> f64 {
    let (mut write, mut read) = socket.split();
    let begun = Instant::now();
    let sent = async {
        for at in 1..=count {
            write.feed(Message::text(REQUEST)).await.unwrap();
            if at % 64 == 0 || at == count {
                write.flush().await.unwrap();
            }
        }
    };
    let answered = async {
        let mut answers = 0;
        while answers < count {
            match read.next().await.expect("the connection is open").unwrap() {
                Message::Text(text) if !is_event(&text) => answers += 1,
                _ => {}
            }
        }
    };
    futures::join!(sent, answered);
    count as f64 / begun.elapsed().as_secs_f64()
}

/// Round trips of a client of its own thread, which asks at regular times however long the answers take: one that waited for
/// them would ask most often while there is least to wait for.
async fn paced(address: SocketAddr, identity: Identity, count: usize) -> Samples {
    let (done, samples) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        drop(done.send(runtime.block_on(async {
            let mut client = Client::connect(address, &identity).await.socket;
            let (mut samples, first) = (Samples::default(), Instant::now());
            for at in 0..count {
                let due = first + PACE * at as u32;
                tokio::time::sleep_until(due.into()).await;
                client.send(Message::text(REQUEST)).await.unwrap();
                answer(&mut client).await;
                samples.push(due.elapsed());
            }
            samples
        })));
    });
    samples.await.unwrap()
}

/// `health` of one client while others keep a thousand spawns in flight.
pub async fn beside_spawns(args: &Args) -> Vec<Row> {
    let daemon = Daemon::start().await;
    let done = Arc::new(AtomicBool::new(false));
    let spawners = (0..SPAWNERS).map(|number| {
        let (address, done) = (daemon.address, Arc::clone(&done));
        async move {
            let mut client = Client::connect(address, &Identity::Command).await.socket;
            let spawn = |at: usize| {
                let params = json!({ "key": format!("agent:main:bench-{number}"), "task": "Reply with exactly: DONE" });
                Message::text(
                    json!({ "type": "req", "id": at.to_string(), "method": "sessions.spawn", "params": params })
                        .to_string(),
                )
            };
            let mut at = 0;
            let mut accepted = 0_usize;
            while at < IN_FLIGHT {
                client.feed(spawn(at)).await.unwrap();
                at += 1;
            }
            client.flush().await.unwrap();
            while !done.load(Ordering::Relaxed) {
                let answer = answer(&mut client).await;
                assert!(answer.contains("\"ok\":true"), "{answer}");
                accepted += 1;
                client.send(spawn(at)).await.unwrap();
                at += 1;
            }
            accepted
        }
    });
    let mut tasks: Vec<_> = spawners.map(tokio::spawn).collect();
    // Until all of them are at work.
    tokio::time::sleep(Duration::from_millis(args.samples(1_000, 200) as u64)).await;
    let (begun, before) = (Instant::now(), daemon.spent());
    let count = args.samples(1_500, 50);
    let deaf = paced(daemon.address, Identity::Deaf, count).await;
    let hearing = paced(daemon.address, Identity::Command, count).await;
    let (took, spent) = (begun.elapsed().as_secs_f64(), daemon.spent() - before);
    done.store(true, Ordering::Relaxed);
    let mut accepted = 0;
    for task in tasks.drain(..) {
        accepted += task.await.unwrap();
    }
    vec![
        Row::new("health beside 1,000 spawns in flight, p99")
            .verdict(Verdict::at_most(deaf.percentile(99) / 1e3, 10.0, "ms"))
            .samples("health", &deaf)
            .samples("health of one that hears of all of them", &hearing)
            .value("spawns accepted meanwhile", accepted as f64 / took, "a second")
            .value("processor time of the daemon for each spawn", spent / accepted as f64, "µs"),
    ]
}
