//! `runs`, `sessions`, `audit`, `completions`: commands that change nothing.

use crate::support::World;

#[test]
fn sessions_are_listed_as_they_were_used_last() {
    let world = World::new();
    for session in ["agent:main:one", "agent:main:two", "agent:main:one"] {
        world.run(&["run", "--session", session, "x"]).exits(0);
    }
    let listed: Vec<_> = world.sessions().iter().map(|row| row["sessionKey"].clone()).collect();
    assert_eq!(listed, ["agent:main:one", "agent:main:two"]);
}

#[test]
fn without_a_store_there_is_nothing_and_nothing_is_made() {
    let world = World::new();
    for arguments in [&["runs", "list"][..], &["sessions", "list"], &["sessions", "list", "--tree"]] {
        let done = world.run(arguments).exits(0);
        assert_eq!(done.stdout, "");
    }
    assert!(world.runs().is_empty());
    assert!(world.sessions().is_empty());
    let id = "00000000-0000-0000-0000-000000000000";
    world.run(&["runs", "show", id]).exits(5).says("there is no run");
    world.run(&["runs", "cancel", id]).exits(5).says("there is no run");
    world.run(&["sessions", "show", "agent:main:main"]).exits(5).says("there is no session");
    assert!(!world.state().exists());
}

#[test]
fn lists_can_be_narrowed() {
    let world = World::new();
    world.run(&["spawn", "Reply with exactly: a"]).exits(0);
    let runs = world.runs();
    assert_eq!(runs.len(), 2);
    let of_main = world.run(&["runs", "list", "--json", "--session", "agent:main:main"]).json();
    assert_eq!(of_main["runs"].as_array().unwrap().len(), 1);
    let open = world.run(&["runs", "list", "--json", "--open"]).json();
    assert_eq!(open["runs"].as_array().unwrap().len(), 0);
    let one = world.run(&["runs", "list", "--limit", "1"]).exits(0);
    assert_eq!(one.stdout.lines().count(), 2);
    let tree = world.run(&["sessions", "list", "--tree"]).exits(0).stdout;
    assert!(tree.starts_with("agent:main:main\n└─ agent:main:subagent:"), "{tree}");
}

#[test]
fn a_run_is_shown_with_what_it_said_and_used() {
    let world = World::new();
    let prompt = "Spawn: {\"task\":\"Reply with exactly: deep\",\"label\":\"helper\"}";
    let id = world.run(&["run", "--json", prompt]).json()["runId"].as_str().unwrap().to_owned();
    let shown = world.run(&["runs", "show", &id]).exits(0).stdout;
    for text in
        ["state         ok", "calls sessions_spawn", "results of sub-agents", "helper ok", "deep", "used "]
    {
        assert!(shown.contains(text), "no {text:?} in {shown}");
    }
    let document = world.run(&["runs", "show", "--json", &id]).exits(0).json();
    assert_eq!(document["result"], "deep");
    let (own, tree) = (&document["usage"]["input"], &document["sessionTreeUsage"]["input"]);
    assert!(tree.as_u64() > own.as_u64(), "{tree} {own}");
    assert!(document["entries"].as_array().unwrap().len() >= 4);
}

#[test]
fn the_beginning_of_an_id_names_a_run() {
    let world = World::new();
    for text in ["one", "two"] {
        world.run(&["run", &format!("Reply with exactly: {text}")]).exits(0);
    }
    let runs = world.runs();
    let ids: Vec<&str> = runs.iter().map(|run| run["runId"].as_str().unwrap()).collect();
    for id in &ids {
        let shown =
            world.run(&["runs", "show", "--json", &id[..id.len() - 1].to_uppercase()]).exits(0).json();
        assert_eq!(shown["runId"], **id);
    }
    let many = world.run(&["runs", "show", "--json", &ids[0][..4]]).exits(2);
    let document = many.json();
    assert_eq!(document["code"], "ambiguous_run");
    let error = document["error"].as_str().unwrap();
    assert!(error.starts_with("2 runs begin with ") && ids.iter().all(|id| error.contains(id)), "{error}");
    world.run(&["runs", "cancel", &ids[0][..4]]).exits(2).says(ids[1]);
    world.run(&["runs", "cancel", &ids[0][..35]]).exits(1).says(ids[0]).says("had ended before");
    world.run(&["runs", "show", "ffff"]).exits(5).says("no run begins with ffff");
    world.run(&["runs", "show", "fff"]).exits(2).says("at least 4 characters");
}

