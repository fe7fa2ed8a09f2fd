//! The run of a sub-agent as a task: the summary that lists and events show.

use offshoot_actors::ports::RunState;
use offshoot_actors::types::{Outcome, RunId, SessionKey, Timestamp};
use serde_json::{Map, Value, json};

use super::states::{Ending, reason, task_status};

/// Characters of a title, of an error, and of a result in a summary.
const MAX_TITLE: usize = 120;
const MAX_ERROR: usize = 1_000;
const MAX_SUMMARY: usize = 400;

/// What is known of a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) run: RunId,
    /// What the run is called on the wire.
    pub(crate) name: &'a str,
    pub(crate) session: &'a SessionKey,
    /// Who gets its result.
    pub(crate) owner: Option<&'a SessionKey>,
    pub(crate) expects_completion: bool,
    /// A label or the first line of what was asked ([`title`]).
    pub(crate) title: Option<&'a str>,
    pub(crate) state: RunState,
    pub(crate) outcome: Option<&'a Outcome>,
    pub(crate) accepted_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    /// Whether its session is stored.
    pub(crate) stored: bool,
}

impl Task<'_> {
    pub(crate) fn summary(&self) -> Map<String, Value> {
        let mut out = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                out.insert(name.to_owned(), value);
            }
        };
        let updated = self.ended_at.or(self.started_at).unwrap_or(self.accepted_at);
        put("id", json!(self.run));
        put("taskId", json!(self.run));
        put("runId", json!(self.name));
        put("status", json!(task_status(self.state)));
        put("kind", json!("subagent"));
        put("runtime", json!("subagent"));
        put("title", json!(self.title.map_or_else(|| self.session.to_string(), |text| cut(text, MAX_TITLE))));
        put("agentId", json!(self.session.agent()));
        put("sessionKey", json!(self.owner));
        put("ownerKey", json!(self.owner));
        put("childSessionKey", json!(self.session));
        put("hasTranscript", json!(self.stored));
        put("createdAt", json!(self.accepted_at.0));
        put("updatedAt", json!(updated.0));
        put("startedAt", json!(self.started_at.map(|at| at.0)));
        put("endedAt", json!(self.ended_at.map(|at| at.0)));
        put("execution", json!({ "state": execution(self.state) }));
        if !self.expects_completion {
            put("deliveryStatus", json!("not_applicable"));
        }
        if let (RunState::Ended(state), Some(outcome)) = (self.state, self.outcome) {
            if Ending::of(state).is_ok() {
                put("terminalOutcome", json!("succeeded"));
                put("terminalSummary", json!(outcome.text.as_deref().map(|text| cut(text, MAX_SUMMARY))));
            } else {
                put("error", json!(reason(outcome).map(|reason| cut(&reason, MAX_ERROR))));
            }
        }
        out
    }
}

/// What a task is called: its label, or the first line that says something.
pub(crate) fn title<'a>(label: Option<&'a str>, task: Option<&'a str>) -> Option<&'a str> {
    label.or_else(|| task?.lines().map(str::trim).find(|line| !line.is_empty()))
}

const fn execution(state: RunState) -> &'static str {
    match state {
        RunState::Accepted => "queued",
        RunState::Running => "running",
        RunState::Yielded => "waiting",
        RunState::Ended(_) => "finished",
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
