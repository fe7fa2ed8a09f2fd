//! What a panic costs: the message, and at the worst the actor, never a neighbour.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_parent_rebuilds_its_state_in_place() {
    let world = World::new();
    let root = world.root();
    let parent = spawn::<Node>(&root, "parent", alike(), world.args()).await.unwrap();
    let child = spawn::<Node>(&parent, "child", alike(), world.args()).await.unwrap();
    child.job(|node, _| node.numbers.push(7));
    parent.job(|node, _| node.numbers.push(1));
    world.settle().await;
    world.log.take();

    parent.job(|_, _| panic!("boom"));
    parent.job(|node, _| node.numbers.push(2));
    // The state is new; children, mailbox, handle and links are the old ones.
    assert_eq!(parent.ask(|node, _| node.numbers.clone()).await, Ok(vec![2]));
    assert_eq!(parent.ask(|_, ctx| ctx.children().keys().copied().collect()).await, Ok(vec!["child"]));
    assert_eq!(child.ask(|node, _| node.numbers.clone()).await, Ok(vec![7]));
    assert_eq!(child.cell().try_get_supervisor(), Some(parent.cell()));
    assert_eq!(parent.cell().try_get_supervisor(), Some(root.cell()));
    assert_eq!(world.log.take(), ["parent dropped"]);
    let view = parent.info().view();
    assert_eq!((view.restarts, view.last_failure.as_deref()), (1, Some("boom")));
    assert_eq!(view.state, ActorState::Running);
    assert_eq!(world.decisions("root/parent"), [NoteKind::Rebuilt { reason: "boom".to_owned() }]);

    child.job(|_, ctx| ctx.stop());
    world.settle().await;
    assert_eq!(world.log.take(), ["child stopping", "child dropped", "child stopped"]);
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn messages_sent_while_the_state_is_rebuilt_are_handled_afterwards_in_order() {
    let world = World::new();
    let root = world.root_of::<Node>(world.starting(Start::After(SECOND)));
    root.job(|_, _| panic!("boom"));
    world.system.clock.sleep(SECOND + SECOND / 2).await;
    assert_eq!(root.info().state(), ActorState::Rebuilding);
    for number in 0..5 {
        root.job(move |node, _| node.numbers.push(number));
    }
    assert_eq!(root.info().mailbox(), 5);
    assert_eq!(root.ask(|node, _| node.numbers.clone()).await, Ok(vec![0, 1, 2, 3, 4]));
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_child_is_not_lost_while_the_state_is_rebuilt() {
    let world = World::new();
    let root = world.root();
    let slow = world.starting(Start::After(SECOND));
    let parent = spawn::<Node>(&root, "parent", alike(), slow).await.unwrap();
    let child = spawn::<Leaf>(&parent, "child", alike(), world.args()).await.unwrap();
    parent.job(|_, _| panic!("boom"));
    world.settle().await;
    assert_eq!(parent.info().state(), ActorState::Rebuilding);
    child.stop();
    child.ended().await;
    assert_eq!(parent.ask(|_, ctx| ctx.children().is_empty()).await, Ok(true));
    assert!(world.log.take().contains(&"child stopped".to_owned()));
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn beyond_its_intensity_an_actor_dies_and_its_children_are_ended_in_order() {
    let world = World::new();
    let root = world.root();
    let parent = spawn::<Node>(&root, "parent", alike(), world.args()).await.unwrap();
    for key in ["a", "b"] {
        spawn::<Node>(&parent, key, in_order(), world.args()).await.unwrap();
    }
    let sibling = spawn::<Node>(&root, "sibling", alike(), world.args()).await.unwrap();
    for _ in 0..2 {
        parent.job(|_, _| panic!("boom"));
    }
    assert_eq!(parent.ask(|_, ctx| ctx.children().len()).await, Ok(2));
    assert_eq!(parent.info().restarts(), 2);
    world.log.take();
    parent.job(|_, _| panic!("bang"));
    parent.ended().await;
    world.settle().await;
    let expected = ["parent dropped", "b stopping", "b dropped", "a stopping", "a dropped"];
    assert_eq!(world.log.take(), [&expected[..], &["parent failed: bang"]].concat());
    let gave_up = NoteKind::GaveUp { reason: "bang".to_owned() };
    assert_eq!(world.decisions("root/parent").last(), Some(&gave_up));
    assert!(sibling.ask(|_, _| ()).await.is_ok());
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn panics_far_apart_do_not_add_up() {
    let world = World::new();
    let root = world.root();
    for _ in 0..5 {
        root.job(|_, _| panic!("boom"));
        world.system.clock.sleep(HOUR).await;
    }
    assert_eq!(root.ask(|_, ctx| ctx.myself().info().restarts()).await, Ok(5));
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_that_fails_counts_until_the_intensity_is_spent() {
    let world = World::new();
    let root = world.root_of::<Node>(world.starting(Start::OnceOnly));
    root.job(|_, _| panic!("boom"));
    root.ended().await;
    let twice = "boom; then the rebuild failed: start panics; then the rebuild failed: start panics";
    assert_eq!(world.decisions("root"), [NoteKind::GaveUp { reason: twice.to_owned() }]);
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_message_asked_for_is_lost_with_it() {
    let world = World::new();
    let root = world.root();
    root.job(|_, ctx| {
        ctx.stop();
        panic!("boom");
    });
    assert!(root.ask(|_, _| ()).await.is_ok());
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_leaf_ends_it_and_reaches_its_parent() {
    let world = World::new();
    let root = world.root();
    let leaf = spawn::<Leaf>(&root, "leaf", alike(), world.args()).await.unwrap();
    let queued = leaf.ask(|_, _| panic!("boom"));
    assert_eq!(queued.await, Err::<(), _>(Gone));
    world.settle().await;
    assert_eq!(world.log.take(), ["leaf started", "leaf dropped", "leaf failed: boom"]);
    assert_eq!(root.info().restarts(), 0);
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_the_state_is_dropped_keeps_nobody_from_the_end() {
    #[derive(Debug)]
    struct Mine;
    impl Drop for Mine {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "dropped");
        }
    }
    impl Behaviour for Mine {
        const KIND: &'static str = "mine";
        type Msg = Do<Self>;
        type Args = ();
        type Child = ();
        async fn start((): &mut (), _: &mut Ctx<Self>) -> Result<Self, StartError> {
            Ok(Self)
        }
        fn handle(&mut self, _: Do<Self>, _: &mut Ctx<Self>) {}
    }
    for kill in [false, true] {
        let world = World::new();
        let root = world.root_of::<Mine>(());
        world.settle().await;
        if kill {
            root.cell().kill()
        } else {
            root.stop()
        }
        root.ended().await;
        world.empty();
    }
}

#[cfg(feature = "faults")]
#[tokio::test(start_paused = true)]
async fn an_injected_panic_is_a_panic_of_the_actor() {
    struct OnBang;
    impl Faults for OnBang {
        fn panics(&self, actor: &'static str, message: &'static str) -> bool {
            (actor, message) == ("node", "bang")
        }
        fn has(&self, _: Bug) -> bool {
            false
        }
    }
    let clock = Arc::new(TokioClock::starting_at(Timestamp(0)));
    let system = System::new(clock, Arc::new(SeededIds::new(1))).with_faults(Arc::new(OnBang));
    let world = World { system: Arc::new(system), log: Log::default(), notes: Arc::default() };
    let root = world.root();
    assert!(root.send(Do("bang", Box::new(|_, _| {}))).is_ok());
    assert_eq!(root.ask(|_, ctx| ctx.myself().info().restarts()).await, Ok(1));
    world.end(root).await;
}
