//! The list that `subagents` answers with.

use std::fmt::Write as _;
use std::sync::Arc;

use offshoot_actors::policy::tools::Role;
use offshoot_actors::ports::{RunState, Storage, StoreError};
use offshoot_actors::types::{Entry, RunId, SessionKey, Timestamp};
use serde::Serialize;

use super::human;
use crate::tools::family::{Child, Family};
use crate::tools::reply::clip;

/// Open runs that one answer shows.
const MAX_ACTIVE: usize = 100;
/// Ended runs that one answer shows.
const MAX_RECENT: usize = 50;
/// Characters of a task.
const MAX_TASK: usize = 160;
/// Names of a sub-agent's own children.
const MAX_CHILDREN: usize = 20;

pub(super) struct Request<'a> {
    pub(super) caller: &'a SessionKey,
    pub(super) role: Role,
    pub(super) minutes: u32,
    pub(super) now: Timestamp,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    status: &'static str,
    action: &'static str,
    requester_session_key: SessionKey,
    caller_session_key: SessionKey,
    caller_is_subagent: bool,
    total: usize,
    active: Vec<Item>,
    recent: Vec<Item>,
    text: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    index: usize,
    run_id: RunId,
    session_key: SessionKey,
    label: String,
    task: String,
    status: &'static str,
    pending_descendants: usize,
    depth: u32,
    runtime: String,
    runtime_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    child_sessions: Vec<SessionKey>,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_tokens: Option<u64>,
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
}

pub(super) async fn list(
    storage: &Arc<dyn Storage>,
    family: &Family,
    request: &Request<'_>,
) -> Result<List, StoreError> {
    let (open, ended) = family.children.split_at(family.active);
    let mut active = Vec::new();
    for (place, child) in open.iter().enumerate().take(MAX_ACTIVE) {
        let task = task(storage, &child.session).await?;
        active.push(item(place + 1, child, family, task, request.now));
    }
    let mut recent = Vec::new();
    for (place, child) in ended.iter().enumerate().take(MAX_RECENT) {
        let task = task(storage, &child.session).await?;
        recent.push(item(family.active + place + 1, child, family, task, request.now));
    }
    let mut text = String::new();
    section(&mut text, "Running", &active, open.len());
    section(&mut text, &format!("Ended in the last {} minutes", request.minutes), &recent, ended.len());
    Ok(List {
        status: "ok",
        action: "list",
        requester_session_key: request.caller.clone(),
        caller_session_key: request.caller.clone(),
        caller_is_subagent: request.role != Role::Main,
        total: family.children.len(),
        active,
        recent,
        text,
    })
}

/// A run's state for people and programs.
pub(super) fn status(state: RunState) -> &'static str {
    match state {
        RunState::Accepted => "queued",
        RunState::Running => "running",
        RunState::Yielded => "waiting",
        RunState::Ended(terminal) => terminal.as_str(),
    }
}

/// The first message of a session; empty if the session is gone or has none yet.
async fn task(storage: &Arc<dyn Storage>, session: &SessionKey) -> Result<String, StoreError> {
    let first = storage.entries(session.clone(), 0, 1).await?;
    Ok(match first.first().map(|stored| &stored.entry) {
        Some(Entry::User { text, .. }) => clip(text, MAX_TASK).0,
        _ => String::new(),
    })
}

fn item(index: usize, child: &Child, family: &Family, task: String, now: Timestamp) -> Item {
    let runtime = child.started_at.map(|at| child.ended_at.unwrap_or(now) - at).unwrap_or_default();
    let open = &family.children[..family.active];
    let mut child_sessions: Vec<SessionKey> = open
        .iter()
        .filter(|other| other.parent.as_ref() == Some(&child.session))
        .map(|other| other.session.clone())
        .take(MAX_CHILDREN)
        .collect();
    child_sessions.dedup();
    Item {
        index,
        run_id: child.run,
        session_key: child.session.clone(),
        label: child.name(),
        task,
        status: status(child.state),
        pending_descendants: family.pending.get(&child.session).copied().unwrap_or_default(),
        depth: child.depth,
        runtime: human(runtime),
        runtime_ms: u64::try_from(runtime.as_millis()).unwrap_or(u64::MAX),
        child_sessions,
        model: child.model.clone(),
        total_tokens: Some(child.tokens).filter(|tokens| *tokens > 0),
        started_at: child.started_at.map(|at| at.0),
        ended_at: child.ended_at.map(|at| at.0),
    }
}

fn section(text: &mut String, title: &str, items: &[Item], total: usize) {
    if !text.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(text, "{title}: {}", if total == 0 { "none".to_owned() } else { total.to_string() });
    for item in items {
        let _ =
            write!(text, "{}. {} [{}] {}, {}", item.index, item.label, item.status, item.model, item.runtime);
        if item.pending_descendants > 0 {
            let _ = write!(text, ", {} open below", item.pending_descendants);
        }
        text.push('\n');
    }
    if total > items.len() {
        let _ = writeln!(text, "and {} more", total - items.len());
    }
}
