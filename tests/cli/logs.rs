//! What the daemon logs, and where.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::Gateway;
use crate::support::World;

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn agent(world: &World, message: &str) {
    let params = json!({"message": message, "idempotencyKey": message}).to_string();
    world.run(&["gateway", "call", "agent", "--expect-final", "--params", &params]).exits(0);
}

fn ended(gateway: Gateway) {
    gateway.signal(Signal::TERM);
    gateway.done().exits(0);
}

#[test]
fn the_daemon_keeps_a_log_that_nobody_else_reads_with_a_line_for_each_run() {
    let world = World::with(r#"{ gateway: { auth: { token: "configured-token" } } }"#);
    let gateway = Gateway::start(&world);
    agent(&world, r#"Spawn: {"task":"Reply with exactly: SUBAGENT_OK"}"#);
    ended(gateway);
    let file = world.state().join("logs/offshoot.log");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let lines = lines(&file);
    let ends: Vec<_> = lines.iter().filter(|line| line["message"] == "a run has ended").collect();
    assert!(ends.len() >= 2, "{lines:?}");
    let child = ends.iter().find(|line| line["session"].as_str().unwrap().contains(":subagent:")).unwrap();
    assert_eq!((&child["level"], &child["state"]), (&json!("INFO"), &json!("ok")));
    let run = child["run"].as_str().unwrap();
    assert_eq!(
        lines.iter().filter(|line| line["run"] == run && line["level"] == "INFO").count(),
        1,
        "{lines:?}"
    );
    let listens = lines.iter().find(|line| line["message"] == "clients can connect").unwrap();
    assert_eq!(listens["path"], "offshoot/gateway");
    for line in ends {
        for name in ["path", "session", "run"] {
            assert!(line[name].as_str().is_some_and(|said| !said.is_empty()), "no {name} in {line}");
        }
        assert!(line["path"].as_str().unwrap().starts_with("offshoot/"), "{line}");
    }
    assert!(!fs::read_to_string(&file).unwrap().contains("configured-token"));
}

#[test]
fn what_is_logged_is_changed_while_the_daemon_runs_and_goes_back() {
    let world = World::with("{ logging: { level: 'warn' }, gateway: { reload: { debounceMs: 0 } } }");
    let gateway = Gateway::start(&world);
    let file = world.state().join("logs/offshoot.log");
    let debug = |what: &str| {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter(|line| line.contains("\"DEBUG\"") && line.contains(what)).count()
    };
    agent(&world, "Reply with exactly: one");
    let level = |arguments: &[&str]| {
        world.run(&[&["gateway", "log-level", "--json"], arguments].concat()).exits(0).json()
    };
    assert_eq!(level(&[]), json!({ "console": "warn", "file": "warn", "changed": false }));
    let changed = level(&["offshoot=debug", "--for", "1h"]);
    assert_eq!(
        (&changed["console"], &changed["file"], &changed["changed"]),
        (&json!("offshoot=debug"), &json!("offshoot=debug"), &json!(true))
    );
    assert!(changed["until"].as_i64().unwrap() > 1_700_000_000_000);
    world.run(&["gateway", "log-level"]).exits(0);
    agent(&world, "Reply with exactly: two");
    assert_eq!(level(&["--reset"])["changed"], false);
    agent(&world, "Reply with exactly: three");
    // It goes back by itself, too.
    level(&["offshoot=trace", "--for", "1s"]);
    while level(&[])["changed"] == true {}
    world.configure("{ logging: { level: 'error' }, gateway: { reload: { debounceMs: 0 } } }");
    while level(&[])["file"] != "error" {}
    world.run(&["gateway", "log-level", "loud"]).exits(2).says("loud");
    ended(gateway);
    assert_eq!(debug("a run was accepted"), 1, "of the three, one came while that was logged");
}

#[test]
fn a_daemon_works_on_while_nobody_reads_what_it_writes_to_standard_error() {
    let world = World::with("{ logging: { level: 'trace', consoleLevel: 'trace' } }");
    let gateway = Gateway::start(&world);
    let file = world.state().join("logs/offshoot.log");
    let written = || file.metadata().map_or(0, |found| found.len());
    // More than the pipe takes; only the file says how much there was for both.
    let mut number = 0;
    while written() < 192 * 1024 {
        number += 1;
        agent(&world, &format!("Reply with exactly: {number}"));
    }
    gateway.signal(Signal::TERM);
    let done = gateway.done().exits(0);
    assert!(done.stderr.len() > 128 * 1024, "what was not read yet is read at the end");
}

#[test]
fn the_log_can_be_elsewhere_small_or_nowhere() {
    let world = World::new();
    let elsewhere = world.path("elsewhere/daemon.log");
    let file = elsewhere.display();
    world.configure(&format!("{{ logging: {{ file: '{file}', maxFileBytes: 400, maxFiles: 2 }} }}"));
    let gateway = Gateway::start(&world);
    for message in ["a", "b", "c", "d"] {
        agent(&world, message);
    }
    ended(gateway);
    let folder = fs::read_dir(elsewhere.parent().unwrap()).unwrap();
    let mut names: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["daemon.1.log", "daemon.2.log", "daemon.log"]);
    world.configure("{ logging: { level: 'silent' } }");
    ended(Gateway::start(&world));
    assert!(!world.state().join("logs").exists());
}
