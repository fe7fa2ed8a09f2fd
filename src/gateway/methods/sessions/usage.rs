//! `sessions.usage` and its relatives: tokens of sessions and what they cost, from what is stored of their runs. Steps of
//! models without a price are counted as such and add nothing.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::policy::cost::{Cost, Prices};
use offshoot_actors::ports::{RunUse, SessionRow, Storage, ToolUse, ToolUseFilter};
use offshoot_actors::types::{Entry, SessionKey, Timestamp, Usage};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::days::{self, Days, Zone};
use super::super::{Answer, Call, answer};
use super::{filled, named, store, unknown, within};
use crate::gateway::messages::{plain, tokens};
use crate::gateway::rows::session_id;
use crate::protocol::error::ErrorShape;

/// Sessions, models and days that one answer sums up; of more the oldest are left out, and the answer says so.
const MAX_USES: u32 = 50_000;
const DEFAULT_SESSIONS: usize = 50;
const MAX_SESSIONS: usize = 1_000;
/// Points and lines of one answer.
const MAX_POINTS: u32 = 1_000;
const MAX_LINES: u32 = 1_000;
const DEFAULT_LINES: u32 = 200;
/// Characters of a line.
const MAX_LINE: usize = 2_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct UsageParams {
    key: Option<String>,
    agent_id: Option<String>,
    start_date: Option<String>,
    end_date: Option<String>,
    mode: Option<String>,
    utc_offset: Option<String>,
    limit: Option<usize>,
}

/// What some runs used.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    usage: Usage,
    cost: Cost,
    /// Steps of models without a price.
    unpriced: u64,
    runs: u64,
    steps: u64,
    failed: u64,
    tool_calls: u64,
    tool_errors: u64,
}

impl Sum {
    fn add_tools(&mut self, used: &ToolUse) {
        self.tool_calls += used.calls;
        self.tool_errors += used.failed;
    }

    fn add(&mut self, used: &RunUse, prices: &Prices) {
        self.usage += used.usage;
        match prices.cost(&used.model, used.usage) {
            Some(cost) => self.cost += cost,
            None => self.unpriced += used.steps,
        }
        self.runs += used.runs;
        self.steps += used.steps;
        self.failed += used.failed;
    }

    /// Tokens and costs in the members that clients sum up.
    fn totals(&self) -> Value {
        let mut totals = tokens(self.usage);
        let Cost { input, output, cache_read } = self.cost;
        for (name, cost) in [
            ("totalCost", self.cost.total()),
            ("inputCost", input),
            ("outputCost", output),
            ("cacheReadCost", cache_read),
            ("cacheWriteCost", 0.0),
        ] {
            totals[name] = json!(cost);
        }
        totals["missingCostEntries"] = json!(self.unpriced);
        totals
    }
}

/// The sums of an answer.
#[derive(Debug, Default)]
struct Sums {
    all: Sum,
    sessions: BTreeMap<SessionKey, (Sum, Timestamp)>,
    models: BTreeMap<(String, String), Sum>,
    agents: BTreeMap<String, Sum>,
    days: BTreeMap<i64, Sum>,
    tools: BTreeMap<String, u64>,
    cut: bool,
}

pub(super) fn usage(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: UsageParams = call.params()?;
        let limit = within(&call, "limit", params.limit.unwrap_or(DEFAULT_SESSIONS), 1..=usize::MAX)?;
        let zone = Zone::read(params.mode.as_deref(), params.utc_offset.as_deref());
        let days = zone.and_then(|zone| {
            Days::read(zone, params.start_date.as_deref(), params.end_date.as_deref(), None, call.now())
        });
        let days = days
            .map_err(|problem| ErrorShape::invalid(format!("invalid {} params: {problem}", call.method)))?;
        let tree = call.daemon.tree()?;
        let settings = tree.settings();
        let key = filled(params.key);
        let key =
            key.map(|key| named(call.method, &settings, params.agent_id.as_deref(), &key)).transpose()?;
        let storage = tree.storage().as_ref();
        let sums = sums(storage, key, &days, &call.daemon.config().prices).await?;
        let mut newest: Vec<(&SessionKey, &(Sum, Timestamp))> = sums.sessions.iter().collect();
        newest.sort_by_key(|(_, (_, at))| std::cmp::Reverse(*at));
        let mut sessions = Vec::new();
        for (key, (sum, at)) in newest.into_iter().take(limit.min(MAX_SESSIONS)) {
            // A session that was deleted has used what it used.
            let row = storage.session(key.clone()).await.map_err(store)?;
            sessions.push(session(key, row.as_ref(), sum, *at));
        }
        answer(&json!({
            "updatedAt": call.now().0,
            "startDate": days.first_date(),
            "endDate": days.last_date(),
            "sessions": sessions,
            "totals": sums.all.totals(),
            "aggregates": aggregates(&sums),
            "truncated": sums.cut,
        }))
    }
    .boxed()
}

