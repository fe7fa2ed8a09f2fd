//! What a tool answers: JSON objects as pretty text.

use offshoot_actors::ports::{Effect, StoreError, ToolOutput};
use offshoot_actors::types::{Refusal, RefusalKind, ToolStatus};
use serde::Serialize;

use super::arguments::BadArguments;

/// Why a call gives no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The model wrote arguments that the tool does not take.
    #[error(transparent)]
    Arguments(#[from] BadArguments),
    /// The tool, the tree or a policy says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What the tool needs cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Serialize)]
struct FailureReply<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// A result.
pub(super) fn ok(value: &impl Serialize) -> ToolOutput {
    output(value, ToolStatus::Ok, Effect::None)
}

/// A result after which the run waits for its children.
pub(super) fn ok_then_yield(value: &impl Serialize) -> ToolOutput {
    output(value, ToolStatus::Ok, Effect::Yield)
}

/// An answer that is no result. A refusal counts as an answer of the tool; the other failures do not.
pub(super) fn failure(tool: &str, failure: &Failure) -> ToolOutput {
    let refusal = match failure {
        Failure::Refused(refusal) => refusal,
        Failure::Arguments(_) | Failure::Store(_) => {
            let reply = FailureReply {
                status: "error",
                tool: Some(tool),
                code: None,
                error: failure.to_string(),
                hint: None,
            };
            return output(&reply, ToolStatus::Error, Effect::None);
        }
    };
    let status = match refusal.kind {
        RefusalKind::Forbidden => "forbidden",
        RefusalKind::Error => "error",
    };
    let reply = FailureReply {
        status,
        tool: None,
        code: Some(refusal.code),
        error: refusal.message.clone(),
        hint: refusal.hint.as_deref(),
    };
    output(&reply, ToolStatus::Ok, Effect::None)
}

/// An answer to a call of a tool that does not exist.
pub(super) fn unknown_tool(name: &str, known: impl Iterator<Item = &'static str>) -> ToolOutput {
    let error = format!(
        "no tool is called {:?}; there are {}",
        clip(name, 64).0,
        known.collect::<Vec<_>>().join(", ")
    );
    let reply = FailureReply { status: "error", tool: None, code: None, error, hint: None };
    output(&reply, ToolStatus::Error, Effect::None)
}

/// The first `most` characters, and whether there were more.
pub(super) fn clip(text: &str, most: usize) -> (String, bool) {
    match text.char_indices().nth(most) {
        Some((end, _)) => (format!("{}…", &text[..end]), true),
        None => (text.to_owned(), false),
    }
}

fn output(value: &impl Serialize, status: ToolStatus, effect: Effect) -> ToolOutput {
    match serde_json::to_string_pretty(value) {
        Ok(text) => ToolOutput { text, status, effect },
        Err(error) => ToolOutput::error(format!("the result cannot be written as JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn json_of(output: &ToolOutput) -> Value {
        serde_json::from_str(&output.text).unwrap()
    }

    #[test]
    fn a_refusal_is_an_answer_with_a_status() {
        let refusal = Refusal::forbidden("depth", "too deep", "raise the limit");
        let output = failure("sessions_spawn", &refusal.into());
        assert_eq!(output.status, ToolStatus::Ok);
        assert_eq!(
            json_of(&output),
            json!({"status": "forbidden", "code": "depth", "error": "too deep", "hint": "raise the limit"})
        );
    }

    #[test]
    fn a_store_that_fails_fails_the_call() {
        let output = failure("sessions_list", &StoreError::Unavailable("closed".to_owned()).into());
        assert_eq!(output.status, ToolStatus::Error);
        assert_eq!(json_of(&output)["tool"], "sessions_list");
    }

    #[test]
    fn text_is_cut_at_characters() {
        assert_eq!(clip("äöü", 3), ("äöü".to_owned(), false));
        assert_eq!(clip("äöü", 2), ("äö…".to_owned(), true));
    }

    #[test]
    fn an_unknown_tool_is_named_briefly() {
        let output = unknown_tool(&"x".repeat(10_000), ["a", "b"].into_iter());
        assert!(output.text.len() < 300 && output.text.contains("a, b"));
    }
}
