//! Cancel and stop, at every point of a run's life.

use std::sync::{Arc, Mutex};

use offshoot_actors::Stopped;
use offshoot_actors::ports::{Answer, Cause, Event, ModelSink, RunState};
use offshoot_actors::types::{Entry, Origin, PromptRequest, Terminal};

use crate::rig::{Call, Rig, call, items, main_key, request, setup, soon};

async fn script(call_: Call) -> Result<Answer, offshoot_actors::ports::ModelError> {
    let task = call_.task();
    Ok(match (&*task, call_.request.step) {
        ("hang", _) => {
            call_.sink.text("so far");
            call_.sleep(1_000_000).await;
            Answer::text("late")
        }
        ("tool", 1) => Answer::tools(vec![call("1", "hang", ""), call("2", "wait", "1")]),
        ("wait", 1) => Answer::tools(vec![
            call("1", "spawn", "hang"),
            call("2", "spawn", "tool"),
            call("3", "yield", ""),
        ]),
        ("deep", 1) => Answer::tools(vec![
            call("1", "spawn", "wait"),
            call("2", "spawn", "session|quick"),
            call("3", "yield", ""),
        ]),
        ("keep", 1) => Answer::tools(vec![call("1", "spawn", "leaves")]),
        ("leaves", 1) => Answer::tools(vec![call("1", "spawn", "hang")]),
        ("follow", 1) => Answer::tools(vec![call("1", "spawn", "starts")]),
        ("starts", 1) => Answer::tools(vec![call("1", "spawn", "slow")]),
        ("slow", _) => {
            call_.sleep(1_000).await;
            Answer::text("slow")
        }
        ("keep" | "follow", _) => {
            call_.sleep(1_000_000).await;
            Answer::text("late")
        }
        _ if call_.request.session.is_subagent() && !call_.news().is_empty() => {
            call_.sleep(1_000_000).await;
            Answer::text("late")
        }
        _ => Answer::text(format!("answer to {task}")),
    })
}

