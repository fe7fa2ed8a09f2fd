//! No cap is ever passed, and every place comes back.

use std::sync::Arc;

use futures::future::join_all;
use offshoot_actors::ports::Answer;
use offshoot_actors::types::{IdempotencyKey, Origin, PromptRequest, Refusal, RefusalKind, SpawnRequest};

use crate::rig::{Call, Rig, main_key, request, setup, soon};

async fn parallel(rig: &Rig, count: usize) -> (usize, Vec<Refusal>) {
    let tasks = (0..count).map(|_| {
        let tree = rig.handle.clone();
        tokio::spawn(async move { tree.spawn(request(main_key(), "quiet|work"), Origin::Operator).await })
    });
    let (mut accepted, mut refused) = (0, Vec::new());
    for answer in soon("spawns", join_all(tasks)).await {
        match answer.unwrap() {
            Ok(_) => accepted += 1,
            Err(refusal) => refused.push(refusal),
        }
    }
    (accepted, refused)
}

async fn exactly_twenty() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let rig = setup()
        .with(|settings| settings.subagents.max_children = 20)
        .start(move |_: Call| {
            let gate = Arc::clone(&gate);
            async move {
                drop(gate.acquire().await);
                Ok(Answer::text("done"))
            }
        })
        .await;
    for _ in 0..2 {
        let (accepted, refused) = parallel(&rig, 25).await;
        assert_eq!((accepted, refused.len()), (20, 5));
        for refusal in refused {
            assert_eq!(refusal.kind, RefusalKind::Forbidden);
            assert_eq!(
                refusal.to_string(),
                "sessions_spawn has reached max active children for this session (20/20) (wait until a child \
                 ends, or raise agents.defaults.subagents.maxChildrenPerAgent (1 to 1,000,000))"
            );
        }
        opened.add_permits(20);
        rig.quiet().await;
        opened.forget_permits(20);
    }
    assert_eq!(rig.storage.audit().iter().filter(|line| line.event == "spawn.refused").count(), 10);
    assert_eq!(rig.storage.audit().iter().filter(|line| line.event == "spawn.accepted").count(), 40);
    rig.check().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_25_spawns_in_parallel_20_are_accepted() {
    for _ in 0..25 {
        exactly_twenty().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_25_spawns_in_parallel_20_are_accepted_on_many_threads() {
    for _ in 0..50 {
        exactly_twenty().await;
    }
}

#[tokio::test(start_paused = true)]
async fn descendants_of_a_whole_tree_are_capped() {
    let rig = setup()
        .with(|settings| {
            settings.subagents.max_descendants = 4;
            settings.subagents.max_children = 3;
        })
        .start(|call| async move {
            call.sleep(1_000).await;
            Ok(Answer::text("done"))
        })
        .await;
    let child = rig.spawn("session,quiet|work").await;
    for _ in 0..3 {
        rig.spawn_in(child.session.clone(), "quiet|work").await;
    }
    let refusal = rig.handle.spawn(request(main_key(), "one more"), Origin::Operator).await.unwrap_err();
    assert_eq!(refusal.code, "descendants");
    assert_eq!(refusal.message, "sessions_spawn has reached max active descendants for this tree (4/4)");
    rig.quiet().await;
    rig.spawn("work").await;
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_deepest_level_spawns_nothing() {
    let rig = setup()
        .with(|settings| settings.subagents.max_depth = 2)
        .start(|_| async { Ok(Answer::text("NO_REPLY")) })
        .await;
    let one = rig.spawn("session|work").await;
    let two = rig.spawn_in(one.session.clone(), "session|work").await;
    assert_eq!((one.depth, two.depth), (1, 2));
    let refusal = rig.handle.spawn(request(two.session, "work"), Origin::Operator).await.unwrap_err();
    assert_eq!(refusal.code, "depth");
    assert_eq!(refusal.message, "sessions_spawn is not allowed at this depth (current depth: 2, max: 2)");
    assert_eq!(refusal.hint.as_deref(), Some("raise agents.defaults.subagents.maxSpawnDepth (1 to 64)"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_spawn_for_a_session_that_does_not_exist_is_refused() {
    let rig = setup().start(|_| async { Ok(Answer::text("done")) }).await;
    for key in ["agent:main:subagent:00000000-0000-4000-8000-000000000000", "agent:nobody:main"] {
        let parent = key.parse().unwrap();
        let refusal = rig.handle.spawn(request(parent, "work"), Origin::Operator).await.unwrap_err();
        assert_eq!(
            (refusal.code, refusal.message),
            ("unknown_session", format!("there is no session {key}"))
        );
    }
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_text_without_bounds_is_refused_before_it_is_worked_on() {
    let rig = setup().start(|_: Call| async { Ok(Answer::text("NO_REPLY")) }).await;
    let long = "x".repeat(2_000_000);
    let key = |key: &str| Some(IdempotencyKey { key: key.to_owned(), may_repeat: true });
    type Change = fn(&mut SpawnRequest, String);
    let changes: [(&str, Change); 5] = [
        ("too_long", |request, long| {
            request.idempotency = Some(IdempotencyKey { key: long, may_repeat: true });
        }),
        ("too_long", |request, long| request.agent = Some(long)),
        ("too_long", |request, long| request.model = Some(long)),
        ("task_too_long", |request, long| request.task = long),
        ("label_too_long", |request, long| request.label = Some(long)),
    ];
    for (code, change) in changes {
        let mut request = SpawnRequest::new(main_key(), "task");
        request.idempotency = key("k");
        change(&mut request, long.clone());
        let refusal = rig.handle.spawn(request, Origin::Operator).await.unwrap_err();
        assert_eq!(refusal.code, code);
        assert!(refusal.to_string().len() < 300, "{refusal}");
    }
    let mut request = PromptRequest::new(main_key(), "hello");
    request.model = Some(long);
    assert_eq!(rig.handle.submit(request, Origin::Operator).await.unwrap_err().code, "too_long");
    let mut request = SpawnRequest::new(main_key(), "task");
    request.idempotency = key(&"k".repeat(512));
    rig.handle.spawn(request, Origin::Operator).await.unwrap();
    rig.finish().await;
}
