//! `tree.*`: what operators see of the tree.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::{Client, Daemon};

const DEEP: &str = "{ agents: { defaults: { subagents: { maxSpawnDepth: 3 } } } }";
const BOTH: &[&str] = &["operator.read", "operator.write"];

/// A prompt whose agent spawns one that is soon done, and one whose agent spawns one that works on and on.
fn three_levels() -> String {
    let leaf = json!({ "task": "Wait: 10m", "label": "leaf" });
    let middle = json!({ "task": format!("Spawn: {leaf}"), "label": "middle" });
    format!("Spawn: {middle}\nSpawn: {}", json!({ "task": "Reply with exactly: done", "label": "quick" }))
}

async fn send(client: &mut Client, message: &str) {
    let params = json!({ "sessionKey": "main", "message": message, "idempotencyKey": "fan" });
    client.call("chat.send", params).await.unwrap();
}

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
    tokio::time::timeout(Duration::from_secs(20), look).await.expect("the tree comes to look so")
}

fn nodes(tree: &Value) -> &Vec<Value> {
    tree["nodes"].as_array().unwrap()
}

fn labelled<'a>(tree: &'a Value, label: &str) -> &'a Value {
    nodes(tree).iter().find(|node| node["session"]["label"] == label).unwrap_or(&Value::Null)
}

fn run_of<'a>(tree: &'a Value, session: &Value) -> &'a Value {
    let found = nodes(tree).iter().find(|node| node["parent"] == session["id"] && node["kind"] == "run");
    found.map_or(&Value::Null, |node| &node["run"])
}

fn doing<'a>(tree: &'a Value, label: &str) -> &'a Value {
    &run_of(tree, labelled(tree, label))["doing"]
}

fn stands(tree: &Value) -> bool {
    let main = nodes(tree).iter().find(|node| node["session"]["key"] == "agent:main:main");
    labelled(tree, "quick")["session"]["status"] == "ok"
        && labelled(tree, "quick")["state"] == "sleeping"
        && doing(tree, "leaf") == "model"
        && doing(tree, "middle") == "waiting for children"
        // What the session had used before it was woken is read a moment later.
        && main.is_some_and(|main| main["session"]["subtree"]["usage"]["input"].as_u64() > Some(0))
}

/// A client's tree by what it was told.
#[derive(Default)]
struct Told {
    rev: u64,
    nodes: BTreeMap<String, Value>,
    full: u32,
}

impl Told {
    fn of(snapshot: &Value) -> Self {
        let mut told = Self { rev: snapshot["rev"].as_u64().unwrap(), ..Self::default() };
        told.put(&snapshot["nodes"]);
        told
    }

    fn put(&mut self, nodes: &Value) {
        for node in nodes.as_array().unwrap() {
            self.nodes.insert(node["id"].as_str().unwrap().to_owned(), node.clone());
        }
    }

    /// Takes an event. Each builds on the one before it, and no node lacks its parent.
    fn take(&mut self, event: &Value) {
        let payload = event;
        let rev = payload["rev"].as_u64().unwrap();
        assert!(rev > self.rev, "{rev} after {}", self.rev);
        if payload["full"] == true {
            *self = Self { full: self.full + 1, ..Self::of(payload) };
        } else {
            assert_eq!(payload["base"].as_u64(), Some(self.rev), "{payload}");
            for gone in payload["gone"].as_array().unwrap() {
                assert!(self.nodes.remove(gone.as_str().unwrap()).is_some(), "{gone} was not there");
            }
            self.put(&payload["changed"]);
            self.rev = rev;
        }
        for node in self.nodes.values() {
            let parent = node["parent"].as_str();
            assert!(parent.is_none_or(|parent| self.nodes.contains_key(parent)), "{node} hangs in the air");
        }
    }

