//! `sessions.patch`, `.reset`, `.delete` and `.compact`.

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::SessionPatch;
use offshoot_actors::types::{Refusal, Scope, SessionKey};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{Answer, Call, answer};
use super::create::label_is_free;
use super::{given, named, refused_for, store, unknown};
use crate::gateway::projector::Change;
use crate::gateway::rows::{RowShape, model_of, overview, session_row};
use crate::protocol::client::{ClientId, ClientMode};
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

/// What a patch may hold beside what it changes here.
const NAMES: &[&str] = &["key", "agentId", "label", "model"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct PatchParams {
    key: String,
    agent_id: Option<String>,
    #[serde(default, deserialize_with = "given")]
    label: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    model: Option<Option<String>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

pub(super) fn patch(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        may_change(&call, false)?;
        let params: PatchParams = call.params()?;
        may_change(&call, params.model.is_some())?;
        not_from_webchat(&call, "patch")?;
        unsupported(&call, &params.others)?;
        let tree = call.daemon.tree()?;
        let settings = tree.settings();
        let key = named(call.method, &settings, params.agent_id.as_deref(), &params.key)?;
        let trimmed =
            |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let patch = SessionPatch { label: params.label.map(trimmed), model: params.model.map(trimmed) };
        label_is_free(&call, patch.label.as_ref().and_then(Option::as_deref), &key).await?;
        tree.patch_session(&key, patch, call.origin()).await.map_err(refused_for(&key))?;
        let session = overview(tree.storage().as_ref(), key.clone()).await.map_err(store)?;
        let session = session.ok_or_else(|| unknown(&key))?;
        call.daemon.project_change(Change {
            session: key.clone(),
            reason: "patch",
            now: Some(session.clone()),
        });
        let shape = RowShape { protocol: call.client.protocol, settings: &settings, now: call.now() };
        let model = model_of(&session.row, &settings);
        answer(&json!({
            "ok": true,
            "path": call.daemon.state_dir,
            "key": key,
            "entry": session_row(&session, &shape),
            "resolved": {
                "modelProvider": model.map(|model| model.provider()),
                "model": model.map(|model| model.model()),
            },
        }))
    }
    .boxed()
}

/// Whether the client may change a session that exists. The older generation has all of this for administrators; the
/// newer one lets others name sessions, not choose their models.
pub(super) fn may_change(call: &Call, model: bool) -> Result<(), ErrorShape> {
    let needs_admin = call.client.protocol == Protocol::V3 || model;
    if needs_admin && !call.client.may(Scope::Admin) {
        return Err(call.lacks(Scope::Admin));
    }
    Ok(())
}

/// Refuses what a session cannot be given here, by its name. Null and false ask for what is so already.
fn unsupported(call: &Call, others: &Map<String, Value>) -> Result<(), ErrorShape> {
    let asks = |(name, value): &(&String, &Value)| {
        !NAMES.contains(&name.as_str()) && !value.is_null() && **value != Value::Bool(false)
    };
    let Some((name, _)) = others.iter().find(asks) else { return Ok(()) };
    let name: String = name.chars().take(80).collect();
    Err(ErrorShape::invalid(format!(
        "invalid {} params: {name} is not supported by offshoot; it changes label and model",
        call.method
    )))
}

/// A chat on a web page may talk in sessions, not manage them; the Control UI may.
fn not_from_webchat(call: &Call, what: &str) -> Result<(), ErrorShape> {
    let facts = &call.client.facts;
    if facts.mode == ClientMode::Webchat && facts.id != ClientId::ControlUi {
        let text = format!("webchat clients cannot {what} sessions; use chat.send for what is said in them");
        return Err(ErrorShape::invalid(text));
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct KeyParams {
    key: String,
    agent_id: Option<String>,
}

pub(super) fn reset(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let KeyParams { key, agent_id } = call.params()?;
        let tree = call.daemon.tree()?;
        let settings = tree.settings();
        let key = named(call.method, &settings, agent_id.as_deref(), &key)?;
        tree.reset_session(&key, call.origin()).await.map_err(refused_for(&key))?;
        let session = overview(tree.storage().as_ref(), key.clone()).await.map_err(store)?;
        let session = session.ok_or_else(|| unknown(&key))?;
        call.daemon.project_change(Change {
            session: key.clone(),
            reason: "reset",
            now: Some(session.clone()),
        });
        let shape = RowShape { protocol: call.client.protocol, settings: &settings, now: call.now() };
        answer(&json!({ "ok": true, "key": key, "entry": session_row(&session, &shape) }))
    }
    .boxed()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct DeleteParams {
    key: String,
    agent_id: Option<String>,
    delete_transcript: Option<bool>,
}

pub(super) fn delete(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: DeleteParams = call.params()?;
        not_from_webchat(&call, "delete")?;
        if params.delete_transcript == Some(false) {
            return Err(ErrorShape::invalid(format!(
                "invalid {} params: deleteTranscript false is not supported by offshoot: a transcript goes with its session",
                call.method
            )));
        }
        let tree = call.daemon.tree()?;
        let key = named(call.method, &tree.settings(), params.agent_id.as_deref(), &params.key)?;
        if key == SessionKey::main(&key.agent()) {
            let text = format!("Cannot delete the main session ({key}).");
            return Err(ErrorShape::invalid(text).refusing(&main_session(&key)));
        }
        if tree.storage().session(key.clone()).await.map_err(store)?.is_none() {
            return answer(&json!({ "ok": true, "key": key, "deleted": false, "archived": [] }));
        }
        let deleted = tree.delete_session(&key, call.origin()).await.map_err(refused_for(&key))?;
        for gone in deleted {
            call.daemon.project_change(Change { session: gone, reason: "delete", now: None });
        }
        answer(&json!({ "ok": true, "key": key, "deleted": true, "archived": [] }))
    }
    .boxed()
}

fn main_session(key: &SessionKey) -> Refusal {
    let reset =
        format!("`offshoot gateway call sessions.reset --params '{{\"key\": \"{key}\"}}'` empties it");
    Refusal::forbidden(
        "main_session",
        format!("a gateway does not delete a main session, which {key} is"),
        reset,
    )
}

/// The session of a request, which must exist.
async fn existing(call: &Call) -> Result<SessionKey, ErrorShape> {
    let KeyParams { key, agent_id } = call.params()?;
    let tree = call.daemon.tree()?;
    let key = named(call.method, &tree.settings(), agent_id.as_deref(), &key)?;
    let found = tree.storage().session(key.clone()).await.map_err(store)?;
    found.map(|_| key.clone()).ok_or_else(|| unknown(&key))
}

/// Says that nothing was compacted: there is no compaction yet.
pub(super) fn compact(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let key = existing(&call).await?;
        let reason = "offshoot does not compact transcripts; sessions.reset begins a new one";
        answer(&json!({ "ok": true, "key": key, "compacted": false, "reason": reason }))
    }
    .boxed()
}

/// The checkpoints that compactions left: none.
pub(super) fn compactions(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let key = existing(&call).await?;
        answer(&json!({ "ok": true, "key": key, "checkpoints": [] }))
    }
    .boxed()
}
