//! Several processes on one state directory, and the end of one from outside.

use rustix::process::Signal;

use crate::support::{Done, World};

const SLOW: &str = "Wait: 10m";

fn states(world: &World) -> Vec<String> {
    world.runs().iter().map(|run| run["state"].as_str().unwrap().to_owned()).collect()
}

/// A spawned run that is open when its process is killed.
fn left_open(world: &World) -> String {
    let first = world.start(&["spawn", SLOW]);
    let id = world.runs()[0]["runId"].as_str().unwrap().to_owned();
    first.kill();
    id
}

#[test]
fn the_second_process_is_told_who_the_first_is() {
    let world = World::new();
    let first = world.start(&["spawn", SLOW]);
    let pid = first.pid().to_string();
    let who = format!("is in use by process {pid}");
    world.run(&["spawn", "x"]).exits(4).says(&who).says("--state-dir");
    let document = world.run(&["run", "--json", "x"]).exits(4).json();
    assert_eq!(document["code"], "in_use");

    // Reading needs no lock. A run does not wait until its start is committed.
    while states(&world) != ["running"] {
        assert!(matches!(&states(&world)[..], [state] if state == "accepted" || state == "running"));
    }
    let runs = world.runs();
    let id = runs[0]["runId"].as_str().unwrap();
    world.run(&["runs", "cancel", id]).exits(4).says(&who).says(&format!("kill -INT {pid}"));
    first.kill();
}

#[test]
fn what_a_killed_process_left_is_interrupted_and_told_to_its_parent() {
    let world = World::new();
    let id = left_open(&world);
    let left = world.run(&["runs", "list", "--open"]).exits(0).stdout;
    assert!(left.contains(&id) && !left.contains("interrupted"), "nobody has settled it yet: {left}");
    assert_eq!(world.run(&["run", "Reply with exactly: next"]).exits(0).stdout, "next\n");
    let listed = world.run(&["runs", "list"]).exits(0).stdout;
    let line = listed.lines().find(|line| line.contains(&id)).unwrap();
    assert!(line.contains("interrupted"), "{listed}");
    let shown = world.run(&["runs", "show", "--json", &id]).exits(0).json();
    assert_eq!(shown["state"], "interrupted");
    assert!(world.run(&["runs", "show", &id]).stdout.contains("interrupted"));
    let parent = world.run(&["sessions", "show", "agent:main:main", "--json"]).json().to_string();
    assert_eq!(parent.matches("\"type\":\"announce\"").count(), 1, "{parent}");
    assert!(!states(&world).iter().any(|state| state == "running" || state == "accepted"));
}

#[test]
fn a_run_whose_process_is_gone_is_called_abandoned() {
    let world = World::new();
    let first = world.start(&["run", SLOW]);
    let id = world.runs()[0]["runId"].as_str().unwrap().to_owned();
    let end = format!("`offshoot runs cancel {id}`");
    let commands = [&["runs", "list"][..], &["runs", "show", &id], &["sessions", "show", "main"]];
    for command in commands {
        let done = world.run(command).exits(0);
        assert!(
            !done.stdout.contains("abandoned") && done.stderr.is_empty(),
            "{}{}",
            done.stdout,
            done.stderr
        );
    }
    assert_eq!(world.runs()[0]["abandoned"], false);
    first.kill();
    for command in commands {
        let done = world.run(command).exits(0).says("1 run is abandoned").says(&end);
        assert!(done.stdout.contains("abandoned") && !done.stdout.contains("running"), "{}", done.stdout);
    }
    assert_eq!((&world.runs()[0]["state"], &world.runs()[0]["abandoned"]), (&"running".into(), &true.into()));
    let shown = world.run(&["runs", "show", "--json", &id]).exits(0).json();
    assert_eq!(shown["abandoned"], true);
    let session = world.run(&["sessions", "show", "--json", "main"]).exits(0).json();
    assert_eq!(
        (&session["openRuns"][0]["runId"], &session["openRuns"][0]["abandoned"]),
        (&id.into(), &true.into())
    );
    world.run(&["run", "Reply with exactly: next"]).exits(0);
    assert!(world.runs().iter().all(|run| run["abandoned"] == false));
    assert_eq!(world.run(&["runs", "list"]).exits(0).stderr, "");
}

#[test]
fn a_session_is_deleted_once_nothing_in_it_is_open() {
    let world = World::new();
    let first = world.start(&["spawn", SLOW]);
    let delete = ["sessions", "delete", "main", "--yes"];
    let id = world.runs()[0]["runId"].as_str().unwrap().to_owned();
    world.run(&delete).exits(3).says("is open").says(&format!("`offshoot runs cancel {id}`"));
    first.kill();
    world.run(&["runs", "cancel", &id]).exits(0);
    world.run(&delete).exits(3).says("`offshoot run --session agent:main:main");
    let child = world.sessions()[0]["sessionKey"].as_str().unwrap().to_owned();
    world.run(&["sessions", "delete", &child, "--yes"]).exits(3).says("waits to be taken");
    world.run(&["run", "Reply with exactly: taken"]).exits(0);

    world.run(&["sessions", "delete", "main"]).exits(2).says("2 sessions would be deleted").says("--yes");
    let other = world.start(&["run", "--session", "agent:main:other", SLOW]);
    world.run(&delete).exits(4).says(&format!("kill -INT {}", other.pid()));
    other.kill();
    let done = world.run(&delete).exits(0);
    assert_eq!(done.stdout, format!("deleted {child}\ndeleted agent:main:main\n"));
    let left: Vec<_> = world.sessions().iter().map(|row| row["sessionKey"].clone()).collect();
    assert_eq!(left, ["agent:main:other"]);
    assert_eq!(world.run(&["runs", "show", "--json", &id]).exits(0).json()["state"], "cancelled");
    world.run(&delete).exits(5).says("there is no session agent:main:main");
    world.run(&["audit", "verify"]).exits(0);

    world.run(&["run", "--session", "agent:main:notes", "x"]).exits(0);
    let document = world.run(&["sessions", "delete", "--json", "-y", "notes"]).exits(0).json();
    let expected = serde_json::json!({
        "status": "deleted", "sessionKey": "agent:main:notes", "deleted": ["agent:main:notes"],
    });
    assert_eq!(document, expected);
}

