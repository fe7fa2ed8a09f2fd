//! `sessions.list` and `sessions.describe`: rows of sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::ports::{ListFilter, OverviewFilter, Page, Storage};
use offshoot_actors::types::{AgentId, Entry, SessionKey, Settings, StoredEntry, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::super::{Answer, Call, answer};
use super::{filled, named, store, within};
use crate::gateway::events::raw;
use crate::gateway::messages::{MAX_BYTES, plain};
use crate::gateway::rows::{RowShape, overview, session_row};
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

/// Rows where a client of the newer generation does not say how many. The older one gets all that fit.
const DEFAULT_LIMIT: u32 = 100;
/// Rows of one answer at most.
const MAX_LIMIT: u32 = 5_000;
/// Rows that one read asks for, so that no read of a long list is held in memory whole.
const PAGE: u32 = 250;
/// Ten years: past it a number is a mistake.
const MAX_MINUTES: u64 = 5_256_000;
/// Rows of one answer that have a title or a last message, which each cost a look into a transcript.
const MAX_LOOKS: usize = 200;
/// Entries in which a title or a last message is looked for.
const LOOK: u32 = 20;
const MAX_TITLE: usize = 60;
const MAX_PREVIEW: usize = 160;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct ListParams {
    limit: Option<u32>,
    offset: Option<u32>,
    active_minutes: Option<u64>,
    label: Option<String>,
    spawned_by: Option<String>,
    agent_id: Option<String>,
    search: Option<String>,
    #[serde(default)]
    active_only: bool,
    #[serde(default)]
    exclude_subagents: bool,
    /// What no session is here: archived, pinned, of a project, of a group, on a board.
    archived: Option<Value>,
    pinned: Option<bool>,
    project_id: Option<String>,
    workspace_dir: Option<String>,
    group: Option<String>,
    board_face: Option<String>,
    has_board: Option<bool>,
    #[serde(default)]
    include_derived_titles: bool,
    #[serde(default)]
    include_last_message: bool,
}

/// What is looked up in transcripts.
#[derive(Debug, Clone, Copy)]
struct Looks {
    title: bool,
    last: bool,
}

impl ListParams {
    /// Whether it asks only for sessions that there are none of.
    fn matches_nothing(&self) -> bool {
        self.archived == Some(Value::Bool(true))
            || self.pinned == Some(true)
            || self.has_board == Some(true)
            || self.project_id.is_some()
            || self.workspace_dir.is_some()
            || self.group.is_some()
            || self.board_face.is_some()
    }
}

pub(super) fn list(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: ListParams = call.params()?;
        call.refuse(&["creatorId", "ownerId"])?;
        let newer = call.client.protocol == Protocol::V4;
        let limit = match params.limit {
            Some(limit) => within(&call, "limit", limit, 1..=u32::MAX)?.min(MAX_LIMIT),
            None if newer => DEFAULT_LIMIT,
            None => MAX_LIMIT,
        };
        let first = params.offset.unwrap_or(0);
        let tree = call.daemon.tree()?;
        let settings = tree.settings();
        let found = if params.matches_nothing() {
            Rows::default()
        } else {
            let looks = Looks { title: params.include_derived_titles, last: params.include_last_message };
            let filter = filter(&call, &settings, params)?;
            rows(&call, tree.storage(), &settings, filter, Page { offset: first, limit }, looks).await?
        };
        let next = first.saturating_add(u32::try_from(found.rows.len()).unwrap_or(u32::MAX));
        let more = u64::from(next) < found.total;
        let mut out = Map::new();
        out.insert("ts".to_owned(), json!(call.now().0));
        out.insert("path".to_owned(), json!(call.daemon.state_dir));
        out.insert("count".to_owned(), json!(found.rows.len()));
        out.insert("defaults".to_owned(), defaults(&settings, call.client.protocol));
        if newer {
            out.insert("totalCount".to_owned(), json!(found.total));
            out.insert("limitApplied".to_owned(), json!(limit));
            out.insert("nextOffset".to_owned(), if more { json!(next) } else { Value::Null });
            out.insert("hasMore".to_owned(), json!(more));
            out.insert("owners".to_owned(), json!([]));
        }
        let mut members: Members = out.into_iter().map(|(name, value)| (name, raw(&value))).collect();
        members.insert("sessions".to_owned(), raw(&found.rows));
        answer(&members)
    }
    .boxed()
}

type Members = BTreeMap<String, Box<RawValue>>;

