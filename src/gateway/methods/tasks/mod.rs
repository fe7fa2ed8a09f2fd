//! `tasks.*`: the runs of sub-agents, as a list of work.

mod list;
mod summary;

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::LiveRun;
use offshoot_actors::ports::{Cause, RunRow, StoreError};
use offshoot_actors::types::{Entry, RunId, Scope};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::summary::summary;
use super::call::refused;
use super::sessions::show;
use super::target::{self, unread};
use super::{Answer, Call, Method, Need, READ, answer, later};
use crate::gateway::events::raw;
use crate::gateway::messages;
use crate::gateway::recent::recent;
use crate::protocol::error::ErrorShape;

const WRITE: Need = Need::Scope(Scope::Write);

pub(super) const METHODS: &[Method] = &[
    later("tasks.list", READ, list::list),
    later("tasks.get", READ, get),
    later("tasks.history", READ, history),
    later("tasks.cancel", WRITE, cancel),
    later("tasks.retry", WRITE, retry),
    later("tasks.dismiss", WRITE, dismiss),
];

/// Messages where the client does not say how many, and at most.
const DEFAULT_MESSAGES: u32 = 100;
const MAX_MESSAGES: u32 = 200;
/// Tasks of one `tasks.retry` or `tasks.dismiss`.
const MAX_TASKS: usize = 10;
/// Characters of a prompt or a result.
const MAX_TEXT: usize = 100_000;

/// The run of a sub-agent that a client names by its id or by the name that it gave.
async fn find(call: &Call, id: &str) -> Result<Option<RunRow>, ErrorShape> {
    let tree = call.daemon.tree()?;
    let row = target::run(&call.daemon, tree, &call.origin(), id).await?;
    Ok(row.filter(|row| row.cause == Cause::Spawn))
}

fn not_found(id: &str) -> ErrorShape {
    let id: String = id.chars().take(120).collect();
    ErrorShape::invalid(format!("task not found: {id}"))
}

fn store(error: StoreError) -> ErrorShape {
    unread(error)
}

/// A task as lists show it.
async fn summarised(call: &Call, row: &RunRow) -> Result<Map<String, Value>, ErrorShape> {
    summarised_of(call, row, &working(call)?).await
}

/// The runs that work now.
fn working(call: &Call) -> Result<BTreeMap<RunId, LiveRun>, ErrorShape> {
    let live = call.daemon.tree()?.live();
    Ok(live.into_iter().filter_map(|session| session.run).map(|run| (run.id, run)).collect())
}

