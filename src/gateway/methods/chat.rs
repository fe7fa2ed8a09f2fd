//! `chat.*`: a conversation as a person has it with an agent.

mod history;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::TreeHandle;
use offshoot_actors::ports::{ListFilter, Page, RunRow};
use offshoot_actors::types::{Scope, SessionKey};
use serde::Deserialize;
use serde_json::json;

use super::agent::{Prompt, stored, submit};
use super::call::refused;
use super::target::{self, unread};
use super::{Answer, Call, Method, Need, READ, answer, later};
use crate::gateway::messages;
use crate::gateway::runs::wire_name;
use crate::gateway::traces::Asking;
use crate::protocol::error::ErrorShape;

const WRITE: Need = Need::Scope(Scope::Write);
const ADMIN: Need = Need::Scope(Scope::Admin);
/// Longest label of an injected message, in characters.
const MAX_LABEL: usize = 100;

pub(super) const METHODS: &[Method] = &[
    later("chat.send", WRITE, send),
    later("chat.abort", WRITE, abort),
    later("chat.inject", ADMIN, inject),
    later("chat.history", READ, history::history),
    later("chat.startup", READ, history::startup),
    later("chat.metadata", READ, history::metadata),
    later("chat.message.get", READ, history::message),
];

/// Parameters that would change what the run may do or who hears of it.
const NOT_HERE: &[&str] = &[
    "attachments",
    "deliver",
    "mentions",
    "thinking",
    "workContext",
    "toolBindings",
    "replyToId",
    "suppressCommandInterpretation",
    "systemInputProvenance",
    "systemProvenanceReceipt",
    "originatingChannel",
    "originatingTo",
    "originatingAccountId",
    "originatingThreadId",
    "expectedLeafEntryId",
    "expectedSessionRoutingContract",
    "expectedPermissionMode",
    "expectedToolOverrides",
];
/// Messages that stop what the session does instead of being answered.
const STOP: [&str; 8] = ["/stop", "/abort", "stop", "abort", "esc", "exit", "interrupt", "halt"];
/// Runs of one session that are stopped at once: more cannot be open.
const MAX_OPEN: u32 = 1_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct SendParams {
    session_key: String,
    message: String,
    idempotency_key: String,
    agent_id: Option<String>,
    timeout_ms: Option<u64>,
    session_id: Option<String>,
    queue_mode: Option<String>,
    /// From where in a trace the request comes. Offshoot's own.
    traceparent: Option<String>,
}

fn send(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: SendParams = call.params()?;
        call.refuse(NOT_HERE)?;
        let tree = call.daemon.tree()?;
        let (agent, key) = (params.agent_id.as_deref(), Some(params.session_key.as_str()));
        let session = target::any_session(call.method, &tree.settings(), agent, key)?;
        if params.queue_mode.is_some_and(|mode| mode == "interrupt") {
            return Err(ErrorShape::invalid(format!(
                "invalid {} params: queueMode interrupt is not supported by offshoot; sessions.steer ends what runs",
                call.method
            )));
        }
        let same = target::same_transcript(&call, tree, &session, params.session_id.as_deref()).await;
        if STOP.iter().any(|stop| params.message.trim().eq_ignore_ascii_case(stop)) {
            same?;
            return stop(&call, tree, &session, None).await;
        }
        let prompt = Prompt {
            session,
            message: params.message,
            name: params.idempotency_key,
            model: None,
            timeout: params.timeout_ms.map(Duration::from_millis),
            asking: Asking::new(&call.daemon.traces, params.traceparent.as_deref()),
        };
        let (name, asking) = (prompt.name.clone(), Arc::clone(&prompt.asking));
        let submitted = submit(&call, tree, prompt, same).await?;
        let status = match submitted.repeated {
            false => "started",
            true if stored(tree, submitted.run).await?.state.is_open() => "in_flight",
            true => "ok",
        };
        let mut started = json!({ "runId": name, "status": status });
        if let Some(traceparent) = asking.traceparent() {
            started["traceparent"] = json!(traceparent);
        }
        answer(&started)
    }
    .boxed()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct AbortParams {
    session_key: String,
    agent_id: Option<String>,
    run_id: Option<String>,
}

fn abort(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let AbortParams { session_key, agent_id, run_id } = call.params()?;
        let tree = call.daemon.tree()?;
        let session =
            target::session(call.method, &tree.settings(), agent_id.as_deref(), Some(&session_key))?;
        stop(&call, tree, &session, run_id.as_deref()).await
    }
    .boxed()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct InjectParams {
    session_key: String,
    agent_id: Option<String>,
    message: String,
    label: Option<String>,
}

fn inject(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let InjectParams { session_key, agent_id, message, label } = call.params()?;
        let tree = call.daemon.tree()?;
        let session =
            target::session(call.method, &tree.settings(), agent_id.as_deref(), Some(&session_key))?;
        let text = match label.filter(|label| !label.trim().is_empty()) {
            Some(label) if label.chars().count() > MAX_LABEL => {
                let text =
                    format!("invalid chat.inject params: at /label: longer than {MAX_LABEL} characters");
                return Err(ErrorShape::invalid(text));
            }
            Some(label) => format!("[{label}]\n\n{message}"),
            None => message,
        };
        let seq = tree.inject(session, text, call.origin()).await.map_err(|refusal| refused(&refusal))?;
        answer(&json!({ "ok": true, "messageId": messages::id_of(seq) }))
    }
    .boxed()
}

/// Cancels the open runs of a session, or one of them, with what they spawned.
async fn stop(call: &Call, tree: &TreeHandle, session: &SessionKey, run: Option<&str>) -> Answer {
    let origin = call.origin();
    let runs: Vec<RunRow> = match run {
        Some(name) => {
            let row = target::run(&call.daemon, tree, &origin, name).await?;
            if row.as_ref().is_some_and(|row| row.session != *session) {
                return Err(ErrorShape::invalid("runId does not match sessionKey"));
            }
            row.into_iter().filter(|row| row.state.is_open()).collect()
        }
        None => open_runs(tree, session).await?,
    };
    let mut stopped = Vec::with_capacity(runs.len());
    // The newest first: of two that wait, none begins because the other ends.
    for row in runs {
        let cancelled = tree.cancel(row.id, origin.clone()).await.map_err(|refusal| refused(&refusal))?;
        if cancelled.already.is_none() {
            stopped.push(wire_name(&row));
        }
    }
    answer(&json!({ "ok": true, "aborted": !stopped.is_empty(), "runIds": stopped }))
}

/// The open runs of a session, the newest first.
pub(super) async fn open_runs(tree: &TreeHandle, session: &SessionKey) -> Result<Vec<RunRow>, ErrorShape> {
    let filter = ListFilter { session: Some(session.clone()), open: true, ..ListFilter::default() };
    tree.storage().list_runs(filter, Page { offset: 0, limit: MAX_OPEN }).await.map_err(unread)
}
