//! The main job, from outside: an agent's spawn is a message inside the process. Each test runs with the state in
//! the home directory and with a state directory elsewhere.

use serde_json::{Value, json};

use crate::daemon::Gateway;
use crate::support::World;

const MAIN: &str = "agent:main:main";

/// The configuration under which a gateway refused its own spawns.
const GATEWAY: &str = r#"{"gateway":{"mode":"local","port":18789,"bind":"loopback","auth":{"mode":"token","token":"0123456789abcdef0123456789abcdef0123456789abcdef"},"controlUi":{"allowInsecureAuth":true}},"agents":{"defaults":{"subagents":{"maxConcurrent":4}}}}"#;
const TOKEN: &str = r#""token":"0123456789abcdef0123456789abcdef0123456789abcdef""#;
const SPAWN: &str = r#"Spawn: {"task":"Reply with exactly: SUBAGENT_OK","runtime":"subagent","mode":"run","cleanup":"delete","timeoutSeconds":20,"runTimeoutSeconds":20}"#;

const FINANCE: &str = "finance-financial-forecaster";
const FINANCE_SPAWN: &str =
    r#"Spawn: {"task":"Reply with exactly: FINANCE_AGENT_OK","agentId":"finance-financial-forecaster"}"#;

#[test]
fn one_command_spawns_a_subagent() {
    for world in World::both() {
        let done = world.run(&["spawn", "Reply with exactly: SUBAGENT_OK"]).exits(0);
        assert_eq!((done.stdout.lines().next(), done.stderr.as_str()), (Some("SUBAGENT_OK"), ""));
        let runs = world.runs();
        let child = runs.iter().find(|run| run["cause"] == "spawn").unwrap();
        for id in ["runId", "sessionKey"] {
            assert!(done.stdout.contains(child[id].as_str().unwrap()), "no {id} in {}", done.stdout);
        }
        assert_eq!(world.delivered(MAIN)[0]["text"], "SUBAGENT_OK");

        let done = world.run(&["spawn", "--json", "Reply with exactly: SUBAGENT_OK"]).exits(0);
        assert_eq!((&done.json()["result"], done.stderr.as_str()), (&json!("SUBAGENT_OK"), ""));
        assert!(world.state().join("offshoot.db").is_file());
    }
}

/// Whatever a process has open, none of it is a socket of a network.
#[cfg(target_os = "linux")]
#[test]
fn a_tree_has_no_network_socket() {
    use std::fs;

    let world = World::new();
    let mut running = world.start(&["run", "Spawn: {\"task\":\"Wait: 10m\"}"]);
    running.until("yielded");
    let process = format!("/proc/{}", running.pid());
    let mut network = String::new();
    for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"] {
        network.push_str(&fs::read_to_string(format!("{process}/net/{table}")).unwrap_or_default());
    }
    let open: Vec<String> = fs::read_dir(format!("{process}/fd"))
        .unwrap()
        .filter_map(|fd| Some(fs::read_link(fd.ok()?.path()).ok()?.to_str()?.to_owned()))
        .collect();
    assert!(open.iter().any(|file| file.ends_with("offshoot.db")), "{open:?}");
    let inode =
        |file: &String| file.strip_prefix("socket:[").map(|rest| rest.trim_end_matches(']').to_owned());
    for socket in open.iter().filter_map(inode) {
        assert!(!network.split_whitespace().any(|word| word == socket), "{socket} in {network}");
    }
    running.kill();
}

