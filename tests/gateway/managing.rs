//! What clients may change of sessions, and what they are told when they may not.

use serde_json::{Value, json};

use crate::rig::{Client, Connect, Daemon};

async fn refusal(client: &mut Client, method: &str, params: Value) -> String {
    client.call(method, params).await.unwrap_err()["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn no_day_is_too_odd_to_be_asked_for() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    for method in ["usage.cost", "sessions.usage"] {
        let refused = refusal(&mut client, method, json!({"startDate": "9999-13-01"})).await;
        assert!(refused.contains("startDate"), "{refused}");
        client.call(method, json!({"startDate": "2026-01-01", "endDate": "2026-01-02"})).await.unwrap();
    }
    daemon.stop().await;
}
