//! `tasks.list`

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::ports::{Cause, ListFilter, Page, RunRow};
use offshoot_actors::types::AgentId;
use serde::Deserialize;
use serde_json::{Map, json};

use super::super::sessions::named;
use super::super::{Answer, Call, answer};
use super::{store, summarised_of, working};
use crate::gateway::events::raw;
use crate::gateway::messages::MAX_BYTES;
use crate::gateway::states::task_status;
use crate::protocol::error::ErrorShape;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 500;
/// Runs that one read asks for, and that one answer looks at, while it searches for those that are wanted.
const PAGE: u32 = 200;
const MAX_SCANNED: u32 = 5_000;
const STATUSES: [&str; 6] = ["queued", "running", "completed", "failed", "cancelled", "timed_out"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Params {
    status: Option<OneOrMany>,
    agent_id: Option<String>,
    session_key: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a status or a list of them")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::One(status) => vec![status],
            Self::Many(statuses) => statuses,
        }
    }
}

/// Tasks, the last accepted first. A cursor says how many runs were looked at.
pub(super) fn list(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: Params = call.params()?;
        let invalid =
            |problem: String| ErrorShape::invalid(format!("invalid {} params: {problem}", call.method));
        let statuses = params.status.map(OneOrMany::into_list).unwrap_or_default();
        if let Some(wrong) = statuses.iter().position(|status| !STATUSES.contains(&status.as_str())) {
            return Err(invalid(format!("at /status/{wrong}: must be one of {}", STATUSES.join(", "))));
        }
        let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(invalid(format!("at /limit: must be 1 to {MAX_LIMIT}")));
        }
        let from = params.cursor.map_or(Ok(0), |cursor| cursor.parse::<u32>());
        let from =
            from.map_err(|_| invalid("at /cursor: must be a nextCursor of an earlier answer".to_owned()))?;
        let agent = params.agent_id.map(|agent| agent.parse::<AgentId>()).transpose();
        let agent = agent.map_err(|error| invalid(format!("at /agentId: {error}")))?;
        let settings = call.daemon.tree()?.settings();
        let owner = params.session_key.map(|key| named(call.method, &settings, None, &key)).transpose()?;
        let open =
            !statuses.is_empty() && statuses.iter().all(|status| ["queued", "running"].contains(&&**status));
        let filter = ListFilter {
            agent,
            announce_to: owner,
            open,
            cause: Some(Cause::Spawn),
            ..ListFilter::default()
        };
        let wanted = |row: &RunRow| {
            statuses.is_empty() || statuses.iter().any(|status| status == task_status(row.state))
        };
        let (tasks, next) = page(&call, filter, from, limit, &wanted).await?;
        let mut out = Map::new();
        if let Some(next) = next {
            out.insert("nextCursor".to_owned(), json!(next.to_string()));
        }
        let mut out: std::collections::BTreeMap<_, _> =
            out.into_iter().map(|(name, value)| (name, raw(&value))).collect();
        out.insert("tasks".to_owned(), raw(&tasks));
        answer(&out)
    }
    .boxed()
}

type Tasks = Vec<Box<serde_json::value::RawValue>>;

/// Tasks from the run at place `from` on, and where the next answer begins if there may be more.
async fn page(
    call: &Call,
    filter: ListFilter,
    from: u32,
    limit: usize,
    wanted: &(dyn Fn(&RunRow) -> bool + Sync),
) -> Result<(Tasks, Option<u32>), ErrorShape> {
    let storage = call.daemon.tree()?.storage();
    let live = working(call)?;
    let (mut tasks, mut bytes, mut at) = (Tasks::new(), 0, from);
    while at.saturating_sub(from) < MAX_SCANNED {
        let runs =
            storage.list_runs(filter.clone(), Page { offset: at, limit: PAGE }).await.map_err(store)?;
        let last = runs.len() < PAGE as usize;
        for row in &runs {
            if wanted(row) {
                if tasks.len() == limit {
                    return Ok((tasks, Some(at)));
                }
                let task = raw(&summarised_of(call, row, &live).await?);
                bytes += task.get().len() + 1;
                if bytes > MAX_BYTES {
                    return Ok((tasks, Some(at)));
                }
                tasks.push(task);
            }
            at = at.saturating_add(1);
        }
        if last {
            return Ok((tasks, None));
        }
    }
    Ok((tasks, Some(at)))
}
