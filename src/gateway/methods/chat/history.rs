//! What was said in a session.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::TreeHandle;
use offshoot_actors::types::{ModelRef, RunId, SessionKey, Settings, StoredEntry};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::gateway::events::raw;
use crate::gateway::messages::{self, Shape};
use crate::gateway::methods::target::{self, unread};
use crate::gateway::methods::{Answer, Call, Payload, answer};
use crate::gateway::recent::recent;
use crate::gateway::runs::wire_name;
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;
use crate::tools::messages::length;

const DEFAULT_LIMIT: u32 = 200;
const MAX_LIMIT: u32 = 1_000;
const MAX_CHARS: usize = 500_000;
/// Characters of one text where the client does not say.
const DEFAULT_CHARS: usize = 100_000;
/// The least that a client may ask an answer to be cut to.
const MIN_BYTES: usize = 1_024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct HistoryParams {
    session_key: String,
    agent_id: Option<String>,
    limit: Option<u32>,
    max_chars: Option<usize>,
    max_bytes: Option<usize>,
    session_id: Option<String>,
    /// Messages to skip, from the newest on.
    offset: Option<u64>,
}

pub(super) fn history(call: Call) -> BoxFuture<'static, Answer> {
    async move { answer(&read(&call).await?) }.boxed()
}

pub(super) fn startup(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let mut startup = read(&call).await?;
        startup.insert("metadata", catalogue(&call.daemon.tree()?.settings()));
        answer(&startup)
    }
    .boxed()
}

type History = BTreeMap<&'static str, Box<RawValue>>;

async fn read(call: &Call) -> Result<History, ErrorShape> {
    let params: HistoryParams = call.params()?;
    call.refuse(&["cursor", "pendingBefore", "messageId"])?;
    let within = |name: &str, value: u64, least: u64, most: u64| {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        let text = format!("invalid {} params: at /{name}: must be {least} to {most}", call.method);
        Err(ErrorShape::invalid(text))
    };
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    within("limit", limit.into(), 1, MAX_LIMIT.into())?;
    let max_chars = params.max_chars.unwrap_or(DEFAULT_CHARS);
    within("maxChars", max_chars as u64, 1, MAX_CHARS as u64)?;
    let max_bytes = params.max_bytes.unwrap_or(messages::MAX_BYTES);
    within("maxBytes", max_bytes as u64, MIN_BYTES as u64, u64::MAX)?;
    let tree = call.daemon.tree()?;
    let settings = tree.settings();
    let session =
        target::session(call.method, &settings, params.agent_id.as_deref(), Some(&params.session_key))?;
    target::same_transcript(call, tree, &session, params.session_id.as_deref()).await?;
    let storage = tree.storage();
    let total = length(storage, &session).await.map_err(unread)?;
    let offset = params.offset.unwrap_or(0);
    let end = total.saturating_sub(offset);
    let most = max_bytes.min(messages::MAX_BYTES);
    let entries = recent(storage, &session, Some(end), limit, (most, max_chars)).await.map_err(unread)?;
    let shapes = Shapes { call, tree, max_chars, names: BTreeMap::new() };
    let shown = shapes.show(&entries).await?;
    let kept = messages::fit(shown.into_iter().rev(), most);
    let older = total > offset.saturating_add(kept.len() as u64);
    let mut history = History::new();
    // As the client wrote it: it compares.
    history.insert("sessionKey", raw(&params.session_key));
    if call.client.protocol == Protocol::V4 {
        history.insert("hasMore", raw(&older));
        history.insert("totalMessages", raw(&total));
        if older {
            history.insert("nextOffset", raw(&offset.saturating_add(kept.len() as u64)));
        }
        history.insert("defaults", raw(&defaults(&settings, &session)));
        let open = super::open_runs(tree, &session).await?;
        if open.iter().all(|run| run.input.is_none()) {
            history.insert("pendingInputs", raw(&json!({ "items": [], "total": 0 })));
        }
        if let Some(row) = storage.session(session.clone()).await.map_err(unread)? {
            let names: Vec<String> = open.iter().map(wire_name).collect();
            let info = json!({
                "key": session,
                "kind": "direct",
                "agentId": row.agent,
                "label": row.label,
                "spawnedBy": row.parent,
                "updatedAt": row.updated_at.0,
                "hasActiveRun": !names.is_empty(),
                "activeRunIds": names,
            });
            history.insert("sessionInfo", raw(&info));
        }
    }
    history.insert("messages", raw(&kept));
    Ok(history)
}

