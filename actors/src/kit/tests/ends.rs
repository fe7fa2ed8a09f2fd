//! How a parent hears of a child's end.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_normal_end_of_a_child_does_not_stop_its_parent() {
    let world = World::new();
    let root = world.root();
    let child = spawn::<Leaf>(&root, "child", alike(), world.args()).await.unwrap();
    child.job(|_, ctx| ctx.stop());
    child.ended().await;
    world.settle().await;
    assert!(root.ask(|_, ctx| ctx.children().is_empty()).await.unwrap());
    assert_eq!(world.log.take(), ["child started", "child stopping", "child dropped", "child stopped"]);
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn each_end_has_its_name() {
    let world = World::new();
    let root = world.root();
    let own = spawn::<Leaf>(&root, "stops", alike(), world.args()).await.unwrap();
    let drains = spawn::<Leaf>(&root, "drains", alike(), world.args()).await.unwrap();
    let fails = spawn::<Leaf>(&root, "fails", alike(), world.args()).await.unwrap();
    let panics = spawn::<Leaf>(&root, "panics", alike(), world.args()).await.unwrap();
    let killed = spawn::<Leaf>(&root, "killed", alike(), world.args()).await.unwrap();
    let shot = spawn::<Leaf>(&root, "shot", alike(), world.args()).await.unwrap();
    world.settle().await;
    world.log.take();

    own.stop();
    own.ended().await;
    drains.drain();
    drains.ended().await;
    fails.job(|_, ctx| ctx.fail("no luck"));
    fails.ended().await;
    panics.job(|_, _| panic!("boom"));
    panics.ended().await;
    killed.cell().kill();
    killed.ended().await;
    assert!(root.ask(|_, ctx| ctx.children_mut().kill(&"shot")).await.unwrap());
    shot.ended().await;
    assert!(!root.ask(|_, ctx| ctx.children_mut().kill(&"nobody")).await.unwrap());
    world.settle().await;

    let log = world.log.take();
    let exits: Vec<_> =
        log.iter().filter(|line| !line.contains("dropped") && !line.contains("stopping")).collect();
    let expected = [
        "stops stopped",
        "drains stopped",
        "fails failed: no luck",
        "panics failed: boom",
        "killed killed",
        "shot asked to stop",
    ];
    assert_eq!(exits, expected);
    world.end(root).await;
}

/// ractor frees a name before the old actor has closed its files.
#[tokio::test(start_paused = true)]
async fn what_a_child_held_is_dropped_before_its_parent_hears_of_the_end() {
    type End = fn(&Handle<Do<Leaf>>);
    let ends: [(&str, End); 5] = [
        ("stop", Handle::stop),
        ("drain", Handle::drain),
        ("kill", |child| child.cell().kill()),
        ("failure", |child| child.job(|_, ctx| ctx.fail("no luck"))),
        ("panic", |child| child.job(|_, _| panic!("boom"))),
    ];
    for (name, end) in ends {
        let world = World::new();
        let root = world.root();
        let child = spawn::<Leaf>(&root, "child", alike(), world.args()).await.unwrap();
        world.settle().await;
        world.log.take();
        end(&child);
        world.settle().await;
        let log = world.log.take();
        let (heard, before) = log.split_last().unwrap();
        assert!(before.ends_with(&["child dropped".to_owned()]), "{name}: {log:?}");
        assert!(heard.starts_with("child "), "{name}: {log:?}");
        assert_eq!(world.system.index.len(), 1, "{name}");
        world.end(root).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_child_is_out_of_the_index_when_its_parent_hears_of_it_on_another_thread() {
    let world = World::new();
    let root = world.root();
    for _ in 0..300 {
        let child = spawn::<Leaf>(&root, "child", alike(), world.args()).await.unwrap();
        child.cell().kill();
        child.ended().await;
        assert!(!world.system.index.contains(child.cell().get_id()));
        while root.ask(|_, ctx| ctx.children().contains(&"child")).await.unwrap() {
            tokio::task::yield_now().await;
        }
    }
    let log = world.log.take();
    let dropped = log.iter().filter(|line| *line == "child dropped").count();
    let started = log.iter().filter(|line| *line == "child started").count();
    assert!(dropped >= started, "a state outlived its actor");
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn killing_a_parent_leaves_nobody_behind() {
    let world = World::new();
    let root = world.root();
    let middle = spawn::<Node>(&root, "middle", alike(), world.args()).await.unwrap();
    spawn::<Node>(&middle, "leaf", alike(), world.args()).await.unwrap();
    spawn::<Node>(&middle, "starting", alike(), world.starting(Start::Never)).await.unwrap();
    world.settle().await;
    root.cell().kill();
    root.ended().await;
    world.settle().await;
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn a_failing_parent_ends_its_children_in_order() {
    let world = World::new();
    let root = world.root();
    let parent = spawn::<Node>(&root, "parent", alike(), world.args()).await.unwrap();
    for key in ["a", "b"] {
        spawn::<Node>(&parent, key, in_order(), world.args()).await.unwrap();
    }
    world.settle().await;
    world.log.take();
    parent.job(|_, ctx| ctx.fail("no luck"));
    parent.ended().await;
    world.settle().await;
    let expected = ["b stopping", "b dropped", "a stopping", "a dropped", "parent dropped"];
    assert_eq!(world.log.take(), [&expected[..], &["parent failed: no luck"]].concat());
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_successor_under_the_same_key_stays_on_the_book() {
    let world = World::new();
    let root = world.root();
    let old = spawn::<Leaf>(&root, "key", alike(), world.args()).await.unwrap();
    let new = spawn::<Leaf>(&root, "key", alike(), world.args()).await.unwrap();
    assert_eq!(root.ask(|_, ctx| ctx.children().len()).await, Ok(2));
    let key = root.ask(|_, ctx| ctx.children().handle::<Do<Leaf>>(&"key").unwrap()).await.unwrap();
    assert_eq!(key.cell().get_id(), new.cell().get_id());
    assert!(root.ask(|_, ctx| ctx.children().handle::<Do<Node>>(&"key").is_none()).await.unwrap());
    old.stop();
    old.ended().await;
    world.settle().await;
    let left = root.ask(|_, ctx| ctx.children().keys().copied().collect::<Vec<_>>()).await;
    assert_eq!(left, Ok(vec!["key"]));
    assert!(new.ask(|_, _| ()).await.is_ok());
    world.end(root).await;
}
