//! The floods.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::client::{Client, open};
use crate::daemon::Daemon;

const MIB: usize = 1 << 20;
/// The start of a frame that claims 16 KiB.
const HALF_A_FRAME: &[u8] = b"\x81\xfe\x40\x00\0\0\0\0{\"type\":";
/// The start of a frame of 25 MiB.
const ENDLESS: &[u8] = b"\x81\xff\0\0\0\0\x01\x90\0\0\0\0\0\0";
/// Bytes of one message that slow clients should read.
const MESSAGE: usize = 256 * 1024;
/// How long the gateway may take to close those that read nothing.
const CLOSED_WITHIN: Duration = Duration::from_secs(90);

#[derive(Clone, Copy)]
pub enum Flood {
    /// Clients that come and go, at any stage of their handshake.
    Connects { each_second: usize, seconds: usize },
    /// Clients that read nothing while much is said.
    Slow { clients: usize, mebibytes: usize },
    /// Bytes that are no handshake.
    Garbage { times: usize, mebibytes: usize },
    /// Clients that are gone in the middle of a frame.
    Vanishing { clients: usize },
}

impl Flood {
    pub const fn quick(self) -> Self {
        match self {
            Self::Connects { each_second, .. } => {
                Self::Connects { each_second: each_second / 10, seconds: 1 }
            }
            Self::Slow { .. } => Self::Slow { clients: 10, mebibytes: 64 },
            Self::Garbage { mebibytes, .. } => Self::Garbage { times: 2, mebibytes },
            Self::Vanishing { .. } => Self::Vanishing { clients: 50 },
        }
    }

    /// Runs it to its end, and says what came of it.
    pub fn run(self, daemon: &Daemon) -> Vec<String> {
        let address = daemon.address;
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async move {
            let flood = async move {
                match self {
                    Self::Connects { each_second, seconds } => connects(address, each_second, seconds).await,
                    Self::Slow { clients, mebibytes } => slow(address, clients, mebibytes).await,
                    Self::Garbage { times, mebibytes } => garbage(address, times, mebibytes).await,
                    Self::Vanishing { clients } => vanishing(address, clients).await,
                }
            };
            tokio::spawn(flood).await.unwrap()
        })
    }
}

async fn connects(address: SocketAddr, each_second: usize, seconds: usize) -> Vec<String> {
    const BEAT: Duration = Duration::from_millis(10);
    let (came, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let mut beat = tokio::time::interval(BEAT);
    let all = each_second * seconds;
    let mut started = 0;
    while started < all {
        beat.tick().await;
        let due = (begun.elapsed().as_secs_f64() * each_second as f64) as usize;
        for number in started..due.min(all) {
            let (came, failed) = (Arc::clone(&came), Arc::clone(&failed));
            tasks.spawn(async move {
                let done = match number % 4 {
                    0 => open(address, false).await.is_ok(),
                    1 => Client::upgraded(address, false).await.is_ok(),
                    2 => match Client::connected(address, false, &["operator.read"]).await {
                        Ok(mut client) => client.call("health", &json!({})).await.is_ok(),
                        Err(_) => false,
                    },
                    _ => match Client::connected(address, false, &["operator.read"]).await {
                        Ok(mut client) => client.socket.get_mut().write_all(HALF_A_FRAME).await.is_ok(),
                        Err(_) => false,
                    },
                };
                let count = if done { came } else { failed };
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        started = started.max(due.min(all));
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
    let took = begun.elapsed();
    vec![format!(
        "{} came as far as they wanted and {} did not, in {:.1} s: {:.0} a second",
        came.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed),
        took.as_secs_f64(),
        all as f64 / took.as_secs_f64()
    )]
}

async fn slow(address: SocketAddr, clients: usize, mebibytes: usize) -> Vec<String> {
    let mut maker = Client::connected(address, false, &["operator.admin"]).await.unwrap();
    let params = json!({"sessionKey": "main", "message": "Reply with exactly: A", "idempotencyKey": "a"});
    let id = maker.call("chat.send", &params).await.unwrap();
    maker.call("agent.wait", &json!({"runId": id["runId"]})).await.unwrap();
    let reading = ["operator.read"];
    let connecting = (0..clients).map(|_| Client::connected(address, true, &reading));
    let crowd: Vec<Client> = join_all(connecting).await.into_iter().map(Result::unwrap).collect();
    let text = "x".repeat(MESSAGE);
    let begun = Instant::now();
    for _ in 0..mebibytes * MIB / MESSAGE {
        maker.call("chat.inject", &json!({"sessionKey": "main", "message": text})).await.unwrap();
    }
    let said = begun.elapsed();
    // A client that reads nothing does not hear of its end, so the gateway is asked.
    let begun = Instant::now();
    let mut left = crowd.len();
    while left > 0 && begun.elapsed() < CLOSED_WITHIN {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let tree = maker.call("sessions.tree", &json!({"includeActors": true})).await.unwrap();
        let actors = tree["actors"].as_array().unwrap();
        let connections = actors.iter().filter(|actor| actor["kind"] == "connection").count();
        // This one and the one that asks for `health`.
        left = connections.saturating_sub(2);
    }
    let closed = crowd.len() - left;
    vec![format!(
        "{mebibytes} MiB were said to each in {:.1} s; {closed} of {clients} were closed {:.1} s later",
        said.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    )]
}

async fn garbage(address: SocketAddr, times: usize, mebibytes: usize) -> Vec<String> {
    let garbage = vec![b'x'; MIB];
    let mut taken = Vec::new();
    for number in 0..times {
        let mut stream = match number % 2 {
            0 => open(address, false).await.unwrap(),
            _ => {
                let mut stream = Client::upgraded(address, false).await.unwrap().socket.into_inner();
                stream.write_all(ENDLESS).await.unwrap();
                stream
            }
        };
        let mut written = 0;
        while written < mebibytes * MIB {
            match timeout(CLOSED_WITHIN, stream.write(&garbage)).await {
                Ok(Ok(bytes)) if bytes > 0 => written += bytes,
                _ => break,
            }
        }
        taken.push(written as f64 / MIB as f64);
    }
    let most = taken.iter().copied().fold(0.0, f64::max);
    vec![format!("of {mebibytes} MiB the gateway and the kernel took at most {most:.1}")]
}

async fn vanishing(address: SocketAddr, clients: usize) -> Vec<String> {
    let mut crowd = Vec::new();
    let begun = Instant::now();
    for _ in 0..clients.div_ceil(50) {
        let connecting = (0..50).map(|_| Client::connected(address, false, &["operator.pairing"]));
        crowd.extend(join_all(connecting).await.into_iter().map(Result::unwrap));
    }
    let came = begun.elapsed();
    for client in &mut crowd {
        client.socket.get_mut().write_all(HALF_A_FRAME).await.unwrap();
        SockRef::from(client.socket.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    }
    drop(crowd);
    tokio::time::sleep(Duration::from_secs(2)).await;
    vec![format!("{clients} came in {:.1} s and were gone at once", came.as_secs_f64())]
}
