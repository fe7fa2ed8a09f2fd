//! `offshoot run`: an agent's own tool calls.

use std::io::{BufRead, BufReader, Read, Write};

use crate::support::World;

#[test]
fn answers_to_later_results_follow_in_order() {
    let world = World::with(r#"{ tools: { deny: ["sessions_yield"] } }"#);
    let prompt = "Spawn: {\"task\":\"Wait: 20ms\\nReply with exactly: later\"}\nReply with exactly: first";
    let done = world.run(&["run", prompt]).exits(0);
    assert_eq!(done.stdout, "first\nlater\n");
    let document = world.run(&["run", "--json", prompt]).exits(0).json();
    let answers: Vec<_> = document["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| (answer["cause"].as_str().unwrap(), answer["text"].as_str().unwrap()))
        .collect();
    assert_eq!(answers, [("message", "first"), ("announce", "later")]);
}

#[test]
fn an_answer_that_says_nothing_is_not_printed() {
    let world = World::with(r#"{ tools: { deny: ["sessions_yield"] } }"#);
    let prompt = "Spawn: {\"task\":\"Wait: 20ms\\nReply with exactly: NO_REPLY\"}\nReply with exactly: first";
    assert_eq!(world.run(&["run", prompt]).exits(0).stdout, "first\n");
}

#[test]
fn a_message_goes_to_the_session_that_is_named() {
    let world = World::with(r#"{ agents: { list: [{ id: "main" }, { id: "research" }] } }"#);
    world.run(&["run", "--agent", "research", "Reply with exactly: a"]).exits(0);
    world.run(&["run", "--session", "agent:research:notes", "Reply with exactly: b"]).exits(0);
    let mut keys: Vec<String> =
        world.sessions().iter().map(|row| row["sessionKey"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    assert_eq!(keys, ["agent:research:main", "agent:research:notes"]);
}

#[test]
fn the_exit_code_is_that_of_the_run() {
    let world = World::new();
    world.run(&["run", "Fail: out of ideas"]).exits(1).says("ended as error: out of ideas");
    world.run(&["run", "Panic: boom"]).exits(1).says("ended as crashed: boom");
    world.run(&["run", "--timeout", "1", "Wait: 10m"]).exits(124);
}

/// The base URL of a server that knows no key.
fn without_access() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while request.read_line(&mut line).unwrap() > 2 {
                let field = line.to_ascii_lowercase();
                length = field.strip_prefix("content-length:").map_or(length, |n| n.trim().parse().unwrap());
                line.clear();
            }
            request.read_exact(&mut vec![0; length]).unwrap();
            let answer = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn another_model_than_the_first_is_told_of() {
    let world = World::with(&format!(
        "{{ models: {{ providers: {{ own: {{ baseUrl: '{}' }} }} }},
            agents: {{ defaults: {{ model: {{ primary: 'own/large', fallbacks: ['builtin/rehearsal'] }} }} }} }}",
        without_access(),
    ));
    for json in [&[][..], &["--json"]] {
        let done = world.run(&[&["run", "Reply with exactly: x"], json].concat()).exits(0);
        let line = done.stderr.trim_end();
        assert!(!line.contains('\n') && line.starts_with("agent:main:main run "), "{line}");
        assert!(line.contains(" goes on with builtin/rehearsal: own/large failed: auth: "), "{line}");
    }
    // Whoever names a model gets that one or none.
    let done = world.run(&["run", "--model", "own/large", "x"]).exits(1).says("ended as error: auth: ");
    assert!(!done.stderr.contains("goes on with"), "{}", done.stderr);
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let world = World::new();
    let prompt = "Spawn: {\"task\":\"Panic: on purpose\"}\nReply with exactly: STILL_HERE";
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = world.process(&["--log", "trace", "run", prompt]).stderr(full).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"STILL_HERE\n".as_slice()));
}

#[test]
fn a_rehearsed_end_writes_no_log() {
    let world = World::new();
    let said = |prompt| world.run(&["run", prompt]).exits(1).stderr;
    for prompt in ["Fail: boom", "Panic: boom"] {
        let said = said(prompt);
        assert!(said.starts_with("error: run ") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn twenty_of_twenty_five_parallel_spawns_pass_a_cap_of_twenty() {
    let config = r#"{ agents: { defaults: { subagents: { maxChildrenPerAgent: 20, maxConcurrent: 8 } } } }"#;
    let prompt: Vec<String> =
        (0..25).map(|n| format!("Spawn: {{\"task\":\"Wait: 100ms\\nReply with exactly: {n}\"}}")).collect();
    let document = World::with(config).run(&["run", "--json", &prompt.join("\n")]).exits(0).json();
    let tree = document["tree"].as_array().unwrap();
    let children: Vec<_> = tree.iter().filter(|node| node["level"] == 1).collect();
    assert_eq!(children.len(), 20);
    assert!(children.iter().all(|child| child["runs"][0]["state"] == "ok"));
}

#[test]
fn a_spawn_that_is_too_deep_names_the_limit_and_the_setting() {
    let world = World::with("{ agents: { defaults: { subagents: { maxSpawnDepth: 1 } } } }");
    let answer = world.run(&["run", r#"Spawn: {"task": "Spawn: {\"task\": \"x\"}"}"#]).exits(0).stdout;
    for part in ["tool sessions_spawn", "current depth: 1, max: 1", "agents.defaults.subagents.maxSpawnDepth"]
    {
        assert!(answer.contains(part), "no {part:?} in {answer}");
    }
}
