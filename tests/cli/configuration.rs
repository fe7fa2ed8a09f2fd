//! `offshoot config`, and which configuration is used.

use crate::support::World;

const WARNS: &str = "{\n  channels: { telegram: {} },\n  agents: { defaults: { colour: 1 } },\n}";
const WRONG: &str = "{\n  agents: {\n    defaults: { maxConcurrent: \"many\", timeoutSeconds: -1 },\n  },\n}";

#[test]
fn warnings_are_listed_and_stop_nothing() {
    let world = World::with(WARNS);
    let done = world.run(&["config", "check"]).exits(0).says("can be used: 0 errors, 2 warnings");
    assert_eq!(done.stdout.lines().count(), 2, "{}", done.stdout);
    assert!(done.stdout.contains("offshoot.json:2:3: warning: channels"), "{}", done.stdout);
    assert_eq!(world.run(&["run", "Reply with exactly: x"]).exits(0).stderr, "");
}

#[test]
fn every_error_has_its_place_and_stops() {
    let world = World::with(WRONG);
    let done = world.run(&["config", "check"]).exits(2).says("cannot be used: 2 errors");
    assert!(
        done.stdout.contains("offshoot.json:3:32: error: agents.defaults.maxConcurrent"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("agents.defaults.timeoutSeconds"), "{}", done.stdout);
    let document = world.run(&["config", "check", "--json"]).exits(2).json();
    assert_eq!(document["status"], "error");
    assert_eq!(document["problems"][0]["line"], 3);
    assert_eq!(document["problems"][0]["column"], 32);
    world.run(&["run", "x"]).exits(2).says("offshoot.json:3:32: error:").says("hint:");
}

#[test]
fn a_file_to_check_that_is_missing_is_named_as_it_was() {
    let world = World::new();
    let done =
        world.run(&["config", "check", "/nowhere.json"]).exits(2).says("there is no file /nowhere.json");
    assert!(!done.stderr.contains("--config"), "{}", done.stderr);
    world.run(&["config", "check", "--config", "/nowhere.json"]).exits(2).says("named by --config");
}

#[test]
fn a_state_directory_that_is_a_file_is_said_to_be_none() {
    let world = World::new();
    world.write("file", "");
    for dir in ["file", "file/below"] {
        for command in [&["run", "x"][..], &["gateway"], &["gateway", "status"], &["runs", "list"]] {
            let arguments = [&["--state-dir", dir], command].concat();
            world.run(&arguments).exits(2).says(&format!("{dir} is not a directory")).says("hint: name");
        }
    }
}

#[test]
fn reading_the_store_needs_no_configuration() {
    let world = World::with(WRONG);
    world.run(&["runs", "list"]).exits(0);
    world.run(&["sessions", "list"]).exits(0);
}

#[test]
fn a_file_can_be_named_in_three_ways() {
    let world = World::with(WARNS);
    world.write("other.json", WRONG);
    world.run(&["--config", "other.json", "config", "check"]).exits(2);
    world.run(&["config", "check", "other.json"]).exits(2);
    let done = world.command(&["config", "path"]).env("OFFSHOOT_CONFIG", "other.json").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), "other.json\n");
    world.run(&["--config", "missing.json", "run", "x"]).exits(2).says("missing.json does not exist");
}

#[test]
fn the_path_is_told_before_the_file_exists() {
    let world = World::new();
    let expected = world.state().join("offshoot.json");
    let done = world.run(&["config", "path"]).exits(0).says("does not exist");
    assert_eq!(done.stdout.trim_end(), expected.to_str().unwrap());
    let document = world.run(&["config", "path", "--json"]).json();
    assert_eq!(document["exists"], false);
}

#[test]
fn a_configuration_of_openclaw_is_pointed_to_once() {
    let world = World::new();
    world.write(".openclaw/openclaw.json", "{}");
    let done = world.run(&["run", "Reply with exactly: x"]).exits(0);
    assert_eq!(done.stdout, "x\n");
    let hints: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("hint:")).collect();
    assert_eq!(hints.len(), 1, "{}", done.stderr);
    assert!(hints[0].contains(".openclaw/openclaw.json"), "{hints:?}");
    world.write(".offshoot/offshoot.json", "{}");
    assert_eq!(world.run(&["run", "Reply with exactly: x"]).exits(0).stderr, "");
}
