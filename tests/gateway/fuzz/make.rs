//! Inputs from a seed: good ones, changed in a few places.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::input::{Called, Frame, Input, Piece, bytes, pieces};
use super::{identity, mutate};
use crate::rig::TOKEN;

/// A request for a WebSocket.
pub const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Requests that are there for everybody.
const HEADS: &[&str] = &[
    UPGRADE,
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "HEAD /readyz HTTP/1.0\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nOrigin: http://localhost\r\n\r\n",
    "GET http://127.0.0.1/%2e%2e/%00?x=%zz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: ::1, 10.0.0.1\r\nForwarded: for=\"[::1]\"\r\n\r\n",
    "POST /hooks/agent HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 17\r\nExpect: 100-continue\r\n\r\n{\"message\":\"hey\"}",
    "POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}",
];

/// Surfaces that run agents, with a body that they take.
const BODIES: &[(&str, &str)] = &[
    (
        "/v1/chat/completions",
        r#"{"model":"openclaw","messages":[{"role":"user","content":"Reply with exactly: A"}],"stream":false,"user":"u","temperature":0.5}"#,
    ),
    (
        "/v1/chat/completions",
        r#"{"model":"openclaw:main","messages":[{"role":"user","content":[{"type":"text","text":"hey"}]}],"stream":true,"stream_options":{"include_usage":true}}"#,
    ),
    (
        "/v1/responses",
        r#"{"model":"openclaw","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"hey"}]}],"stream":true,"instructions":"be calm","max_output_tokens":5}"#,
    ),
    (
        "/v1/responses",
        r#"{"model":"openclaw","input":"Reply with exactly: A","previous_response_id":"x","user":"u"}"#,
    ),
    (
        "/tools/invoke",
        r#"{"tool":"sessions_list","action":"json","args":{"limit":1},"sessionKey":"main","dryRun":false}"#,
    ),
    (
        "/hooks/agent",
        r#"{"message":"Reply with exactly: A","name":"n","agentId":"main","sessionKey":"hook:x","wakeMode":"now","deliver":false,"model":"rehearsal","timeoutSeconds":1}"#,
    ),
    ("/hooks/wake", r#"{"text":"Reply with exactly: A","mode":"now"}"#),
];

const EXAMPLES: &str = include_str!("examples.json");

/// Parameters that are right, of every method.
pub static METHODS: LazyLock<BTreeMap<String, Vec<Value>>> =
    LazyLock::new(|| serde_json::from_str(EXAMPLES).unwrap());

/// Who sends the inputs of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody who is not known, or does not behave.
    Stranger,
    /// A client that asks for something.
    Client,
    /// A client that changes the configuration.
    Owner,
}

pub fn input(random: &mut StdRng, kind: Kind) -> Input {
    match (kind, random.random_range(0..10)) {
        (Kind::Stranger, 0..3) => port(random),
        (Kind::Stranger, 3..7) => socket(random),
        (Kind::Stranger, _) => connect(random),
        (Kind::Client, 0..2) => http(random),
        (Kind::Client | Kind::Owner, _) => requests(random, kind),
    }
}

fn port(random: &mut StdRng) -> Input {
    let mut bytes = HEADS.choose(random).unwrap().as_bytes().to_vec();
    if random.random_bool(0.2) {
        bytes.extend_from_slice(HEADS.choose(random).unwrap().as_bytes());
    }
    mutate::bytes(random, &mut bytes);
    let step = step(random, bytes.len());
    Input::Port { bytes: pieces(&bytes), step }
}

/// Mostly all at once, sometimes a few bytes at a time.
fn step(random: &mut StdRng, length: usize) -> usize {
    if random.random_bool(0.7) { 0 } else { random.random_range(1..=8).max(length / 500) }
}

fn connect(random: &mut StdRng) -> Input {
    let role = if random.random_bool(0.2) { "node" } else { "operator" };
    let mut params = match random.random_range(0..4) {
        0 => identity::connect(random.random_range(3..=4), role),
        1 => identity::signed("$sign2"),
        _ => identity::signed("$sign3"),
    };
    mutate::json(random, &mut params);
    Input::Connect { params }
}

fn socket(random: &mut StdRng) -> Input {
    let known = random.random_bool(0.6);
    let mut frames: Vec<Frame> = Vec::new();
    for _ in 0..random.random_range(1..6) {
        message(random, known, &mut frames);
    }
    if random.random_bool(0.3) {
        let at = mutate::below(random, frames.len());
        break_frame(random, &mut frames[at]);
    }
    let length = frames.iter().map(|frame| bytes(&frame.payload).len()).sum();
    let step = step(random, length);
    Input::Socket { known, frames, step }
}

