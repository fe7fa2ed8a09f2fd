use offshoot_actors::types::{Origin, Timestamp, Transcript, Usage};
use serde_json::json;
use uuid::Uuid;

use super::*;

fn run(n: u8) -> RunId {
    RunId(Uuid::from_bytes([n; 16]))
}

/// A run of the session, written entry by entry.
struct Journal(Transcript);

impl Journal {
    fn new(prompt: &str) -> Self {
        let mut journal = Self(Transcript::default());
        journal.user(prompt);
        journal
    }

    fn push(&mut self, entry: Entry) {
        self.0.push(Some(run(1)), Timestamp(0), entry);
    }

    fn user(&mut self, text: &str) {
        self.push(Entry::User { text: text.into(), origin: Origin::Operator });
    }

    fn assistant(&mut self, text: &str, tool_calls: Vec<ToolCall>) {
        let model = "builtin/rehearsal".parse().unwrap();
        self.push(Entry::Assistant { text: text.into(), tool_calls, model, usage: Usage::default() });
    }

    fn plan(&self) -> Plan {
        plan(self.0.entries(), run(1), true)
    }

    /// Makes the planned calls and gives them these results.
    fn calls(&mut self, results: &[&str]) -> Vec<String> {
        let Action::Call(calls) = self.plan().action else { panic!("{:?}", self.plan()) };
        assert_eq!(calls.len(), results.len(), "{calls:?}");
        self.assistant("", calls.clone());
        for (call, text) in calls.iter().zip(results) {
            self.push(Entry::ToolResult {
                call: Arc::clone(&call.id),
                name: Arc::clone(&call.name),
                text: (*text).into(),
                status: ToolStatus::Ok,
            });
        }
        calls.iter().map(|call| format!("{} {}", call.name, call.arguments)).collect()
    }

    fn announce(&mut self, items: Vec<AnnounceItem>) {
        self.push(Entry::Announce { items });
    }

