//! Who hears of what.

use serde_json::{Value, json};

use crate::rig::{Client, Connect, Daemon};

const TASK: &str = "Call: sessions_list {}\nReply with exactly: LISTED";

async fn run(client: &mut Client, name: &str) {
    let params = json!({"message": TASK, "idempotencyKey": name, "sessionKey": name});
    let id = client.send("agent", params).await;
    client.answer(&id).await.unwrap();
    client.answer(&id).await.unwrap();
}

/// What a client has heard up to the last event of a run.
async fn heard(client: &mut Client, run: &str) -> Vec<Value> {
    client.events_until(|event| event["event"] == "chat" && is_final(&event["payload"], run)).await
}

fn is_final(chat: &Value, run: &str) -> bool {
    chat["state"] == "final" && chat["runId"] == run
}

fn count(events: &[Value], name: &str) -> usize {
    events.iter().filter(|event| event["event"] == name).count()
}

fn tools(events: &[Value]) -> usize {
    events.iter().filter(|event| event["payload"]["stream"] == "tool" && event["event"] == "agent").count()
}

#[tokio::test]
async fn tool_events_go_to_whoever_started_the_run_and_asked_for_them() {
    let daemon = Daemon::start().await;
    let with_tools = || Connect { caps: vec!["tool-events"], ..Connect::default() };
    let mut starter = daemon.connect(with_tools()).await;
    let mut other = daemon.connect(with_tools()).await;
    let mut without = daemon.client().await;
    run(&mut starter, "one").await;
    let events = heard(&mut starter, "one").await;
    assert_eq!(tools(&events), 2, "{events:#?}");
    assert_eq!(count(&events, "session.tool"), 0);
    assert_eq!(tools(&heard(&mut other, "one").await), 0);
    run(&mut without, "two").await;
    assert_eq!(tools(&heard(&mut without, "two").await), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn who_may_not_read_hears_nothing_of_runs() {
    let daemon = Daemon::start().await;
    let mut blind = daemon.client_with(&["operator.pairing"]).await;
    let mut reader = daemon.client_with(&["operator.read"]).await;
    let mut writer = daemon.client_with(&["operator.write"]).await;
    run(&mut writer, "one").await;
    let events = heard(&mut reader, "one").await;
    assert!(count(&events, "agent") >= 3, "{events:#?}");
    for name in ["session.message", "sessions.changed", "session.tool"] {
        assert_eq!(count(&events, name), 0, "{name} is for those who subscribe");
    }
    blind.call("health", json!({})).await.unwrap();
    let events = blind.events();
    assert!(
        events.iter().all(|event| event["event"] == "presence" || event["event"] == "tick"),
        "{events:#?}"
    );
    assert_eq!(count(&events, "presence"), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_turn_that_a_result_starts_is_seen_like_any_other() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    // The reply comes before the child's: its result starts another turn.
    let message = "Spawn: {\"task\":\"Wait: 300ms\\nReply with exactly: LATER\"}\nFail: gone";
    let params = json!({"sessionKey": "main", "message": message, "idempotencyKey": "first"});
    client.call("chat.send", params).await.unwrap();
    let mine = |chat: &Value| chat["sessionKey"] == "agent:main:main";
    let first = client.event("chat", |chat| mine(chat) && chat["state"] == "error").await;
    assert_eq!(first["runId"], "first");
    let spawned = client.event("subagent.spawned", |_| true).await;
    assert_eq!(spawned["parentSessionKey"], "agent:main:main");
    let ended = client.event("subagent.ended", |_| true).await;
    assert_eq!((&ended["runId"], &ended["text"]), (&spawned["runId"], &json!("LATER")));
    let start = client
        .event("agent", |event| {
            event["sessionKey"] == "agent:main:main"
                && event["data"]["phase"] == "start"
                && event["runId"] != "first"
        })
        .await;
    let last = client.event("chat", |chat| mine(chat) && chat["state"] == "final").await;
    assert_eq!(last["runId"], start["runId"]);
    assert_eq!(last["message"]["content"][0]["text"], "LATER");
    daemon.stop().await;
}

#[tokio::test]
async fn each_client_counts_its_own_events_without_gaps() {
    let daemon = Daemon::start().await;
    let mut first = daemon.client().await;
    run(&mut first, "one").await;
    let mut second = daemon.client_with(&["operator.write"]).await;
    run(&mut second, "two").await;
    let events = heard(&mut second, "two").await;
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected);
    daemon.stop().await;
}

#[tokio::test]
async fn a_sub_agent_is_a_task_from_its_spawn_to_its_end() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let message = r#"Spawn: {"task":"\n Reply with exactly: DONE"}"#;
    client.send("agent", json!({"message": message, "idempotencyKey": "k"})).await;
    let ended = |event: &Value| event["event"] == "task" && event["payload"]["task"]["endedAt"].is_i64();
    let events = client.events_until(ended).await;
    let tasks: Vec<&Value> = events.iter().filter(|event| event["event"] == "task").collect();
    let of = |name: &str| tasks.iter().map(|event| &event["payload"]["task"][name]).collect::<Vec<_>>();
    assert_eq!(of("status"), ["queued", "running", "completed"], "{tasks:#?}");
    assert_eq!(of("title"), ["Reply with exactly: DONE"; 3]);
    let last = &tasks[2]["payload"]["task"];
    let got = client.call("tasks.get", json!({"taskId": last["id"]})).await.unwrap();
    for (name, value) in last.as_object().unwrap() {
        if !["updatedAt", "startedAt", "endedAt", "createdAt"].contains(&name.as_str()) {
            assert_eq!(got["task"][name], *value, "{name}");
        }
    }
    daemon.stop().await;
}
