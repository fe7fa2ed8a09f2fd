//! A model server on loopback that carries out plans, and remembers what it was shown.
//!
//! It speaks the chat completions protocol of OpenAI. It outlives every daemon of a test, as a provider does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::dice::Dice;
use crate::plan::{Plan, STEER, Step};

/// Usage that each answer reports: what must come back as sums.
pub const INPUT: u64 = 11;
pub const OUTPUT: u64 = 3;

/// What the server was shown.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub requests: u64,
    /// Runs that `sessions_spawn` told a model of: acknowledged, like an answer to a client.
    pub spawned: BTreeSet<String>,
    /// Calls of `subagents` whose result says that the message was accepted.
    pub steered: BTreeSet<String>,
    /// Conversations that no provider would take, or that say something twice.
    pub wrong: Vec<String>,
}

struct Shared {
    seen: Mutex<Seen>,
    dice: Mutex<Dice>,
    /// How many calls of each crowd have come.
    crowds: watch::Sender<BTreeMap<String, u64>>,
    /// How often in a hundred a call fails in a way that may pass.
    failures: u64,
}

pub struct ModelServer {
    pub url: String,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

impl ModelServer {
    pub async fn start(seed: u64, failures: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            dice: Mutex::new(Dice::of(seed, 1)),
            crowds: watch::Sender::new(BTreeMap::new()),
            failures,
        });
        let mut serving = JoinSet::new();
        let of_all = Arc::clone(&shared);
        serving.spawn(async move {
            let mut calls = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((socket, _)) = accepted else { continue };
                        let shared = Arc::clone(&of_all);
                        calls.spawn(async move { _ = serve(socket, &shared).await });
                    }
                    Some(_) = calls.join_next() => {}
                }
            }
        });
        Self { url, shared, _serving: serving }
    }

    pub fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap().clone()
    }
}

/// Answers one request. An error means that the client is gone, which is its right.
async fn serve(mut socket: TcpStream, shared: &Shared) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let body = read(&mut socket).await?;
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    look(&messages, &mut shared.seen.lock().unwrap());
    let (fails, cut) = {
        let mut dice = shared.dice.lock().unwrap();
        (dice.percent(shared.failures), dice.percent(shared.failures))
    };
    let (plan, step) = place(&messages);
    let pause = plan.as_ref().map_or(0, |plan| plan.pause);
    let crowd = plan.as_ref().filter(|_| step == 0).and_then(|plan| plan.together.as_ref());
    if let Some((name, count)) = crowd {
        let change = |by: i64| {
            shared.crowds.send_modify(|crowds| {
                let here = crowds.entry(name.clone()).or_default();
                *here = here.saturating_add_signed(by);
            });
        };
        change(1);
        let mut crowds = shared.crowds.subscribe();
        tokio::select! {
            all = crowds.wait_for(|crowds| crowds.get(name) >= Some(count)) => drop(all),
            // Whoever hangs up does not wait any more.
            () = gone(&mut socket) => {
                change(-1);
                return Ok(());
            }
        }
    }
    tokio::time::sleep(Duration::from_millis(pause)).await;
    if fails {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return socket.write_all(answer.as_bytes()).await;
    }
    let mut text =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_owned();
    text += &answer(plan.as_ref(), step);
    let end = if cut { text.len() / 2 } else { text.len() };
    socket.write_all(&text.as_bytes()[..end]).await?;
    socket.shutdown().await
}

async fn gone(socket: &mut TcpStream) {
    let mut byte = [0];
    while matches!(socket.read(&mut byte).await, Ok(1)) {}
}

async fn read(socket: &mut TcpStream) -> std::io::Result<Value> {
    let mut bytes = Vec::new();
    loop {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        if bytes.len() >= end + 4 + length {
            return Ok(serde_json::from_slice(&bytes[end + 4..])?);
        }
    }
}

fn content(message: &Value) -> &str {
    message["content"].as_str().unwrap_or_default()
}

