//! `deliveries.*`, and what else tells of deliveries.

use offshoot_actors::contract;
use offshoot_actors::types::Terminal;
use serde_json::{Value, json};

use crate::rig::{Client, Daemon};

/// A run whose parent is gone, and runs that are wanted outside: one of them has ended and nothing more is tried, the other
/// one goes on for ever.
async fn with_deliveries() -> Daemon {
    let daemon = Daemon::start().await;
    let main = contract::session("outside");
    let asked = contract::callback(2, "https://user:pass@receiver:8/path?token=secret");
    let orphan = contract::child_run(1, &main.key, &contract::key("gone"), None);
    let result = contract::queue(&contract::announce(1, &main.key, &contract::key("gone")));
    for transaction in [
        vec![contract::create(&main), contract::insert(&orphan), contract::end(1, Terminal::Ok), result],
        vec![contract::insert(&contract::run(2, &main.key)), contract::put_callback(&asked)],
        vec![contract::end(2, Terminal::Ok), contract::failed(&asked, 300, None)],
        vec![
            contract::insert(&contract::run(3, &main.key)),
            contract::put_callback(&contract::callback(3, "http://a/")),
        ],
    ] {
        contract::apply(daemon.storage(), transaction).await;
    }
    daemon
}

fn id(number: u64) -> Value {
    json!(contract::run_id(number).to_string())
}

async fn rows(client: &mut Client, params: Value) -> Vec<Value> {
    let list = client.call("deliveries.list", params).await.unwrap();
    list["deliveries"].as_array().unwrap().clone()
}

#[tokio::test]
async fn deliveries_are_listed_by_pages_and_shown_without_secrets() {
    let daemon = with_deliveries().await;
    let mut client = daemon.client_with(&["operator.read"]).await;
    let all = client.call("deliveries.list", json!({})).await.unwrap();
    assert_eq!(all["counts"], json!({ "open": 1, "failed": 1, "givenUp": 1, "undeliverable": 1 }));
    assert!(!all.to_string().contains("secret") && !all.to_string().contains("pass"), "{all}");
    let shown: Vec<_> = all["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["runId"].clone(), row["state"].clone(), row["receiver"].clone()))
        .collect();
    assert_eq!(
        shown,
        [
            (id(3), json!("open"), json!("http://a")),
            (id(2), json!("failed"), json!("https://receiver:8")),
            (id(1), json!("undeliverable"), json!("agent:main:gone")),
        ]
    );
    let first = client.call("deliveries.list", json!({ "limit": 2 })).await.unwrap();
    assert_eq!(first["deliveries"].as_array().unwrap().len(), 2);
    let rest = rows(&mut client, json!({ "limit": 2, "cursor": first["nextCursor"] })).await;
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0]["reason"], "the session that it is for does not exist any more");
    let only = json!({ "state": "failed", "kind": "callback", "sessionKey": "agent:main:outside" });
    assert_eq!(rows(&mut client, only).await.len(), 1);
    let one = client.call("deliveries.show", json!({ "runId": id(2) })).await.unwrap();
    assert_eq!(one["deliveries"][0]["attempts"], 300);
    for (params, problem) in [
        (json!({ "state": "lost" }), "at /state"),
        (json!({ "kind": "post" }), "at /kind"),
        (json!({ "runId": "x" }), "at /runId"),
        (json!({ "limit": 0 }), "at /limit"),
        (json!({ "cursor": "x" }), "at /cursor"),
    ] {
        let refused = client.call("deliveries.list", params).await.unwrap_err();
        assert!(refused["message"].as_str().unwrap().contains(problem), "{refused}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn only_administrators_decide_on_deliveries() {
    let daemon = with_deliveries().await;
    let mut reader = daemon.client_with(&["operator.read", "operator.write"]).await;
    for method in ["deliveries.retry", "deliveries.dismiss"] {
        let refused = reader.call(method, json!({ "runId": id(2) })).await.unwrap_err();
        assert!(refused["message"].as_str().unwrap().contains("operator.admin"), "{refused}");
    }
    let mut client = daemon.client().await;
    let unknown = client.call("deliveries.show", json!({ "runId": id(9) })).await.unwrap_err();
    assert_eq!(unknown["details"]["code"], "unknown_delivery");
    let retried = client.call("deliveries.retry", json!({ "runId": id(1) })).await.unwrap_err();
    assert_eq!(retried["details"]["code"], "undeliverable");
    for number in [1, 2, 3] {
        let done = client.call("deliveries.dismiss", json!({ "runId": id(number) })).await.unwrap();
        assert_eq!(done["delivery"]["state"], "dismissed");
    }
    let again = client.call("deliveries.dismiss", json!({ "runId": id(3) })).await.unwrap_err();
    assert_eq!(again["details"]["code"], "settled");
    let counts = client.call("deliveries.list", json!({ "limit": 1 })).await.unwrap()["counts"].clone();
    assert_eq!(counts, json!({ "open": 0, "failed": 0, "givenUp": 0, "undeliverable": 0 }));
    daemon.stop().await;
}

#[tokio::test]
async fn status_and_health_count_what_reaches_nobody() {
    let daemon = with_deliveries().await;
    let mut client = daemon.client().await;
    let status = client.call("status", json!({})).await.unwrap();
    let counts = json!({ "open": 1, "failed": 1, "givenUp": 1, "undeliverable": 1 });
    assert_eq!(status["deliveries"], counts);
    assert_eq!(status["taskAudit"]["byCode"]["delivery_failed"], 2);
    let daemon = daemon.restart().await;
    let mut client = daemon.client().await;
    assert_eq!(client.call("health", json!({})).await.unwrap()["deliveries"], counts);
    daemon.stop().await;
}
