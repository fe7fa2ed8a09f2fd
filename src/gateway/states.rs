//! How a run's end is called on the wire: the one table that turns the seven terminal states into the protocol's words.

use offshoot_actors::ports::RunState;
use offshoot_actors::types::{Outcome, Terminal};

/// What clients are told of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The phase of the last `agent` event of the stream `lifecycle`.
    pub(crate) phase: &'static str,
    /// The state of the last `chat` event.
    pub(crate) chat: &'static str,
    /// The status that `agent` and `agent.wait` answer.
    pub(crate) wait: &'static str,
    /// The status of the session's row.
    pub(crate) session: &'static str,
    /// The status of a task.
    pub(crate) task: &'static str,
    /// The status of a result on its way to a parent.
    pub(crate) announce: &'static str,
    /// The kind of error that a `chat` event names.
    pub(crate) error_kind: Option<&'static str>,
}

/// A partial result is a result: why there is no more of it stands beside it.
const DONE: Ending = Ending {
    phase: "end",
    chat: "final",
    wait: "ok",
    session: "done",
    task: "completed",
    announce: "ok",
    error_kind: None,
};
const LATE: Ending = Ending {
    phase: "error",
    chat: "error",
    wait: "timeout",
    session: "timeout",
    task: "timed_out",
    announce: "timeout",
    error_kind: Some("timeout"),
};
const STOPPED: Ending = Ending {
    phase: "end",
    chat: "aborted",
    wait: "error",
    session: "killed",
    task: "cancelled",
    announce: "error",
    error_kind: None,
};
const FAILED: Ending = Ending {
    phase: "error",
    chat: "error",
    wait: "error",
    session: "failed",
    task: "failed",
    announce: "error",
    error_kind: Some("unknown"),
};

impl Ending {
    pub(crate) const fn of(state: Terminal) -> Self {
        match state {
            Terminal::Ok | Terminal::Partial => DONE,
            Terminal::Timeout => LATE,
            Terminal::Cancelled => STOPPED,
            Terminal::Error | Terminal::Crashed | Terminal::Interrupted => FAILED,
        }
    }

    /// Whether the run did what it was asked for.
    pub(crate) const fn is_ok(self) -> bool {
        matches!(self.wait.as_bytes(), b"ok")
    }
}

/// The status of a session whose latest run is in this state.
pub(crate) const fn session_status(state: RunState) -> &'static str {
    match state {
        RunState::Accepted | RunState::Running | RunState::Yielded => "running",
        RunState::Ended(state) => Ending::of(state).session,
    }
}

/// The status of a task whose run is in this state.
pub(crate) const fn task_status(state: RunState) -> &'static str {
    match state {
        RunState::Accepted => "queued",
        RunState::Running | RunState::Yielded => "running",
        RunState::Ended(state) => Ending::of(state).task,
    }
}

/// The reason in words, where there is one to tell.
pub(crate) fn reason(outcome: &Outcome) -> Option<String> {
    match (outcome.state, &outcome.reason) {
        (Terminal::Ok, _) => None,
        (state, Some(reason)) => Some(format!("{state}: {reason}")),
        (state, None) => Some(state.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_end_is_told_in_the_words_of_each_place() {
        let words = Terminal::ALL.map(|state| {
            let Ending { phase, chat, wait, session, task, announce, .. } = Ending::of(state);
            format!("{state} {phase} {chat} {wait} {session} {task} {announce}")
        });
        assert_eq!(
            words,
            [
                "ok end final ok done completed ok",
                "partial end final ok done completed ok",
                "timeout error error timeout timeout timed_out timeout",
                "cancelled end aborted error killed cancelled error",
                "error error error error failed failed error",
                "crashed error error error failed failed error",
                "interrupted error error error failed failed error",
            ]
        );
    }

    #[test]
    fn success_and_lateness_are_the_same_everywhere() {
        for state in Terminal::ALL {
            let Ending { chat, wait, session, task, announce, .. } = Ending::of(state);
            let good = Ending::of(state).is_ok();
            assert_eq!(good, matches!(state, Terminal::Ok | Terminal::Partial));
            for (word, done) in
                [(chat, "final"), (wait, "ok"), (session, "done"), (task, "completed"), (announce, "ok")]
            {
                assert_eq!(word == done, good, "{state} {word}");
            }
            let late = state == Terminal::Timeout;
            for (word, timeout) in
                [(wait, "timeout"), (session, "timeout"), (task, "timed_out"), (announce, "timeout")]
            {
                assert_eq!(word == timeout, late, "{state} {word}");
            }
        }
    }

    #[test]
    fn an_open_run_has_none_of_the_words_for_an_end() {
        let ends: BTreeSet<_> = Terminal::ALL
            .iter()
            .flat_map(|state| [Ending::of(*state).session, Ending::of(*state).task])
            .collect();
        for state in [RunState::Accepted, RunState::Running, RunState::Yielded] {
            assert!(!ends.contains(session_status(state)) && !ends.contains(task_status(state)));
            assert!(state.is_open());
        }
        for state in Terminal::ALL {
            let ended = RunState::Ended(state);
            assert!(ends.contains(session_status(ended)) && ends.contains(task_status(ended)));
        }
    }

    #[test]
    fn only_what_is_not_the_answer_has_a_reason() {
        assert_eq!(reason(&Outcome::ok("x")), None);
        let outcome = Outcome::ended(Terminal::Error, "rate limit", None);
        assert_eq!(reason(&outcome).as_deref(), Some("error: rate limit"));
    }
}
