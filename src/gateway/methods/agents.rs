//! `agents.*`: the configured agents, and the files of their workspaces.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use futures::future::BoxFuture;
use offshoot_actors::types::{AgentId, AgentSettings};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ADMIN, Answer, Call, Method, READ, answer, later, now};
use crate::config::roster::{self, NewAgent, RosterError};
use crate::config::write_private;
use crate::gateway::daemon::Daemon;
use crate::gateway::writing;
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

pub(super) const METHODS: &[Method] = &[
    now("agents.list", READ, list),
    later("agents.create", ADMIN, create),
    later("agents.update", ADMIN, update),
    later("agents.delete", ADMIN, delete),
    later("agents.files.list", READ, files_list),
    later("agents.files.get", READ, files_get),
    later("agents.files.set", ADMIN, files_set),
];

/// The files of a workspace that clients show and edit.
const FILES: &[&str] = &[
    "AGENTS.md",
    "SOUL.md",
    "TOOLS.md",
    "IDENTITY.md",
    "USER.md",
    "HEARTBEAT.md",
    "BOOTSTRAP.md",
    "MEMORY.md",
];
const MAX_FILE: u64 = 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Create {
    name: String,
    workspace: String,
    model: Option<String>,
    emoji: Option<String>,
    avatar: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Update {
    agent_id: String,
    name: Option<String>,
    workspace: Option<String>,
    model: Option<String>,
    emoji: Option<String>,
    avatar: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Delete {
    agent_id: String,
    delete_files: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct File {
    agent_id: String,
    name: Option<String>,
    content: Option<String>,
}

/// The agent that a request names, or the default one.
pub(super) fn named(call: &Call, name: Option<&str>) -> Result<AgentId, ErrorShape> {
    let config = call.daemon.config();
    match name.map(str::trim).filter(|name| !name.is_empty()) {
        None => Ok(config.settings.default_agent.clone()),
        Some(name) => {
            let id: Option<AgentId> = name.to_ascii_lowercase().parse().ok();
            let known = id.filter(|id| config.settings.agent(id).is_some());
            known.ok_or_else(|| {
                let name: String = name.chars().take(64).collect();
                ErrorShape::invalid(format!("unknown agent id {name:?}: see agents.list"))
            })
        }
    }
}

/// What the configuration says of an agent beyond what is acted on.
fn said_of(document: &Value, agent: &AgentId) -> Option<Value> {
    let list = document.pointer("/agents/list").and_then(Value::as_array);
    let listed = list
        .into_iter()
        .flatten()
        .find(|said| said["id"].as_str().is_some_and(|id| id.trim().eq_ignore_ascii_case(agent.as_str())));
    let entries = document.pointer("/agents/entries").and_then(Value::as_object);
    let entry = entries.into_iter().flatten().find(|(id, _)| id.trim().eq_ignore_ascii_case(agent.as_str()));
    listed.or(entry.map(|(_, said)| said)).cloned()
}

/// Where an agent's files are: where the configuration says, else in a folder of its own in the state directory.
pub(super) fn workspace(daemon: &Daemon, agent: &AgentId) -> PathBuf {
    let config = daemon.config();
    let document = config.document.value();
    let own = said_of(document, agent).and_then(|said| said["workspace"].as_str().map(str::to_owned));
    let is_default = *agent == config.settings.default_agent;
    if let Some(own) = own {
        return config.expand(&own);
    }
    match document.pointer("/agents/defaults/workspace").and_then(Value::as_str) {
        Some(shared) if is_default => config.expand(shared),
        Some(shared) => config.expand(shared).join(agent.as_str()),
        None if is_default => daemon.state_dir.join("workspace"),
        None => daemon.state_dir.join(format!("workspace-{agent}")),
    }
}

fn list(call: &Call) -> Answer {
    let config = call.daemon.config();
    let settings = &config.settings;
    let row = |agent: &AgentSettings| {
        let mut row = json!({
            "id": agent.id,
            "workspace": workspace(&call.daemon, &agent.id),
            "model": model(agent),
        });
        if let Some(name) = &agent.name {
            row["name"] = name.as_str().into();
        }
        let said = said_of(config.document.value(), &agent.id);
        if let Some(identity) = said.and_then(|said| said.get("identity").cloned()).filter(Value::is_object) {
            row["identity"] = identity;
        }
        if call.client.protocol == Protocol::V4 {
            row["workspaceGit"] = workspace(&call.daemon, &agent.id).join(".git").exists().into();
            row["agentRuntime"] = json!({
                "id": "auto", "source": "implicit",
                "cloudPlacementSupported": false, "devicePlacementSupported": false,
            });
            row["thinkingLevels"] = json!([{ "id": "off", "label": "off" }]);
            row["thinkingOptions"] = json!(["off"]);
            row["thinkingDefault"] = "off".into();
        }
        row
    };
    // The default one first, as people expect it.
    let default = settings.agents.values().filter(|agent| agent.id == settings.default_agent);
    let rest = settings.agents.values().filter(|agent| agent.id != settings.default_agent);
    let mut payload = json!({
        "defaultId": settings.default_agent,
        "mainKey": "main",
        "scope": "per-sender",
        "agents": default.chain(rest).map(|agent| row(agent)).collect::<Vec<_>>(),
    });
    if call.client.protocol == Protocol::V4 {
        payload["ownership"] = "legacy".into();
        payload["selectionRequired"] = false.into();
    }
    answer(&payload)
}

fn model(agent: &AgentSettings) -> Value {
    let mut model = json!({ "primary": agent.model.primary });
    if !agent.model.fallbacks.is_empty() {
        model["fallbacks"] = json!(agent.model.fallbacks);
    }
    model
}

fn refused(error: RosterError) -> ErrorShape {
    ErrorShape::invalid(error.to_string())
}

fn create(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let Create { name, workspace, model, emoji, avatar } = call.params()?;
        let new = NewAgent { name, workspace: Some(workspace), model, emoji, avatar };
        let edit =
            move |document: &mut Value| roster::create(document, &new).map(|id| (id, new)).map_err(refused);
        let ((id, new), _) = writing::edit_roster(&call, edit).await?;
        answer(&json!({
            "ok": true, "agentId": id, "name": new.name, "workspace": new.workspace, "model": new.model,
        }))
    })
}

fn update(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let Update { agent_id, name, workspace, model, emoji, avatar } = call.params()?;
        let id = named(&call, Some(&agent_id))?;
        let changed = NewAgent { name: name.unwrap_or_default(), workspace, model, emoji, avatar };
        let agent = id.clone();
        let edit = move |document: &mut Value| roster::update(document, &agent, &changed).map_err(refused);
        writing::edit_roster(&call, edit).await?;
        answer(&json!({ "ok": true, "agentId": id }))
    })
}

