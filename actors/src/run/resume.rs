//! A run that an earlier process began: what its last step lacks is made good before it goes on.

use std::sync::Arc;

use super::tools::{Finished, Refusal};
use super::{Activity, Doing, Run, Tools};
use crate::kit::Ctx;
use crate::ports::{AuditRecord, Op, ToolOutput, Transaction};
use crate::types::{Entry, Origin, RunId, ToolCall, ToolStatus, Transcript};

/// What the model reads of a tool call whose outcome nobody knows.
const UNKNOWN: &str = "The outcome of this call is unknown: it was started, and the daemon went down before its result \
                       was recorded. It may have done its work or not, and was not repeated. Look first, then decide.";

/// The last step of a run, if it ended in tool calls and nothing was appended after it.
#[derive(Debug, Default, PartialEq, Eq)]
struct LastStep {
    /// Calls without a result, with their places in the step.
    unanswered: Vec<(usize, ToolCall)>,
    /// The tools whose calls gave their results.
    answered: Vec<Arc<str>>,
}

fn last_step(transcript: &Transcript, run: RunId) -> LastStep {
    let mut results = Vec::new();
    for stored in transcript.entries().iter().rev().take_while(|stored| stored.run == Some(run)) {
        match &stored.entry {
            Entry::ToolResult { call, name, status, .. } => results.push((call, name, *status)),
            Entry::Assistant { tool_calls, .. } => {
                let has_result = |call: &ToolCall| results.iter().any(|(id, ..)| **id == call.id);
                let unanswered = tool_calls.iter().enumerate().filter(|(_, call)| !has_result(call));
                let gave = results.iter().filter(|(.., status)| *status == ToolStatus::Ok);
                return LastStep {
                    unanswered: unanswered.map(|(index, call)| (index, call.clone())).collect(),
                    answered: gave.map(|(_, name, _)| Arc::clone(name)).collect(),
                };
            }
            Entry::User { .. } | Entry::Announce { .. } | Entry::Notice { .. } => break,
        }
    }
    LastStep::default()
}

impl Run {
    /// Goes on where an earlier process stopped: calls of the last step that were not started are, idempotent ones that
    /// were are repeated, and of the others the model is told that nobody knows. Then the session has the word, as after
    /// any step.
    pub(super) fn resume(&mut self, ctx: &mut Ctx<Self>) {
        let LastStep { unanswered, answered } = last_step(&self.transcript, self.id());
        let spec = |name: &str| self.tools.iter().find(|spec| *spec.name == *name);
        let mut tools = Tools {
            wants_to_wait: answered.iter().any(|name| spec(name).is_some_and(|spec| spec.yields)),
            ..Tools::default()
        };
        // What kills the daemon from here on is counted before.
        let mut transaction: Transaction = self.cell.goes_to_work().into_iter().collect();
        for (index, call) in unanswered {
            if !self.cell.was_started(&call.id) {
                match self.check(&call, index, None) {
                    None => tools.waiting.push_back(call),
                    Some(Refusal { why, output }) => {
                        tools.finished.push(Finished { call, output, refused: Some(why) });
                    }
                }
                continue;
            }
            let repeats = spec(&call.name).is_some_and(|spec| spec.idempotent);
            transaction.push(self.decided(
                if repeats { "tool.repeated" } else { "tool.unknown" },
                &call,
                ctx,
            ));
            if repeats {
                tools.repeated.insert(Arc::clone(&call.id));
                tools.starting.push(call);
            } else {
                let output = ToolOutput { status: ToolStatus::Unknown, ..ToolOutput::error(UNKNOWN) };
                tools.finished.push(Finished { call, output, refused: None });
            }
        }
        if tools.starting.is_empty() {
            self.start_batch(&mut tools, &mut transaction, ctx);
        }
        tools.committing = !transaction.is_empty();
        self.cell.turn_to(Activity::Tools, ctx.system().clock.now());
        self.doing = Doing::Tools(Box::new(tools));
        if transaction.is_empty() {
            self.tools_committed(ctx);
        } else {
            self.commit(transaction, ctx);
        }
    }

    /// The line on record of what becomes of a call with an unknown outcome.
    fn decided(&self, event: &'static str, call: &ToolCall, ctx: &Ctx<Self>) -> Op {
        Op::Audit(Box::new(AuditRecord {
            at: ctx.system().clock.now(),
            event,
            origin: Origin::Timer,
            session: Some(self.meta.key.clone()),
            run: Some(self.id()),
            facts: vec![("tool", call.name.to_string()), ("call", call.id.to_string())],
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{run_id, user};
    use crate::types::{ModelRef, Timestamp, Usage};

    fn call(id: &str) -> ToolCall {
        ToolCall { id: id.into(), name: id.into(), arguments: "{}".into() }
    }

    fn transcript(entries: Vec<Entry>) -> Transcript {
        let mut transcript = Transcript::default();
        for entry in entries {
            transcript.push(Some(run_id(1)), Timestamp(0), entry);
        }
        transcript
    }

    fn asks(ids: &[&str]) -> Entry {
        let tool_calls = ids.iter().map(|id| call(id)).collect();
        Entry::Assistant {
            text: String::new(),
            tool_calls,
            model: ModelRef::rehearsal(),
            usage: Usage::default(),
        }
    }

    fn gives(id: &str, status: ToolStatus) -> Entry {
        Entry::ToolResult { call: id.into(), name: id.into(), text: String::new(), status }
    }

    #[test]
    fn calls_without_a_result_keep_their_places() {
        let transcript = transcript(vec![
            user("do it"),
            asks(&["a"]),
            gives("a", ToolStatus::Ok),
            asks(&["a", "b", "c"]),
            gives("b", ToolStatus::Error),
        ]);
        let step = last_step(&transcript, run_id(1));
        assert_eq!(step.unanswered, [(0, call("a")), (2, call("c"))]);
        assert!(step.answered.is_empty());
        assert_eq!(last_step(&transcript, run_id(2)), LastStep::default());
    }

    #[test]
    fn a_step_that_something_follows_on_is_over() {
        let done = vec![asks(&["a"]), gives("a", ToolStatus::Ok)];
        assert_eq!(last_step(&transcript(done.clone()), run_id(1)).answered, [Arc::from("a")]);
        let more = done.into_iter().chain([user("and this")]).collect();
        assert_eq!(last_step(&transcript(more), run_id(1)), LastStep::default());
        assert_eq!(last_step(&transcript(vec![user("do it")]), run_id(1)), LastStep::default());
    }
}
