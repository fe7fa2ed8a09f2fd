//! `offshoot runs list`

use offshoot_actors::ports::{ListFilter, Page, RunRow, Storage};
use offshoot_actors::types::Timestamp;
use serde_json::{Value, json};

use super::super::abandoned::Idle;
use super::super::args::RunsListArgs;
use super::super::exit::{Exit, Failure};
use super::super::output::{ago, elapsed, note, table, tokens};
use super::super::{Global, abandoned, view};
use crate::runtime;

pub(super) async fn run(args: RunsListArgs, global: &Global) -> Result<Exit, Failure> {
    let session = args.session.map(|name| name.key(global)).transpose()?;
    let filter = ListFilter { session, open: args.open, ..ListFilter::default() };
    let (mut rows, mut idle) = (Vec::new(), Idle::default());
    if let Some(storage) = global.read_store()? {
        rows = storage.list_runs(filter, Page { offset: 0, limit: args.limit }).await?;
        idle = abandoned::among(&mut rows, &storage, global).await?;
        // Of those that were open some have ended since.
        rows.retain(|row| !args.open || row.state.is_open());
    }
    let now = runtime::clock().now();
    if global.output.json {
        let runs: Vec<Value> = rows.iter().map(|row| document(row, &idle, now)).collect();
        global.output.document(&json!({"runs": runs}))?;
        return Ok(Exit::Ok);
    }
    if rows.is_empty() {
        note("no runs");
        return Ok(Exit::Ok);
    }
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.id.to_string(),
                abandoned::state(row, &idle).to_owned(),
                ago(row.accepted_at, now),
                view::duration(row, now).map(elapsed).unwrap_or_default(),
                tokens(row.usage),
                row.session.to_string(),
            ]
        })
        .collect();
    let head = ["RUN", "STATE", "ACCEPTED", "TOOK", "USED", "SESSION"];
    for line in table(global.output.paint, &head, &lines) {
        global.output.line(line)?;
    }
    abandoned::tell(&idle);
    Ok(Exit::Ok)
}

/// A run's row for programs.
pub(super) fn document(row: &RunRow, idle: &Idle, now: Timestamp) -> Value {
    let outcome = row.outcome.as_ref();
    json!({
        "runId": row.id,
        "sessionKey": row.session,
        "cause": row.cause.as_str(),
        "state": row.state.as_str(),
        "abandoned": idle.is_abandoned(row.id),
        "suspended": idle.is_suspended(row.id),
        "reason": outcome.and_then(|outcome| outcome.reason.as_ref()),
        "result": outcome.and_then(|outcome| outcome.text.as_ref()),
        "spawnedBy": row.spawner,
        "announceTo": row.announce_to,
        "wireId": row.wire_id,
        "model": view::model(row),
        "fallbacks": row.model.fallbacks,
        "timeoutMs": row.timeout.map(view::millis),
        "usage": row.usage,
        "steps": row.steps,
        "acceptedAt": row.accepted_at,
        "startedAt": row.started_at,
        "endedAt": row.ended_at,
        "durationMs": view::duration(row, now).map(view::millis),
        "host": row.host.as_str(),
    })
}
