//! What the store shows where no daemon runs: the runs that are open.

use std::collections::BTreeMap;

use offshoot_actors::ports::{ListFilter, Page, RunRow, SessionRow, Storage};
use offshoot_actors::types::SessionKey;
use serde_json::json;

use super::super::abandoned::{self, Idle};
use super::super::exit::{Exit, Failure};
use super::super::output::{printable, say};
use super::super::view::{self, Node, RunLine};
use super::super::{Global, daemon};
use crate::gateway::record::Running;
use crate::runtime;
use crate::store::SqliteStorage;

/// Open runs that are shown.
const MAX_OPEN: u32 = 10_000;

pub(super) async fn run(path: Option<&str>, running: &Running, global: &Global) -> Result<Exit, Failure> {
    let failure = daemon::not_running(running, global);
    let Some(storage) = global.read_store()? else { return Err(failure) };
    let filter = ListFilter { open: true, ..ListFilter::default() };
    let mut rows = storage.list_runs(filter, Page { offset: 0, limit: MAX_OPEN }).await?;
    let idle = abandoned::among(&mut rows, &storage, global).await?;
    rows.retain(|row| row.state.is_open());
    let sessions = sessions(&rows, &storage).await?;
    if let Some(path) = path {
        rows.retain(|row| row.id.to_string() == path || is_below(&row.session, path, &sessions));
    }
    if rows.is_empty() {
        return Err(failure);
    }
    let roots = nest(&rows, sessions, &idle);
    if global.output.json {
        global.output.document(&json!({
            "running": false,
            "error": failure.message,
            "hint": failure.hint,
            "tree": view::json(&roots),
        }))?;
    } else {
        for line in view::lines(&roots, global.output.paint, usize::MAX) {
            global.output.line(line)?;
        }
    }
    abandoned::tell(&idle);
    say(&failure);
    Ok(failure.exit)
}

type Sessions = BTreeMap<SessionKey, SessionRow>;

/// The sessions of the runs, and those above them.
async fn sessions(rows: &[RunRow], storage: &SqliteStorage) -> Result<Sessions, Failure> {
    let mut sessions = Sessions::new();
    for row in rows {
        let mut key = Some(row.session.clone());
        while let Some(next) = key.take().filter(|key| !sessions.contains_key(key)) {
            if let Some(session) = storage.session(next.clone()).await? {
                key.clone_from(&session.parent);
                sessions.insert(next, session);
            }
        }
    }
    Ok(sessions)
}

fn is_below(key: &SessionKey, path: &str, sessions: &Sessions) -> bool {
    let mut place = Some(key);
    for _ in 0..=sessions.len() {
        match place {
            Some(key) if key.as_str() == path => return true,
            Some(key) => place = sessions.get(key).and_then(|row| row.parent.as_ref()),
            None => return false,
        }
    }
    false
}

fn nest(rows: &[RunRow], sessions: Sessions, idle: &Idle) -> Vec<Node> {
    let now = runtime::clock().now();
    let mut runs: BTreeMap<&SessionKey, Vec<RunLine>> = BTreeMap::new();
    for row in rows.iter().rev() {
        let line = RunLine { state: abandoned::state(row, idle), ..RunLine::stored(row, now) };
        runs.entry(&row.session).or_default().push(line);
    }
    let node = |(key, row): (SessionKey, SessionRow)| {
        let label = row.label.as_deref().map(printable);
        Node {
            runs: runs.remove(&key).unwrap_or_default(),
            key,
            parent: row.parent,
            label,
            children: Vec::new(),
        }
    };
    prune(view::nest(sessions.into_iter().map(node)))
}

/// Without the sessions below which nothing is open.
fn prune(nodes: Vec<Node>) -> Vec<Node> {
    let mut kept = Vec::new();
    for mut node in nodes {
        node.children = prune(node.children);
        if !node.runs.is_empty() || !node.children.is_empty() {
            kept.push(node);
        }
    }
    kept
}
