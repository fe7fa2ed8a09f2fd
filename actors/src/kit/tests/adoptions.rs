//! A live child goes from one parent to another.

use super::*;

/// Two parents side by side, and a child with a child of its own below the first.
async fn family(world: &World) -> [Handle<Do<Node>>; 4] {
    let root = world.root();
    let old = spawn::<Node>(&root, "old", alike(), world.args()).await.unwrap();
    let new = spawn::<Node>(&root, "new", alike(), world.args()).await.unwrap();
    let child = spawn::<Node>(&old, "child", alike(), world.args()).await.unwrap();
    spawn::<Node>(&child, "leaf", alike(), world.args()).await.unwrap();
    world.settle().await;
    world.log.take();
    [root, old, new, child]
}

async fn adopt(parent: &Handle<Do<Node>>, child: &Handle<Do<Node>>) -> Result<(), StartError> {
    let info = Arc::clone(child.info());
    parent.ask(move |_, ctx| ctx.adopt("child", &info, alike())).await.unwrap()
}

async fn release(parent: &Handle<Do<Node>>) -> bool {
    parent.ask(|_, ctx| ctx.release(&"child")).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_adopted_child_outlives_its_first_parent_with_all_it_does() {
    for released in [true, false] {
        let world = World::new();
        let [root, old, new, child] = family(&world).await;
        child.job(|node, ctx| {
            let work = ctx.after(SECOND, job(|node: &mut Node, _| node.numbers.push(1)));
            node.tasks.push(work);
        });
        adopt(&new, &child).await.unwrap();
        assert_eq!(child.info().path(), "root/new/child");
        if released {
            assert!(release(&old).await, "once");
            assert!(!release(&old).await, "and not twice");
        }
        old.stop();
        old.ended().await;
        world.system.clock.sleep(2 * SECOND).await;
        assert_eq!(child.ask(|node, _| node.numbers.clone()).await, Ok(vec![1]));
        assert_eq!(world.log.take(), ["old stopping", "old dropped", "old stopped"], "{released}");
        assert_eq!(child.ask(|_, ctx| ctx.children().len()).await, Ok(1));
        new.stop();
        new.ended().await;
        let log = world.log.take();
        assert!(log.starts_with(&["new stopping".into(), "child stopping".into(), "leaf stopping".into()]));
        world.end(root).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_the_end_of_an_adopted_child_the_new_parent_hears_and_the_old_one_does_not() {
    let world = World::new();
    let [root, old, new, child] = family(&world).await;
    adopt(&new, &child).await.unwrap();
    child.stop();
    child.ended().await;
    world.settle().await;
    let told: Vec<_> = world.log.take().into_iter().filter(|line| line == "child stopped").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(new.ask(|_, ctx| ctx.children().is_empty()).await, Ok(true));
    // It is in the old one's book until that one looks.
    assert_eq!(old.ask(|_, ctx| ctx.children().len()).await, Ok(1));
    assert!(release(&old).await);
    assert_eq!(old.ask(|_, ctx| ctx.children().is_empty()).await, Ok(true));
    old.stop();
    old.ended().await;
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_sweep_takes_off_what_hangs_elsewhere_and_loses_no_end() {
    let world = World::new();
    let [root, old, new, child] = family(&world).await;
    spawn::<Node>(&old, "ends", alike(), world.args()).await.unwrap().stop();
    spawn::<Node>(&old, "stays", alike(), world.args()).await.unwrap();
    adopt(&new, &child).await.unwrap();
    old.job(|_, ctx| ctx.sweep());
    world.settle().await;
    let left = old.ask(|_, ctx| ctx.children().keys().copied().collect::<Vec<_>>()).await;
    assert_eq!(left, Ok(vec!["stays"]));
    let told: Vec<_> = world.log.take().into_iter().filter(|line| line.ends_with(" stopped")).collect();
    assert_eq!(told, ["ends stopped"]);
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_fails_takes_only_those_along_that_nobody_adopted() {
    let world = World::new();
    let [root, old, new, child] = family(&world).await;
    spawn::<Node>(&old, "other", alike(), world.args()).await.unwrap();
    adopt(&new, &child).await.unwrap();
    old.job(|_, ctx| ctx.fail("on purpose"));
    old.ended().await;
    world.settle().await;
    let log = world.log.take();
    assert!(log.contains(&"other stopping".to_owned()) && !log.contains(&"child stopping".to_owned()));
    assert_eq!(child.ask(|_, _| ()).await, Ok(()));
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_ending_is_not_adopted_and_its_end_is_told_once() {
    let world = World::new();
    let [root, old, new, child] = family(&world).await;
    child.drain();
    let adopted = adopt(&new, &child).await;
    assert!(adopted.is_err());
    world.settle().await;
    let log = world.log.take();
    assert_eq!(log.iter().filter(|line| *line == "child stopped").count(), 1);
    assert_eq!(old.ask(|_, ctx| ctx.children().is_empty()).await, Ok(true));
    assert_eq!(new.ask(|_, ctx| ctx.children().is_empty()).await, Ok(true));
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_not_elsewhere_is_not_released() {
    let world = World::new();
    let [root, old, _, _] = family(&world).await;
    assert!(!release(&old).await);
    assert_eq!(old.ask(|_, ctx| ctx.children().len()).await, Ok(1));
    world.end(root).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_many_threads_exactly_one_parent_hears_of_a_child_that_ends_while_it_is_adopted() {
    for _ in 0..300 {
        let world = World::new();
        let [root, old, new, child] = family(&world).await;
        let ends = {
            let child = child.clone();
            tokio::spawn(async move { child.stop() })
        };
        // Whether it comes in time is chance.
        let adopted = adopt(&new, &child).await.is_ok();
        ends.await.unwrap();
        child.ended().await;
        let both = || world.log.0.lock().unwrap().iter().filter(|line| *line == "child stopped").count();
        while both() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(new.ask(|_, ctx| ctx.children().is_empty()).await, Ok(true));
        if adopted {
            release(&old).await;
        } else {
            assert_eq!(old.ask(|_, ctx| ctx.children().is_empty()).await, Ok(true));
        }
        assert_eq!(both(), 1);
        world.end(root).await;
    }
}
