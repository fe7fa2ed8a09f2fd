//! `offshoot runs cancel`: of a run that an earlier process left open.

use offshoot_actors::ports::Storage;
use offshoot_actors::types::{Origin, Outcome, RunId};
use offshoot_actors::{Stopped, cancel_stored};
use serde_json::json;

use super::super::Global;
use super::super::exit::{Exit, Failure};
use super::super::names::RunName;
use super::super::offline::writable;
use super::super::output::note;
use super::unknown;
use crate::runtime;

pub(super) async fn run(name: RunName, global: &Global) -> Result<Exit, Failure> {
    let storage = global.read_store()?;
    let id = name.find(storage.as_ref()).await?;
    let row = match storage {
        Some(storage) => storage.run(id).await?.ok_or_else(|| unknown(id))?,
        None => return Err(unknown(id)),
    };
    if let Some(outcome) = row.outcome {
        return already(id, &outcome, global);
    }
    let storage = writable(global, &format!("run {id} cannot be cancelled from here"))?;
    let clock = runtime::clock();
    let stopped = cancel_stored(&storage, clock.as_ref(), id, Origin::Operator).await?;
    storage.close();
    match &stopped.already {
        Some(outcome) => already(id, outcome, global),
        None => done(id, &stopped, global),
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

fn done(id: RunId, stopped: &Stopped, global: &Global) -> Result<Exit, Failure> {
    if global.output.json {
        let document = json!({"status": "cancelled", "runId": id, "ended": stopped.ended});
        global.output.document(&document)?;
        return Ok(Exit::Ok);
    }
    for run in &stopped.ended {
        global.output.line(format_args!("cancelled {run}"))?;
    }
    Ok(Exit::Ok)
}
