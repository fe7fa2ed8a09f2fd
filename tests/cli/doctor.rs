//! `offshoot doctor`: what it finds, what it mends, and what it leaves alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::Gateway;
use crate::support::World;

/// The findings by check, with what they are.
fn findings(world: &World, more: &[&str]) -> Vec<(String, String)> {
    let done = world.run(&[&["doctor", "--json"], more].concat());
    let report = done.json();
    let found: Vec<_> = report["findings"].as_array().unwrap().iter().map(named).collect();
    assert_eq!(done.code, if found.is_empty() { 0 } else { 6 }, "{report}");
    found
}

fn named(finding: &Value) -> (String, String) {
    for part in ["what", "why", "help"] {
        assert!(!finding[part].as_str().unwrap().is_empty(), "{finding}");
    }
    (finding["check"].as_str().unwrap().to_owned(), finding["what"].as_str().unwrap().to_owned())
}

/// That there is one finding, of this check, which says this.
#[track_caller]
fn only(found: &[(String, String)], check: &str, says: &str) {
    let [(by, what)] = found else { panic!("not one finding: {found:#?}") };
    assert!(by == check && what.contains(says), "{by}: {what}");
}

fn change(world: &World, sql: &str) {
    let database = rusqlite::Connection::open(world.state().join("offshoot.db")).unwrap();
    database.execute_batch(sql).unwrap();
}

/// Everything in the state directory, with when it was changed, but for SQLite's index, which readers lock.
fn files(dir: &Path) -> Vec<(String, u64, std::time::SystemTime, u32)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let (name, facts) = (entry.file_name().into_string().unwrap(), entry.metadata().unwrap());
            (name, facts.len(), facts.modified().unwrap(), facts.permissions().mode())
        })
        .filter(|(name, ..)| !name.ends_with("-shm"))
        .collect();
    files.sort();
    files
}

#[test]
fn where_all_is_well_nothing_is_found_and_nothing_is_written() {
    let world = World::new();
    assert_eq!(findings(&world, &[]), []);
    assert!(!world.state().exists());
    world.run(&["spawn", "Reply with exactly: x"]).exits(0);
    assert_eq!(findings(&world, &[]), []);
    let told = world.run(&["doctor"]).exits(0).stdout;
    assert!(told.starts_with("nothing is wrong with "), "{told}");
    let gateway = Gateway::start(&world);
    world.run(&["spawn", "Reply with exactly: x"]).exits(0);
    world
        .run(&[
            "gateway",
            "call",
            "agent",
            "--params",
            r#"{"message": "Wait: 1h", "idempotencyKey": "slow"}"#,
        ])
        .exits(0);
    // From then on nothing is written.
    while !world.runs().iter().all(|run| run["state"] == "ok" || run["state"] == "running") {}
    let before = files(&world.state());
    assert_eq!(findings(&world, &[]), []);
    assert_eq!(files(&world.state()), before);
    gateway.signal(Signal::TERM);
    gateway.done().exits(0);
}

#[test]
fn what_a_killed_gateway_left_is_found_and_cleared_on_demand() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    let params = json!({"message": "Wait: 1h", "idempotencyKey": "slow"}).to_string();
    world.run(&["gateway", "call", "agent", "--params", &params]).exits(0);
    let pid = gateway.pid();
    gateway.kill();
    let state = world.state();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3_600);
    fs::create_dir(state.join("backups")).unwrap();
    for name in ["backups/a.db.999999999.partial", "offshoot.db.999999999.partial", ".offshoot-old.tmp"] {
        let file = fs::File::create(state.join(name)).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        file.set_modified(old).unwrap();
    }
    let ours = format!("backups/b.db.{}.partial", std::process::id());
    world.write(&format!(".offshoot/{ours}"), "");
    fs::set_permissions(state.join(&ours), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(state.join(".offshoot-new.tmp"), "").unwrap();

    let before = files(&state);
    let found = findings(&world, &[]);
    assert_eq!(files(&state), before);
    let left = found.iter().filter(|(check, _)| check == "leftovers").count();
    assert_eq!(left, 5, "lock, record and three files: {found:#?}");
    assert!(found.iter().any(|(_, what)| what.contains(&format!("process {pid} died"))), "{found:#?}");
    assert_eq!(found.len(), 5, "what was open waits for the next gateway: {found:#?}");

    findings(&world, &["--fix"]);
    assert_eq!(findings(&world, &[]), []);
    assert!(state.join(&ours).exists() && state.join(".offshoot-new.tmp").exists());
}

#[test]
fn what_a_killed_command_left_open_is_named_with_what_ends_it() {
    let world = World::new();
    let running = world.start(&["run", "Wait: 1h"]);
    assert_eq!(findings(&world, &[]), []);
    running.kill();
    findings(&world, &["--fix"]);
    only(&findings(&world, &[]), "abandoned", "1 open run of a command");
    let help = world.run(&["doctor", "--json"]).exits(6).json()["findings"][0]["help"].take();
    let run = help.as_str().unwrap().split("runs cancel ").nth(1).unwrap().split('`').next().unwrap();
    world.run(&["runs", "cancel", run]).exits(0);
    assert_eq!(findings(&world, &[]), []);
}

