//! Tool calls of one step.

use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{Answer, Event, Host, Op};
use offshoot_actors::types::{Entry, Origin, Settings, Terminal, ToolCall, ToolStatus};

use crate::rig::{Answered, Asked, Call, Rig, Setup, call, main_key, setup};

/// A tree whose main session makes these calls in its first step.
async fn making(calls: Vec<ToolCall>) -> Rig {
    setup()
        .start(move |call: Call| {
            let calls = calls.clone();
            async move {
                Ok(if call.request.step == 1 && call.task() == "go" {
                    Answer::tools(calls)
                } else {
                    Answer::text("done")
                })
            }
        })
        .await
}

fn results(rig: &Rig) -> Vec<(String, String, ToolStatus)> {
    rig.transcript(&main_key())
        .iter()
        .filter_map(|entry| match &entry.entry {
            Entry::ToolResult { call, text, status, .. } => Some((call.to_string(), text.clone(), *status)),
            _ => None,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn those_that_may_run_side_by_side_do_and_the_others_run_alone_in_order() {
    let rig = making(vec![
        call("a", "wait", "300"),
        call("b", "wait", "100"),
        call("c", "alone", "50"),
        call("d", "alone", "10"),
        call("e", "wait", "20"),
        call("f", "wait", "10"),
    ])
    .await;
    let run = rig.say("go").await;
    assert_eq!(rig.outcome(run).await.state, Terminal::Ok);
    assert_eq!(*rig.log.tool_ends.lock().unwrap(), ["b", "a", "c", "d", "f", "e"]);
    let row = rig.row(run);
    assert_eq!((row.ended_at.unwrap() - row.started_at.unwrap()).as_millis(), 300 + 50 + 10 + 20);
    assert!(rig.storage.tool_rows().iter().all(|row| row.finished.is_some()));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_of_an_unknown_tool_is_answered() {
    let rig = making(vec![call("a", "nonsense", ""), call("b", "wait", "1")]).await;
    assert_eq!(rig.answer("go").await.state, Terminal::Ok);
    let results = results(&rig);
    assert_eq!(results.len(), 2);
    assert_eq!(
        results[0],
        (
            "a".into(),
            "tool nonsense is not available here; available: spawn, yield, wait, alone, panic, hang".into(),
            ToolStatus::Error
        )
    );
    let rig_ = making(vec![call("a", "nonsense", "")]).await;
    assert_eq!(rig_.answer("go").await.state, Terminal::Ok);
    rig_.finish().await;
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn more_calls_than_one_step_may_make_are_answered() {
    let calls = (0..200).map(|number| call(&format!("c{number}"), "wait", "1")).collect();
    let rig = making(calls).await;
    assert_eq!(rig.answer("go").await.state, Terminal::Ok);
    let results = results(&rig);
    let refused = results.iter().filter(|result| result.2 == ToolStatus::Error).count();
    assert_eq!((results.len(), refused, rig.log.tools.lock().unwrap().len()), (200, 72, 128));
    let mut beyond = facts([["wait", "c128", "too many calls"]]);
    beyond[0].push(("times", "72".to_owned()));
    assert_eq!(refusals(&rig), beyond);
    rig.finish().await;
}

/// What is on record of refused calls, as name, id and reason.
fn refusals(rig: &Rig) -> Vec<Vec<(&'static str, String)>> {
    let audit = rig.storage.audit().into_iter().filter(|line| line.event == "tool.refused");
    audit.map(|line| line.facts).collect()
}

fn facts<const N: usize>(rows: [[&str; 3]; N]) -> Vec<Vec<(&'static str, String)>> {
    let row = |[tool, call, why]: [&str; 3]| {
        vec![("tool", tool.to_owned()), ("call", call.to_owned()), ("why", why.to_owned())]
    };
    rows.map(row).to_vec()
}

#[tokio::test(start_paused = true)]
async fn each_that_is_refused_is_on_record_with_why() {
    let made_up = "x".repeat(5_000);
    let calls = vec![
        call("a", &made_up, ""),
        call("b", "wait", "1"),
        call("b", "wait", "1"),
        call("c", "alone", "1"),
    ];
    let deny = |settings: &mut Settings| settings.tools.deny = vec!["alone".to_owned()];
    let rig = setup()
        .with(deny)
        .start(move |call: Call| {
            let calls = calls.clone();
            async move {
                Ok(if call.request.step == 1 { Answer::tools(calls) } else { Answer::text("done") })
            }
        })
        .await;
    let run = rig.say("go").await;
    assert_eq!(rig.outcome(run).await.state, Terminal::Ok);
    let wanted =
        [[&*"x".repeat(80), "a", "no such tool"], ["wait", "b_2", "repeated id"], ["alone", "c", "policy"]];
    assert_eq!(refusals(&rig), facts(wanted));
    let audit = rig.storage.audit();
    let line = audit.iter().find(|line| line.event == "tool.refused").unwrap();
    assert_eq!(line.origin, Origin::Agent { session: main_key(), run });
    assert_eq!((line.run, &line.session), (Some(run), &Some(main_key())));
    assert_eq!(audit.iter().filter(|line| line.event == "tool.started").count(), 1);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_a_new_start_refuses_is_on_record_with_its_result_and_once() {
    let script = |made: Call| async move {
        Ok(match made.request.step {
            1 => Answer::tools(vec![call("a", "alone", "1000"), call("b", "wait", "1")]),
            _ => Answer::text("done"),
        })
    };
    let deny = |settings: &mut Settings| settings.tools.deny = vec!["wait".to_owned()];
    let daemon =
        |storage: &Arc<MemoryStorage>, seed| Setup { host: Host::Daemon, ..setup() }.on(storage, seed);
    let told = |rig: &Rig| results(rig).iter().filter(|(call, ..)| call == "b").count();
    let recorded = Arc::new(MemoryStorage::recording());
    let rig = daemon(&recorded, 1).start(script).await;
    let run = rig.say("go").await;
    rig.until("the first one runs", |rig| rig.log.tools.lock().unwrap().len() == 1).await;
    rig.stop().await;
    let rig = daemon(&recorded, 2).with(deny).start(script).await;
    assert_eq!(rig.outcome(run).await.state, Terminal::Ok);
    assert_eq!((refusals(&rig), told(&rig)), (facts([["wait", "b", "policy"]]), 1));
    rig.stop().await;
    for commit in 0..=recorded.commits() {
        let storage = Arc::new(recorded.at_commit(commit).unwrap());
        let rig = daemon(&storage, 1_000 + commit).with(deny).start(script).await;
        rig.quiet().await;
        assert_eq!(refusals(&rig).len(), told(&rig), "after commit {commit}");
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_panics_ends_its_run_only() {
    let rig = making(vec![call("a", "wait", "1"), call("b", "panic", ""), call("c", "wait", "1")]).await;
    let child = rig.spawn("child").await;
    let outcome = rig.answer("go").await;
    assert_eq!(outcome.state, Terminal::Crashed);
    assert_eq!(outcome.reason.as_deref(), Some("the tool panics on purpose"));
    assert_eq!(rig.outcome(child.run).await.state, Terminal::Ok);
    assert_eq!(rig.log.tools.lock().unwrap().len(), 2);
    assert_eq!(rig.answer("hello").await.state, Terminal::Ok);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn each_is_told_of_when_it_starts_and_when_it_is_done() {
    let rig = making(vec![call("a", "wait", "5"), call("b", "alone", "5")]).await;
    rig.answer("go").await;
    let told: Vec<_> = rig
        .events
        .all()
        .into_iter()
        .filter_map(|event| match event {
            Event::ToolStarted { call, .. } => Some(format!("{call} starts")),
            Event::ToolFinished { call, status, .. } => Some(format!("{call} {status:?}")),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["a starts", "a Ok", "b starts", "b Ok"]);
    let audited = rig.storage.audit().iter().filter(|line| line.event == "tool.started").count();
    assert_eq!(audited, 2);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn who_begins_to_listen_while_a_step_is_committed_hears_of_it() {
    let (setup, faulty) = setup().faulty();
    let rig = setup
        .start(|call_: Call| async move {
            Ok(match call_.request.step {
                1 => Answer::tools(vec![call("1", "wait", "1")]),
                _ => Answer::text("done"),
            })
        })
        .await;
    rig.events.listen(false);
    faulty.spoil(|asked| match asked {
        Asked::Submit(transaction) if transaction.iter().any(|op| matches!(op, Op::StartTools { .. })) => {
            Answered::Late(Duration::from_millis(100))
        }
        _ => Answered::Well,
    });
    let run = rig.say("hello").await;
    rig.sleep(50).await;
    rig.events.listen(true);
    rig.outcome(run).await;
    rig.quiet().await;
    let mut told = Vec::new();
    for event in rig.events.all() {
        if let Event::Appended { entries, .. } = event {
            told.extend(entries.iter().map(|entry| entry.seq));
        }
    }
    assert_eq!(told, [1, 2, 3], "nothing is missing from where they began");
    rig.stop().await;
}