/// A message in one frame or several, with control frames in between.
fn message(random: &mut StdRng, known: bool, frames: &mut Vec<Frame>) {
    let method = if known { "health" } else { "connect" };
    let mut value = json!({"type": "req", "id": "x", "method": method, "params": {}, "traceparent": "t"});
    if random.random_bool(0.5) {
        mutate::json(random, &mut value);
    }
    let mut text = value.to_string().into_bytes();
    match random.random_range(0..12) {
        0..4 => mutate::bytes(random, &mut text),
        4 => text = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000)).into_bytes(),
        5 => text = vec![b' '; random.random_range(60_000..70_000)],
        6 => text.clear(),
        _ => {}
    }
    let control = |random: &mut StdRng, frames: &mut Vec<Frame>| {
        if random.random_bool(0.2) {
            let first = *[0x89, 0x8a].choose(random).unwrap();
            let payload = vec![Piece::Fill { fill: "p".to_owned(), times: random.random_range(0..=125) }];
            frames.push(Frame { first, masked: true, claims: None, payload, times: 1 });
        }
    };
    let parts = if random.random_bool(0.6) { 1 } else { random.random_range(2..20) };
    let size = text.len().div_ceil(parts).max(1);
    let mut rest = text.as_slice();
    for part in 0..parts {
        let (now, later) = rest.split_at(size.min(rest.len()));
        let opcode = if part == 0 { 1 } else { 0 };
        let last = if part + 1 == parts { 0x80 } else { 0 };
        let payload = pieces(now);
        frames.push(Frame { first: last | opcode, masked: true, claims: None, payload, times: 1 });
        control(random, frames);
        rest = later;
    }
}

fn break_frame(random: &mut StdRng, frame: &mut Frame) {
    match random.random_range(0..6) {
        0 => frame.first = random.random(),
        1 => frame.masked = false,
        2 => {
            let odd = [0, 1, 125, 126, 127, 65_535, 65_536, 26_214_400, 26_214_401, u64::MAX, 1 << 63];
            frame.claims = odd.choose(random).copied();
        }
        3 => {
            frame.first =
                *[0x88, 0x08, 0x82, 0x02, 0x80, 0x00, 0xc1, 0x83, 0x8b, 0x09].choose(random).unwrap()
        }
        4 => {
            frame.first = 0x88;
            let code: u16 =
                *[0, 999, 1000, 1001, 1004, 1005, 1006, 1015, 3000, 4999, 65535].choose(random).unwrap();
            let mut payload = code.to_be_bytes().to_vec();
            payload.extend(vec![0xc3; random.random_range(0..3)]);
            frame.payload = pieces(&payload);
        }
        _ => frame.payload = vec![Piece::Fill { fill: "x".to_owned(), times: random.random_range(0..400) }],
    }
}

/// A request with a body of JSON.
fn http(random: &mut StdRng) -> Input {
    let (path, body) = BODIES.choose(random).unwrap();
    let mut body: Value = serde_json::from_str(body).unwrap();
    mutate::json(random, &mut body);
    let mut body = body.to_string().into_bytes();
    if random.random_bool(0.1) {
        mutate::bytes(random, &mut body);
    }
    let token = if path.starts_with("/hooks") { super::HOOK_TOKEN } else { TOKEN };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let bytes = std::iter::once(Piece::Text(head)).chain(pieces(&body)).collect();
    Input::Port { bytes, step: 0 }
}

/// Whether a method writes the configuration.
fn configures(method: &str) -> bool {
    matches!(
        method,
        "config.set" | "config.apply" | "config.patch" | "agents.create" | "agents.update" | "agents.delete"
    )
}

fn requests(random: &mut StdRng, kind: Kind) -> Input {
    let of_kind: Vec<_> = METHODS
        .iter()
        .filter(|(name, _)| if kind == Kind::Owner { configures(name) } else { !configures(name) })
        .collect();
    let calls = (0..random.random_range(1..5))
        .map(|_| {
            let (method, examples) = of_kind.choose(random).unwrap();
            let mut params = examples.choose(random).unwrap().clone();
            if random.random_bool(0.85) {
                match params.get("raw").and_then(Value::as_str).map(str::to_owned) {
                    Some(raw) if random.random_bool(0.8) => {
                        let mut raw = raw.into_bytes();
                        mutate::bytes(random, &mut raw);
                        params["raw"] = String::from_utf8_lossy(&raw).into();
                    }
                    _ => mutate::json(random, &mut params),
                }
            }
            Called { method: (*method).clone(), params }
        })
        .collect();
    let role = random.random_bool(0.1).then(|| "node".to_owned());
    Input::Requests { protocol: random.random_range(3..=4), role, calls }
}
