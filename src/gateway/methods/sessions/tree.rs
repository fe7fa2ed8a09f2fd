//! `sessions.tree`: what is alive, as of now, with its actors.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::LiveSession;
use offshoot_actors::ports::{ListFilter, OverviewFilter, Page};
use offshoot_actors::types::SessionKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Answer, Call, answer};
use super::{filled, named, store, unknown};
use crate::gateway::messages::tokens;
use crate::gateway::rows::run_name;
use crate::gateway::states::session_status;

/// Sessions and actors that one answer shows.
const MAX_SESSIONS: u32 = 2_000;
const MAX_ACTORS: usize = 5_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Params {
    /// A session of the tree; none means all that is alive.
    key: Option<String>,
    agent_id: Option<String>,
    #[serde(default)]
    include_actors: Option<bool>,
}

pub(super) fn tree(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: Params = call.params()?;
        let tree = call.daemon.tree()?;
        let storage = tree.storage();
        let live: BTreeMap<SessionKey, LiveSession> =
            tree.live().into_iter().map(|session| (session.key.clone(), session)).collect();
        let root = match filled(params.key) {
            None => None,
            Some(key) => {
                let key = named(call.method, &tree.settings(), params.agent_id.as_deref(), &key)?;
                let row = storage.session(key.clone()).await.map_err(store)?.ok_or_else(|| unknown(&key))?;
                Some(row.root)
            }
        };
        // Without a root those that have open runs, and those that are awake beside them.
        let list = ListFilter { root: root.clone(), open: root.is_none(), ..ListFilter::default() };
        let filter = OverviewFilter { list, ..OverviewFilter::default() };
        let found =
            storage.overviews(filter, Page { offset: 0, limit: MAX_SESSIONS }).await.map_err(store)?;
        let mut sessions = Vec::new();
        for session in &found.sessions {
            let row = &session.row;
            let used = storage.subtree_usage(row.key.clone()).await.map_err(store)?;
            let latest = session.open.last().or(session.latest.as_ref());
            sessions.push(json!({
                "key": row.key,
                "parent": row.parent,
                "root": row.root,
                "depth": row.depth,
                "agentId": row.agent,
                "label": row.label,
                "mode": row.mode,
                "status": latest.map(|run| session_status(run.state)),
                "awake": live.contains_key(&row.key),
                "usage": tokens(used),
                "run": live.get(&row.key).and_then(|live| run(live, latest.map(run_name).as_deref())),
            }));
        }
        let total = found.total;
        if root.is_none() {
            let known: BTreeSet<&SessionKey> =
                found.sessions.iter().map(|session| &session.row.key).collect();
            let idle = live.values().filter(|session| !known.contains(&session.key));
            let room = (MAX_SESSIONS as usize).saturating_sub(sessions.len());
            sessions.extend(idle.take(room).map(|session| {
                json!({
                    "key": session.key,
                    "parent": session.parent,
                    "depth": session.depth,
                    "agentId": session.key.agent(),
                    "label": session.label,
                    "mode": session.mode,
                    "awake": true,
                })
            }));
        }
        let truncated = total > u64::from(MAX_SESSIONS);
        let mut out = json!({ "ts": call.now().0, "sessions": sessions, "truncated": truncated });
        if params.include_actors.unwrap_or(true) {
            let inside = |path: &str| root.as_ref().is_none_or(|root| is_below(path, root));
            let actors = tree.actors().into_iter().filter(|actor| inside(&actor.path)).take(MAX_ACTORS);
            let actors: Vec<Value> = actors
                .map(|actor| {
                    json!({
                        "path": actor.path,
                        "kind": actor.kind,
                        "state": actor.state.as_str(),
                        "startedAt": actor.started.0,
                        "restarts": actor.restarts,
                        "lastFailure": actor.last_failure,
                        "mailbox": actor.mailbox,
                        "handled": actor.handled,
                    })
                })
                .collect();
            out["actors"] = Value::Array(actors);
        }
        answer(&out)
    }
    .boxed()
}

/// Whether an actor's path leads to this session or through it.
fn is_below(path: &str, root: &SessionKey) -> bool {
    path.split('/').any(|name| name.ends_with(root.as_str()))
}

/// The run that works, with what it has used so far.
fn run(session: &LiveSession, name: Option<&str>) -> Option<Value> {
    let run = session.run.as_ref()?;
    Some(json!({
        "id": run.id,
        "runId": name,
        "state": run.state,
        "provider": run.model.provider(),
        "model": run.model.model(),
        "steps": run.steps,
        "usage": tokens(run.usage),
        "startedAt": run.started_at.map(|at| at.0),
        "tools": run.tools,
    }))
}
