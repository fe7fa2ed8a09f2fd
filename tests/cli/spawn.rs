//! `offshoot spawn`

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::World;

const OK: &str = "Reply with exactly: SUBAGENT_OK";

#[test]
fn the_first_line_is_the_result_and_the_tree_follows() {
    let done = World::new().run(&["spawn", OK]).exits(0);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines[0], "SUBAGENT_OK");
    assert_eq!(lines[1], "");
    let run = lines[2].strip_prefix("run      ").unwrap();
    let session = lines[3].strip_prefix("session  ").unwrap();
    assert!(session.starts_with("agent:main:subagent:"), "{session}");
    assert!(lines[4].starts_with("state    ok, "), "{}", lines[4]);
    let tree = &lines[6..];
    assert_eq!(tree[0], "agent:main:main");
    assert!(tree[1].starts_with("├─ run ") && tree[1].contains("announce  ok"), "{tree:?}");
    assert_eq!(tree[2], format!("└─ {session}"));
    assert!(tree[3].starts_with(&format!("   └─ run {run}  spawn  ok")), "{tree:?}");
    assert_eq!(tree.len(), 4);
    assert_eq!(done.stderr, "");
}

#[test]
fn json_is_one_document() {
    let world = World::new();
    let done = world.run(&["spawn", "--json", "--label", "first", OK]).exits(0);
    let document = done.json();
    let expected = json!({
        "status": "accepted", "result": "SUBAGENT_OK", "state": "ok", "reason": null,
        "steps": 1, "model": "builtin/rehearsal",
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&document[key], value, "{key}");
    }
    assert!(document["durationMs"].is_u64());
    assert!(document["usage"]["input"].as_u64().unwrap() > 0);
    let tree = document["tree"].as_array().unwrap();
    assert_eq!(tree.len(), 2);
    assert_eq!(tree[0]["sessionKey"], "agent:main:main");
    assert_eq!(tree[1]["sessionKey"], document["childSessionKey"]);
    assert_eq!(tree[1]["label"], "first");
    assert_eq!(tree[1]["runs"][0]["runId"], document["runId"]);
    let stored = world.runs();
    assert!(stored.iter().any(|run| run["runId"] == document["runId"] && run["state"] == "ok"));
}

#[test]
fn the_task_can_come_from_standard_input() {
    let world = World::new();
    let done = world.command(&["spawn", "-"]).write_stdin("Reply with exactly: piped\n").output().unwrap();
    assert!(String::from_utf8_lossy(&done.stdout).starts_with("piped\n"));
}

#[test]
fn state_is_private() {
    let world = World::new();
    // As somebody may have made them: the directory for a configuration, the file from a copy.
    world.write(".offshoot/offshoot.db", "");
    let open = |path: &str, mode| {
        std::fs::set_permissions(world.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(".offshoot/offshoot.db", 0o644);
    open(".offshoot", 0o755);
    world.run(&["spawn", OK]).exits(0);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.state()), 0o700);
    let files: Vec<_> =
        std::fs::read_dir(world.state()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_state_directory_can_be_named() {
    let world = World::new();
    world.run(&["--state-dir", "elsewhere", "spawn", OK]).exits(0);
    assert!(world.path("elsewhere").is_dir());
    assert!(!world.state().exists());
    let mut command = world.command(&["runs", "list"]);
    let done = command.env("OFFSHOOT_STATE_DIR", world.path("elsewhere")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout).lines().count(), 3);
}

#[test]
fn options_reach_the_run() {
    let world = World::new();
    let arguments =
        ["spawn", "--json", "--mode", "session", "--no-announce", "--model", "builtin/rehearsal", OK];
    let document = world.run(&arguments).exits(0).json();
    assert_eq!(document["tree"].as_array().unwrap().len(), 2, "{document}");
    let runs = world.runs();
    assert_eq!(runs.len(), 1, "nothing was announced: {runs:?}");
    let child = world.sessions().into_iter().find(|row| row["depth"] == 1).unwrap();
    assert_eq!(child["mode"], "session");

    world.run(&["spawn", "--cleanup", "delete", OK]).exits(0);
    let keys: Vec<Value> = world.sessions().iter().map(|row| row["sessionKey"].clone()).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
}

#[test]
fn other_ends_have_their_exit_codes() {
    let world = World::new();
    world.run(&["spawn", "Fail: out of ideas"]).exits(1).says("ended as error: out of ideas");
    let done = world.run(&["spawn", "--timeout", "1", "Wait: 10m"]).exits(124).says("ended as timeout");
    assert!(done.stdout.contains("timeout"), "{}", done.stdout);
}