    /// Takes the client's events until the tree is as wanted.
    async fn until(&mut self, client: &mut Client, wanted: impl Fn(&Self) -> bool) {
        while !wanted(self) {
            let event = client.event("tree", |event| event["rev"].as_u64() > Some(self.rev)).await;
            self.take(&event);
        }
    }

    fn run_in(&self, label: &str) -> &Value {
        let session = self.nodes.values().find(|node| node["session"]["label"] == label);
        let run = |node: &&Value| {
            session.is_some_and(|session| node["parent"] == session["id"]) && node["kind"] == "run"
        };
        self.nodes.values().find(run).map_or(&Value::Null, |node| &node["run"])
    }
}

#[tokio::test]
async fn three_levels_of_agents_are_shown_with_what_each_is_about() {
    let daemon = Daemon::with(DEEP).await;
    let mut client = daemon.client_with(BOTH).await;
    send(&mut client, &three_levels()).await;
    let tree = tree_until(&mut client, json!({}), stands).await;
    let of = |label| labelled(&tree, label);
    let main = nodes(&tree).iter().find(|node| node["session"]["key"] == "agent:main:main").unwrap();
    // Who hangs below whom, and where.
    assert_eq!((&of("leaf")["parent"], &of("middle")["parent"]), (&of("middle")["id"], &main["id"]));
    assert_eq!(of("quick")["parent"], main["id"]);
    let path = |node: &Value| node["path"].as_str().unwrap().to_owned();
    assert_eq!(path(of("leaf")), format!("{}/{}", path(of("middle")), of("leaf")["name"].as_str().unwrap()));
    let children = |node: &Value| node["session"]["children"].clone();
    assert_eq!(children(main), json!({ "live": 1, "done": 1, "failed": 0 }));
    assert_eq!(children(of("middle")), json!({ "live": 1, "done": 0, "failed": 0 }));
    // What each is about.
    let root = run_of(&tree, main);
    assert_eq!(
        (&root["runId"], &root["state"], &root["cause"], &root["agentId"]),
        (&json!("fan"), &json!("yielded"), &json!("message"), &json!("main"))
    );
    let leaf = run_of(&tree, of("leaf"));
    assert_eq!((&leaf["step"], &leaf["lane"], &leaf["depth"]), (&json!(1), &json!("subagent"), &json!(2)));
    assert!(
        leaf["silentSince"].is_i64() && leaf["silent"].is_null() && leaf["costUsd"] == json!(0.0),
        "{leaf}"
    );
    assert_eq!(run_of(&tree, of("quick"))["text"], "done");
    assert_eq!(tree["totals"]["runs"], json!({ "running": 1, "queued": 0, "yielded": 2 }));
    // The subtree is what its parts are together.
    let input = |used: &Value| used["usage"]["input"].as_u64().unwrap();
    let parts: u64 = ["leaf", "middle", "quick"].map(|label| input(&of(label)["session"])).iter().sum();
    assert_eq!(input(&main["session"]["subtree"]), parts + input(&main["session"]));
    assert_eq!(tree["totals"]["usage"], main["session"]["subtree"]["usage"]);
    // The actors that the daemon has, and no others.
    let kinds: std::collections::BTreeSet<_> =
        nodes(&tree).iter().filter_map(|node| node["kind"].as_str()).collect();
    let traces = if cfg!(feature = "otlp") { "traces " } else { "" };
    let all = format!(
        "callbacks config connection gateway pairing projector retention root run session sessions store {traces}upkeep \
         watchdog watcher"
    );
    assert_eq!(kinds.into_iter().collect::<Vec<_>>().join(" "), all);
    daemon.stop().await;
}

