//! The daemon on a store that gives way: full, read-only, gone, damaged, of tomorrow, of yesterday.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde_json::{Value, json};

use crate::client::Client;
use crate::daemon::Gateway;
use crate::namespace::{self, Small};
use crate::support::World;

/// After this long a test has failed. Nothing waits for it otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `/readyz` answers, with its status.
fn readyz(gateway: &Gateway) -> (u16, Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

fn is_ready(gateway: &Gateway) -> bool {
    readyz(gateway).0 == 200
}

#[test]
fn a_full_device_is_told_of_to_whoever_asks_until_there_is_room() {
    if !namespace::allowed() {
        return;
    }
    let small = Small::start(6 * 1024);
    let run = |message: &str, key: &str| {
        let params = json!({"message": message, "idempotencyKey": key}).to_string();
        small.run(&["gateway", "call", "agent", "--params", &params, "--json"])
    };
    run("Wait: 100ms", "accepted").exits(0);
    small.fill();
    run("Reply with exactly: x", "refused").exits(4).says("device is full").says("free some space");
    let (status, body) = readyz(&small.gateway);
    assert_eq!(
        (status, &body["failing"], &body["store"]["refuses"]["kind"]),
        (503, &json!(["store"]), &json!("full"))
    );
    let health = small.run(&["gateway", "health", "--json"]).exits(4).json();
    assert_eq!((&health["ok"], &health["store"]["ok"]), (&json!(false), &json!(false)));
    let status = small.run(&["gateway", "status"]).exits(0).stdout;
    assert!(status.contains("store     refuses work") && status.contains("device is full"), "{status}");

    small.make_room();
    // Nobody asks anything of the store meanwhile.
    while !is_ready(&small.gateway) {}
    let wait = json!({"runId": "accepted"}).to_string();
    let ended = small.run(&["gateway", "call", "agent.wait", "--params", &wait]).exits(0).json();
    assert_eq!(ended["status"], "ok");
    assert_eq!(
        small.run(&["spawn", "--no-announce", "Reply with exactly: AFTER", "--json"]).exits(0).json()["result"],
        "AFTER"
    );
    let runs = small.run(&["runs", "list", "--json"]).exits(0).json();
    let ended = runs["runs"].as_array().unwrap().iter().filter(|run| run["state"] == "ok").count();
    assert_eq!(ended, 2, "one that was accepted, a spawn, and none that was refused: {runs}");
    assert_eq!(small.run(&["gateway", "health", "--json"]).exits(0).json()["store"]["refuses"], json!(null));
}

/// Spawns that are asked for, by this many clients at a time.
const SPAWNS: usize = 100;
const CLIENTS: usize = 10;
/// The first spawns of each client, which are accepted before the device is filled.
const FIRST: usize = 3;
/// What a task takes at least, in KiB, and the room that there is after the first ones: too little for the others.
const TASK: usize = 24;
const ROOM: u32 = 1_024;

/// Asks for these spawns, all of them at a time.
fn spawn(client: &mut Client, numbers: Range<usize>) -> Vec<(usize, Result<Value, Value>)> {
    let mut open = 0;
    for number in numbers {
        // As many as a session may have are open below each.
        let parent = format!("agent:main:parent-{}", number / 5);
        let task = format!("Wait: 20ms\nReply with exactly: {number}\n{}", "x".repeat(TASK << 10));
        let key = format!("spawn-{number}");
        let params = json!({ "key": parent, "task": task, "idempotencyKey": key });
        client.send(&number.to_string(), "sessions.spawn", &params);
        open += 1;
    }
    let answers = (0..open).map(|_| client.answer());
    answers.map(|(id, answer)| (id.parse().unwrap(), answer)).collect()
}

/// Every run of a sub-agent, by its id, when none is open any more.
fn ended(small: &Small) -> BTreeMap<String, String> {
    let runs = |more: &[&str]| {
        let list = small.run(&[&["runs", "list", "--json"], more].concat()).exits(0).json();
        list["runs"].as_array().unwrap().clone()
    };
    let began = Instant::now();
    while !runs(&["--open"]).is_empty() {
        assert!(began.elapsed() < PATIENCE, "{:?}", runs(&["--open"]));
    }
    let text = |run: &Value, name: &str| run[name].as_str().unwrap().to_owned();
    let all = runs(&["--limit", "10000"]);
    let children = all.iter().filter(|run| text(run, "sessionKey").contains(":subagent:"));
    children.map(|run| (text(run, "runId"), text(run, "state"))).collect()
}

#[test]
fn a_device_that_fills_in_the_middle_of_a_hundred_spawns_loses_no_accepted_one_and_needs_no_restart() {
    if !namespace::allowed() {
        return;
    }
    let small = Small::start(32 * 1024);
    let token = small.token();
    let clients = || (0..CLIENTS).map(|_| Client::connect(&small.gateway, &token));
    let of = |at: usize| at * SPAWNS / CLIENTS..(at + 1) * SPAWNS / CLIENTS;
    let mut clients_at_work: Vec<Client> = clients().collect();
    // Asks by all clients at a time, and does something meanwhile.
    let mut ask = |numbers: &dyn Fn(usize) -> Range<usize>, meanwhile: &dyn Fn()| {
        thread::scope(|scope| {
            let asking = clients_at_work.iter_mut().enumerate().map(|(at, client)| {
                let numbers = numbers(at);
                scope.spawn(move || spawn(client, numbers))
            });
            let asking: Vec<_> = asking.collect();
            meanwhile();
            asking.into_iter().flat_map(|asking| asking.join().unwrap()).collect::<Vec<_>>()
        })
    };
    let mut answers: BTreeMap<_, _> =
        ask(&|at| of(at).start..of(at).start + FIRST, &|| {}).into_iter().collect();
    small.leave(ROOM);
    // The others take what room there is, and so does this.
    answers.extend(ask(&|at| of(at).start + FIRST..of(at).end, &|| small.fill()));
    assert_eq!(answers.len(), SPAWNS, "every one is answered");
    let mut accepted = BTreeMap::new();
    let mut refused = Vec::new();
    for (number, answer) in answers {
        match answer {
            Ok(answer) => drop(accepted.insert(number, answer["runId"].as_str().unwrap().to_owned())),
            Err(error) => {
                let why = error["message"].as_str().unwrap();
                assert!(why.contains("the state directory's device is full"), "{error}");
                refused.push(number);
            }
        }
    }
    assert!(accepted.len() >= CLIENTS * FIRST && !refused.is_empty(), "{} accepted", accepted.len());

    small.make_room();
    // Nobody asks anything of the store meanwhile.
    while !is_ready(&small.gateway) {}
    let stored = ended(&small);
    assert_eq!(stored.keys().collect::<BTreeSet<_>>(), accepted.values().collect::<BTreeSet<_>>());
    assert!(stored.values().all(|state| state == "ok"), "{stored:?}");

    // The same keys again, by a client that comes anew: what was refused is done, what was accepted is not done twice.
    for (number, answer) in spawn(&mut clients().next().unwrap(), 0..SPAWNS) {
        let run = answer.unwrap()["runId"].as_str().unwrap().to_owned();
        assert!(accepted.get(&number).is_none_or(|before| *before == run), "{number}");
        accepted.insert(number, run);
    }
    let stored = ended(&small);
    assert_eq!(stored.keys().collect::<BTreeSet<_>>(), accepted.values().collect::<BTreeSet<_>>());
    assert_eq!(stored.values().filter(|state| *state == "ok").count(), SPAWNS, "{stored:?}");
    small.run(&["audit", "verify"]).exits(0);
}

#[test]
fn a_directory_that_cannot_be_written_is_named_and_can_be_read() {
    if !namespace::allowed() {
        return;
    }
    let world = World::new();
    world.run(&["run", "Reply with exactly: x"]).exits(0);
    let state = world.state();
    let copy = format!("cp -a {}/. /mnt/ && mount -o remount,ro /mnt &&", state.display());
    let read_only = |arguments: &[&str]| {
        let mut command = world.process(arguments);
        command.args(["--state-dir", "/mnt"]);
        namespace::wrap(&mut command, 6 * 1024, &copy);
        crate::support::Done::from(command.output().unwrap())
    };
    read_only(&["gateway", "run", "--port", "0"]).exits(4).says("/mnt").says("Read-only file system");
    let listed = read_only(&["runs", "list", "--json"]).exits(0).json();
    assert_eq!(listed["runs"][0]["state"], "ok");
    read_only(&["doctor"]).exits(6);
}

#[test]
fn a_database_that_is_taken_away_under_the_daemon_takes_no_work_until_it_is_back() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    let (file, away) = (world.state().join("offshoot.db"), world.path("away.db"));
    fs::rename(&file, &away).unwrap();
    let url = gateway.url();
    let token = fs::read_to_string(world.state().join("gateway.token")).unwrap();
    let params = json!({"message": "Reply with exactly: x", "idempotencyKey": "one"}).to_string();
    let call = ["gateway", "call", "agent", "--url", &url, "--token", token.trim(), "--params", &params];
    world.run(&call).exits(4).says("put it back");
    assert!(!is_ready(&gateway));
    fs::rename(&away, &file).unwrap();
    while !is_ready(&gateway) {}
    world.run(&call).exits(0);
}