/// Shows entries to one client.
struct Shapes<'a> {
    call: &'a Call,
    tree: &'a TreeHandle,
    max_chars: usize,
    /// What the runs of the entries are called on the wire.
    names: BTreeMap<RunId, String>,
}

impl Shapes<'_> {
    async fn show(mut self, entries: &[Arc<StoredEntry>]) -> Result<Vec<Box<RawValue>>, ErrorShape> {
        // Only the newer generation is told of runs.
        if self.call.client.protocol == Protocol::V4 {
            for run in entries.iter().filter_map(|entry| entry.run) {
                if !self.names.contains_key(&run) {
                    let row = self.tree.storage().run(run).await.map_err(unread)?;
                    self.names.insert(run, row.as_ref().map_or_else(|| run.to_string(), wire_name));
                }
            }
        }
        let shown = entries.iter().map(|entry| {
            let run = entry.run.and_then(|run| self.names.get(&run)).map(String::as_str);
            let shape = Shape { protocol: self.call.client.protocol, run, max_chars: self.max_chars };
            raw(&messages::message(entry, &shape))
        });
        Ok(shown.collect())
    }
}

/// The model of a session's runs where nothing else is said.
fn defaults(settings: &Settings, session: &SessionKey) -> Value {
    match settings.agent(&session.agent()) {
        Some(agent) => {
            json!({ "modelProvider": agent.model.primary.provider(), "model": agent.model.primary.model() })
        }
        None => json!({}),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct MetadataParams {
    agent_id: Option<String>,
    session_key: Option<String>,
}

pub(super) fn metadata(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let MetadataParams { agent_id, session_key } = call.params()?;
        let settings = call.daemon.tree()?.settings();
        target::session(call.method, &settings, agent_id.as_deref(), session_key.as_deref())?;
        Ok(Payload::Own(catalogue(&settings)))
    }
    .boxed()
}

/// The models that agents are configured with. There are no commands.
fn catalogue(settings: &Settings) -> Box<RawValue> {
    let mut models: Vec<&ModelRef> = Vec::new();
    for agent in settings.agents.values() {
        for model in std::iter::once(&agent.model.primary).chain(&agent.model.fallbacks) {
            if !models.contains(&model) {
                models.push(model);
            }
        }
    }
    let show = |model: &&ModelRef| json!({ "id": model.model(), "name": model.model(), "provider": model.provider(), "available": true });
    let models: Vec<Value> = models.iter().map(show).collect();
    raw(&json!({ "models": models, "commands": [] }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct MessageParams {
    session_key: String,
    agent_id: Option<String>,
    message_id: String,
    max_chars: Option<usize>,
}

pub(super) fn message(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let MessageParams { session_key, agent_id, message_id, max_chars } = call.params()?;
        let tree = call.daemon.tree()?;
        let session =
            target::session(call.method, &tree.settings(), agent_id.as_deref(), Some(&session_key))?;
        let unknown = || {
            let id: String = message_id.chars().take(80).collect();
            ErrorShape::invalid(format!("there is no message {id:?} in session {session}"))
        };
        let place = messages::place(&message_id).ok_or_else(unknown)?;
        let entries = tree.storage().entries(session.clone(), place, 1).await.map_err(unread)?;
        let max_chars = max_chars.unwrap_or(usize::MAX);
        let shapes = Shapes { call: &call, tree, max_chars, names: BTreeMap::new() };
        let message = shapes.show(&entries).await?.pop().ok_or_else(unknown)?;
        answer(&BTreeMap::from([
            ("ok", raw(&true)),
            ("sessionKey", raw(&session_key)),
            ("messageId", raw(&message_id)),
            ("message", message),
        ]))
    }
    .boxed()
}