#[tokio::test]
async fn a_part_of_the_tree_is_named_by_path_session_or_run() {
    let daemon = Daemon::with(DEEP).await;
    let mut client = daemon.client_with(BOTH).await;
    send(&mut client, &three_levels()).await;
    let tree = tree_until(&mut client, json!({}), stands).await;
    let middle = labelled(&tree, "middle");
    for name in [&middle["path"], &middle["session"]["key"]] {
        let part = client.call("tree.get", json!({ "path": name })).await.unwrap();
        let kinds: Vec<_> = nodes(&part).iter().map(|node| node["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["session", "session", "run", "run"], "{part}");
        assert_eq!(nodes(&part)[0]["id"], middle["id"]);
        assert_eq!(part["totals"]["runs"], json!({ "running": 1, "queued": 0, "yielded": 1 }));
    }
    let run = client.call("tree.get", json!({ "path": "fan" })).await.unwrap();
    assert_eq!((nodes(&run).len(), &nodes(&run)[0]["run"]["runId"]), (1, &json!("fan")));
    assert!(run["totals"]["usage"]["input"].as_u64() > Some(0), "{run}");
    assert_eq!(run["totals"]["usage"], nodes(&run)[0]["run"]["usage"]);
    let now = client.call("tree.get", json!({ "recent": false })).await.unwrap();
    assert_eq!(
        (labelled(&now, "quick"), labelled(&now, "leaf")["kind"].as_str()),
        (&Value::Null, Some("session"))
    );
    let few = client.call("tree.get", json!({ "limit": 3 })).await.unwrap();
    assert_eq!((nodes(&few).len(), &few["truncated"]), (3, &json!(true)));
    for (method, wrong, text) in [
        (
            "tree.get",
            json!({ "path": "agent:main:nobody" }),
            "there is no actor, session or run \"agent:main:nobody\"",
        ),
        ("tree.subscribe", json!({ "path": "nowhere" }), "there is no actor, session or run \"nowhere\""),
        ("tree.get", json!({ "limit": 0 }), "at /limit: 0 is not a number from 1 to 10000"),
        (
            "tree.subscribe",
            json!({ "intervalMs": 99 }),
            "at /intervalMs: 99 is not a number from 100 to 10000",
        ),
        ("runs.recent", json!({ "limit": 0 }), "at /limit: 0 is not a number from 1 to 10000"),
    ] {
        let error = client.call(method, wrong).await.unwrap_err();
        assert!(error["message"].as_str().unwrap().contains(text), "{error}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_tree_is_read_with_the_scope_for_reading() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client_with(&["operator.pairing"]).await;
    for method in ["tree.get", "tree.subscribe", "tree.unsubscribe", "runs.recent"] {
        let error = client.call(method, json!({})).await.unwrap_err();
        assert!(error["message"].as_str().unwrap().contains("operator.read"), "{error}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_watcher_is_told_what_changes_each_time_from_what_it_has() {
    let daemon = Daemon::with(DEEP).await;
    let mut client = daemon.client_with(BOTH).await;
    let answer = client.call("tree.subscribe", json!({ "intervalMs": 100 })).await.unwrap();
    assert_eq!(answer["subscribed"], true);
    let mut told = Told::of(&answer["snapshot"]);
    send(&mut client, &three_levels()).await;
    let at_work =
        |told: &Told| told.run_in("leaf")["doing"] == "model" && told.run_in("quick")["state"] == "ok";
    told.until(&mut client, at_work).await;
    assert_eq!(told.full, 0);
    // Another one of the same kind begins with a whole view, and both go on from there.
    let mut second = daemon.client_with(&["operator.read"]).await;
    let answer = second.call("tree.subscribe", json!({ "intervalMs": 100 })).await.unwrap();
    let mut other = Told::of(&answer["snapshot"]);
    client.call("sessions.abort", json!({ "key": "main" })).await.unwrap();
    for (client, told) in [(&mut client, &mut told), (&mut second, &mut other)] {
        told.until(client, |told| told.run_in("leaf")["state"] == "cancelled").await;
        assert_eq!(told.full, 0);
    }
    assert_eq!(client.call("tree.unsubscribe", json!({})).await.unwrap(), json!({ "subscribed": false }));
    daemon.stop().await;
}

/// More messages of a mebibyte than the kernel takes for a client that reads nothing, and less than it is closed for.
const BEHIND: usize = 20;

#[tokio::test]
async fn a_watcher_that_does_not_read_gets_a_whole_view_in_place_of_what_it_missed() {
    let daemon = Daemon::with(DEEP).await;
    let mut client = daemon.client_with(&["operator.admin"]).await;
    let mut slow = daemon.client_with(&["operator.read"]).await;
    // One who reads sees to it that the view goes on.
    let answer = client.call("tree.subscribe", json!({ "intervalMs": 100 })).await.unwrap();
    let mut seen = Told::of(&answer["snapshot"]);
    let answer = slow.call("tree.subscribe", json!({ "intervalMs": 100 })).await.unwrap();
    let mut told = Told::of(&answer["snapshot"]);
    send(&mut client, "Reply with exactly: hello").await;
    client.event("chat", |chat| chat["state"] == "final").await;
    slow.reader.read_nothing();
    for _ in 0..BEHIND {
        let params = json!({ "sessionKey": "main", "message": "x".repeat(1 << 20) });
        client.call("chat.inject", params).await.unwrap();
    }
    let params = json!({ "sessionKey": "main", "message": three_levels(), "idempotencyKey": "levels" });
    client.call("chat.send", params).await.unwrap();
    seen.until(&mut client, |seen| seen.run_in("leaf")["doing"] == "model").await;
    slow.reader.read_on();
    told.until(&mut slow, |told| told.run_in("leaf")["doing"] == "model").await;
    assert_eq!(told.full, 1, "whatever happened meanwhile is one view");
    // From there on it hears of changes again.
    client.call("sessions.abort", json!({ "key": "main" })).await.unwrap();
    told.until(&mut slow, |told| told.run_in("leaf")["state"] == "cancelled").await;
    assert_eq!(told.full, 1);
    daemon.stop().await;
}

#[tokio::test]
async fn runs_of_the_last_hour_are_there_after_a_restart() {
    let daemon = Daemon::with(DEEP).await;
    let mut client = daemon.client_with(BOTH).await;
    send(&mut client, &three_levels()).await;
    let tree = tree_until(&mut client, json!({}), stands).await;
    let recent = client.call("runs.recent", json!({})).await.unwrap();
    let states = |recent: &Value| -> Vec<(Value, Value)> {
        let runs = recent["runs"].as_array().unwrap().iter();
        runs.map(|run| (run["label"].clone(), run["state"].clone())).collect()
    };
    assert_eq!(recent["runs"][0]["runId"], "fan");
    let quick = labelled(&tree, "quick")["session"]["key"].clone();
    let main = json!("agent:main:main");
    let run = recent["runs"].as_array().unwrap().iter().find(|run| run["sessionKey"] == quick).unwrap();
    assert_eq!((&run["parentSession"], &run["parentRun"]), (&main, &recent["runs"][0]["id"]));
    let mut before = states(&recent);
    client.call("sessions.abort", json!({ "key": "main" })).await.unwrap();
    let daemon = daemon.restart().await;
    let mut client = daemon.client_with(BOTH).await;
    let tree =
        tree_until(&mut client, json!({}), |tree| labelled(tree, "leaf")["session"]["status"] == "cancelled")
            .await;
    assert_eq!(labelled(&tree, "quick")["session"]["status"], "ok");
    assert_eq!(run_of(&tree, labelled(&tree, "leaf"))["state"], "cancelled");
    let recent = client.call("runs.recent", json!({})).await.unwrap();
    before.iter_mut().filter(|(_, state)| state != "ok").for_each(|(_, state)| *state = json!("cancelled"));
    // The result that the aborted run had not read is for another run, which comes when it comes.
    let mut after = states(&recent);
    let more = after.split_off(before.len().min(after.len()));
    assert_eq!(after, before);
    assert!(more.len() <= 1 && more.iter().all(|(label, _)| label.is_null()), "{more:?}");
    daemon.stop().await;
}
