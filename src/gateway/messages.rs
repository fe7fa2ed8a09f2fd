//! Transcript entries as messages, in the shape that clients show.

use std::borrow::Cow;
use std::fmt::Write as _;

use offshoot_actors::types::{
    AnnounceItem, Entry, Origin, Refusal, SessionKey, StoredEntry, ToolStatus, Usage,
};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::protocol::version::Protocol;

/// Most bytes of messages in one answer.
pub(crate) const MAX_BYTES: usize = 6 * 1024 * 1024;
/// Stands where a text was cut.
const CUT: &str = "\n...(truncated)...";

/// Refuses a message that OpenClaw takes for a command and that would be plain text here.
///
/// # Errors
/// It begins with such a command.
pub(crate) fn no_command(message: &str) -> Result<(), Refusal> {
    let first = message.split_whitespace().next().unwrap_or_default();
    if !["/new", "/reset"].iter().any(|command| first.eq_ignore_ascii_case(command)) {
        return Ok(());
    }
    Err(Refusal::error("command", format!("{first} is not supported by offshoot in a message"))
        .with_hint("in a gateway, call sessions.reset, then send the rest"))
}

/// What a message's shape depends on beside its entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'a> {
    pub(crate) protocol: Protocol,
    /// The run's name on the wire, for generation 4; left out if it is not known.
    pub(crate) run: Option<&'a str>,
    /// Most characters of one text.
    pub(crate) max_chars: usize,
}

impl Shape<'_> {
    /// Messages with their texts whole.
    pub(crate) const fn whole(protocol: Protocol) -> Self {
        Self { protocol, run: None, max_chars: usize::MAX }
    }
}

/// A message as it goes out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_error: Option<bool>,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<Provenance<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(rename = "__openclaw")]
    place: Place<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<Part<'a>>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Part<'a> {
    Text { text: Cow<'a, str> },
    ToolCall { id: &'a str, name: &'a str, arguments: Value },
}

/// Where a message came from that no person wrote.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Provenance<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_session_key: Option<&'a SessionKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_tool: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Place<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<&'a str>,
    id: String,
    seq: u64,
}

/// A message's id: names it within its transcript.
pub(crate) fn id(entry: &StoredEntry) -> String {
    id_of(entry.seq)
}

/// The id of the message at this place of the store.
pub(crate) fn id_of(seq: u64) -> String {
    format!("{seq:08x}")
}

/// The place of the entry whose message has this id.
pub(crate) fn place(id: &str) -> Option<u64> {
    let digits = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    u64::from_str_radix(id, 16).ok().filter(|_| digits)
}

/// A message's place in its transcript, from 1.
pub(crate) const fn seq(entry: &StoredEntry) -> u64 {
    entry.seq.saturating_add(1)
}

/// The entry as a message.
pub(crate) fn message<'a>(stored: &'a StoredEntry, shape: &Shape<'a>) -> Message<'a> {
    let newer = shape.protocol == Protocol::V4;
    let run_id = shape.run.filter(|_| newer);
    let text = |text: &'a str| clip(text.into(), shape.max_chars);
    let mut message = Message {
        role: "user",
        tool_call_id: None,
        tool_name: None,
        content: Content::Parts(Vec::new()),
        provider: None,
        model: None,
        usage: None,
        stop_reason: None,
        is_error: None,
        timestamp: stored.at.0,
        provenance: None,
        idempotency_key: None,
        place: Place { run_id, id: id(stored), seq: seq(stored) },
    };
    match &stored.entry {
        Entry::User { text: said, origin } => {
            message.content = said_by_user(text(said), shape.protocol);
            message.provenance = provenance(origin);
            if matches!(origin, Origin::Client { .. }) {
                message.idempotency_key = run_id.map(|run| format!("{run}:user"));
            }
        }
        Entry::Assistant { text: said, tool_calls, model, usage } => {
            message.role = "assistant";
            let said = Some(said.as_str()).filter(|said| !said.is_empty());
            let said = said.map(|said| Part::Text { text: text(said) });
            let calls = tool_calls.iter().map(|call| Part::ToolCall {
                id: &call.id,
                name: &call.name,
                arguments: arguments(&call.arguments, shape.max_chars),
            });
            message.content = Content::Parts(said.into_iter().chain(calls).collect());
            message.provider = Some(model.provider());
            message.model = Some(model.model());
            message.usage = Some(tokens(*usage));
            message.stop_reason = Some(if tool_calls.is_empty() { "stop" } else { "toolUse" });
        }
        Entry::ToolResult { call, name, text: result, status } => {
            message.role = "toolResult";
            message.tool_call_id = Some(call);
            message.tool_name = Some(name);
            message.is_error = Some(*status != ToolStatus::Ok);
            message.content = Content::Parts(vec![Part::Text { text: text(result) }]);
        }
        Entry::Announce { items } => {
            let text = clip(announced(items).into(), shape.max_chars);
            message.content = said_by_user(text, shape.protocol);
            message.provenance = Some(Provenance {
                kind: "inter_session",
                source_session_key: items.first().map(|item| &item.session),
                source_tool: Some("subagent_announce"),
            });
        }
        Entry::Notice { text: remark } => {
            message.role = "system";
            message.content = Content::Parts(vec![Part::Text { text: text(remark) }]);
        }
    }
    message
}

