//! `offshoot runs cancel`: of a run of the gateway, or of one that an earlier process left open.

use std::time::{Duration, Instant};

use offshoot_actors::cancel_stored;
use offshoot_actors::ports::{RunRow, Storage};
use offshoot_actors::types::{Origin, Outcome, RunId, Scope, Terminal};
use serde_json::json;

use super::super::daemon::{self, Reach};
use super::super::exit::{Exit, Failure};
use super::super::names::RunName;
use super::super::offline::writable;
use super::super::output::note;
use super::super::{Global, remote};
use super::unknown;
use crate::gateway::record::Record;
use crate::runtime;
use crate::store::SqliteStorage;

/// Between two looks at whether the run has ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long a run that is cancelled may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn run(name: RunName, global: &Global) -> Result<Exit, Failure> {
    let storage = global.read_store()?;
    let id = name.find(storage.as_ref()).await?;
    let storage = storage.ok_or_else(|| unknown(id))?;
    let row = storage.run(id).await?.ok_or_else(|| unknown(id))?;
    if let Some(outcome) = row.outcome {
        return already(id, &outcome, global);
    }
    if let Some(gateway) = daemon::gateway(global)? {
        return through(&row, &storage, &gateway, global).await;
    }
    drop(storage);
    let storage = writable(global, &format!("run {id} cannot be cancelled from here"))?;
    let clock = runtime::clock();
    let stopped = cancel_stored(&storage, clock.as_ref(), id, Origin::Operator).await?;
    storage.close();
    match &stopped.already {
        Some(outcome) => already(id, outcome, global),
        None => done(id, &stopped.ended, global),
    }
}

/// Has the gateway cancel it that has the state directory.
async fn through(
    row: &RunRow,
    storage: &SqliteStorage,
    gateway: &Record,
    global: &Global,
) -> Result<Exit, Failure> {
    let open = storage.open_in_subtree(row.session.clone()).await?;
    let mut client = Reach::recorded(gateway, None, global)?.connect(&[Scope::Write]).await?;
    remote::cancel(&mut client, row.id, &row.session).await?;
    let outcome = ended(row.id, storage).await?;
    client.close().await;
    if outcome.state != Terminal::Cancelled {
        return already(row.id, &outcome, global);
    }
    let mut cancelled = vec![row.id];
    for below in open.into_iter().filter(|open| open.row.id != row.id) {
        let now = storage.run(below.row.id).await?;
        let outcome = now.and_then(|row| row.outcome);
        if outcome.is_some_and(|outcome| outcome.state == Terminal::Cancelled) {
            cancelled.push(below.row.id);
        }
    }
    done(row.id, &cancelled, global)
}

/// Waits for the run's end: a cancel is answered when it has begun.
async fn ended(id: RunId, storage: &SqliteStorage) -> Result<Outcome, Failure> {
    let began = Instant::now();
    loop {
        let row = storage.run(id).await?.ok_or_else(|| unknown(id))?;
        match row.outcome {
            Some(outcome) => return Ok(outcome),
            None if began.elapsed() < END_WITHIN => tokio::time::sleep(LOOK).await,
            None => {
                let text = format!("the gateway was told to cancel run {id}, which has not ended yet");
                return Err(Failure::new(Exit::Unavailable, "timeout", text)
                    .with_hint(format!("look again with `offshoot runs show {id}`")));
            }
        }
    }
}

fn already(id: RunId, outcome: &Outcome, global: &Global) -> Result<Exit, Failure> {
    if global.output.json {
        let document = json!({
            "status": "already_ended",
            "runId": id,
            "state": outcome.state,
            "reason": outcome.reason,
            "ended": [],
        });
        global.output.document(&document)?;
    }
    note(format_args!("run {id} had ended before, as {}", outcome.state));
    Ok(Exit::Ended)
}

fn done(id: RunId, ended: &[RunId], global: &Global) -> Result<Exit, Failure> {
    if global.output.json {
        let document = json!({"status": "cancelled", "runId": id, "ended": ended});
        global.output.document(&document)?;
        return Ok(Exit::Ok);
    }
    for run in ended {
        global.output.line(format_args!("cancelled {run}"))?;
    }
    Ok(Exit::Ok)
}
