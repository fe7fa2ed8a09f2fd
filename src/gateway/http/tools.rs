//! `POST /tools/invoke`: a program uses one of an agent's tools.

use http::{Method, StatusCode};
use offshoot_actors::policy::tools::{Role, effective, wildcard};
use offshoot_actors::types::{
    AgentId, IdempotencyKey, Refusal, RunId, Scope, SessionKey, ToolRules, ToolStatus,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Call, Problem, Refused, Response, access, agent_run, body, either};
use crate::tools::{self, Context};

/// Longest request.
const MAX_BODY: usize = 2 * 1024 * 1024;
/// What no program may use unless `gateway.tools.allow` names it: these act on the machine, start agents, or belong to a
/// run.
const DENIED: [&str; 12] = [
    "sessions_spawn",
    "sessions_send",
    "sessions_yield",
    "cron",
    "gateway",
    "nodes",
    "whatsapp_login",
    "exec",
    "spawn",
    "shell",
    "fs_*",
    "apply_patch",
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    tool: Option<String>,
    name: Option<String>,
    action: Option<String>,
    args: Option<Map<String, Value>>,
    session_key: Option<String>,
    agent_id: Option<String>,
    idempotency_key: Option<String>,
    dry_run: Option<Value>,
    confirm: Option<Value>,
}

impl Parameters {
    /// The tool's name; the newer member wins.
    fn tool(&self) -> Option<&str> {
        let named = [&self.name, &self.tool].into_iter().flatten().map(|name| name.trim());
        named.into_iter().find(|name| !name.is_empty())
    }
}

pub(super) async fn answer(call: Call) -> Response {
    either(respond(call).await)
}

async fn respond(call: Call) -> Result<Response, Refused> {
    call.only(&Method::POST)?;
    let caller = access::caller(&call).await?;
    caller.needs(Scope::Write)?;
    let Call { daemon, config, request, asking, .. } = call;
    let parameters: Parameters = body::read_json(request, MAX_BODY).await?;
    for (name, value) in [("dryRun", &parameters.dry_run), ("confirm", &parameters.confirm)] {
        if !matches!(value, None | Some(Value::Null | Value::Bool(false))) {
            return Err(Problem::invalid(format!("{name} is not supported by offshoot; leave it out")).into());
        }
    }
    let Some(name) = parameters.tool() else {
        return Err(Problem::invalid("tools.invoke requires body.tool").into());
    };
    let tree = daemon.tree().map_err(|_| Problem::starting())?;
    let settings = tree.settings();
    let agent = match &parameters.agent_id {
        None => settings.default_agent.clone(),
        Some(id) => configured(&settings, id)?,
    };
    let session = match parameters.session_key.as_deref().map(str::trim) {
        None | Some("" | "main") => SessionKey::main(&agent),
        // A key in full names the agent.
        Some(key) => match key.parse::<SessionKey>() {
            Ok(session) if parameters.agent_id.is_none() => session,
            _ => agent_run::named_session(&agent, key)?,
        },
    };
    let stored = tree.storage().session(session.clone()).await;
    let stored = stored.map_err(|error| Problem::refused(&Refusal::error("store", error.to_string())))?;
    let (depth, ceiling) = stored.map_or((0, None), |row| (row.depth, row.tools));
    let role = Role::at(depth, settings.subagents.max_depth);
    let catalog = tree.tools().catalog();
    let owner = settings.agent(&session.agent());
    let has = effective(catalog, &settings, owner.map(AsRef::as_ref), role, ceiling.as_deref());
    if !has.iter().any(|tool| **tool == *name) || !is_open(&config.gateway.tools, name) {
        let shown: String = name.chars().take(128).collect();
        return Err(failed(StatusCode::NOT_FOUND, "not_found", &format!("Tool not available: {shown}")));
    }
    let mut arguments = parameters.args.clone().unwrap_or_default();
    if let Some(action) = &parameters.action {
        arguments.entry("action").or_insert_with(|| action.clone().into());
    }
    let context = Context {
        agent: session.agent(),
        session,
        origin: caller.origin,
        idempotency: parameters.idempotency_key.clone().map(|key| IdempotencyKey { key, may_repeat: true }),
        tree: tree.clone(),
    };
    let pending = asking.begin();
    let output = tools::invoke(context, name, arguments, daemon.clock.now()).await;
    let output = output.map_err(Problem::invalid)?;
    let details: Option<Value> = serde_json::from_str(&output.text).ok();
    if let Some((run, session)) = details.as_ref().and_then(spawned) {
        pending.started(run, &session, false);
    }
    if output.status != ToolStatus::Ok {
        let told = details.as_ref().and_then(|details| details["error"].as_str());
        return Err(failed(StatusCode::BAD_REQUEST, "tool_error", told.unwrap_or(&output.text)));
    }
    let result = json!({ "content": [{ "type": "text", "text": output.text }], "details": details });
    Ok(super::json(StatusCode::OK, &json!({ "ok": true, "result": result })))
}

