//! What the shipped program makes of a database that an earlier build left behind when it was killed: see
//! `tests/fixtures/README.md` for what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::daemon::Gateway;
use crate::deliveries::message;
use crate::device::Device;
use crate::support::World;

const STORE: &str = include_str!("../fixtures/store_version_5.sql");
/// Where the callback in it goes.
const RECEIVER: &str = "http://127.0.0.1:9/";
const MAIN: &str = "agent:main:main";
const NOTES: &str = "agent:main:notes";
const PARENT: &str = "01a20150-cd85-77f1-b625-5621d2cad867";
const TWO: &str = "01a20150-cd88-7036-9ee5-b3fd8d880c02";
const HOOK: &str = "01a20150-cd8b-7088-937a-257b471f1bbc";
/// What was open: those, `three` and `four`.
const OPEN: [&str; 5] =
    [PARENT, TWO, HOOK, "01a20150-cf85-710a-97ab-fc6f095b98d9", "01a20150-cf87-7365-a7bc-cf34693e0b6e"];
/// The secret of the device in it.
const DEVICE_TOKEN: &str = "4g3GFsyPISlemgQlSGSU3iv4Xpjn_lprt994tdUuVNk";
/// After this long a test has failed. Nothing waits for it otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// The model server that the runs in it use, which now answers, and who wants the result of the webhook.
struct Outside {
    address: String,
    /// What models were asked, in the order in which they were.
    asked: Arc<Mutex<Vec<Value>>>,
    results: Receiver<Value>,
}

impl Outside {
    fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (sender, results) = channel();
        let models = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (head, body) = message(&mut stream);
                let mut answer = "HTTP/1.1 200 OK\r\nconnection: close\r\n".to_owned();
                if head.starts_with("POST /results") {
                    answer += "content-length: 0\r\n\r\n";
                    sender.send(body).unwrap();
                } else {
                    let text = format!("answer of {}", body["model"].as_str().unwrap());
                    let delta = json!({ "choices": [{ "index": 0, "delta": { "content": text } }] });
                    let stop = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
                    answer += "content-type: text/event-stream\r\n\r\n";
                    answer += &format!("data: {delta}\n\ndata: {stop}\n\ndata: [DONE]\n\n");
                    models.lock().unwrap().push(body);
                }
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { address, asked, results }
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    /// What the receiver of the webhook's result gets.
    fn result(&self) -> Value {
        self.results.recv_timeout(PATIENCE).expect("a result comes")
    }
}

/// A home with that database in it. However long ago that was written, nothing of it is too old.
fn world(outside: &Outside, mode: &str) -> World {
    let base = format!("{}v1", outside.address);
    let config = json!({
        "gateway": { "auth": { "token": "the-shared-token" } },
        "hooks": { "enabled": true, "token": "hook-token" },
        "models": { "providers": { "scripted": {
            "baseUrl": base, "models": [{ "id": "child" }, { "id": "hook" }],
        } } },
        "store": { "keepRuns": 0 },
        "agents": { "defaults": {
            "subagents": { "maxConcurrent": 2, "archiveAfterMinutes": 0 },
            "recovery": { "mode": mode, "maxAge": 0 },
        } },
    });
    let world = World::with(&config.to_string());
    assert_eq!(STORE.matches(RECEIVER).count(), 1);
    database(&world).execute_batch(&STORE.replace(RECEIVER, &outside.address)).unwrap();
    world
}

fn database(world: &World) -> Connection {
    Connection::open(world.state().join("offshoot.db")).unwrap()
}

fn rows(world: &World, sql: &str) -> Vec<Vec<Cell>> {
    let database = database(world);
    let mut statement = database.prepare(sql).unwrap();
    let columns = statement.column_count();
    let read = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
    statement.query_map([], read).unwrap().map(Result::unwrap).collect()
}

/// What became of what was done: the transcripts of the sessions that had ended, their runs, and the devices.
fn done(world: &World) -> Vec<Vec<Vec<Cell>>> {
    [
        "SELECT seq, at, run_id, content FROM transcripts WHERE session_key = 'agent:main:notes'",
        "SELECT id, session_key, state, cause, wire_id, model_used, steps, input_tokens, output_tokens, accepted_at, \
         ended_at, result FROM runs WHERE number <= 3",
        "SELECT * FROM tool_calls WHERE run_id IN (SELECT id FROM runs WHERE number <= 3)",
        "SELECT key, depth, created_at, updated_at FROM deleted_sessions",
        "SELECT * FROM devices",
        "SELECT * FROM device_tokens",
    ]
    .map(|sql| rows(world, sql))
    .into()
}

