//! `sessions_spawn`: starts a sub-agent and answers as soon as that is committed.

use std::time::Duration;

use offshoot_actors::ports::ToolOutput;
use offshoot_actors::types::{
    Accepted, Cleanup, MAX_TIMEOUT, Mode, OnParentExit, RecoveryMode, RunId, SessionKey, SpawnRequest,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value, json};

use super::arguments::{self, BadArguments, filled};
use super::reply::{self, Failure};
use super::{Call, Context, Tool, schema};

const NAME: &str = "sessions_spawn";

pub(super) const TOOL: Tool = Tool {
    name: NAME,
    description: "Start a sub-agent on a task of its own, in a new session beside this one. Answers at once; the \
                  sub-agent's result is pushed to you when it is done. Several calls in one turn run in parallel. \
                  Do not poll: go on, end your turn, or call sessions_yield.",
    parameters: schema::of::<Parameters>,
    parallel: true,
    // A repeat carries the same idempotency key, so it is the same spawn.
    idempotent: true,
    yields: false,
    groups: &["sessions", "openclaw"],
    run: |call| Box::pin(run(call)),
};

/// Parameters that would deliver to a channel, which is not what a spawn does.
const CHANNEL_DELIVERY: [&str; 8] =
    ["target", "transport", "channel", "to", "threadId", "thread_id", "replyTo", "reply_to"];

