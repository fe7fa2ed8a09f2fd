//! A transcript's entries, for people and for programs.

use std::sync::Arc;

use offshoot_actors::ports::{Storage, StoreError};
use offshoot_actors::types::{Entry, Origin, SessionKey, StoredEntry, Timestamp};
use serde_json::{Value, json};

use super::output::{Paint, ago, one_line, printable};

/// Longest text of one entry on a terminal or in a pipe, in characters; `--json` has it whole.
const MAX_TEXT: usize = 2_000;
/// Longest name of a tool or a session there.
const MAX_NAME: usize = 80;

/// Entries that are read at once.
const PAGE: u32 = 500;

/// Reads the whole transcript of a session, oldest first; `take` gets it in pieces.
pub(crate) async fn read(
    storage: &dyn Storage,
    session: &SessionKey,
    mut take: impl FnMut(Vec<Arc<StoredEntry>>),
) -> Result<(), StoreError> {
    let mut from = 0;
    loop {
        let page = storage.entries(session.clone(), from, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        from = last.seq.saturating_add(1);
        take(page);
    }
}

/// The lines that tell one entry.
pub(crate) fn lines(entry: &StoredEntry, now: Timestamp, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    let head = |who: &str, what: &str| {
        format!(
            "{} {}{} {}",
            paint.dim(format!("#{}", entry.seq)),
            paint.bold(who),
            one_line(what, 200),
            paint.dim(ago(entry.at, now))
        )
    };
    match &entry.entry {
        Entry::User { text, origin } => {
            lines.push(head("message", &format!(" from {}", sender(origin))));
            body(text, &mut lines);
        }
        Entry::Assistant { text, tool_calls, model, .. } => {
            lines.push(head("answer", &format!(" by {model}")));
            body(text, &mut lines);
            for call in tool_calls {
                let (name, arguments) = (one_line(&call.name, MAX_NAME), one_line(&call.arguments, 200));
                lines.push(format!("  calls {name} {arguments}"));
            }
        }
        Entry::ToolResult { name, text, status, .. } => {
            let status = format!("{status:?}").to_lowercase();
            lines.push(head("result", &format!(" of {} ({status})", one_line(name, MAX_NAME))));
            body(text, &mut lines);
        }
        Entry::Announce { items } => {
            lines.push(head("results of sub-agents", ""));
            for item in items {
                let name = item.label.as_deref().unwrap_or(item.session.as_str());
                lines.push(format!("  {} {}", one_line(name, MAX_NAME), paint.state(item.state.as_str())));
                body(item.text.as_deref().or(item.reason.as_deref()).unwrap_or_default(), &mut lines);
            }
        }
        Entry::Notice { text } => {
            lines.push(head("notice", ""));
            body(text, &mut lines);
        }
    }
    lines
}

fn body(text: &str, lines: &mut Vec<String>) {
    let mut shown: String = text.chars().take(MAX_TEXT).collect();
    if shown.len() < text.len() {
        shown.push_str(" … (whole with --json)");
    }
    lines.extend(printable(&shown).lines().map(|line| format!("  {line}")));
}

fn sender(origin: &Origin) -> String {
    match origin {
        Origin::Agent { session, .. } => session.to_string(),
        Origin::Client { .. } => "a client".to_owned(),
        Origin::Operator => "the command line".to_owned(),
        Origin::Embedder => "the program".to_owned(),
        Origin::Timer => "the runtime".to_owned(),
    }
}

/// One entry as it is stored.
pub(crate) fn json(entry: &StoredEntry) -> Value {
    json!({"seq": entry.seq, "runId": entry.run, "at": entry.at, "entry": entry.entry})
}

#[cfg(test)]
mod tests {
    use offshoot_actors::types::{ModelRef, ToolCall, ToolStatus, Usage};

    use super::*;

    #[test]
    fn no_name_controls_the_terminal() {
        let escape = "a\u{1b}]0;title\u{7}\u{9b}2Jb";
        let call = ToolCall { id: "1".into(), name: escape.into(), arguments: escape.into() };
        let entries = [
            Entry::Assistant {
                text: escape.into(),
                tool_calls: vec![call],
                model: ModelRef::rehearsal(),
                usage: Usage::default(),
            },
            Entry::ToolResult {
                call: "1".into(),
                name: escape.into(),
                text: escape.into(),
                status: ToolStatus::Ok,
            },
            Entry::Notice { text: escape.into() },
        ];
        for entry in entries {
            let stored = StoredEntry { seq: 1, run: None, at: Timestamp(0), entry };
            let lines = lines(&stored, Timestamp(0), Paint::plain());
            assert!(lines.len() > 1);
            assert!(!lines.concat().contains(char::is_control), "{lines:?}");
        }
    }
}