#[test]
fn a_session_is_named_without_what_can_be_told() {
    let world = World::with("{ agents: { list: [{ id: 'research' }, { id: 'main' }] } }");
    world.run(&["run", "Reply with exactly: r"]).exits(0);
    world.run(&["run", "--agent", "main", "Reply with exactly: m"]).exits(0);
    let shown = |name| world.run(&["sessions", "show", "--json", name]).exits(0).json()["sessionKey"].clone();
    assert_eq!(shown("main"), "agent:research:main");
    assert_eq!(shown("agent:research"), "agent:research:main");
    assert_eq!(shown("Agent:Main"), "agent:main:main");
    let listed = world.run(&["runs", "list", "--json", "--session", "main"]).exits(0).json();
    assert_eq!(listed["runs"][0]["sessionKey"], "agent:research:main");
    world.run(&["sessions", "show", "nothing"]).exits(5).says("there is no session agent:research:nothing");
    world.run(&["sessions", "show", "agent:"]).exits(2).says("agent:<agentId>:<name>");
    world.configure("{ agents: 5 }");
    world.run(&["sessions", "show", "main"]).exits(2).says("agent:<agentId>:main can be read");
    world.run(&["sessions", "show", "agent:main:main"]).exits(0);
}

#[test]
fn a_session_is_shown_with_its_latest_entries() {
    let world = World::new();
    for text in ["one", "two", "three"] {
        world.run(&["run", &format!("Reply with exactly: {text}")]).exits(0);
    }
    let shown = world.run(&["sessions", "show", "agent:main:main", "--entries", "1"]).exits(0).stdout;
    assert!(shown.contains("three") && !shown.contains("two"), "{shown}");
    let document = world.run(&["sessions", "show", "agent:main:main", "--json"]).exits(0).json();
    assert_eq!(document["entries"].as_array().unwrap().len(), 6);
}

#[test]
fn the_audit_record_is_checked() {
    let world = World::new();
    let document = world.run(&["audit", "verify", "--json"]).exits(5).json();
    assert_eq!(document["code"], "no_store");
    assert!(!world.state().exists());

    world.run(&["spawn", "Reply with exactly: a"]).exits(0);
    let rows = world.run(&["audit", "verify", "--json"]).exits(0).json()["rows"].as_u64().unwrap();
    assert!(rows > 0);
    let said = world.run(&["audit", "verify"]).exits(0).stdout;
    assert!(said.starts_with("the audit record is whole: "), "{said}");

    let store = rusqlite::Connection::open(world.state().join("offshoot.db")).unwrap();
    let triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'";
    let names: Vec<String> = store
        .prepare(triggers)
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for name in names {
        store.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    store.execute_batch("UPDATE audit SET at = at + 1 WHERE id = 1").unwrap();
    drop(store);
    let document = world.run(&["audit", "verify", "--json"]).exits(4).says("audit row 1 (").json();
    assert_eq!(document["code"], "audit_broken");
    assert!(world.run(&["audit", "verify", "--help"]).exits(0).stdout.contains("Exit code 0"));
}

#[test]
fn every_shell_has_completions() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.run(&["completions", shell]).exits(0).stdout;
        assert!(script.contains("offshoot") && script.contains("sessions"), "{shell}");
        let document = world.run(&["completions", "--json", shell]).exits(0).json();
        assert_eq!(document["script"].as_str().unwrap().trim_end(), script.trim_end());
    }
}

#[test]
fn a_session_is_exported_from_the_store_and_from_the_archive() {
    let world = World::new();
    world.run(&["spawn", "Reply with exactly: kept"]).exits(0);
    let sessions = world.sessions();
    let key = sessions.iter().map(|session| session["sessionKey"].as_str().unwrap());
    let key = key.into_iter().find(|key| key.contains(":subagent:")).unwrap().to_owned();
    let lines = world.run(&["sessions", "export", &key]).exits(0).stdout;
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["sessionKey"], *key);
    assert!(lines.lines().last().unwrap().contains(r#""type":"end""#), "{lines}");
    assert!(lines.contains("Reply with exactly: kept"));

    world.run(&["sessions", "export", &key, "--output", "out.jsonl"]).exits(0);
    world.run(&["sessions", "export", &key, "--output", "out.jsonl"]).exits(2).says("out.jsonl");
    let written = std::fs::read_to_string(world.path("out.jsonl")).unwrap();
    assert_eq!(written.lines().count(), lines.lines().count());

    // As the gateway leaves it.
    world.run(&["sessions", "list", "--archived"]).exits(0).says("no session is archived");
    world.run(&["sessions", "delete", "--yes", &key]).exits(0);
    world.run(&["sessions", "export", &key]).exits(5).says("there is no session");
    let id = key.rsplit(':').next().unwrap();
    let file = world.state().join(format!("archive/main/{id}.jsonl"));
    world.write(file.to_str().unwrap(), &written);
    assert_eq!(world.run(&["sessions", "export", &key]).exits(0).stdout, written);
    world.run(&["sessions", "show", &key]).exits(5).says("was archived");
    let listed = world.run(&["sessions", "list", "--archived", "--json"]).exits(0).json();
    assert_eq!(
        (&listed["sessions"][0]["sessionKey"], &listed["sessions"][1]),
        (&first["sessionKey"], &serde_json::Value::Null)
    );
    assert_eq!(listed["sessions"][0]["file"], file.to_str().unwrap());

    world.run(&["store", "compact"]).exits(0);
    assert_eq!(world.sessions().len(), 1);
}
