//! What a person at a terminal sees, and what a pipe does not get.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{World, send};

/// A terminal: the end of the person, and the end of the program.
fn terminal() -> (File, OwnedFd) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let program =
        rustix::fs::open(&name, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY, 0.into()).unwrap();
    (File::from(person), program)
}

/// What is written to the terminal until nobody has it open any more, or until `enough`.
fn read(person: &mut File, enough: impl Fn(&str) -> bool) -> String {
    let mut seen = Vec::new();
    let mut piece = [0; 4_096];
    // A terminal that the last program has closed fails to be read.
    while let Ok(count @ 1..) = person.read(&mut piece) {
        seen.extend_from_slice(&piece[..count]);
        if enough(&String::from_utf8_lossy(&seen)) {
            break;
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Standard output and standard error of a command on a terminal.
fn shown(arguments: &[&str], vars: &[(&str, &str)]) -> String {
    let (mut person, program) = terminal();
    let world = World::new();
    let mut command = world.process(arguments);
    command.env("TERM", "xterm-256color").envs(vars.iter().copied());
    command.stdout(Stdio::from(program.try_clone().unwrap())).stderr(Stdio::from(program));
    let mut child = Killed(command.spawn().unwrap());
    // The command keeps its own copies of the program's end open.
    drop(command);
    let text = read(&mut person, |_| false);
    assert!(child.0.wait().is_ok());
    text
}

const OK: [&str; 2] = ["spawn", "Reply with exactly: SUBAGENT_OK"];
const REFUSED: [&str; 4] = ["spawn", "--agent", "nobody", "x"];

#[test]
fn colours_are_for_terminals() {
    for arguments in [&OK[..], &REFUSED, &["runs", "list"]] {
        let plain = World::new().run(arguments);
        assert!(!plain.stdout.contains('\u{1b}') && !plain.stderr.contains('\u{1b}'), "{}", plain.stdout);
    }
    for arguments in [&OK[..], &REFUSED] {
        let text = shown(arguments, &[]);
        assert!(text.contains("\u{1b}["), "{text:?}");
        let text = shown(arguments, &[("NO_COLOR", "1")]);
        assert!(!text.contains("\u{1b}[3") && !text.contains("\u{1b}[1m"), "{text:?}");
        let never = [&["--color", "never"], arguments].concat();
        assert!(!shown(&never, &[]).contains('\u{1b}'));
    }
    assert!(World::new().run(&["--color", "always", OK[0], OK[1]]).stdout.contains('\u{1b}'));
}

#[test]
fn a_document_has_no_colours_on_a_terminal_either() {
    let text = shown(&["--json", OK[0], OK[1]], &[]);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["result"], "SUBAGENT_OK");
}

#[test]
fn what_a_model_says_cannot_control_the_terminal() {
    let text = shown(&["run", "Reply with exactly: a\u{1b}]0;title\u{7}b"], &[("NO_COLOR", "1")]);
    assert!(text.contains("a\u{fffd}]0;title\u{fffd}b"), "{text:?}");
    assert!(!text.contains('\u{7}'), "{text:?}");
}

#[test]
fn the_tree_is_shown_while_it_works() {
    let (mut person, program) = terminal();
    let world = World::new();
    let prompt =
        "Spawn: {\"task\":\"Wait: 10m\",\"label\":\"slow one\"}\nSpawn: {\"task\":\"Reply with exactly: x\"}";
    let mut command = world.process(&["run", prompt]);
    command.env("TERM", "xterm-256color").stderr(Stdio::from(program));
    let child = Killed(command.spawn().unwrap());
    drop(command);
    let text = read(&mut person, |text| text.contains("slow one"));
    let rest = read(&mut person, |text| text.contains("1 running, 1 waiting, 1 ended"));
    let text = text + &rest;
    for part in ["running", "yielded", "tokens"] {
        assert!(text.contains(part), "no {part} in {text:?}");
    }
    send(child.0.id(), Signal::INT);
    let end = read(&mut person, |_| false);
    assert!(end.contains("stopped: 2 runs were cancelled"), "{end:?}");
}

#[test]
fn nothing_is_drawn_after_a_second_ctrl_c() {
    let (mut person, program) = terminal();
    let world = World::new();
    let mut command = world.process(&["run", "Wait: 10m"]);
    command.env("TERM", "xterm-256color").stderr(Stdio::from(program));
    let child = Killed(command.spawn().unwrap());
    drop(command);
    read(&mut person, |text| text.contains("running"));
    // While somebody else holds the database, the end of the run cannot be committed.
    let holder = rusqlite::Connection::open(world.state().join("offshoot.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    send(child.0.id(), Signal::INT);
    read(&mut person, |text| text.contains("leaves at once"));
    send(child.0.id(), Signal::INT);
    let end = read(&mut person, |_| false);
    let (_, after) = end.split_once("left at once").unwrap();
    assert_eq!(after.split_once('\n').unwrap().1, "", "{end:?}");
}

#[test]
fn elsewhere_the_tree_is_a_plain_line() {
    let world = World::new();
    let mut running = world.begin(&["spawn", "Wait: 10m"]);
    running.until("tokens");
    running.signal(Signal::INT);
    let done = running.done().exits(130).says(": 1 running, 0 tokens\n");
    assert!(!done.stderr.contains('\u{1b}'), "{}", done.stderr);
}

#[test]
fn a_person_is_asked_before_a_session_is_deleted() {
    let world = World::new();
    world.run(&["spawn", "Reply with exactly: x"]).exits(0);
    for (answer, code, left) in [("\n", 1, 2), ("no\n", 1, 2), ("y\n", 0, 0)] {
        let (mut person, program) = terminal();
        let mut command = world.process(&["sessions", "delete", "main"]);
        command.stdin(Stdio::from(program.try_clone().unwrap())).stderr(Stdio::from(program));
        let mut child = Killed(command.spawn().unwrap());
        drop(command);
        let question = read(&mut person, |text| text.contains("[y/N]"));
        assert!(
            question.contains("agent:main:main") && question.contains("delete 2 sessions"),
            "{question:?}"
        );
        person.write_all(answer.as_bytes()).unwrap();
        read(&mut person, |_| false);
        assert_eq!(child.0.wait().unwrap().code(), Some(code));
        assert_eq!(world.sessions().len(), left);
    }
}
