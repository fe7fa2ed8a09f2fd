//! Panics inside of actors: nobody else's work is interrupted, nothing is lost, nothing is done twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::ports::{Answer, Event, ModelError, ModelErrorKind, Op};
use offshoot_actors::types::{IdempotencyKey, Origin, PromptRequest, SessionKey, Terminal, Usage};

use crate::rig::{Answered, Asked, Call, Once, Rig, call, items, main_key, request, soon, with};

fn restarts(rig: &Rig, name: &str) -> u32 {
    rig.handle.actors().into_iter().find(|view| view.path.ends_with(name)).unwrap().restarts
}

#[tokio::test(start_paused = true)]
async fn a_session_that_panics_interrupts_no_descendant() {
    let faults = Arc::new(Once::default());
    let rig = with(&faults)
        .start(|call_: Call| async move {
            let task = call_.task();
            if task.starts_with("leaf") {
                call_.sleep(10_000).await;
                return Ok(Answer::text(task));
            }
            Ok(match (&*task, call_.request.step) {
                ("go", 1) => Answer::tools(vec![
                    call("1", "spawn", "leaf one"),
                    call("2", "spawn", "leaf two"),
                    call("3", "spawn", "middle"),
                    call("4", "yield", ""),
                ]),
                ("middle", 1) => {
                    Answer::tools(vec![call("1", "spawn", "leaf three"), call("2", "yield", "")])
                }
                _ => Answer::text(call_.news().join(",")),
            })
        })
        .await;
    let run = rig.say("go").await;
    rig.until("three descendants are in a model call", |rig| rig.log.in_flight() == 3).await;
    let middle = rig.storage.all_sessions().into_iter().find(|row| {
        row.key.is_subagent() && {
            let children = rig.storage.all_sessions();
            children.iter().any(|child| child.parent.as_ref() == Some(&row.key))
        }
    });
    let middle = middle.unwrap().key;
    for session in [main_key(), middle.clone(), main_key()] {
        faults.arm("session", "steer");
        let gone = rig.handle.steer(session.clone(), "hello".into(), Origin::Operator).await.unwrap_err();
        assert_eq!(gone.code, "gone");
        assert!(faults.fired());
        rig.sleep(10).await;
        assert_eq!(rig.log.in_flight(), 3, "the calls go on");
    }
    assert_eq!((restarts(&rig, "agent:main:main"), restarts(&rig, middle.as_str())), (2, 1));
    let outcome = rig.outcome(run).await;
    assert_eq!(outcome.text.as_deref(), Some("ok:leaf one,ok:leaf two,ok:ok:leaf three"));
    for row in rig.storage.all_runs() {
        let steps = rig.log.steps(row.id);
        let wanted: Vec<u32> = (1..=row.steps).collect();
        assert_eq!(steps, wanted, "no call is repeated");
        assert_eq!(row.outcome.unwrap().state, Terminal::Ok);
    }
    assert_eq!(items(&rig.transcript(&main_key())).len(), 3);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_panics_too_often_ends_what_is_below_it_and_only_that() {
    let faults = Arc::new(Once::default());
    let rig = with(&faults)
        .start(|call: Call| async move {
            if call.task().starts_with("leaf") {
                call.sleep(100_000).await;
            }
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    let child = rig.spawn("session|stays").await;
    rig.outcome(child.run).await;
    let below = rig.spawn_in(child.session.clone(), "leaf below").await;
    let beside = rig.spawn("leaf beside").await;
    rig.sleep(10).await;
    for _ in 0..6 {
        faults.arm("session", "steer");
        let _ = rig.handle.steer(child.session.clone(), "hello".into(), Origin::Operator).await;
        rig.sleep(10).await;
    }
    let outcome = rig.outcome(below.run).await;
    assert_eq!(outcome.state, Terminal::Crashed);
    assert!(outcome.reason.as_ref().unwrap().starts_with("its session failed: "), "{outcome:?}");
    assert_eq!(rig.row(beside.run).state.as_str(), "running");
    assert_eq!(rig.outcome(beside.run).await.state, Terminal::Ok);
    let run = rig.say_to(child.session, "hello").await;
    assert_eq!(rig.outcome(run).await.state, Terminal::Ok, "it is woken like any other");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_session_had_open_is_ended_as_soon_as_the_store_can_be_read() {
    let faults = Arc::new(Once::default());
    let (setup, faulty) = with(&faults).faulty();
    let rig = setup.start(|call: Call| async move {
        if call.task() == "hang" {
            call.sleep(1_000_000).await;
        }
        Ok(Answer::text("NO_REPLY"))
    });
    let rig = rig.await;
    let run = rig.say("hang").await;
    rig.sleep(10).await;
    faulty.fail(6, |asked| matches!(asked, Asked::Subtree(_) | Asked::Waiting));
    for _ in 0..6 {
        faults.arm("session", "steer");
        let _ = rig.handle.steer(main_key(), "hello".into(), Origin::Operator).await;
        rig.sleep(10).await;
    }
    assert_eq!(rig.row(run).state.as_str(), "running");
    assert_eq!(rig.outcome(run).await.state, Terminal::Crashed);
    assert_eq!(rig.answer("hello").await.state, Terminal::Ok, "it is woken like any other");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_falls_asleep_while_its_parent_fails_wakes_again() {
    let faults = Arc::new(Once::default());
    let (setup, faulty) = with(&faults).faulty();
    let rig = setup.start(|_| async { Ok(Answer::text("NO_REPLY")) }).await;
    let parent = rig.spawn("session|stays").await;
    let child = rig.spawn_in(parent.session.clone(), "session|stays").await;
    rig.outcome(child.run).await;
    rig.sleep(29_000).await;
    // While the parent tries to come back it hears nothing of the child, which falls asleep and ends.
    let key = parent.session.clone();
    faulty.spoil(move |asked| match asked {
        Asked::Load(session) if **session == key => Answered::WithAnErrorAfter(Duration::from_secs(2)),
        _ => Answered::Well,
    });
    faults.arm("session", "steer");
    let _ = rig.handle.steer(parent.session.clone(), "hello".into(), Origin::Operator).await;
    assert!(faults.fired());
    let is_live =
        |rig: &Rig, key: &SessionKey| rig.live("session").iter().any(|path| path.ends_with(key.as_str()));
    rig.until("the child sleeps", |rig| !is_live(rig, &child.session)).await;
    assert!(is_live(&rig, &parent.session), "the parent still tries");
    rig.until("the parent has failed", |rig| !is_live(rig, &parent.session)).await;
    faulty.spoil(|_| Answered::Well);
    let run = rig.say_to(child.session, "hello").await;
    assert_eq!(rig.outcome(run).await.state, Terminal::Ok);
    rig.finish().await;
}

async fn script(call_: Call) -> Result<Answer, ModelError> {
    let task = call_.task();
    Ok(match (&*task, call_.request.step) {
        ("go", 1) => Answer::tools(vec![
            call("1", "spawn", "quick"),
            call("2", "spawn", "session|pauses"),
            call("3", "spawn", "deep"),
            call("4", "wait", "50"),
            call("5", "alone", "50"),
            call("6", "yield", ""),
        ]),
        ("deep", 1) => Answer::tools(vec![call("1", "spawn", "quick"), call("2", "yield", "")]),
        ("pauses", _) if call_.clock.now().0 % 10_000 < 5_000 => {
            return Err(ModelError::new(ModelErrorKind::Network, "no connection"));
        }
        ("hang", _) => std::future::pending().await,
        ("slow", _) => {
            call_.sleep(200).await;
            Answer::text("slow")
        }
        _ => Answer::text(format!("answer {} {}", task, call_.news().join(","))),
    })
}

/// Asks until it is answered by somebody who did not panic on it.
async fn insist<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(mut ask: impl FnMut() -> F) -> T {
    for _ in 0..10 {
        if let Ok(answer) = soon("an answer", ask()).await {
            return answer;
        }
    }
    panic!("nobody answers");
}

/// Does a bit of everything, so that every actor gets every kind of message.
async fn everything(faults: &Arc<Once>) -> Rig {
    let rig = with(faults)
        .with(|settings| {
            settings.sleep_after = Duration::from_secs(2);
            settings.lanes.subagent = 2;
            settings.lanes.main = 2;
            settings.subagents.max_children = 20;
        })
        .start(script)
        .await;
    let tree = rig.handle.clone();
    let say = |session: SessionKey, text: &'static str| {
        let tree = tree.clone();
        insist(move || {
            let (tree, session) = (tree.clone(), session.clone());
            let mut request = PromptRequest::new(session.clone(), text);
            request.idempotency = Some(IdempotencyKey { key: format!("{session} {text}"), may_repeat: true });
            async move { tree.submit(request, Origin::Operator).await }
        })
    };
    say(main_key(), "go").await;
    rig.sleep(20).await;
    insist(|| tree.steer(main_key(), "steered".into(), Origin::Operator)).await;
    insist(|| tree.spawn(request(main_key(), "key=k|quick"), Origin::Operator)).await;
    insist(|| tree.spawn(request(main_key(), "key=k|quick"), Origin::Operator)).await;
    insist(|| tree.spawn(request(main_key(), "timeout=300|hang"), Origin::Operator)).await;
    let other: SessionKey = "agent:main:other".parse().unwrap();
    let hangs = say(other.clone(), "hang").await.run;
    let waits = say(other.clone(), "slow").await.run;
    rig.sleep(10).await;
    let origin = Origin::Agent { session: other.clone(), run: hangs };
    // Refused where the run that asks is the one that panicked.
    drop(soon("an answer", tree.spawn(request(other.clone(), "hang"), origin)).await);
    rig.sleep(100).await;
    insist(|| tree.steer(other.clone(), "steered too".into(), Origin::Operator)).await;
    insist(|| tree.cancel(hangs, Origin::Operator)).await;
    let mut last = None;
    for _ in 0..3 {
        last = Some(insist(|| tree.spawn(request(main_key(), "slow"), Origin::Operator)).await.run);
    }
    rig.sleep(1).await;
    insist(|| tree.cancel(last.unwrap(), Origin::Operator)).await;
    soon("a run that waited", tree.outcome(waits)).await.unwrap();
    insist(|| tree.apply((*tree.settings()).clone())).await;
    let third: SessionKey = "agent:main:third".parse().unwrap();
    say(third.clone(), "hang").await;
    insist(|| tree.spawn(request(third.clone(), "hang"), Origin::Operator)).await;
    rig.sleep(10).await;
    insist(|| tree.stop(third.clone(), Origin::Operator)).await;
    assert!(rig.runs_of(&third).iter().all(|row| !row.state.is_open()));
    rig.sleep(20_000).await;
    let run = say(other.clone(), "again").await.run;
    soon("a later run", tree.outcome(run)).await.unwrap();
    for key in [main_key(), other, third] {
        insist(|| tree.quiet(&key)).await;
    }
    rig
}

/// Kinds of messages that every run of [`everything`] sends.
const KINDS: &[(&str, &[&str])] = &[
    (
        "session",
        &[
            "prompt",
            "prompt_settled",
            "steer",
            "steer_settled",
            "start_child",
            "child_opened",
            "child_ended",
            "granted",
            "committed",
            "report",
            "queueing",
            "hard_deadline",
            "cancel",
            "stop",
            "child_stopped",
            "sleep",
            "quiet",
            "loaded",
            "counted",
        ],
    ),
    (
        "sessions",
        &[
            "spawn",
            "looked",
            "spawn_settled",
            "deliver",
            "loaded",
            "created",
            "up",
            "down",
            "quiet",
            "sleep_answer",
            "acquire",
            "forget",
            "permit_back",
            "run_ended",
            "settings_changed",
        ],
    ),
    ("run", &["begin", "answered", "pause_over", "granted", "tool_done", "committed", "continue"]),
    ("store", &["commit"]),
    ("config", &["apply"]),
];

#[expect(clippy::print_stdout, reason = "names the panic that a failure belongs to")]
#[tokio::test(start_paused = true)]
async fn every_kind_of_message_may_panic_once() {
    let counts = Arc::new(Once::default());
    let rig = everything(&counts).await;
    let seen = counts.seen.lock().unwrap().clone();
    rig.finish().await;
    for (actor, kinds) in KINDS {
        for kind in *kinds {
            assert!(seen.contains_key(&(*actor, *kind)), "{actor} gets no {kind}");
        }
    }
    for ((actor, message), count) in seen {
        // The first commits belong to the start of the tree, which fails with them: the registry of devices and the
        // session manager wait for what came before them.
        let first = if actor == "store" { 3 } else { 1 };
        for nth in BTreeSet::from([first, first + 1, count / 2, count]).range(first..=count).copied() {
            let faults = Once::at(actor, message, nth);
            println!("panic in {actor} on {message}, number {nth}");
            let rig = everything(&faults).await;
            rig.finish().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_run_of_a_failed_session_is_told_before_its_result_is_taken() {
    let faults = Arc::new(Once::default());
    let (setup, faulty) = with(&faults).faulty();
    let rig = setup
        .start(|call_: Call| async move {
            Ok(match (&*call_.task(), call_.request.step) {
                ("wait", 1) => Answer::tools(vec![call("1", "spawn", "hang"), call("2", "yield", "")]),
                ("hang", _) => std::future::pending().await,
                _ => Answer::text("NO_REPLY"),
            })
        })
        .await;
    let child = rig.spawn("session|wait").await;
    rig.until("it waits", |rig| rig.row(child.run).state.as_str() == "yielded").await;
    let below = rig.storage.all_runs().into_iter().find(|row| row.session != child.session).unwrap().id;
    // The leaf is ended first, which takes a while.
    faulty.spoil(move |asked| match asked {
        Asked::Submit(transaction)
            if transaction.iter().any(|op| matches!(op, Op::EndRun(end) if end.run == below)) =>
        {
            Answered::Late(Duration::from_secs(1))
        }
        _ => Answered::Well,
    });
    for _ in 0..6 {
        faults.arm("session", "steer");
        let _ = rig.handle.steer(child.session.clone(), "hello".into(), Origin::Operator).await;
    }
    rig.until("its run is ended", |rig| !rig.row(child.run).state.is_open()).await;
    // The parent finds the result in the store.
    faults.arm("session", "steer");
    let _ = rig.handle.steer(main_key(), "hello".into(), Origin::Operator).await;
    rig.until("it is taken", |rig| items(&rig.transcript(&main_key())).len() == 1).await;
    let told = rig.events.all().into_iter().filter_map(|event| match event {
        Event::Ended { run, .. } if run == child.run => Some("ended"),
        Event::Announced { runs, .. } if runs.contains(&child.run) => Some("taken"),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), ["ended", "taken"]);
    faulty.spoil(|_| Answered::Well);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_being_ended_keeps_its_turn_across_a_panic() {
    let faults = Arc::new(Once::default());
    let (setup, faulty) = with(&faults).faulty();
    let rig = setup
        .start(|call_: Call| async move {
            match &*call_.task() {
                "hang" => std::future::pending().await,
                _ => Ok(Answer { usage: Usage { input: 10, output: 1, cached: 0 }, ..Answer::text("done") }),
            }
        })
        .await;
    let child = rig.spawn("session,timeout=5000|hang").await;
    rig.until("it works", |rig| rig.log.in_flight() == 1).await;
    // A session that was rebuilt reads what its tree has used.
    faults.arm("session", "prompt");
    let lost = PromptRequest::new(child.session.clone(), "lost");
    rig.handle.submit(lost, Origin::Operator).await.unwrap_err();
    let next = rig.say_to(child.session.clone(), "next").await;
    faulty.spoil(|asked| match asked {
        Asked::Subtree(_) => Answered::Late(Duration::from_secs(1)),
        _ => Answered::Well,
    });
    faults.arm("session", "counted");
    assert_eq!(rig.outcome(child.run).await.state, Terminal::Timeout);
    assert!(faults.fired());
    rig.outcome(next).await;
    let events = rig.events.all();
    let place = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    let ended = place(&|event| matches!(event, Event::Ended { run, .. } if *run == child.run));
    let started = place(&|event| matches!(event, Event::Started { run, .. } if *run == next));
    assert!(ended < started, "the next one has its turn after it");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_in_its_lane_asks_again_though_its_session_panics_on_the_word_that_it_has_to() {
    let faults = Arc::new(Once::default());
    let rig = with(&faults)
        .with(|settings| settings.lanes.subagent = 1)
        .start(|call: Call| async move {
            match &*call.task() {
                "busy" => call.sleep(100_000).await,
                "work" if call.clock.now().0 < 1_700_000_001_000 => {
                    return Err(ModelError::new(ModelErrorKind::Network, "no connection"));
                }
                _ => {}
            }
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    let work = rig.spawn("work").await;
    rig.sleep(1).await;
    rig.spawn("busy").await;
    rig.sleep(50_000).await;
    faults.arm("sessions", "settings_changed");
    // The manager that is up again tells all three sessions.
    faults.arm_too("session", "hello", 3);
    rig.handle.apply((*rig.handle.settings()).clone()).await.unwrap();
    rig.until("the panics", |_| faults.fired()).await;
    assert_eq!(rig.outcome(work.run).await.state, Terminal::Ok);
    rig.finish().await;
}
