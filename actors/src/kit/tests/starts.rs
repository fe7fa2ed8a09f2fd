//! How actors start: linked at once, ready later, failures up.

use futures::FutureExt;

use super::*;

#[tokio::test(start_paused = true)]
async fn an_actor_that_starts_is_in_the_index_with_state_starting() {
    let world = World::new();
    let root = world.root();
    let slow = world.starting(Start::After(SECOND));
    let child = spawn::<Node>(&root, "slow", alike(), slow).await.unwrap();
    world.settle().await;
    let states = || {
        let views = world.system.index.views();
        views.into_iter().map(|view| (view.path, view.state)).collect::<Vec<_>>()
    };
    let running = ("root".to_owned(), ActorState::Running);
    assert_eq!(states(), [running.clone(), ("root/slow".to_owned(), ActorState::Starting)]);
    child.ask(|_, _| ()).await.unwrap();
    assert_eq!(states(), [running, ("root/slow".to_owned(), ActorState::Running)]);
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_is_up_only_when_it_says_ready() {
    let world = World::new();
    let root = world.root();
    let slow = world.starting(Start::After(SECOND));
    spawn::<Node>(&root, "slow", alike(), slow).await.unwrap();
    world.system.clock.sleep(SECOND / 2).await;
    assert_eq!(world.log.take(), [""; 0]);
    world.system.clock.sleep(SECOND).await;
    assert_eq!(world.log.take(), ["slow started"]);
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn messages_sent_to_a_starting_actor_wait_in_order() {
    let world = World::new();
    let root = world.root();
    let slow = world.starting(Start::After(SECOND));
    let child = spawn::<Node>(&root, "slow", alike(), slow).await.unwrap();
    for number in 0..5 {
        child.job(move |node, _| node.numbers.push(number));
    }
    assert_eq!(child.info().mailbox(), 5);
    assert_eq!(child.ask(|node, _| node.numbers.clone()).await, Ok(vec![0, 1, 2, 3, 4]));
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_spawn_does_not_wait_for_the_start() {
    let world = World::new();
    let root = world.root();
    let before = world.now();
    spawn::<Node>(&root, "slow", ChildSpec::alike(SECOND), world.starting(Start::Never)).await.unwrap();
    assert_eq!(world.now(), before);
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_reaches_the_supervisor() {
    for (start, reason) in [(Start::Fails, "start fails"), (Start::Panics, "start panics")] {
        let world = World::new();
        let root = world.root();
        let child = spawn::<Node>(&root, "child", alike(), world.starting(start)).await.unwrap();
        let lost = child.ask(|_, _| ());
        assert_eq!(lost.await, Err(Gone));
        world.settle().await;
        assert_eq!(world.log.take(), [format!("child failed: {reason}")]);
        assert_eq!(world.system.index.len(), 1);
        world.end(root).await;
    }
}

/// On another thread the child may have failed before `spawn` returns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_faster_than_the_spawn_returns_is_told_the_same_way() {
    let world = World::new();
    let root = world.root();
    for _ in 0..500 {
        let args = world.starting(Start::Fails);
        spawn::<Node>(&root, "child", alike(), args).await.expect("a spawn tells of no failed start");
        while root.ask(|_, ctx| !ctx.children().is_empty()).await.unwrap() {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(world.log.take(), vec!["child failed: start fails"; 500]);
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_root_whose_start_fails_is_gone() {
    for start in [Start::Fails, Start::Panics] {
        let world = World::new();
        let root = world.root_of::<Node>(world.starting(start));
        root.ended().await;
        assert!(root.send(job(|_, _| {})).is_err());
        world.empty();
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_a_start_that_hangs() {
    let world = World::new();
    let root = world.root_of::<Node>(world.starting(Start::Never));
    world.settle().await;
    root.cell().kill();
    root.ended().await;
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn spawn_under_a_stopping_parent_is_refused() {
    #[derive(Debug)]
    struct Late(Log);
    impl Behaviour for Late {
        const KIND: &'static str = "late";
        type Msg = Do<Self>;
        type Args = Log;
        type Child = ();
        async fn start(log: &mut Log, _: &mut Ctx<Self>) -> Result<Self, StartError> {
            Ok(Self(log.clone()))
        }
        fn handle(&mut self, _: Do<Self>, _: &mut Ctx<Self>) {}
        fn stopping(&mut self, ctx: &mut Ctx<Self>) {
            let spawned = ctx.spawn::<Self>((), "child".into(), alike(), self.0.clone());
            self.0.add(spawned.unwrap_err().to_string());
            assert!(ctx.children().is_empty());
        }
    }
    let world = World::new();
    let root = world.root_of::<Late>(world.log.clone());
    root.stop();
    root.ended().await;
    let log = world.log.take();
    assert!(log[0].contains("Supervisor is shutting down"), "{log:?}");
    world.empty();
}

/// tokio makes the futures of a task wait once the task had its share; a spawn must not notice.
#[tokio::test(start_paused = true)]
async fn a_spawn_does_not_depend_on_the_share_of_the_task() {
    let world = World::new();
    while tokio::task::coop::consume_budget().now_or_never().is_some() {}
    assert!(!tokio::task::coop::has_budget_remaining());
    let root = world.root();
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_messages_that_spawn_starts_all_children() {
    let world = World::new();
    let root = world.root();
    let keys: Vec<&'static str> = (0..1_000).map(|number| &*format!("c{number}").leak()).collect();
    for key in keys {
        let (args, log) = (world.args(), world.log.clone());
        root.job(move |_, ctx| {
            if let Err(error) = ctx.spawn::<Node>(key, key.into(), alike(), args) {
                log.add(error.to_string());
            }
        });
    }
    assert_eq!(root.ask(|_, ctx| ctx.children().len()).await, Ok(1_000));
    let log = world.log.take();
    assert!(log.iter().all(|line| line.ends_with("started")), "{log:?}");
    world.end(root).await;
}
