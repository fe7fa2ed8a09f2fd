//! `offshoot audit`: what was asked for and decided, read beside whoever writes it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::daemon::Gateway;
use crate::support::World;

/// What the documentation tells somebody else to compute of a row.
fn hash(line: &Value) -> String {
    let unhex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let mut hash = Sha256::new_with_prefix(unhex(line["prevHash"].as_str().unwrap()));
    hash.update(line["row"].as_i64().unwrap().to_be_bytes());
    hash.update(line["at"].as_i64().unwrap().to_be_bytes());
    for name in ["event", "origin", "session", "run", "facts"] {
        match line[name].as_str() {
            None => hash.update([0]),
            Some(text) => {
                hash.update([1]);
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text);
            }
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_record_without_rows_says_so() {
    let world = World::new();
    world.run(&["audit", "list"]).exits(0).says("the audit record is empty");
    assert_eq!(world.run(&["audit", "list", "--json"]).exits(0).json()["rows"], serde_json::json!([]));
    world.run(&["audit", "export"]).exits(5);
    assert!(!world.state().exists());
}

#[test]
fn the_record_is_listed_newest_first_and_filtered() {
    let world = World::new();
    world.run(&["spawn", "Reply with exactly: a"]).exits(0);
    let run = world.runs()[0]["runId"].as_str().unwrap().to_owned();
    let list = |more: &[&str]| -> Vec<Value> {
        let arguments: Vec<&str> = ["audit", "list", "--json"].iter().chain(more).copied().collect();
        world.run(&arguments).exits(0).json()["rows"].as_array().unwrap().clone()
    };
    let all = list(&[]);
    assert!(all.windows(2).all(|pair| pair[0]["row"].as_i64() > pair[1]["row"].as_i64()), "{all:?}");
    let spawned = list(&["--event", "spawn.accepted", "--since", "1h"]);
    assert_eq!(spawned.len(), 1);
    assert_eq!(spawned[0]["origin"]["kind"], "operator");
    assert!(list(&["--origin", "client"]).is_empty());
    assert!(list(&["--since", "2999-01-01T00:00:00Z"]).is_empty());
    assert_eq!(list(&["--limit", "1"]), all[..1]);
    assert!(list(&["--run", &run[..18]]).iter().all(|row| row["runId"] == run.as_str()));
    assert!(!list(&["--session", spawned[0]["sessionKey"].as_str().unwrap()]).is_empty());
    let shown = world.run(&["audit", "list"]).exits(0).stdout;
    assert!(shown.starts_with("ROW") && shown.contains("spawn.accepted"), "{shown}");
    world.run(&["audit", "list", "--event", "nothing"]).exits(0).says("no such rows");
    world.run(&["audit", "list", "--origin", "nobody"]).exits(2);
    world.run(&["audit", "list", "--since", "yesterday"]).exits(2);
}

#[test]
fn an_export_can_be_checked_by_somebody_else_also_beside_a_gateway() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    world.run(&["spawn", "Reply with exactly: a"]).exits(0);
    let file = world.state().join("record.jsonl");
    let path = file.to_str().unwrap();
    let told = world.run(&["audit", "export", "--output", path, "--json"]).exits(0).json();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    let rows = lines(&text);
    assert!(rows.iter().any(|row| row["event"] == "connection.opened"), "{text}");
    assert_eq!(told["rows"], rows.len());
    let mut previous = "0".repeat(64);
    for row in &rows {
        assert_eq!(
            (row["prevHash"].as_str(), &*hash(row)),
            (Some(&*previous), row["hash"].as_str().unwrap())
        );
        previous = row["hash"].as_str().unwrap().to_owned();
    }
    assert_eq!(told["head"], previous.as_str());
    // It is written whole or not at all, and not over another.
    world.run(&["audit", "export", "--output", path]).exits(2).says("exists");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let printed = world.run(&["audit", "export"]).exits(0);
    assert!(printed.stdout.starts_with(&text));
    let checked = world.run(&["audit", "verify", "--head", &previous, "--json"]).exits(0).json();
    assert_eq!(checked["noted"]["row"], rows.len());
    let wrong = world.run(&["audit", "verify", "--head", &"0".repeat(64), "--json"]).exits(4).json();
    assert_eq!(wrong["code"], "audit_broken");
    world.run(&["audit", "verify", "--head", "short"]).exits(2);
    gateway.kill();
}

#[test]
fn a_record_that_lost_its_newest_rows_is_told_from_a_whole_one() {
    let world = World::new();
    world.run(&["spawn", "Reply with exactly: a"]).exits(0);
    let head = world.run(&["audit", "verify", "--json"]).exits(0).json()["head"].as_str().unwrap().to_owned();
    let store = rusqlite::Connection::open(world.state().join("offshoot.db")).unwrap();
    store.execute_batch("DROP TRIGGER audit_is_not_deleted; DELETE FROM audit").unwrap();
    drop(store);
    world.run(&["audit", "verify"]).exits(4).says("were cut off");
    world.run(&["audit", "verify", "--head", &head]).exits(4);
}
