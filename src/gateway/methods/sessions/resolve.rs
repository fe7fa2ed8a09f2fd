//! `sessions.resolve`: the key of a session that a client knows by other means.

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::ports::{ListFilter, Overview, OverviewFilter, Page, Storage};
use offshoot_actors::types::{AgentId, SessionKey};
use serde::Deserialize;
use serde_json::json;

use super::super::{Answer, Call, answer};
use super::{filled, named, store};
use crate::gateway::rows::session_id;
use crate::protocol::error::ErrorShape;

/// Sessions that one read asks for: an id is derived from its session, not stored.
const PAGE: u32 = 500;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Params {
    key: Option<String>,
    session_id: Option<String>,
    label: Option<String>,
    agent_id: Option<String>,
    spawned_by: Option<String>,
}

pub(super) fn resolve(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: Params = call.params()?;
        let tree = call.daemon.tree()?;
        let (storage, settings) = (tree.storage().as_ref(), tree.settings());
        let parse = |name: &str, text: Option<String>| {
            let invalid =
                |error| ErrorShape::invalid(format!("invalid {} params: at /{name}: {error}", call.method));
            filled(text).map(|text| text.parse::<AgentId>().map_err(invalid)).transpose()
        };
        let agent = parse("agentId", params.agent_id.clone())?;
        let parent = filled(params.spawned_by);
        let parent = parent.map(|parent| named(call.method, &settings, None, &parent)).transpose()?;
        let list = ListFilter { agent, session: parent, ..ListFilter::default() };
        let found = match (filled(params.key), filled(params.session_id), filled(params.label)) {
            (Some(text), None, None) => {
                let key = named(call.method, &settings, params.agent_id.as_deref(), &text)?;
                let filter = OverviewFilter { list, key: Some(key), ..OverviewFilter::default() };
                one(storage, filter).await?.ok_or_else(|| miss(&format!(": {text}")))?
            }
            (None, Some(id), None) => {
                by_id(storage, list, &id).await?.ok_or_else(|| miss(&format!(": {id}")))?
            }
            (None, None, Some(label)) => by_label(storage, list, &label).await?,
            _ => {
                return Err(ErrorShape::invalid(format!(
                    "invalid {} params: exactly one of key, sessionId and label names the session",
                    call.method
                )));
            }
        };
        answer(&json!({ "ok": true, "key": found }))
    }
    .boxed()
}

fn miss(what: &str) -> ErrorShape {
    let what: String = what.chars().take(600).collect();
    ErrorShape::invalid(format!("No session found{what}"))
}

async fn one(storage: &dyn Storage, filter: OverviewFilter) -> Result<Option<SessionKey>, ErrorShape> {
    let mut found = storage.overviews(filter, Page { offset: 0, limit: 1 }).await.map_err(store)?.sessions;
    Ok(found.pop().map(|session: Overview| session.row.key))
}

async fn by_label(storage: &dyn Storage, list: ListFilter, label: &str) -> Result<SessionKey, ErrorShape> {
    let filter = OverviewFilter { list, label: Some(label.to_owned()), ..OverviewFilter::default() };
    let found = storage.overviews(filter, Page { offset: 0, limit: 5 }).await.map_err(store)?;
    let mut keys: Vec<_> = found.sessions.into_iter().map(|session| session.row.key).collect();
    match (keys.pop(), keys.is_empty()) {
        (Some(key), true) => Ok(key),
        (Some(key), false) => {
            keys.push(key);
            let keys: Vec<_> = keys.iter().map(SessionKey::as_str).collect();
            Err(ErrorShape::invalid(format!(
                "Multiple sessions found with label: {label} ({})",
                keys.join(", ")
            )))
        }
        (None, _) => Err(miss(&format!(" with label: {label}"))),
    }
}

async fn by_id(storage: &dyn Storage, list: ListFilter, id: &str) -> Result<Option<SessionKey>, ErrorShape> {
    let Ok(id) = id.parse::<uuid::Uuid>() else { return Ok(None) };
    let mut page = Page { offset: 0, limit: PAGE };
    loop {
        let rows = storage.list_sessions(list.clone(), page).await.map_err(store)?;
        if let Some(row) = rows.iter().find(|row| session_id(row) == id) {
            return Ok(Some(row.key.clone()));
        }
        if rows.len() < PAGE as usize {
            return Ok(None);
        }
        page.offset = page.offset.saturating_add(PAGE);
    }
}