#[test]
fn an_agents_spawn_needs_no_gateway_however_that_authenticates() {
    let variants = [
        (GATEWAY.to_owned(), SPAWN.to_owned()),
        (GATEWAY.replace(TOKEN, r#""token":"""#), SPAWN.to_owned()),
        (GATEWAY.replace(r#""mode":"token""#, r#""mode":"none""#), SPAWN.to_owned()),
        (GATEWAY.to_owned(), format!("Call: sessions_list {{}}\nWait: 0ms\n{SPAWN}")),
    ];
    assert!(variants[1].0 != GATEWAY && variants[2].0 != GATEWAY);
    for (config, prompt) in variants {
        for world in World::both() {
            world.configure(&config);
            let done = world.run(&["run", &prompt]).exits(0);
            assert_eq!(
                (done.stdout.as_str(), done.stderr.as_str()),
                ("SUBAGENT_OK\n", ""),
                "{config} {prompt}"
            );

            let answers = world.tool_results(MAIN, "sessions_spawn");
            assert_eq!(answers.len(), 1, "{answers:?}");
            let answer = &answers[0];
            assert_eq!(answer["status"], "accepted", "{answer}");
            assert_eq!(answer["resolvedModel"], "builtin/rehearsal", "{answer}");
            let listed = world.tool_results(MAIN, "sessions_list");
            assert_eq!(listed.len(), usize::from(prompt.contains("sessions_list")));

            let runs = world.runs();
            assert_eq!(runs.len(), 2, "{runs:?}");
            let child = runs.iter().find(|run| run["runId"] == answer["runId"]).unwrap();
            assert_eq!(child["sessionKey"], answer["childSessionKey"]);
            assert_eq!((&child["state"], &child["timeoutMs"]), (&json!("ok"), &json!(20_000)));
            let delivered = world.delivered(MAIN);
            assert_eq!((delivered.len(), &delivered[0]["text"]), (1, &json!("SUBAGENT_OK")));
            let keys: Vec<Value> = world.sessions().iter().map(|row| row["sessionKey"].clone()).collect();
            assert_eq!(keys, [MAIN], "the child is deleted");
        }
    }
}

#[test]
fn another_agent_needs_to_be_allowed() {
    for world in World::both() {
        world.run(&["run", FINANCE_SPAWN]).exits(0);
        let answers = world.tool_results(MAIN, "sessions_spawn");
        assert_eq!(answers[0]["status"], "forbidden", "{answers:?}");
        assert_eq!(answers[0]["error"], "agentId is not allowed for sessions_spawn (allowed: none)");
        let hint = answers[0]["hint"].as_str().unwrap();
        assert!(hint.contains("agents.defaults.subagents.allowAgents"), "{hint}");
        assert_eq!(world.runs().len(), 1, "the parent's own");

        world
            .run(&["spawn", "--agent", FINANCE, "Reply with exactly: x"])
            .exits(3)
            .says("agentId is not allowed for sessions_spawn (allowed: none)")
            .says("hint:")
            .says("allowAgents");
        assert_eq!(world.runs().len(), 1);
    }
}

#[test]
fn another_agent_runs_where_it_is_allowed() {
    let list = json!([{"id": "main", "default": true}, {"id": FINANCE}]);
    let entry = |allowed: Value| json!({"id": "main", "subagents": {"allowAgents": allowed}});
    let defaults = |allowed: Value| json!({"subagents": {"allowAgents": allowed}});
    let entries = |allowed: Value| json!({"main": {"default": true, "subagents": {"allowAgents": allowed}}, FINANCE: {}});
    let variants = [
        json!({"defaults": defaults(json!([FINANCE])), "list": list}),
        json!({"defaults": defaults(json!(["*"])), "list": list}),
        json!({"list": [entry(json!([FINANCE])), {"id": FINANCE}]}),
        json!({"list": [entry(json!(["*"])), {"id": FINANCE}]}),
        json!({"entries": entries(json!([FINANCE]))}),
        json!({"entries": entries(json!(["*"]))}),
        json!({"defaults": defaults(json!([FINANCE]))}),
    ];
    for agents in variants {
        for world in World::both() {
            world.configure(&json!({"agents": agents}).to_string());
            let done = world.run(&["run", FINANCE_SPAWN]).exits(0);
            assert_eq!(done.stdout, "FINANCE_AGENT_OK\n", "{agents} {}", done.stderr);
            let child = world.delivered(MAIN)[0]["session"].clone();
            assert!(child.as_str().unwrap().starts_with(&format!("agent:{FINANCE}:subagent:")), "{child}");
        }
    }
}

#[test]
fn a_panic_ends_its_run_and_nothing_else() {
    let prompt = "Spawn: {\"task\":\"Reply with exactly: one\"}\n\
                  Spawn: {\"task\":\"Panic: index out of bounds\",\"label\":\"builder\"}\n\
                  Spawn: {\"task\":\"Wait: 50ms\\nReply with exactly: two\"}";
    for world in World::both() {
        let document = world.run(&["run", "--json", prompt]).exits(0).json();
        let mut lines: Vec<&str> = document["result"].as_str().unwrap().lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["builder: crashed: index out of bounds", "one", "two"]);
        let children: Vec<&Value> =
            document["tree"].as_array().unwrap().iter().filter(|node| node["level"] == 1).collect();
        let mut ends: Vec<(&str, u64)> = children
            .iter()
            .map(|node| &node["runs"][0])
            .map(|run| (run["state"].as_str().unwrap(), run["steps"].as_u64().unwrap()))
            .collect();
        ends.sort_unstable();
        assert_eq!(&ends[1..], [("ok", 1), ("ok", 1)], "no call of a sibling was repeated");
        assert_eq!((ends.len(), ends[0].0), (3, "crashed"));

        let told = world.delivered(MAIN);
        let crashed: Vec<&Value> = told.iter().filter(|item| item["state"] == "crashed").collect();
        assert_eq!((told.len(), crashed.len()), (3, 1), "{told:?}");
        assert_eq!(crashed[0]["reason"], "index out of bounds");
        assert_eq!(world.run(&["run", "Reply with exactly: next"]).exits(0).stdout, "next\n");
    }
}

#[test]
fn a_spawned_run_that_panics_is_told_by_the_exit_code() {
    for world in World::both() {
        let done = world.run(&["spawn", "--json", "Panic: boom"]).exits(1).says("ended as crashed: boom");
        let document = done.json();
        assert_eq!((&document["state"], &document["reason"]), (&json!("crashed"), &json!("boom")));
        assert_eq!(document["tree"][0]["runs"][0]["state"], "ok", "the parent was told: {document}");
        assert_eq!(world.delivered(MAIN)[0]["state"], "crashed");
        world.run(&["spawn", "Reply with exactly: next"]).exits(0);
        world.run(&["run", "Panic: boom"]).exits(1).says("ended as crashed: boom");
        world.run(&["run", "Reply with exactly: next"]).exits(0);
    }
}

#[test]
fn a_gateways_own_agents_are_never_asked_who_they_are() {
    let variants = [
        GATEWAY.to_owned(),
        GATEWAY.replace(TOKEN, r#""token":"""#),
        GATEWAY.replace(r#""mode":"token""#, r#""mode":"none""#),
    ];
    for config in variants {
        let world = World::with(&config);
        let _gateway = Gateway::start(&world);
        let after_a_tool = format!("Call: sessions_list {{}}\nWait: 0ms\n{SPAWN}");
        for (turn, prompt) in [SPAWN, &after_a_tool, SPAWN, &after_a_tool].into_iter().enumerate() {
            assert_eq!(world.run(&["run", prompt]).exits(0).stdout, "SUBAGENT_OK\n", "{config} {prompt}");
            let answers = world.tool_results(MAIN, "sessions_spawn");
            assert_eq!(answers.len(), turn + 1, "{answers:?}");
            assert!(answers.iter().all(|answer| answer["status"] == "accepted"), "{answers:?}");
        }
        let devices = world.run(&["devices", "list", "--json"]).exits(0).json();
        assert_eq!(devices, json!({"pending": [], "paired": []}));
    }
}
