//! What a daemon that died left open goes on at the next start.

use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{Answer, Event, Host, ModelError, ModelErrorKind};
use offshoot_actors::types::{
    Entry, Origin, RecoveryMode, RunId, SessionKey, SpawnRequest, Terminal, ToolStatus, Usage,
};

use crate::rig::{Answered, Asked, Call, Rig, Setup, brief, call, items, main_key, request, setup, soon};

/// A daemon, for the first time or on what another one left.
fn daemon() -> Setup {
    Setup { host: Host::Daemon, ..setup() }
}

async fn script(call_: Call) -> Result<Answer, ModelError> {
    let task = call_.task();
    Ok(match (&*task, call_.request.step) {
        ("go", 1) => {
            Answer::tools(vec![call("1", "spawn", "one"), call("2", "spawn", "two"), call("3", "yield", "")])
        }
        ("one", 1) => Answer::tools(vec![call("1", "wait", "10"), call("2", "wait", "20")]),
        ("busy", _) => return Err(ModelError::new(ModelErrorKind::Server, "overloaded")),
        ("wait for one", 1) => Answer::tools(vec![call("1", "spawn", "one"), call("2", "yield", "")]),
        ("hang", _) => std::future::pending().await,
        ("hang once", 1) => Answer::tools(vec![call("a", "hang", ""), call("b", "wait", "5")]),
        ("wait long", 1) => Answer::tools(vec![call("a", "wait", "1000")]),
        ("wait long", _) => std::future::pending().await,
        ("five", 1) => {
            let mut calls: Vec<_> = (1..=2).map(|n| call(&n.to_string(), "spawn", "two")).collect();
            calls.extend((3..=5).map(|n| call(&n.to_string(), "spawn", "hang")));
            calls.push(call("y", "yield", ""));
            Answer::tools(calls)
        }
        _ => {
            let mut news = call_.news();
            news.sort();
            Answer::text(format!("{task}: {}", news.join(",")))
        }
    })
}

/// The next start, in which nothing hangs any more.
async fn recovered(call_: Call) -> Result<Answer, ModelError> {
    match &*call_.task() {
        "hang" => Ok(Answer::text("hung")),
        "busy" => Ok(Answer::text("at last")),
        _ => script(call_).await,
    }
}

fn results(rig: &Rig, run: RunId) -> Vec<(String, ToolStatus)> {
    let transcript = rig.transcript(&rig.row(run).session);
    let results =
        transcript.iter().filter(|entry| entry.run == Some(run)).filter_map(|entry| match &entry.entry {
            Entry::ToolResult { call, status, .. } => Some((call.to_string(), *status)),
            _ => None,
        });
    results.collect()
}

fn audited(storage: &MemoryStorage, event: &str) -> usize {
    storage.audit().iter().filter(|record| record.event == event).count()
}

#[tokio::test(start_paused = true)]
async fn a_tree_comes_to_the_same_end_after_a_restart_at_any_commit() {
    let recorded = Arc::new(MemoryStorage::recording());
    let rig = Setup { storage: Arc::clone(&recorded), ..daemon() }.start(script).await;
    let run = rig.say("go").await;
    let wanted = rig.outcome(run).await.text;
    assert_eq!(wanted.as_deref(), Some("go: ok:one: ,ok:two: "));
    rig.quiet().await;
    rig.stop().await;
    for commit in 0..=recorded.commits() {
        let storage = Arc::new(recorded.at_commit(commit).unwrap());
        let rig = daemon().on(&storage, 1_000 + commit).start(script).await;
        if storage.all_runs().iter().any(|row| row.id == run) {
            assert_eq!(rig.outcome(run).await.text, wanted, "after commit {commit}");
        }
        rig.quiet().await;
        let children = rig.storage.all_sessions().iter().filter(|row| row.depth == 1).count();
        assert!(children == 0 || children == 2, "after commit {commit}: {children} children");
        rig.finish().await;
    }
}

/// A run of the first process, at the moment that `reached` tells, and the store as it is then.
async fn died(text: &str, reached: impl Fn(&Rig, RunId) -> bool) -> (Arc<MemoryStorage>, RunId) {
    let storage = Arc::new(MemoryStorage::new());
    let rig = daemon().on(&storage, 1).start(script).await;
    let run = rig.say(text).await;
    rig.until("it got there", |rig| reached(rig, run)).await;
    let left = Arc::new(storage.snapshot());
    rig.stop().await;
    (left, run)
}

