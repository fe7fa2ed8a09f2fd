//! How actors stop: order, time, door, join.

use super::*;

#[tokio::test(start_paused = true)]
async fn stopping_a_parent_runs_each_childs_stopping_in_reverse_order() {
    let world = World::new();
    let root = world.root();
    for key in ["a", "b", "c"] {
        spawn::<Node>(&root, key, in_order(), world.args()).await.unwrap();
    }
    root.stop();
    root.ended().await;
    let expected = ["a started", "b started", "c started", "root stopping", "c stopping", "c dropped"];
    let rest = ["b stopping", "b dropped", "a stopping", "a dropped", "root dropped"];
    assert_eq!(world.log.take(), [&expected[..], &rest[..]].concat());
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn children_that_are_alike_stop_side_by_side_and_before_those_in_order() {
    let world = World::new();
    let root = world.root();
    let slow = || world.starting(Start::After(3 * SECOND));
    spawn::<Node>(&root, "ordered", in_order(), slow()).await.unwrap();
    for key in ["x", "y", "z"] {
        spawn::<Node>(&root, key, alike(), slow()).await.unwrap();
    }
    world.settle().await;
    let asked = world.now();
    root.stop();
    root.ended().await;
    // An actor that starts cannot stop before it is done; all four were started together.
    assert!(world.now().since(asked) <= 3 * SECOND);
    let log = world.log.take();
    let stopped: Vec<_> = log.iter().filter(|line| line.ends_with("stopping")).collect();
    assert_eq!(stopped, ["root stopping", "x stopping", "y stopping", "z stopping", "ordered stopping"]);
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn alike_children_share_the_time_and_ordered_ones_have_each_their_own() {
    for (spec, time) in [(ChildSpec::alike(2 * SECOND), 2), (ChildSpec::in_order(2 * SECOND), 6)] {
        let world = World::new();
        let root = world.root();
        for key in ["x", "y", "z"] {
            spawn::<Node>(&root, key, spec, world.starting(Start::Never)).await.unwrap();
        }
        let asked = world.now();
        root.stop();
        root.ended().await;
        assert_eq!(world.now().since(asked).as_secs(), time);
        for key in ["root/x", "root/y", "root/z"] {
            assert_eq!(world.decisions(key), [NoteKind::Killed]);
        }
        world.empty();
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_hangs_is_killed_in_time_and_its_siblings_still_stop_in_order() {
    let world = World::new();
    let root = world.root();
    spawn::<Node>(&root, "first", in_order(), world.args()).await.unwrap();
    let spec = ChildSpec::in_order(2 * SECOND);
    spawn::<Node>(&root, "hangs", spec, world.starting(Start::Never)).await.unwrap();
    spawn::<Node>(&root, "last", in_order(), world.args()).await.unwrap();
    root.stop();
    root.ended().await;
    let log = world.log.take();
    let stopped: Vec<_> = log.iter().filter(|line| line.ends_with("stopping")).collect();
    assert_eq!(stopped, ["root stopping", "last stopping", "first stopping"]);
    assert_eq!(world.decisions("root/first"), []);
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn a_whole_subtree_stops_leaves_first() {
    let world = World::new();
    let root = world.root();
    let middle = spawn::<Node>(&root, "middle", alike(), world.args()).await.unwrap();
    spawn::<Node>(&middle, "leaf", alike(), world.args()).await.unwrap();
    root.stop();
    root.ended().await;
    let log = world.log.take();
    let dropped: Vec<_> = log.iter().filter(|line| line.ends_with("dropped")).collect();
    assert_eq!(dropped, ["leaf dropped", "middle dropped", "root dropped"]);
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_stopping_does_not_skip_the_children() {
    let world = World::new();
    let root = world.root();
    spawn::<Node>(&root, "a", in_order(), world.args()).await.unwrap();
    root.job(|node, _| node.panics_on_stop = true);
    world.settle().await;
    root.stop();
    root.ended().await;
    assert!(world.log.take().contains(&"a stopping".to_owned()));
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn a_join_waits_also_when_somebody_else_asked_for_the_stop_first() {
    let world = World::new();
    let root = world.root();
    let slow = world.starting(Start::After(5 * SECOND));
    let child = spawn::<Node>(&root, "slow", in_order(), slow).await.unwrap();
    world.settle().await;
    child.stop();
    child.cell().stop(None);
    root.stop();
    root.ended().await;
    let log = world.log.take();
    assert_eq!(log, ["root stopping", "slow stopping", "slow dropped", "root dropped"]);
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_end_of_an_actor_that_ended_before_returns_at_once() {
    let world = World::new();
    let root = world.root();
    root.stop();
    root.ended().await;
    let before = world.now();
    root.ended().await;
    assert_eq!(world.now(), before);
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn a_stop_closes_the_door_at_once_and_overtakes_what_waits() {
    let world = World::new();
    let root = world.root();
    let log = world.log.clone();
    root.job(move |_, _| log.add("handled"));
    let waiting = root.ask(|_, _| ());
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    root.stop();
    assert_eq!(root.info().state(), ActorState::Stopping);
    let back = root.send(Do("late", Box::new(|_, _| {}))).err().map(|message| message.name());
    assert_eq!(back, Some("late"));
    assert_eq!(waiting.await, Err(Gone));
    root.ended().await;
    assert_eq!(world.log.take(), ["root stopping", "root dropped"]);
    assert!(root.send(job(|_, _| {})).is_err());
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_the_door_works_off_the_queue_and_gives_back_what_comes_after() {
    let world = World::new();
    let root = world.root();
    for number in 0..3 {
        let log = world.log.clone();
        root.job(move |_, _| log.add(format!("handled {number}")));
    }
    root.drain();
    let back = root.send(Do("late", Box::new(|_, _| {}))).err().map(|message| message.name());
    assert_eq!(back, Some("late"));
    root.ended().await;
    let expected = ["handled 0", "handled 1", "handled 2", "root stopping", "root dropped"];
    assert_eq!(world.log.take(), expected);
    world.empty();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_that_a_drained_actor_took_is_lost_under_concurrent_senders() {
    let world = World::new();
    for _ in 0..50 {
        let root = world.root();
        let handled = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let (root, handled) = (root.clone(), Arc::clone(&handled));
                tokio::spawn(async move {
                    let mut taken = 0;
                    loop {
                        let handled = Arc::clone(&handled);
                        let count = move |_: &mut Node, _: &mut Ctx<Node>| {
                            handled.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        };
                        if root.send(job(count)).is_err() {
                            return taken;
                        }
                        taken += 1;
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        root.drain();
        root.ended().await;
        let mut taken = 0;
        for sender in senders {
            taken += sender.await.unwrap();
        }
        assert_eq!(taken, handled.load(std::sync::atomic::Ordering::Relaxed));
    }
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn a_draining_actor_starts_no_children() {
    let world = World::new();
    let root = world.root();
    let (log, args) = (world.log.clone(), world.args());
    root.job(move |_, ctx| {
        let spawned = ctx.spawn::<Node>("late", "late".into(), alike(), args);
        log.add(spawned.unwrap_err().to_string());
        assert!(ctx.children().is_empty());
    });
    root.drain();
    root.ended().await;
    assert!(world.log.take()[0].contains("Supervisor is shutting down"));
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn a_stop_from_a_handler_comes_after_the_message_and_before_the_next() {
    let world = World::new();
    let root = world.root();
    let log = world.log.clone();
    root.job(move |_, ctx| {
        ctx.stop();
        log.add("still here");
    });
    let log = world.log.clone();
    root.job(move |_, _| log.add("never"));
    root.ended().await;
    assert_eq!(world.log.take(), ["still here", "root stopping", "root dropped"]);
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_children_stop_side_by_side() {
    let world = World::new();
    let root = world.root();
    let keys: Vec<&'static str> = (0..10_000).map(|number| &*format!("c{number}").leak()).collect();
    let spec = ChildSpec::alike(2 * SECOND);
    for key in keys {
        let args = world.starting(Start::Never);
        root.job(move |_, ctx| drop(ctx.spawn::<Leaf>(key, key.into(), spec, args).unwrap()));
    }
    assert_eq!(root.ask(|_, ctx| ctx.children().len()).await, Ok(10_000));
    assert_eq!(world.system.index.len(), 10_001);
    let asked = world.now();
    root.stop();
    root.ended().await;
    assert_eq!(world.now().since(asked).as_secs(), 2);
    world.empty();
}