#[test]
fn a_database_of_a_newer_program_is_refused_and_left_as_it_is() {
    let world = World::new();
    world.run(&["run", "Reply with exactly: x"]).exits(0);
    let file = world.state().join("offshoot.db");
    let newer = rusqlite::Connection::open(&file).unwrap();
    newer.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA user_version = 4711").unwrap();
    drop(newer);
    let bytes = fs::read(&file).unwrap();
    let commands: [&[&str]; 3] = [&["gateway", "run", "--port", "0"], &["run", "x"], &["runs", "list"]];
    for command in commands {
        world.run(command).exits(4).says("schema version 4711").says("newer");
    }
    assert!(world.run(&["doctor"]).exits(6).stdout.contains("4711"));
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn a_damaged_page_fails_what_meets_it_and_nothing_else() {
    let world = World::new();
    world.run(&["run", "Reply with exactly: x"]).exits(0);
    spoil(&world, "entries");
    let gateway = Gateway::start(&world);
    world.run(&["sessions", "show", "main"]).exits(4).says("damaged").says("`offshoot doctor`");
    let message = |session: &str, key: &str| {
        let params =
            json!({"sessionKey": session, "message": "Reply with exactly: x", "idempotencyKey": key});
        world.run(&["gateway", "call", "agent", "--params", &params.to_string()])
    };
    message("agent:main:main", "one").exits(4).says("damaged");
    let status = world.run(&["gateway", "status", "--json"]).exits(0).json();
    assert_eq!(status["store"]["damaged"]["kind"], "damaged", "{status}");
    assert!(is_ready(&gateway));
    let report = world.run(&["doctor", "--json"]).exits(6).json();
    let found = report["findings"].as_array().unwrap().iter();
    assert!(found.into_iter().any(|finding| finding["check"] == "database"), "{report}");
    gateway.signal(Signal::TERM);
    gateway.done().exits(0);

    // What a start needs: it ends with a word, not with a daemon that cannot go on.
    spoil(&world, "audit");
    world.run(&["gateway", "run", "--port", "0"]).exits(4).says("damaged").says("`offshoot backup restore`");
}

/// Overwrites the first page of a table.
fn spoil(world: &World, table: &str) {
    let file = world.state().join("offshoot.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: i64 = connection.query_row(sql, [table], |row| row.get(0)).unwrap();
    let root = usize::try_from(root).unwrap();
    drop(connection);
    let mut bytes = fs::read(&file).unwrap();
    bytes[(root - 1) * 4_096..][..4_096].fill(0xff);
    fs::write(&file, bytes).unwrap();
}

#[test]
fn a_limit_on_file_sizes_refuses_what_does_not_fit_and_does_not_end_the_daemon() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    let limit = |bytes: Option<u64>| {
        let limits = Rlimit { current: bytes, maximum: None };
        let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap());
        rustix::process::prlimit(pid, Resource::Fsize, limits).unwrap();
    };
    let log = fs::metadata(world.state().join("offshoot.db-wal")).unwrap().len();
    limit(Some(log));
    world.run(&["spawn", "Reply with exactly: x"]).exits(4).says("`ulimit -f`");
    assert_eq!(readyz(&gateway).1["store"]["refuses"]["kind"], "failed");
    limit(None);
    while !is_ready(&gateway) {}
    world.run(&["spawn", "Reply with exactly: x"]).exits(0);
}
