//! `agent` and its relatives: a message to an agent, and what became of it.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::TreeHandle;
use offshoot_actors::ports::RunRow;
use offshoot_actors::types::{IdempotencyKey, Outcome, PromptRequest, RunId, Scope, SessionKey, Submitted};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::call::refused;
use super::target::{self, unread};
use super::{Answer, Call, Method, Need, READ, answer, now, waits};
use crate::gateway::messages;
use crate::gateway::runs::wire_name;
use crate::gateway::states::{self, Ending};
use crate::gateway::traces::Asking;
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

const WRITE: Need = Need::Scope(Scope::Write);

pub(super) const METHODS: &[Method] = &[
    waits("agent", WRITE, agent),
    waits("agent.wait", WRITE, wait),
    now("agent.identity.get", READ, identity),
];

/// Parameters that would change what the run may do or who hears of it.
const NOT_HERE: &[&str] = &[
    "sessionId",
    "to",
    "thinking",
    "inputProvenance",
    "expectedExistingSessionId",
    "attachments",
    "extraSystemPrompt",
    "internalEvents",
    "cwd",
    "deliver",
    "modelRun",
    "promptMode",
    "sessionEffects",
    "suppressPromptPersistence",
    "disableMessageTool",
    "swarmCollector",
    "swarmOutputSchema",
    "forceRestartSafeTools",
    "forceCodeModeTools",
    "internalRuntimeHandoffId",
];
/// How long `agent.wait` waits where the client does not say.
const WAIT: Duration = Duration::from_secs(30);
/// How long it waits at most.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct AgentParams {
    message: String,
    idempotency_key: String,
    agent_id: Option<String>,
    session_key: Option<String>,
    /// Seconds; zero is no deadline.
    timeout: Option<u64>,
    bootstrap_context_mode: Option<String>,
    lane: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    /// From where in a trace the request comes. Offshoot's own.
    traceparent: Option<String>,
}

fn agent(mut call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: AgentParams = call.params()?;
        call.refuse(NOT_HERE)?;
        // A value that asks for what is so anyway asks for nothing.
        if params.bootstrap_context_mode.is_some_and(|mode| mode != "full") {
            call.refuse(&["bootstrapContextMode"])?;
        }
        if params.lane.is_some_and(|lane| lane != "main") {
            call.refuse(&["lane"])?;
        }
        call.forget_params();
        let model = model(&call, params.provider, params.model)?;
        let tree = call.daemon.tree()?;
        let (agent, key) = (params.agent_id.as_deref(), params.session_key.as_deref());
        let session = target::any_session(call.method, &tree.settings(), agent, key)?;
        let prompt = Prompt {
            session,
            message: params.message,
            name: params.idempotency_key,
            model,
            timeout: params.timeout.map(Duration::from_secs),
            asking: Asking::new(&call.daemon.traces, params.traceparent.as_deref()),
        };
        let (name, asking) = (prompt.name.clone(), Arc::clone(&prompt.asking));
        let submitted = submit(&call, tree, prompt, Ok(())).await?;
        if submitted.repeated {
            return match stored(tree, submitted.run).await? {
                row if row.outcome.is_some() => finished(&row),
                _ => answer(&json!({ "runId": name, "status": "in_flight" })),
            };
        }
        let mut accepted = json!({ "runId": name, "status": "accepted", "acceptedAt": call.now().0 });
        if call.client.protocol == Protocol::V4 {
            accepted["sessionKey"] = json!(submitted.session);
            accepted["agentId"] = json!(submitted.session.agent());
        }
        if let Some(traceparent) = asking.traceparent() {
            accepted["traceparent"] = json!(traceparent);
        }
        call.accept(&accepted)?;
        tree.outcome(submitted.run).await.map_err(|refusal| refused(&refusal))?;
        finished(&stored(tree, submitted.run).await?)
    }
    .boxed()
}

/// The model that a request names, which only an administrator may.
fn model(call: &Call, provider: Option<String>, model: Option<String>) -> Result<Option<String>, ErrorShape> {
    let filled = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let named = match (filled(provider), filled(model)) {
        (None, None) => return Ok(None),
        (Some(_), None) => {
            return Err(ErrorShape::invalid("invalid agent params: provider without model; name both"));
        }
        (Some(provider), Some(model)) => format!("{provider}/{model}"),
        (None, Some(model)) => model,
    };
    if call.client.may(Scope::Admin) { Ok(Some(named)) } else { Err(call.lacks(Scope::Admin)) }
}

/// A message that starts a run under the client's name for it.
pub(super) struct Prompt {
    pub(super) session: SessionKey,
    pub(super) message: String,
    pub(super) name: String,
    pub(super) model: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) asking: Arc<Asking>,
}

/// Starts the run, or finds it if the client asks again. `new` says whether a new message may be sent: a repeat of one
/// that was accepted is answered as such, whatever has changed since.
pub(super) async fn submit(
    call: &Call,
    tree: &TreeHandle,
    prompt: Prompt,
    new: Result<(), ErrorShape>,
) -> Result<Submitted, ErrorShape> {
    let Prompt { session, message, name, model, timeout, asking } = prompt;
    if name.trim().is_empty() {
        let text = format!("invalid {} params: at /idempotencyKey: must not be empty", call.method);
        return Err(ErrorShape::invalid(text));
    }
    messages::no_command(&message).map_err(|refusal| refused(&refusal))?;
    let known = target::known_agent(call.method, &tree.settings(), session.agent().as_str());
    // Before there is a run, so that none of its tool events is missed.
    call.client.follows.started(&name);
    let request = PromptRequest {
        session,
        text: message,
        model,
        timeout,
        wire_id: Some(name.clone()),
        idempotency: Some(IdempotencyKey { key: name, may_repeat: true }),
        callback: None,
    };
    let pending = asking.begin();
    let submitted = match known.and(new) {
        Ok(()) => tree.submit(request, call.origin()).await,
        Err(refused) => tree.submitted_before(&request, call.origin()).await.ok_or(refused)?,
    };
    let submitted = submitted.map_err(|refusal| refused(&refusal))?;
    pending.started(submitted.run, &submitted.session, submitted.repeated);
    Ok(submitted)
}

