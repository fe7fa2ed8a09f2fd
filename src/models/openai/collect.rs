//! An answer out of its pieces. Pure: what to do with a piece of text is the caller's business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offshoot_actors::ports::{Answer, ModelSink, StopReason};
use offshoot_actors::types::{ToolCall, Usage};

use super::chunk::{CallDelta, Choice, Chunk, Delta, FunctionDelta};

/// Text and arguments of one answer, in bytes. No model writes that much; whoever sends more is broken.
pub(super) const MAX_CONTENT: usize = 16 << 20;
/// Tool calls in one answer. Providers stop at 128.
pub(super) const MAX_CALLS: usize = 256;

/// An answer that does not have the protocol's form, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) String);

/// What there is of an answer so far.
#[derive(Debug, Default)]
pub(super) struct Collector {
    text: String,
    calls: Vec<PartialCall>,
    /// The place in `calls` that a stream index means now.
    by_index: BTreeMap<u64, usize>,
    finish: Option<String>,
    usage: Usage,
    bytes: usize,
}

#[derive(Debug, Default)]
struct PartialCall {
    id: String,
    name: String,
    arguments: String,
}

impl Collector {
    /// Takes one piece and tells its text to `sink`.
    pub(super) fn add(&mut self, chunk: Chunk, sink: &dyn ModelSink) -> Result<(), Malformed> {
        if let Some(usage) = chunk.usage {
            self.usage = usage.into();
        }
        // Only one choice is asked for; others would be another answer.
        let first = chunk.choices.into_iter().flatten().find(|choice| choice.index.unwrap_or(0) == 0);
        let Some(Choice { delta, message, finish_reason, .. }) = first else { return Ok(()) };
        if let Some(delta) = delta.or(message) {
            self.delta(delta, sink)?;
        }
        if let Some(reason) = finish_reason.filter(|reason| !reason.is_empty()) {
            self.finish = Some(reason);
        }
        Ok(())
    }

    /// Whether the provider said why it stopped.
    pub(super) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// The answer. `step` names calls that came without an id.
    pub(super) fn into_answer(self, step: u32) -> Result<Answer, Malformed> {
        let cut = match self.finish.as_deref() {
            Some("length" | "max_tokens") => Some(StopReason::Length),
            Some("content_filter") => Some(StopReason::Filtered),
            _ => None,
        };
        let mut calls = self.calls;
        if cut.is_some() {
            // Half a call must not be carried out.
            calls.retain(|call| serde_json::from_str::<serde::de::IgnoredAny>(&call.arguments).is_ok());
        }
        let tool_calls = name_calls(calls, step)?;
        let stop = match cut {
            Some(stop) => stop,
            None if tool_calls.is_empty() => StopReason::End,
            None => StopReason::Tools,
        };
        Ok(Answer { text: self.text, tool_calls, stop, usage: self.usage })
    }

    fn delta(&mut self, delta: Delta, sink: &dyn ModelSink) -> Result<(), Malformed> {
        let pieces = delta.content.iter().flat_map(|content| content.pieces());
        for piece in pieces.chain(delta.refusal.as_deref()).filter(|piece| !piece.is_empty()) {
            self.grow(piece)?;
            self.text.push_str(piece);
            sink.text(piece);
        }
        for call in delta.tool_calls.into_iter().flatten() {
            let place = self.place(&call)?;
            self.call(place, call.id, call.function.unwrap_or_default())?;
        }
        if let Some(function) = delta.function_call {
            let place = if self.calls.is_empty() { self.start_call()? } else { 0 };
            self.call(place, None, function)?;
        }
        Ok(())
    }

    /// Which call a piece belongs to. Most providers number them; some number all alike and tell them apart
    /// by id, some send whole calls without a number.
    fn place(&mut self, piece: &CallDelta) -> Result<usize, Malformed> {
        let known = match piece.index {
            Some(index) => self.by_index.get(&index).copied(),
            None => self.calls.len().checked_sub(1),
        };
        let id = piece.id.as_deref().unwrap_or_default();
        if let Some(place) = known {
            let have = &self.calls[place].id;
            if id.is_empty() || have.is_empty() || have == id {
                return Ok(place);
            }
        }
        let place = self.start_call()?;
        if let Some(index) = piece.index {
            self.by_index.insert(index, place);
        }
        Ok(place)
    }

    fn start_call(&mut self) -> Result<usize, Malformed> {
        if self.calls.len() == MAX_CALLS {
            return Err(Malformed(format!("more than {MAX_CALLS} tool calls in one answer")));
        }
        self.calls.push(PartialCall::default());
        Ok(self.calls.len() - 1)
    }

    fn call(&mut self, place: usize, id: Option<String>, function: FunctionDelta) -> Result<(), Malformed> {
        let id = id.unwrap_or_default();
        let name = function.name.clone().unwrap_or_default();
        let arguments = function.arguments().unwrap_or_default();
        for piece in [&id, &name, &arguments] {
            self.grow(piece)?;
        }
        let call = &mut self.calls[place];
        if call.id.is_empty() {
            call.id = id;
        }
        // Some repeat the whole name, some split it.
        if call.name != name {
            call.name.push_str(&name);
        }
        call.arguments.push_str(&arguments);
        Ok(())
    }

    fn grow(&mut self, piece: &str) -> Result<(), Malformed> {
        self.bytes += piece.len();
        if self.bytes > MAX_CONTENT {
            return Err(Malformed(format!("more than {} MiB of text and tool arguments", MAX_CONTENT >> 20)));
        }
        Ok(())
    }
}

/// Calls with names and with ids that differ from each other.
fn name_calls(calls: Vec<PartialCall>, step: u32) -> Result<Vec<ToolCall>, Malformed> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut named = Vec::with_capacity(calls.len());
    for (index, call) in calls.into_iter().enumerate() {
        if call.name.is_empty() {
            return Err(Malformed("a tool call without a name".to_owned()));
        }
        let mut id = call.id;
        let mut made = format!("call_{step}_{index}");
        while id.is_empty() || taken.contains(&id) {
            id.clone_from(&made);
            made.push('_');
        }
        taken.insert(id.clone());
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        named.push(ToolCall { id: id.into(), name: Arc::from(call.name), arguments: arguments.into() });
    }
    Ok(named)
}

#[cfg(test)]
mod tests;
