//! From the TCP connect to `hello-ok`.

use std::time::Instant;

use futures::SinkExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, Device, Identity, text, upgrade};
use super::common::report::{Row, Verdict};
use super::common::{Args, Samples, machine, timed};
use super::daemon::Daemon;
use super::floor::{self, Floor};

/// About the sizes of a challenge, a connect and a `hello-ok`.
const CHALLENGE: usize = 180;
const CONNECT: usize = 700;
const HELLO: usize = 12_000;

pub async fn measure(args: &Args) -> Vec<Row> {
    let daemon = Daemon::start().await;
    let device = Identity::Device(Box::new(Device::new()));
    let count = args.samples(1_000, 20);
    let (mut known, mut new, mut plain, mut bare) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    for _ in 0..10 {
        Client::connect(daemon.address, &device).await;
        Client::connect(daemon.address, &Identity::Device(Box::new(Device::new()))).await;
    }
    let echo = Floor::echo(CHALLENGE, HELLO);
    upgrade(echo.connect().await, echo.address).await;
    for _ in 0..count {
        known.push(timed(Client::connect(daemon.address, &device)).await.1);
        plain.push(timed(Client::connect(daemon.address, &Identity::Command)).await.1);
        let stranger = Identity::Device(Box::new(Device::new()));
        new.push(timed(Client::connect(daemon.address, &stranger)).await.1);
        let begun = Instant::now();
        let mut socket = upgrade(TcpStream::connect(echo.address).await.unwrap(), echo.address).await;
        text(&mut socket).await;
        socket.send(Message::text("x".repeat(CONNECT))).await.unwrap();
        text(&mut socket).await;
        bare.push(begun.elapsed());
    }
    let commits = floor::commits(machine::state_dir().path(), args);
    let known_row = Row::new("connect to hello-ok, known device with signature")
        .verdict(Verdict::at_most(known.p50() / 1e3, 1.0, "ms"))
        .samples("known device", &known)
        .samples("a command without a device", &plain)
        .samples("floor: bare tungstenite, as many bytes", &bare);
    let new_row = Row::new("connect to hello-ok, new device")
        .verdict(Verdict::at_most(new.p50(), 1e3 + commits.p50(), "µs").by("1 ms and one commit"))
        .samples("new device", &new)
        .samples("floor: one bare commit", &commits);
    vec![known_row, new_row]
}
