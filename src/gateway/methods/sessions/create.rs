//! `sessions.create`: a new conversation, with its first message if there is one.

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::SessionPatch;
use offshoot_actors::types::SessionKey;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::agent::{Prompt, submit};
use super::super::target::{self, known_agent};
use super::super::{Answer, Call, answer};
use super::change::may_change;
use super::{filled, refused_for, store, unknown};
use crate::gateway::projector::Change;
use crate::gateway::rows::{RowShape, overview, session_id, session_row};
use crate::gateway::traces::Asking;
use crate::protocol::error::ErrorShape;

/// What would give the session other rights or another place to work in.
const NOT_HERE: &[&str] = &[
    "agentRuntime",
    "attachments",
    "catalogId",
    "cwd",
    "execNode",
    "fork",
    "forkFrom",
    "incognito",
    "permissionMode",
    "projectGitUrl",
    "projectId",
    "repository",
    "spawnDepth",
    "succeedsParent",
    "toolOverrides",
    "worktree",
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Params {
    key: Option<String>,
    agent_id: Option<String>,
    label: Option<String>,
    model: Option<String>,
    task: Option<String>,
    message: Option<String>,
    idempotency_key: Option<String>,
}

pub(super) fn create(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: Params = call.params()?;
        call.refuse(NOT_HERE)?;
        let key = key(&call, params.key, params.agent_id, params.idempotency_key.as_deref())?;
        let tree = call.daemon.tree()?;
        let storage = tree.storage().as_ref();
        let (label, model) = (filled(params.label), filled(params.model));
        if let Some(row) = storage.session(key.clone()).await.map_err(store)? {
            let primary = row.model.map(|model| model.primary.to_string());
            let renames = label.is_some() && label != row.label;
            let remodels = model.is_some() && model != primary;
            // What `sessions.patch` asks for is asked for here too.
            if renames || remodels {
                may_change(&call, remodels)?;
            }
        }
        label_is_free(&call, label.as_deref(), &key).await?;
        let patch = SessionPatch { label: label.map(Some), model: model.map(Some) };
        tree.create_session(&key, patch, call.origin()).await.map_err(refused_for(&key))?;
        let message = filled(params.message).or_else(|| filled(params.task));
        let mut out = Map::new();
        if let Some(message) = message {
            let name = match params.idempotency_key {
                Some(key) => key,
                None => Uuid::new_v4().to_string(),
            };
            let asking = Asking::new(&call.daemon.traces, None);
            let (session, name_of_run) = (key.clone(), name.clone());
            let prompt = Prompt { session, message, name: name_of_run, model: None, timeout: None, asking };
            match submit(&call, tree, prompt, Ok(())).await {
                Ok(_) => {
                    out.insert("runStarted".to_owned(), json!(true));
                    out.insert("runId".to_owned(), json!(name));
                    out.insert("status".to_owned(), json!("started"));
                }
                // The session is there all the same.
                Err(error) => {
                    out.insert("runStarted".to_owned(), json!(false));
                    out.insert("runError".to_owned(), json!(error));
                }
            }
        } else {
            out.insert("runStarted".to_owned(), json!(false));
        }
        let session = overview(storage, key.clone()).await.map_err(store)?.ok_or_else(|| unknown(&key))?;
        call.daemon.project_change(Change {
            session: key.clone(),
            reason: "create",
            now: Some(session.clone()),
        });
        let settings = tree.settings();
        let shape = RowShape { protocol: call.client.protocol, settings: &settings, now: call.now() };
        out.insert("ok".to_owned(), json!(true));
        out.insert("key".to_owned(), json!(key));
        out.insert("sessionId".to_owned(), json!(session_id(&session.row)));
        out.insert("entry".to_owned(), Value::Object(session_row(&session, &shape)));
        answer(&out)
    }
    .boxed()
}

/// The key that the client gave, or a new one: the same again for a request that comes again.
fn key(
    call: &Call,
    key: Option<String>,
    agent: Option<String>,
    idempotency: Option<&str>,
) -> Result<SessionKey, ErrorShape> {
    let settings = call.daemon.tree()?.settings();
    if let Some(key) = filled(key) {
        let key = target::session(call.method, &settings, agent.as_deref(), Some(&key))?;
        if key.is_subagent() {
            return Err(ErrorShape::invalid(format!(
                "invalid {} params: {key} is the name of a sub-agent; start one with sessions.spawn",
                call.method
            )));
        }
        return Ok(key);
    }
    let agent = match filled(agent) {
        Some(agent) => known_agent(call.method, &settings, &agent)?,
        None => settings.default_agent.clone(),
    };
    let id = match idempotency {
        Some(name) => repeatable_id(&call.origin().principal(), name),
        None => Uuid::new_v4(),
    };
    let key = format!("agent:{agent}:dashboard:{id}").parse();
    key.map_err(|error: offshoot_actors::types::NameError| ErrorShape::invalid(error.to_string()))
}

fn repeatable_id(principal: &str, name: &str) -> Uuid {
    let digest = Sha256::new()
        .chain_update((principal.len() as u64).to_be_bytes())
        .chain_update(principal)
        .chain_update(name)
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A label stands for one session, because `sessions.resolve` finds it by that.
pub(super) async fn label_is_free(
    call: &Call,
    label: Option<&str>,
    key: &SessionKey,
) -> Result<(), ErrorShape> {
    use offshoot_actors::ports::{OverviewFilter, Page};
    let Some(label) = label else { return Ok(()) };
    let filter = OverviewFilter { label: Some(label.to_owned()), ..OverviewFilter::default() };
    let found =
        call.daemon.tree()?.storage().overviews(filter, Page { offset: 0, limit: 2 }).await.map_err(store)?;
    if found.sessions.iter().any(|session| session.row.key != *key && session.row.parent.is_none()) {
        let label: String = label.chars().take(120).collect();
        return Err(ErrorShape::invalid(format!("label already in use: {label}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::repeatable_id;

    #[test]
    fn a_request_that_comes_again_names_the_same_session() {
        assert_eq!(repeatable_id("operator", "a"), repeatable_id("operator", "a"));
        assert_ne!(repeatable_id("operator", "a"), repeatable_id("operator", "b"));
        assert_ne!(repeatable_id("device:1", "2a"), repeatable_id("device:12", "a"));
    }
}
