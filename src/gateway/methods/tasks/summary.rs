//! What is shown of a task.

use offshoot_actors::LiveRun;
use offshoot_actors::ports::{RunRow, RunState, SessionRow};
use serde_json::{Map, Value, json};

use crate::gateway::runs::wire_name;
use crate::gateway::states::{Ending, reason, task_status};

/// Characters of a title, of an error, and of a result in a summary.
const MAX_TITLE: usize = 120;
const MAX_ERROR: usize = 1_000;
const MAX_SUMMARY: usize = 400;

/// The summary of a sub-agent's run. `task` is what it was asked; `live` is the run if it works now.
pub(super) fn summary(
    row: &RunRow,
    session: Option<&SessionRow>,
    task: Option<&str>,
    live: Option<&LiveRun>,
) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            out.insert(name.to_owned(), value);
        }
    };
    let first_line = task.and_then(|task| task.lines().map(str::trim).find(|line| !line.is_empty()));
    let label = session.and_then(|session| session.label.as_deref());
    let updated = row.ended_at.or(row.started_at).unwrap_or(row.accepted_at);
    put("id", json!(row.id));
    put("taskId", json!(row.id));
    put("runId", json!(wire_name(row)));
    put("status", json!(task_status(row.state)));
    put("kind", json!("subagent"));
    put("runtime", json!("subagent"));
    put(
        "title",
        json!(label.or(first_line).map_or_else(|| row.session.to_string(), |text| cut(text, MAX_TITLE))),
    );
    put("agentId", json!(row.session.agent()));
    put("sessionKey", json!(row.announce_to));
    put("ownerKey", json!(row.announce_to));
    put("childSessionKey", json!(row.session));
    put("hasTranscript", json!(session.is_some()));
    put("parentTaskId", json!(row.spawner));
    put("createdAt", json!(row.accepted_at.0));
    put("updatedAt", json!(updated.0));
    put("startedAt", json!(row.started_at.map(|at| at.0)));
    put("endedAt", json!(row.ended_at.map(|at| at.0)));
    let current = live.and_then(|live| live.tools.last());
    let mut execution = json!({ "state": execution(row.state) });
    if let Some(tool) = current {
        execution["currentTool"] = json!(tool);
    }
    put("execution", execution);
    put("lastToolName", json!(current));
    if !row.expects_completion {
        put("deliveryStatus", json!("not_applicable"));
    }
    if let (RunState::Ended(state), Some(outcome)) = (row.state, &row.outcome) {
        if Ending::of(state).is_ok() {
            put("terminalOutcome", json!("succeeded"));
            put("terminalSummary", json!(outcome.text.as_deref().map(|text| cut(text, MAX_SUMMARY))));
        } else {
            put("error", json!(reason(outcome).map(|reason| cut(&reason, MAX_ERROR))));
        }
    }
    out
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

#[cfg(test)]
mod tests {
    use offshoot_actors::contract::{child, child_run, key, session};
    use offshoot_actors::types::{Outcome, Terminal, Timestamp};

    use super::*;

    fn run(state: RunState) -> RunRow {
        let ended = !state.is_open();
        let outcome = match state {
            RunState::Ended(state) => Some(Outcome { state, reason: None, text: Some("text".to_owned()) }),
            _ => None,
        };
        let row = child_run(1, &key("subagent:1"), &key("main"), None);
        RunRow { state, outcome, ended_at: ended.then_some(Timestamp(3_000)), wire_id: None, ..row }
    }

    #[test]
    fn every_state_of_a_run_has_its_words() {
        for (state, status, execution) in [
            (RunState::Accepted, "queued", "queued"),
            (RunState::Running, "running", "running"),
            (RunState::Yielded, "running", "waiting"),
            (RunState::Ended(Terminal::Timeout), "timed_out", "finished"),
        ] {
            let task = summary(&run(state), None, None, None);
            assert_eq!((&task["status"], &task["execution"]["state"]), (&json!(status), &json!(execution)));
        }
    }

    #[test]
    fn a_task_is_called_by_its_label_or_else_by_what_was_asked() {
        let labelled = child("subagent:1", &session("main"));
        let bare = SessionRow { label: None, ..labelled.clone() };
        let title = |session, task| summary(&run(RunState::Running), session, task, None)["title"].clone();
        assert_eq!(title(Some(&labelled), Some("do it")), "label of subagent:1");
        assert_eq!(title(Some(&bare), Some("\n  do it\nwell")), "do it");
        assert_eq!(title(None, None), "agent:main:subagent:1");
    }

    #[test]
    fn a_good_end_has_a_summary_and_any_other_an_error() {
        let good = summary(&run(RunState::Ended(Terminal::Ok)), None, None, None);
        assert_eq!(
            (&good["terminalOutcome"], &good["terminalSummary"]),
            (&json!("succeeded"), &json!("text"))
        );
        assert!(good.get("error").is_none());
        let crashed = summary(&run(RunState::Ended(Terminal::Crashed)), None, None, None);
        assert_eq!(crashed["error"], "crashed");
        assert!(crashed.get("terminalOutcome").is_none());
    }
}