async fn sums(
    storage: &dyn Storage,
    key: Option<SessionKey>,
    days: &Days,
    prices: &Prices,
) -> Result<Sums, ErrorShape> {
    let mut sums = Sums::default();
    let used = ToolUseFilter { session: key, since: days.begin(), offset_ms: days.offset_ms() };
    for used in storage.tool_uses(used.clone()).await.map_err(store)? {
        if !days.holds(used.day) {
            continue;
        }
        sums.all.add_tools(&used);
        sums.days.entry(used.day).or_default().add_tools(&used);
        sums.sessions.entry(used.session.clone()).or_default().0.add_tools(&used);
        *sums.tools.entry(used.tool.clone()).or_default() += used.calls;
    }
    let uses = storage.run_uses(used, MAX_USES).await.map_err(store)?;
    sums.cut = uses.len() >= MAX_USES as usize;
    for used in uses.iter().filter(|used| days.holds(used.day)) {
        sums.all.add(used, prices);
        let (sum, latest) = sums.sessions.entry(used.session.clone()).or_default();
        sum.add(used, prices);
        *latest = (*latest).max(used.latest);
        let model = (used.model.provider().to_owned(), used.model.model().to_owned());
        sums.models.entry(model).or_default().add(used, prices);
        sums.agents.entry(used.session.agent().to_string()).or_default().add(used, prices);
        sums.days.entry(used.day).or_default().add(used, prices);
    }
    Ok(sums)
}

fn session(key: &SessionKey, row: Option<&SessionRow>, sum: &Sum, at: Timestamp) -> Value {
    let mut usage = sum.totals();
    usage["messageCounts"] = counts(sum);
    json!({
        "key": key,
        "label": row.and_then(|row| row.label.as_ref()),
        "sessionId": row.map(session_id),
        "agentId": key.agent(),
        "updatedAt": at.0,
        "usage": usage,
    })
}

/// A run has a message that starts it, an answer for each step, and a result for each tool call.
fn counts(sum: &Sum) -> Value {
    json!({
        "total": messages(sum),
        "user": sum.runs,
        "assistant": sum.steps,
        "toolCalls": sum.tool_calls,
        "toolResults": sum.tool_calls,
        "errors": sum.failed + sum.tool_errors,
    })
}

const fn messages(sum: &Sum) -> u64 {
    sum.runs + sum.steps + sum.tool_calls
}

