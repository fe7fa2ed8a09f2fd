//! `session_status`: one session at a glance.

use std::fmt::Write as _;
use std::sync::Arc;

use offshoot_actors::policy::tools::Role;
use offshoot_actors::ports::{RunRow, SessionRow, Storage, ToolOutput};
use offshoot_actors::types::{AgentId, RunId, SessionKey, Settings, Timestamp, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arguments::{self, BadArguments, filled};
use super::lookup::{self, session_key};
use super::reply::{self, Failure};
use super::{Call, Tool, schema};

pub(super) const TOOL: Tool = Tool {
    name: "session_status",
    description: "Show a session's model, state, tokens and open sub-agents; your own if no key is given.",
    parameters: schema::of::<Parameters>,
    parallel: true,
    idempotent: true,
    yields: false,
    groups: &["sessions", "openclaw"],
    run: |call| Box::pin(run(call)),
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Parameters {
    /// The session's key; your own session if left out.
    session_key: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    ok: bool,
    session_key: SessionKey,
    changed_model: bool,
    agent_id: AgentId,
    role: &'static str,
    depth: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunStatus>,
    open_descendants: usize,
    tokens: Tokens,
    status_text: String,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunStatus {
    run_id: RunId,
    state: &'static str,
    model: String,
    fallbacks: Vec<String>,
    steps: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<f64>,
    runtime_ms: u64,
}

/// Tokens of the session and everything below it.
#[derive(Debug, PartialEq, Serialize)]
struct Tokens {
    input: u64,
    output: u64,
    cached: u64,
}

async fn run(call: Call) -> Result<ToolOutput, Failure> {
    let key = parse(call.arguments)?.unwrap_or_else(|| call.context.session.clone());
    let tree = &call.context.tree;
    let status = status(tree.storage(), &tree.settings(), &call.context.session, key, call.now).await?;
    Ok(reply::ok(&status))
}

fn parse(mut object: serde_json::Map<String, serde_json::Value>) -> Result<Option<SessionKey>, BadArguments> {
    // OpenClaw's tool also changes the model. To ignore that would let the agent believe it had.
    if object.remove("model").is_some_and(|model| !model.is_null() && model != "") {
        return Err(BadArguments(
            "parameter \"model\" is not supported by Offshoot yet: leave it out; a model is chosen in \
             sessions_spawn or in the configuration"
                .to_owned(),
        ));
    }
    let parameters: Parameters = arguments::read(object)?;
    match filled(parameters.session_key) {
        Some(key) if !key.eq_ignore_ascii_case("current") => session_key(&key).map(Some),
        _ => Ok(None),
    }
}

async fn status(
    storage: &Arc<dyn Storage>,
    settings: &Settings,
    caller: &SessionKey,
    key: SessionKey,
    now: Timestamp,
) -> Result<Status, Failure> {
    let row = lookup::session(storage, settings.visibility, caller, &key, "Session status").await?;
    let open = storage.open_in_subtree(key.clone()).await?;
    let below = open.iter().filter(|run| run.session.key != key).count();
    let latest = lookup::latest_run(storage, &key).await?;
    let usage = storage.subtree_usage(key).await?;
    Ok(shape(row, latest.as_ref(), below, usage, settings, now))
}

fn shape(
    row: SessionRow,
    latest: Option<&RunRow>,
    below: usize,
    usage: Usage,
    settings: &Settings,
    now: Timestamp,
) -> Status {
    let run = latest.map(|run| RunStatus {
        run_id: run.id,
        state: run.state.as_str(),
        model: run.model_used.as_ref().unwrap_or(&run.model.primary).to_string(),
        fallbacks: run.model.fallbacks.iter().map(ToString::to_string).collect(),
        steps: run.steps,
        timeout_seconds: run.timeout.map(|timeout| timeout.as_secs_f64()),
        runtime_ms: run.started_at.map_or(0, |at| {
            u64::try_from((run.ended_at.unwrap_or(now) - at).as_millis()).unwrap_or(u64::MAX)
        }),
    });
    let role = Role::at(row.depth, settings.subagents.max_depth).as_str();
    let mut text = format!("Session {} (agent {}, {role}, depth {})\n", row.key, row.agent, row.depth);
    match &run {
        Some(run) => {
            let _ = writeln!(
                text,
                "Run {}: {}, model {}, {} steps, {} ms",
                run.run_id, run.state, run.model, run.steps, run.runtime_ms
            );
        }
        None => text.push_str("No run yet\n"),
    }
    let _ = write!(
        text,
        "Open sub-agent runs: {below}\nTokens with sub-agents: {} in ({} cached), {} out",
        usage.input, usage.cached, usage.output
    );
    Status {
        ok: true,
        session_key: row.key,
        changed_model: false,
        agent_id: row.agent,
        role,
        depth: row.depth,
        run,
        open_descendants: below,
        tokens: Tokens { input: usage.input, output: usage.output, cached: usage.cached },
        status_text: text,
    }
}

#[cfg(test)]
mod tests {
    use offshoot_actors::types::Visibility;
    use serde_json::{Value, json};

    use super::*;
    use crate::tools::testing::{Store, key, run_id, settings};

    const MAIN: &str = "agent:main:main";

    fn asked(arguments: Value) -> Result<Option<SessionKey>, BadArguments> {
        parse(arguments::object(&arguments.to_string())?)
    }

    #[test]
    fn the_own_session_is_the_default() {
        for own in [json!({}), json!({"sessionKey": ""}), json!({"sessionKey": "Current", "model": null})] {
            assert_eq!(asked(own), Ok(None));
        }
        assert_eq!(asked(json!({"sessionKey": MAIN})), Ok(Some(key(MAIN))));
        assert!(asked(json!({"sessionKey": "main"})).is_err());
        assert!(asked(json!({"model": "p/m"})).unwrap_err().to_string().contains("not supported"));
    }

    #[test]
    fn sample_arguments_fit_the_schema() {
        let schema = schema::of::<Parameters>();
        assert!(jsonschema::is_valid(&schema, &json!({})));
        assert!(jsonschema::is_valid(&schema, &json!({"sessionKey": MAIN})));
        assert!(!jsonschema::is_valid(&schema, &json!({"sessionKey": 1})));
    }

    fn storage() -> Arc<dyn Storage> {
        let mut store = Store::default();
        store.add_session(MAIN, None);
        store.add_session("agent:main:subagent:a", Some(MAIN));
        store.add_session("agent:helper:main", None);
        store.add_run(MAIN, 1_000);
        store.add_run("agent:main:subagent:a", 2_000);
        store.shared()
    }

    #[tokio::test]
    async fn a_session_at_a_glance() {
        let status =
            status(&storage(), &settings(&[]), &key(MAIN), key(MAIN), Timestamp(4_000)).await.unwrap();
        let mut value = serde_json::to_value(status).unwrap();
        let text = value.as_object_mut().unwrap().remove("statusText").unwrap();
        assert_eq!(
            value,
            json!({
                "ok": true,
                "sessionKey": MAIN,
                "changedModel": false,
                "agentId": "main",
                "role": "main",
                "depth": 0,
                "run": {
                    "runId": run_id(1_000).to_string(),
                    "state": "running",
                    "model": "p/main",
                    "fallbacks": [],
                    "steps": 2,
                    "runtimeMs": 3_000,
                },
                "openDescendants": 1,
                "tokens": {"input": 20, "output": 10, "cached": 0},
            })
        );
        assert_eq!(
            text.as_str().unwrap().lines().last(),
            Some("Tokens with sub-agents: 20 in (0 cached), 10 out")
        );
    }

    #[tokio::test]
    async fn what_may_not_be_seen_or_is_not_there() {
        let mut settings = settings(&[]);
        let storage = storage();
        let look = async |settings: &Settings, at: &str| {
            status(&storage, settings, &key(MAIN), key(at), Timestamp(0)).await
        };
        assert!(look(&settings, "agent:helper:main").await.is_ok());
        assert!(look(&settings, "agent:main:gone").await.is_err());
        settings.visibility = Visibility::Agent;
        let failure = look(&settings, "agent:helper:main").await.unwrap_err();
        assert!(failure.to_string().contains("Session status visibility is restricted"));
    }
}
