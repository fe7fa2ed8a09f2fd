//! What the gateway says, and what it means for the model.

use std::time::Instant;

use serde_json::Value;

use super::super::exit::Failure;
use super::super::output::{one_line, printable};
use super::super::tree::unreadable;
use super::super::watch::{Forest, Heard, Missed};
use super::keys::About;
use super::model::{Mode, Model, Status};

/// Longest reason in the status line, in characters.
const MAX_REASON: usize = 300;
/// Longest line of a log, in characters.
const MAX_LINE: usize = 2_000;

/// Takes a word of the gateway. `about` says what a request was for. Returns whether the whole tree must be asked for.
///
/// # Errors
/// The gateway tells its tree in another way than this version reads.
pub(super) fn take(
    model: &mut Model,
    heard: Heard,
    about: impl FnOnce(u64) -> Option<About>,
) -> Result<bool, Failure> {
    model.heard = Instant::now();
    match heard {
        Heard::Here(snapshot) => {
            if model.lost.take().is_some() {
                say(model, "the gateway is back");
            }
            begin(model, snapshot)?;
        }
        Heard::Lost(failure) => {
            if matches!(model.mode, Mode::Cancel { .. }) {
                model.mode = Mode::Tree;
            }
            model.lost = Some(one_line(&failure.message, MAX_REASON));
        }
        Heard::Event(event) => {
            if event.name == "tree" {
                return change(model, event.payload);
            }
            model.live.take(&event.name, &event.payload);
        }
        Heard::Answer(id, answer) => {
            if let Some(about) = about(id) {
                answered(model, about, answer)?;
            }
        }
    }
    Ok(false)
}

fn begin(model: &mut Model, snapshot: Value) -> Result<(), Failure> {
    model.forest = Forest::read(snapshot).map_err(|error| unreadable(&error))?;
    model.arrived();
    Ok(())
}

fn change(model: &mut Model, payload: Value) -> Result<bool, Failure> {
    match model.forest.take(payload) {
        Ok(()) => model.arrived(),
        Err(Missed::Stale) => return Ok(true),
        Err(Missed::Unreadable(error)) => return Err(unreadable(&error)),
    }
    Ok(false)
}

fn answered(model: &mut Model, about: About, answer: Result<Value, Failure>) -> Result<(), Failure> {
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            let hint = failure.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            let text = one_line(&format!("{}{hint}", failure.message), MAX_REASON);
            model.status = Some(Status { text, bad: true });
            return Ok(());
        }
    };
    match about {
        About::Tree => begin(model, answer["snapshot"].take())?,
        About::Cancel(run) if answer["status"] == "aborted" => say(model, &format!("cancelled run {run}")),
        // It was cancelled with the one above it.
        About::Cancel(_) => {}
        About::Steer(session) => {
            let ended = if answer["interruptedActiveRun"] == true { "ended its run and " } else { "" };
            say(model, &format!("{ended}steered {session}"));
        }
        About::Retry(run) => say(model, &format!("the result of run {run} is tried again")),
        About::Log(title) => {
            let lines = if answer["messages"].is_array() { transcript(&answer) } else { daemon(&answer) };
            // The newest are at the end.
            model.mode = Mode::Log { title, lines, scroll: usize::MAX };
        }
    }
    Ok(())
}

fn say(model: &mut Model, text: &str) {
    model.status = Some(Status { text: one_line(text, MAX_REASON), bad: false });
}

/// The lines of the daemon's log.
fn daemon(answer: &Value) -> Vec<String> {
    let lines = answer["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.iter().map(|line| one_line(line.as_str().unwrap_or_default(), MAX_LINE)).collect()
}

/// The messages of a transcript as lines.
fn transcript(answer: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for message in answer["messages"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let role = one_line(message["role"].as_str().unwrap_or("message"), MAX_LINE);
        let tool = message["toolName"].as_str().map(|tool| format!(" {}", one_line(tool, MAX_LINE)));
        lines.push(format!("{role}{}:", tool.unwrap_or_default()));
        match &message["content"] {
            Value::String(text) => body(text, &mut lines),
            Value::Array(parts) => parts.iter().for_each(|part| self::part(part, &mut lines)),
            _ => {}
        }
    }
    lines
}

fn part(part: &Value, lines: &mut Vec<String>) {
    if let Some(text) = part["text"].as_str() {
        body(text, lines);
    } else if let Some(name) = part["name"].as_str() {
        let given = part.get("arguments").or_else(|| part.get("input")).map(ToString::to_string);
        lines.push(one_line(&format!("  calls {name} {}", given.unwrap_or_default()), MAX_LINE));
    }
}

fn body(text: &str, lines: &mut Vec<String>) {
    lines.extend(printable(text).lines().map(|line| format!("  {}", one_line(line, MAX_LINE))));
}