async fn cancel(rig: &Rig, run: offshoot_actors::types::RunId) -> Stopped {
    soon("a cancel", rig.handle.cancel(run, Origin::Operator)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_run_in_a_model_call() {
    let rig = setup().start(script).await;
    let run = rig.say("hang").await;
    rig.sleep(10).await;
    assert_eq!(cancel(&rig, run).await, Stopped { ended: vec![run], already: None });
    assert_eq!(rig.log.in_flight(), 0);
    let outcome = rig.outcome(run).await;
    assert_eq!((outcome.state, outcome.text.as_deref()), (Terminal::Cancelled, Some("so far")));
    let again = cancel(&rig, run).await;
    assert_eq!((again.ended, again.already.unwrap().state), (vec![], Terminal::Cancelled));
    assert_eq!(rig.answer("hello").await.text.as_deref(), Some("answer to hello"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn text_of_a_call_that_was_aborted_is_not_told_after_the_end() {
    let kept: Arc<Mutex<Option<Arc<dyn ModelSink>>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let rig = setup()
        .start(move |call: Call| {
            *keep.lock().unwrap() = Some(Arc::clone(&call.sink));
            async move { std::future::pending().await }
        })
        .await;
    let run = rig.say("hello").await;
    rig.until("it is called", |rig| rig.log.in_flight() == 1).await;
    let sink = kept.lock().unwrap().take().unwrap();
    sink.text("in time");
    cancel(&rig, run).await;
    // As from another thread, which is in the middle of it.
    sink.text("too late");
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("in time"));
    let texts = rig.events.count(|event| matches!(event, Event::Text { .. }));
    assert_eq!(texts, 1);
    rig.quiet().await;
    rig.check().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_in_its_session_and_one_that_waits_in_its_lane() {
    let rig = setup().with(|settings| settings.lanes.main = 1).start(script).await;
    let running = rig.say_to("agent:main:other".parse().unwrap(), "hang").await;
    rig.sleep(10).await;
    let in_lane = rig.say("hang").await;
    let in_session = rig.say("hang").await;
    for run in [in_session, in_lane] {
        assert_eq!(cancel(&rig, run).await, Stopped { ended: vec![run], already: None });
        assert_eq!(rig.row(run).started_at, None);
    }
    cancel(&rig, running).await;
    assert_eq!(rig.log.count(), 1);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_in_a_tool() {
    let rig = setup().start(script).await;
    let run = rig.say("tool").await;
    rig.sleep(10).await;
    cancel(&rig, run).await;
    assert_eq!(rig.outcome(run).await.state, Terminal::Cancelled);
    assert_eq!(rig.answer("hello").await.text.as_deref(), Some("answer to hello"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_children() {
    let rig = setup().start(script).await;
    let run = rig.say("wait").await;
    rig.until("it waits", |rig| rig.row(run).state == RunState::Yielded).await;
    let called = rig.log.count();
    let stopped = cancel(&rig, run).await;
    assert_eq!((stopped.ended.len(), stopped.ended[2]), (3, run));
    rig.quiet().await;
    assert_eq!(rig.log.count(), called, "nobody runs on results that were cancelled with the parent");
    let results = items(&rig.transcript(&main_key()));
    assert_eq!(results.iter().map(|item| item.state).collect::<Vec<_>>(), [Terminal::Cancelled; 2]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_child_left_open_when_it_ended() {
    let rig = setup().start(script).await;
    let run = rig.say("keep").await;
    rig.until("the grandchild works and the child has ended", |rig| {
        rig.log.in_flight() == 2 && rig.storage.all_runs().iter().any(|row| !row.state.is_open())
    })
    .await;
    let child = rig.storage.all_runs().into_iter().find(|row| row.spawner == Some(run)).unwrap();
    assert_eq!(child.state, RunState::Ended(Terminal::Ok));
    let grandchild = rig.storage.all_runs().into_iter().find(|row| row.spawner == Some(child.id)).unwrap();
    let called = rig.log.count();
    assert_eq!(cancel(&rig, run).await.ended, [grandchild.id, run]);
    assert_eq!(rig.row(grandchild.id).state, RunState::Ended(Terminal::Cancelled));
    rig.quiet().await;
    assert!(rig.log.calls.lock().unwrap()[called..].iter().all(|call| !call.0.is_subagent()));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_child_makes_of_results_after_its_end() {
    let rig = setup().start(script).await;
    let run = rig.say("follow").await;
    rig.until("the child works on a result", |rig| {
        rig.storage.all_runs().iter().any(|row| row.cause == Cause::Announce) && rig.log.in_flight() == 2
    })
    .await;
    let next = rig.storage.all_runs().into_iter().find(|row| row.cause == Cause::Announce).unwrap();
    assert!(next.session.is_subagent());
    assert_eq!(cancel(&rig, run).await.ended, [next.id, run]);
    assert_eq!(rig.row(next.id).state, RunState::Ended(Terminal::Cancelled));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn twice_at_the_same_time() {
    let rig = setup().start(script).await;
    let run = rig.say("wait").await;
    rig.until("it waits", |rig| rig.row(run).state == RunState::Yielded).await;
    let (one, two) = tokio::join!(cancel(&rig, run), cancel(&rig, run));
    assert_eq!((one.ended.len(), two.ended.len()), (3, 3));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ended_and_a_run_that_never_was() {
    let rig = setup().start(script).await;
    let run = rig.say("hello").await;
    rig.outcome(run).await;
    let stopped = cancel(&rig, run).await;
    assert_eq!((stopped.ended, stopped.already.unwrap().state), (vec![], Terminal::Ok));
    let nobody = offshoot_actors::types::RunId(uuid::Uuid::from_u128(1));
    let refusal = rig.handle.cancel(nobody, Origin::Operator).await.unwrap_err();
    assert_eq!(refusal.code, "unknown_run");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_waited_for_another_run_is_not_swallowed() {
    // One child belongs to nobody's run and ends while the run that is cancelled works.
    let rig = setup().start(script).await;
    let run = rig.say("wait").await;
    rig.until("it waits", |rig| rig.row(run).state == RunState::Yielded).await;
    rig.spawn("quick").await;
    rig.sleep(10).await;
    cancel(&rig, run).await;
    rig.quiet().await;
    let turn = rig.runs_of(&main_key()).pop().unwrap();
    assert_ne!(turn.id, run, "the result of a child that was not cancelled is run on");
    assert_eq!(turn.outcome.unwrap().state, Terminal::Ok);
    assert_eq!(items(&rig.transcript(&main_key())).len(), 3);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_three_levels_with_one_that_sleeps() {
    let rig = setup()
        .with(|settings| settings.sleep_after = std::time::Duration::from_millis(5))
        .start(script)
        .await;
    let run = rig.say("deep").await;
    rig.until("all work", |rig| {
        rig.log.in_flight() == 1
            && rig.storage.all_runs().iter().filter(|row| row.state.is_open()).count() == 4
    })
    .await;
    rig.sleep(100).await;
    assert_eq!(rig.live("session").len(), 4, "the session of the quick child sleeps");
    let stopped = soon("the stop", rig.handle.stop(main_key(), Origin::Operator)).await.unwrap();
    assert_eq!((stopped.ended.len(), stopped.ended.last()), (4, Some(&run)));
    let called = rig.log.count();
    assert_eq!((rig.log.in_flight(), rig.open().await), (0, 0));
    rig.quiet().await;
    rig.sleep(100_000).await;
    assert_eq!(rig.log.count(), called);
    assert!(rig.live("session").is_empty());
    assert_eq!(rig.answer("hello").await.text.as_deref(), Some("answer to hello"));
    let child = rig.spawn("hello").await;
    assert_eq!(rig.outcome(child.run).await.state, Terminal::Ok);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_a_child_leaves_its_parent_alone() {
    let rig = setup().start(script).await;
    let child = rig.spawn("wait").await;
    rig.until("it waits", |rig| rig.row(child.run).state == RunState::Yielded).await;
    let stopped = soon("the stop", rig.handle.stop(child.session, Origin::Operator)).await.unwrap();
    assert_eq!(stopped.ended.len(), 3);
    rig.quiet().await;
    let results = items(&rig.transcript(&main_key()));
    assert_eq!(results.iter().map(|item| item.state).collect::<Vec<_>>(), [Terminal::Cancelled]);
    assert_eq!(rig.runs_of(&main_key()).len(), 1, "the parent runs on it");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_fences_admission() {
    let rig = setup().start(script).await;
    rig.say("deep").await;
    rig.sleep(100).await;
    let (stopped, prompt, spawn, steer) = tokio::join!(
        rig.handle.stop(main_key(), Origin::Operator),
        rig.handle.submit(PromptRequest::new(main_key(), "hello"), Origin::Operator),
        rig.handle.spawn(request(main_key(), "hello"), Origin::Operator),
        rig.handle.steer(main_key(), "hello".into(), Origin::Operator),
    );
    stopped.unwrap();
    assert_eq!(prompt.unwrap_err().code, "stopping");
    assert_eq!(spawn.unwrap_err().code, "stopping");
    assert_eq!(steer.unwrap_err().code, "stopping");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_meets_spawns_on_their_way() {
    for delay in 0..30 {
        let rig = setup().with(|settings| settings.subagents.max_children = 100).start(script).await;
        rig.spawn("hang").await;
        let spawns = (0..20).map(|_| rig.handle.spawn(request(main_key(), "wait"), Origin::Operator));
        let stop = async {
            for _ in 0..delay {
                tokio::task::yield_now().await;
            }
            rig.handle.stop(main_key(), Origin::Operator).await.unwrap()
        };
        let (_, answers) =
            soon("stop and spawns", async { tokio::join!(stop, futures::future::join_all(spawns)) }).await;
        // What was accepted after the stop is a new tree; all else is over.
        let late: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
        rig.sleep(1_000).await;
        for child in &late {
            if rig.row(child.run).state.is_open() {
                rig.handle.cancel(child.run, Origin::Operator).await.unwrap();
            }
        }
        rig.quiet().await;
        rig.check().await;
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_meets_spawns_on_their_way() {
    for delay in 0..60 {
        let rig = setup()
            .start(|call_: Call| async move {
                if call_.task() == "many" {
                    let calls = (0..5).map(|n| call(&n.to_string(), "spawn", "hang")).collect();
                    return Ok(Answer::tools(calls));
                }
                script(call_).await
            })
            .await;
        let run = rig.say("many").await;
        for _ in 0..delay {
            tokio::task::yield_now().await;
        }
        cancel(&rig, run).await;
        rig.sleep(1_000).await;
        assert_eq!(rig.open().await, 0, "a child of a cancelled run works on (after {delay} polls)");
        rig.quiet().await;
        rig.check().await;
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stops_on_many_threads_leave_nothing_behind() {
    for round in 0..40 {
        let rig = setup()
            .with(|settings| {
                settings.subagents.max_children = 200;
                settings.lanes.subagent = 20;
            })
            .start(script)
            .await;
        for _ in 0..20 {
            rig.spawn("wait").await;
        }
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        soon("the stop", rig.handle.stop(main_key(), Origin::Operator)).await.unwrap();
        // The log of calls may lag behind: a thread may stand still on the first line of one that is aborted.
        let started = |rig: &Rig| rig.events.count(|event| matches!(event, Event::Started { .. }));
        let before = started(&rig);
        assert_eq!(rig.open().await, 0);
        rig.quiet().await;
        assert_eq!(started(&rig), before, "a run started after the stop");
        rig.check().await;
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_tool_call_stays_in_the_transcript() {
    let rig = setup().start(script).await;
    let run = rig.say("tool").await;
    rig.sleep(10).await;
    soon("the stop", rig.handle.stop(main_key(), Origin::Operator)).await.unwrap();
    let calls = rig
        .transcript(&main_key())
        .iter()
        .filter(|entry| matches!(&entry.entry, Entry::Assistant { tool_calls, .. } if tool_calls.len() == 2))
        .count();
    assert_eq!((calls, rig.outcome(run).await.state), (1, Terminal::Cancelled));
    let open = rig.storage.tool_rows().iter().filter(|row| row.finished.is_none()).count();
    assert_eq!(open, 1, "whether the call that hung took effect is not known");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_does_not_exist_cannot_be_stopped() {
    let rig = setup().start(script).await;
    let refusal = rig.handle.stop(main_key(), Origin::Operator).await.unwrap_err();
    assert_eq!(refusal.code, "unknown_session");
    assert!(rig.storage.audit().is_empty(), "{:?}", rig.storage.audit());
    // One that sleeps exists.
    rig.answer("hello").await;
    rig.sleep(100_000).await;
    assert!(rig.handle.live().is_empty());
    assert_eq!(rig.handle.stop(main_key(), Origin::Operator).await, Ok(Stopped::default()));
    rig.finish().await;
}