/// Generation 4 has what a user said as a plain text.
fn said_by_user(text: Cow<'_, str>, protocol: Protocol) -> Content<'_> {
    match protocol {
        Protocol::V3 => Content::Parts(vec![Part::Text { text }]),
        Protocol::V4 => Content::Text(text),
    }
}

const fn provenance(origin: &Origin) -> Option<Provenance<'_>> {
    match origin {
        Origin::Agent { session, .. } => {
            Some(Provenance { kind: "inter_session", source_session_key: Some(session), source_tool: None })
        }
        Origin::Timer => {
            Some(Provenance { kind: "internal_system", source_session_key: None, source_tool: None })
        }
        Origin::Client { .. } | Origin::Operator | Origin::Embedder => None,
    }
}

/// The arguments as the model wrote them; a text where they are no JSON, or are too long.
fn arguments(written: &str, max_chars: usize) -> Value {
    match clip(written.into(), max_chars) {
        Cow::Borrowed(whole) => serde_json::from_str(whole).unwrap_or_else(|_| whole.into()),
        Cow::Owned(cut) => cut.into(),
    }
}

/// Tokens as messages have them: the prompt without what came from the provider's cache.
pub(crate) fn tokens(usage: Usage) -> Value {
    json!({
        "input": usage.input.saturating_sub(usage.cached),
        "output": usage.output,
        "cacheRead": usage.cached,
        "cacheWrite": 0,
        "totalTokens": usage.total(),
    })
}

/// What an entry says, for a preview or a title; none if it says nothing.
pub(crate) fn plain(entry: &Entry) -> Option<Cow<'_, str>> {
    let text: Cow<'_, str> = match entry {
        Entry::User { text, .. }
        | Entry::Assistant { text, .. }
        | Entry::ToolResult { text, .. }
        | Entry::Notice { text } => text.as_str().into(),
        Entry::Announce { items } => announced(items).into(),
    };
    Some(text).filter(|text| !text.trim().is_empty())
}

fn announced(items: &[AnnounceItem]) -> String {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        let _ = write!(text, "Result of sub-agent {}", item.session);
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
    }
    text
}

/// The text, or as much of it as may be, with a mark where it was cut.
pub(crate) fn clip(text: Cow<'_, str>, max_chars: usize) -> Cow<'_, str> {
    // No text has more characters than bytes.
    if text.len() <= max_chars {
        return text;
    }
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}{CUT}", &text[..end]).into(),
        None => text,
    }
}

/// Of messages, newest first, as many as fit into `most` bytes; returned oldest first. The newest is always there: one
/// that does not fit by itself stands as a remark.
pub(crate) fn fit(newest_first: impl IntoIterator<Item = Box<RawValue>>, most: usize) -> Vec<Box<RawValue>> {
    let (mut kept, mut bytes) = (Vec::new(), 0_usize);
    for message in newest_first {
        bytes = bytes.saturating_add(message.get().len() + 1);
        if bytes <= most {
            kept.push(message);
            continue;
        }
        if kept.is_empty() {
            let remark = json!([{ "type": "text", "text": "(too large to show)" }]);
            kept.extend(serde_json::value::to_raw_value(&json!({ "role": "system", "content": remark })));
        }
        break;
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests;
