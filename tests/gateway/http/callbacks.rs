//! Results of webhooks, posted to whoever left an address.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use offshoot_actors::contract;
use offshoot_actors::types::Terminal;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{OPEN, hook, sent};
use crate::rig::Daemon;

/// Takes what is posted, with 503 until `open` is set.
async fn receiver(open: Arc<AtomicBool>) -> (String, mpsc::UnboundedReceiver<(bool, String, Value)>) {
    refusing(open, "503 Service Unavailable").await
}

/// Takes what is posted, with this answer until `open` is set.
async fn refusing(
    open: Arc<AtomicBool>,
    refusal: &'static str,
) -> (String, mpsc::UnboundedReceiver<(bool, String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/results", listener.local_addr().unwrap());
    let (sender, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (socket, head, body) = posted(&listener).await;
            let taken = open.load(Ordering::SeqCst);
            answer(socket, if taken { "200 OK" } else { refusal }).await;
            if sender.send((taken, head, body)).is_err() {
                return;
            }
        }
    });
    (address, received)
}

/// The next one that comes, which waits for its answer.
async fn posted(listener: &TcpListener) -> (TcpStream, String, Value) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        if let Some((head, body)) = read_post(&mut socket).await {
            return (socket, head, body);
        }
    }
}

/// None of a sender that goes away before it has said everything.
async fn read_post(socket: &mut TcpStream) -> Option<(String, Value)> {
    let mut text = String::new();
    loop {
        let mut bytes = [0; 4_096];
        let count = socket.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str::<Value>(body)
        {
            return Some((head.to_owned(), body));
        }
    }
}