fn aggregates(sums: &Sums) -> Value {
    let models: Vec<Value> = sums
        .models
        .iter()
        .map(|((provider, model), sum)| {
            json!({ "provider": provider, "model": model, "count": sum.steps, "totals": sum.totals() })
        })
        .collect();
    let mut providers: BTreeMap<&str, Sum> = BTreeMap::new();
    for ((provider, _), sum) in &sums.models {
        let of = providers.entry(provider).or_default();
        of.usage += sum.usage;
        of.cost += sum.cost;
        of.unpriced += sum.unpriced;
        of.steps += sum.steps;
    }
    let providers: Vec<Value> = providers
        .into_iter()
        .map(|(provider, sum)| json!({ "provider": provider, "count": sum.steps, "totals": sum.totals() }))
        .collect();
    let agents: Vec<Value> =
        sums.agents.iter().map(|(agent, sum)| json!({ "agentId": agent, "totals": sum.totals() })).collect();
    let daily: Vec<Value> = sums
        .days
        .iter()
        .map(|(day, sum)| {
            json!({
                "date": days::date(*day),
                "tokens": sum.usage.total(),
                "cost": sum.cost.total(),
                "messages": messages(sum),
                "toolCalls": sum.tool_calls,
                "errors": sum.failed + sum.tool_errors,
            })
        })
        .collect();
    let mut tools: Vec<(&String, &u64)> = sums.tools.iter().collect();
    tools.sort_by_key(|(_, calls)| std::cmp::Reverse(**calls));
    let tools: Vec<Value> =
        tools.into_iter().map(|(name, calls)| json!({ "name": name, "count": calls })).collect();
    json!({
        "messages": counts(&sums.all),
        "tools": {
            "totalCalls": sums.all.tool_calls,
            "uniqueTools": sums.tools.len(),
            "tools": tools,
        },
        "byModel": models,
        "byProvider": providers,
        "byAgent": agents,
        "byChannel": [],
        "dailyLatency": [],
        "modelDaily": [],
        "daily": daily,
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct KeyParams {
    key: String,
    agent_id: Option<String>,
    limit: Option<u32>,
}

/// Tokens of each model call, from the transcript.
pub(super) fn timeseries(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: KeyParams = call.params()?;
        let tree = call.daemon.tree()?;
        let key = named(call.method, &tree.settings(), params.agent_id.as_deref(), &params.key)?;
        let row = tree.storage().session(key.clone()).await.map_err(store)?.ok_or_else(|| unknown(&key))?;
        let entries = tree.storage().latest_entries(key, None, MAX_POINTS).await.map_err(store)?;
        let (mut cumulative, mut owed, config) = (0_u64, 0.0, call.daemon.config());
        let points: Vec<Map<String, Value>> = entries
            .iter()
            .filter_map(|stored| match &stored.entry {
                Entry::Assistant { usage, model, .. } => Some((stored.at, *usage, model)),
                _ => None,
            })
            .map(|(at, usage, model)| {
                let cost = config.prices.cost(model, usage).unwrap_or_default().total();
                owed += cost;
                cumulative = cumulative.saturating_add(usage.total());
                let mut point = Map::new();
                point.insert("timestamp".to_owned(), json!(at.0));
                if let Value::Object(tokens) = tokens(usage) {
                    point.extend(tokens);
                }
                point.insert("cost".to_owned(), json!(cost));
                point.insert("cumulativeTokens".to_owned(), json!(cumulative));
                point.insert("cumulativeCost".to_owned(), json!(owed));
                point
            })
            .collect();
        answer(&json!({ "sessionId": session_id(&row), "points": points }))
    }
    .boxed()
}

/// The transcript line by line, with the tokens of each model call.
pub(super) fn logs(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: KeyParams = call.params()?;
        let limit =
            within(&call, "limit", params.limit.unwrap_or(DEFAULT_LINES), 1..=u32::MAX)?.min(MAX_LINES);
        let tree = call.daemon.tree()?;
        let key = named(call.method, &tree.settings(), params.agent_id.as_deref(), &params.key)?;
        if tree.storage().session(key.clone()).await.map_err(store)?.is_none() {
            return Err(unknown(&key));
        }
        let entries = tree.storage().latest_entries(key, None, limit).await.map_err(store)?;
        let lines: Vec<Value> = entries
            .iter()
            .filter_map(|stored| {
                let role = match &stored.entry {
                    Entry::User { .. } | Entry::Announce { .. } => "user",
                    Entry::Assistant { .. } => "assistant",
                    Entry::ToolResult { .. } => "toolResult",
                    Entry::Notice { .. } => "system",
                };
                let used = match &stored.entry {
                    Entry::Assistant { usage, .. } => Some(usage.total()),
                    _ => None,
                };
                let text = plain(&stored.entry)?;
                let text: String = text.chars().take(MAX_LINE).collect();
                Some(json!({ "timestamp": stored.at.0, "role": role, "content": text, "tokens": used }))
            })
            .collect();
        answer(&json!({ "logs": lines }))
    }
    .boxed()
}
