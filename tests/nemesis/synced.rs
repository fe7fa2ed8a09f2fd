//! What the kernel sees: between a request and its answer the log is synced.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Client;
use crate::config;
use crate::daemon::Place;
use crate::model::ModelServer;
use crate::plan::Plan;
use crate::skipped::skipped;

/// What is written down: how sockets are read and written, and what reaches the disk. Answers are shown that far.
const TRACE: &str = "trace=recvfrom,read,readv,recvmsg,sendto,sendmsg,write,writev,pwrite64,fsync,fdatasync";
const SHOWN: &str = "65536";
/// The end of a trace is written when its process has ended.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_log_is_synced_between_a_request_and_accepted() {
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        return skipped("strace, which may trace");
    }
    let (asked, calls) = traced("full");
    for id in &asked {
        let synced = check(&calls, id);
        assert!(synced.is_ok(), "{synced:?}");
    }
    // Where nothing is promised against the loss of power nothing is synced, and the check says so.
    let (asked, calls_of_normal) = traced("normal");
    assert!(asked.iter().all(|id| check(&calls_of_normal, id).is_err()));
    eprintln!("strace: the log is synced before each of {} answers, in {} calls", asked.len(), calls.len());
}

/// The ids of some requests, and the system calls of a daemon that accepted them.
fn traced(durability: &str) -> (Vec<String>, Vec<Call>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let model = runtime.block_on(ModelServer::start(1, 0));
    let place = Place::new(&config(&model.url, &json!({ "store": { "durability": durability } })));
    let trace = place.state().join("trace");
    // `-D`: the daemon is our child, and the tracer is not.
    let tracer = ["strace", "-D", "-f", "-y", "-s", SHOWN, "-e", TRACE, "-o", trace.to_str().unwrap()];
    let daemon = place.start(&tracer).ready().unwrap();
    let asked = runtime.block_on(async {
        let mut client = Client::connect(daemon.address).await.unwrap();
        let mut asked = Vec::new();
        for key in ["first", "message"] {
            let message = Plan::reply(key).prompt();
            let params = json!({ "message": message, "sessionKey": "traced", "idempotencyKey": key });
            asked.push(client.send("agent", params).await.unwrap());
            client.answer(asked.last().unwrap()).await.unwrap().unwrap();
            // To its end, so that nothing else is at work when the next one comes.
            client.answer(asked.last().unwrap()).await.unwrap().unwrap();
        }
        let args = json!({ "task": Plan::reply("spawn").prompt() });
        let params = json!({ "name": "sessions_spawn", "args": args, "sessionKey": "traced", "idempotencyKey": "spawn" });
        asked.push(client.send("tools.invoke", params).await.unwrap());
        let answer = client.answer(asked.last().unwrap()).await.unwrap().unwrap();
        assert_eq!(answer["output"]["details"]["status"], "accepted");
        asked
    });
    daemon.stop();
    let begun = Instant::now();
    let trace = loop {
        let text = fs::read_to_string(&trace).unwrap();
        if text.trim_end().ends_with("+++") {
            break text;
        }
        assert!(begun.elapsed() < PATIENCE, "the trace has no end");
        std::thread::sleep(Duration::from_millis(20));
    };
    (asked, calls(&trace))
}

/// One system call. One that another thread's interrupted stands where it ended, but what sends where it began.
#[derive(Debug)]
struct Call {
    name: String,
    /// The descriptor and what it stands for.
    file: String,
    text: String,
    result: i64,
}

impl Call {
    fn read(text: &str, result: i64) -> Option<Self> {
        let (name, arguments) = text.split_once('(')?;
        let file = arguments.split([',', ')']).next().unwrap_or_default();
        Some(Self { name: name.to_owned(), file: file.to_owned(), text: text.to_owned(), result })
    }

    fn sends(&self) -> bool {
        matches!(self.name.as_str(), "sendto" | "sendmsg" | "write" | "writev")
    }
}

fn calls(trace: &str) -> Vec<Call> {
    let mut unfinished = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(pid, begun);
            calls.extend(Call::read(begun, 0).filter(Call::sends));
            continue;
        }
        let resumed = rest.strip_prefix("<... ").and_then(|rest| rest.split_once("resumed>"));
        let text = match resumed {
            Some((_, end)) => format!("{}{end}", unfinished.remove(pid).unwrap_or_default()),
            None => rest.to_owned(),
        };
        let result = text.rsplit_once(" = ").and_then(|(_, end)| end.split(' ').next()?.parse().ok());
        let call = result.and_then(|result| Call::read(&text, result));
        calls.extend(call.filter(|call| resumed.is_none() || !call.sends()));
    }
    calls
}

/// The answer that accepts this, the bytes of the request before it on the same socket, and a sync of the log in between.
fn check(calls: &[Call], id: &str) -> Result<(), String> {
    let answer = format!(r#"{{\"type\":\"res\",\"id\":\"{id}\""#);
    let accepts = |call: &Call| call.sends() && call.text.contains(&answer) && call.text.contains("accepted");
    let sent = calls.iter().position(accepts).unwrap_or_else(|| panic!("no answer accepts {id}"));
    let asks = |call: &Call| {
        let reads = matches!(call.name.as_str(), "recvfrom" | "recvmsg" | "read" | "readv");
        reads && call.file == calls[sent].file && call.result > 0
    };
    let asked = calls[..sent].iter().rposition(asks).expect("the request was read");
    let of_log = |from: usize, name: &str| {
        let at = calls[from..sent].iter().position(|call| {
            call.name.starts_with(name) && call.file.ends_with("offshoot.db-wal>") && call.result >= 0
        });
        at.map(|at| from + at)
    };
    let written = of_log(asked, "pwrite64").ok_or_else(|| format!("{id}: nothing was written to the log"))?;
    // A sync before that was of something else.
    let synced = of_log(written, "fdatasync").or_else(|| of_log(written, "fsync"));
    synced.map(|_| ()).ok_or_else(|| format!("{id}: the log was not synced before it was accepted"))
}