async fn answer(mut socket: TcpStream, status: &str) {
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    socket.write_all(answer.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_result_reaches_whoever_left_an_address_also_after_a_restart() {
    let open = Arc::new(AtomicBool::new(false));
    let (address, mut received) = receiver(Arc::clone(&open)).await;
    let daemon = Daemon::with(OPEN).await;
    let task = r#"Spawn: {"task": "Reply with exactly: FROM THE CHILD"}"#;
    let (status, answer) =
        sent(hook(&daemon, "agent", &json!({ "message": task, "callbackUrl": address }))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (_, _, refused) = received.recv().await.unwrap();
    assert_eq!(refused["runId"], answer["runId"]);
    let daemon = daemon.restart().await;
    open.store(true, Ordering::SeqCst);
    let (head, result) = loop {
        // What was on its way before was refused.
        let (taken, head, result) = received.recv().await.unwrap();
        if taken {
            break (head, result);
        }
    };
    assert!(head.contains(&format!("idempotency-key: {}", answer["runId"].as_str().unwrap())), "{head}");
    assert_eq!((&result["status"], &result["text"]), (&json!("ok"), &json!("FROM THE CHILD")));
    daemon.stop().await;
}

#[tokio::test]
async fn a_result_is_that_of_its_own_request_whatever_else_the_session_does() {
    let (address, mut received) = receiver(Arc::new(AtomicBool::new(true))).await;
    // Without that tool a run does not wait for what it has spawned.
    let shared = r#"{ hooks: { enabled: true, token: "hook-token", defaultSessionKey: "inbox" },
                      tools: { deny: ["sessions_yield"] } }"#;
    let daemon = Daemon::with(shared).await;
    let mut client = daemon.client().await;
    let wish =
        |task: &str, key: &str| json!({ "message": task, "callbackUrl": address, "idempotencyKey": key });
    let task = r#"Spawn: {"task": "Wait: 1h", "label": "slow"}"#;
    let (_, first) = sent(hook(&daemon, "agent", &wish(task, "first"))).await;
    let first_run = json!({ "runId": first["runId"] });
    assert_eq!(client.call("agent.wait", first_run).await.unwrap()["status"], "ok");
    let second = wish("Reply with exactly: the second", "second");
    for _ in 0..2 {
        let (_, answer) = sent(hook(&daemon, "agent", &second)).await;
        assert_eq!(answer["sessionKey"], first["sessionKey"]);
        let (_, _, result) = received.recv().await.unwrap();
        assert_eq!(result["runId"], answer["runId"]);
        assert_eq!((&result["text"], &result["followUps"]), (&json!("the second"), &json!([])));
    }
    let sessions = client.call("sessions.list", json!({ "label": "slow" })).await.unwrap();
    let child = json!({ "key": sessions["sessions"][0]["key"] });
    client.call("sessions.abort", child).await.unwrap();
    let (_, _, result) = received.recv().await.unwrap();
    assert_eq!(result["runId"], first["runId"]);
    assert_eq!(result["followUps"].as_array().map(Vec::len), Some(1), "{result}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_result_that_was_delivered_is_not_kept_for_the_next_start() {
    let (address, mut received) = receiver(Arc::new(AtomicBool::new(true))).await;
    let daemon = Daemon::with(OPEN).await;
    let wish = |key: &str| json!({ "message": "hello", "callbackUrl": address, "idempotencyKey": key });
    // The second request is a repeat, whose result is kept by itself.
    for _ in 0..2 {
        sent(hook(&daemon, "agent", &wish("one"))).await;
        received.recv().await.unwrap();
        daemon.forgets_callbacks().await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_result_that_the_receiver_does_not_want_stays_visible_and_can_be_sent_again() {
    let open = Arc::new(AtomicBool::new(false));
    let (address, mut received) = refusing(Arc::clone(&open), "410 Gone").await;
    let daemon = Daemon::with(OPEN).await;
    let (_, answer) = sent(hook(&daemon, "agent", &json!({ "message": "hi", "callbackUrl": address }))).await;
    let run = json!({ "runId": answer["runId"] });
    received.recv().await.unwrap();
    daemon.forgets_callbacks().await;
    let mut client = daemon.client().await;
    let shown = client.call("deliveries.show", run.clone()).await.unwrap()["deliveries"][0].clone();
    assert_eq!((&shown["state"], &shown["attempts"]), (&json!("failed"), &json!(1)), "{shown}");
    assert!(shown["nextAttemptAt"].is_null() && shown["reason"].as_str().unwrap().contains("410"), "{shown}");
    let daemon = daemon.restart().await;
    let mut client = daemon.client().await;
    open.store(true, Ordering::SeqCst);
    client.call("deliveries.retry", run.clone()).await.unwrap();
    let (taken, _, result) = received.recv().await.unwrap();
    assert_eq!(
        (taken, &result["runId"]),
        (true, &answer["runId"]),
        "a start sends nothing that was given up"
    );
    daemon.forgets_callbacks().await;
    let shown = client.call("deliveries.show", run).await.unwrap();
    assert_eq!(shown["deliveries"][0]["state"], "delivered");
    daemon.stop().await;
}

/// A daemon that starts with a callback to this address which failed so often, and is due then.
async fn left_behind(listener: &TcpListener, number: u64, attempts: u32, due: i64) -> (Daemon, Value) {
    let daemon = Daemon::with(OPEN).await;
    let session = contract::session("inbox");
    let asked = contract::callback(number, &format!("http://{}/", listener.local_addr().unwrap()));
    let run = contract::run(number, &session.key);
    let ended = [contract::insert(&run), contract::end(number, Terminal::Ok)];
    let wanted = [contract::put_callback(&asked), contract::failed(&asked, attempts, Some(due))];
    let rows = [contract::create(&session)].into_iter().chain(ended).chain(wanted).collect();
    contract::apply(daemon.storage(), rows).await;
    (daemon.restart().await, json!({ "runId": run.id }))
}

#[tokio::test]
async fn a_retry_that_comes_during_the_last_attempt_is_made() {
    for (number, attempts, refusal) in [(1, 299, "503 Service Unavailable"), (2, 0, "410 Gone")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (daemon, run) = left_behind(&listener, number, attempts, 0).await;
        let (last, _, _) = posted(&listener).await;
        let mut client = daemon.client().await;
        client.call("deliveries.retry", run.clone()).await.unwrap();
        answer(last, refusal).await;
        let again = tokio::time::timeout(Duration::from_secs(20), posted(&listener)).await;
        answer(again.expect("it is sent again").0, "200 OK").await;
        daemon.forgets_callbacks().await;
        let shown = client.call("deliveries.show", run).await.unwrap();
        assert_eq!(shown["deliveries"][0]["state"], "delivered");
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_retry_that_was_made_is_not_made_again_after_the_receiver_said_no() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (daemon, run) = left_behind(&listener, 1, 5, i64::MAX / 2).await;
    let mut client = daemon.client().await;
    client.call("deliveries.retry", run.clone()).await.unwrap();
    let (socket, _, result) = posted(&listener).await;
    assert_eq!(result["runId"], run["runId"]);
    answer(socket, "410 Gone").await;
    daemon.forgets_callbacks().await;
    // Whatever else is sent of it is sent before the result of a later request.
    let wish =
        json!({ "message": "hi", "callbackUrl": format!("http://{}/", listener.local_addr().unwrap()) });
    let (_, later) = sent(hook(&daemon, "agent", &wish)).await;
    let (socket, _, result) = posted(&listener).await;
    assert_eq!(result["runId"], later["runId"]);
    answer(socket, "200 OK").await;
    let shown = client.call("deliveries.show", run).await.unwrap();
    assert_eq!(shown["deliveries"][0]["state"], "failed");
    daemon.stop().await;
}
