//! Work beside an actor, and timers.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_result_of_a_task_comes_back_as_a_message() {
    let world = World::new();
    let root = world.root();
    root.job(|node, ctx| {
        let sleep = ctx.system().clock.sleep(SECOND);
        let work = async move {
            sleep.await;
            7
        };
        node.tasks.push(ctx.task(work, |number| job(move |node: &mut Node, _| node.numbers.push(number))));
    });
    world.system.clock.sleep(2 * SECOND).await;
    assert_eq!(root.ask(|node, _| node.numbers.clone()).await, Ok(vec![7]));
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_task_counts_as_the_actors() {
    let world = World::new();
    let root = world.root();
    let leaf = spawn::<Leaf>(&root, "leaf", alike(), world.args()).await.unwrap();
    leaf.job(|leaf, ctx| leaf.0.tasks.push(ctx.task(async { panic!("boom") }, |()| job(|_, _| {}))));
    root.job(|node, ctx| node.tasks.push(ctx.task(async { panic!("bang") }, |()| job(|_, _| {}))));
    leaf.ended().await;
    world.settle().await;
    let log = world.log.take();
    assert!(log.contains(&"leaf failed: boom".to_owned()), "{log:?}");
    assert_eq!(world.decisions("root"), [NoteKind::Rebuilt { reason: "bang".to_owned() }]);
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_result_becomes_a_message_counts_too() {
    let world = World::new();
    let root = world.root();
    root.job(|node, ctx| node.tasks.push(ctx.task(async {}, |()| panic!("bang"))));
    world.settle().await;
    assert_eq!(world.decisions("root"), [NoteKind::Rebuilt { reason: "bang".to_owned() }]);
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_a_task_aborts_its_work() {
    struct Aborted(Log);
    impl Drop for Aborted {
        fn drop(&mut self) {
            self.0.add("aborted");
        }
    }
    let world = World::new();
    let root = world.root();
    let held = Aborted(world.log.clone());
    root.job(move |node, ctx| {
        let work = async move {
            let _held = held;
            std::future::pending::<()>().await;
        };
        node.tasks.push(ctx.task(work, |()| job(|_, _| panic!("it was aborted"))));
    });
    world.settle().await;
    assert_eq!(world.log.take(), [""; 0]);
    root.job(|node, _| node.tasks.clear());
    world.settle().await;
    assert_eq!(world.log.take(), ["aborted"]);
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn the_tasks_of_an_actor_end_with_it_however_it_ends() {
    let ends: [fn(&Handle<Do<Leaf>>); 4] = [
        Handle::stop,
        |leaf| leaf.cell().kill(),
        |leaf| leaf.job(|_, _| panic!("boom")),
        |leaf| leaf.job(|_, ctx| ctx.fail("no luck")),
    ];
    for end in ends {
        let world = World::new();
        let root = world.root();
        let leaf = spawn::<Leaf>(&root, "leaf", alike(), world.args()).await.unwrap();
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        leaf.job(move |leaf, ctx| {
            let work = async move {
                let _held = held;
                std::future::pending::<()>().await;
            };
            leaf.0.tasks.push(ctx.task(work, |()| job(|_, _| {})));
        });
        world.settle().await;
        assert_eq!(Arc::strong_count(&alive), 2);
        end(&leaf);
        world.settle().await;
        assert_eq!(Arc::strong_count(&alive), 1);
        world.end(root).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_sends_its_message_in_time_unless_it_is_dropped() {
    let world = World::new();
    let root = world.root();
    root.job(|node, ctx| {
        node.tasks.push(ctx.after(SECOND, job(|node: &mut Node, _| node.numbers.push(1))));
        let dropped = ctx.after(SECOND, job(|node: &mut Node, _| node.numbers.push(2)));
        drop(dropped);
    });
    world.system.clock.sleep(SECOND / 2).await;
    assert_eq!(root.ask(|node, _| node.numbers.clone()).await, Ok(vec![]));
    world.system.clock.sleep(SECOND).await;
    assert_eq!(root.ask(|node, _| node.numbers.clone()).await, Ok(vec![1]));
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_cancels_the_timers_of_the_lost_state() {
    let world = World::new();
    let root = world.root();
    root.job(|node, ctx| node.tasks.push(ctx.after(SECOND, job(|node: &mut Node, _| node.numbers.push(1)))));
    root.job(|_, _| panic!("boom"));
    world.system.clock.sleep(2 * SECOND).await;
    assert_eq!(root.ask(|node, _| node.numbers.clone()).await, Ok(vec![]));
    world.end(root).await;
}
