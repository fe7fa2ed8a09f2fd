//! Calls and replies.

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
