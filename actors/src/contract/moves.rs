//! Sessions that outlive their parents.

use super::{
    announce, apply, child, child_run, conflict, create, end, insert, queue, run, run_id, session, spawn,
    submit, take,
};
use crate::ports::{Host, Op, Refused, SessionRow, Storage, Survivors, Unfinished};
use crate::types::{OnParentExit, SessionKey, Terminal, Timestamp};

fn outliving(name: &str, parent: &SessionRow, on_parent_exit: OnParentExit) -> SessionRow {
    SessionRow { on_parent_exit, ..child(name, parent) }
}

fn move_to(session: &SessionRow, from: &SessionRow, to: Option<&SessionRow>) -> Op {
    let to = to.map(|to| to.key.clone());
    Op::MoveSession { session: session.key.clone(), from: from.key.clone(), to }
}

/// A main session, a child of it, and one of that which is to be handed over, with an open run (2) and one (3) whose
/// result is on its way.
async fn family(store: &dyn Storage) -> [SessionRow; 3] {
    let main = session("main");
    let parent = child("parent", &main);
    let row = outliving("child", &parent, OnParentExit::HandOver);
    apply(store, vec![create(&main), insert(&run(1, &main.key)), create(&parent)]).await;
    apply(store, spawn(2, &row)).await;
    apply(store, vec![insert(&child_run(3, &row.key, &parent.key, None)), end(3, Terminal::Ok)]).await;
    apply(store, vec![queue(&announce(3, &row.key, &parent.key))]).await;
    [main, parent, row]
}

/// Below another session, with the results that nobody has taken; the root and the depth stay.
pub async fn a_session_that_is_handed_over_takes_its_results_along(store: &dyn Storage) {
    let [main, parent, row] = family(store).await;
    apply(store, vec![insert(&child_run(4, &row.key, &parent.key, None)), end(4, Terminal::Ok)]).await;
    apply(store, vec![queue(&announce(4, &row.key, &parent.key)), take(&parent.key, &[4])]).await;
    apply(store, vec![move_to(&row, &parent, Some(&main))]).await;
    let moved = store.session(row.key.clone()).await.unwrap().unwrap();
    assert_eq!((moved.parent.as_ref(), moved.outlived), (Some(&main.key), None));
    assert_eq!((moved.root, moved.depth, moved.updated_at), (main.root, row.depth, Timestamp(5_000)));
    let old = store.load_session(parent.key.clone()).await.unwrap().unwrap();
    assert!(old.announces.is_empty() && old.children.is_empty());
    let new = store.load_session(main.key.clone()).await.unwrap().unwrap();
    assert_eq!(new.announces, [announce(3, &row.key, &main.key)]);
    assert_eq!(new.children.iter().map(|open| open.run).collect::<Vec<_>>(), [run_id(2)]);
    assert_eq!(store.waiting_sessions().await.unwrap(), std::slice::from_ref(&main.key));
    // What the former parent has taken is still its own.
    let receiver = |number| async move { store.run(run_id(number)).await.unwrap().unwrap().announce_to };
    assert_eq!((receiver(3).await, receiver(4).await), (Some(main.key.clone()), Some(parent.key.clone())));
    conflict(store, vec![take(&parent.key, &[3])]).await;
    apply(store, vec![take(&main.key, &[3]), end(2, Terminal::Ok)]).await;
    let gone = Op::DeleteSession { session: parent.key.clone(), with_parents: false };
    apply(store, vec![gone]).await;
    assert!(store.session(parent.key).await.unwrap().is_none());
}