#[test]
fn what_others_can_read_is_closed_on_demand() {
    let world = World::new();
    world.run(&["run", "Reply with exactly: x"]).exits(0);
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (state, database) = (world.state(), world.state().join("offshoot.db"));
    mode(&state, 0o755);
    mode(&database, 0o644);
    // SQLite gives its log the mode of the database.
    let closed = findings(&world, &[]).into_iter().filter(|(_, what)| !what.contains("-wal")).count();
    assert_eq!(closed, 2);
    let told = world.run(&["doctor", "--fix"]).exits(6).stdout;
    assert!(told.contains("directory (mended): others can access"), "{told}");
    assert_eq!(findings(&world, &[]), []);
    let bits = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((bits(&state), bits(&database)), (0o700, 0o600));
}

#[test]
fn rows_that_do_not_fit_are_found_by_what_is_wrong_with_them() {
    let cases = [
        ("UPDATE runs SET session = 77", "rows", "runs belong to no session"),
        ("UPDATE runs SET state = 'running'", "rows", "does not fit their times"),
        ("UPDATE sessions SET next_seq = 0", "rows", "more entries than they count"),
        ("UPDATE entries SET content = '{\"type\":\"unheard\"}'", "rows", "cannot be read"),
        (
            "INSERT INTO callbacks (run, run_id, receiver, address, state, at) \
             VALUES (999, 'nobody', 'http://127.0.0.1:1', 'http://127.0.0.1:1', 'open', 1)",
            "rows",
            "callbacks belong to no run",
        ),
        (
            "PRAGMA foreign_keys = OFF; INSERT INTO entries VALUES (99, 0, NULL, 1, '{\"type\":\"notice\",\"text\":\"\"}')",
            "database",
            "refer to rows of sessions that are not there",
        ),
        ("DROP TRIGGER audit_is_not_updated; UPDATE audit SET at = at + 1", "database", "audit row 1 ("),
    ];
    for (sql, check, says) in cases {
        let world = World::new();
        world.run(&["run", "Reply with exactly: x"]).exits(0);
        change(&world, sql);
        only(&findings(&world, &[]), check, says);
    }
}

#[test]
fn results_without_a_receiver_and_runs_in_quarantine_are_named() {
    let world = World::new();
    world.run(&["spawn", "Reply with exactly: x"]).exits(0);
    change(
        &world,
        "INSERT INTO outbox (run_id, receiver, session_key, state, at, message) \
         SELECT id, 'agent:main:gone', session_key, 'ok', 1, x'' FROM runs LIMIT 1; \
         UPDATE runs SET state = 'interrupted', reason = 'quarantined: 3 starts died with it' WHERE cause = 'announce'",
    );
    let found = findings(&world, &[]);
    let says = |check: &str, what: &str| found.iter().any(|(by, text)| by == check && text.contains(what));
    assert!(says("deliveries", "on its way to session agent:main:gone, which is not there"), "{found:#?}");
    assert!(says("quarantine", "quarantined: 3 starts died with it"), "{found:#?}");
    assert!(says("rows", "1 results on their way cannot be read"), "{found:#?}");
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn results_for_a_session_whose_agent_is_gone_are_named() {
    let world = World::with("{ agents: { list: [{ id: 'main' }, { id: 'research' }] } }");
    world.run(&["run", "--agent", "research", "Reply with exactly: x"]).exits(0);
    change(
        &world,
        "INSERT INTO outbox (run_id, receiver, session_key, state, at, message) \
         SELECT id, session_key, session_key, 'ok', 1, x'' FROM runs",
    );
    let found = || findings(&world, &[]).into_iter().filter(|(check, _)| check == "deliveries");
    assert_eq!(found().count(), 0);
    world.configure("{ agents: { list: [{ id: 'main' }] } }");
    let said: Vec<_> = found().map(|(_, what)| what).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    let to = "is on its way to session agent:research:main, whose agent research is not configured";
    assert!(said[0].ends_with(to), "{said:?}");
    // Which agents there are is not known.
    world.configure("{ agents: { defaults: { maxConcurrent: 'many' } } }");
    assert_eq!(found().count(), 0);
}

#[test]
fn agents_that_are_gone_and_a_configuration_that_is_wrong_are_told() {
    let world = World::with("{ agents: { list: [{ id: 'main' }, { id: 'research' }] } }");
    world.run(&["run", "--agent", "research", "Reply with exactly: x"]).exits(0);
    assert_eq!(findings(&world, &[]), []);
    world.configure("{ agents: { list: [{ id: 'main' }] } }");
    only(&findings(&world, &[]), "agents", "1 session of the agent research, which is not configured");
    world.configure("{ agents: { defaults: { maxConcurrent: 'many' } } }");
    only(&findings(&world, &[]), "configuration", "agents.defaults.maxConcurrent");
}