fn filter(call: &Call, settings: &Settings, params: ListParams) -> Result<OverviewFilter, ErrorShape> {
    let agent = filled(params.agent_id).map(|agent| agent.parse::<AgentId>()).transpose();
    let agent = agent.map_err(|error| {
        ErrorShape::invalid(format!("invalid {} params: at /agentId: {error}", call.method))
    })?;
    let since = match params.active_minutes {
        None => None,
        Some(minutes) => {
            let minutes = within(call, "activeMinutes", minutes, 1..=MAX_MINUTES)?;
            let ago = i64::try_from(minutes).unwrap_or(i64::MAX).saturating_mul(60_000);
            Some(Timestamp(call.now().0.saturating_sub(ago)))
        }
    };
    let parent = filled(params.spawned_by);
    let parent = parent.map(|parent| named(call.method, settings, None, &parent)).transpose()?;
    let list =
        ListFilter { agent, session: parent, since, open: params.active_only, ..ListFilter::default() };
    Ok(OverviewFilter {
        list,
        key: None,
        label: filled(params.label),
        search: filled(params.search),
        roots: params.exclude_subagents,
    })
}

#[derive(Debug, Default)]
struct Rows {
    total: u64,
    rows: Vec<Box<RawValue>>,
}

/// The rows of a page, as many of them as fit into one answer.
async fn rows(
    call: &Call,
    storage: &Arc<dyn Storage>,
    settings: &Settings,
    filter: OverviewFilter,
    page: Page,
    looks: Looks,
) -> Result<Rows, ErrorShape> {
    let shape = RowShape { protocol: call.client.protocol, settings, now: call.now() };
    let (mut rows, mut bytes) = (Vec::new(), 0);
    loop {
        let done = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let limit = PAGE.min(page.limit.saturating_sub(done));
        let read = Page { offset: page.offset.saturating_add(done), limit };
        let found = storage.overviews(filter.clone(), read).await.map_err(store)?;
        let last = u32::try_from(found.sessions.len()).unwrap_or(u32::MAX) < limit
            || done.saturating_add(limit) >= page.limit;
        for session in &found.sessions {
            let mut row = session_row(session, &shape);
            if rows.len() < MAX_LOOKS {
                look(storage, &session.row.key, looks, &mut row).await?;
            }
            let row = raw(&row);
            bytes += row.get().len() + 1;
            if bytes > MAX_BYTES {
                return Ok(Rows { total: found.total, rows });
            }
            rows.push(row);
        }
        if last {
            return Ok(Rows { total: found.total, rows });
        }
    }
}

/// Adds what stands in the transcript.
async fn look(
    storage: &Arc<dyn Storage>,
    key: &SessionKey,
    looks: Looks,
    row: &mut Map<String, Value>,
) -> Result<(), ErrorShape> {
    if looks.title {
        let first = storage.entries(key.clone(), 0, LOOK).await.map_err(store)?;
        if let Some(title) = first.iter().find_map(|entry| said(entry, true, MAX_TITLE)) {
            row.insert("derivedTitle".to_owned(), title.into());
        }
    }
    if looks.last {
        let latest = storage.latest_entries(key.clone(), None, LOOK).await.map_err(store)?;
        if let Some(text) = latest.iter().rev().find_map(|entry| said(entry, false, MAX_PREVIEW)) {
            row.insert("lastMessagePreview".to_owned(), text.into());
        }
    }
    Ok(())
}

/// What somebody said, on one line and cut; of tools and remarks nothing.
fn said(stored: &StoredEntry, user: bool, most: usize) -> Option<String> {
    match &stored.entry {
        Entry::User { .. } => {}
        Entry::Assistant { .. } if !user => {}
        _ => return None,
    }
    let text = plain(&stored.entry)?;
    // No more of a long text is gone through than is shown.
    let line = text.split_whitespace().take(most).collect::<Vec<_>>().join(" ");
    Some(match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    })
}

/// What applies to a session that says nothing of its own.
fn defaults(settings: &Settings, protocol: Protocol) -> Value {
    let model = settings.agent(&settings.default_agent).map(|agent| &agent.model.primary);
    let mut defaults = json!({
        "modelProvider": model.map(|model| model.provider()),
        "model": model.map(|model| model.model()),
        "contextTokens": null,
    });
    if protocol == Protocol::V4 {
        defaults["thinkingLevels"] = json!([{ "id": "off", "label": "off" }]);
        defaults["thinkingOptions"] = json!(["off"]);
        defaults["thinkingDefault"] = json!("off");
        defaults["modelSelectionTarget"] = json!("session");
    }
    defaults
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct DescribeParams {
    key: String,
    agent_id: Option<String>,
    #[serde(default)]
    include_derived_titles: bool,
    #[serde(default)]
    include_last_message: bool,
}

pub(super) fn describe(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: DescribeParams = call.params()?;
        let tree = call.daemon.tree()?;
        let settings = tree.settings();
        let key = named(call.method, &settings, params.agent_id.as_deref(), &params.key)?;
        let Some(session) = overview(tree.storage().as_ref(), key).await.map_err(store)? else {
            return answer(&json!({ "session": null }));
        };
        let looks = Looks { title: params.include_derived_titles, last: params.include_last_message };
        let shape = RowShape { protocol: call.client.protocol, settings: &settings, now: call.now() };
        let mut row = session_row(&session, &shape);
        look(tree.storage(), &session.row.key, looks, &mut row).await?;
        answer(&json!({ "session": row }))
    }
    .boxed()
}
