//! The commands that run and change something, where a gateway has the state directory.

use rustix::process::Signal;
use serde_json::json;

use crate::daemon::Gateway;
use crate::support::World;

const ALLOWED: &str = r#"{ agents: { defaults: { subagents: { maxSpawnDepth: 1 } } } }"#;

#[test]
fn a_sub_agent_is_spawned_in_the_gateway() {
    for world in World::both() {
        let gateway = Gateway::start(&world);
        let done = world.run(&["spawn", "--json", "--label", "papers", "Reply with exactly: SUBAGENT_OK"]);
        let document = done.exits(0).json();
        assert_eq!((&document["result"], &document["state"]), (&json!("SUBAGENT_OK"), &json!("ok")));
        assert_eq!(document["tree"][0]["sessionKey"], "agent:main:main");
        assert_eq!(document["tree"][1]["label"], "papers");
        assert_eq!(document["tree"][1]["sessionKey"], document["childSessionKey"]);
        let told = world.run(&["spawn", "Reply with exactly: TOLD"]).exits(0).stdout;
        assert!(told.starts_with("TOLD\n\nrun ") && told.contains("agent:main:main\n└─ "), "{told}");
        world.run(&["gateway", "stop"]).exits(0);
        gateway.done().exits(0);
        let runs = world.runs();
        let spawned = runs.iter().find(|run| run["runId"] == document["runId"]).unwrap();
        assert_eq!((&spawned["host"], &spawned["cause"]), (&json!("daemon"), &json!("spawn")));
    }
}