/// Everything in the store, but for who connected.
fn everything(world: &World) -> BTreeMap<String, Vec<Vec<Cell>>> {
    let names = rows(world, "SELECT name FROM sqlite_schema WHERE type = 'table'");
    let table = |name: Vec<Cell>| match &name[0] {
        Cell::Text(name) => {
            let but = if name == "audit" { " WHERE event NOT LIKE 'connection.%'" } else { "" };
            (name.clone(), rows(world, &format!("SELECT * FROM {name}{but}")))
        }
        other => panic!("{other:?}"),
    };
    names.into_iter().map(table).collect()
}

fn version(world: &World) -> i64 {
    database(world).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Looks again and again until no run is open, and the callback was taken.
fn settled(world: &World) {
    let began = Instant::now();
    let open = || {
        let open = world.run(&["runs", "list", "--open", "--json"]).exits(0).json();
        let callback = world.run(&["deliveries", "show", HOOK, "--json"]).exits(0).json();
        (open["runs"].as_array().unwrap().len(), callback["deliveries"][0]["state"].clone())
    };
    while open() != (0, json!("delivered")) {
        assert!(began.elapsed() < PATIENCE, "{:?} {:?}", open(), world.runs());
    }
}

/// Connects as the device, with what it was given then, and asks one thing.
fn asks_as_the_device(gateway: &Gateway, method: &str, params: &Value) -> Value {
    let stream = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut socket, _) = tungstenite::client(gateway.url(), stream).unwrap();
    let mut answer = |request: Option<(&str, &Value)>| -> Value {
        if let Some((method, params)) = request {
            let frame = json!({ "type": "req", "id": method, "method": method, "params": params });
            socket.send(Message::text(frame.to_string())).unwrap();
        }
        loop {
            let frame: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
            if request.is_none() || frame["type"] == "res" {
                return frame;
            }
        }
    };
    let challenge = answer(None);
    let mut connect = json!({
        "minProtocol": 4, "maxProtocol": 4,
        "client": { "id": "cli", "version": "1.0.0", "platform": "linux", "mode": "cli" },
        "role": "operator", "scopes": ["operator.read", "operator.write"], "caps": [],
        "auth": { "deviceToken": DEVICE_TOKEN },
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let nonce = challenge["payload"]["nonce"].as_str().unwrap();
    Device::named("a phone of an earlier build").sign(&mut connect, 3, nonce, u64::try_from(now).unwrap());
    let hello = answer(Some(("connect", &connect)));
    assert_eq!(hello["ok"], true, "{hello}");
    let answer = answer(Some((method, params)));
    assert_eq!(answer["ok"], true, "{answer}");
    answer["payload"].clone()
}

/// Another start of the gateway finds nothing to do.
fn a_second_start_changes_nothing(world: &World, outside: &Outside) {
    let (before, asked) = (everything(world), outside.asked().len());
    let gateway = Gateway::start(world);
    world.run(&["gateway", "call", "health"]).exits(0);
    world.run(&["gateway", "stop"]).exits(0);
    gateway.done().exits(0);
    for (table, rows) in everything(world) {
        assert_eq!(rows, before[&table], "{table}");
    }
    assert_eq!((outside.asked().len(), outside.results.try_recv().ok()), (asked, None));
}

#[test]
fn a_database_of_an_earlier_build_is_brought_up_to_date_and_its_runs_go_on() {
    let outside = Outside::listen();
    let world = world(&outside, "resume");
    let of_the_parent = "SELECT seq FROM transcripts WHERE session_key = 'agent:main:main'";
    let (before, of_the_parent) = (done(&world), rows(&world, of_the_parent).len());
    assert_eq!(version(&world), 5);
    let gateway = Gateway::start(&world);
    let result = outside.result();
    assert_eq!((&result["runId"], &result["text"]), (&json!(HOOK), &json!("answer of hook")));
    settled(&world);
    let fresh = World::new();
    fresh.run(&["run", "Reply with exactly: new"]).exits(0);
    assert_eq!(version(&world), version(&fresh));

    // Every run has come to its own end, and none was added.
    let runs = world.runs();
    assert_eq!(runs.len(), 9, "{runs:?}");
    assert!(runs.iter().all(|run| run["state"] == "ok"), "{runs:?}");
    // The parent woke once: after the end of the stored transcript there are the results, and what it made of them.
    let entries = world.entries(MAIN);
    let [results, last] = &entries[of_the_parent..] else { panic!("{entries:?}") };
    let items = results["items"].as_array().unwrap().iter();
    let items: Vec<_> = items.map(|item| (text(&item["label"]), text(&item["text"]))).collect();
    let items: Vec<_> = items.iter().map(|(label, text)| (label.as_str(), text.as_str())).collect();
    let all = [("one", "one"), ("two", "answer of child"), ("three", "answer of child"), ("four", "four")];
    assert_eq!(items[0], all[0], "it was on its way already");
    assert_eq!((items.len(), BTreeSet::from_iter(items)), (4, BTreeSet::from(all)));
    assert_eq!((&last["type"], world.delivered(MAIN).len()), (&json!("assistant"), 4));
    // Each call that was cut was made once more; a step that was committed was not, and nothing it had was left out.
    let asked = outside.asked();
    assert_eq!(asked.len(), 3, "{asked:?}");
    let two = asked.iter().find(|body| body["messages"].to_string().contains("say two")).unwrap();
    let said: Vec<_> = two["messages"].as_array().unwrap().iter().skip(1).collect();
    let roles: Vec<_> = said.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "user"], "{said:?}");
    assert_eq!(said[2]["tool_call_id"], "call_of_the_first_step");
    assert_eq!(said[3]["content"], "and say it loudly");
    let calls = rows(&world, &format!("SELECT call_id, status FROM tool_calls WHERE run_id = '{TWO}'"));
    assert_eq!(calls, [["call_of_the_first_step", "ok"].map(|text| Cell::Text(text.to_owned()))]);

    // What was done stays as it was, and the device is known.
    assert_eq!(done(&world), before);
    assert_eq!(world.entries(NOTES).len(), 6);
    let waited = asks_as_the_device(&gateway, "agent.wait", &json!({ "runId": "the-plan", "timeoutMs": 0 }));
    assert_eq!(waited["status"], "ok", "{waited}");
    world.run(&["audit", "verify"]).exits(0);
    world.run(&["doctor"]).exits(0);
    gateway.kill();
    a_second_start_changes_nothing(&world, &outside);
}

