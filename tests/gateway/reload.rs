//! A configuration file that changes while the daemon runs.

use serde_json::{Value, json};

use crate::rig::{Client, Daemon};

fn config(bind: &str, auth: &str, more: &str) -> String {
    format!("{{ gateway: {{ bind: '{bind}', auth: {{ {auth} }}, reload: {{ debounceMs: 0 }} }}, {more} }}")
}

fn agents(allowed: &str) -> String {
    let list = format!("[{{ id: 'main', subagents: {{ allowAgents: [{allowed}] }} }}, {{ id: 'other' }}]");
    config("loopback", "", &format!("agents: {{ list: {list} }}"))
}

/// What the daemon says of its file once it has looked at a change.
async fn looked_at(client: &mut Client) -> Value {
    client.event("health", |_| true).await["configReload"].take()
}

/// What an agent says to a request to start another one, with the result of that.
async fn spawn(client: &mut Client, key: &str) -> String {
    let task = json!({"task": "Reply with exactly: FROM_OTHER", "agentId": "other"});
    let id = client.send("agent", json!({"message": format!("Spawn: {task}"), "idempotencyKey": key})).await;
    client.answer(&id).await.unwrap();
    client.response(&id).await.to_string()
}

#[tokio::test]
async fn an_agent_that_is_allowed_on_disk_is_allowed_for_the_next_spawn() {
    let daemon = Daemon::with_file(&agents("")).await;
    let mut client = daemon.client().await;
    let refused = spawn(&mut client, "before").await;
    assert!(!refused.contains("FROM_OTHER"), "{refused}");
    daemon.configure(&agents("'other'"));
    assert_eq!(looked_at(&mut client).await["restartRequired"], json!([]));
    let allowed = spawn(&mut client, "after").await;
    assert!(allowed.contains("FROM_OTHER"), "{allowed}");
    assert_eq!(daemon.configuration(), agents("'other'"), "nothing rewrites it");
    daemon.stop().await;
}

#[tokio::test]
async fn a_wrong_file_is_reported_and_the_old_one_stays_in_force_until_it_is_mended() {
    let daemon = Daemon::with_file(&agents("")).await;
    let mut client = daemon.client().await;
    daemon.configure("{ gateway: { port: 'high' } }");
    let report = looked_at(&mut client).await;
    assert!(report["lastError"].as_str().unwrap().contains("gateway.port"), "{report}");
    let listed = client.call("agents.list", json!({})).await.unwrap();
    assert_eq!(listed["agents"].as_array().unwrap().len(), 2);
    daemon.configure(&config("loopback", "", ""));
    assert_eq!(looked_at(&mut client).await.get("lastError"), None);
    let listed = client.call("agents.list", json!({})).await.unwrap();
    assert_eq!(listed["agents"].as_array().unwrap().len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named() {
    let daemon = Daemon::with_file(&config("loopback", "", "")).await;
    let mut client = daemon.client().await;
    daemon.configure(&config("lan", "", "store: { durability: 'normal' }"));
    let report = looked_at(&mut client).await;
    assert_eq!(report["restartRequired"], json!(["gateway.bind", "store.durability"]));
    // Which the daemon has already, if by another way than the file.
    let port = |port: u16| format!("{{ gateway: {{ port: {port}, reload: {{ debounceMs: 0 }} }} }}");
    let its = daemon.address().port();
    daemon.configure(&port(its));
    assert_eq!(looked_at(&mut client).await["restartRequired"], json!([]));
    daemon.configure(&port(if its == 1 { 2 } else { 1 }));
    assert_eq!(looked_at(&mut client).await["restartRequired"], json!(["gateway.port"]));
    daemon.stop().await;
}

#[tokio::test]
async fn who_proved_a_secret_that_is_no_more_is_sent_away() {
    let daemon = Daemon::with_file(&config("loopback", "", "")).await;
    let mut client = daemon.client().await;
    daemon.configure(&config("loopback", "token: 'a-newer-token'", ""));
    assert_eq!(client.closed().await, (4001, "gateway auth changed".to_owned()));
    daemon.stop().await;
}

#[tokio::test]
async fn what_was_changed_between_reading_and_looking_is_not_missed() {
    let daemon = Daemon::with_file(&agents("")).await;
    daemon.configure(&config("loopback", "", ""));
    let mut client = daemon.client().await;
    looked_at(&mut client).await;
    let listed = client.call("agents.list", json!({})).await.unwrap();
    assert_eq!(listed["agents"].as_array().unwrap().len(), 1);
    daemon.stop().await;
}
