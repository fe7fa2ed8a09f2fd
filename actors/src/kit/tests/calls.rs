//! Calls and replies.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_call_to_an_actor_that_dies_answers_gone() {
    let world = World::new();
    let root = world.root();
    let leaf = spawn::<Leaf>(&root, "leaf", alike(), world.starting(Start::Never)).await.unwrap();
    let waiting = leaf.ask(|_, _| ());
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    leaf.cell().kill();
    let before = world.now();
    assert_eq!(waiting.await, Err(Gone));
    leaf.ended().await;
    assert_eq!(leaf.ask(|_, _| ()).await, Err(Gone));
    assert_eq!(world.now(), before);
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_can_be_a_message_or_find_nobody() {
    let world = World::new();
    let root = world.root();
    let to = root.clone();
    let reply =
        Reply::to(move |number: u32| drop(to.send(job(move |node: &mut Node, _| node.numbers.push(number)))));
    root.job(move |_, _| reply.send(7));
    let (sender, _) = oneshot::channel();
    root.job(move |_, _| Reply::Channel(sender).send(8));
    world.settle().await;
    assert_eq!(root.ask(|node, _| node.numbers.clone()).await, Ok(vec![7]));
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_sender_arrive_in_order() {
    let world = World::new();
    let root = world.root();
    for number in 0..1_000 {
        root.job(move |node, _| node.numbers.push(number));
    }
    assert_eq!(root.ask(|node, _| node.numbers.clone()).await, Ok((0..1_000).collect()));
    world.end(root).await;
}

#[tokio::test]
async fn a_full_mailbox_does_not_keep_others_waiting_until_it_is_empty() {
    let world = World::new();
    let root = world.root();
    let busy = spawn::<Leaf>(&root, "busy", alike(), world.args()).await.unwrap();
    let other = spawn::<Leaf>(&root, "other", alike(), world.args()).await.unwrap();
    let done = Arc::new(AtomicU32::new(0));
    // Fewer than tokio lets a task take at once, and together longer than an actor may take.
    for _ in 0..100 {
        let (done, clock) = (Arc::clone(&done), Arc::clone(&world.system.clock));
        busy.job(move |_, _| {
            let begun = clock.monotonic();
            while clock.monotonic().since(begun) < Duration::from_micros(100) {}
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    let before = other.ask(move |_, _| done.load(Ordering::Relaxed)).await.unwrap();
    assert!(before < 50, "{before} of 100 messages came first");
    world.end(root).await;
}
