//! `sessions.get` and `sessions.preview`: what was said last.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::ports::Storage;
use offshoot_actors::types::{Entry, RunId, SessionKey, StoredEntry};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::{Answer, Call, answer};
use super::{named, store, within};
use crate::gateway::events::raw;
use crate::gateway::messages::{self, Shape};
use crate::gateway::recent::recent;
use crate::gateway::runs::wire_name;
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

/// Messages where the client does not say how many, and at most.
const DEFAULT_LIMIT: u32 = 200;
const MAX_LIMIT: u32 = 1_000;
const DEFAULT_ITEMS: u32 = 12;
const MAX_ITEMS: u32 = 50;
const DEFAULT_CHARS: usize = 240;
const MAX_CHARS: usize = 4_000;
/// Sessions of one answer.
const MAX_KEYS: usize = 64;
/// Entries in which the items of a preview are looked for.
const LOOK: u32 = 200;
/// Bytes of text in which they are looked for.
const MAX_LOOK: usize = 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct GetParams {
    #[serde(alias = "sessionKey")]
    key: String,
    limit: Option<u32>,
}

pub(super) fn get(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: GetParams = call.params()?;
        let limit =
            within(&call, "limit", params.limit.unwrap_or(DEFAULT_LIMIT), 1..=u32::MAX)?.min(MAX_LIMIT);
        let tree = call.daemon.tree()?;
        let key = named(call.method, &tree.settings(), None, &params.key)?;
        let room = (messages::MAX_BYTES, usize::MAX);
        let entries = recent(tree.storage(), &key, None, limit, room).await.map_err(store)?;
        let shown = show(&call, tree.storage(), &entries).await?;
        let kept = messages::fit(shown.into_iter().rev(), messages::MAX_BYTES);
        answer(&BTreeMap::from([("messages", kept)]))
    }
    .boxed()
}

/// Entries as messages, oldest first. The newer generation is told what the runs are called.
pub(in crate::gateway::methods) async fn show(
    call: &Call,
    storage: &Arc<dyn Storage>,
    entries: &[Arc<StoredEntry>],
) -> Result<Vec<Box<RawValue>>, ErrorShape> {
    let mut names: BTreeMap<RunId, String> = BTreeMap::new();
    if call.client.protocol == Protocol::V4 {
        for run in entries.iter().filter_map(|entry| entry.run) {
            if let std::collections::btree_map::Entry::Vacant(name) = names.entry(run) {
                let row = storage.run(run).await.map_err(store)?;
                name.insert(row.as_ref().map_or_else(|| run.to_string(), wire_name));
            }
        }
    }
    let shown = entries.iter().map(|entry| {
        let run = entry.run.and_then(|run| names.get(&run)).map(String::as_str);
        raw(&messages::message(entry, &Shape { run, ..Shape::whole(call.client.protocol) }))
    });
    Ok(shown.collect())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct PreviewParams {
    keys: Vec<String>,
    limit: Option<u32>,
    max_chars: Option<usize>,
}

pub(super) fn preview(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let params: PreviewParams = call.params()?;
        let limit =
            within(&call, "limit", params.limit.unwrap_or(DEFAULT_ITEMS), 1..=u32::MAX)?.min(MAX_ITEMS);
        let most = params.max_chars.unwrap_or(DEFAULT_CHARS);
        let most = within(&call, "maxChars", most, 20..=usize::MAX)?.min(MAX_CHARS);
        let tree = call.daemon.tree()?;
        let settings = tree.settings();
        let mut previews = Vec::new();
        for name in params.keys.iter().take(MAX_KEYS) {
            let (status, items) = match named(call.method, &settings, None, name) {
                Err(_) => ("missing", Vec::new()),
                Ok(key) => items(tree.storage(), &key, call.client.protocol, limit, most).await,
            };
            previews.push(json!({ "key": name, "status": status, "items": items }));
        }
        answer(&json!({ "ts": call.now().0, "previews": previews }))
    }
    .boxed()
}

async fn items(
    storage: &Arc<dyn Storage>,
    key: &SessionKey,
    protocol: Protocol,
    limit: u32,
    most: usize,
) -> (&'static str, Vec<Value>) {
    match recent(storage, key, None, LOOK, (MAX_LOOK, usize::MAX)).await {
        Err(_) => ("error", Vec::new()),
        Ok(entries) if entries.is_empty() => match storage.session(key.clone()).await {
            Ok(Some(_)) => ("empty", Vec::new()),
            Ok(None) => ("missing", Vec::new()),
            Err(_) => ("error", Vec::new()),
        },
        Ok(entries) => {
            let all: Vec<Value> = entries.iter().flat_map(|entry| shown(entry, protocol, most)).collect();
            let skip = all.len().saturating_sub(limit as usize);
            let kept: Vec<Value> = all.into_iter().skip(skip).collect();
            (if kept.is_empty() { "empty" } else { "ok" }, kept)
        }
    }
}

/// What a preview shows of an entry. The newer generation leaves tools out.
fn shown(stored: &StoredEntry, protocol: Protocol, most: usize) -> Vec<Value> {
    let tools = protocol == Protocol::V3;
    let role = match &stored.entry {
        Entry::User { .. } | Entry::Announce { .. } => "user",
        Entry::Assistant { .. } => "assistant",
        Entry::ToolResult { .. } => "tool",
        Entry::Notice { .. } => "system",
    };
    let text = messages::plain(&stored.entry).filter(|_| role != "tool" || tools);
    let mut items: Vec<Value> =
        text.into_iter().map(|text| json!({ "role": role, "text": cut(&text, most) })).collect();
    if let Entry::Assistant { tool_calls, .. } = &stored.entry
        && tools
        && !tool_calls.is_empty()
    {
        let names: Vec<&str> = tool_calls.iter().map(|call| &*call.name).collect();
        items.push(json!({ "role": "tool", "text": cut(&format!("call {}", names.join(", ")), most) }));
    }
    items
}

/// As much of a text as `most` characters hold, the mark where it was cut included.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(3)).chain("...".chars()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use offshoot_actors::types::{ModelRef, Timestamp, ToolCall, Usage};

    use super::*;

    #[test]
    fn a_preview_names_the_tools_to_the_older_generation_alone() {
        let call = |name: &str| ToolCall { id: "1".into(), name: name.into(), arguments: "{}".into() };
        let entry = Entry::Assistant {
            text: "x".repeat(30),
            tool_calls: vec![call("read"), call("write")],
            model: ModelRef::rehearsal(),
            usage: Usage::default(),
        };
        let stored = StoredEntry { seq: 0, run: None, at: Timestamp(0), entry };
        let text = json!({"role": "assistant", "text": format!("{}...", "x".repeat(17))});
        assert_eq!(shown(&stored, Protocol::V4, 20), std::slice::from_ref(&text));
        assert_eq!(
            shown(&stored, Protocol::V3, 20),
            [text, json!({"role": "tool", "text": "call read, write"})]
        );
    }
}
