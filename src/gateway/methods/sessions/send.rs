//! `sessions.send`, `.steer` and `.abort`: messages to a session, and an end to what it does.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::TreeHandle;
use offshoot_actors::ports::RunRow;
use offshoot_actors::types::SessionKey;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::agent::{Prompt, stored, submit};
use super::super::call::refused;
use super::super::chat::open_runs;
use super::super::target;
use super::super::{Answer, Call, answer};
use super::{filled, named, store, unknown};
use crate::gateway::runs::wire_name;
use crate::gateway::traces::Asking;
use crate::protocol::error::ErrorShape;

/// What would change what the run may do or who hears of it.
const NOT_HERE: &[&str] = &["attachments", "toolBindings", "expectedPermissionMode", "expectedToolOverrides"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct SendParams {
    key: String,
    agent_id: Option<String>,
    message: String,
    timeout_ms: Option<u64>,
    idempotency_key: Option<String>,
    /// From where in a trace the request comes. Offshoot's own.
    traceparent: Option<String>,
}

pub(super) fn send(call: Call) -> BoxFuture<'static, Answer> {
    async move { give(&call, false).await }.boxed()
}

/// Ends what the session does, then sends.
pub(super) fn steer(call: Call) -> BoxFuture<'static, Answer> {
    async move { give(&call, true).await }.boxed()
}

async fn give(call: &Call, interrupt: bool) -> Answer {
    let params: SendParams = call.params()?;
    call.refuse(NOT_HERE)?;
    let tree = call.daemon.tree()?;
    let settings = tree.settings();
    let key = target::any_session(call.method, &settings, params.agent_id.as_deref(), Some(&params.key))?;
    let exists = tree.storage().session(key.clone()).await.map_err(store)?.is_some();
    // A main session is made by its first message; any other name may be a mistake.
    let known = exists || key == SessionKey::main(&key.agent());
    let known = if known { Ok(()) } else { Err(unknown(&key)) };
    let name = filled(params.idempotency_key).unwrap_or_else(|| Uuid::new_v4().to_string());
    let mut before = if interrupt { open_runs(tree, &key).await? } else { Vec::new() };
    let prompt = Prompt {
        session: key.clone(),
        message: params.message,
        name: name.clone(),
        model: None,
        timeout: params.timeout_ms.map(Duration::from_millis),
        asking: Asking::new(&call.daemon.traces, params.traceparent.as_deref()),
    };
    // First of all it must be acceptable: until then it waits behind what it is to end.
    let submitted = submit(call, tree, prompt, known).await?;
    if submitted.repeated {
        // The connection of the first request may have ended before it came to this. Its own run is not to end, nor what
        // was sent after it.
        let own = before.iter().position(|row| row.id == submitted.run);
        before = own.map_or_else(Vec::new, |own| before.split_off(own + 1));
    }
    let ends = interrupt && !(submitted.repeated && before.is_empty());
    let interrupted = match ends {
        true => Some(!cancel_all(call, tree, before).await?.is_empty()),
        false => None,
    };
    let status = match submitted.repeated {
        false => "started",
        true if stored(tree, submitted.run).await?.state.is_open() => "in_flight",
        true => "ok",
    };
    let mut out = json!({ "runId": name, "status": status });
    if let Some(interrupted) = interrupted {
        out["interruptedActiveRun"] = json!(interrupted);
    }
    answer(&out)
}

/// Cancels runs, the newest first, so that of two that wait none begins because the other ends. Returns the names of
/// those that were still open.
async fn cancel_all(call: &Call, tree: &TreeHandle, runs: Vec<RunRow>) -> Result<Vec<String>, ErrorShape> {
    let mut ended = Vec::with_capacity(runs.len());
    for row in runs {
        let stopped = tree.cancel(row.id, call.origin()).await.map_err(|refusal| refused(&refusal))?;
        if stopped.already.is_none() {
            ended.push(wire_name(&row));
        }
    }
    Ok(ended)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct AbortParams {
    key: Option<String>,
    agent_id: Option<String>,
    run_id: Option<String>,
}

pub(super) fn abort(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: AbortParams = call.params()?;
        let tree = call.daemon.tree()?;
        let settings = tree.settings();
        let key = filled(params.key);
        let key =
            key.map(|key| named(call.method, &settings, params.agent_id.as_deref(), &key)).transpose()?;
        let runs = match (filled(params.run_id), key) {
            (Some(name), key) => {
                let row = target::run(&call.daemon, tree, &call.origin(), &name).await?;
                if let (Some(row), Some(key)) = (&row, &key)
                    && row.session != *key
                {
                    return Err(ErrorShape::invalid("runId does not match key"));
                }
                row.into_iter().filter(|row| row.state.is_open()).collect()
            }
            (None, Some(key)) => open_runs(tree, &key).await?,
            (None, None) => {
                return Err(ErrorShape::invalid(format!(
                    "invalid {} params: key or runId says what to abort",
                    call.method
                )));
            }
        };
        let ended = cancel_all(&call, tree, runs).await?;
        let status = if ended.is_empty() { "no-active-run" } else { "aborted" };
        let first: Option<Value> = ended.into_iter().next().map(Value::String);
        answer(&json!({ "ok": true, "abortedRunId": first, "status": status }))
    }
    .boxed()
}
