//! Ends, stops and deletions that somebody else was faster with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use offshoot_actors::delete_stored;
use offshoot_actors::ports::{Answer, Op, RunEnd, RunState, Storage, TokioClock};
use offshoot_actors::types::{
    Cleanup, Mode, Origin, Outcome, RunId, SpawnRequest, Terminal, Timestamp, Usage,
};

use crate::rig::{Answered, Asked, Call, main_key, request, setup, texts};

/// A child that is deleted once its result is taken.
fn passing() -> SpawnRequest {
    let mut request: SpawnRequest = request(main_key(), "quiet|work");
    request.cleanup = Cleanup::Delete;
    request.mode = Mode::Run;
    request
}

async fn end_in_the_store(storage: &dyn Storage, run: RunId) {
    let outcome = Outcome::ended(Terminal::Interrupted, "somebody else was first", None);
    let end = RunEnd { run, outcome, usage: Usage::default(), steps: 0, at: Timestamp(1) };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    storage.submit(vec![Op::EndRun(Box::new(end))], Box::new(move |result| drop(sender.send(result))));
    receiver.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_an_end_that_somebody_else_wrote_the_next_message_is_answered() {
    let rig = setup()
        .start(|call: Call| async move {
            call.sleep(1_000).await;
            Ok(Answer::text(format!("did {}", call.task())))
        })
        .await;
    let first = rig.say("first").await;
    rig.sleep(100).await;
    end_in_the_store(rig.storage.as_ref(), first).await;
    assert_eq!(rig.outcome(first).await.state, Terminal::Interrupted);
    assert_eq!(rig.answer("second").await.text.as_deref(), Some("did second"));
    let transcript = rig.transcript(&main_key());
    assert_eq!(texts(&transcript), ["first", "second"]);
    assert_eq!(transcript.len(), 3, "the answer that was not committed is not there");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_full_store_keeps_open_at_the_start_is_not_executed_meanwhile() {
    let rig = setup().start(|_: Call| async move { std::future::pending().await }).await;
    rig.say("work").await;
    let waiting = rig.say("waiting").await;
    rig.sleep(10).await;
    let storage = Arc::clone(&rig.storage);
    rig.stop().await;
    let (setup, faulty) = setup().on(&storage, 8).faulty();
    let refused = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&refused);
    faulty.spoil(move |asked| match asked {
        Asked::Submit(transaction)
            if transaction.iter().any(|op| matches!(op, Op::EndRun(end) if end.run == waiting))
                && count.fetch_add(1, Ordering::Relaxed) < 5 =>
        {
            Answered::WithAnError
        }
        _ => Answered::Well,
    });
    let rig = setup.start(|call: Call| async move { Ok(Answer::text(format!("did {}", call.task()))) }).await;
    assert_eq!(rig.row(waiting).state, RunState::Accepted, "the store did not take its end yet");
    assert_eq!(rig.answer("hello").await.text.as_deref(), Some("did hello"));
    assert_eq!(rig.row(waiting).state, RunState::Ended(Terminal::Interrupted));
    assert_eq!(rig.log.count(), 1, "only the message of this process was worked on");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_of_one_that_starts_says_what_it_ended() {
    for _ in 0..50 {
        let rig = setup().start(|_: Call| async move { std::future::pending().await }).await;
        let child = rig.handle.spawn(passing(), Origin::Operator).await.unwrap();
        let stopped = rig.handle.stop(child.session, Origin::Operator).await.unwrap();
        assert_eq!(stopped.ended, [child.run]);
        let audited = rig.storage.audit().iter().filter(|line| line.event == "session.stopped").count();
        assert_eq!(audited, 1);
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_takes_only_what_it_names() {
    let rig = setup()
        .start(|call: Call| async move {
            call.sleep(1_000).await;
            Ok(Answer::text("done"))
        })
        .await;
    let parent = rig.handle.spawn(passing(), Origin::Operator).await.unwrap();
    let kept =
        rig.handle.spawn(request(parent.session.clone(), "quiet|below"), Origin::Operator).await.unwrap();
    rig.quiet().await;
    let storage = Arc::clone(&rig.storage);
    rig.stop().await;
    assert!(storage.session(parent.session.clone()).await.unwrap().is_some(), "its child keeps it");
    let clock = TokioClock::starting_at(Timestamp(1));
    let deleted = delete_stored(storage.as_ref(), &clock, &kept.session, Origin::Operator).await.unwrap();
    assert_eq!(deleted, [kept.session]);
    assert!(storage.session(parent.session).await.unwrap().is_some());
}
