//! `offshoot backup`: copies that are made while a daemon writes, checked, and put back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::Gateway;
use crate::support::World;

fn agent(world: &World, message: &str, key: &str) -> Value {
    let params = json!({"message": message, "idempotencyKey": key}).to_string();
    world.run(&["gateway", "call", "agent", "--params", &params]).exits(0).json()
}

/// A database in the state directory, whatever it is called.
fn runs_of(world: &World, database: &str) -> i64 {
    let connection = rusqlite::Connection::open(world.state().join(database)).unwrap();
    connection.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_copy_is_whole_and_private_while_a_daemon_writes() {
    let world = World::new();
    world.run(&["backup", "create"]).exits(5).says("there is no store");
    let _gateway = Gateway::start(&world);
    agent(&world, "Reply with exactly: x", "first");
    let enough = AtomicBool::new(false);
    let copies: Vec<(PathBuf, Value)> = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut spawned = 0;
            while !enough.load(Ordering::SeqCst) {
                world.run(&["spawn", "--no-announce", "Reply with exactly: x"]).exits(0);
                spawned += 1;
            }
            spawned
        });
        let copies = (0..5).map(|number| {
            let file = world.path(&format!("copies {number}%.db"));
            let made = world.run(&["backup", "create", file.to_str().unwrap(), "--json"]).exits(0).json();
            (file, made)
        });
        let copies = copies.collect();
        enough.store(true, Ordering::SeqCst);
        assert!(writing.join().unwrap() > 0);
        copies
    });
    for (file, made) in &copies {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        let verified = world.run(&["backup", "verify", file.to_str().unwrap(), "--json"]).exits(0).json();
        assert_eq!((&verified["status"], &verified["contents"]), (&json!("whole"), &made["contents"]));
        // One moment: a run is audited in the transaction that accepts it.
        let copy = rusqlite::Connection::open(file).unwrap();
        let accepted = "SELECT count(*) FROM audit WHERE event IN ('run.accepted', 'spawn.accepted')";
        let accepted: i64 = copy.query_row(accepted, [], |row| row.get(0)).unwrap();
        assert_eq!(made["contents"]["runs"], accepted, "{made}");
    }
    let taken = copies[0].0.to_str().unwrap();
    world.run(&["backup", "create", taken]).exits(2).says("exists already");
    let named = world.run(&["backup", "create", "--json"]).exits(0).json();
    assert!(named["file"].as_str().unwrap().contains("/backups/offshoot-"), "{named}");
    let names = fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let left = names.filter(|name| name.to_string_lossy().ends_with(".partial")).count();
    assert_eq!(left, 0);
}

#[test]
fn a_copy_of_yesterday_is_put_back_and_goes_on_with_what_clients_hold_of_today() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    agent(&world, "Reply with exactly: yesterday", "yesterday");
    agent(&world, "Wait: 1s", "open");
    let copy = world.run(&["backup", "create", "--json"]).exits(0).json();
    let copy_file = copy["file"].as_str().unwrap();
    assert_eq!(copy["contents"]["openRuns"], 1);
    let spawned = world.run(&["spawn", "Reply with exactly: today", "--json"]).exits(0).json();
    let (run, child) = (spawned["runId"].as_str().unwrap(), spawned["childSessionKey"].as_str().unwrap());
    let who = format!("process {}", gateway.pid());
    world.run(&["backup", "restore", copy_file]).exits(4).says("nothing was restored").says(&who);
    // Killed: a part of the database is in its log.
    gateway.kill();
    let before = runs_of(&world, "offshoot.db");

    let restored = world.run(&["backup", "restore", copy_file, "--json"]).exits(0).json();
    assert_eq!(restored["contents"], copy["contents"]);
    let replaced = restored["replaced"].as_str().unwrap();
    assert_eq!(runs_of(&world, replaced), before);
    world.run(&["backup", "verify", replaced]).exits(0);

    let gateway = Gateway::start(&world);
    let ended = json!({"runId": "open", "timeoutMs": 20_000}).to_string();
    let ended = world.run(&["gateway", "call", "agent.wait", "--params", &ended]).exits(0).json();
    assert!(ended["endedAt"].is_i64(), "what was open in the copy is decided on: {ended}");
    let asks = [
        ("agent.wait", json!({"runId": run, "timeoutMs": 1})),
        ("chat.history", json!({"sessionKey": child})),
        ("chat.abort", json!({"sessionKey": child, "runId": run})),
        ("sessions.patch", json!({"key": child, "label": "x"})),
        ("sessions.delete", json!({"key": child})),
        (
            "chat.send",
            json!({"sessionKey": child, "message": "Reply with exactly: x", "idempotencyKey": "late"}),
        ),
    ];
    for (method, params) in asks {
        let done = world.run(&["gateway", "call", method, "--params", &params.to_string(), "--json"]);
        assert!([0, 2, 4, 5].contains(&done.code), "{method}: {}", done.stderr);
        assert!(!done.stderr.contains("panicked"), "{method}: {}", done.stderr);
    }
    // The same request as before the copy is the same run, one after it is a new one.
    assert_eq!(agent(&world, "Reply with exactly: yesterday", "yesterday")["runId"], "yesterday");
    let runs = world.runs().len();
    world.run(&["spawn", "--no-announce", "Reply with exactly: again"]).exits(0);
    assert_eq!(world.runs().len(), runs + 1);
    assert_eq!(world.run(&["gateway", "health", "--json"]).exits(0).json()["ok"], true);
    world.run(&["audit", "verify"]).exits(0);
    gateway.signal(Signal::TERM);
    gateway.done().exits(0);
    world.run(&["doctor"]).exits(0);
}

#[test]
fn what_is_not_whole_is_never_put_back() {
    let world = World::new();
    world.run(&["run", "Reply with exactly: x"]).exits(0);
    let whole = world.path("whole.db");
    world.run(&["backup", "create", whole.to_str().unwrap()]).exits(0);
    let database = fs::read(world.state().join("offshoot.db")).unwrap();
    let spoil = |name: &str, change: &dyn Fn(&rusqlite::Connection)| {
        let file = world.path(name);
        fs::copy(&whole, &file).unwrap();
        change(&rusqlite::Connection::open(&file).unwrap());
        file.to_str().unwrap().to_owned()
    };
    let audit = spoil("audit.db", &|connection| {
        connection.execute_batch("DROP TRIGGER audit_is_not_updated; UPDATE audit SET at = at + 1").unwrap();
    });
    let orphans = spoil("orphans.db", &|connection| {
        connection.execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM sessions").unwrap();
    });
    let newer = spoil("newer.db", &|connection| {
        connection.pragma_update(None, "user_version", 4711).unwrap();
    });
    let torn = world.path("torn.db").to_str().unwrap().to_owned();
    fs::write(&torn, &fs::read(&whole).unwrap()[..20_000]).unwrap();
    let cases = [
        (audit.as_str(), 6, "audit row 1 ("),
        (&orphans, 6, "rows of sessions that are not there"),
        (&newer, 4, "schema version 4711"),
        (&torn, 6, "is not whole"),
        ("none.db", 5, "there is no backup"),
    ];
    for (file, code, says) in cases {
        world.run(&["backup", "verify", file]).exits(code).says(says);
        world.run(&["backup", "restore", file]).exits(code).says(says);
    }
    let own = world.state().join("offshoot.db");
    world.run(&["backup", "restore", own.to_str().unwrap()]).exits(2);
    assert_eq!(fs::read(own).unwrap(), database);
    world.run(&["backup", "restore", whole.to_str().unwrap()]).exits(0);
    assert_eq!(world.runs().len(), 1);
}
