//! What is shown of a task.

use offshoot_actors::LiveRun;
use offshoot_actors::ports::{RunRow, SessionRow};
use serde_json::{Map, Value, json};

use crate::gateway::runs::wire_name;
use crate::gateway::tasks::{Task, title};

/// The summary of a sub-agent's run. `task` is what it was asked; `live` is the run if it works now.
pub(super) fn summary(
    row: &RunRow,
    session: Option<&SessionRow>,
    task: Option<&str>,
    live: Option<&LiveRun>,
) -> Map<String, Value> {
    let name = wire_name(row);
    let mut out = Task {
        run: row.id,
        name: &name,
        session: &row.session,
        owner: row.announce_to.as_ref(),
        expects_completion: row.expects_completion,
        title: title(session.and_then(|session| session.label.as_deref()), task),
        state: row.state,
        outcome: row.outcome.as_ref(),
        accepted_at: row.accepted_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        stored: session.is_some(),
    }
    .summary();
    if let Some(spawner) = row.spawner {
        out.insert("parentTaskId".to_owned(), json!(spawner));
    }
    if let Some(tool) = live.and_then(|live| live.tools.last()) {
        out["execution"]["currentTool"] = json!(tool);
        out.insert("lastToolName".to_owned(), json!(tool));
    }
    out
}

#[cfg(test)]
mod tests {
    use offshoot_actors::contract::{child, child_run, key, session};
    use offshoot_actors::ports::RunState;
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
