//! What goes wrong, and what is said of it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::World;

#[test]
fn usage_errors_exit_with_two() {
    let world = World::new();
    world.run(&[]).exits(2);
    world.run(&["spawn"]).exits(2).says("<TASK>");
    world.run(&["spwan", "x"]).exits(2).says("spawn");
    world.run(&["runs", "show", "not-an-id"]).exits(2).says("run ids are UUIDs");
    world.run(&["run", "--session", "main", "x"]).exits(2).says("agent:<agentId>:<name>");
    world.run(&["--log", "warn,=", "runs", "list"]).exits(2).says("hint:");
    world.run(&["spawn", ""]).exits(2).says("error:");
    world.run(&["spawn", "--timeout", "abc", "x"]).exits(2).says("'abc'").says("30, 30s, 5m or 2h");
}

#[test]
fn a_usage_error_is_a_document_too_with_json() {
    let world = World::new();
    for (arguments, problem) in [
        (&["--json"][..], "requires a subcommand"),
        (&["spawn", "--json"], "required arguments"),
        (&["runs", "show", "--json", "x"], "run ids are UUIDs"),
    ] {
        let done = world.run(arguments).exits(2);
        let document = done.json();
        assert_eq!((&document["status"], &document["code"]), (&"error".into(), &"usage".into()));
        assert!(document["error"].as_str().unwrap().contains(problem), "{document}");
        assert!(!done.stderr.is_empty());
    }
}

#[test]
fn help_has_the_exit_codes_and_examples() {
    let world = World::new();
    let help = world.run(&["--help"]).exits(0).stdout;
    for text in ["Exit codes:", "124", "130", "Examples:", "OFFSHOOT_STATE_DIR"] {
        assert!(help.contains(text), "no {text:?} in {help}");
    }
    assert!(world.run(&["spawn", "--help"]).exits(0).stdout.contains("Examples:"));
    let version = world.run(&["--version"]).exits(0).stdout;
    assert_eq!(version, format!("offshoot {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_unknown_agent_or_model_names_what_to_set() {
    let world = World::new();
    world
        .run(&["run", "--agent", "nobody", "x"])
        .exits(2)
        .says("there is no agent nobody")
        .says("agents.list");
    world
        .run(&["run", "--model", "openai/gpt-5.4", "x"])
        .exits(2)
        .says("models.providers.openai.apiKey")
        .says("OPENAI_API_KEY");
    world
        .run(&["spawn", "--parent", "agent:main:subagent:0", "x"])
        .exits(5)
        .says("there is no session agent:main:subagent:0")
        .says("offshoot sessions list");
}

#[test]
fn a_failure_is_a_document_with_json() {
    let world = World::new();
    let document = world.run(&["spawn", "--json", "--agent", "finance", "x"]).exits(3).json();
    assert_eq!(document["status"], "forbidden");
    assert!(document["error"].as_str().unwrap().starts_with("agentId is not allowed"), "{document}");
    assert!(document["hint"].as_str().unwrap().contains("allowAgents"), "{document}");
    let id = "00000000-0000-0000-0000-000000000000";
    let document = world.run(&["runs", "show", "--json", id]).exits(5).json();
    assert_eq!((&document["status"], &document["code"]), (&"error".into(), &"unknown_run".into()));
}

#[test]
fn a_store_that_cannot_be_opened_is_said_so() {
    let world = World::new();
    world.write(
        ".offshoot/offshoot.db",
        "this is no database, and long enough to be read as one: ".repeat(100).as_str(),
    );
    world.run(&["spawn", "x"]).exits(4).says("error:").says("offshoot.db");
    world.run(&["runs", "list"]).exits(4).says("offshoot.db");
}

#[test]
fn errors_are_lower_case_with_a_hint() {
    let done = World::new().run(&["spawn", "--agent", "finance", "x"]).exits(3);
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("error: agentId is not allowed"), "{lines:?}");
    assert!(lines[1].starts_with("hint: "), "{lines:?}");
}

#[test]
fn a_log_level_with_a_typing_error_is_refused() {
    let world = World::new();
    world
        .run(&["--log", "inof", "runs", "list"])
        .exits(2)
        .says("did you mean info?")
        .says("hint: write a level");
    let done = world.command(&["runs", "list"]).env("OFFSHOOT_LOG", "warn,offshoot=debgu").output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("did you mean debug?"));
}

/// The texts of the source files below a directory.
fn sources(dir: &Path, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push(std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn each_code_of_a_failure_is_documented() {
    /// Of requests that the command line does not make.
    const OTHERS: [&str; 3] = ["conflict", "idempotency_conflict", "other_process"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/command-line.md")).unwrap();
    let table = page.split_once("| code | exit code |").unwrap().1.split_once("\n\n").unwrap().0;
    let mut texts = Vec::new();
    sources(&root.join("actors/src"), &mut texts);
    sources(&root.join("src/cli"), &mut texts);
    let mut codes = BTreeSet::new();
    for text in &texts {
        for maker in
            ["Refusal::error(", "Refusal::forbidden(", "Self::error(", "Failure::new(", "Self::new(Exit::"]
        {
            let made = text.split(maker).skip(1).filter_map(|rest| rest.split('"').nth(1));
            // A code that is a variable stands elsewhere; what is found in its place is a text.
            let is_code = |code: &&str| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            codes.extend(made.filter(is_code));
        }
    }
    assert!(codes.len() > 25, "{codes:?}");
    for code in codes.into_iter().filter(|code| !OTHERS.contains(code)) {
        assert!(table.contains(&format!("`{code}`")), "{code} is not in docs/command-line.md");
    }
}
