//! The same request twice is one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{Answer, CallbackRow, Op, OpenCallback, Storage};
use offshoot_actors::types::{Callback, IdempotencyKey, Origin, PromptRequest, RunId, Secret, Timestamp};

use crate::rig::{Answered, Asked, Call, Rig, main_key, request, setup};

async fn echo(call: Call) -> Result<Answer, offshoot_actors::ports::ModelError> {
    call.sleep(100).await;
    Ok(Answer::text(if call.request.session.is_subagent() { call.task() } else { "NO_REPLY".into() }))
}

#[tokio::test(start_paused = true)]
async fn a_repeated_spawn_is_the_same_spawn() {
    let rig = setup().start(echo).await;
    let first = rig.spawn("key=k|work").await;
    assert_eq!(rig.spawn("key=k|work").await, first);
    rig.quiet().await;
    assert_eq!(rig.spawn("key=k|work").await, first);
    let together =
        join_all((0..10).map(|_| rig.handle.spawn(request(main_key(), "key=m|work"), Origin::Operator)))
            .await;
    let mut runs: Vec<RunId> = together.into_iter().map(|answer| answer.unwrap().run).collect();
    runs.dedup();
    assert_eq!(runs.len(), 1);
    for arguments in ["key=k|other", "key=k,label=x|work", "key=k,session|work", "key=k,timeout=1|work"] {
        let refusal = rig.handle.spawn(request(main_key(), arguments), Origin::Operator).await.unwrap_err();
        assert_eq!(refusal.code, "idempotency_conflict", "{arguments}");
        assert_eq!(
            refusal.to_string(),
            "idempotency key \"k\" was used for a request with other parameters (use a new key for a new request)"
        );
    }
    // Another principal's key is another key.
    let other = rig.handle.spawn(request(main_key(), "key=k|work"), Origin::Embedder).await.unwrap();
    assert_ne!(other.run, first.run);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_client_says_that_it_is_new_is_checked_all_the_same() {
    let rig = setup().start(echo).await;
    let first = rig.spawn("key=k|work").await;
    let mut again = request(main_key(), "key=k|work");
    again.idempotency.as_mut().unwrap().may_repeat = false;
    assert_eq!(rig.handle.spawn(again.clone(), Origin::Operator).await.unwrap(), first);
    again.task = "other".into();
    assert_eq!(rig.handle.spawn(again, Origin::Operator).await.unwrap_err().code, "idempotency_conflict");
    rig.finish().await;
}

fn prompt(text: &str, key: &str) -> PromptRequest {
    let mut request = PromptRequest::new(main_key(), text);
    request.idempotency = Some(IdempotencyKey { key: key.to_owned(), may_repeat: true });
    request
}

async fn submit(rig: &Rig, request: PromptRequest) -> Result<RunId, &'static str> {
    let answer = rig.handle.submit(request, Origin::Operator).await;
    answer.map(|submitted| submitted.run).map_err(|refusal| refusal.code)
}

#[tokio::test(start_paused = true)]
async fn a_repeated_message_is_the_same_message() {
    let rig = setup().start(echo).await;
    let first = submit(&rig, prompt("hello", "k")).await.unwrap();
    let together = join_all((0..10).map(|_| submit(&rig, prompt("hello", "k")))).await;
    assert!(together.iter().all(|run| *run == Ok(first)));
    rig.quiet().await;
    assert_eq!(submit(&rig, prompt("hello", "k")).await, Ok(first));
    assert_eq!(submit(&rig, prompt("other", "k")).await, Err("idempotency_conflict"));
    let mut other = prompt("hello", "k");
    other.model = Some("test/other".into());
    assert_eq!(submit(&rig, other).await, Err("idempotency_conflict"));
    assert_eq!(rig.storage.all_runs().len(), 1);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeat_after_a_restart_is_the_same_request() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = setup().on(&storage, 1).start(echo).await;
    let (child, run) = (rig.spawn("key=k|work").await, submit(&rig, prompt("hello", "k")).await.unwrap());
    rig.quiet().await;
    let runs = storage.all_runs().len();
    rig.stop().await;
    let rig = setup().on(&storage, 2).start(echo).await;
    assert_eq!(rig.spawn("key=k|work").await, child);
    assert_eq!(submit(&rig, prompt("hello", "k")).await, Ok(run));
    assert_eq!(rig.storage.all_runs().len(), runs);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn where_a_result_is_wanted_is_kept_in_the_commit_that_accepts_the_run() {
    let (setup, faulty) = setup().faulty();
    let rig = setup.start(echo).await;
    let wanted = || {
        let mut request = prompt("hello", "k");
        request.callback =
            Some(Callback { address: Secret::presented("http://receiver/"), at: Timestamp(5) });
        request
    };
    faulty.refuse(|op| matches!(op, Op::InsertRun(_)));
    assert_eq!(submit(&rig, wanted()).await, Err("store"));
    assert_eq!(rig.storage.callbacks().await.unwrap(), []);
    let together = Arc::new(AtomicBool::new(false));
    let saw = Arc::clone(&together);
    faulty.spoil(move |asked| {
        if let Asked::Submit(transaction) = asked
            && transaction.iter().any(|op| matches!(op, Op::InsertRun(_)))
        {
            saw.store(transaction.iter().any(|op| matches!(op, Op::PutCallback(_))), Ordering::Relaxed);
        }
        Answered::Well
    });
    let run = submit(&rig, wanted()).await.unwrap();
    assert!(together.load(Ordering::Relaxed));
    let kept = rig.storage.callbacks().await.unwrap();
    let asked = CallbackRow { run, address: Secret::presented("http://receiver/"), at: Timestamp(5) };
    assert_eq!(
        kept,
        [OpenCallback { callback: asked, attempts: 0, next: None }],
        "as whoever asked knows it, and takes it out again"
    );
    assert_eq!(submit(&rig, wanted()).await, Ok(run));
    assert_eq!(rig.storage.callbacks().await.unwrap().len(), 1);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_accepted_is_not_refused_when_it_comes_again() {
    let rig = setup().with(|settings| settings.prompts.max_queued = 2).start(echo).await;
    let mut last = Ok(RunId(uuid::Uuid::nil()));
    let mut accepted = 0;
    let code = loop {
        let key = accepted.to_string();
        match submit(&rig, prompt("hello", &key)).await {
            Ok(run) => last = Ok(run),
            Err(code) => break code,
        }
        accepted += 1;
    };
    assert_eq!(code, "queue_full");
    let name = (accepted - 1).to_string();
    assert_eq!(submit(&rig, prompt("hello", &name)).await, last);
    assert_eq!(submit(&rig, prompt("other", &name)).await, Err("idempotency_conflict"));
    rig.finish().await;
}
