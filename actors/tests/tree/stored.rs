//! Cancelling runs that a process left open.

use std::sync::Arc;

use offshoot_actors::cancel_stored;
use offshoot_actors::ports::{Answer, RunState, Storage, TokioClock};
use offshoot_actors::types::{Origin, RunId, Terminal, Timestamp};

use crate::rig::{Call, Rig, call, setup};

/// Runs whose models never answer: a prompt with a child and a grandchild, and a child that nobody's run spawned.
async fn left_open() -> (Rig, RunId, RunId) {
    let rig = setup()
        .start(|call_: Call| async move {
            let next = match (call_.request.step, &*call_.task()) {
                (1, "prompt") => "child",
                (1, "child") => "grandchild",
                _ => return std::future::pending().await,
            };
            Ok(Answer::tools(vec![call("1", "spawn", next)]))
        })
        .await;
    let prompt = rig.say("prompt").await;
    let other = rig.spawn("other").await.run;
    rig.until("all four run", |rig| {
        rig.storage.all_runs().iter().filter(|run| run.state == RunState::Running).count() == 4
    })
    .await;
    (rig, prompt, other)
}

#[tokio::test(start_paused = true)]
async fn a_cancel_takes_what_the_run_spawned_and_nothing_else() {
    let (rig, prompt, other) = left_open().await;
    let storage = Arc::clone(&rig.storage);
    rig.stop().await;
    let clock = TokioClock::starting_at(Timestamp(1));
    let stopped = cancel_stored(storage.as_ref(), &clock, prompt, Origin::Operator).await.unwrap();
    assert_eq!(stopped.ended.len(), 3);
    assert_eq!(stopped.ended.last(), Some(&prompt), "the leaves end first");
    let open: Vec<RunId> =
        storage.all_runs().iter().filter(|run| run.state.is_open()).map(|run| run.id).collect();
    assert_eq!(open, [other]);
    let reason = storage.run(prompt).await.unwrap().unwrap().outcome.unwrap().reason.unwrap();
    assert_eq!(reason, "cancelled by origin=operator");

    let again = cancel_stored(storage.as_ref(), &clock, prompt, Origin::Operator).await.unwrap();
    assert!(again.ended.is_empty());
    assert_eq!(again.already.unwrap().state, Terminal::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_takes_what_a_child_left_open_when_it_ended() {
    let rig = setup()
        .start(|call_: Call| async move {
            let below = |next| Ok(Answer::tools(vec![call("1", "spawn", next)]));
            match (call_.request.step, &*call_.task()) {
                (1, "prompt") => below("child"),
                (1, "child") => below("grandchild"),
                (_, "child") => Ok(Answer::text("done")),
                _ => std::future::pending().await,
            }
        })
        .await;
    let prompt = rig.say("prompt").await;
    rig.until("the child has ended", |rig| {
        let runs = rig.storage.all_runs();
        runs.iter().any(|run| run.spawner == Some(prompt) && !run.state.is_open())
    })
    .await;
    let other = rig.spawn("other").await.run;
    let storage = Arc::clone(&rig.storage);
    rig.stop().await;
    let clock = TokioClock::starting_at(Timestamp(1));
    let stopped = cancel_stored(storage.as_ref(), &clock, prompt, Origin::Operator).await.unwrap();
    let left = |run: RunId| storage.all_runs().into_iter().find(|row| row.id == run).unwrap().state.is_open();
    assert_eq!((stopped.ended.len(), stopped.ended.last()), (2, Some(&prompt)));
    assert!(left(other) && !stopped.ended.iter().any(|run| left(*run)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_run_is_refused() {
    let (rig, ..) = left_open().await;
    let clock = TokioClock::starting_at(Timestamp(1));
    let nobody = RunId(uuid::Uuid::nil());
    let refusal = cancel_stored(rig.storage.as_ref(), &clock, nobody, Origin::Operator).await.unwrap_err();
    assert_eq!(refusal.code, "unknown_run");
    rig.stop().await;
}
