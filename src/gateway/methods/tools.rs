//! `tools.*` and `commands.list`: what agents can call.

use std::sync::Arc;

use futures::future::BoxFuture;
use offshoot_actors::policy::tools::{self as policy, Role, profile};
use offshoot_actors::ports::ToolSpec;
use offshoot_actors::types::{IdempotencyKey, SessionKey, ToolRules, ToolStatus};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::agents::named;
use super::target;
use super::{Answer, Call, Method, READ, WRITE, answer, later, now};
use crate::protocol::error::ErrorShape;
use crate::tools::{self, Context};

pub(super) const METHODS: &[Method] = &[
    now("tools.catalog", READ, catalog),
    later("tools.effective", READ, effective),
    later("tools.invoke", WRITE, invoke),
    now("commands.list", READ, commands),
];

const PROFILES: &[(&str, &str)] =
    &[("minimal", "Minimal"), ("coding", "Coding"), ("messaging", "Messaging"), ("full", "Full")];
/// The groups that tools are shown under; a tool stands under the first that it is in.
const GROUPS: &[(&str, &str)] = &[("sessions", "Sessions"), ("agents", "Agents")];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct OfAgent {
    agent_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct OfSession {
    session_key: String,
    agent_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Invoke {
    name: String,
    args: Option<Map<String, Value>>,
    session_key: Option<String>,
    agent_id: Option<String>,
    idempotency_key: Option<String>,
}

fn catalog(call: &Call) -> Answer {
    let OfAgent { agent_id } = call.params()?;
    let agent = named(call, agent_id.as_deref())?;
    let all = call.daemon.tree()?.tools();
    let tool = |spec: &ToolSpec| {
        json!({
            "id": spec.name,
            "label": spec.name,
            "description": first_sentence(&spec.description),
            "source": "core",
            "defaultProfiles": profiles_of(spec),
        })
    };
    let profiles: Vec<Value> =
        PROFILES.iter().map(|(id, label)| json!({ "id": id, "label": label })).collect();
    answer(&json!({ "agentId": agent, "profiles": profiles, "groups": grouped(all.catalog(), tool) }))
}

fn effective(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let params: OfSession = call.params()?;
        let (key, tools) = of_session(&call, Some(&params.session_key), params.agent_id.as_deref()).await?;
        let settings = call.daemon.tree()?.settings();
        let agent = key.agent();
        let own = settings.agent(&agent).and_then(|agent| agent.tools.profile.clone());
        let profile = own.or_else(|| settings.tools.profile.clone()).unwrap_or_else(|| "full".to_owned());
        let tool = |spec: &ToolSpec| {
            json!({
                "id": spec.name,
                "label": spec.name,
                "description": first_sentence(&spec.description),
                "rawDescription": spec.description,
                "source": "core",
            })
        };
        let tools: Vec<Value> = tools.iter().map(|spec| tool(spec)).collect();
        let groups = if tools.is_empty() {
            json!([])
        } else {
            json!([{ "id": "core", "label": "Built-in tools", "source": "core", "tools": tools }])
        };
        answer(&json!({ "agentId": agent, "profile": profile, "groups": groups }))
    })
}

