//! Trees of several levels, wide fan-outs, and a stop in the middle of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use offshoot_actors::ports::{Answer, RunState};
use offshoot_actors::types::{Entry, Origin, SessionKey, Terminal, Usage};

use crate::rig::{Answered, Asked, Call, Rig, brief, call, items, main_key, setup, soon};

/// Every session above the last level spawns `width` children, waits for them, and joins their results.
async fn join_below(call_: Call, width: usize, levels: usize) -> Answer {
    let task = call_.task();
    let level = if task == "go" { 0 } else { task.split('.').count() };
    if level == levels {
        call_.sleep(10).await;
        return Answer { usage: Usage { input: 3, output: 2, cached: 1 }, ..Answer::text(task) };
    }
    match call_.request.step {
        1 => Answer::tools(
            (0..width)
                .map(|number| {
                    let name = if level == 0 { number.to_string() } else { format!("{task}.{number}") };
                    call(&format!("s{number}"), "spawn", &name)
                })
                .collect(),
        ),
        2 => Answer::tools(vec![call("y", "yield", "")]),
        _ => {
            let mut texts: Vec<_> = call_.results().into_iter().filter_map(|item| item.text).collect();
            texts.sort();
            Answer {
                usage: Usage { input: 1, output: 1, cached: 0 },
                ..Answer::text(format!("[{}]", texts.join(" ")))
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn results_flow_up_three_levels_that_wait() {
    let rig = setup().start(|call| async { Ok(join_below(call, 2, 3).await) }).await;
    let outcome = rig.answer("go").await;
    assert_eq!(
        outcome.text.as_deref(),
        Some("[[[0.0.0 0.0.1] [0.1.0 0.1.1]] [[1.0.0 1.0.1] [1.1.0 1.1.1]]]")
    );
    assert_eq!(rig.storage.all_runs().len(), 1 + 2 + 4 + 8);
    let results = items(&rig.transcript(&main_key()));
    let below = Usage { input: 3 * 4 + 3, output: 2 * 4 + 3, cached: 4 };
    assert_eq!(results.iter().map(|item| item.usage).collect::<Vec<_>>(), [below, below]);
    assert_eq!(rig.live("session"), ["offshoot/sessions/agent:main:main"]);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn results_flow_up_on_many_threads() {
    for _ in 0..10 {
        let rig = setup()
            .with(|settings| settings.lanes.subagent = 2)
            .start(|call| async { Ok(join_below(call, 3, 3).await) })
            .await;
        let outcome = rig.answer("go").await;
        assert_eq!(outcome.text.unwrap().matches('.').count(), 2 * 27);
        assert_eq!(rig.storage.all_runs().len(), 1 + 3 + 9 + 27);
        rig.quiet().await;
        rig.check().await;
        rig.stop().await;
    }
}

fn wide() -> crate::rig::Setup {
    setup().with(|settings| {
        settings.subagents.max_children = 1_001;
        settings.subagents.max_descendants = 1_001;
        settings.lanes.subagent = 8;
    })
}

async fn child_or_note(call: Call) -> Answer {
    let task = call.task();
    if task.starts_with("child") {
        call.sleep(100).await;
        return Answer::text(task);
    }
    Answer::text(format!("took {}", call.news().len()))
}

async fn fan_out(rig: &Rig, count: usize) -> Vec<offshoot_actors::types::Accepted> {
    let mut children = Vec::new();
    for number in 0..count {
        children.push(rig.spawn(&format!("child {number}")).await);
    }
    children
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_of_a_thousand_goes_through_a_lane_of_eight() {
    let rig = wide().start(|call| async { Ok(child_or_note(call).await) }).await;
    let children = fan_out(&rig, 1_000).await;
    rig.quiet().await;
    assert_eq!(rig.log.children_peak(), 8);
    let order: Vec<_> = rig.log.calls.lock().unwrap().iter().map(|call| call.1).collect();
    let order: Vec<_> =
        order.into_iter().filter(|run| children.iter().any(|child| child.run == *run)).collect();
    assert!(
        order.iter().eq(children.iter().map(|child| &child.run)),
        "the children run in order of their spawns"
    );
    let results = items(&rig.transcript(&main_key()));
    assert_eq!(results.len(), 1_000);
    assert!(results.iter().all(|item| item.state == Terminal::Ok));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_the_middle_of_a_fan_out_ends_all_of_it() {
    let rig = wide().start(|call| async { Ok(child_or_note(call).await) }).await;
    let children = fan_out(&rig, 1_000).await;
    rig.sleep(5_050).await;
    let stopped = soon("the stop", rig.handle.stop(main_key(), Origin::Operator)).await.unwrap();
    let called = rig.log.count();
    assert_eq!(rig.log.in_flight(), 0);
    rig.quiet().await;
    rig.sleep(100_000).await;
    assert_eq!(rig.log.count(), called, "a model call started after the stop");
    let state = |child: &offshoot_actors::types::Accepted| rig.row(child.run).state;
    let ok = children.iter().filter(|child| state(child) == RunState::Ended(Terminal::Ok)).count();
    let cancelled =
        children.iter().filter(|child| state(child) == RunState::Ended(Terminal::Cancelled)).count();
    assert_eq!((ok, ok + cancelled), (400, 1_000));
    assert!(stopped.ended.len() >= cancelled, "{} of {cancelled} are told", stopped.ended.len());
    for child in children.iter().filter(|child| state(child) == RunState::Ended(Terminal::Cancelled)) {
        assert!(stopped.ended.contains(&child.run));
    }
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_in_the_middle_of_a_fan_out_ends_what_the_run_spawned() {
    let rig = wide()
        .start(|call_: Call| async move {
            if call_.task() != "go" {
                return Ok(child_or_note(call_).await);
            }
            Ok(match call_.request.step {
                // One step makes at most 128 calls.
                step @ 1..=10 => Answer::tools(
                    (0..100)
                        .map(|number| format!("child {step}.{number}"))
                        .map(|task| call(&task, "spawn", &task))
                        .collect(),
                ),
                _ => Answer::tools(vec![call("y", "yield", "")]),
            })
        })
        .await;
    let stays = rig.spawn("child stays").await;
    let run = rig.say("go").await;
    rig.until("some have ended", |rig| {
        rig.storage.all_runs().iter().filter(|row| !row.state.is_open()).count() >= 400
    })
    .await;
    let stopped = soon("the cancel", rig.handle.cancel(run, Origin::Operator)).await.unwrap();
    let called = rig.log.count();
    let runs = rig.storage.all_runs();
    let mine: Vec<_> = runs.iter().filter(|row| row.spawner == Some(run)).collect();
    assert_eq!(mine.len(), 1_000);
    assert!(mine.iter().all(|row| !row.state.is_open()), "the cancel answers when all are terminal");
    let cancelled: Vec<_> = mine
        .iter()
        .filter(|row| row.state == RunState::Ended(Terminal::Cancelled))
        .map(|row| row.id)
        .collect();
    assert!(cancelled.len() > 100 && cancelled.len() < 1_000);
    assert!(cancelled.iter().all(|run| stopped.ended.contains(run)), "every ended run is told");
    assert_eq!(stopped.ended.last(), Some(&run), "leaves first");
    assert_eq!(rig.outcome(run).await.state, Terminal::Cancelled);
    rig.quiet().await;
    assert_eq!(rig.outcome(stays.run).await.state, Terminal::Ok);
    // Results that had come before the cancel start at most one run of the parent; no child calls a model.
    assert!(rig.log.calls.lock().unwrap()[called..].iter().all(|call| !call.0.is_subagent()));
    let results = items(&rig.transcript(&main_key()));
    assert_eq!(results.len(), 1_001);
    let told = results.iter().filter(|item| item.state == Terminal::Cancelled).count();
    assert_eq!(told, cancelled.len());
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_grandchild_of_a_finished_child_reaches_the_root() {
    let rig = setup()
        .start(|call_: Call| async move {
            Ok(match (&*call_.task(), call_.request.step) {
                ("middle", 1) => Answer::tools(vec![call("s", "spawn", "leaf")]),
                ("middle", _) => Answer::text("middle is done"),
                ("leaf", _) => {
                    call_.sleep(5_000).await;
                    Answer::text("from the leaf")
                }
                _ => Answer::text(format!("{} got {}", call_.request.session, call_.news().join(","))),
            })
        })
        .await;
    let child = rig.spawn("middle").await;
    rig.quiet().await;
    let results: Vec<_> = items(&rig.transcript(&main_key())).iter().map(brief).collect();
    assert_eq!(
        results,
        ["ok:middle is done".to_owned(), format!("ok:{} got ok:from the leaf", child.session)]
    );
    let answers = rig.transcript(&main_key());
    let last = answers.iter().rev().find_map(|entry| match &entry.entry {
        Entry::Assistant { text, .. } => Some(text.clone()),
        _ => None,
    });
    assert!(last.unwrap().ends_with("got ok:from the leaf"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_tree_to_be_quiet_is_not_held_up_by_another_tree() {
    let (setup, faulty) = setup().faulty();
    let rig = setup
        .start(|call: Call| async move {
            call.sleep(if call.task() == "long" { 1_000 } else { 1 }).await;
            Ok(Answer::text("done"))
        })
        .await;
    let looks = Arc::new(AtomicU32::new(0));
    let look = Arc::clone(&looks);
    faulty.spoil(move |asked| {
        look.fetch_add(u32::from(matches!(asked, Asked::Unfinished(_))), Ordering::Relaxed);
        Answered::Well
    });
    let other: SessionKey = "agent:main:other".parse().unwrap();
    let long = rig.say("long").await;
    let busy = async {
        loop {
            let run = rig.say_to(other.clone(), "short").await;
            rig.outcome(run).await;
        }
    };
    tokio::select! {
        () = busy => {}
        () = rig.quiet() => {}
    }
    assert!(!rig.row(long).state.is_open());
    assert!(rig.runs_of(&other).len() > 100, "the other tree worked all the while");
    assert!(looks.load(Ordering::Relaxed) <= 3, "{looks:?} looks");
    soon("the other tree", rig.handle.quiet(&other)).await.unwrap();
    rig.finish().await;
}
