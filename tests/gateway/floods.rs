//! Clients that send too much, too slowly, or go away in the middle; and another one that must not notice.

use std::time::Duration;

use serde_json::json;
use socket2::SockRef;
use tokio::time::Instant;

use crate::fuzz::input::{Frame, Piece};
use crate::fuzz::make::UPGRADE;
use crate::fuzz::peer::{PATIENCE, Peer};
use crate::rig::{Client, Daemon};

const HEALTH: &str = r#"{"type":"req","id":"one","method":"health"}"#;
const MAX_PAYLOAD: usize = 26_214_400;
const MIB: usize = 1 << 20;
/// What the kernel takes of a sender whose reader is gone, with room to spare.
const IN_THE_KERNEL: usize = 16 * MIB;

fn filled(first: u8, times: usize) -> Frame {
    Frame {
        first,
        masked: true,
        claims: None,
        payload: vec![Piece::Fill { fill: "x".to_owned(), times }],
        times: 1,
    }
}

fn written(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.write(&mut bytes);
    bytes
}

/// Waits until only the client itself is connected.
async fn alone(client: &mut Client) {
    let began = Instant::now();
    loop {
        let tree = client.call("sessions.tree", json!({"includeActors": true})).await.unwrap();
        let actors = tree["actors"].as_array().unwrap();
        let connections = actors.iter().filter(|actor| actor["kind"] == "connection").count();
        if connections == 1 {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{connections} connections are left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Each is two events of a mebibyte: more together than may wait for one client and than the kernel takes.
const MESSAGES: usize = 34;

#[tokio::test]
async fn whoever_does_not_read_is_closed_and_the_others_hear_everything() {
    let daemon = Daemon::start().await;
    let mut good = daemon.client().await;
    let mut slow = Peer::known(daemon.address()).await.unwrap();
    let params = json!({"sessionKey": "main", "message": "Reply with exactly: A", "idempotencyKey": "a"});
    good.call("chat.send", params).await.unwrap();
    good.event("chat", |chat| chat["state"] == "final").await;
    // It would hear of each message twice.
    slow.call("sessions.messages.subscribe", &json!({"key": "main"})).await.unwrap();
    slow.read_nothing();
    good.events();
    for _ in 0..MESSAGES {
        let params = json!({"sessionKey": "main", "message": "x".repeat(MIB)});
        good.call("chat.inject", params).await.unwrap();
    }
    let events = good.events();
    let finals = events.iter().filter(|event| event["event"] == "chat").count();
    assert_eq!(finals, MESSAGES);
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    slow.read_on();
    // Where the messages took longer than a closed client has to read why, it is gone without.
    if let Ok((code, reason)) = slow.closed().await {
        assert_eq!((code, &*reason), (1008, "slow consumer"));
    }
    alone(&mut good).await;
    daemon.stop().await;
}

#[tokio::test]
async fn whoever_asks_for_pongs_and_reads_none_is_cut_off() {
    let daemon = Daemon::start().await;
    let mut good = daemon.client().await;
    let mut peer = Peer::known(daemon.address()).await.unwrap();
    peer.read_nothing();
    // What is waited for is time, not work: it passes at once.
    tokio::time::pause();
    let pings = written(&filled(0x89, 125)).repeat(512);
    let began = Instant::now();
    while peer.try_write(&pings, Duration::from_secs(1)).await {
        assert!(began.elapsed() < PATIENCE * 10, "the gateway takes pings for ever");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    tokio::time::resume();
    alone(&mut good).await;
    drop(peer);
    daemon.stop().await;
}

#[tokio::test]
async fn whoever_vanishes_in_the_middle_of_a_frame_leaves_nothing() {
    let daemon = Daemon::start().await;
    let mut good = daemon.client().await;
    let frame = written(&Frame::text(HEALTH));
    for cut in [1, 2, 4, 6, 20] {
        for reset in [false, true] {
            let mut peer = Peer::known(daemon.address()).await.unwrap();
            peer.write(&frame[..cut], 0).await;
            if reset {
                SockRef::from(peer.socket()).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    }
    alone(&mut good).await;
    good.call("health", json!({})).await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn waves_of_connects_keep_nobody_out() {
    let daemon = Daemon::start().await;
    let mut good = daemon.client().await;
    for wave in 0..4 {
        let mut crowd = Vec::new();
        for number in 0..60 {
            crowd.push(match number % 3 {
                0 => Peer::open(daemon.address()).await.unwrap(),
                1 => Peer::upgraded(daemon.address()).await.unwrap(),
                _ => Peer::known(daemon.address()).await.unwrap(),
            });
        }
        // While they are there.
        good.call("health", json!({})).await.unwrap();
        let mut other = daemon.client().await;
        other.call("health", json!({"wave": wave})).await.unwrap();
        drop((crowd, other));
        alone(&mut good).await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn garbage_before_the_handshake_is_not_read() {
    let daemon = Daemon::start().await;
    let mut good = daemon.client().await;
    let garbage = vec![b'x'; MIB];
    let endless = || {
        let mut frame = filled(0x81, 0);
        frame.claims = Some(MAX_PAYLOAD as u64);
        written(&frame)
    };
    for (upgrade, start, answer) in [
        (false, Vec::new(), (431, "")),
        (false, b"GET / HTTP/1.1\r\nX: ".to_vec(), (431, "")),
        (true, endless(), (1009, "preauth payload too large")),
        (true, written(&filled(0x01, 60_000)), (1002, "protocol error")),
    ] {
        let address = daemon.address();
        let mut peer =
            if upgrade { Peer::upgraded(address).await } else { Peer::open(address).await }.unwrap();
        peer.write(&start, 0).await;
        let mut taken = 0;
        while taken < 64 * MIB && peer.try_write(&garbage, PATIENCE).await {
            taken += MIB;
        }
        assert!(taken < IN_THE_KERNEL, "{taken} bytes were taken");
        let (code, reason) = answer;
        if upgrade {
            assert_eq!(peer.closed().await.unwrap(), (code, reason.to_owned()));
        } else {
            let head = peer.head().await.unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {code}")), "{head}");
        }
        good.call("health", json!({})).await.unwrap();
    }
    alone(&mut good).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_head_that_trickles_is_given_up() {
    let daemon = Daemon::start().await;
    let mut peer = Peer::open(daemon.address()).await.unwrap();
    tokio::time::pause();
    let began = Instant::now();
    for byte in UPGRADE.as_bytes() {
        if !peer.try_write(std::slice::from_ref(byte), PATIENCE).await || peer.has_ended() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(20), "it may trickle for {waited:?}");
    tokio::time::resume();
    daemon.stop().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_given_up() {
    let daemon = Daemon::with_vars(&[("OFFSHOOT_HANDSHAKE_TIMEOUT_MS", "100")]).await;
    let mut peer = Peer::upgraded(daemon.address()).await.unwrap();
    // Nothing but control frames.
    let ping = written(&filled(0x89, 5));
    peer.write(&ping, 0).await;
    assert_eq!(peer.closed().await.unwrap(), (1000, String::new()));
    daemon.stop().await;
}

#[tokio::test]
async fn a_request_comes_in_bytes_and_in_fragments() {
    let daemon = Daemon::start().await;
    let mut peer = Peer::known(daemon.address()).await.unwrap();
    peer.write(&written(&Frame::text(HEALTH)), 1).await;
    assert_eq!(peer.answer(PATIENCE, |frame| frame["id"] == "one").await.unwrap(), "ok");
    let long =
        HEALTH.replace("one", "two").replace("\"health\"", &format!("{}\"health\"", " ".repeat(20_000)));
    let mut fragments = Vec::new();
    for (at, byte) in long.bytes().enumerate() {
        let first = if at == 0 { 0x01 } else { 0x00 };
        Frame { first, ..Frame::text(char::from(byte)) }.write(&mut fragments);
        if at % 1_000 == 0 {
            filled(0x89, 3).write(&mut fragments);
            filled(0x00, 0).write(&mut fragments);
        }
    }
    filled(0x80, 0).write(&mut fragments);
    peer.write(&fragments, 0).await;
    assert_eq!(peer.answer(PATIENCE, |frame| frame["id"] == "two").await.unwrap(), "ok");
    peer.end().await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn a_message_has_25_mebibytes_and_no_byte_more() {
    let daemon = Daemon::start().await;
    let mut good = daemon.client().await;
    let pad = |length: usize| {
        let start = r#"{"type":"req","id":"big","method":"health","params":{"pad":""#;
        let end = "\"}}";
        let pad = length - start.len() - end.len();
        let payload = vec![
            Piece::Text(start.to_owned()),
            Piece::Fill { fill: "x".to_owned(), times: pad },
            Piece::Text(end.to_owned()),
        ];
        Frame { payload, ..Frame::text("") }
    };
    let mut peer = Peer::known(daemon.address()).await.unwrap();
    peer.write(&written(&pad(MAX_PAYLOAD)), 0).await;
    assert_eq!(peer.answer(PATIENCE, |frame| frame["id"] == "big").await.unwrap(), "ok");
    peer.write(&written(&pad(MAX_PAYLOAD + 1)), 0).await;
    assert_eq!(peer.closed().await.unwrap(), (1009, "payload too large".to_owned()));
    let mut peer = Peer::known(daemon.address()).await.unwrap();
    for part in 0..26 {
        peer.write(&written(&filled(u8::from(part == 0), MIB)), 0).await;
    }
    assert_eq!(peer.closed().await.unwrap(), (1009, "payload too large".to_owned()));
    alone(&mut good).await;
    daemon.stop().await;
}