#[test]
fn runs_of_an_earlier_build_are_interrupted_by_name_where_that_is_the_policy() {
    let outside = Outside::listen();
    let world = world(&outside, "interrupt");
    let before = done(&world);
    let gateway = Gateway::start(&world);
    let result = outside.result();
    assert_eq!((&result["runId"], &result["status"]), (&json!(HOOK), &json!("interrupted")));
    // The four children, and the run in which one of them took the message that had reached it before.
    let began = Instant::now();
    while world.delivered(MAIN).len() < 5 {
        assert!(began.elapsed() < PATIENCE, "{:?}", world.runs());
    }
    settled(&world);
    let runs = world.runs();
    for id in OPEN {
        let run = runs.iter().find(|run| run["runId"] == id).unwrap();
        assert_eq!(run["state"], "interrupted", "{run}");
        let reason = run["reason"].as_str().unwrap();
        assert!(reason.contains("agents.defaults.recovery.mode says not to resume"), "{run}");
    }
    let told: Vec<_> =
        world.delivered(MAIN).iter().map(|item| (text(&item["label"]), text(&item["state"]))).collect();
    let expected = ["ok", "interrupted", "interrupted", "interrupted", "ok"];
    let labels: BTreeSet<_> = told[..4].iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(told.iter().map(|(_, state)| state).collect::<Vec<_>>(), expected, "{told:?}");
    assert_eq!((labels, told[4].0.as_str()), (BTreeSet::from(["one", "two", "three", "four"]), "two"));
    let asked = outside.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0]["messages"].as_array().unwrap().last().unwrap()["content"], "and say it loudly");
    assert_eq!(done(&world), before);
    gateway.kill();
    a_second_start_changes_nothing(&world, &outside);
}
