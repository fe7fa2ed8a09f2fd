//! Every example of `docs/rehearsal.md` ends as the page says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offshoot::models::rehearsal::{Action, plan};
use offshoot_actors::ports::ModelErrorKind;
use offshoot_actors::types::{
    AnnounceItem, Entry, Origin, Outcome, RunId, Terminal, Timestamp, ToolCall, ToolStatus, Transcript, Usage,
};
use serde_json::{Value, json};
use uuid::Uuid;

const PAGE: &str = include_str!("../docs/rehearsal.md");

/// The blocks of one kind, in order.
fn blocks(kind: &str) -> Vec<&'static str> {
    let open = format!("```{kind}\n");
    PAGE.split(open.as_str()).skip(1).map(|rest| rest.split_once("\n```").unwrap().0).collect()
}

/// Runs of a tree, one after the other: each child is done by the time its parent yields.
#[derive(Default)]
struct Tree {
    runs: u128,
}

impl Tree {
    fn run(&mut self, prompt: &str) -> Outcome {
        let run = self.next_run();
        let mut transcript = Transcript::default();
        let prompt = Entry::User { text: prompt.to_owned(), origin: Origin::Operator };
        push(&mut transcript, run, prompt);
        let mut waiting = Vec::new();
        for _ in 0..20 {
            let calls = match plan(transcript.entries(), run, true).action {
                Action::Call(calls) => calls,
                Action::Reply { text, .. } => return Outcome::ok(text),
                Action::Fail { reason, .. } => return Outcome::ended(Terminal::Error, reason, None),
                Action::Panic(reason) => return Outcome::ended(Terminal::Crashed, reason, None),
                #[cfg(feature = "faults")]
                Action::Abort => panic!("no example brings the process down"),
            };
            let model = "builtin/rehearsal".parse().unwrap();
            let (text, usage) = (String::new(), Usage::default());
            let entry = Entry::Assistant { text, tool_calls: calls.clone(), model, usage };
            push(&mut transcript, run, entry);
            for call in calls {
                let text = self.tool(&call, &mut waiting);
                let (status, name) = (ToolStatus::Ok, call.name.clone());
                push(&mut transcript, run, Entry::ToolResult { call: call.id, name, text, status });
                if &*call.name == "sessions_yield" {
                    let items = std::mem::take(&mut waiting);
                    push(&mut transcript, run, Entry::Announce { items });
                }
            }
        }
        panic!("no end in sight: {transcript:?}");
    }

    fn tool(&mut self, call: &ToolCall, waiting: &mut Vec<AnnounceItem>) -> String {
        if &*call.name != "sessions_spawn" {
            return json!({"called": &*call.name}).to_string();
        }
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
        let run = self.next_run();
        let Outcome { state, reason, text } = self.run(arguments["task"].as_str().unwrap());
        waiting.push(AnnounceItem {
            run,
            session: format!("agent:main:subagent:{run}").parse().unwrap(),
            label: arguments["label"].as_str().map(str::to_owned),
            state,
            reason,
            text,
            usage: Usage::default(),
            duration_ms: 0,
            steps: 1,
        });
        json!({"status": "accepted", "runId": run}).to_string()
    }

    fn next_run(&mut self) -> RunId {
        self.runs += 1;
        RunId(Uuid::from_u128(self.runs))
    }
}

fn push(transcript: &mut Transcript, run: RunId, entry: Entry) {
    transcript.push(Some(run), Timestamp(0), entry);
}

#[test]
fn every_example_ends_as_the_page_says() {
    let (prompts, answers) = (blocks("prompt"), blocks("answer"));
    assert!(prompts.len() >= 6 && prompts.len() == answers.len());
    for (prompt, answer) in prompts.into_iter().zip(answers) {
        assert_eq!(Tree::default().run(prompt), Outcome::ok(answer), "{prompt}");
    }
}

#[test]
fn every_kind_of_failure_on_the_page_is_one() {
    let table = PAGE.split_once("| kind | as if |").unwrap().1;
    let kinds: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(kinds.len(), 13);
    for kind in kinds {
        let mut transcript = Transcript::default();
        let run = RunId(Uuid::nil());
        let entry = Entry::User { text: format!("Fail: {kind}: why"), origin: Origin::Operator };
        push(&mut transcript, run, entry);
        match plan(transcript.entries(), run, true).action {
            Action::Fail { kind: found, reason } => {
                assert_eq!((found.as_str(), reason.as_str()), (kind, "why"));
                assert_eq!(kind == "failed", found == ModelErrorKind::Failed);
            }
            other => panic!("{kind}: {other:?}"),
        }
    }
}
