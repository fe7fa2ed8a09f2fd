//! `logs.tail`: the last lines of the log, which the daemon keeps in memory. `log.level`: what becomes a line.

use std::time::Duration;

use offshoot_actors::types::Scope;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Method, READ, answer, now};
use crate::protocol::error::ErrorShape;
use crate::telemetry::{self, Instead, LevelView, Tail};

pub(super) const METHODS: &[Method] = &[now("log.level", READ, level), now("logs.tail", READ, tail)];

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

/// Milliseconds that something else may be logged, unless it is for good.
const FOR_MS: std::ops::RangeInclusive<i64> = 1_000..=7 * 24 * 60 * 60 * 1_000;
/// Bytes of a filter.
const MAX_FILTER: usize = 1_024;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct LevelParams {
    /// A level or directives; without one nothing is changed.
    level: Option<String>,
    for_ms: Option<i64>,
    /// Goes back to what was configured.
    reset: bool,
}

/// Says what is logged, and changes it for whoever may.
fn level(call: &Call) -> Answer {
    let LevelParams { level, for_ms, reset } = call.params()?;
    let invalid = |problem: &str| ErrorShape::invalid(format!("invalid log.level params: {problem}"));
    if level.is_some() && reset || level.is_none() && for_ms.is_some() {
        return Err(invalid("at /: give level, with forMs or without, or reset"));
    }
    if for_ms.is_some_and(|millis| !FOR_MS.contains(&millis)) {
        return Err(invalid(&format!("at /forMs: must be from {} to {}", FOR_MS.start(), FOR_MS.end())));
    }
    if level.is_some() || reset {
        if !call.client.may(Scope::Admin) {
            return Err(call.lacks(Scope::Admin));
        }
        let until = for_ms.map(|millis| call.now() + Duration::from_millis(millis.unsigned_abs()));
        let instead = level.map(|filter| Instead { filter, until });
        if instead.as_ref().is_some_and(|instead| instead.filter.len() > MAX_FILTER) {
            return Err(invalid(&format!("at /level: more than {MAX_FILTER} bytes")));
        }
        let said = instead.as_ref().map_or("as configured", |instead| &instead.filter).to_owned();
        // Nothing is changed that could not be put on record.
        let tree = call.daemon.tree()?;
        telemetry::set_level(instead).map_err(|error| invalid(&format!("at /level: {error}")))?;
        tracing::info!(level = said, connection = call.client.number, "what is logged was changed");
        tree.audit("log.level", call.origin(), vec![("level", said)]);
    }
    let LevelView { console, file, instead } = telemetry::levels();
    let until = instead.as_ref().and_then(|instead| instead.until).map(|until| until.0);
    let mut view = json!({ "console": console, "changed": instead.is_some() });
    for (name, value) in [("file", file.map(Value::from)), ("until", until.map(Value::from))] {
        if let Some(value) = value {
            view[name] = value;
        }
    }
    answer(&view)
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