#[test]
fn a_message_is_answered_with_what_its_sub_agents_found() {
    // So the run ends, and another one takes the result.
    let world = World::with(r#"{ tools: { deny: ["sessions_yield"] } }"#);
    let _gateway = Gateway::start(&world);
    assert_eq!(world.run(&["run", "Reply with exactly: hello"]).exits(0).stdout, "hello\n");
    let message = "Spawn: {\"task\": \"Wait: 300ms\\nReply with exactly: found\", \"label\": \"slow\"}";
    let document = world.run(&["run", "--session", "agent:main:notes", "--json", message]).exits(0).json();
    assert_eq!(document["sessionKey"], "agent:main:notes");
    let sessions: Vec<_> =
        document["tree"].as_array().unwrap().iter().map(|node| node["label"].clone()).collect();
    assert!(sessions.contains(&json!("slow")), "{document}");
    let delivered = world.delivered("agent:main:notes");
    assert_eq!(delivered.len(), 1, "the command ended before the result was there");
    assert_eq!(delivered[0]["text"], "found");
    let answers = document["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 2, "{document}");
    assert_eq!((&answers[0]["cause"], &answers[1]["cause"]), (&json!("message"), &json!("announce")));
    assert_eq!(answers[1]["text"], "found");
}

#[test]
fn a_refusal_looks_as_it_would_without_a_gateway() {
    let world = World::with(ALLOWED);
    let (long, nobody) = ("x".repeat(600), "agent:nobody:main");
    let commands: [(&[&str], i32, &str); 15] = [
        (&["spawn", "--agent", "finance", "x"], 3, "allowAgents"),
        (&["spawn", "--agent", "!", "x"], 2, "Invalid agentId"),
        (&["spawn", "--parent", "agent:main:subagent:0", "x"], 5, "no session agent:main:subagent:0"),
        (&["spawn", "--parent", nobody, "x"], 5, "there is no session"),
        (&["spawn", "--model", "openai/gpt-5.4", "x"], 2, "OPENAI_API_KEY"),
        (&["spawn", "--label", &long, "x"], 2, "label has 600 bytes"),
        (&["spawn", " "], 2, "task is empty"),
        (&["run", "--agent", "nobody", "x"], 2, "configured are main"),
        (&["run", "--agent", "!", "x"], 2, "invalid agent id"),
        (&["run", "--session", nobody, "x"], 2, "there is no agent nobody"),
        (&["run", "--session", "agent:main:subagent:0", "x"], 5, "offshoot sessions list"),
        (&["run", "--model", "openai/gpt-5.4", "x"], 2, "OPENAI_API_KEY"),
        (&["run", ""], 2, "the message is empty"),
        (&["run", "/reset"], 2, "sessions.reset"),
        (&["runs", "cancel", "00000000-0000-0000-0000-000000000000"], 5, "there is no run"),
    ];
    world.run(&["run", "x"]).exits(0);
    let answers = || -> Vec<_> {
        let ask = |(arguments, code, text): &(&[&str], i32, &str)| {
            let done =
                world.run(&[arguments, &["--json", "--log", "off"][..]].concat()).exits(*code).says(text);
            (done.stdout, done.stderr)
        };
        commands.iter().map(ask).collect()
    };
    let without = answers();
    let _gateway = Gateway::start(&world);
    for ((with, without), (arguments, ..)) in answers().iter().zip(&without).zip(&commands) {
        assert_eq!(with, without, "{arguments:?}");
    }
}

#[test]
fn a_signal_cancels_what_was_asked_for_and_nothing_else() {
    let world = World::new();
    let _gateway = Gateway::start(&world);
    let other = world.start(&["run", "--session", "agent:main:other", "Wait: 1h"]);
    let ours = world.start(&["run", "--session", "agent:main:ours", "Spawn: {\"task\": \"Wait: 1h\"}"]);
    while world.runs().iter().filter(|run| run["state"] == "running").count() < 2 {}
    ours.signal(Signal::INT);
    ours.done().exits(130).says("cancelled run");
    let states = |session: &str| -> Vec<String> {
        let of = world.runs().into_iter().filter(|run| run["sessionKey"] == session);
        of.map(|run| run["state"].as_str().unwrap().to_owned()).collect()
    };
    let children: Vec<_> = world.runs().into_iter().filter(|run| run["cause"] == "spawn").collect();
    assert_eq!(children.len(), 1);
    assert_eq!(children[0]["state"], "cancelled");
    assert_eq!(states("agent:main:other"), ["running"]);
    let run = world.runs().into_iter().find(|run| run["sessionKey"] == "agent:main:other").unwrap();
    let id = run["runId"].as_str().unwrap();
    let cancelled = world.run(&["runs", "cancel", "--json", id]).exits(0).json();
    assert_eq!((&cancelled["status"], &cancelled["ended"]), (&json!("cancelled"), &json!([id])));
    other.done().exits(1).says("cancelled");
    world.run(&["runs", "cancel", id]).exits(1).says("had ended before");
}

#[test]
fn a_session_is_deleted_in_the_gateway() {
    let world = World::new();
    let _gateway = Gateway::start(&world);
    world.run(&["run", "--session", "agent:main:notes", "Reply with exactly: x"]).exits(0);
    world.run(&["sessions", "delete", "notes"]).exits(2).says("--yes");
    let deleted = world.run(&["sessions", "delete", "notes", "--yes", "--json"]).exits(0).json();
    assert_eq!(deleted["deleted"], json!(["agent:main:notes"]));
    world.run(&["sessions", "delete", "notes", "--yes"]).exits(5);
}

#[test]
fn who_waits_hears_that_the_gateway_ends() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    let waits = world.start(&["run", "Wait: 1h"]);
    gateway.kill();
    waits.done().exits(4).says("is open in the store").says("offshoot runs show");
    let world = World::new();
    let gateway = Gateway::start(&world);
    let waits = world.start(&["run", "Wait: 1h"]);
    world.run(&["gateway", "stop"]).exits(0);
    gateway.done().exits(0);
    waits.done().exits(4).says("the gateway was stopped; run ");
}

#[test]
fn what_a_killed_gateway_left_open_is_called_suspended_until_the_next_one_goes_on_with_it() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    let waiting = world.start(&["run", "Wait: 1h"]);
    let id = world.runs()[0]["runId"].as_str().unwrap().to_owned();
    assert_eq!(world.runs()[0]["suspended"], false);
    gateway.kill();
    drop(waiting);
    let listed = world.run(&["runs", "list"]).exits(0).says("1 run is suspended").says("`offshoot gateway`");
    assert!(listed.stdout.contains("suspended") && !listed.stdout.contains("running"), "{}", listed.stdout);
    let _next = Gateway::start(&world);
    let shown = world.run(&["runs", "show", "--json", &id]).exits(0).json();
    assert_eq!((&shown["state"], &shown["suspended"]), (&json!("running"), &json!(false)));
    world.run(&["runs", "cancel", &id]).exits(0);
}
