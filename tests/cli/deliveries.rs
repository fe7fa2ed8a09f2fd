//! `offshoot deliveries`, and results that somebody outside wants.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::Gateway;
use crate::support::World;

/// Without that tool a run does not wait for what it has spawned.
const HOOKS: &str =
    r#"{ hooks: { enabled: true, token: "hook-token" }, tools: { deny: ["sessions_yield"] } }"#;
/// After this long a test has failed. Nothing waits for it otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads one HTTP message, and its body if that is JSON.
pub fn message(stream: &mut TcpStream) -> (String, Value) {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return (head.to_owned(), body);
        }
        let mut bytes = [0; 4_096];
        let count = stream.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "the message ended early: {text}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
}

/// Somebody who takes results, while `open` is set.
struct Outside {
    address: String,
    received: Receiver<Value>,
    open: Arc<AtomicBool>,
}

impl Outside {
    fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/results?token=secret", listener.local_addr().unwrap());
        let (sender, received) = channel();
        let open = Arc::new(AtomicBool::new(true));
        let takes = Arc::clone(&open);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (_, result) = message(&mut stream);
                let takes = takes.load(Ordering::SeqCst);
                let status = if takes { "200 OK" } else { "503 Service Unavailable" };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
                if takes && sender.send(result).is_err() {
                    return;
                }
            }
        });
        Self { address, received, open }
    }

    fn next(&self) -> Value {
        self.received.recv_timeout(PATIENCE).expect("a result comes")
    }
}