/// What OpenClaw knows and Offshoot does not have yet, with the JSON that says the same as leaving it out.
const NOT_YET: &[(&str, Option<&str>)] = &[
    ("attachAs", Some("{}")),
    ("attachments", Some("[]")),
    ("collect", Some("false")),
    ("completionTarget", Some(r#""parent""#)),
    ("context", Some(r#""isolated""#)),
    ("cwd", None),
    ("fastMode", Some("false")),
    ("group", None),
    ("groupId", None),
    ("lightContext", Some("false")),
    ("outputSchema", None),
    ("placement", None),
    ("projectGitUrl", None),
    ("projectId", None),
    ("resumeSessionId", None),
    ("sandbox", Some(r#""inherit""#)),
    ("streamTo", None),
    ("taskName", None),
    ("thinking", None),
    ("thread", Some("false")),
    ("visible", Some("false")),
    ("worktree", Some("false")),
];

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Parameters {
    /// What the sub-agent shall do, with everything it needs to know.
    #[schemars(required)]
    task: Option<String>,
    /// A short name for lists and results.
    label: Option<String>,
    /// The agent to run as; yourself if left out. See agents_list.
    agent_id: Option<String>,
    /// A model as provider/model, or an alias.
    model: Option<String>,
    /// Seconds that the run may take; 0 for no limit.
    #[schemars(range(min = 0, max = 31_536_000))]
    run_timeout_seconds: Option<f64>,
    /// The older name of runTimeoutSeconds.
    #[schemars(range(min = 0, max = 31_536_000))]
    timeout_seconds: Option<f64>,
    /// run: one result. session: stays and takes further messages.
    mode: Option<WireMode>,
    /// What happens to the session after its result: keep or delete.
    cleanup: Option<WireCleanup>,
    /// The kind of sub-agent.
    runtime: Option<Runtime>,
    /// Whether you get the result; true if left out.
    expects_completion_message: Option<bool>,
    /// If the daemon restarts meanwhile: resume goes on, interrupt ends the run; as configured if left out.
    recovery: Option<WireRecovery>,
    /// If your session is stopped: stop it too (as if left out), continue without a receiver, or hand-over to your parent.
    on_parent_exit: Option<WireExit>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum WireMode {
    Run,
    Session,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum WireCleanup {
    Keep,
    Delete,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum WireRecovery {
    Resume,
    Interrupt,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum WireExit {
    Stop,
    Continue,
    HandOver,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Runtime {
    Subagent,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AcceptedReply {
    status: &'static str,
    child_session_key: SessionKey,
    run_id: RunId,
    mode: Mode,
    note: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_applied: Option<bool>,
    context: &'static str,
    expects_completion_message: bool,
    resolved_model: String,
    resolved_provider: String,
    fallbacks: Vec<String>,
    run_timeout_seconds: Number,
    depth: u32,
}

async fn run(call: Call) -> Result<ToolOutput, Failure> {
    let Context { session, origin, idempotency, tree, .. } = call.context;
    let mut request = parse(session, call.arguments)?;
    request.idempotency = idempotency;
    let model_given = request.model.is_some();
    let accepted = tree.spawn(request, origin).await?;
    Ok(reply::ok(&shape(&accepted, model_given)))
}

/// A spawn that somebody else than an agent asks for with the same arguments, and how its answer looks. That the task
/// says something is left to the tree.
///
/// # Errors
/// What is wrong with the arguments.
pub(crate) fn request(
    parent: SessionKey,
    arguments: Map<String, Value>,
) -> Result<(SpawnRequest, impl FnOnce(&Accepted) -> Value), String> {
    let request = read(parent, arguments).map_err(|error| error.to_string())?;
    let model_given = request.model.is_some();
    Ok((request, move |accepted: &Accepted| json!(shape(accepted, model_given))))
}

fn parse(parent: SessionKey, arguments: Map<String, Value>) -> Result<SpawnRequest, BadArguments> {
    let request = read(parent, arguments)?;
    if request.task.is_empty() { Err(no_task()) } else { Ok(request) }
}

fn read(parent: SessionKey, mut object: Map<String, Value>) -> Result<SpawnRequest, BadArguments> {
    if let Some(name) = CHANNEL_DELIVERY.iter().find(|name| object.contains_key(**name)) {
        return Err(BadArguments(format!(
            "sessions_spawn does not support \"{name}\". Use \"message\" or \"sessions_send\" for channel delivery."
        )));
    }
    take_defaults(&mut object)?;
    check_runtime(&object)?;
    let parameters: Parameters = arguments::read(object)?;
    let (None | Some(Runtime::Subagent)) = parameters.runtime;
    let task = parameters.task.ok_or_else(no_task)?;
    let newer = seconds("runTimeoutSeconds", parameters.run_timeout_seconds)?;
    let older = seconds("timeoutSeconds", parameters.timeout_seconds)?;
    Ok(SpawnRequest {
        label: filled(parameters.label),
        agent: filled(parameters.agent_id),
        model: filled(parameters.model),
        timeout: newer.or(older),
        mode: match parameters.mode {
            None | Some(WireMode::Run) => Mode::Run,
            Some(WireMode::Session) => Mode::Session,
        },
        cleanup: match parameters.cleanup {
            None | Some(WireCleanup::Keep) => Cleanup::Keep,
            Some(WireCleanup::Delete) => Cleanup::Delete,
        },
        expects_completion: parameters.expects_completion_message.unwrap_or(true),
        recovery: parameters.recovery.map(|recovery| match recovery {
            WireRecovery::Resume => RecoveryMode::Resume,
            WireRecovery::Interrupt => RecoveryMode::Interrupt,
        }),
        on_parent_exit: match parameters.on_parent_exit {
            None | Some(WireExit::Stop) => OnParentExit::Stop,
            Some(WireExit::Continue) => OnParentExit::Continue,
            Some(WireExit::HandOver) => OnParentExit::HandOver,
        },
        ..SpawnRequest::new(parent, task.trim())
    })
}

fn no_task() -> BadArguments {
    BadArguments("parameter \"task\" must say what the sub-agent shall do".to_owned())
}

/// Takes out what asks for the only thing there is, and names what asks for more.
fn take_defaults(object: &mut Map<String, Value>) -> Result<(), BadArguments> {
    for (name, default) in NOT_YET {
        let Some(value) = object.remove(*name) else { continue };
        let empty = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
        let text = value.to_string();
        if empty || *default == Some(text.as_str()) {
            continue;
        }
        let instead = default.map(|default| format!(" or pass {default}")).unwrap_or_default();
        return Err(BadArguments(format!(
            "parameter {name:?} is not supported by Offshoot yet: leave it out{instead}"
        )));
    }
    Ok(())
}

fn check_runtime(object: &Map<String, Value>) -> Result<(), BadArguments> {
    match object.get("runtime").and_then(Value::as_str) {
        None | Some("subagent") => Ok(()),
        Some(other) => Err(BadArguments(format!(
            "runtime {:?} is not supported by Offshoot yet: leave it out or pass \"subagent\"",
            reply::clip(other, 32).0
        ))),
    }
}

fn seconds(name: &str, value: Option<f64>) -> Result<Option<Duration>, BadArguments> {
    let Some(value) = value else { return Ok(None) };
    match Duration::try_from_secs_f64(value) {
        Ok(duration) if duration <= MAX_TIMEOUT => Ok(Some(duration)),
        _ => Err(BadArguments(format!(
            "parameter {name:?} must be from 0 (no limit) to {} seconds, not {value}",
            MAX_TIMEOUT.as_secs()
        ))),
    }
}

fn shape(accepted: &Accepted, model_given: bool) -> AcceptedReply {
    let note = match (accepted.expects_completion, accepted.mode) {
        (true, Mode::Run) => {
            "The result is pushed to this session when the sub-agent is done. Do not poll for it: go on with \
             other work, end your turn, or call sessions_yield."
        }
        (true, Mode::Session) => {
            "The first result is pushed to this session when it is there; do not poll for it. The sub-agent's \
             session stays and takes further messages."
        }
        (false, _) => {
            "No result is pushed to this session. Look at the sub-agent's session with sessions_history."
        }
    };
    AcceptedReply {
        status: "accepted",
        child_session_key: accepted.session.clone(),
        run_id: accepted.run,
        mode: accepted.mode,
        note,
        model_applied: model_given.then_some(true),
        context: "isolated",
        expects_completion_message: accepted.expects_completion,
        resolved_model: accepted.model.primary.to_string(),
        resolved_provider: accepted.model.primary.provider().to_owned(),
        fallbacks: accepted.model.fallbacks.iter().map(ToString::to_string).collect(),
        run_timeout_seconds: whole_or_fraction(accepted.timeout.unwrap_or_default()),
        depth: accepted.depth,
    }
}

/// Seconds without a fraction where there is none.
fn whole_or_fraction(duration: Duration) -> Number {
    let fraction = Number::from_f64(duration.as_secs_f64()).filter(|_| duration.subsec_nanos() != 0);
    fraction.unwrap_or_else(|| Number::from(duration.as_secs()))
}

#[cfg(test)]
mod tests;
