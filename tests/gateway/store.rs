//! What clients are told of a store that gives way.

use serde_json::{Value, json};

use crate::rig::Daemon;

fn request(key: &str) -> Value {
    json!({"message": "Reply with exactly: x", "idempotencyKey": key})
}

#[tokio::test]
async fn clients_are_told_when_the_store_refuses_work_and_when_it_takes_it_again() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    daemon.hide("offshoot.db");
    let refused = client.call("agent", request("one")).await.unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("put it back"), "{refused}");
    // Whoever asks is told at once, the others soon.
    let health = client.call("health", json!({})).await.unwrap();
    assert_eq!((&health["ok"], &health["store"]["refuses"]["kind"]), (&json!(false), &json!("unavailable")));
    let late = daemon.client().await;
    assert_eq!(late.hello["snapshot"]["health"]["ok"], false);
    client.event("health", |health| health["ok"] == false).await;
    daemon.show("offshoot.db");
    let health = client.event("health", |health| health["ok"] == true).await;
    assert_eq!(health["store"], json!({"ok": true, "refuses": null, "damaged": null}));
    client.call("agent", request("one")).await.unwrap();
    daemon.stop().await;
}
