//! `offshoot run`: an agent's own tool calls.

use serde_json::{Value, json};

use crate::support::World;

const SPAWN: &str = r#"Spawn: {"task":"Reply with exactly: SUBAGENT_OK","runtime":"subagent","mode":"run","cleanup":"delete","timeoutSeconds":20,"runTimeoutSeconds":20}"#;
const FINANCE: &str =
    r#"Spawn: {"task":"Reply with exactly: FINANCE_AGENT_OK","agentId":"finance-financial-forecaster"}"#;

/// The configuration under which a gateway refused its own spawns, with other ways to authenticate.
fn gateway(auth: &Value) -> String {
    json!({
        "gateway": {
            "mode": "local", "port": 18789, "bind": "loopback", "auth": auth,
            "controlUi": {"allowInsecureAuth": true},
        },
        "agents": {"defaults": {"subagents": {"maxConcurrent": 4}}},
    })
    .to_string()
}

#[test]
fn an_agents_spawn_needs_no_gateway_however_that_authenticates() {
    let token = "0123456789abcdef0123456789abcdef0123456789abcdef";
    let auths = [
        json!({"mode": "token", "token": token}),
        json!({"mode": "token", "token": ""}),
        json!({"mode": "none"}),
        json!({"mode": "none", "token": token}),
    ];
    for auth in auths {
        let world = World::with(&gateway(&auth));
        for prompt in [SPAWN.to_owned(), format!("Call: sessions_list {{}}\nWait: 0ms\n{SPAWN}")] {
            let done = world.run(&["run", &prompt]).exits(0);
            assert_eq!(done.stdout, "SUBAGENT_OK\n", "{auth} {prompt} {}", done.stderr);
            assert_eq!(done.stderr, "");
        }
        let keys: Vec<Value> = world.sessions().iter().map(|row| row["sessionKey"].clone()).collect();
        assert_eq!(keys, [json!("agent:main:main")], "the child is deleted");
    }
}

#[test]
fn another_agent_needs_to_be_allowed() {
    let world = World::new();
    let done = world.run(&["run", FINANCE]).exits(0);
    assert!(
        done.stdout.contains("agentId is not allowed for sessions_spawn (allowed: none)"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("allowAgents"), "{}", done.stdout);
    world
        .run(&["spawn", "--agent", "finance-financial-forecaster", "Reply with exactly: x"])
        .exits(3)
        .says("agentId is not allowed for sessions_spawn (allowed: none)")
        .says("hint:")
        .says("allowAgents");
}

#[test]
fn another_agent_runs_where_it_is_allowed() {
    let id = "finance-financial-forecaster";
    let list = json!([{"id": "main", "default": true}, {"id": id}]);
    let own = |allowed: Value| json!([{"id": "main", "subagents": {"allowAgents": allowed}}, {"id": id}]);
    let defaults = |allowed: Value| json!({"subagents": {"allowAgents": allowed}});
    let variants = [
        json!({"agents": {"defaults": defaults(json!([id])), "list": list}}),
        json!({"agents": {"defaults": defaults(json!(["*"])), "list": list}}),
        json!({"agents": {"list": own(json!([id]))}}),
        json!({"agents": {"list": own(json!(["*"]))}}),
        json!({"agents": {"defaults": defaults(json!([id]))}}),
    ];
    for config in variants {
        let done = World::with(&config.to_string()).run(&["run", FINANCE]).exits(0);
        assert_eq!(done.stdout, "FINANCE_AGENT_OK\n", "{config}");
    }
}

#[test]
fn siblings_of_a_panic_are_well() {
    let prompt = "Spawn: {\"task\":\"Reply with exactly: one\"}\n\
                  Spawn: {\"task\":\"Panic: index out of bounds\",\"label\":\"builder\"}\n\
                  Spawn: {\"task\":\"Wait: 50ms\\nReply with exactly: two\"}";
    let document = World::new().run(&["run", "--json", prompt]).exits(0).json();
    let mut lines: Vec<&str> = document["result"].as_str().unwrap().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["builder: crashed: index out of bounds", "one", "two"]);
    let tree = document["tree"].as_array().unwrap();
    let mut states: Vec<&str> = tree
        .iter()
        .filter(|node| node["level"] == 1)
        .map(|node| node["runs"][0]["state"].as_str().unwrap())
        .collect();
    states.sort_unstable();
    assert_eq!(states, ["crashed", "ok", "ok"]);
}

#[test]
fn answers_to_later_results_follow_in_order() {
    let world = World::with(r#"{ tools: { deny: ["sessions_yield"] } }"#);
    let prompt = "Spawn: {\"task\":\"Wait: 20ms\\nReply with exactly: later\"}\nReply with exactly: first";
    let done = world.run(&["run", prompt]).exits(0);
    assert_eq!(done.stdout, "first\nlater\n");
    let document = world.run(&["run", "--json", prompt]).exits(0).json();
    let answers: Vec<_> = document["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| (answer["cause"].as_str().unwrap(), answer["text"].as_str().unwrap()))
        .collect();
    assert_eq!(answers, [("message", "first"), ("announce", "later")]);
}

#[test]
fn an_answer_that_says_nothing_is_not_printed() {
    let world = World::with(r#"{ tools: { deny: ["sessions_yield"] } }"#);
    let prompt = "Spawn: {\"task\":\"Wait: 20ms\\nReply with exactly: NO_REPLY\"}\nReply with exactly: first";
    assert_eq!(world.run(&["run", prompt]).exits(0).stdout, "first\n");
}

#[test]
fn a_message_goes_to_the_session_that_is_named() {
    let world = World::with(r#"{ agents: { list: [{ id: "main" }, { id: "research" }] } }"#);
    world.run(&["run", "--agent", "research", "Reply with exactly: a"]).exits(0);
    world.run(&["run", "--session", "agent:research:notes", "Reply with exactly: b"]).exits(0);
    let mut keys: Vec<String> =
        world.sessions().iter().map(|row| row["sessionKey"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    assert_eq!(keys, ["agent:research:main", "agent:research:notes"]);
}

#[test]
fn the_exit_code_is_that_of_the_run() {
    let world = World::new();
    world.run(&["run", "Fail: out of ideas"]).exits(1).says("ended as error: out of ideas");
    world.run(&["run", "Panic: boom"]).exits(1).says("ended as crashed: boom");
    world.run(&["run", "--timeout", "1", "Wait: 10m"]).exits(124);
}

#[test]
fn twenty_of_twenty_five_parallel_spawns_pass_a_cap_of_twenty() {
    let config = r#"{ agents: { defaults: { subagents: { maxChildrenPerAgent: 20, maxConcurrent: 8 } } } }"#;
    let prompt: Vec<String> =
        (0..25).map(|n| format!("Spawn: {{\"task\":\"Wait: 100ms\\nReply with exactly: {n}\"}}")).collect();
    let document = World::with(config).run(&["run", "--json", &prompt.join("\n")]).exits(0).json();
    let tree = document["tree"].as_array().unwrap();
    let children: Vec<_> = tree.iter().filter(|node| node["level"] == 1).collect();
    assert_eq!(children.len(), 20);
    assert!(children.iter().all(|child| child["runs"][0]["state"] == "ok"));
}