/// The run that the tool started, if that is what it did.
fn spawned(details: &Value) -> Option<(RunId, SessionKey)> {
    let run = details["runId"].as_str()?.parse().ok()?;
    let session = details["childSessionKey"].as_str()?.parse().ok()?;
    Some((run, session))
}

fn configured(settings: &offshoot_actors::types::Settings, id: &str) -> Result<AgentId, Problem> {
    let agent = id.parse().ok().filter(|agent| settings.agents.contains_key(agent));
    agent.ok_or_else(|| {
        let id: String = id.chars().take(64).collect();
        Problem::invalid(format!("Unknown agent '{id}'."))
    })
}

/// Whether programs may use the tool: `deny` wins over `allow`, which wins over what is denied to all.
fn is_open(rules: &ToolRules, name: &str) -> bool {
    let names = |patterns: &[String]| {
        patterns.iter().any(|pattern| wildcard(pattern.trim().as_bytes(), name.as_bytes()))
    };
    let denied = DENIED.iter().any(|pattern| wildcard(pattern.as_bytes(), name.as_bytes()));
    !names(&rules.deny) && (!denied || names(&rules.allow))
}

fn failed(status: StatusCode, kind: &str, message: &str) -> Refused {
    let error = json!({ "type": kind, "message": message });
    super::json(status, &json!({ "ok": false, "error": error })).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_changed_by_the_configuration_and_deny_wins() {
        let rules = |allow: &[&str], deny: &[&str]| ToolRules {
            allow: allow.iter().map(|&name| name.to_owned()).collect(),
            deny: deny.iter().map(|&name| name.to_owned()).collect(),
            ..ToolRules::default()
        };
        let plain = rules(&[], &[]);
        assert!(is_open(&plain, "sessions_list"));
        for closed in ["sessions_spawn", "exec", "fs_write", "sessions_yield"] {
            assert!(!is_open(&plain, closed), "{closed}");
        }
        assert!(is_open(&rules(&["sessions_spawn"], &[]), "sessions_spawn"));
        assert!(!is_open(&rules(&["sessions_spawn"], &["sessions_*"]), "sessions_spawn"));
        assert!(!is_open(&rules(&["sessions_list"], &["sessions_list"]), "sessions_list"));
    }

    #[test]
    fn the_newer_name_wins() {
        let tool = |text: &str| {
            let parameters: Parameters = serde_json::from_str(text).unwrap();
            parameters.tool().map(str::to_owned)
        };
        assert_eq!(tool(r#"{"tool":"a"}"#).as_deref(), Some("a"));
        assert_eq!(tool(r#"{"tool":"a","name":"b"}"#).as_deref(), Some("b"));
        assert_eq!(tool(r#"{"name":" ","tool":"a"}"#).as_deref(), Some("a"));
        assert_eq!(tool("{}"), None);
    }
}