/// The latest plan of a conversation, and which of its steps comes next.
pub fn place(messages: &[Value]) -> (Option<Plan>, usize) {
    let is_plan = |message: &Value| message["role"] == "user" && Plan::read(content(message)).is_some();
    let Some(at) = messages.iter().rposition(is_plan) else { return (None, 0) };
    let plan = Plan::read(content(&messages[at])).unwrap();
    let asked = |message: &&Value| {
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        calls.filter_map(|call| call["id"].as_str()).any(|id| plan.named(id))
    };
    let step = messages[at..].iter().filter(asked).count();
    (Some(plan), step)
}

/// The stream of an answer.
fn answer(plan: Option<&Plan>, step: usize) -> String {
    let calls = plan.map(|plan| tool_calls(plan, step)).unwrap_or_default();
    let (delta, stop) = if calls.is_empty() {
        let name = plan.map_or("nothing", |plan| &plan.token);
        (json!({ "content": format!("done {name}") }), "stop")
    } else {
        (json!({ "tool_calls": calls }), "tool_calls")
    };
    let chunks = [
        json!({ "choices": [{ "index": 0, "delta": delta }] }),
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": stop }] }),
        json!({ "choices": [], "usage": { "prompt_tokens": INPUT, "completion_tokens": OUTPUT } }),
    ];
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect::<String>() + "data: [DONE]\n\n"
}

fn tool_calls(plan: &Plan, step: usize) -> Vec<Value> {
    let call = |number: usize, name: &str, arguments: Value| {
        let function = json!({ "name": name, "arguments": arguments.to_string() });
        json!({ "index": number, "id": plan.call(step, number), "type": "function", "function": function })
    };
    match plan.steps.get(step) {
        None => Vec::new(),
        Some(Step::Look) => vec![call(0, "agents_list", json!({}))],
        Some(Step::Yield) => vec![call(0, "sessions_yield", json!({}))],
        Some(Step::Steer(label, count)) => {
            let steer = |number: usize| {
                let message = format!("{STEER}{}>", plan.call(step, number));
                call(number, "subagents", json!({ "action": "steer", "target": label, "message": message }))
            };
            (0..usize::try_from(*count).unwrap()).map(steer).collect()
        }
        Some(Step::Spawn(children)) => {
            let spawn = |(number, child): (usize, &crate::plan::Child)| {
                let arguments = json!({
                    "task": child.plan.prompt(),
                    "label": child.plan.token,
                    "mode": child.mode,
                    "cleanup": child.cleanup,
                });
                call(number, "sessions_spawn", arguments)
            };
            children.iter().enumerate().map(spawn).collect()
        }
    }
}

/// Remembers what a conversation acknowledges, and what is wrong with it.
pub fn look(messages: &[Value], seen: &mut Seen) {
    seen.requests += 1;
    let mut open: BTreeMap<&str, u32> = BTreeMap::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for message in messages {
        if message["role"] != "tool"
            && let Some((call, _)) = open.iter().find(|(_, results)| **results != 1)
        {
            seen.wrong.push(format!("call {call} does not have one result where the next message stands"));
        }
        match message["role"].as_str() {
            Some("assistant") => {
                let calls = message["tool_calls"].as_array().into_iter().flatten();
                open = calls.filter_map(|call| call["id"].as_str()).map(|call| (call, 0)).collect();
            }
            Some("tool") => {
                let call = message["tool_call_id"].as_str().unwrap_or_default();
                match open.get_mut(call) {
                    Some(results) => *results += 1,
                    None => seen.wrong.push(format!("a result for the call {call}, which is not open")),
                }
                let result: Value = serde_json::from_str(content(message)).unwrap_or_default();
                let accepted = result["status"] == "accepted";
                if accepted && result["action"] == "steer" {
                    seen.steered.insert(call.to_owned());
                } else if accepted && let Some(run) = result["runId"].as_str() {
                    seen.spawned.insert(run.to_owned());
                }
            }
            _ => {
                open.clear();
                for run in content(message).lines().filter_map(|line| line.strip_prefix("run: ")) {
                    if !told.insert(run) {
                        seen.wrong.push(format!("the model is told twice of the result of run {run}"));
                    }
                }
            }
        }
    }
}
