//! `sessions_list`: the sessions that there are.

use std::sync::Arc;

use offshoot_actors::ports::{ListFilter, Page, SessionRow, Storage, StoreError, ToolOutput};
use offshoot_actors::types::{AgentId, RunId, SessionKey, Timestamp, Visibility};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arguments::{self, BadArguments};
use super::lookup::latest_run;
use super::messages::{MAX_BYTES, Message, fit, tail};
use super::reply::{self, Failure};
use super::visibility::{Rows, sees};
use super::{Call, Tool, schema};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;
const MAX_MESSAGES: u32 = 20;
/// Ten years: past it a number is a mistake.
const MAX_MINUTES: u32 = 5_256_000;
/// Rows that one read asks for.
const PAGE: u32 = 200;
/// Rows that one answer looks at, while it searches for the ones it may show.
const MAX_SCANNED: u32 = 2_000;

pub(super) const TOOL: Tool = Tool {
    name: "sessions_list",
    description: "List sessions, newest first, with their state. To see only your own sub-agents use subagents.",
    parameters: schema::of::<Parameters>,
    parallel: true,
    idempotent: true,
    yields: false,
    groups: &["sessions", "openclaw"],
    run: |call| Box::pin(run(call)),
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Parameters {
    /// Only sessions of these kinds.
    kinds: Option<Vec<Kind>>,
    /// At most this many sessions; 50 if left out.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// Only sessions that were written to in the last so many minutes.
    #[schemars(range(min = 1, max = 5_256_000))]
    active_minutes: Option<u32>,
    /// The latest messages to show of each session; 0 if left out.
    #[schemars(range(min = 0, max = 20))]
    message_limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Main,
    Group,
    Cron,
    Hook,
    Node,
    Other,
}

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
struct Wish {
    kinds: Vec<Kind>,
    limit: usize,
    since: Option<Timestamp>,
    messages: usize,
}

#[derive(Debug, Serialize)]
struct Sessions {
    count: usize,
    sessions: Vec<Item>,
    /// Whether there may be more than were asked for.
    more: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    key: SessionKey,
    kind: Kind,
    channel: &'static str,
    agent_id: AgentId,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spawned_by: Option<SessionKey>,
    spawn_depth: u32,
    created_at: i64,
    updated_at: i64,
    #[serde(flatten)]
    latest: Option<Latest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<Message>>,
}

/// A session's latest run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Latest {
    run_id: RunId,
    status: &'static str,
    model: String,
    total_tokens: u64,
}

async fn run(call: Call) -> Result<ToolOutput, Failure> {
    let wish = parse(arguments::read(call.arguments)?, call.now)?;
    let tree = &call.context.tree;
    let list = list(tree.storage(), tree.settings().visibility, &call.context.session, &wish).await?;
    Ok(reply::ok(&list))
}

fn parse(parameters: Parameters, now: Timestamp) -> Result<Wish, BadArguments> {
    let limit = arguments::within("limit", parameters.limit.unwrap_or(DEFAULT_LIMIT), 1..=MAX_LIMIT)?;
    let messages =
        arguments::within("messageLimit", parameters.message_limit.unwrap_or(0), 0..=MAX_MESSAGES)?;
    let since = parameters
        .active_minutes
        .map(|minutes| arguments::within("activeMinutes", minutes, 1..=MAX_MINUTES))
        .transpose()?
        .map(|minutes| Timestamp(now.0.saturating_sub(i64::from(minutes) * 60_000)));
    Ok(Wish {
        kinds: parameters.kinds.unwrap_or_default(),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        since,
        messages: usize::try_from(messages).unwrap_or(usize::MAX),
    })
}

async fn list(
    storage: &Arc<dyn Storage>,
    visibility: Visibility,
    caller: &SessionKey,
    wish: &Wish,
) -> Result<Sessions, StoreError> {
    let mut rows = Rows::new(storage);
    let mut filter = ListFilter { since: wish.since, ..ListFilter::default() };
    if matches!(visibility, Visibility::Own | Visibility::Tree) {
        filter.root = Some(rows.get(caller).await?.map_or_else(|| caller.clone(), |row| row.root.clone()));
    }
    let mut sessions = Vec::new();
    let mut budget = MAX_BYTES;
    let mut offset = 0;
    let more = 'pages: loop {
        let page = storage.list_sessions(filter.clone(), Page { offset, limit: PAGE }).await?;
        let last = page.len() < PAGE as usize;
        for row in page {
            rows.add(row.clone());
            let shown = (wish.kinds.is_empty() || wish.kinds.contains(&kind(&row.key)))
                && (visibility == Visibility::All
                    || sees(visibility, rows.relation(caller, &row.key).await?));
            if !shown {
                continue;
            }
            if sessions.len() == wish.limit {
                break 'pages true;
            }
            sessions.push(item(storage, row, wish.messages, &mut budget).await?);
        }
        offset += PAGE;
        if last || offset >= MAX_SCANNED {
            break !last;
        }
    };
    Ok(Sessions { count: sessions.len(), sessions, more })
}

/// Shows a session. All messages of an answer together stay within `budget` bytes.
async fn item(
    storage: &Arc<dyn Storage>,
    row: SessionRow,
    most: usize,
    budget: &mut usize,
) -> Result<Item, StoreError> {
    let latest = latest_run(storage, &row.key).await?.map(|run| Latest {
        run_id: run.id,
        status: run.state.as_str(),
        total_tokens: run.usage.total(),
        model: run.model_used.unwrap_or(run.model.primary).to_string(),
    });
    let messages = if most == 0 {
        None
    } else {
        let mut messages = tail(storage, &row.key, most, false).await?.messages;
        *budget -= fit(&mut messages, *budget);
        Some(messages)
    };
    Ok(Item {
        kind: kind(&row.key),
        channel: "internal",
        agent_id: row.agent,
        display_name: row.label.clone(),
        label: row.label,
        spawned_by: row.parent,
        spawn_depth: row.depth,
        created_at: row.created_at.0,
        updated_at: row.updated_at.0,
        latest,
        messages,
        key: row.key,
    })
}

/// What the form of a key says.
fn kind(key: &SessionKey) -> Kind {
    let parts: Vec<&str> = key.as_str().split(':').skip(2).collect();
    match parts.as_slice() {
        ["main"] => Kind::Main,
        ["cron", ..] => Kind::Cron,
        ["hook", ..] => Kind::Hook,
        [first, ..] if first.starts_with("node-") => Kind::Node,
        [_, "group" | "channel", ..] => Kind::Group,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests;
