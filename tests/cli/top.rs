//! `top` in a real terminal, driven by keys.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::Gateway;
use crate::support::{World, send};
use crate::watching::{DEEP, Reading, runs_in, spawning, tree_until};

/// Nothing on a screen takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal with the program in it.
pub struct Screen {
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    output: Receiver<Vec<u8>>,
    seen: vt100::Parser,
    /// All that was written, for what is no picture.
    written: Vec<u8>,
}

impl Screen {
    pub fn start(world: &World, arguments: &[&str], (rows, cols): (u16, u16)) -> Self {
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        let pty = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_offshoot"));
        command.env_clear();
        for (name, value) in world.surroundings() {
            command.env(name, value);
        }
        command.env("TERM", "xterm-256color");
        command.args(arguments);
        let child = pty.slave.spawn_command(command).unwrap();
        drop(pty.slave);
        let mut reader = pty.master.try_clone_reader().unwrap();
        let keys = pty.master.take_writer().unwrap();
        let (tell, output) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 8_192];
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                if tell.send(piece[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let seen = vt100::Parser::new(rows, cols, 0);
        Self { master: pty.master, keys, child, output, seen, written: Vec::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until the screen shows something.
    #[track_caller]
    pub fn until(&mut self, enough: impl Fn(&str) -> bool) -> String {
        loop {
            let text = self.seen.screen().contents();
            if enough(&text) {
                return text;
            }
            match self.output.recv_timeout(PATIENCE) {
                Ok(piece) => self.take(&piece),
                Err(error) => panic!("{error}; the screen shows\n{text}"),
            }
        }
    }

    pub fn shows(&mut self, part: &str) -> String {
        self.until(|text| text.contains(part))
    }

    fn take(&mut self, piece: &[u8]) {
        self.seen.process(piece);
        self.written.extend_from_slice(piece);
    }

    fn resize(&mut self, rows: u16, cols: u16) {
        self.seen.screen_mut().set_size(rows, cols);
        self.master.resize(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).unwrap();
    }

    /// Waits for the end, and looks whether the terminal was given back.
    #[track_caller]
    fn ends(mut self, code: u32) {
        assert_eq!(self.child.wait().unwrap().exit_code(), code);
        while let Ok(piece) = self.output.recv_timeout(Duration::from_millis(200)) {
            self.take(&piece);
        }
        let screen = self.seen.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor(), "the terminal is left as it was");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Two sub-agents that wait, one with a sub-agent of its own.
fn busy(world: &World) -> crate::support::Running {
    let wait = || "Wait: 1h".to_owned();
    let left = spawning(&[("below", wait())]);
    let run = world.begin(&["run", &spawning(&[("left", left), ("right", wait())])]);
    tree_until(world, |tree| runs_in(tree, "yielded") == 2 && runs_in(tree, "running") == 2);
    run
}

fn states(world: &World) -> Vec<String> {
    let mut states: Vec<String> =
        world.runs().iter().map(|run| run["state"].as_str().unwrap().to_owned()).collect();
    states.sort();
    states
}

#[test]
fn a_subtree_is_cancelled_and_a_session_steered_by_keys() {
    let world = World::with(DEEP);
    let _gateway = Gateway::start(&world);
    let _run = busy(&world);
    let mut top = Screen::start(&world, &["top"], (40, 150));
    // The last line is drawn last.
    let text = top.until(|text| text.contains("\"right\"") && text.contains("? help"));
    for part in ["offshoot  up ", "session agent:main:main  yielded", "\"left\"", "\"below\""] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    top.press("/left\r");
    top.until(|text| text.contains("\"left\"") && !text.contains("\"right\""));
    top.press("G");
    top.until(|text| text.contains("label      left"));
    top.press("c");
    top.shows(", 2 runs? [y/n]");
    top.press("y");
    top.shows("cancelled run ");
    while states(&world).iter().filter(|state| *state == "cancelled").count() < 2 {}
    assert_eq!(states(&world), ["cancelled", "cancelled", "running", "yielded"]);

    top.press("\u{1b}");
    top.shows("\"right\"");
    top.press("/right\r");
    top.until(|text| text.contains("\"right\"") && !text.contains("\"left\""));
    top.press("G");
    top.until(|text| text.contains("label      right"));
    top.press("sReply with exactly: STEERED");
    top.shows("which ends its run: Reply with exactly: STEERED");
    top.press("\r");
    top.shows("steered agent:main:subagent:");
    while !world.runs().iter().any(|run| run["result"] == "STEERED" && run["state"] == "ok") {}
    top.press("l");
    top.until(|text| ["user:", "Wait: 1h", "STEERED"].iter().all(|part| text.contains(part)));
    top.press("q");
    top.press("y");
    top.shows("copied agent:main:subagent:");
    let sequence = b"\x1b]52;c;";
    assert!(top.written.windows(sequence.len()).any(|piece| piece == sequence));
    top.press("q");
    top.ends(0);
}

#[test]
fn the_picture_survives_a_small_terminal_and_a_restart_of_the_daemon() {
    let world = World::with(DEEP);
    let gateway = Gateway::start(&world);
    let run = busy(&world);
    let mut top = Screen::start(&world, &["top"], (30, 118));
    top.shows("\"right\"");
    for (rows, cols) in [(3, 20), (2, 4), (12, 50)] {
        top.resize(rows, cols);
    }
    let text = top.until(|text| text.starts_with("offshoot  up ") && text.contains("sessions"));
    assert!(text.lines().count() <= 12 && text.lines().all(|line| line.chars().count() <= 50), "{text}");
    top.resize(30, 118);
    top.shows("\"right\"");
    gateway.kill();
    drop(run);
    top.shows("waiting for it to come back");
    let _again = Gateway::start(&world);
    let text = top.shows("the gateway is back");
    assert!(text.starts_with("offshoot  up "), "{text}");
    top.shows("\"right\"");
    send(top.child.process_id().unwrap(), Signal::TERM);
    top.ends(143);
}

#[test]
fn a_signal_ends_it_and_the_terminal_is_given_back() {
    let world = World::new();
    let _gateway = Gateway::start(&world);
    for signal in [Signal::QUIT, Signal::HUP] {
        let mut top = Screen::start(&world, &["top"], (10, 80));
        top.shows("offshoot  up ");
        send(top.child.process_id().unwrap(), signal);
        top.ends(143);
    }
}

#[test]
fn json_needs_no_terminal_and_is_that_of_the_watched_tree_with_all() {
    let world = World::new();
    world.run(&["top", "--json"]).exits(4);
    let _gateway = Gateway::start(&world);
    world.run(&["run", "Reply with exactly: done"]).exits(0);
    let _run = world.begin(&["run", "Wait: 1h"]);
    tree_until(&world, |tree| runs_in(tree, "running") == 1);
    let read = |reading: &mut Reading| -> Value { serde_json::from_str(&reading.line().unwrap()).unwrap() };
    // The actors beside connections, which come and go.
    let nodes = |tree: &Value| -> Vec<Value> {
        let all = tree["nodes"].as_array().unwrap().iter().filter(|node| node["kind"] != "connection");
        all.map(|node| json!([node["id"], node["parent"], node["path"]])).collect()
    };
    let mut top = Reading::start(&world, &["top", "--json"]);
    let first = read(&mut top);
    let mut tree = Reading::start(&world, &["tree", "--all", "--watch", "--json"]);
    assert_eq!(nodes(&first), nodes(&read(&mut tree)));
    assert!(first["nodes"].as_array().unwrap().iter().any(|node| node["state"] == "ended"), "{first}");
    assert_eq!(tree.ends(Some(Signal::INT)), Some(0));
    let second = read(&mut top);
    assert_eq!((&second["base"], second["changed"].is_array()), (&first["rev"], true), "{second}");
    assert_eq!(top.ends(Some(Signal::INT)), Some(0));

    let mut part = Reading::start(&world, &["top", "--json", "agent:main:main"]);
    let part_of = read(&mut part);
    assert!(nodes(&part_of).len() < nodes(&first).len(), "{part_of}");
    assert_eq!(part_of["nodes"][0]["session"]["key"], "agent:main:main");
    assert_eq!(part.ends(Some(Signal::INT)), Some(0));
}

#[test]
fn without_a_terminal_or_a_daemon_a_line_says_so() {
    let world = World::new();
    world.run(&["top"]).exits(4).says("no gateway runs");
    let _gateway = Gateway::start(&world);
    world.run(&["top"]).exits(2).says("needs a terminal").says("tree --watch");
    let mut watched = Screen::start(&world, &["tree", "--watch"], (24, 60));
    watched.shows("store  running");
    let _run = world.begin(&["run", "Wait: 1h"]);
    let text = watched.until(|text| text.contains(" 1 running"));
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    watched.press("\u{3}");
    watched.ends(0);
}
