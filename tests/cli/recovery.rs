//! What the shipped program goes on with after it was killed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::daemon::Gateway;
use super::support::World;

const MAIN: &str = "agent:main:main";

fn spawn(task: &str) -> String {
    format!("Spawn: {}", json!({ "task": task }))
}

fn run<'r>(runs: &'r [Value], id: &str) -> &'r Value {
    runs.iter().find(|run| run["runId"] == id).unwrap()
}

/// The run of the main session that a client's message started.
fn parent(world: &World) -> String {
    let runs = world.runs();
    let run = runs.iter().find(|run| run["sessionKey"] == MAIN && run["cause"] == "message").unwrap();
    run["runId"].as_str().unwrap().to_owned()
}

#[test]
fn a_parent_that_waits_for_five_wakes_once_after_a_kill() {
    let world = World::with(r#"{ agents: { defaults: { subagents: { maxConcurrent: 2 } } } }"#);
    let gateway = Gateway::start(&world);
    let tasks = ["one", "two", "three", "four", "five"];
    let wait = |number: usize| if number < 2 { "" } else { "Wait: 2s\n" };
    let lines: Vec<String> = tasks
        .iter()
        .enumerate()
        .map(|(number, task)| spawn(&format!("{}Reply with exactly: {task}", wait(number))))
        .collect();
    let asks = world.begin(&["run", &lines.join("\nWait: 0ms\n")]);
    // Two have ended, two work, one waits in its lane, and the parent waits for all of them.
    let count = |runs: &[Value], state: &str| runs.iter().filter(|run| run["state"] == state).count();
    loop {
        let runs = world.runs();
        let of = |state| count(&runs, state);
        if (of("yielded"), of("ok"), of("running"), of("accepted")) == (1, 2, 2, 1) {
            break;
        }
        assert!(of("ok") < 3, "{runs:?}");
    }
    let parent = parent(&world);
    gateway.kill();
    asks.done().exits(4);
    let _gateway = Gateway::start(&world);
    while run(&world.runs(), &parent)["state"] != "ok" {}
    let results = world.delivered(MAIN);
    let texts: BTreeSet<&str> = results.iter().map(|item| item["text"].as_str().unwrap()).collect();
    assert_eq!((results.len(), texts), (5, tasks.into_iter().collect()));
    let runs = world.runs();
    assert_eq!(run(&runs, &parent)["steps"], 7, "it spawned five times, waited, and answered once");
    assert_eq!(count(&runs, "ok"), runs.len(), "{runs:?}");
    assert_eq!(runs.len(), 6, "nothing was spawned or answered twice");
}

#[cfg(feature = "faults")]
#[test]
fn a_run_that_brings_the_process_down_each_time_is_put_aside_by_the_third_start() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    let asks = world.begin(&["run", &spawn("Wait: 1s\nAbort:")]);
    gateway.dies();
    asks.done().exits(4);
    Gateway::start(&world).dies();
    let gateway = Gateway::start(&world);
    let parent = parent(&world);
    while run(&world.runs(), &parent)["state"] != "ok" {}
    let results = world.delivered(MAIN);
    assert_eq!(results.len(), 1);
    assert_eq!(results[0]["state"], "interrupted");
    assert!(results[0]["reason"].as_str().unwrap().starts_with("quarantined"), "{results:?}");
    assert_eq!(world.run(&["run", "Reply with exactly: UP"]).exits(0).stdout, "UP\n");
    drop(gateway);
}

#[test]
fn a_spawn_says_whether_its_run_is_resumed() {
    for (configured, asked, wanted) in [("interrupt", "resume", "ok"), ("resume", "interrupt", "interrupted")]
    {
        let config =
            |mode: &str| format!("{{ agents: {{ defaults: {{ recovery: {{ mode: '{mode}' }} }} }} }}");
        let world = World::with(&config(configured));
        let gateway = Gateway::start(&world);
        let task = "Wait: 1s\nReply with exactly: x";
        let begun = [
            world.begin(&["spawn", "--label", "asked", "--recovery", asked, task]),
            world.begin(&["spawn", "--label", "configured", task]),
        ];
        while world.runs().iter().filter(|run| run["state"] == "running").count() < 2 {}
        gateway.kill();
        begun.into_iter().for_each(|spawn| _ = spawn.done().exits(4));
        let _gateway = Gateway::start(&world);
        let state = |label: &str| {
            let sessions = world.sessions();
            let session = sessions.iter().find(|session| session["label"] == label).unwrap();
            let runs = world.runs();
            runs.iter().find(|run| run["sessionKey"] == session["sessionKey"]).unwrap()["state"].clone()
        };
        while state("asked") == "running" || state("configured") == "running" {}
        let other = if wanted == "ok" { "interrupted" } else { "ok" };
        assert_eq!((state("asked"), state("configured")), (json!(wanted), json!(other)));
    }
}

#[test]
fn a_spawn_says_what_becomes_of_it_without_its_parent() {
    let world = World::new();
    let _gateway = Gateway::start(&world);
    let parent = "agent:main:parent";
    let policies = ["stop", "continue", "hand-over"];
    let mut begun: Vec<_> = policies
        .iter()
        .map(|policy| {
            let spawn =
                ["spawn", "--parent", parent, "--label", policy, "--on-parent-exit", policy, "Wait: 1h"];
            world.begin(&spawn)
        })
        .collect();
    begun.push(world.begin(&["spawn", "--parent", parent, "--label", "default", "Wait: 1h"]));
    while world.runs().iter().filter(|run| run["state"] == "running").count() < begun.len() {}
    let labelled = |label: &str| {
        let sessions = world.sessions();
        sessions.iter().find(|session| session["label"] == label).cloned()
    };
    for policy in policies {
        assert_eq!(labelled(policy).unwrap()["onParentExit"], policy);
    }
    let params = json!({ "key": parent, "deleteTranscript": true }).to_string();
    world.run(&["gateway", "call", "sessions.delete", "--params", &params]).exits(0);
    assert_eq!((labelled("stop"), labelled("default")), (None, None), "they went with it");
    // There is nobody above the parent to hand it over to.
    for policy in ["continue", "hand-over"] {
        let session = labelled(policy).unwrap();
        assert_eq!(session["parent"], Value::Null, "{session}");
        let runs = world.runs();
        let run = runs.iter().find(|run| run["sessionKey"] == session["sessionKey"]).unwrap();
        assert_eq!(run["state"], "running");
    }
}
