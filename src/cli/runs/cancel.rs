//! `offshoot runs cancel`: of a run that an earlier process left open.

use offshoot_actors::ports::Storage;
use offshoot_actors::types::{Origin, Outcome, RunId};
use offshoot_actors::{Stopped, cancel_stored};
use serde_json::json;

use super::super::Global;
use super::super::exit::{Exit, Failure};
use super::super::names::RunName;
use super::super::output::{hint, note};
use super::unknown;
use crate::config::{self, ConfigError};
use crate::runtime;
use crate::store::{Durability, OpenError, SqliteStorage};

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
    let durability = durability(global)?;
    let dir = global.own_state_dir()?;
    let storage = SqliteStorage::open(&dir, durability).map_err(|error| in_use(error, id))?;
    let clock = runtime::clock();
    let stopped = cancel_stored(&storage, clock.as_ref(), id, Origin::Operator).await?;
    storage.close();
    match &stopped.already {
        Some(outcome) => already(id, outcome, global),
        None => done(id, &stopped, global),
    }
}

/// A run can be cancelled under a configuration that nothing could be run with.
fn durability(global: &Global) -> Result<Durability, Failure> {
    match config::load(&global.environment, global.config.as_deref()) {
        Ok(config) => Ok(runtime::durability(&config)),
        Err(ConfigError::Invalid(_)) => {
            hint(
                "the configuration has errors, which `config check` with the same options lists; cancelling needs none of it",
            );
            Ok(Durability::Full)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whoever has the store executes its runs.
fn in_use(error: OpenError, id: RunId) -> Failure {
    let pid = match &error {
        OpenError::InUse { pid, .. } => *pid,
        _ => return error.into(),
    };
    let hint = match pid {
        Some(pid) => format!("stop it there: press Ctrl-C in its terminal, or `kill -INT {pid}`"),
        None => "stop it there: press Ctrl-C in its terminal".to_owned(),
    };
    let mut failure = Failure::from(error).with_hint(hint);
    failure.message = format!("run {id} cannot be cancelled from here: {}", failure.message);
    failure
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
