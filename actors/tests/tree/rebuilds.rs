//! What an actor finds again after a panic: the clocks of its runs, who waits, what has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use offshoot_actors::ports::{
    Answer, Cause, Event, ModelError, ModelErrorKind, Op, RunEnd, RunState, Storage,
};
use offshoot_actors::types::{Entry, Origin, Outcome, PromptRequest, RunId, SessionKey, Terminal, Usage};

use crate::rig::{Answered, Asked, Call, Once, Rig, call, items, main_key, soon, with};

/// With one place in the lane, a run that pauses after a failed call finds it taken for a long time. Its session
/// panics so many milliseconds after the start, and the run goes on in spite of its short deadline.
async fn a_deadline_after_a_panic_at(ms: u64) {
    let faults = Arc::new(Once::default());
    let rig = with(&faults)
        .with(|settings| settings.lanes.subagent = 1)
        .start(|call: Call| async move {
            match &*call.task() {
                "busy" => call.sleep(100_000).await,
                "work" if call.clock.now().0 < 1_700_000_001_000 => {
                    return Err(ModelError::new(ModelErrorKind::Network, "no connection"));
                }
                "work" => call.sleep(9_000).await,
                "hang" => std::future::pending().await,
                _ => {}
            }
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    let work = rig.spawn("session,timeout=20000|work").await;
    rig.sleep(1).await;
    rig.spawn("busy").await;
    rig.sleep(ms).await;
    faults.arm("session", "steer");
    let _ = rig.handle.steer(work.session.clone(), "hello".into(), Origin::Operator).await;
    assert!(faults.fired());
    assert_eq!(rig.outcome(work.run).await.state, Terminal::Ok, "after {ms} ms");
    let hangs = rig.spawn("session,timeout=20000|hang").await;
    rig.sleep(5_000).await;
    faults.arm("session", "steer");
    let _ = rig.handle.steer(hangs.session.clone(), "hello".into(), Origin::Operator).await;
    assert_eq!(rig.outcome(hangs.run).await.state, Terminal::Timeout);
    let row = rig.row(hangs.run);
    assert_eq!(row.ended_at.unwrap() - row.started_at.unwrap(), Duration::from_secs(20));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_counts_no_time_in_the_lane_against_a_deadline() {
    a_deadline_after_a_panic_at(50_000).await;
    a_deadline_after_a_panic_at(105_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_on_the_word_of_a_wait_in_the_lane_stops_no_clock_for_good() {
    for lost in 1..=2 {
        let faults = Once::at("session", "queueing", lost);
        let rig = with(&faults)
            .with(|settings| settings.lanes.subagent = 1)
            .start(|call: Call| async move {
                match &*call.task() {
                    "busy" => call.sleep(100_000).await,
                    "work" if call.clock.now().0 < 1_700_000_001_000 => {
                        return Err(ModelError::new(ModelErrorKind::Network, "no connection"));
                    }
                    "work" => std::future::pending().await,
                    _ => {}
                }
                Ok(Answer::text("NO_REPLY"))
            })
            .await;
        let work = rig.spawn("timeout=20000|work").await;
        rig.sleep(1).await;
        let busy = rig.spawn("busy").await;
        assert_eq!(rig.outcome(work.run).await.state, Terminal::Timeout);
        assert!(faults.fired());
        let (work, busy) = (rig.row(work.run), rig.row(busy.run));
        assert!(work.ended_at > busy.ended_at, "time in the lane counts for nothing");
        rig.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn children_of_a_session_that_failed_use_up_no_turns_of_its_later_ones() {
    let faults = Arc::new(Once::default());
    let rig = with(&faults)
        .with(|settings| settings.lanes.subagent = 1)
        .start(|call: Call| async move {
            call.sleep(10_000).await;
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    for _ in 0..5 {
        rig.spawn("other").await;
    }
    let fails: SessionKey = "agent:main:fails".parse().unwrap();
    for _ in 0..4 {
        rig.spawn_in(fails.clone(), "lost").await;
    }
    for _ in 0..6 {
        faults.arm("session", "steer");
        let _ = rig.handle.steer(fails.clone(), "hello".into(), Origin::Operator).await;
        rig.sleep(10).await;
    }
    rig.until("its children are told of", |rig| items(&rig.transcript(&fails)).len() == 4).await;
    let late = rig.spawn_in(fails, "late").await;
    rig.outcome(late.run).await;
    let calls = rig.log.calls.lock().unwrap().iter().position(|call| call.1 == late.run).unwrap();
    assert!(calls <= 3, "{calls} others went first");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ended_while_it_waited_in_its_lane_does_not_begin() {
    let faults = Arc::new(Once::default());
    let rig = with(&faults)
        .with(|settings| settings.lanes.subagent = 1)
        .start(|call: Call| async move {
            call.sleep(10_000).await;
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    rig.spawn("busy").await;
    let waits = rig.spawn("session,quiet|waits").await;
    rig.sleep(10).await;
    // As where the manager ends it, and then loses the message that would tell its session.
    let (outcome, at) = (Outcome::ended(Terminal::Cancelled, "elsewhere", None), rig.clock.now());
    let end = RunEnd { run: waits.run, outcome, usage: Usage::default(), steps: 0, at };
    rig.storage.submit(vec![Op::EndRun(Box::new(end))], Box::new(|result| result.unwrap()));
    faults.arm("sessions", "settings_changed");
    rig.handle.apply((*rig.handle.settings()).clone()).await.unwrap();
    rig.sleep(30_000).await;
    assert!(faults.fired());
    let begins = |event: &Event| matches!(event, Event::Started { run, .. } if *run == waits.run);
    assert_eq!(rig.events.count(begins), 0);
    let run = rig.say_to(waits.session, "later").await;
    assert_eq!(rig.outcome(run).await.state, Terminal::Ok);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_spawned_while_a_stop_looks_around_works() {
    let faults = Arc::new(Once::default());
    let (setup, faulty) = with(&faults).faulty();
    let rig = setup.start(|_| async { Ok(Answer::text("NO_REPLY")) }).await;
    rig.answer("hello").await;
    faulty.spoil(|asked| match asked {
        Asked::Submit(transaction) if transaction.is_empty() => Answered::Late(Duration::from_secs(1)),
        _ => Answered::Well,
    });
    let stop = rig.handle.stop(main_key(), Origin::Operator);
    let spawn = async {
        rig.sleep(500).await;
        let mut awake = false;
        // The child is on its way up for as long as its parent is read again.
        faulty.spoil(move |asked| match asked {
            Asked::Load(_) if std::mem::replace(&mut awake, true) => Answered::Late(Duration::from_secs(2)),
            _ => Answered::Well,
        });
        faults.arm("session", "start_child");
        rig.spawn("child").await
    };
    let (stopped, child) = tokio::join!(stop, spawn);
    assert!(faults.fired() && !stopped.unwrap().ended.contains(&child.run));
    assert_eq!(rig.outcome(child.run).await.state, Terminal::Ok);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_spawn_that_is_ended_before_it_starts_does_not_begin_though_its_stop_is_lost() {
    let faults = Arc::new(Once::default());
    let (setup, faulty) = with(&faults).faulty();
    let rig = setup
        .start(|call_: Call| async move {
            Ok(match (&*call_.task(), call_.request.step) {
                ("go", 1) if call_.news().is_empty() => Answer::tools(vec![call("1", "spawn", "child")]),
                _ => Answer::text("NO_REPLY"),
            })
        })
        .await;
    // Each commit takes a while, so that the run is cancelled while the spawn that it asked for is committed, and
    // the end of that is refused at first.
    let (mut refused, parent_stopped) = (false, Some("its parent was stopped"));
    faulty.spoil(move |asked| {
        let Asked::Submit(transaction) = asked else { return Answered::Well };
        let ends = |op: &Op| matches!(op, Op::EndRun(end) if end.outcome.reason.as_deref() == parent_stopped);
        if !refused && transaction.iter().any(ends) {
            refused = true;
            return Answered::WithAnError;
        }
        Answered::Late(Duration::from_millis(10))
    });
    let run = rig.say("go").await;
    rig.until("the tool works", |rig| rig.storage.tool_rows().len() == 1).await;
    rig.sleep(5).await;
    faults.arm("session", "stop");
    soon("a cancel", rig.handle.cancel(run, Origin::Operator)).await.unwrap();
    rig.quiet().await;
    let child = rig.storage.all_runs().into_iter().find(|row| row.cause == Cause::Spawn).unwrap();
    assert_eq!(child.outcome.unwrap().state, Terminal::Cancelled);
    let begins = |event: &Event| matches!(event, Event::Started { run, .. } if *run == child.id);
    assert_eq!(rig.events.count(begins), 0);
    faulty.spoil(|_| Answered::Well);
    rig.finish().await;
}

/// Each answer takes 10 and 1 tokens. `middle` has two children, and a third that another run of it spawns.
async fn thirsty(call_: Call) -> Result<Answer, ModelError> {
    let mut answer = match (&*call_.task(), call_.request.step) {
        ("middle", 1) => Answer::tools(vec![
            call("1", "spawn", "leaf"),
            call("2", "spawn", "delete|leaf"),
            call("3", "yield", ""),
        ]),
        ("middle", _) => {
            call_.sleep(10_000).await;
            Answer::text("middle")
        }
        ("more", 1) => Answer::tools(vec![call("1", "spawn", "leaf"), call("2", "yield", "")]),
        ("leaf", _) => Answer::text("leaf"),
        _ => Answer::text("NO_REPLY"),
    };
    answer.usage = Usage { input: 10, output: 1, cached: 0 };
    Ok(answer)
}

#[tokio::test(start_paused = true)]
async fn a_result_tells_of_all_tokens_below_after_a_panic_and_a_sleep() {
    let faults = Arc::new(Once::default());
    let rig = with(&faults).start(thirsty).await;
    let child = rig.spawn("session|middle").await;
    rig.until("the leaves are done", |rig| items(&rig.transcript(&child.session)).len() == 2).await;
    faults.arm("session", "steer");
    let _ = rig.handle.steer(child.session.clone(), "hello".into(), Origin::Operator).await;
    assert!(faults.fired());
    rig.outcome(child.run).await;
    rig.quiet().await;
    let told = |rig: &Rig| items(&rig.transcript(&main_key())).last().unwrap().usage;
    let of = |runs| Usage { input: 10 * runs, output: runs, cached: 0 };
    // Two steps and two leaves.
    assert_eq!(told(&rig), of(4));
    rig.until("the tree sleeps", |rig| rig.live("session").is_empty()).await;
    let origin = Origin::Agent { session: main_key(), run: child.run };
    let sent = rig.handle.submit(PromptRequest::new(child.session.clone(), "more"), origin).await.unwrap();
    rig.outcome(sent.run).await;
    rig.quiet().await;
    // The second time it is silent, and what was used by then counts when it is told of again.
    assert_eq!(told(&rig), of(4));
    let origin = Origin::Agent { session: main_key(), run: child.run };
    let sent = rig.handle.submit(PromptRequest::new(child.session.clone(), "leaf"), origin).await.unwrap();
    rig.outcome(sent.run).await;
    rig.quiet().await;
    assert_eq!(told(&rig), of(8));
    assert_eq!(rig.storage.subtree_usage(child.session).await.unwrap(), of(8));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_session_that_failed_tells_of_all_tokens_below() {
    let faults = Arc::new(Once::default());
    let rig = with(&faults).start(thirsty).await;
    let child = rig.spawn("session|middle").await;
    rig.until("the leaves are done", |rig| items(&rig.transcript(&child.session)).len() == 2).await;
    for _ in 0..6 {
        faults.arm("session", "steer");
        let _ = rig.handle.steer(child.session.clone(), "hello".into(), Origin::Operator).await;
        rig.sleep(10).await;
    }
    assert_eq!(rig.outcome(child.run).await.state, Terminal::Crashed);
    rig.quiet().await;
    let told = items(&rig.transcript(&main_key())).pop().unwrap();
    // One step and two leaves.
    assert_eq!(told.usage, Usage { input: 30, output: 3, cached: 0 });
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_full_store_keeps_open_is_not_executed_after_a_panic_of_the_manager() {
    let rig = crate::rig::setup().start(|_: Call| async move { std::future::pending().await }).await;
    rig.say("work").await;
    let waiting = rig.say("waiting").await;
    rig.sleep(10).await;
    let storage = Arc::clone(&rig.storage);
    rig.stop().await;
    let faults = Arc::new(Once::default());
    let (setup, faulty) = with(&faults).on(&storage, 8).faulty();
    faulty.fail(10, move |asked| match asked {
        Asked::Submit(transaction) => {
            transaction.iter().any(|op| matches!(op, Op::EndRun(end) if end.run == waiting))
        }
        _ => false,
    });
    let rig = setup.start(|call: Call| async move { Ok(Answer::text(format!("did {}", call.task()))) }).await;
    for _ in 0..2 {
        faults.arm("sessions", "settings_changed");
        rig.handle.apply((*rig.handle.settings()).clone()).await.unwrap();
        rig.until("the manager panics", |_| faults.fired()).await;
    }
    assert!(rig.row(waiting).state.is_open(), "the store did not take its end yet");
    assert_eq!(rig.outcome(waiting).await.state, Terminal::Interrupted);
    assert_eq!(rig.answer("hello").await.text.as_deref(), Some("did hello"));
    assert_eq!(rig.log.count(), 1, "only the message of this process was worked on");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_cancelled_run_left_to_be_ended_is_ended_though_the_store_is_full() {
    let faults = Arc::new(Once::default());
    let (setup, faulty) = with(&faults).faulty();
    let rig = setup
        .start(|call_: Call| async move {
            Ok(match (&*call_.task(), call_.request.step) {
                ("go", 1) => Answer::tools(vec![call("1", "spawn", "session|child")]),
                ("go", _) => std::future::pending().await,
                _ => Answer::text("NO_REPLY"),
            })
        })
        .await;
    let run = rig.say("go").await;
    rig.until("the child is done", |rig| rig.runs_of(&main_key()).len() < rig.storage.all_runs().len()).await;
    rig.until("the child sleeps", |rig| rig.live("session").len() == 1).await;
    soon("a cancel", rig.handle.cancel(run, Origin::Operator)).await.unwrap();
    // As where the spawn is committed after that, and the manager loses what it was about to do.
    let mut late = rig.storage.all_runs().into_iter().find(|row| row.cause == Cause::Spawn).unwrap();
    late.id = RunId(uuid::Uuid::from_u128(99));
    late.input = Some(Entry::User { text: "late".to_owned(), origin: Origin::Operator });
    (late.state, late.outcome, late.steps) = (RunState::Accepted, None, 0);
    (late.started_at, late.ended_at, late.model_used) = (None, None, None);
    late.usage = Usage::default();
    let id = late.id;
    rig.storage.submit(vec![Op::InsertRun(Box::new(late))], Box::new(|result| result.unwrap()));
    faulty.fail(10, move |asked| match asked {
        Asked::Submit(transaction) => {
            transaction.iter().any(|op| matches!(op, Op::EndRun(end) if end.run == id))
        }
        _ => false,
    });
    faults.arm("sessions", "settings_changed");
    rig.handle.apply((*rig.handle.settings()).clone()).await.unwrap();
    rig.until("it is ended", |rig| !rig.row(id).state.is_open()).await;
    assert!(faults.fired());
    assert_eq!(rig.row(id).outcome.unwrap().state, Terminal::Cancelled);
    let begins = |event: &Event| matches!(event, Event::Started { run, .. } if *run == id);
    assert_eq!(rig.events.count(begins), 0);
    rig.quiet().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_session_left_open_is_not_executed_after_a_panic_of_the_manager() {
    let faults = Arc::new(Once::default());
    let (setup, faulty) = with(&faults).faulty();
    let rig = setup
        .start(|call: Call| async move {
            if call.task() == "hang" {
                return std::future::pending().await;
            }
            Ok(Answer::text(format!("did {}", call.task())))
        })
        .await;
    rig.say("hang").await;
    let waiting = rig.say("waiting").await;
    rig.sleep(10).await;
    faulty.fail(10, move |asked| match asked {
        Asked::Submit(transaction) => {
            transaction.iter().any(|op| matches!(op, Op::EndRun(end) if end.run == waiting))
        }
        _ => false,
    });
    for _ in 0..6 {
        faults.arm("session", "steer");
        let _ = rig.handle.steer(main_key(), "hello".into(), Origin::Operator).await;
    }
    faults.arm("sessions", "settings_changed");
    rig.handle.apply((*rig.handle.settings()).clone()).await.unwrap();
    rig.until("the manager panics", |_| faults.fired()).await;
    assert!(rig.row(waiting).state.is_open(), "the store did not take its end yet");
    assert_eq!(rig.outcome(waiting).await.state, Terminal::Crashed);
    assert_eq!(rig.answer("hello").await.text.as_deref(), Some("did hello"));
    let worked_on = |event: &Event| matches!(event, Event::Started { run, .. } if *run == waiting);
    assert_eq!(rig.events.count(worked_on), 0);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn each_message_in_the_agents_name_is_answered_for_itself_after_a_panic() {
    for refused in [false, true] {
        let faults = Arc::new(Once::default());
        let (setup, faulty) = with(&faults).faulty();
        let rig = setup.start(|_| async { Ok(Answer::text("answer")) }).await;
        rig.answer("hello").await;
        rig.quiet().await;
        let said = |transaction: &Vec<Op>, wanted: &str| {
            transaction.iter().any(|op| match op {
                Op::Append { entries, .. } => entries
                    .iter()
                    .any(|entry| matches!(&entry.entry, Entry::Assistant { text, .. } if text == wanted)),
                _ => false,
            })
        };
        // The first one is on its way for longer than the barrier of the rebuild, and so is what it says when it is back.
        faulty.spoil(move |asked| match asked {
            Asked::Submit(transaction) if said(transaction, "first") => {
                Answered::Late(Duration::from_millis(50))
            }
            Asked::Submit(transaction) if transaction.is_empty() => Answered::Late(Duration::from_millis(60)),
            Asked::Submit(transaction) if said(transaction, "second") && refused => Answered::WithAnError,
            Asked::Submit(transaction) if said(transaction, "second") => {
                Answered::Late(Duration::from_millis(50))
            }
            _ => Answered::Well,
        });
        let inject = |text: &str| rig.handle.inject(main_key(), text.to_owned(), Origin::Operator);
        let panic = async {
            rig.sleep(10).await;
            faults.arm("session", "steer");
            let _ = rig.handle.steer(main_key(), "hello".into(), Origin::Operator).await;
        };
        let second = async {
            rig.sleep(20).await;
            inject("second").await
        };
        let third = async {
            rig.sleep(80).await;
            inject("third").await
        };
        let (first, (), second, third) = tokio::join!(inject("first"), panic, second, third);
        assert!(faults.fired());
        let expected = if refused { [Some(2), None, Some(3)] } else { [Some(2), Some(3), Some(4)] };
        assert_eq!([first.ok(), second.ok(), third.ok()], expected);
        faulty.spoil(|_| Answered::Well);
        assert_eq!(rig.answer("hello").await.state, Terminal::Ok);
        rig.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_late_does_not_take_the_place_of_what_was_appended_since() {
    let faults = Arc::new(Once::default());
    let (setup, faulty) = with(&faults).faulty();
    let rig = setup
        .start(|call: Call| async move {
            call.sleep(if call.task() == "work" { 100 } else { 0 }).await;
            Ok(Answer::text("done"))
        })
        .await;
    let run = rig.spawn("work").await.run;
    // Its end is in the store a while before anybody is told.
    faulty.spoil(move |asked| match asked {
        Asked::Submit(transaction)
            if transaction.iter().any(|op| matches!(op, Op::EndRun(end) if end.run == run)) =>
        {
            Answered::ToldLate(Duration::from_secs(1))
        }
        _ => Answered::Well,
    });
    rig.until("it has ended", |rig| !rig.row(run).state.is_open()).await;
    // The parent finds the result in the store, and takes it.
    faults.arm("session", "steer");
    let _ = rig.handle.steer(main_key(), "hello".into(), Origin::Operator).await;
    rig.until("it is taken", |rig| items(&rig.transcript(&main_key())).len() == 1).await;
    rig.sleep(500).await;
    let reads = Arc::new(AtomicU32::new(0));
    let read = Arc::clone(&reads);
    faulty.spoil(move |asked| match asked {
        Asked::Load(key) if **key == main_key() => {
            read.fetch_add(1, Ordering::Relaxed);
            Answered::Late(Duration::from_millis(500))
        }
        _ => Answered::Well,
    });
    // Now it is told of it too, and reads whether it has it.
    rig.until("it reads", |_| reads.load(Ordering::Relaxed) == 1).await;
    rig.handle.inject(main_key(), "by the way".to_owned(), Origin::Operator).await.unwrap();
    rig.sleep(1_000).await;
    assert_eq!(rig.answer("hello").await.state, Terminal::Ok);
    faulty.spoil(|_| Answered::Well);
    rig.finish().await;
}