/// Calls a tool as the session's agent would, with what the session may.
fn invoke(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        call.refuse(&["confirm", "conversationReadOrigin", "dryRun"])?;
        let params: Invoke = call.params()?;
        let session = params.session_key.as_deref();
        let (key, tools) = of_session(&call, session, params.agent_id.as_deref()).await?;
        let name = params.name.trim();
        if !tools.iter().any(|spec| *spec.name == *name) {
            let name: String = name.chars().take(64).collect();
            let error = json!({ "code": "not_found", "message": format!("tool not available: {name}") });
            return answer(&json!({ "ok": false, "toolName": name, "error": error }));
        }
        let context = Context {
            agent: key.agent(),
            session: key,
            origin: call.origin(),
            idempotency: params.idempotency_key.map(|key| IdempotencyKey { key, may_repeat: true }),
            tree: call.daemon.tree()?.clone(),
        };
        let output = tools::invoke(context, name, params.args.unwrap_or_default(), call.now()).await;
        let output = output
            .map_err(|problem| ErrorShape::invalid(format!("invalid {} params: {problem}", call.method)))?;
        let details: Value = serde_json::from_str(&output.text).unwrap_or(Value::Null);
        let content = json!([{ "type": "text", "text": output.text }]);
        if output.status == ToolStatus::Ok {
            let output = json!({ "content": content, "details": details });
            return answer(&json!({ "ok": true, "toolName": name, "source": "core", "output": output }));
        }
        let error = json!({ "code": "tool_error", "message": output.text });
        answer(&json!({ "ok": false, "toolName": name, "error": error }))
    })
}

fn commands(call: &Call) -> Answer {
    let OfAgent { agent_id } = call.params()?;
    named(call, agent_id.as_deref())?;
    // A message that begins with a slash is a message: there are no commands of the chat yet.
    answer(&json!({ "commands": [] }))
}

/// The session and the tools that it has. It must exist, or be an agent's main one.
async fn of_session(
    call: &Call,
    key: Option<&str>,
    agent: Option<&str>,
) -> Result<(SessionKey, Vec<Arc<ToolSpec>>), ErrorShape> {
    let tree = call.daemon.tree()?;
    let settings = tree.settings();
    let key = target::session(call.method, &settings, agent, key)?;
    let read = |error: offshoot_actors::ports::StoreError| ErrorShape::unavailable(error.to_string());
    let row = tree.storage().session(key.clone()).await.map_err(read)?;
    let is_main = SessionKey::main(&key.agent()) == key && settings.agent(&key.agent()).is_some();
    if row.is_none() && !is_main {
        return Err(unknown_session());
    }
    let (depth, ceiling) = row.map_or((0, None), |row| (row.depth, row.tools));
    let agent = settings.agent(&key.agent());
    let role = Role::at(depth, settings.subagents.max_depth);
    let all = tree.tools().catalog();
    let names = policy::effective(all, &settings, agent.map(|agent| &**agent), role, ceiling.as_deref());
    let tools = all.iter().filter(|spec| names.contains(&spec.name)).cloned().collect();
    Ok((key, tools))
}

fn unknown_session() -> ErrorShape {
    ErrorShape::invalid("unknown session key")
}

fn grouped(tools: &[Arc<ToolSpec>], show: impl Fn(&ToolSpec) -> Value) -> Vec<Value> {
    let group_of = |spec: &ToolSpec| GROUPS.iter().position(|(id, _)| spec.groups.contains(id));
    let mut groups = Vec::new();
    for (at, (id, label)) in GROUPS.iter().enumerate() {
        let of = tools.iter().filter(|spec| group_of(spec) == Some(at));
        let of: Vec<Value> = of.map(|spec| show(spec)).collect();
        if !of.is_empty() {
            groups.push(json!({ "id": id, "label": label, "source": "core", "tools": of }));
        }
    }
    let rest: Vec<Value> =
        tools.iter().filter(|spec| group_of(spec).is_none()).map(|spec| show(spec)).collect();
    if !rest.is_empty() {
        groups.push(json!({ "id": "other", "label": "Other", "source": "core", "tools": rest }));
    }
    groups
}

/// The profiles that a tool is in. That the one with everything has it too goes without saying.
fn profiles_of(spec: &ToolSpec) -> Vec<&'static str> {
    let has = |tools: &[&str]| {
        let allow = tools.iter().map(|&pattern| pattern.to_owned()).collect();
        policy::permits(&ToolRules { allow, ..ToolRules::default() }, spec)
    };
    let partial = PROFILES.iter().map(|(id, _)| *id).filter(|id| *id != "full");
    partial.filter(|id| profile(id).is_some_and(has)).collect()
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}
