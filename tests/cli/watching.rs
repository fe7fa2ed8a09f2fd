//! What is seen of a daemon at work: `tree`, `runs tail` and `events`.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::Gateway;
use crate::support::{World, send};

/// Sub-agents may have sub-agents, and all of them work at once.
pub const DEEP: &str = r#"{ agents: { defaults: { subagents: { maxSpawnDepth: 3, maxConcurrent: 20 } } } }"#;

/// A message that spawns a sub-agent for each task.
pub fn spawning(tasks: &[(&str, String)]) -> String {
    let spawn = |(label, task): &(&str, String)| {
        let mut arguments = json!({"task": task});
        if !label.is_empty() {
            arguments["label"] = json!(label);
        }
        format!("Spawn: {arguments}")
    };
    tasks.iter().map(spawn).collect::<Vec<_>>().join("\n")
}

/// Asks for the tree until it is as wanted.
pub fn tree_until(world: &World, enough: impl Fn(&Value) -> bool) -> Value {
    loop {
        let tree = world.run(&["tree", "--json"]).exits(0).json();
        if enough(&tree) {
            return tree;
        }
    }
}

pub fn runs_in(tree: &Value, state: &str) -> usize {
    tree["nodes"].as_array().unwrap().iter().filter(|node| node["run"]["state"] == state).count()
}

/// What is between spaces in two columns: the place and the name, then the state. An id is a star.
fn essence(line: &str) -> String {
    let mut parts = line.split("  ").filter(|part| !part.trim_matches(['│', ' ']).is_empty());
    let rails: String = line.chars().take_while(|c| "│├└─ ".contains(*c)).collect();
    let name = parts.next().unwrap().trim_start_matches(['│', '├', '└', '─', ' ']);
    let is_id = |word: &&str| word.len() == 36 && word.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    let name: String =
        name.split_inclusive([' ', ':']).map(|word| if is_id(&word) { "*" } else { word }).collect();
    format!("{rails}{name}  {}", parts.next().unwrap_or_default())
}

#[test]
fn a_fan_out_of_three_levels_is_printed_as_it_is() {
    let world = World::with(DEEP);
    let _gateway = Gateway::start(&world);
    let leaf = || ("", "Wait: 1h".to_owned());
    let middle = || ("", spawning(&[leaf(), leaf()]));
    let _run = world.begin(&["run", &spawning(&[middle(), middle()])]);
    let tree = tree_until(&world, |tree| runs_in(tree, "yielded") == 3 && runs_in(tree, "running") == 4);
    let printed = world.run(&["tree"]).exits(0).stdout;
    let lines: Vec<String> = printed.lines().map(essence).collect();
    let from = lines.iter().position(|line| line.starts_with("├─ sessions")).unwrap();
    let below = lines[from + 1..].iter().take_while(|line| line.starts_with('│'));
    let below: Vec<&str> = std::iter::once(&lines[from]).chain(below).map(String::as_str).collect();
    let leaf = |rails: &str, more: &str| {
        [
            format!("{rails}├─ session agent:main:subagent:*  running"),
            format!("{rails}{more}  └─ run *  running"),
        ]
    };
    let mut expected =
        vec!["├─ sessions  running".to_owned(), "│  └─ session agent:main:main  yielded".to_owned()];
    for _ in 0..2 {
        expected.push("│     ├─ session agent:main:subagent:*  yielded".to_owned());
        for _ in 0..2 {
            expected.extend(leaf("│     │  ", "│"));
        }
        expected.push("│     │  └─ run *  yielded".to_owned());
    }
    expected.push("│     └─ run *  yielded".to_owned());
    assert_eq!(below, expected, "{printed}");
    let others: Vec<&str> = lines[..from].iter().map(|line| line.as_str()).collect();
    assert!(others[0] == "offshoot  running" && others.contains(&"├─ gateway  running"), "{others:?}");
    // The commands that asked come and go.
    let nodes = tree["nodes"].as_array().unwrap().iter().filter(|node| node["kind"] != "connection");
    assert_eq!(
        lines.iter().filter(|line| !line.contains("─ connection ")).count(),
        nodes.count(),
        "{printed}"
    );

    let leaf =
        tree["nodes"].as_array().unwrap().iter().find(|node| node["run"]["state"] == "running").unwrap();
    let [run, key] = ["id", "sessionKey"].map(|name| leaf["run"][name].as_str().unwrap());
    assert!(world.run(&["tree", run]).exits(0).stdout.starts_with(&format!("run {run}  running  model")));
    assert_eq!(world.run(&["tree", key]).exits(0).stdout.lines().count(), 2);
    let beginning = &run[..run.len() - 2];
    assert!(world.run(&["tree", beginning]).exits(0).stdout.starts_with(&format!("run {run}  running")));
    world.run(&["tree", "0123abcd"]).exits(5).says("no run begins with 0123abcd");
    world.run(&["tree", "no/such/actor"]).exits(2).says("there is no actor, session or run");
}

