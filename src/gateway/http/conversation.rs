//! A conversation as a client tells it, as one message to an agent.
//!
//! Clients of a model send all of a conversation each time. An agent's session remembers it: what the session has seen is
//! left out.

use std::fmt::Write as _;

use serde::Deserialize;

use super::Problem;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) speaker: Speaker,
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Whoever wrote the client: instructions for every answer.
    System,
    User,
    Assistant,
    /// A tool of the client.
    Tool,
}

impl Speaker {
    /// Reads a role.
    pub(super) fn of(role: &str) -> Result<Self, Problem> {
        Ok(match role {
            "system" | "developer" => Self::System,
            "user" => Self::User,
            "assistant" => Self::Assistant,
            "tool" | "function" => Self::Tool,
            other => {
                let other: String = other.chars().take(64).collect();
                return Err(Problem::invalid(format!(
                    "role {other:?} is not known: use system, developer, user, assistant or tool"
                )));
            }
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::System => "System",
            Self::User => "User",
            Self::Assistant => "Assistant",
            Self::Tool => "Tool",
        }
    }
}

/// What a message says: a text, or parts of which some are.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
pub(super) struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
}

impl Content {
    /// The text of it all. What is no text is refused: an agent that does not get it would answer something else.
    pub(super) fn into_text(self) -> Result<String, Problem> {
        let parts = match self {
            Self::Text(text) => return Ok(text),
            Self::Parts(parts) => parts,
        };
        let mut texts = Vec::with_capacity(parts.len());
        for part in parts {
            match part.kind.as_str() {
                "text" | "input_text" | "output_text" => texts.extend(part.text),
                "refusal" => texts.extend(part.refusal),
                kind => {
                    let kind: String = kind.chars().take(64).collect();
                    return Err(Problem::invalid(format!(
                        "content of type {kind:?} is not supported by offshoot: send text"
                    )));
                }
            }
        }
        Ok(texts.join("\n"))
    }
}

/// Writes a conversation as one message. Of what a session `remembers`, only what came after its last answer is written.
pub(super) fn message(turns: &[Turn], remembers: bool) -> Result<String, Problem> {
    let asks =
        |turn: &Turn| matches!(turn.speaker, Speaker::User | Speaker::Tool) && !turn.text.trim().is_empty();
    let last = turns.iter().rposition(asks);
    let last = last.ok_or_else(|| Problem::invalid("Missing user message in `messages`."))?;
    let first = match turns[..last].iter().rposition(|turn| turn.speaker == Speaker::Assistant) {
        Some(answered) if remembers => answered + 1,
        _ => 0,
    };
    let says = |turn: &&Turn| !turn.text.trim().is_empty();
    let system: Vec<&str> =
        turns.iter().filter(says).filter(|turn| turn.speaker == Speaker::System).map(text).collect();
    let mut earlier = turns[first..last].iter().filter(says).filter(|turn| turn.speaker != Speaker::System);
    let mut message = String::new();
    if !system.is_empty() {
        // Writing to a text cannot fail.
        let _ = writeln!(message, "[Instructions from the client]\n{}\n", system.join("\n\n"));
    }
    if let Some(turn) = earlier.next() {
        message.push_str("[Earlier messages, for context]\n");
        for turn in std::iter::once(turn).chain(earlier) {
            let _ = writeln!(message, "{}: {}", turn.speaker.name(), turn.text);
        }
        message.push('\n');
    }
    if !message.is_empty() {
        message.push_str("[Current message: answer this]\n");
    }
    if turns[last].speaker == Speaker::Tool {
        message.push_str("Tool: ");
    }
    message.push_str(&turns[last].text);
    Ok(message)
}

fn text(turn: &Turn) -> &str {
    &turn.text
}

#[cfg(test)]
mod tests {
    use Speaker::{Assistant, System, Tool, User};

    use super::*;

    fn turns(turns: &[(Speaker, &str)]) -> Vec<Turn> {
        turns.iter().map(|(speaker, text)| Turn { speaker: *speaker, text: (*text).to_owned() }).collect()
    }

    fn written(conversation: &[(Speaker, &str)], remembers: bool) -> String {
        message(&turns(conversation), remembers).unwrap()
    }

    #[test]
    fn a_single_message_stays_as_it_is() {
        assert_eq!(written(&[(User, "Hello\nthere")], false), "Hello\nthere");
        assert_eq!(written(&[(User, "Hello")], true), "Hello");
        assert_eq!(written(&[(System, " "), (User, "Hello")], true), "Hello");
    }

    #[test]
    fn a_new_session_is_told_everything() {
        let all = [(System, "Be brief."), (User, "One?"), (Assistant, "1"), (User, "Two?")];
        let text = written(&all, false);
        assert_eq!(
            text,
            "[Instructions from the client]\nBe brief.\n\n[Earlier messages, for context]\nUser: One?\n\
             Assistant: 1\n\n[Current message: answer this]\nTwo?"
        );
    }

    #[test]
    fn a_session_that_remembers_is_told_what_is_new() {
        let all = [(User, "One?"), (Assistant, "1"), (User, "Two?")];
        assert_eq!(written(&all, true), "Two?");
        let two = [(User, "One?"), (Assistant, "1"), (User, "Two?"), (User, "Three?")];
        let text = written(&two, true);
        assert!(!text.contains("One?") && text.contains("User: Two?") && text.ends_with("Three?"), "{text}");
    }

    #[test]
    fn a_tool_of_the_client_speaks_too() {
        let all = [(User, "Time?"), (Assistant, ""), (Tool, "12:00")];
        assert!(written(&all, false).ends_with("Tool: 12:00"));
    }

    #[test]
    fn nothing_to_answer_is_refused() {
        for none in [&[][..], &[(System, "x")], &[(Assistant, "x")], &[(User, "  ")]] {
            assert!(message(&turns(none), false).is_err(), "{none:?}");
        }
    }

    #[test]
    fn parts_are_joined_and_pictures_refused() {
        let content = |text: &str| serde_json::from_str::<Content>(text).unwrap().into_text();
        assert_eq!(content(r#""plain""#).unwrap(), "plain");
        let two = r#"[{"type":"text","text":"a"},{"type":"input_text","text":"b"}]"#;
        assert_eq!(content(two).unwrap(), "a\nb");
        let picture = r#"[{"type":"image_url","image_url":{"url":"data:"}}]"#;
        assert!(content(picture).unwrap_err().message.contains("image_url"));
    }
}