/// A run's row.
pub(super) async fn stored(tree: &TreeHandle, run: RunId) -> Result<RunRow, ErrorShape> {
    let row = tree.storage().run(run).await.map_err(unread)?;
    row.ok_or_else(|| ErrorShape::invalid(format!("run {run} was deleted")))
}

/// The last answer to `agent`.
fn finished(row: &RunRow) -> Answer {
    let name = wire_name(row);
    let Some(outcome) = &row.outcome else {
        return answer(&json!({ "runId": name, "status": "in_flight" }));
    };
    if !Ending::of(outcome.state).is_ok() {
        let summary = states::reason(outcome).unwrap_or_default();
        let payload = json!({ "runId": name, "status": "error", "summary": summary });
        return Err(ErrorShape::unavailable(summary).with_payload(payload));
    }
    answer(&json!({
        "runId": name,
        "status": "ok",
        "summary": "completed",
        "result": { "payloads": payloads(outcome), "meta": meta(row, outcome) },
    }))
}

fn payloads(outcome: &Outcome) -> Value {
    let text = outcome.text.as_ref().filter(|text| !text.is_empty());
    text.into_iter().map(|text| json!({ "text": text, "mediaUrl": null })).collect()
}

fn meta(row: &RunRow, outcome: &Outcome) -> Value {
    let model = row.model_used.as_ref().unwrap_or(&row.model.primary);
    let ran = row.started_at.zip(row.ended_at).map(|(start, end)| (end - start).as_millis());
    let mut usage = messages::tokens(row.usage);
    usage["total"] = json!(row.usage.total());
    let mut meta = json!({
        "durationMs": u64::try_from(ran.unwrap_or(0)).unwrap_or(u64::MAX),
        "agentMeta": { "provider": model.provider(), "model": model.model(), "usage": usage },
        "aborted": false,
    });
    if let Some(reason) = &outcome.reason {
        meta["stopReason"] = json!(reason);
    }
    meta
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct WaitParams {
    run_id: String,
    timeout_ms: Option<u64>,
}

fn wait(mut call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let WaitParams { run_id, timeout_ms } = call.params()?;
        call.forget_params();
        let within = timeout_ms.map_or(WAIT, Duration::from_millis).min(MAX_WAIT);
        let mut names = call.daemon.runs.names();
        names.borrow_and_update();
        // Not part of the time: who does not want to wait is told what is so.
        let run = match target::run(&call.daemon, call.daemon.tree()?, &call.origin(), &run_id).await? {
            Some(row) if row.outcome.is_some() => return waited(&run_id, &row),
            found => found.map(|row| row.id),
        };
        let overdue = call.daemon.clock.sleep(within);
        tokio::select! {
            ended = ended(&call, &run_id, run, names) => ended,
            () = overdue => answer(&json!({ "runId": run_id, "status": "timeout" })),
        }
    }
    .boxed()
}

/// Waits until the run is there, if it was not found, and has ended.
async fn ended(call: &Call, name: &str, run: Option<RunId>, mut names: watch::Receiver<u64>) -> Answer {
    let tree = call.daemon.tree()?;
    let run = match run {
        Some(run) => run,
        // The store is asked again only when somebody gives a run this very name.
        None => {
            let given = |_: &u64| call.daemon.runs.named(name).is_some();
            if names.wait_for(given).await.is_err() {
                std::future::pending::<()>().await;
            }
            match target::run(&call.daemon, tree, &call.origin(), name).await? {
                Some(row) => row.id,
                None => return Err(ErrorShape::unavailable(format!("run {name} was deleted"))),
            }
        }
    };
    tree.outcome(run).await.map_err(|refusal| refused(&refusal))?;
    waited(name, &stored(tree, run).await?)
}

fn waited(name: &str, row: &RunRow) -> Answer {
    let outcome = row.outcome.as_ref();
    answer(&Waited {
        run_id: name,
        status: outcome.map_or("timeout", |outcome| Ending::of(outcome.state).wait),
        started_at: row.started_at.map(|at| at.0),
        ended_at: row.ended_at.map(|at| at.0),
        error: outcome
            .and_then(states::reason)
            .filter(|_| outcome.is_some_and(|outcome| !Ending::of(outcome.state).is_ok())),
    })
}

#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Waited<'a> {
    run_id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct IdentityParams {
    agent_id: Option<String>,
    session_key: Option<String>,
}

fn identity(call: &Call) -> Answer {
    let IdentityParams { agent_id, session_key } = call.params()?;
    let settings = call.daemon.tree()?.settings();
    let agent = target::session(call.method, &settings, agent_id.as_deref(), session_key.as_deref())?.agent();
    let configured = settings.agent(&agent).and_then(|agent| agent.name.clone());
    let source = if configured.is_some() { "config" } else { "default" };
    let name = configured.unwrap_or_else(|| "Assistant".to_owned());
    let avatar: String = name.chars().take(1).flat_map(char::to_uppercase).collect();
    let mut identity = json!({ "agentId": agent, "name": name, "avatar": avatar });
    if call.client.protocol == Protocol::V4 {
        identity["nameSource"] = json!(source);
    }
    answer(&identity)
}