#[test]
fn what_a_killed_process_left_can_be_cancelled() {
    let world = World::new();
    let mut first = world.start(&["run", "Spawn: {\"task\":\"Wait: 10m\"}"]);
    first.until("yielded");
    let runs = world.runs();
    let parent = runs.iter().find(|run| run["sessionKey"] == "agent:main:main").unwrap();
    let id = parent["runId"].as_str().unwrap();
    first.kill();
    let document = world.run(&["runs", "cancel", "--json", id]).exits(0).json();
    assert_eq!(document["status"], "cancelled");
    assert_eq!(document["ended"].as_array().unwrap().len(), 2, "with its child: {document}");
    assert_eq!(states(&world), ["cancelled", "cancelled"]);
    let again = world.run(&["runs", "cancel", "--json", id]).exits(1).says("had ended before, as cancelled");
    assert_eq!(again.json()["state"], "cancelled");
    world.run(&["run", "Reply with exactly: next"]).exits(0);
    assert!(!states(&world).contains(&"interrupted".to_owned()));
}

#[test]
fn a_run_can_be_cancelled_under_a_configuration_with_errors() {
    let world = World::new();
    let id = left_open(&world);
    world.configure("{ store: { durability: 'none' } }");
    world.run(&["run", "x"]).exits(2);
    world.run(&["runs", "cancel", &id]).exits(0).says("`config check`");
    assert_eq!(states(&world), ["cancelled"]);
    world.run(&["--config", "nowhere.json", "runs", "cancel", &id]).exits(1);
}

#[test]
fn a_reader_that_leaves_does_not_make_a_failed_run_a_success() {
    for command in ["spawn", "run"] {
        for json in [&[][..], &["--json"]] {
            let world = World::new();
            let prompt = "Wait: 50ms\nReply with exactly: half\nFail: out of ideas";
            let mut child = world.process(&[&[command, prompt], json].concat()).spawn().unwrap();
            drop(child.stdout.take());
            let done = Done::from(child.wait_with_output().unwrap());
            done.exits(1).says("ended as error: out of ideas");
        }
    }
}

#[test]
fn a_result_for_another_tree_waits_until_somebody_runs_that_tree() {
    let world = World::new();
    let id = left_open(&world);
    world.run(&["runs", "cancel", &id]).exits(0);
    let done = world.run(&["run", "--session", "agent:main:notes", "Reply with exactly: b"]).exits(0);
    assert_eq!(done.stdout, "b\n");
    let main = || world.run(&["runs", "list", "--json", "--session", "agent:main:main"]).exits(0).json();
    assert_eq!(main()["runs"], serde_json::json!([]));
    assert_eq!(world.delivered("agent:main:main").len(), 0);
    world.run(&["spawn", "--no-announce", "Reply with exactly: c"]).exits(0);
    assert_eq!(world.delivered("agent:main:main").len(), 1);
}

#[test]
fn what_a_killed_process_left_runs_nothing_in_another_tree() {
    let world = World::new();
    left_open(&world);
    world.run(&["run", "--session", "agent:main:notes", "Reply with exactly: b"]).exits(0);
    let mut found = states(&world);
    found.sort();
    assert_eq!(found, ["interrupted", "ok"]);
    assert_eq!(world.delivered("agent:main:main").len(), 0);
    world.run(&["run", "Reply with exactly: c"]).exits(0);
    assert_eq!(world.delivered("agent:main:main").len(), 1);
}

#[test]
fn ctrl_c_stops_the_tree_and_says_so() {
    let world = World::new();
    let mut first = world.start(&["run", "Spawn: {\"task\":\"Wait: 10m\"}\nSpawn: {\"task\":\"Wait: 10m\"}"]);
    first.until("yielded");
    first.signal(Signal::INT);
    let done = first.done().exits(130).says("Ctrl-C: stopping").says("stopped: 3 runs were cancelled");
    assert_eq!(done.stdout, "");
    assert_eq!(states(&world), ["cancelled", "cancelled", "cancelled"]);
}

#[test]
fn a_second_ctrl_c_leaves_at_once() {
    let world = World::new();
    let mut first = world.start(&["spawn", SLOW]);
    let id = world.runs()[0]["runId"].as_str().unwrap().to_owned();
    // While somebody else holds the database, the end of the run cannot be committed.
    let holder = rusqlite::Connection::open(world.state().join("offshoot.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    first.signal(Signal::INT);
    first.until("leaves at once");
    first.signal(Signal::INT);
    let done = first.done().exits(130).says("left at once");
    assert!(!done.stderr.contains("stopped:"), "{}", done.stderr);
    drop(holder);
    world.run(&["run", "Reply with exactly: next"]).exits(0);
    assert_eq!(world.run(&["runs", "show", "--json", &id]).exits(0).json()["state"], "interrupted");
}

#[test]
fn sigterm_stops_the_tree_too() {
    let world = World::new();
    let first = world.start(&["spawn", "--json", SLOW]);
    first.signal(Signal::TERM);
    let document = first.done().exits(143).says("stopped: 1 run was cancelled").json();
    assert_eq!(document["state"], "cancelled");
    assert_eq!(states(&world), ["cancelled"]);
}