/// Without another parent: the row says whom it has outlived, and what it tells waits for nobody and holds nothing up.
pub async fn results_of_a_session_that_goes_on_alone_hold_nothing_up(store: &dyn Storage) {
    let [main, parent, row] = family(store).await;
    apply(store, vec![move_to(&row, &parent, None)]).await;
    let moved = store.session(row.key.clone()).await.unwrap().unwrap();
    assert_eq!((moved.parent, moved.outlived.as_ref()), (None, Some(&parent.key)));
    assert_eq!(store.run(run_id(2)).await.unwrap().unwrap().announce_to, None);
    // One that ends later.
    let late = announce(2, &row.key, &parent.key);
    apply(store, vec![end(2, Terminal::Ok), queue(&late), Op::AbandonAnnounce { run: run_id(2) }]).await;
    assert!(store.waiting_sessions().await.unwrap().is_empty());
    apply(store, vec![end(1, Terminal::Ok)]).await;
    assert_eq!(store.unfinished(main.key.clone(), Host::Daemon).await.unwrap(), Unfinished::default());
    for key in [&main.key, &parent.key, &row.key] {
        assert_eq!(store.undelivered(key.clone()).await.unwrap(), None);
        assert!(store.load_session(key.clone()).await.unwrap().unwrap().announces.is_empty());
    }
    assert!(!store.consequences(run_id(1), None, 10).await.unwrap().pending);
    conflict(store, vec![take(&parent.key, &[2])]).await;
    conflict(store, vec![queue(&late)]).await;
    for key in [row.key, parent.key] {
        apply(store, vec![Op::DeleteSession { session: key.clone(), with_parents: false }]).await;
        assert!(store.session(key).await.unwrap().is_none());
    }
}

/// A move needs the parent that is there, and another one that is not below it; a change may depend on the parent.
pub async fn a_session_is_moved_from_the_parent_that_it_has(store: &dyn Storage) {
    let [main, parent, row] = family(store).await;
    let below = child("below", &row);
    apply(store, vec![create(&below)]).await;
    let never = session("never");
    let wrong = [
        move_to(&row, &main, None),
        move_to(&main, &parent, None),
        move_to(&never, &parent, None),
        move_to(&row, &parent, Some(&never)),
        move_to(&row, &parent, Some(&row)),
        move_to(&row, &parent, Some(&below)),
    ];
    for op in wrong {
        conflict(store, vec![op]).await;
    }
    conflict(store, vec![Op::AbandonAnnounce { run: run_id(2) }]).await;
    let expect =
        |parent: Option<&SessionKey>| Op::ExpectParent { session: row.key.clone(), parent: parent.cloned() };
    apply(store, vec![expect(Some(&parent.key))]).await;
    apply(store, vec![move_to(&row, &parent, Some(&main)), expect(Some(&main.key))]).await;
    let moved = |to: Option<&SessionKey>| Err(Refused::Moved { session: row.key.clone(), to: to.cloned() });
    assert_eq!(submit(store, vec![expect(Some(&parent.key))]).await, moved(Some(&main.key)));
    apply(store, vec![move_to(&row, &main, None)]).await;
    assert_eq!(submit(store, vec![expect(Some(&main.key))]).await, moved(None));
    conflict(store, vec![Op::ExpectParent { session: never.key, parent: None }]).await;
}

/// Those below a session that outlive parents which all go away, and nobody below these.
pub async fn survivors_are_those_whose_parents_go_away(store: &dyn Storage) {
    let main = session("main");
    let top = child("top", &main);
    let goes = child("goes", &top);
    let first = outliving("first", &goes, OnParentExit::HandOver);
    let below = outliving("below", &first, OnParentExit::Continue);
    let second = outliving("second", &top, OnParentExit::Continue);
    for row in [&main, &top, &goes, &first, &below, &second] {
        apply(store, vec![create(row)]).await;
    }
    let of = |row: &SessionRow| store.survivors(row.key.clone());
    let found = of(&top).await.unwrap();
    assert_eq!(found, Survivors { ancestors: vec![main.key.clone()], sessions: vec![first.clone(), second] });
    let above = vec![top.key.clone(), main.key.clone()];
    assert_eq!(of(&goes).await.unwrap(), Survivors { ancestors: above, sessions: vec![first.clone()] });
    assert_eq!(of(&first).await.unwrap().sessions, [below]);
    assert_eq!(of(&session("never")).await.unwrap(), Survivors::default());
}
