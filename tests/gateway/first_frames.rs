//! What comes into a socket that is no sound request, before and after the handshake.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::rig::{Attempt, Client, Daemon, Heard};

/// The answer to a request that is refused for its form.
fn refused(id: &str, message: &str) -> Value {
    json!({ "type": "res", "id": id, "ok": false, "error": { "code": "INVALID_REQUEST", "message": message } })
}

fn request(id: &str, method: &str) -> Message {
    Message::text(json!({ "type": "req", "id": id, "method": method, "params": {} }).to_string())
}

/// That it answers still.
async fn answers(client: &mut Client) {
    assert_eq!(client.call("health", json!({})).await.unwrap()["ok"], true);
}

#[tokio::test]
#[rustfmt::skip]
async fn each_bad_first_message_has_its_end() {
    let text = |text: &str| Message::text(text.to_owned());
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let large = json!({ "type": "req", "id": "1", "method": "connect", "params": { "x": "x".repeat(64 * 1024) } });
    let invalid = "invalid request frame";
    let first = "invalid handshake: first request must be connect";
    let daemon = Daemon::start().await;
    let rows = [
        ("not JSON", text("hello"), None, 1000, ""),
        ("an empty message", text(""), None, 1000, ""),
        ("half a document", text("{\"type\":"), None, 1000, ""),
        ("no object", text("[]"), None, 1008, invalid),
        ("an event", text(r#"{"type":"event","event":"connect"}"#), None, 1008, invalid),
        ("no id", text(r#"{"type":"req","method":"connect"}"#), None, 1008, invalid),
        ("an empty id", text(r#"{"type":"req","id":"","method":"connect"}"#), None, 1008, invalid),
        ("an id that is no text", text(r#"{"type":"req","id":1,"method":"connect"}"#), None, 1008, invalid),
        ("no method", text(r#"{"type":"req","id":"1"}"#), None, 1008, invalid),
        ("too many levels", text(&nested), None, 1008, invalid),
        ("another request", request("1", "health"), Some(refused("1", first)), 1008, first),
        ("a request that nobody knows", request("1", "no.such"), Some(refused("1", first)), 1008, first),
        ("no text", Message::binary(b"{}".to_vec()), None, 1003, "only text frames are understood"),
        ("more than 64 KiB", text(&large.to_string()), None, 1009, "preauth payload too large"),
    ];
    for (name, message, answer, code, reason) in rows {
        let mut client = daemon.socket(&[]).await;
        client.challenged().await;
        client.send_message(message).await;
        if let Some(answer) = answer {
            assert_eq!(client.heard().await, Heard::Frame(answer), "{name}");
        }
        assert_eq!(client.heard().await, Heard::Closed(code, reason.to_owned()), "{name}");
    }
    answers(&mut daemon.client().await).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_connect_that_is_nearly_too_large_is_read() {
    let daemon = Daemon::start().await;
    let large = Attempt::cli().with(json!({ "x": "x".repeat(63 * 1024) }));
    let mut client = daemon.attempt(&large).await.unwrap();
    // What was counted until then does not bound what a client that is known sends.
    let params = json!({ "probe": false, "x": "x".repeat(1024 * 1024) });
    client.call("health", params).await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn whoever_is_not_in_after_a_while_is_closed() {
    let daemon = Daemon::with_vars(&[("OFFSHOOT_HANDSHAKE_TIMEOUT_MS", "100")]).await;
    let mut known = daemon.client().await;
    let mut silent = daemon.socket(&[]).await;
    assert_eq!(silent.closed().await, (1000, String::new()));
    let mut slow = daemon.socket(&[]).await;
    slow.challenged().await;
    slow.send_message(Message::Ping(Vec::new().into())).await;
    assert_eq!(slow.closed().await, (1000, String::new()));
    answers(&mut known).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_second_connect_is_refused_and_changes_nothing() {
    let daemon = Daemon::start().await;
    for protocol in [3, 4] {
        let mut client = daemon.attempt(&Attempt::cli().speaking(protocol)).await.unwrap();
        let refused = client.call("connect", json!({ "scopes": ["operator.admin"] })).await.unwrap_err();
        let expected =
            json!({ "code": "INVALID_REQUEST", "message": "connect is only valid as the first request" });
        assert_eq!(refused, expected);
        client.call("device.pair.list", json!({})).await.unwrap_err();
        answers(&mut client).await;
    }
    daemon.stop().await;
}

#[tokio::test]
#[rustfmt::skip]
async fn a_message_that_is_no_request_is_answered_where_it_names_itself() {
    let daemon = Daemon::start().await;
    for protocol in [3, 4] {
        let mut client = daemon.attempt(&Attempt::cli().speaking(protocol)).await.unwrap();
        let rows = [
            ("not JSON", "hello".to_owned(), None),
            ("no object", "[1]".to_owned(), None),
            ("too many levels", format!("{{\"type\":\"req\",\"id\":\"a\",\"method\":\"health\",\"params\":{}{}}}", "[".repeat(200), "]".repeat(200)), None),
            ("no id", r#"{"type":"req","method":"health"}"#.to_owned(), None),
            ("no method", r#"{"type":"req","id":"a"}"#.to_owned(), Some("method is missing")),
            ("an empty method", r#"{"type":"req","id":"a","method":""}"#.to_owned(), Some("method must be a string of 1 to 256 bytes")),
            ("an event", r#"{"type":"event","id":"a","event":"x"}"#.to_owned(), Some("type must be \"req\"")),
            ("a profile to check", r#"{"type":"req","id":"a","method":"health","expectedProfileId":"p"}"#.to_owned(), Some("expectedProfileId: this gateway has no profiles to check; leave it out")),
        ];
        for (name, text, problem) in rows {
            client.send_text(text).await;
            // In order: what comes before this answer is the answer to the message.
            answers(&mut client).await;
            let expected: Vec<Value> = problem.into_iter().map(|problem| refused("a", &format!("invalid request frame: {problem}"))).collect();
            assert_eq!(client.responses(), expected, "{name}, protocol {protocol}");
        }
        client.send_text(r#"{"type":"req","id":"b","method":"health","traceparent":"00","unknown":[1]}"#).await;
        assert_eq!(client.answer("b").await.unwrap()["ok"], true, "members that nobody knows, protocol {protocol}");
        client.send_message(Message::binary(b"{}".to_vec())).await;
        assert_eq!(client.closed().await.0, 1003);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn whoever_keeps_asking_for_what_is_another_roles_is_closed() {
    let daemon = Daemon::start().await;
    let node = Attempt::node().signed(3);
    for (attempt, method, role) in
        [(node, "sessions.list", "node"), (Attempt::cli(), "node.event", "operator")]
    {
        for protocol in [3, 4] {
            let mut client = daemon.attempt(&attempt.clone().speaking(protocol)).await.unwrap();
            let message = format!("unauthorized role: {role}");
            for _ in 0..10 {
                let error = client.call(method, json!({})).await.unwrap_err();
                assert_eq!(error, json!({ "code": "INVALID_REQUEST", "message": message }));
            }
            answers(&mut client).await;
            let last = client.send(method, json!({})).await;
            assert_eq!(client.closed().await, (1008, "repeated unauthorized calls".to_owned()));
            assert_eq!(client.answer(&last).await.unwrap_err()["message"], message);
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_comes_while_a_connect_is_checked_waits_and_not_too_much_of_it() {
    let daemon = Daemon::start().await;
    let connect = |token: &str| {
        let params = json!({
            "minProtocol": 3, "maxProtocol": 4, "auth": { "token": token },
            "client": { "id": "cli", "version": "1", "platform": "linux", "mode": "cli" },
        });
        json!({ "type": "req", "id": "connect", "method": "connect", "params": params }).to_string()
    };
    let requests = |count: usize| (1..=count).map(|number| request(&number.to_string(), "health"));

    let mut client = daemon.socket(&[]).await;
    let all: Vec<Message> =
        [Message::text(connect(crate::rig::TOKEN))].into_iter().chain(requests(15)).collect();
    client.send_at_once(all).await;
    client.challenged().await;
    assert_eq!(client.answer("connect").await.unwrap()["type"], "hello-ok");
    for number in 1..=15 {
        client.answer(&number.to_string()).await.unwrap();
    }
    assert!(client.responses().is_empty());

    // The answer to a wrong token is held back for a while.
    let mut client = daemon.socket(&[]).await;
    let all: Vec<Message> = [Message::text(connect("wrong"))].into_iter().chain(requests(16)).collect();
    client.send_at_once(all).await;
    assert_eq!(client.closed().await, (1008, "too many pending handshake frames".to_owned()));
    assert!(client.responses().is_empty());

    // Nothing of what waited is done for a client that is not let in.
    let mut client = daemon.socket(&[]).await;
    let all: Vec<Message> = [Message::text(connect("wrong"))].into_iter().chain(requests(15)).collect();
    client.send_at_once(all).await;
    let (code, reason) = client.closed().await;
    assert!(code == 1008 && reason.starts_with("unauthorized"), "{code} {reason}");
    assert_eq!(client.responses().len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_gateway_that_stops_says_so() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let (closed, ()) = tokio::join!(client.closed(), daemon.stop());
    assert_eq!(closed, (1012, "service restart".to_owned()));
    assert_eq!(client.event("shutdown", |_| true).await, json!({ "reason": "service restart" }));
}

#[tokio::test]
async fn a_gateway_that_restarts_says_when_it_is_back_and_begins_nothing_meanwhile() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    // Its open request holds the end up.
    let waits = client.send("agent.wait", json!({ "runId": "nobody", "timeoutMs": 1_500 })).await;
    client.call("health", json!({})).await.unwrap();
    let restarting = tokio::spawn(daemon.restart());
    let told = client.event("shutdown", |_| true).await;
    assert_eq!(told, json!({ "reason": "service restart", "restartExpectedMs": 1_500 }));
    let message = json!({ "message": "Reply with exactly: x", "idempotencyKey": "late" });
    let refused = client.call("agent", message).await.unwrap_err();
    assert_eq!(
        (&refused["code"], &refused["message"]),
        (&json!("UNAVAILABLE"), &json!("the gateway is stopping"))
    );
    assert_eq!((&refused["retryable"], &refused["retryAfterMs"]), (&json!(true), &json!(1_500)));
    assert_eq!(client.answer(&waits).await.unwrap()["status"], "timeout");
    assert_eq!(client.closed().await, (1012, "service restart".to_owned()));
    let next = restarting.await.unwrap();
    assert_eq!(next.storage().open_rows().await.unwrap().len(), 0, "the message began nothing");
    next.stop().await;
}