    fn reply(&self) -> String {
        match self.plan().action {
            Action::Reply { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }
}

fn accepted(child: u8) -> String {
    json!({"status": "accepted", "runId": run(child), "childSessionKey": "agent:main:subagent:x"}).to_string()
}

fn item(child: u8, state: Terminal, reason: Option<&str>, text: Option<&str>) -> AnnounceItem {
    AnnounceItem {
        run: run(child),
        session: format!("agent:main:subagent:{child}").parse().unwrap(),
        label: (child == 3).then(|| "third".to_owned()),
        state,
        reason: reason.map(str::to_owned),
        text: text.map(str::to_owned),
        usage: Usage::default(),
        duration_ms: 1,
        steps: 1,
    }
}

#[test]
fn a_plain_prompt_is_told_what_this_is() {
    assert_eq!(Journal::new("What is the weather?").reply(), PLAIN_ANSWER);
    assert!(PLAIN_ANSWER.contains("models.providers") && PLAIN_ANSWER.contains("agents.defaults.model"));
}

#[test]
fn calls_that_stand_together_are_one_step_and_waits_stand_between() {
    let mut journal =
        Journal::new("Call: a {}\nsome words\nCall: b\nWait: 1s\nWait: 2s\nCall: c 1\nWait: 4s");
    assert_eq!(journal.plan().wait, Duration::ZERO);
    assert_eq!(journal.calls(&["A", "B"]), ["a {}", "b {}"]);
    assert_eq!(journal.plan().wait, Duration::from_secs(3));
    assert_eq!(journal.calls(&["C"]), ["c 1"]);
    assert_eq!(journal.plan().wait, Duration::from_secs(4));
    assert_eq!(journal.reply(), "C");
}

#[test]
fn a_parent_yields_once_and_replies_what_its_children_said() {
    let mut journal = Journal::new("Spawn: {\"task\":\"x\"}\nSpawn: {}\nSpawn: {}");
    assert_eq!(
        journal.calls(&[&accepted(2), &accepted(3), &accepted(4)]),
        ["sessions_spawn {\"task\":\"x\"}", "sessions_spawn {}", "sessions_spawn {}"]
    );
    assert_eq!(journal.calls(&["waiting"]), ["sessions_yield {}"]);
    assert_eq!(journal.reply(), [accepted(2), accepted(3), accepted(4)].join("\n"));
    journal.announce(vec![
        item(2, Terminal::Ok, None, Some("TWO")),
        item(3, Terminal::Error, Some("no luck"), Some("half")),
        item(4, Terminal::Cancelled, None, None),
    ]);
    assert_eq!(journal.reply(), "TWO\nthird: error: no luck\nagent:main:subagent:4: cancelled");
}

#[test]
fn nobody_waits_for_children_that_are_done_or_without_the_tool_for_it() {
    let mut journal = Journal::new("Spawn: {}\nReply with exactly: DONE");
    journal.calls(&[&accepted(2)]);
    assert_eq!(
        plan(journal.0.entries(), run(1), false).action,
        Action::Reply { text: "DONE".into(), pieces: 1 }
    );
    journal.announce(vec![item(2, Terminal::Ok, None, Some("TWO"))]);
    assert_eq!(journal.reply(), "DONE");

    let mut journal = Journal::new("Spawn: {}");
    let silent =
        json!({"status": "accepted", "runId": run(2), "expectsCompletionMessage": false}).to_string();
    journal.calls(&[&silent]);
    assert_eq!(journal.reply(), silent);
}

#[test]
fn a_refusal_is_in_the_reply_with_what_changes_it() {
    let mut journal = Journal::new("Call: sessions_list {}\nSpawn: {}\nSpawn: {}\nSpawn: {}");
    let refused =
        json!({"status": "forbidden", "error": "not allowed", "hint": "set allowAgents"}).to_string();
    journal.calls(&["[]", &refused, &accepted(2), "{\"status\":\"error\",\"error\":\"no task\"}"]);
    journal.calls(&["waiting"]);
    journal.announce(vec![item(2, Terminal::Ok, None, Some("TWO"))]);
    assert_eq!(journal.reply(), "not allowed (set allowAgents)\nno task\nTWO");
}

#[test]
fn a_run_for_results_of_children_says_them_and_nothing_else() {
    let mut journal = Journal(Transcript::default());
    journal.0.push(
        Some(run(9)),
        Timestamp(0),
        Entry::User { text: "Panic: old".into(), origin: Origin::Operator },
    );
    journal.announce(vec![item(2, Terminal::Ok, None, Some("Fail: this is data\nSpawn: {}"))]);
    journal.announce(vec![item(3, Terminal::Crashed, Some("boom"), None)]);
    assert_eq!(journal.reply(), "Fail: this is data\nSpawn: {}\nthird: crashed: boom");
}

#[test]
fn steering_adds_directives_to_those_that_are_done() {
    let mut journal = Journal::new("Call: a {}\nReply with exactly: ONE");
    journal.calls(&["Panic: a result is data"]);
    journal.user("Call: b {}\nReply with exactly: TWO");
    assert_eq!(journal.calls(&["B"]), ["b {}"]);
    assert_eq!(journal.reply(), "TWO");
    journal.assistant("TWO", vec![]);
    journal.user("Wait: 5ms");
    assert_eq!(journal.plan().wait, Duration::from_millis(5));
}

#[test]
fn a_message_to_a_yielded_run_makes_it_wait_again() {
    let mut journal = Journal::new("Spawn: {}");
    journal.calls(&[&accepted(2)]);
    journal.calls(&["waiting"]);
    journal.user("hurry");
    assert_eq!(journal.calls(&["waiting"]), ["sessions_yield {}"]);
    assert_eq!(journal.reply(), accepted(2));
}

#[test]
fn failures_and_panics_come_in_their_turn() {
    let mut journal = Journal::new("Wait: 1s\nCall: a {}\nFail: overloaded: busy\nPanic: boom");
    assert_eq!(journal.plan().wait, Duration::from_secs(1));
    journal.calls(&["A"]);
    let fail = Action::Fail { kind: ModelErrorKind::Overloaded, reason: "busy".into() };
    assert_eq!(journal.plan(), Plan { wait: Duration::ZERO, action: fail });
    assert_eq!(Journal::new("Panic: boom").plan().action, Action::Panic("boom".into()));
}

#[test]
fn an_answer_of_another_model_says_nothing_about_the_directives() {
    let mut journal = Journal::new("Call: a {}");
    journal.assistant("", vec![ToolCall { id: "call_7".into(), name: "b".into(), arguments: "{}".into() }]);
    assert_eq!(journal.calls(&["A"]), ["a {}"]);
}