#[test]
fn without_a_daemon_the_store_says_what_is_open() {
    let world = World::new();
    world.run(&["tree"]).exits(4).says("no gateway runs").says("`offshoot gateway`");
    let gateway = Gateway::start(&world);
    let waiting = world.start(&["run", &spawning(&[("slow", "Wait: 1h".to_owned())])]);
    tree_until(&world, |tree| runs_in(tree, "yielded") == 1 && runs_in(tree, "running") == 1);
    gateway.kill();
    drop(waiting);
    let shown = world.run(&["tree"]).exits(4).says("2 runs are suspended").says("no gateway runs").stdout;
    assert!(shown.starts_with("agent:main:main\n") && shown.contains("slow"), "{shown}");
    assert_eq!(shown.matches("suspended").count(), 2, "{shown}");
    let document = world.run(&["tree", "--json", "agent:main:main"]).exits(4).json();
    assert_eq!((&document["running"], document["tree"].as_array().map(Vec::len)), (&json!(false), Some(2)));
    world.run(&["tree", "agent:main:other"]).exits(4);
}

/// A command whose output is read line by line.
pub struct Reading {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Reading {
    pub fn start(world: &World, arguments: &[&str]) -> Self {
        let mut child = world.process(arguments).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    fn until(&mut self, enough: impl Fn(&str) -> bool) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(line) = self.line() {
            seen.push(line);
            if enough(seen.last().unwrap()) {
                return seen;
            }
        }
        panic!("it ended after {seen:?}");
    }

    /// How it ends, after a signal or by itself.
    pub fn ends(mut self, signal: Option<Signal>) -> Option<i32> {
        if let Some(signal) = signal {
            send(self.child.id(), signal);
        }
        while self.line().is_some() {}
        self.child.wait().unwrap().code()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn a_tree_that_is_watched_goes_on_until_control_c() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    let mut watched = Reading::start(&world, &["tree", "--watch"]);
    watched.until(|line| line.contains("store"));
    let _run = world.begin(&["run", "Wait: 1h"]);
    let seen = watched.until(|line| line.contains("─ run ") && line.contains("running"));
    assert!(seen.iter().any(|line| line.contains("session agent:main:main")), "{seen:?}");
    assert!(!seen.iter().any(|line| line.contains('\u{1b}')), "{seen:?}");
    let mut documents = Reading::start(&world, &["tree", "--watch", "--json"]);
    let first: Value = serde_json::from_str(&documents.line().unwrap()).unwrap();
    assert!(first["nodes"].is_array(), "{first}");
    world.run(&["runs", "cancel", &run_id(&world, "running", "message")]).exits(0);
    let second: Value = serde_json::from_str(&documents.line().unwrap()).unwrap();
    assert_eq!(second["base"], first["rev"], "{second}");
    assert_eq!(watched.ends(Some(Signal::INT)), Some(0));
    gateway.kill();
    let again = Gateway::start(&world);
    documents.until(|line| line.contains("\"nodes\""));
    again.kill();
    assert_eq!(documents.ends(Some(Signal::INT)), Some(0));
}

fn run_id(world: &World, state: &str, cause: &str) -> String {
    loop {
        let runs = world.runs();
        if let Some(run) = runs.iter().find(|run| run["state"] == state && run["cause"] == cause) {
            return run["runId"].as_str().unwrap().to_owned();
        }
    }
}

#[test]
fn a_run_is_followed_to_its_end() {
    let world = World::new();
    let _gateway = Gateway::start(&world);
    let prompt = spawning(&[("papers", "Wait: 400ms\nReply with exactly: found".to_owned())]);
    let _run =
        world.begin(&["run", &format!("Wait: 300ms\n{prompt}\nStream: 4\nReply with exactly: all is done")]);
    let id = run_id(&world, "running", "message");
    let mut followed = Reading::start(&world, &["runs", "tail", &id[..13]]);
    let mut documents = Reading::start(&world, &["runs", "tail", "--json", &id]);
    let said = followed.until(|line| line.starts_with("ended as ok"));
    let said = said.join("\n");
    for text in ["→ sessions_spawn {", "← sessions_spawn (ok)", "\"papers\" ok", "\nall is done\n"] {
        assert!(said.contains(text), "no {text} in {said}");
    }
    assert_eq!(said.matches("\nall is done\n").count(), 1, "{said}");
    assert_eq!(followed.ends(None), Some(0));
    let lines = documents.until(|line| line.contains("\"event\":\"ended\""));
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[0]["event"], &events[0]["payload"]["runId"]), (&json!("run"), &json!(id)));
    assert!(
        events.iter().any(|event| event["event"] == "subagent.ended" || event["event"] == "child"),
        "{lines:?}"
    );
    assert_eq!(events.last().unwrap()["payload"]["result"], "all is done");
    assert_eq!(documents.ends(None), Some(0));
}