/// Has an agent work by its webhook.
fn hook(gateway: &Gateway, wish: &Value) -> Value {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    let body = wish.to_string();
    let request = format!(
        "POST /hooks/agent HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer hook-token\r\ncontent-length: {}\r\n\
         content-type: application/json\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let (head, answer) = message(&mut stream);
    assert!(head.starts_with("HTTP/1.1 200"), "{head} {answer}");
    answer
}

fn listed(world: &World, more: &[&str]) -> Vec<Value> {
    let list = world.run(&[&["deliveries", "list", "--json"], more].concat()).exits(0).json();
    list["deliveries"].as_array().unwrap().clone()
}

/// Looks again and again until the deliveries are as expected.
fn until(world: &World, more: &[&str], expected: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let began = std::time::Instant::now();
    loop {
        let found = listed(world, more);
        if expected(&found) {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{found:?}");
    }
}

#[test]
fn a_callback_comes_once_after_the_daemon_was_killed_before_the_child_ended() {
    let world = World::with(HOOKS);
    let outside = Outside::listen();
    let gateway = Gateway::start(&world);
    let task = r#"Spawn: {"task": "Wait: 4s\nReply with exactly: FROM THE CHILD", "label": "slow"}"#;
    let answer = hook(&gateway, &json!({ "message": task, "callbackUrl": outside.address }));
    let run = answer["runId"].as_str().unwrap().to_owned();
    let receiver = outside.address.split("/results").next().unwrap();
    assert_eq!(answer["delivery"], json!({ "receiver": receiver, "state": "open" }));
    let child = || world.runs().into_iter().find(|row| row["cause"] == "spawn");
    while child().is_none_or(|row| row["state"] != "running") {}
    gateway.kill();
    assert_eq!(child().unwrap()["state"], "running", "it had not ended");
    let open = listed(&world, &["--kind", "callback"]);
    assert_eq!((&open[0]["runId"], &open[0]["state"]), (&json!(run), &json!("open")));
    assert_eq!(outside.received.try_recv().ok(), None);

    let gateway = Gateway::start(&world);
    let result = outside.next();
    assert_eq!((&result["runId"], &result["text"]), (&json!(run), &json!("FROM THE CHILD")));
    assert_eq!(child().unwrap()["state"], "ok", "it went on");
    until(&world, &["--run", &run, "--kind", "callback"], |rows| rows[0]["state"] == "delivered");
    gateway.kill();
    // Whatever a start sends it sends before what comes in later.
    let gateway = Gateway::start(&world);
    let second = hook(&gateway, &json!({ "message": "hello", "callbackUrl": outside.address }));
    assert_eq!(outside.next()["runId"], second["runId"]);
    let more = outside.received.recv_timeout(Duration::from_millis(100));
    assert_eq!(more.err(), Some(RecvTimeoutError::Timeout));
    let all = listed(&world, &[]);
    assert!(!all.iter().any(|row| row.to_string().contains("secret")), "{all:?}");
}

#[test]
fn a_delivery_that_failed_is_shown_retried_and_dismissed() {
    let world = World::with(HOOKS);
    assert_eq!(listed(&world, &[]), [] as [Value; 0]);
    world.run(&["deliveries", "list"]).exits(0).says("no deliveries");
    let outside = Outside::listen();
    outside.open.store(false, Ordering::SeqCst);
    let gateway = Gateway::start(&world);
    let wish = json!({ "message": "Reply with exactly: late", "callbackUrl": outside.address });
    let [first, second] = [0, 1].map(|_| hook(&gateway, &wish)["runId"].as_str().unwrap().to_owned());
    let failed =
        |rows: &[Value]| rows.len() == 2 && rows.iter().all(|row| row["attempts"].as_u64() > Some(1));
    let found = until(&world, &["--state", "failed"], failed);
    assert_eq!(found[0]["runId"], json!(second), "the newest first");
    assert_eq!(found[0]["reason"], "the receiver answered 503 Service Unavailable");
    let attempts = found[1]["attempts"].as_u64();
    gateway.kill();

    world.run(&["deliveries", "retry", &first]).exits(4).says("`offshoot gateway`");
    let shown = world.run(&["deliveries", "show", &first]).exits(0).stdout;
    assert!(shown.contains("callback  of run ") && shown.contains("attempts, next in"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
    world
        .run(&["deliveries", "show", "00000000-0000-0000-0000-000000000000"])
        .exits(5)
        .says("deliveries list");

    // What was counted before goes on.
    let gateway = Gateway::start(&world);
    let stored = listed(&world, &["--run", &first]);
    assert!(stored[0]["attempts"].as_u64() >= attempts, "{stored:?} after {attempts:?}");
    let done = world.run(&["deliveries", "dismiss", &second]).exits(0).stdout;
    assert!(
        done.starts_with(&format!("dismissed the callback of run {second} to http://127.0.0.1:")),
        "{done}"
    );
    world.run(&["deliveries", "dismiss", &second]).exits(1).says("was dismissed before");
    outside.open.store(true, Ordering::SeqCst);
    let retried = world.run(&["deliveries", "retry", &first, "--json"]).exits(0).json();
    assert_eq!(
        (&retried["delivery"]["state"], &retried["delivery"]["attempts"]),
        (&json!("open"), &json!(null))
    );
    assert_eq!(outside.next()["runId"], json!(first));
    let settled = |rows: &[Value]| rows[0]["state"] == "dismissed" && rows[1]["state"] == "delivered";
    until(&world, &[], settled);
    world.run(&["deliveries", "retry", &first]).exits(1).says("was delivered before");
    world.run(&["deliveries", "retry", "00000000-0000-0000-0000-000000000000"]).exits(5);
    world.run(&["deliveries", "list", "--state", "lost"]).exits(2).says("undeliverable");
    gateway.kill();
    world.run(&["audit", "verify"]).exits(0);
    let database = rusqlite::Connection::open(world.state().join("offshoot.db")).unwrap();
    let mut asked = database
        .prepare("SELECT event, origin, facts FROM audit WHERE event LIKE 'delivery.%' ORDER BY id")
        .unwrap();
    let rows =
        asked.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)));
    let rows: Vec<(String, String, String)> = rows.unwrap().map(Result::unwrap).collect();
    let events: Vec<&str> = rows.iter().map(|(event, ..)| event.as_str()).collect();
    assert_eq!(events, ["delivery.dismissed", "delivery.retried"]);
    assert!(
        rows.iter().all(|(_, origin, facts)| origin.contains("lient") && !facts.contains("secret")),
        "{rows:?}"
    );
    let addresses: i64 = database
        .query_row("SELECT count(*) FROM callbacks WHERE address IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(addresses, 0, "of what is settled no address is kept");
}
