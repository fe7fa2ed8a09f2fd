//! Cancelling runs that a process left open, and deleting sessions.

use std::sync::Arc;

use offshoot_actors::ports::{Answer, Op, RunState, Storage, TokioClock};
use offshoot_actors::types::{Origin, RunId, SessionKey, Terminal, Timestamp};
use offshoot_actors::{cancel_stored, deletable, delete_stored};

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
    assert_eq!(reason, "cancelled by the operator");

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
async fn a_child_that_nobody_hears_of_goes_with_its_run() {
    let rig = setup().start(|_: Call| std::future::pending()).await;
    let (gone, kept) = (rig.spawn("delete,quiet|a").await, rig.spawn("quiet|b").await);
    let storage = Arc::clone(&rig.storage);
    rig.stop().await;
    let clock = TokioClock::starting_at(Timestamp(1));
    for child in [&gone, &kept] {
        cancel_stored(storage.as_ref(), &clock, child.run, Origin::Operator).await.unwrap();
    }
    assert!(storage.session(gone.session).await.unwrap().is_none());
    assert!(storage.session(kept.session).await.unwrap().is_some());
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

/// Takes every result that waits, as a tree would.
async fn take_all(storage: &dyn Storage) {
    for session in storage.waiting_sessions().await.unwrap() {
        let stored = storage.load_session(session.clone()).await.unwrap().unwrap();
        let runs = stored.announces.iter().map(|announce| announce.item.run).collect();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let take = vec![Op::TakeAnnounces { session, runs, by: None }];
        storage.submit(take, Box::new(move |result| drop(sender.send(result))));
        receiver.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_deleted_with_what_is_below_it_once_all_of_it_is_quiet() {
    let (rig, prompt, other) = left_open().await;
    let storage = Arc::clone(&rig.storage);
    rig.stop().await;
    let clock = TokioClock::starting_at(Timestamp(1));
    let main = SessionKey::main(&"main".parse().unwrap());
    let delete = |key: SessionKey| {
        let (storage, clock) = (Arc::clone(&storage), &clock);
        async move { delete_stored(storage.as_ref(), clock, &key, Origin::Operator).await }
    };
    let refusal = delete(main.clone()).await.unwrap_err();
    assert_eq!(refusal.code, "session_open");
    assert!(refusal.message.contains("is open"), "{refusal:?}");

    for run in [prompt, other] {
        cancel_stored(storage.as_ref(), &clock, run, Origin::Operator).await.unwrap();
    }
    let child = storage.run(other).await.unwrap().unwrap().session;
    for key in [&main, &child] {
        let refusal = delete(key.clone()).await.unwrap_err();
        assert_eq!(refusal.code, "session_open");
        assert!(refusal.message.ends_with(&format!("waits to be taken by session {main}")), "{refusal:?}");
    }
    assert_eq!(storage.all_runs().len(), 4);

    take_all(storage.as_ref()).await;
    let doomed = deletable(storage.as_ref(), &main).await.unwrap();
    assert_eq!((doomed.len(), doomed.last()), (4, Some(&main)));
    assert_eq!(delete(child.clone()).await.unwrap(), [child]);
    let deleted = delete(main.clone()).await.unwrap();
    assert_eq!((deleted.len(), deleted.last()), (3, Some(&main)));
    for key in doomed {
        assert_eq!(storage.session(key).await.unwrap(), None);
    }
    assert!(storage.run(prompt).await.unwrap().is_some(), "runs stay");
    assert_eq!(delete(main).await.unwrap_err().code, "unknown_session");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_and_a_deletion_leave_those_that_outlive_what_goes_away() {
    let rig = setup()
        .start(|call_: Call| async move {
            let next = match (call_.request.step, &*call_.task()) {
                (1, "prompt") => "session|child",
                (1, "child") => "exit=hand-over|grandchild",
                _ => return std::future::pending().await,
            };
            Ok(Answer::tools(vec![call("1", "spawn", next)]))
        })
        .await;
    let prompt = rig.say("prompt").await;
    rig.until("all three run", |rig| rig.log.in_flight() == 3).await;
    let storage = Arc::clone(&rig.storage);
    rig.stop().await;
    let clock = TokioClock::starting_at(Timestamp(1));
    let stopped = cancel_stored(storage.as_ref(), &clock, prompt, Origin::Operator).await.unwrap();
    assert_eq!(stopped.ended.len(), 2);
    let open: Vec<_> = storage.all_runs().into_iter().filter(|run| run.state.is_open()).collect();
    assert_eq!(open.len(), 1);
    let main: SessionKey = "agent:main:main".parse().unwrap();
    assert_eq!(open[0].announce_to.as_ref(), Some(&main));
    let grandchild = storage.session(open[0].session.clone()).await.unwrap().unwrap();
    assert_eq!((grandchild.parent, grandchild.depth), (Some(main.clone()), 2));

    // Of what waits for the main session somebody takes care first.
    let result = storage.outbox()[0].announce.clone().unwrap();
    let taken = Op::TakeAnnounces { session: main.clone(), runs: vec![result.item.run], by: None };
    offshoot_actors::contract::apply(storage.as_ref(), vec![taken]).await;
    let deleted = delete_stored(storage.as_ref(), &clock, &main, Origin::Operator).await.unwrap();
    assert_eq!(deleted, [result.item.session, main.clone()]);
    let alone = storage.session(open[0].session.clone()).await.unwrap().unwrap();
    assert_eq!((alone.parent, alone.outlived), (None, Some(main)));
}
