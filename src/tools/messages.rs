//! Transcript entries as messages, bounded for another model's eyes.

use std::fmt::Write as _;
use std::sync::Arc;

use offshoot_actors::ports::{Storage, StoreError};
use offshoot_actors::types::{AnnounceItem, Entry, Origin, RunId, SessionKey, StoredEntry, ToolStatus};
use serde::Serialize;
use serde_json::Value;

use super::reply::clip;

/// Characters of one text.
pub(super) const MAX_TEXT: usize = 4_000;
/// Bytes of the messages of one answer, as they stand in it.
pub(super) const MAX_BYTES: usize = 80 * 1024;
/// Entries that one read asks for.
const PAGE: u64 = 256;
/// Reads for one answer: a transcript of mostly tool results is not read to its beginning.
const MAX_PAGES: usize = 32;

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    pub(super) seq: u64,
    role: &'static str,
    content: Vec<Part>,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_error: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<Provenance>,
    /// Whether text was cut.
    #[serde(skip)]
    pub(super) cut: bool,
}

/// Where a message came from that no person wrote.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Provenance {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_session_key: Option<SessionKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_tool: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Part {
    Text { text: String },
    ToolCall { id: Arc<str>, name: Arc<str>, arguments: Value },
}

/// The latest messages of a transcript.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tail {
    /// Oldest first.
    pub(super) messages: Vec<Message>,
    /// Whether there are older ones.
    pub(super) older: bool,
}

/// Reads the latest `most` messages of a session.
pub(super) async fn tail(
    storage: &Arc<dyn Storage>,
    key: &SessionKey,
    most: usize,
    tools: bool,
) -> Result<Tail, StoreError> {
    let mut newest_first = Vec::new();
    let mut end = length(storage, key).await?;
    let mut pages = 0;
    while end > 0 && newest_first.len() <= most && pages < MAX_PAGES {
        let from = end.saturating_sub(PAGE);
        let limit = u32::try_from(end - from).unwrap_or(u32::MAX);
        let page = storage.entries(key.clone(), from, limit).await?;
        newest_first.extend(page.iter().rev().filter_map(|entry| message(entry, tools)));
        end = from;
        pages += 1;
    }
    let older = end > 0 || newest_first.len() > most;
    newest_first.truncate(most);
    newest_first.reverse();
    Ok(Tail { messages: newest_first, older })
}

/// Drops the oldest messages until the rest fits. Returns the bytes of the rest.
pub(super) fn fit(messages: &mut Vec<Message>, most: usize) -> usize {
    let mut bytes = 0;
    let mut kept = 0;
    for message in messages.iter_mut().rev() {
        let mut size = size(message);
        if kept == 0 && size > most {
            message.content = vec![Part::Text { text: "(too large to show)".to_owned() }];
            message.cut = true;
            size = self::size(message);
        }
        if bytes + size > most {
            break;
        }
        bytes += size;
        kept += 1;
    }
    messages.drain(..messages.len() - kept);
    bytes
}

/// Bytes of a message in an answer, where it is indented by two more levels.
fn size(message: &Message) -> usize {
    const INDENT: usize = 4;
    serde_json::to_string_pretty(message)
        .map_or(usize::MAX / 2, |text| text.len() + INDENT * text.lines().count())
}

/// How many entries a transcript has. They are numbered without gaps.
pub(crate) async fn length(storage: &Arc<dyn Storage>, key: &SessionKey) -> Result<u64, StoreError> {
    let last = storage.latest_entries(key.clone(), None, 1).await?;
    Ok(last.last().map_or(0, |entry| entry.seq.saturating_add(1)))
}

/// The entry as a message; none if it has nothing to show.
fn message(stored: &StoredEntry, tools: bool) -> Option<Message> {
    let mut message = Message {
        seq: stored.seq,
        role: "user",
        content: Vec::new(),
        timestamp: stored.at.0,
        run_id: stored.run,
        model: None,
        tool_call_id: None,
        tool_name: None,
        is_error: None,
        provenance: None,
        cut: false,
    };
    match &stored.entry {
        Entry::User { text, origin } => {
            message.text(text);
            if let Origin::Agent { session, .. } = origin {
                message.provenance = Some(Provenance {
                    kind: "inter_session",
                    source_session_key: Some(session.clone()),
                    source_tool: None,
                });
            }
        }
        Entry::Assistant { text, tool_calls, model, .. } => {
            message.role = "assistant";
            message.model = Some(model.to_string());
            if !text.is_empty() {
                message.text(text);
            }
            for call in tool_calls.iter().filter(|_| tools) {
                let (text, cut) = clip(&call.arguments, MAX_TEXT);
                let arguments = serde_json::from_str(&text).unwrap_or(Value::String(text));
                message.cut |= cut;
                message.content.push(Part::ToolCall {
                    id: Arc::clone(&call.id),
                    name: Arc::clone(&call.name),
                    arguments,
                });
            }
        }
        Entry::ToolResult { .. } if !tools => return None,
        Entry::ToolResult { call, name, text, status } => {
            message.role = "toolResult";
            message.tool_call_id = Some(Arc::clone(call));
            message.tool_name = Some(Arc::clone(name));
            message.is_error = Some(*status != ToolStatus::Ok);
            message.text(text);
        }
        Entry::Announce { items } => {
            for item in items {
                message.text(&announced(item));
            }
            message.provenance = Some(Provenance {
                kind: "inter_session",
                source_session_key: items.first().map(|item| item.session.clone()),
                source_tool: Some("subagent_announce"),
            });
        }
        Entry::Notice { text } => {
            message.role = "system";
            message.text(text);
        }
    }
    Some(message).filter(|message| !message.content.is_empty())
}

impl Message {
    fn text(&mut self, text: &str) {
        let (text, cut) = clip(text, MAX_TEXT);
        self.cut |= cut;
        self.content.push(Part::Text { text });
    }
}

fn announced(item: &AnnounceItem) -> String {
    let mut text = format!("Result of sub-agent {}", item.session);
    if let Some(label) = &item.label {
        let _ = write!(text, " ({label})");
    }
    let _ = write!(text, ": {}", item.state);
    if let Some(reason) = &item.reason {
        let _ = write!(text, ", {reason}");
    }
    if let Some(result) = &item.text {
        let _ = write!(text, "\n{result}");
    }
    text
}

#[cfg(test)]
mod tests;