#[tokio::test(start_paused = true)]
async fn of_a_call_with_an_unknown_outcome_the_model_is_told_and_nothing_is_repeated() {
    let (storage, run) = died("hang once", |rig, run| results(rig, run).len() == 1).await;
    let rig = daemon().on(&storage, 2).start(script).await;
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("hang once: "));
    let wanted = [("b".to_owned(), ToolStatus::Ok), ("a".to_owned(), ToolStatus::Unknown)];
    assert_eq!(results(&rig, run), wanted);
    assert!(rig.log.tools.lock().unwrap().is_empty(), "no tool is called again");
    assert_eq!(audited(&storage, "tool.unknown"), 1);
    assert_eq!(rig.log.steps(run), [2], "no model call is made again");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_call_is_repeated_and_that_is_on_record() {
    let (storage, run) = died("wait long", |rig, _| rig.log.tools.lock().unwrap().len() == 1).await;
    let rig = daemon().on(&storage, 2).start(recovered).await;
    rig.until("it is done", |rig| results(rig, run).len() == 1).await;
    assert_eq!(results(&rig, run), [("a".to_owned(), ToolStatus::Ok)]);
    assert_eq!(audited(&storage, "tool.repeated"), 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_waits_for_five_wakes_once_with_all_results() {
    let storage = Arc::new(MemoryStorage::new());
    let lanes = |settings: &mut offshoot_actors::types::Settings| settings.lanes.subagent = 2;
    let rig = daemon().with(lanes).on(&storage, 1).start(script).await;
    let run = rig.say("five").await;
    // Two have ended, two are in a model call, one waits in its lane.
    rig.until("two work", |rig| rig.row(run).state.as_str() == "yielded" && rig.log.in_flight() == 2).await;
    assert_eq!(rig.storage.outbox().len(), 2);
    let left = Arc::new(storage.snapshot());
    rig.stop().await;
    let rig = daemon().with(lanes).on(&left, 2).start(recovered).await;
    assert_eq!(
        rig.outcome(run).await.text.as_deref(),
        Some("five: ok:hung,ok:hung,ok:hung,ok:two: ,ok:two: ")
    );
    assert_eq!(rig.log.steps(run), [2], "it wakes once");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_step_is_made_again_and_its_text_is_void() {
    let (storage, run) = died("hang", |rig, _| rig.log.in_flight() == 1).await;
    let rig = daemon().on(&storage, 2).start(recovered).await;
    rig.outcome(run).await;
    let restarted = |event: &Event| matches!(event, Event::StepRestarted { run: of, .. } if *of == run);
    assert_eq!(rig.events.count(restarted), 1);
    assert_eq!(rig.log.steps(run), [1]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_to_a_run_is_taken_by_the_run_that_goes_on() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = daemon().on(&storage, 1).start(script).await;
    let run = rig.say("wait long").await;
    rig.until("it works", |rig| rig.log.tools.lock().unwrap().len() == 1).await;
    soon("a steer", rig.handle.steer(main_key(), "hurry".into(), Origin::Operator)).await.unwrap();
    let left = Arc::new(storage.snapshot());
    rig.stop().await;
    let rig = daemon()
        .on(&left, 2)
        .start(|call: Call| async move { Ok(Answer::text(call.messages().join("+"))) })
        .await;
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("wait long+hurry"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn time_that_was_used_before_counts_and_time_between_does_not() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = daemon().on(&storage, 1).start(script).await;
    let child = rig.spawn("timeout=3000|wait long").await.run;
    rig.until("one step is made", |rig| results(rig, child).len() == 1).await;
    rig.stop().await;
    assert_eq!(rig_used(&storage, child), Duration::from_secs(1));
    let rig = daemon().on(&storage, 2).start(script).await;
    let begun = rig.clock.monotonic();
    assert_eq!(rig.outcome(child).await.state, Terminal::Timeout);
    let took = rig.clock.monotonic().since(begun);
    assert!((1_990..2_100).contains(&took.as_millis()), "{took:?}");
    rig.quiet().await;
    rig.stop().await;
}

fn rig_used(storage: &MemoryStorage, run: RunId) -> Duration {
    storage.all_runs().into_iter().find(|row| row.id == run).unwrap().used
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_at_work_at_two_starts_that_died_is_quarantined_and_told() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = daemon().on(&storage, 1).start(script).await;
    let child = rig.spawn("hang").await.run;
    rig.until("it works", |rig| rig.log.in_flight() == 1).await;
    rig.stop().await;
    let rig = daemon().on(&storage, 2).start(script).await;
    rig.until("it works", |rig| rig.log.in_flight() == 1).await;
    rig.stop().await;
    let rig = daemon().on(&storage, 3).start(script).await;
    let outcome = rig.outcome(child).await;
    assert_eq!(outcome.state, Terminal::Interrupted);
    assert!(outcome.reason.unwrap().starts_with("quarantined"));
    rig.quiet().await;
    assert_eq!(items(&rig.transcript(&main_key())).iter().map(brief).collect::<Vec<_>>(), ["interrupted:"]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_kills_each_start_before_any_run_works_is_put_aside() {
    let (storage, run) = died("hang", |rig, _| rig.log.in_flight() == 1).await;
    for start in 2..4 {
        let (setup, faulty) = daemon().on(&storage, start).faulty();
        faulty.spoil(|asked| match asked {
            Asked::Load(_) => Answered::Late(Duration::from_secs(60)),
            _ => Answered::Well,
        });
        let rig = setup.start(recovered).await;
        rig.sleep(1_000).await;
        assert_eq!((rig.log.in_flight(), rig.row(run).attempts), (0, 1), "it does not get that far");
        rig.stop().await;
    }
    let rig = daemon().on(&storage, 4).start(recovered).await;
    let outcome = rig.outcome(run).await;
    assert_eq!(outcome.state, Terminal::Interrupted);
    assert!(outcome.reason.unwrap().contains("before any run was at work"));
    assert_eq!(rig.answer("hello").await.state, Terminal::Ok);
    let audit = storage.audit();
    let recovered = audit.iter().filter(|line| line.event == "daemon.recovered");
    let resumed: Vec<_> = recovered.map(|line| line.facts[0].1.clone()).collect();
    assert_eq!(resumed, ["1", "1", "0"]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_in_its_lane_has_no_part_in_starts_that_die() {
    let storage = Arc::new(MemoryStorage::new());
    let lane = |settings: &mut offshoot_actors::types::Settings| settings.lanes.main = 1;
    let rig = daemon().with(lane).on(&storage, 1).start(script).await;
    let (first, second) = ("agent:main:first".parse().unwrap(), "agent:main:second".parse().unwrap());
    let refused = rig.say_to(first, "busy").await;
    rig.until("it has failed once", |rig| rig.log.steps(refused).len() == 1).await;
    let waits = rig.say_to(second, "wait for one").await;
    rig.until("it waits", |rig| rig.row(waits).state.as_str() == "yielded").await;
    let works = rig.say("hang").await;
    // By now the first has paused and the second was told of its child: both wait for the place that the third has.
    rig.until("it is told", |rig| rig.row(waits).state.as_str() == "running").await;
    rig.sleep(60_000).await;
    assert_eq!([works, refused, waits].map(|run| rig.row(run).attempts), [1, 0, 0]);
    rig.stop().await;
    let rig = daemon().with(lane).on(&storage, 2).start(script).await;
    assert_eq!(rig.outcome(waits).await.state, Terminal::Ok);
    rig.until("the third works", |rig| rig.log.in_flight() == 1).await;
    rig.sleep(60_000).await;
    assert_eq!([works, refused].map(|run| rig.row(run).attempts), [2, 0]);
    rig.stop().await;
    let rig = daemon().with(lane).on(&storage, 3).start(recovered).await;
    assert!(rig.outcome(works).await.reason.unwrap().starts_with("quarantined"));
    assert_eq!(rig.outcome(refused).await.state, Terminal::Ok);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn starts_that_live_for_a_while_or_stop_in_order_are_no_attempts() {
    let (storage, run) = died("hang", |rig, _| rig.log.in_flight() == 1).await;
    for start in 2..9 {
        let rig = daemon().on(&storage, start).start(script).await;
        rig.until("it works", |rig| rig.log.in_flight() == 1).await;
        if start % 2 == 0 {
            rig.sleep(601_000).await;
        } else {
            rig.tree.suspend(Duration::from_millis(10)).await;
        }
        assert_eq!(rig.row(run).attempts, 0);
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_spawn_may_say_that_its_run_is_not_to_be_resumed() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = daemon().on(&storage, 1).start(script).await;
    let spawn = SpawnRequest { recovery: Some(RecoveryMode::Interrupt), ..request(main_key(), "hang") };
    let ends = rig.handle.spawn(spawn, Origin::Operator).await.unwrap().run;
    let goes_on = rig.spawn("hang").await.run;
    rig.until("both work", |rig| rig.log.in_flight() == 2).await;
    rig.stop().await;
    let rig = daemon().on(&storage, 2).start(recovered).await;
    assert_eq!(rig.outcome(ends).await.state, Terminal::Interrupted);
    assert_eq!(rig.outcome(goes_on).await.state, Terminal::Ok);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_too_old_is_interrupted_and_its_parent_which_waits_is_told() {
    let waits = |rig: &Rig, run| rig.row(run).state.as_str() == "yielded" && rig.log.in_flight() == 3;
    let (storage, run) = died("five", waits).await;
    let hour = Duration::from_secs(3_600);
    let policy = |settings: &mut offshoot_actors::types::Settings| settings.recovery.max_age = Some(hour);
    let same = Arc::new(storage.snapshot());
    let rig = daemon().with(policy).on(&storage, 2).later(hour / 2).start(recovered).await;
    assert_eq!(rig.outcome(run).await.state, Terminal::Ok);
    assert!(items(&rig.transcript(&main_key())).iter().all(|item| item.state == Terminal::Ok));
    rig.finish().await;
    let rig = daemon().with(policy).on(&same, 2).later(hour * 2).start(recovered).await;
    assert_eq!(rig.outcome(run).await.state, Terminal::Ok, "it waits, and is never too old");
    let told = items(&rig.transcript(&main_key()));
    let (done, too_old): (Vec<_>, Vec<_>) = told.iter().partition(|item| item.state == Terminal::Ok);
    assert_eq!((done.len(), too_old.len()), (2, 3));
    for item in too_old {
        assert_eq!(item.state, Terminal::Interrupted);
        assert!(
            item.reason.as_ref().unwrap().contains("recovery.maxAge allows (3600 s)"),
            "{:?}",
            item.reason
        );
    }
    assert_eq!(rig.log.steps(run), [2], "it wakes once");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_of_a_resumed_run_stops_what_it_spawned_before() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = daemon().on(&storage, 1).start(script).await;
    let run = rig.say("five").await;
    rig.until("it waits", |rig| rig.row(run).state.as_str() == "yielded" && rig.log.in_flight() == 3).await;
    rig.stop().await;
    let rig = daemon().on(&storage, 2).start(script).await;
    rig.until("they go on", |rig| rig.log.in_flight() == 3).await;
    let stopped = soon("the cancel", rig.handle.cancel(run, Origin::Operator)).await.unwrap();
    assert_eq!(stopped.ended.len(), 4, "three children and the run itself");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_decision_holds_up_its_runs_and_nobody_else() {
    let (storage, run) = died("hang", |rig, _| rig.log.in_flight() == 1).await;
    let (setup, faulty) = daemon().on(&storage, 2).faulty();
    // The decision is on record with what it decides, and not where it was not taken.
    faulty.fail(20, |asked| match asked {
        Asked::Submit(transaction) => {
            transaction.iter().any(|op| matches!(op, offshoot_actors::ports::Op::ResumeRuns { .. }))
        }
        _ => false,
    });
    let rig = setup.start(recovered).await;
    let other: SessionKey = "agent:main:other".parse().unwrap();
    let beside = rig.say_to(other, "hello").await;
    assert_eq!(rig.outcome(beside).await.state, Terminal::Ok);
    assert!(rig.row(run).state.is_open());
    let decisions = || rig.storage.audit().iter().filter(|line| line.event == "daemon.recovered").count();
    assert_eq!(decisions(), 0);
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("hung"));
    assert_eq!(decisions(), 1);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn model_calls_of_many_resumed_runs_are_spread_for_each_provider() {
    let storage = Arc::new(MemoryStorage::new());
    let many = |settings: &mut offshoot_actors::types::Settings| {
        (settings.lanes.main, settings.subagents.max_children, settings.lanes.subagent) =
            (1_000, 1_000, 1_000);
    };
    let providers = ["test", "other"];
    let rig = daemon().with(many).on(&storage, 1).start(script).await;
    for _ in 0..300 {
        for provider in providers {
            rig.spawn(&format!("model={provider}/script|hang")).await;
        }
    }
    rig.until("all work", |rig| rig.log.in_flight() == 600).await;
    rig.stop().await;
    let rig = daemon().with(many).on(&storage, 2).start(script).await;
    let of = |provider: &str| {
        let calls = rig.log.calls.lock().unwrap();
        calls.iter().filter(|(.., model)| model.provider() == provider).count()
    };
    rig.sleep(1).await;
    let soon = providers.map(of);
    assert!(soon.iter().all(|calls| (100..=110).contains(calls)), "{soon:?}");
    rig.sleep(50).await;
    let later = providers.map(of);
    assert!(later.iter().all(|calls| (190..=220).contains(calls)), "{later:?}");
    rig.until("all work", |rig| rig.log.in_flight() == 600).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_tree_ends_its_steps_and_begins_nothing() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = daemon().on(&storage, 1).start(script).await;
    let run = rig.say("wait long").await;
    rig.until("it works", |rig| rig.log.tools.lock().unwrap().len() == 1).await;
    let begun = rig.clock.monotonic();
    let meanwhile = async {
        rig.sleep(10).await;
        let refused = rig.handle.spawn(request(main_key(), "two"), Origin::Operator).await.unwrap_err();
        (refused.code, rig.say_to("agent:main:other".parse().unwrap(), "later").await)
    };
    let ((), (code, later)) = tokio::join!(rig.tree.suspend(Duration::from_secs(60)), meanwhile);
    assert_eq!(code, "stopping");
    assert!(
        rig.clock.monotonic().since(begun) < Duration::from_secs(2),
        "it waits for the step, not for the time"
    );
    assert_eq!((results(&rig, run).len(), rig.log.steps(run)), (1, vec![1]));
    rig.stop().await;
    let rig = daemon().on(&storage, 2).start(|_| async { Ok(Answer::text("done")) }).await;
    for run in [run, later] {
        assert_eq!(rig.outcome(run).await.text.as_deref(), Some("done"));
    }
    assert!(rig.log.tools.lock().unwrap().is_empty());
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_result_tells_of_a_child_that_had_ended_before_the_restart_and_before_its_parent_began() {
    let recorded = Arc::new(MemoryStorage::recording());
    let script = |call: Call| async move {
        call.sleep(if call.task() == "busy" { 10_000 } else { 0 }).await;
        let usage = Usage { input: 10, output: 1, cached: 0 };
        Ok(Answer { usage, ..Answer::text(call.task()) })
    };
    let lane = |settings: &mut offshoot_actors::types::Settings| settings.lanes.subagent = 1;
    let rig = daemon().with(lane).on(&recorded, 1).start(script).await;
    // Each parent has a turn after the other.
    rig.spawn("busy").await;
    rig.spawn("next").await;
    let parent = rig.spawn("parent").await;
    let child = rig.spawn_in(parent.session.clone(), "child").await;
    rig.outcome(parent.run).await;
    rig.quiet().await;
    rig.stop().await;
    let at = (0..=recorded.commits()).find_map(|commit| {
        let storage = recorded.at_commit(commit).unwrap();
        let state = |run| storage.all_runs().iter().find(|row| row.id == run).map(|row| row.state.as_str());
        let between = state(child.run) == Some("ok") && state(parent.run) == Some("accepted");
        between.then(|| Arc::new(storage))
    });
    let rig = daemon().on(&at.expect("the child goes first"), 2).start(script).await;
    rig.outcome(parent.run).await;
    rig.quiet().await;
    let told = items(&rig.transcript(&main_key())).into_iter().find(|item| item.run == parent.run);
    assert_eq!(told.unwrap().usage, Usage { input: 20, output: 2, cached: 0 });
    rig.finish().await;
}
