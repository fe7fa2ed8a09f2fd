//! Small changes to bytes and to JSON.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use serde_json::{Map, Value, json};

/// Strings that programs stumble over.
const ODD: &[&str] = &[
    "",
    " ",
    "0",
    "-1",
    "null",
    "true",
    "\u{0}",
    "\u{feff}",
    "a\nb",
    "\u{202e}abc",
    "🦀",
    "e\u{301}",
    "%00",
    "../../x",
    "~",
    "agent:main:main",
    "agent:main:subagent:",
    "agent::",
    "agent:nobody:main",
    "AGENT:MAIN:MAIN",
    ":::",
    "main",
    "current",
    "operator.admin",
    "operator.nothing",
    "node",
    "operator",
    "__proto__",
    "builtin/rehearsal",
    "nobody/nothing",
    "/",
    "//",
    "9223372036854775808",
    "1e999",
    "2026-02-30",
    "UTC+25",
    "$token",
    "$nonce",
    "Fail: odd",
    "Reply with exactly: X",
    "Spawn: {\"task\":\"Reply with exactly: Y\"}",
    "Call: sessions_list {}",
    "Call: sessions_list {",
    "Spawn: [",
    "'; --",
];
/// Numbers at the edges of types.
const EDGES: &[i64] = &[
    0,
    1,
    -1,
    2,
    63,
    64,
    127,
    128,
    255,
    256,
    1_000,
    65_535,
    65_536,
    86_400_000,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    1 << 32,
    1 << 53,
    (1 << 53) + 1,
    i64::MAX,
    i64::MIN,
];
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b"\n",
    b": ",
    b"HTTP/1.1",
    b"HTTP/9.9",
    b"Content-Length: 18446744073709551616\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: a\r\n",
    b"Upgrade: websocket\r\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\\ud800",
    b"\"id\":\"x\",",
    b"\"type\":\"req\",",
    b"null",
    b"1e400",
    b"\xff\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\x81\x80\0\0\0\0",
    b"\x88\x82\0\0\0\0\x03\xe8",
    b"\x01\xff",
];

pub fn below(random: &mut StdRng, bound: usize) -> usize {
    random.random_range(0..bound.max(1))
}

/// Changes a few places.
pub fn bytes(random: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..random.random_range(1..=4) {
        let at = below(random, bytes.len());
        let end = (at + below(random, 32)).min(bytes.len());
        match random.random_range(0..9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if !bytes.is_empty() => bytes[at] = random.random(),
            2 => bytes.insert(at, random.random()),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.truncate(at),
            5 => {
                let again = bytes[at..end].repeat(random.random_range(1..8));
                bytes.splice(at..at, again);
            }
            6 => {
                let many = if random.random_bool(0.02) { 70_000 } else { 300 };
                let fill = vec![random.random(); random.random_range(1..=many)];
                bytes.splice(at..at, fill);
            }
            _ => drop(bytes.splice(at..at, TOKENS.choose(random).unwrap().iter().copied())),
        }
    }
}

/// Changes a few members.
pub fn json(random: &mut StdRng, value: &mut Value) {
    for _ in 0..random.random_range(1..=3) {
        let places = count(value);
        let place = below(random, places);
        if let Some(node) = nth(value, &mut { place }) {
            change(random, node);
        }
    }
}

fn change(random: &mut StdRng, node: &mut Value) {
    match (random.random_range(0..8), &mut *node) {
        (0..3, Value::Object(members)) if !members.is_empty() => {
            let names: Vec<String> = members.keys().cloned().collect();
            let name = names.choose(random).unwrap().clone();
            match random.random_range(0..4) {
                0 => drop(members.remove(&name)),
                1 => {
                    let taken = members.remove(&name).unwrap();
                    members.insert(name.to_uppercase(), taken);
                }
                2 => {
                    let other = members[names.choose(random).unwrap()].clone();
                    members.insert(name, other);
                }
                _ => {
                    members.insert(odd(random), any(random, 2));
                }
            }
        }
        (0..3, Value::Array(items)) => {
            let at = below(random, items.len() + 1);
            if random.random_bool(0.1) {
                *items = vec![any(random, 0); random.random_range(0..2_000)];
            } else {
                items.insert(at, any(random, 1));
            }
        }
        (0..3, Value::String(text)) => {
            let at = text.floor_char_boundary(below(random, text.len() + 1));
            text.insert_str(at, &odd(random));
        }
        (3, _) => *node = json!([node.take()]),
        _ => *node = any(random, 2),
    }
}

/// A value that has nothing to do with what was there.
fn any(random: &mut StdRng, depth: usize) -> Value {
    match random.random_range(0..12) {
        0 => Value::Null,
        1 => random.random::<bool>().into(),
        2 | 3 => (*EDGES.choose(random).unwrap()).into(),
        4 => json!(u64::MAX),
        5 => json!([-0.5, 1e300, 1.0000000001].choose(random).unwrap()),
        6..9 => odd(random).into(),
        9 => {
            let most = if random.random_bool(0.05) { 100_000 } else { 2_000 };
            odd(random).repeat(random.random_range(1..=most) / 8).into()
        }
        10 if depth > 0 => (0..random.random_range(0..4)).map(|_| any(random, depth - 1)).collect(),
        11 if depth > 0 => {
            let members = (0..random.random_range(0..4)).map(|_| (odd(random), any(random, depth - 1)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        _ => (0..random.random_range(1..60)).fold(json!({}), |inner, _| json!({ "a": inner })),
    }
}

fn odd(random: &mut StdRng) -> String {
    if random.random_bool(0.2) {
        let length = random.random_range(0..40);
        return (0..length).map(|_| char::from(random.next_u32().to_le_bytes()[0])).collect();
    }
    (*ODD.choose(random).unwrap()).to_owned()
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, left)),
        Value::Object(members) => members.values_mut().find_map(|member| nth(member, left)),
        _ => None,
    }
}
