//! What can be read of an actor from outside: figures, notes, log lines.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_figures_of_a_mailbox_are_right() {
    let world = World::new();
    let root = world.root();
    let child = spawn::<Node>(&root, "child", alike(), world.starting(Start::After(SECOND))).await.unwrap();
    for _ in 0..3 {
        child.job(|_, _| {});
    }
    let waiting = child.info().view();
    assert_eq!((waiting.mailbox, waiting.mailbox_high, waiting.handled), (3, 3, 0));
    assert_eq!(waiting.waited, Duration::ZERO);
    child.ask(|_, _| ()).await.unwrap();
    world.settle().await;
    let done = child.info().view();
    assert_eq!((done.mailbox, done.mailbox_high, done.handled), (0, 4, 4));
    // Four messages waited a second for the start.
    assert_eq!(done.waited, 4 * SECOND);
    assert_eq!((done.busy, done.in_hand), (Duration::ZERO, None));
    assert_eq!((done.kind, done.path.as_str(), done.parent), ("node", "root/child", Some(pid(&root))));
    assert_eq!(done.id, pid(&child));

    child.stop();
    child.ended().await;
    assert!(child.send(job(|_, _| {})).is_err());
    assert_eq!(child.info().mailbox(), 0, "a message that is given back does not wait");
    world.end(root).await;
}

fn pid<M: Msg>(handle: &Handle<M>) -> u64 {
    handle.cell().get_id().pid()
}

#[tokio::test(start_paused = true)]
async fn the_message_in_hand_is_named_while_it_is_handled() {
    let world = World::new();
    let root = world.root();
    let seen = root.ask(|_, ctx| ctx.myself().info().view().in_hand).await.unwrap();
    assert_eq!(seen, Some(("job", Duration::ZERO)));
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_keeps_the_message_in_hand_and_counts_as_busy() {
    let world = World::new();
    let root = world.root_of::<Node>(world.starting(Start::After(2 * SECOND)));
    root.job(|_, _| panic!("boom"));
    world.system.clock.sleep(3 * SECOND).await;
    assert_eq!(root.info().view().in_hand, Some(("job", SECOND)));
    root.ask(|_, _| ()).await.unwrap();
    world.settle().await;
    let view = root.info().view();
    assert_eq!((view.busy, view.in_hand, view.handled), (2 * SECOND, None, 2));
    world.end(root).await;
}

#[tokio::test(start_paused = true)]
async fn every_step_of_a_life_is_noted_once() {
    let world = World::new();
    let root = world.root();
    let child = spawn::<Leaf>(&root, "child", alike(), world.args()).await.unwrap();
    world.settle().await;
    child.job(|_, ctx| ctx.fail("no luck"));
    child.job(|_, _| {});
    child.ended().await;
    let killed = spawn::<Leaf>(&root, "killed", alike(), world.args()).await.unwrap();
    killed.cell().kill();
    killed.ended().await;
    root.stop();
    root.ended().await;
    let notes = world.notes.lock().unwrap();
    let about = |path: &str| -> Vec<_> {
        notes.iter().filter(|note| note.path == path).map(|note| note.kind.clone()).collect()
    };
    let ended = |reason: &str, unhandled| NoteKind::Ended { reason: reason.to_owned(), unhandled };
    assert_eq!(about("root/child"), [NoteKind::Starting, NoteKind::Running, ended("no luck", 1)]);
    assert_eq!(about("root/killed").last(), Some(&ended("killed", 0)));
    assert_eq!(about("root"), [NoteKind::Starting, NoteKind::Running, ended("stopped", 0)]);
    drop(notes);
    world.empty();
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_noted_by_its_parent() {
    let world = World::new();
    let root = world.root();
    let restarting =
        NoteKind::Restarting { child: "child".to_owned(), reason: "boom".to_owned(), after_ms: 50 };
    let note = restarting.clone();
    root.job(move |_, ctx| ctx.note(note));
    world.settle().await;
    assert_eq!(world.decisions("root"), [restarting]);
    world.end(root).await;
}