async fn summarised_of(
    call: &Call,
    row: &RunRow,
    live: &BTreeMap<RunId, LiveRun>,
) -> Result<Map<String, Value>, ErrorShape> {
    let storage = call.daemon.tree()?.storage();
    let session = storage.session(row.session.clone()).await.map_err(store)?;
    // A label is enough to call it by.
    let labelled = session.as_ref().is_some_and(|session| session.label.is_some());
    let first = match labelled {
        true => Vec::new(),
        false => storage.entries(row.session.clone(), 0, 1).await.map_err(store)?,
    };
    let task = first.first().and_then(|first| match &first.entry {
        Entry::User { text, .. } => Some(text.as_str()),
        _ => None,
    });
    Ok(summary(row, session.as_ref(), task, live.get(&row.id)))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct TaskParams {
    task_id: String,
}

fn get(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let TaskParams { task_id } = call.params()?;
        let row = find(&call, &task_id).await?.ok_or_else(|| not_found(&task_id))?;
        let mut task = summarised(&call, &row).await?;
        let first = call.daemon.tree()?.storage().entries(row.session.clone(), 0, 1).await.map_err(store)?;
        if let Some(prompt) = first.first().and_then(|first| messages::plain(&first.entry)) {
            task.insert("prompt".to_owned(), messages::clip(prompt, MAX_TEXT).into());
        }
        let result = row.outcome.as_ref().and_then(|outcome| outcome.text.as_deref());
        if let Some(result) = result {
            task.insert("result".to_owned(), messages::clip(result.into(), MAX_TEXT).into());
        }
        answer(&json!({ "task": task }))
    }
    .boxed()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct HistoryParams {
    task_id: String,
    /// Where an earlier answer ended.
    cursor: Option<String>,
    limit: Option<u32>,
}

/// The transcript of the sub-agent's session, the latest messages first, each page in order.
fn history(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: HistoryParams = call.params()?;
        let invalid =
            |problem: &str| ErrorShape::invalid(format!("invalid {} params: {problem}", call.method));
        let limit = params.limit.unwrap_or(DEFAULT_MESSAGES);
        if !(1..=MAX_MESSAGES).contains(&limit) {
            return Err(invalid(&format!("at /limit: must be 1 to {MAX_MESSAGES}")));
        }
        let before = params.cursor.map(|cursor| cursor.parse::<u64>()).transpose();
        let before = before.map_err(|_| invalid("at /cursor: must be a nextCursor of an earlier answer"))?;
        let row = find(&call, &params.task_id).await?.ok_or_else(|| not_found(&params.task_id))?;
        let storage = call.daemon.tree()?.storage();
        let room = (messages::MAX_BYTES, usize::MAX);
        let entries = recent(storage, &row.session, before, limit, room).await.map_err(store)?;
        let shown = show(&call, storage, &entries).await?;
        let kept = messages::fit(shown.into_iter().rev(), messages::MAX_BYTES);
        let first = entries.len().saturating_sub(kept.len());
        let next = entries.get(first).map(|entry| entry.seq).filter(|seq| *seq > 0);
        let mut out = BTreeMap::from([("messages", raw(&kept))]);
        if let Some(next) = next {
            out.insert("nextCursor", raw(&next.to_string()));
        }
        answer(&out)
    }
    .boxed()
}

fn cancel(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let TaskParams { task_id } = call.params()?;
        let Some(row) = find(&call, &task_id).await? else {
            return answer(&json!({ "found": false, "cancelled": false, "reason": "Task not found." }));
        };
        let tree = call.daemon.tree()?;
        let stopped = tree.cancel(row.id, call.origin()).await.map_err(|refusal| refused(&refusal))?;
        let row = tree.storage().run(row.id).await.map_err(store)?.unwrap_or(row);
        let cancelled = stopped.already.is_none();
        let mut out = json!({
            "found": true,
            "cancelled": cancelled,
            "task": summarised(&call, &row).await?,
        });
        if let Some(already) = &stopped.already {
            out["reason"] = json!(format!("Task has ended already: {}.", already.state));
        }
        answer(&out)
    }
    .boxed()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct ManyParams {
    task_ids: Vec<String>,
}

fn retry(call: Call) -> BoxFuture<'static, Answer> {
    each(call, "offshoot delivers a result until its session has it; there is nothing to deliver again")
        .boxed()
}

fn dismiss(call: Call) -> BoxFuture<'static, Answer> {
    each(call, "offshoot keeps no result back that could be dismissed").boxed()
}

/// Tells of each task why nothing was done with it.
async fn each(call: Call, reason: &'static str) -> Answer {
    let ManyParams { task_ids } = call.params()?;
    if task_ids.is_empty() || task_ids.len() > MAX_TASKS {
        return Err(ErrorShape::invalid(format!(
            "invalid {} params: at /taskIds: must be 1 to {MAX_TASKS} ids",
            call.method
        )));
    }
    let mut results = Vec::with_capacity(task_ids.len());
    for id in task_ids {
        results.push(match find(&call, &id).await? {
            None => json!({ "taskId": id, "ok": false, "reason": "Task not found." }),
            Some(row) => {
                let task = summarised(&call, &row).await?;
                json!({ "taskId": id, "ok": false, "reason": reason, "task": task })
            }
        });
    }
    answer(&json!({ "results": results }))
}
