//! `logs.tail`: the last lines of the log, which the daemon keeps in memory.

use serde::Deserialize;
use serde_json::json;

use super::{Answer, Call, Method, READ, answer, now};
use crate::protocol::error::ErrorShape;
use crate::telemetry::{self, Tail};

pub(super) const METHODS: &[Method] = &[now("logs.tail", READ, tail)];

const LIMIT: usize = 500;
const MAX_LIMIT: usize = 5_000;
const BYTES: usize = 250_000;
const MAX_BYTES: usize = 1_000_000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct Params {
    cursor: Option<u64>,
    limit: Option<usize>,
    max_bytes: Option<usize>,
}

fn tail(call: &Call) -> Answer {
    let params: Params = call.params()?;
    let limit = params.limit.unwrap_or(LIMIT);
    let bytes = params.max_bytes.unwrap_or(BYTES);
    for (name, value, max) in [("limit", limit, MAX_LIMIT), ("maxBytes", bytes, MAX_BYTES)] {
        if !(1..=max).contains(&value) {
            let text = format!("invalid logs.tail params: at /{name}: must be from 1 to {max}");
            return Err(ErrorShape::invalid(text));
        }
    }
    let Tail { lines, cursor, truncated, reset } = telemetry::tail(params.cursor, limit, bytes);
    answer(&json!({
        "file": telemetry::TAIL_NAME,
        "cursor": cursor,
        "size": cursor,
        "lines": lines,
        "truncated": truncated,
        "reset": reset,
    }))
}
