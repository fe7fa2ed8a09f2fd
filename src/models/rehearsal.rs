//! `builtin/rehearsal`: a model without intelligence that does what directives in the prompt say.
//!
//! With it an orchestration can be rehearsed without a key, a daemon can be smoke-tested, and a bench has a
//! model that costs nothing. It opens no socket and waits with the port's clock only. `docs/rehearsal.md`
//! documents the directives.

use std::fmt;
use std::sync::Arc;

use offshoot_actors::ports::{
    Answer, BoxFuture, Clock, ModelError, ModelErrorKind, ModelRequest, ModelSink, StopReason,
};
use offshoot_actors::types::{Entry, ModelRef, ToolCall, Usage};

use super::Provider;

mod directive;
mod plan;

pub use directive::{Directive, Script};
pub use plan::{Action, PLAIN_ANSWER, Plan, plan};

/// Its full name.
pub const MODEL: &str = "builtin/rehearsal";

/// The built-in model.
pub(super) struct Rehearsal {
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rehearsal")
    }
}

impl Rehearsal {
    /// Waits with `clock`.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }
}

impl Provider for Rehearsal {
    fn check(&self, model: &ModelRef) -> Result<(), ModelError> {
        if model.as_str() == MODEL {
            return Ok(());
        }
        let message = format!("there is no model {model}: the only built-in model is {MODEL}");
        Err(ModelError::new(ModelErrorKind::NotFound, message))
    }

    fn call(&self, request: ModelRequest, sink: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>> {
        if let Err(error) = self.check(&request.model) {
            return Box::pin(async move { Err(error) });
        }
        let clock = Arc::clone(&self.clock);
        Box::pin(async move {
            let may_yield = request.tools.iter().any(|tool| &*tool.name == plan::YIELD);
            let Plan { wait, action } = plan(request.transcript.entries(), request.run, may_yield);
            let input = input_bytes(&request);
            // Many calls may wait for long; none of them needs the conversation for that.
            drop(request);
            if !wait.is_zero() {
                clock.sleep(wait).await;
            }
            perform(action, input, &*sink)
        })
    }
}

fn perform(action: Action, input: usize, sink: &dyn ModelSink) -> Result<Answer, ModelError> {
    let (text, tool_calls, stop) = match action {
        Action::Call(calls) => (String::new(), calls, StopReason::Tools),
        Action::Reply { text, pieces } => {
            stream(&text, pieces, sink);
            (text, Vec::new(), StopReason::End)
        }
        Action::Fail { kind, reason } => return Err(ModelError::new(kind, reason)),
        // This is what was asked for, so the panic hook, which tells people of bugs, has nothing to report.
        Action::Panic(reason) => std::panic::resume_unwind(Box::new(reason)),
        #[cfg(feature = "faults")]
        Action::Abort => std::process::abort(),
    };
    let output = text.len() + tool_calls.iter().map(call_bytes).sum::<usize>();
    let usage = Usage { input: tokens(input), output: tokens(output), cached: 0 };
    Ok(Answer { text, tool_calls, stop, usage })
}

/// Tells the text in `pieces` parts of like length, or in fewer if it has fewer characters.
fn stream(text: &str, pieces: u32, sink: &dyn ModelSink) {
    if pieces <= 1 || text.len() <= 1 {
        if !text.is_empty() {
            sink.text(text);
        }
        return;
    }
    let ends: Vec<usize> = text.char_indices().map(|(at, c)| at + c.len_utf8()).collect();
    let pieces = usize::try_from(pieces).unwrap_or(usize::MAX).min(ends.len());
    let mut start = 0;
    for piece in 1..=pieces {
        let end = ends[ends.len() * piece / pieces - 1];
        sink.text(&text[start..end]);
        start = end;
    }
}

/// A count that stands for tokens: the same for the same text, and about as large as a real one.
fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX)
}

fn input_bytes(request: &ModelRequest) -> usize {
    let entries = request.transcript.entries().iter().map(|stored| entry_bytes(&stored.entry));
    request.system.as_ref().map_or(0, |system| system.len()) + entries.sum::<usize>()
}

fn entry_bytes(entry: &Entry) -> usize {
    match entry {
        Entry::User { text, .. } | Entry::ToolResult { text, .. } | Entry::Notice { text } => text.len(),
        Entry::Assistant { text, tool_calls, .. } => {
            text.len() + tool_calls.iter().map(call_bytes).sum::<usize>()
        }
        Entry::Announce { items } => {
            items.iter().filter_map(|item| item.text.as_ref()).map(String::len).sum()
        }
    }
}

fn call_bytes(call: &ToolCall) -> usize {
    call.name.len() + call.arguments.len()
}

#[cfg(test)]
mod tests;
