//! `chat.*`.

use serde_json::json;

use crate::rig::{Connect, Daemon};

#[tokio::test]
async fn a_message_is_answered_and_stays_in_the_history() {
    let daemon = Daemon::start().await;
    for protocol in [3, 4] {
        let mut client = daemon.connect(Connect { protocol, ..Connect::default() }).await;
        let key = format!("agent:main:desk{protocol}");
        let name = format!("chat-{protocol}");
        let params =
            json!({"sessionKey": key, "message": "Reply with exactly: HELLO", "idempotencyKey": name});
        let started = client.call("chat.send", params.clone()).await.unwrap();
        assert_eq!(started, json!({"runId": name, "status": "started"}));
        let last = client.event("chat", |chat| chat["state"] == "final").await;
        assert_eq!((&last["runId"], &last["sessionKey"]), (&json!(name), &json!(key)));
        assert_eq!(last["message"]["content"], json!([{"type": "text", "text": "HELLO"}]));
        let again = client.call("chat.send", params).await.unwrap();
        assert_eq!(again, json!({"runId": name, "status": "ok"}));
        let history = client.call("chat.history", json!({"sessionKey": key, "limit": 50})).await.unwrap();
        let messages = history["messages"].as_array().unwrap();
        let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant"]);
        assert_eq!(messages[1]["__openclaw"]["seq"], 2);
        assert_eq!(history.get("totalMessages").is_some(), protocol == 4);
        let id = messages[1]["__openclaw"]["id"].clone();
        let one = client.call("chat.message.get", json!({"sessionKey": key, "messageId": id})).await.unwrap();
        assert_eq!(one["message"], messages[1]);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_history_is_read_in_pages_and_is_empty_where_nothing_was_said() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    for n in 0..3 {
        let message = format!("Reply with exactly: {n}");
        let params = json!({"sessionKey": "main", "message": message, "idempotencyKey": format!("k{n}")});
        client.call("chat.send", params).await.unwrap();
        client.event("chat", |chat| chat["state"] == "final").await;
    }
    let mut page = async |params| client.call("chat.history", params).await;
    let newest = page(json!({"sessionKey": "main", "limit": 2})).await.unwrap();
    assert_eq!(newest["sessionKey"], "main", "as it was asked for");
    assert_eq!(newest["messages"][1]["content"][0]["text"], "2");
    assert_eq!((&newest["hasMore"], &newest["nextOffset"]), (&json!(true), &json!(2)));
    let older = page(json!({"sessionKey": "main", "limit": 1_000, "offset": 2})).await.unwrap();
    assert_eq!(older["messages"].as_array().unwrap().len(), 4);
    assert_eq!(older["hasMore"], false);
    let none = page(json!({"sessionKey": "agent:main:nothing"})).await.unwrap();
    assert_eq!(none["messages"], json!([]));
    assert!(page(json!({"sessionKey": "main", "limit": 0})).await.is_err());
    assert!(page(json!({"sessionKey": "main", "maxChars": 500_001})).await.is_err());
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_at_work_can_be_aborted() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let mut send = async |name: &str| {
        let message = "Wait: 1h\nReply with exactly: LATE";
        let params = json!({"sessionKey": "main", "message": message, "idempotencyKey": name});
        assert_eq!(client.call("chat.send", params).await.unwrap()["status"], "started");
    };
    send("one").await;
    send("two").await;
    let mismatch = json!({"sessionKey": "other", "runId": "two"});
    let error = client.call("chat.abort", mismatch).await.unwrap_err();
    assert_eq!(error["message"], "runId does not match sessionKey");
    let aborted = client.call("chat.abort", json!({"sessionKey": "main", "runId": "two"})).await.unwrap();
    assert_eq!(aborted, json!({"ok": true, "aborted": true, "runIds": ["two"]}));
    let stop = json!({"sessionKey": "main", "message": " /STOP ", "idempotencyKey": "three"});
    let aborted = client.call("chat.send", stop).await.unwrap();
    assert_eq!(aborted, json!({"ok": true, "aborted": true, "runIds": ["one"]}));
    for name in ["one", "two"] {
        let last = client.event("chat", |chat| chat["runId"] == name).await;
        assert_eq!((&last["state"], &last["stopReason"]), (&json!("aborted"), &json!("rpc")));
    }
    let nothing = client.call("chat.abort", json!({"sessionKey": "main"})).await.unwrap();
    assert_eq!(nothing, json!({"ok": true, "aborted": false, "runIds": []}));
    daemon.stop().await;
}

#[tokio::test]
async fn an_injected_message_is_shown_and_stays() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let params = json!({"sessionKey": "main", "message": "FYI", "label": "ops"});
    let error = client.call("chat.inject", params.clone()).await.unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("there is no session"), "{error}");
    let first = json!({"sessionKey": "main", "message": "Reply with exactly: X", "idempotencyKey": "k"});
    client.call("chat.send", first).await.unwrap();
    client.event("chat", |chat| chat["state"] == "final").await;
    let injected = client.call("chat.inject", params).await.unwrap();
    let id = injected["messageId"].as_str().unwrap().to_owned();
    let shown = client.event("chat", |chat| chat["state"] == "final").await;
    assert_eq!((&shown["runId"], &shown["seq"]), (&json!(format!("inject-{id}")), &json!(0)));
    assert_eq!(shown["message"]["content"][0]["text"], "[ops]\n\nFYI");
    let history = client.call("chat.history", json!({"sessionKey": "main"})).await.unwrap();
    assert_eq!(history["messages"][2]["__openclaw"]["id"], id);
    let mut writer = daemon.client_with(&["operator.write"]).await;
    let error = writer.call("chat.inject", json!({"sessionKey": "main", "message": "x"})).await.unwrap_err();
    assert_eq!(error["details"]["missingScope"], "operator.admin");
    daemon.stop().await;
}