#[test]
fn what_has_ended_is_told_whole_and_control_c_leaves_a_run_alone() {
    let world = World::new();
    world.run(&["run", "Fail: out of paper"]).exits(1);
    let id = world.runs()[0]["runId"].as_str().unwrap().to_owned();
    let done = world.run(&["runs", "tail", &id]).exits(1).says("ended as error");
    assert!(
        done.stdout.contains("Fail: out of paper") && done.stdout.contains("ended as error"),
        "{}",
        done.stdout
    );
    world.run(&["runs", "tail", "00000000-0000-0000-0000-000000000000"]).exits(5);
    let gateway = Gateway::start(&world);
    let _run = world.begin(&["run", "Wait: 1h"]);
    let id = run_id(&world, "running", "message");
    let mut followed = Reading::start(&world, &["runs", "tail", &id]);
    followed.until(|line| line.contains("Wait: 1h"));
    assert_eq!(followed.ends(Some(Signal::INT)), Some(130));
    assert_eq!(run_id(&world, "running", "message"), id);
    gateway.kill();
    world.run(&["runs", "tail", &id]).exits(4).says("suspended");
}

#[test]
fn events_are_told_as_they_come_and_as_they_are_asked_for() {
    let world = World::new();
    world.run(&["events"]).exits(4).says("no gateway runs");
    world.run(&["events", "--filter", "level=warn"]).exits(2).says("event=, session=, run= and agent=");
    let gateway = Gateway::start(&world);
    let mut all = Reading::start(&world, &["events", "--filter", "session=agent:main:main"]);
    let mut some = Reading::start(&world, &["events", "--json", "--filter", "event=subagent. agent=main"]);
    // Both are there when each has heard of something.
    let heard = std::thread::scope(|scope| {
        let heard = scope.spawn(|| {
            let told = all.until(|line| line.contains("lifecycle end"));
            (told, some.until(|line| line.contains("subagent.ended")))
        });
        while !heard.is_finished() {
            world.run(&["run", &spawning(&[("x", "Reply with exactly: y".to_owned())])]).exits(0);
        }
        heard.join().unwrap()
    });
    let (told, documents) = heard;
    assert!(told.iter().all(|line| line.contains("agent:main:main") && line.contains("Z  ")), "{told:?}");
    for line in documents {
        let event: Value = serde_json::from_str(&line).unwrap();
        assert!(event["event"].as_str().unwrap().starts_with("subagent.") && event["seq"].is_u64(), "{line}");
    }
    gateway.kill();
    all.until(|line| line.starts_with("-- ") && line.contains("waiting for it to come back"));
    let _again = Gateway::start(&world);
    all.until(|line| line.contains("the gateway is back"));
    some.until(|line| line == "{\"back\":true}");
    assert_eq!(all.ends(Some(Signal::INT)), Some(0));
}
