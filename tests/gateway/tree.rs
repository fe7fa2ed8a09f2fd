//! `tree.*`: what operators see of the tree.

use serde_json::{Value, json};

use crate::rig::{Client, Daemon};

/// A prompt whose agent spawns one whose agent spawns one that works on and on.
fn three_levels() -> String {
    let leaf = json!({ "task": "Wait: 10m", "label": "leaf" });
    let middle = json!({ "task": format!("Spawn: {leaf}"), "label": "middle" });
    format!("Spawn: {middle}\nSpawn: {}", json!({ "task": "Reply with exactly: done", "label": "quick" }))
}

const DEEP: &str = "{ agents: { defaults: { subagents: { maxSpawnDepth: 3 } } } }";

/// Waits until the tree is as wanted.
async fn tree_until(client: &mut Client, params: Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let look = async {
        loop {
            let tree = client.call("tree.get", params.clone()).await.unwrap();
            if wanted(&tree) {
                return tree;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), look).await.expect("the tree comes to look so")
}

fn nodes(tree: &Value) -> &Vec<Value> {
    tree["nodes"].as_array().unwrap()
}

fn labelled<'a>(tree: &'a Value, label: &str) -> Option<&'a Value> {
    nodes(tree).iter().find(|node| node["session"]["label"] == label)
}

fn run_of<'a>(tree: &'a Value, session: &Value) -> Option<&'a Value> {
    nodes(tree).iter().find(|node| node["parent"] == session["id"] && node["kind"] == "run")
}

async fn fan_out(client: &mut Client) -> Value {
    client
        .call("chat.send", json!({ "sessionKey": "main", "message": three_levels(), "idempotencyKey": "fan" }))
        .await
        .unwrap();
    tree_until(client, json!({}), |tree| {
        let doing = |label: &str| {
            let session = labelled(tree, label)?;
            Some(run_of(tree, session)?["run"]["doing"].clone())
        };
        let quick = labelled(tree, "quick").is_some_and(|session| session["session"]["status"] == "ok");
        quick && doing("leaf") == Some(json!("model")) && doing("middle") == Some(json!("waiting for children"))
    })
    .await
}

#[tokio::test]
async fn three_levels_of_agents_are_shown_with_what_each_is_about() {
    let daemon = Daemon::with(DEEP).await;
    let mut client = daemon.client_with(&["operator.read", "operator.write"]).await;
    let tree = fan_out(&mut client).await;
    println!("{}", serde_json::to_string_pretty(&tree).unwrap());
    daemon.stop().await;
}
