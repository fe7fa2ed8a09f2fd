//! `agent` and `agent.wait`.

use serde_json::json;

use crate::rig::{Connect, Daemon};

#[tokio::test]
async fn an_agent_answers_twice_under_one_id() {
    let daemon = Daemon::start().await;
    for protocol in [3, 4] {
        let mut client = daemon.connect(Connect { protocol, ..Connect::default() }).await;
        let name = format!("key-{protocol}");
        let id = client
            .send("agent", json!({"message": "Reply with exactly: DONE", "idempotencyKey": name}))
            .await;
        let accepted = client.answer(&id).await.unwrap();
        assert_eq!((&accepted["runId"], &accepted["status"]), (&json!(name), &json!("accepted")));
        assert!(accepted["acceptedAt"].as_i64().unwrap() > 0);
        let newer = accepted.get("sessionKey").is_some() && accepted.get("agentId").is_some();
        assert_eq!(newer, protocol == 4, "{accepted}");
        let last = client.answer(&id).await.unwrap();
        assert_eq!((&last["status"], &last["summary"]), (&json!("ok"), &json!("completed")));
        assert_eq!(last["result"]["payloads"], json!([{"text": "DONE", "mediaUrl": null}]));
        let meta = &last["result"]["meta"]["agentMeta"];
        assert_eq!((&meta["provider"], &meta["model"]), (&json!("builtin"), &json!("rehearsal")));
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_turn_ends_with_the_result_of_the_sub_agent_that_it_waits_for() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let message = r#"Spawn: {"task":"Reply with exactly: SUBAGENT_OK"}"#;
    let id =
        client.send("agent", json!({"message": message, "idempotencyKey": "k", "agentId": "main"})).await;
    client.answer(&id).await.unwrap();
    let last = client.answer(&id).await.unwrap();
    assert_eq!(last["result"]["payloads"][0]["text"], "SUBAGENT_OK");
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_that_fails_is_an_error_with_a_payload() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let id = client.send("agent", json!({"message": "Fail: out of ideas", "idempotencyKey": "k"})).await;
    client.answer(&id).await.unwrap();
    let frame = client.response(&id).await;
    assert_eq!((&frame["ok"], &frame["error"]["code"]), (&json!(false), &json!("UNAVAILABLE")));
    assert_eq!((&frame["payload"]["runId"], &frame["payload"]["status"]), (&json!("k"), &json!("error")));
    assert!(frame["payload"]["summary"].as_str().unwrap().contains("out of ideas"), "{frame}");
    let waited = client.call("agent.wait", json!({"runId": "k"})).await.unwrap();
    assert_eq!(waited["status"], "error");
    assert!(waited["error"].as_str().unwrap().contains("out of ideas"));
    daemon.stop().await;
}

#[tokio::test]
async fn the_same_key_is_the_same_run_on_other_connections_and_after_a_restart() {
    let daemon = Daemon::start().await;
    let params = json!({"message": "Wait: 1h\nReply with exactly: LATE", "idempotencyKey": "slow"});
    let quick =
        json!({"message": "Reply with exactly: ONCE", "idempotencyKey": "quick", "sessionKey": "other"});
    let mut first = daemon.client().await;
    let id = first.send("agent", params.clone()).await;
    first.answer(&id).await.unwrap();
    let id = first.send("agent", quick.clone()).await;
    first.answer(&id).await.unwrap();
    first.answer(&id).await.unwrap();

    let mut second = daemon.client().await;
    let again = second.call("agent", params.clone()).await.unwrap();
    assert_eq!(again, json!({"runId": "slow", "status": "in_flight"}));
    let again = second.call("agent", quick.clone()).await.unwrap();
    assert_eq!(again["result"]["payloads"][0]["text"], "ONCE");
    let mut other = quick.clone();
    other["message"] = json!("Reply with exactly: TWICE");
    let refused = second.call("agent", other).await.unwrap_err();
    assert_eq!(refused["code"], "INVALID_REQUEST");
    second.call("chat.abort", json!({"sessionKey": "main"})).await.unwrap();

    let daemon = daemon.restart().await;
    let mut third = daemon.client().await;
    let again = third.call("agent", quick).await.unwrap();
    assert_eq!((&again["status"], &again["result"]["payloads"][0]["text"]), (&json!("ok"), &json!("ONCE")));
    let history = third.call("chat.history", json!({"sessionKey": "other"})).await.unwrap();
    assert_eq!(history["messages"].as_array().unwrap().len(), 2, "it ran once");
    let waited = third.call("agent.wait", json!({"runId": "quick"})).await.unwrap();
    assert_eq!(waited["status"], "ok");
    daemon.stop().await;
}

#[tokio::test]
async fn a_wait_ends_with_the_run_or_with_its_time() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let waited = client.call("agent.wait", json!({"runId": "nobody", "timeoutMs": 1})).await.unwrap();
    assert_eq!(waited, json!({"runId": "nobody", "status": "timeout"}));
    // Asked for before there is such a run.
    let wait = client.send("agent.wait", json!({"runId": "soon"})).await;
    client.send("agent", json!({"message": "Reply with exactly: X", "idempotencyKey": "soon"})).await;
    let waited = client.answer(&wait).await.unwrap();
    assert_eq!((&waited["runId"], &waited["status"]), (&json!("soon"), &json!("ok")));
    assert!(waited["startedAt"].as_i64() <= waited["endedAt"].as_i64());
    // Without any time at all it is told what is so, each time.
    for _ in 0..50 {
        let polled = client.call("agent.wait", json!({"runId": "soon", "timeoutMs": 0})).await.unwrap();
        assert_eq!(polled, waited);
    }
    client.send("agent", json!({"message": "Wait: 1h", "idempotencyKey": "slow"})).await;
    let polled = client.call("agent.wait", json!({"runId": "slow", "timeoutMs": 0})).await.unwrap();
    assert_eq!(polled, json!({"runId": "slow", "status": "timeout"}));
    client.call("chat.abort", json!({"sessionKey": "main"})).await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn what_would_be_ignored_is_refused_and_the_rest_is_not() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client_with(&["operator.write"]).await;
    let mut refused = async |more: serde_json::Value| {
        let mut params = json!({"message": "Reply with exactly: X", "idempotencyKey": "k"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.call("agent", params).await.unwrap_err()["message"].as_str().unwrap().to_owned()
    };
    for (more, text) in [
        (json!({"deliver": true}), "deliver is not supported"),
        (json!({"attachments": [{}]}), "attachments is not supported"),
        (json!({"model": "builtin/rehearsal"}), "missing scope: operator.admin"),
        (json!({"agentId": "nobody"}), "unknown agent id"),
        (json!({"message": "/new"}), "call sessions.reset"),
        (json!({"message": " "}), "empty"),
        (json!({"idempotencyKey": ""}), "idempotencyKey"),
    ] {
        let message = refused(more.clone()).await;
        assert!(message.contains(text), "{more}: {message}");
    }
    let params = json!({"message": "Reply with exactly: X", "idempotencyKey": "k", "deliver": false,
        "attachments": [], "timeout": 600, "lane": "main", "somethingNew": 1});
    assert_eq!(client.call("agent", params).await.unwrap()["status"], "accepted");
    let mut reader = daemon.client_with(&["operator.read"]).await;
    let error = reader.call("agent", json!({"message": "x", "idempotencyKey": "k"})).await.unwrap_err();
    assert_eq!(error["code"], "FORBIDDEN");
    let identity = reader.call("agent.identity.get", json!({})).await.unwrap();
    assert_eq!(
        identity,
        json!({"agentId": "main", "name": "Assistant", "avatar": "A", "nameSource": "default"})
    );
    daemon.stop().await;
}

#[tokio::test]
async fn whoever_waits_for_many_runs_can_still_ask_and_abort() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    for n in 0..200 {
        client.send("agent.wait", json!({"runId": format!("nobody {n}"), "timeoutMs": 600_000})).await;
    }
    let slow = json!({"message": "Wait: 1h\nReply with exactly: LATE", "idempotencyKey": "slow"});
    assert_eq!(client.call("agent", slow).await.unwrap()["status"], "accepted");
    let aborted = client.call("chat.abort", json!({"sessionKey": "main"})).await.unwrap();
    assert_eq!(aborted["runIds"], json!(["slow"]));
    // What it waits for does not come, and a stop would wait with it.
    drop(client);
    daemon.stop().await;
}

#[tokio::test]
async fn a_repeat_is_answered_also_when_its_agent_is_not_configured_any_more() {
    let daemon = Daemon::with(r#"{ agents: { list: [{ id: "main" }, { id: "old" }] } }"#).await;
    let mut client = daemon.client().await;
    let mine = json!({"message": "Reply with exactly: x", "idempotencyKey": "k", "agentId": "old"});
    let id = client.send("agent", mine.clone()).await;
    client.answer(&id).await.unwrap();
    client.answer(&id).await.unwrap();
    let daemon = daemon.restart_with(r#"{ agents: { list: [{ id: "main" }] } }"#).await;
    let mut client = daemon.client().await;
    let again = client.call("agent", mine.clone()).await.unwrap();
    assert_eq!(again["result"]["payloads"][0]["text"], "x");
    let mut new = mine;
    new["idempotencyKey"] = json!("new");
    let refused = client.call("agent", new).await.unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("unknown agent id \"old\""), "{refused}");
    daemon.stop().await;
}
