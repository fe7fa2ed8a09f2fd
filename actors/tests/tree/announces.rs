//! A child's result reaches its parent once, between two steps, whatever the parent does meanwhile.

use offshoot_actors::Steered;
use offshoot_actors::ports::{Answer, Cause, Event, QuietFilter, Storage};
use offshoot_actors::types::{Cleanup, Entry, Origin, PromptRequest, Terminal, Timestamp};

use crate::rig::{Call, brief, call, items, main_key, setup};

async fn script(call_: Call) -> Result<Answer, offshoot_actors::ports::ModelError> {
    let task = call_.task();
    if let Some(ms) = task.strip_prefix("child ") {
        call_.sleep(ms.parse().unwrap()).await;
        return Ok(Answer::text(task));
    }
    Ok(match (&*task, call_.request.step) {
        ("busy", 1) => Answer::tools(vec![
            call("1", "spawn", "child 100"),
            call("2", "spawn", "child 200"),
            call("3", "wait", "5000"),
        ]),
        ("leave", 1) => Answer::tools(vec![call("1", "spawn", "child 100000")]),
        _ => Answer::text(format!("got {}", call_.news().join(","))),
    })
}

#[tokio::test(start_paused = true)]
async fn an_idle_parent_runs_on_it() {
    let rig = setup().start(script).await;
    rig.spawn("child 10").await;
    rig.quiet().await;
    let runs = rig.runs_of(&main_key());
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0].cause, runs[0].outcome.clone().unwrap().text.unwrap()),
        (Cause::Announce, "got ok:child 10".into())
    );
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_parent_takes_all_of_them_at_its_next_step() {
    let rig = setup().start(script).await;
    let outcome = rig.answer("busy").await;
    assert_eq!(outcome.text.as_deref(), Some("got ok:child 100,ok:child 200"));
    rig.quiet().await;
    assert_eq!(rig.runs_of(&main_key()).len(), 1);
    let taken = rig.events.count(|event| matches!(event, Event::Announced { runs, .. } if runs.len() == 2));
    assert_eq!(taken, 1);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn results_that_come_while_a_parent_gives_its_last_answer_are_taken_in_one_turn() {
    let rig = setup()
        .start(|call: Call| async move {
            if call.task() == "slow" {
                call.sleep(5_000).await;
                return Ok(Answer::text("slow"));
            }
            script(call).await
        })
        .await;
    let run = rig.say("slow").await;
    rig.spawn("child 100").await;
    rig.spawn("child 200").await;
    rig.spawn("child 300").await;
    rig.quiet().await;
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("slow"));
    let texts: Vec<_> = rig.runs_of(&main_key()).into_iter().filter_map(|run| run.outcome?.text).collect();
    assert_eq!(texts, ["slow", "got ok:child 100,ok:child 200,ok:child 300"]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_parent_whose_turn_ended_long_ago_runs_on_it() {
    let rig = setup().start(script).await;
    assert_eq!(rig.answer("leave").await.state, Terminal::Ok);
    rig.sleep(60_000).await;
    rig.quiet().await;
    let texts: Vec<_> = rig.runs_of(&main_key()).into_iter().filter_map(|run| run.outcome?.text).collect();
    assert_eq!(texts, ["got ", "got ok:child 100000"]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_sleeps_is_woken_by_it() {
    let rig = setup().with(|settings| settings.sleep_after = std::time::Duration::ZERO).start(script).await;
    for round in 1..=20 {
        rig.spawn("child 1000").await;
        rig.quiet().await;
        rig.until("the tree sleeps", |rig| rig.live("session").is_empty()).await;
        assert_eq!(items(&rig.transcript(&main_key())).len(), round);
        assert!(rig.storage.all_runs().iter().all(|run| run.outcome.as_ref().unwrap().state == Terminal::Ok));
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn results_wake_sleeping_parents_on_many_threads() {
    let rig = setup()
        .with(|settings| {
            settings.sleep_after = std::time::Duration::ZERO;
            settings.subagents.max_children = 100;
        })
        .start(|call: Call| async move {
            let task = call.task();
            Ok(Answer::text(if task.is_empty() { "NO_REPLY".to_owned() } else { task }))
        })
        .await;
    for round in 0..300 {
        for _ in 0..round % 4 + 1 {
            rig.spawn("work").await;
        }
        if round % 3 == 0 {
            rig.quiet().await;
        } else {
            tokio::task::yield_now().await;
        }
        if round % 10 == 9 {
            rig.quiet().await;
        }
    }
    rig.quiet().await;
    for run in rig.storage.all_runs() {
        assert_eq!(
            run.outcome.clone().map(|outcome| (outcome.state, outcome.reason)),
            Some((Terminal::Ok, None)),
            "{run:?}"
        );
    }
    rig.check().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn silent_children_start_no_run() {
    let rig = setup()
        .start(|call: Call| async move {
            call.sleep(10).await;
            Ok(Answer::text(call.task()))
        })
        .await;
    for task in ["ANNOUNCE_SKIP", "NO_REPLY", "no_reply", "quiet|something"] {
        rig.spawn(task).await;
    }
    rig.quiet().await;
    assert!(rig.runs_of(&main_key()).is_empty());
    assert!(rig.transcript(&main_key()).is_empty());
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_fails_silently_is_told_of_all_the_same() {
    let rig = setup()
        .start(|call: Call| async move {
            assert_ne!(call.task(), "fail", "on purpose");
            call.sink.text("NO_REPLY");
            call.sleep(1_000_000).await;
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    rig.spawn("fail").await;
    rig.spawn("timeout=100|late").await;
    rig.quiet().await;
    let states: Vec<_> = items(&rig.transcript(&main_key())).iter().map(|item| item.state).collect();
    assert_eq!(states, [Terminal::Crashed, Terminal::Timeout]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_result_of_a_megabyte_is_stored_whole() {
    let rig = setup()
        .start(|call: Call| async move {
            Ok(Answer::text(if call.task() == "big" { "x".repeat(1 << 20) } else { "NO_REPLY".to_owned() }))
        })
        .await;
    let child = rig.spawn("big").await;
    rig.quiet().await;
    assert_eq!(rig.outcome(child.run).await.text.unwrap().len(), 1 << 20);
    let results = items(&rig.transcript(&main_key()));
    assert_eq!(results[0].text.as_ref().unwrap().len(), 1 << 20);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn cleanup_deletes_the_child_once_its_result_is_taken() {
    let rig = setup().start(script).await;
    for arguments in ["delete|child 10", "delete,quiet|child 10", "delete|child 20"] {
        let child = rig.spawn(arguments).await;
        rig.quiet().await;
        assert!(!rig.storage.transcripts().contains_key(&child.session), "{arguments}");
        assert_eq!(rig.row(child.run).outcome.unwrap().state, Terminal::Ok);
    }
    assert_eq!(rig.storage.deleted_sessions().len(), 3);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_exported_first_is_left_to_whoever_does_that() {
    let rig = setup().with(|settings| settings.retention.export_deleted = true).start(script).await;
    for arguments in ["delete|child 10", "delete,quiet|child 10"] {
        let child = rig.spawn(arguments).await;
        rig.quiet().await;
        let written = Timestamp(i64::MIN)..=Timestamp(i64::MAX);
        let filter = QuietFilter { written, after: None, cleanup: Cleanup::Delete };
        let due = rig.storage.quiet_sessions(filter, 9).await.unwrap();
        assert!(due.iter().any(|session| session.row.key == child.session), "{arguments}");
    }
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn cleanup_waits_for_open_descendants() {
    let rig = setup()
        .start(|call_: Call| async move {
            Ok(match (&*call_.task(), call_.request.step) {
                ("middle", 1) => Answer::tools(vec![call("1", "spawn", "delete|leaf")]),
                ("leaf", _) => {
                    call_.sleep(5_000).await;
                    Answer::text("from the leaf")
                }
                _ => Answer::text(format!("{:?}", call_.news())),
            })
        })
        .await;
    let child = rig.spawn("delete|middle").await;
    rig.until("the first result is taken", |rig| !items(&rig.transcript(&main_key())).is_empty()).await;
    assert!(rig.storage.transcripts().contains_key(&child.session), "it has an open descendant");
    rig.quiet().await;
    let results: Vec<_> = items(&rig.transcript(&main_key())).iter().map(brief).collect();
    assert_eq!(results, ["ok:[]", "ok:[\"ok:from the leaf\"]"]);
    assert!(!rig.storage.transcripts().contains_key(&child.session));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_parent_in_a_lane_takes_what_comes_meanwhile() {
    let rig = setup()
        .with(|settings| settings.lanes.main = 1)
        .start(|call: Call| async move {
            if call.task() == "slow" {
                call.sleep(5_000).await;
            }
            script(call).await
        })
        .await;
    rig.say_to("agent:main:other".parse().unwrap(), "slow").await;
    rig.sleep(10).await;
    let run = rig.say("hello").await;
    rig.spawn("child 10").await;
    rig.spawn("child 20").await;
    rig.quiet().await;
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("got ok:child 10,ok:child 20"));
    let kinds: Vec<_> = rig
        .transcript(&main_key())
        .iter()
        .map(|entry| matches!(entry.entry, Entry::Announce { .. }))
        .collect();
    assert_eq!(kinds, [true, false, false]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_parent_sends_to_a_child_at_rest_is_answered_to_it_and_waited_for() {
    let rig = setup()
        .start(|call_: Call| async move {
            Ok(match (&*call_.task(), call_.request.step) {
                ("ask", 1) => Answer::tools(vec![call("1", "wait", "1000"), call("2", "yield", "")]),
                ("ask" | "", _) => Answer::text(format!("got {}", call_.news().join(","))),
                (task, _) => {
                    call_.sleep(5_000).await;
                    Answer::text(format!("did {task}"))
                }
            })
        })
        .await;
    let child = rig.spawn("session,quiet|first").await;
    rig.outcome(child.run).await;
    let asks = rig.say("ask").await;
    rig.until("it waits for its tool", |rig| rig.row(asks).steps == 1).await;
    let origin = Origin::Agent { session: main_key(), run: asks };
    let steered = rig.handle.steer(child.session.clone(), "second".to_owned(), origin.clone()).await.unwrap();
    assert!(matches!(steered, Steered::Started(_)), "{steered:?}");
    assert_eq!(rig.outcome(asks).await.text.as_deref(), Some("got ok:did second"));
    // By way of the operator it is nobody's business.
    let run = rig.say_to(child.session.clone(), "third").await;
    rig.outcome(run).await;
    rig.quiet().await;
    let sent = rig.handle.submit(PromptRequest::new(child.session, "fourth"), origin).await.unwrap();
    rig.outcome(sent.run).await;
    rig.quiet().await;
    let results: Vec<_> = items(&rig.transcript(&main_key())).iter().map(brief).collect();
    assert_eq!(results, ["ok:did second", "ok:did fourth"]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_parent_sends_to_a_run_that_ends_without_it_is_answered_to_it() {
    let rig = setup()
        .start(|call: Call| async move {
            if call.task() == "hang" {
                call.sleep(100_000).await;
            }
            Ok(Answer::text(format!("did {}", call.task())))
        })
        .await;
    let parent = rig.say("hello").await;
    let child = rig.spawn("session,quiet|hang").await;
    rig.sleep(10).await;
    let origin = Origin::Agent { session: main_key(), run: parent };
    let steered = rig.handle.steer(child.session, "more".to_owned(), origin).await.unwrap();
    assert_eq!(steered, Steered::Queued(child.run));
    rig.handle.cancel(child.run, Origin::Operator).await.unwrap();
    rig.quiet().await;
    let results: Vec<_> = items(&rig.transcript(&main_key())).iter().map(brief).collect();
    assert_eq!(results, ["ok:did more"]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn cleanup_of_a_child_is_made_up_for_when_its_last_descendant_goes() {
    let rig = setup()
        .start(|call_: Call| async move {
            Ok(match (&*call_.task(), call_.request.step) {
                ("middle", 1) => Answer::tools(vec![call("1", "spawn", "delete,quiet|leaf")]),
                ("leaf", _) => {
                    call_.sleep(5_000).await;
                    Answer::text("done")
                }
                _ => Answer::text("middle"),
            })
        })
        .await;
    let child = rig.spawn("delete|middle").await;
    rig.until("its result is taken", |rig| !items(&rig.transcript(&main_key())).is_empty()).await;
    assert!(rig.storage.transcripts().contains_key(&child.session), "it has an open descendant");
    rig.quiet().await;
    assert_eq!(rig.storage.deleted_sessions().len(), 2);
    rig.finish().await;
}