fn delete(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let Delete { agent_id, delete_files } = call.params()?;
        let id = named(&call, Some(&agent_id))?;
        if delete_files == Some(true) {
            let text = "invalid agents.delete params: offshoot deletes no files; leave deleteFiles out";
            return Err(ErrorShape::invalid(text));
        }
        let agent = id.clone();
        let edit = move |document: &mut Value| roster::delete(document, &agent).map_err(refused);
        let (removed, _) = writing::edit_roster(&call, edit).await?;
        answer(&json!({ "ok": true, "agentId": id, "removedBindings": removed }))
    })
}

/// Does the work of a request about files away from the actors, which wait for no disk.
fn with_files(
    call: Call,
    work: impl FnOnce(&Call, &AgentId, &Path, File) -> Result<Value, ErrorShape> + Send + 'static,
) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let file: File = call.params()?;
        let agent = named(&call, Some(&file.agent_id))?;
        let workspace = workspace(&call.daemon, &agent);
        let done = tokio::task::spawn_blocking(move || work(&call, &agent, &workspace, file)).await;
        answer(&done.map_err(|error| ErrorShape::unavailable(error.to_string()))??)
    })
}

fn files_list(call: Call) -> BoxFuture<'static, Answer> {
    with_files(call, |_, agent, workspace, _| {
        let files: Vec<Value> = FILES.iter().map(|name| facts(workspace, name)).collect();
        Ok(json!({ "agentId": agent, "workspace": workspace, "files": files }))
    })
}

fn files_get(call: Call) -> BoxFuture<'static, Answer> {
    with_files(call, |_, agent, workspace, file| {
        let name = known_name(file.name.as_deref())?;
        let mut facts = facts(workspace, name);
        if facts["missing"] == false {
            if facts["size"].as_u64().is_none_or(|size| size > MAX_FILE) {
                return Err(ErrorShape::invalid(format!("{name} is longer than {MAX_FILE} bytes")));
            }
            let content = std::fs::read_to_string(workspace.join(name));
            facts["content"] = content.map_err(|error| unreadable(name, &error))?.into();
        }
        Ok(json!({ "agentId": agent, "workspace": workspace, "file": facts }))
    })
}

fn files_set(call: Call) -> BoxFuture<'static, Answer> {
    with_files(call, |call, agent, workspace, file| {
        let name = known_name(file.name.as_deref())?;
        let content = file
            .content
            .ok_or_else(|| ErrorShape::invalid("invalid agents.files.set params: missing field `content`"))?;
        if content.len() as u64 > MAX_FILE {
            return Err(ErrorShape::invalid(format!("content is longer than {MAX_FILE} bytes")));
        }
        let written = std::fs::create_dir_all(workspace)
            .and_then(|()| write_private(&workspace.join(name), content.as_bytes()));
        written.map_err(|error| ErrorShape::unavailable(format!("{name} cannot be written: {error}")))?;
        let facts_of_change = vec![("agent", agent.to_string()), ("file", name.to_owned())];
        call.daemon.tree()?.audit("agent.file.written", call.origin(), facts_of_change);
        let mut facts = facts(workspace, name);
        facts["content"] = content.into();
        Ok(json!({ "ok": true, "agentId": agent, "workspace": workspace, "file": facts }))
    })
}

/// A name from outside leads to a file only if it is one of these.
fn known_name(name: Option<&str>) -> Result<&'static str, ErrorShape> {
    let known = name.and_then(|name| FILES.iter().copied().find(|known| *known == name.trim()));
    known.ok_or_else(|| {
        let name: String = name.unwrap_or_default().chars().take(64).collect();
        ErrorShape::invalid(format!("unsupported file {name:?}: use one of {}", FILES.join(", ")))
    })
}

fn unreadable(name: &str, error: &std::io::Error) -> ErrorShape {
    match error.kind() {
        ErrorKind::InvalidData => ErrorShape::invalid(format!("{name} is not UTF-8 text")),
        _ => ErrorShape::unavailable(format!("{name} cannot be read: {error}")),
    }
}

fn facts(workspace: &Path, name: &str) -> Value {
    let path = workspace.join(name);
    let mut facts = json!({ "name": name, "path": path, "missing": true });
    if let Ok(metadata) = path.metadata()
        && metadata.is_file()
    {
        facts["missing"] = false.into();
        facts["size"] = metadata.len().into();
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        if let Some(at) = modified {
            facts["updatedAtMs"] = u64::try_from(at.as_millis()).unwrap_or(0).into();
        }
    }
    facts
}
