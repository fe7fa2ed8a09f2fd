//! The writer under failures, and readers beside it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use offshoot_actors::contract::{self, View, apply, block_on, submit};
use offshoot_actors::ports::{Op, Refused, Storage, StoreError};
use rusqlite::Connection;

use super::{Store, store};
use crate::store::{Durability, SqliteStorage, verify_audit};

/// Does something on the writer's thread before its next commit.
fn visit(store: &Store, visit: impl FnOnce(&Connection) + Send + 'static) {
    store.storage.writer.as_ref().unwrap().visit(visit);
}

/// What becomes of these transactions when they are committed together with `before`.
pub(super) fn together(
    store: &Store,
    transactions: Vec<Vec<Op>>,
    before: impl FnOnce(&Connection) + Send + 'static,
) -> Vec<Result<(), Refused>> {
    let (fates, received) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    visit(store, move |connection| {
        _ = held.recv();
        before(connection);
    });
    for transaction in transactions {
        let fates = fates.clone();
        store.submit(transaction, Box::new(move |fate| fates.send(fate).unwrap()));
    }
    drop((release, fates));
    received.iter().collect()
}

fn sessions(count: usize) -> Vec<Vec<Op>> {
    let session = |number| contract::session(&format!("session-{number}"));
    let rows = (0..count).map(session);
    rows.map(|row| vec![contract::create(&row), contract::audit(&row.key, 1)]).collect()
}

fn assert_works(store: &Store, rows: u64) {
    let row = contract::session("afterwards");
    block_on(apply(&**store, vec![contract::create(&row), contract::audit(&row.key, 1)]));
    assert_eq!(verify_audit(store.dir.path()).unwrap(), rows);
}

#[test]
fn a_panic_of_the_writer_refuses_what_waits_and_is_survived() {
    let store = store();
    let fates = together(&store, sessions(700), |_| panic!("on purpose"));
    assert_eq!(fates.len(), 700);
    for fate in fates {
        assert!(matches!(fate, Err(Refused::Storage(StoreError::Unavailable(_)))), "{fate:?}");
    }
    assert_works(&store, 1);
    assert_eq!(block_on(store.list_sessions(Default::default(), all())).unwrap().len(), 1);
}

#[test]
fn a_panic_within_a_commit_takes_it_back() {
    let store = store();
    let fates = together(&store, sessions(3), |connection| {
        connection.execute_batch("BEGIN; UPDATE sessions SET depth = 9").unwrap();
        panic!("on purpose");
    });
    assert!(fates.iter().all(Result::is_err));
    assert_works(&store, 1);
}

#[test]
fn a_listener_that_panics_harms_nobody() {
    let store = store();
    let (done, fates) = mpsc::channel();
    for (index, transaction) in sessions(6).into_iter().enumerate() {
        let done = done.clone();
        store.submit(
            transaction,
            Box::new(move |fate| {
                assert!(index % 2 == 0, "on purpose");
                done.send(fate).unwrap();
            }),
        );
    }
    drop(done);
    assert_eq!(fates.iter().collect::<Vec<_>>(), [Ok(()), Ok(()), Ok(())]);
    assert_works(&store, 7);
}

#[test]
fn a_commit_that_fails_refuses_its_whole_batch() {
    let store = store();
    let mut transactions = sessions(5);
    transactions.push(vec![contract::create(&contract::session("session-0"))]);
    let fates = together(&store, transactions, |connection| {
        connection
            .execute_batch(
                "CREATE TABLE promise (session INTEGER REFERENCES sessions (id) DEFERRABLE INITIALLY DEFERRED);
                 CREATE TRIGGER break_it AFTER INSERT ON sessions WHEN new.key = 'agent:main:session-3'
                 BEGIN INSERT INTO promise VALUES (-1); END",
            )
            .unwrap();
    });
    assert_eq!(fates.len(), 6);
    for fate in fates {
        assert!(matches!(fate, Err(Refused::Storage(StoreError::Other(_)))), "{fate:?}");
    }
    assert!(block_on(store.session(contract::key("session-0"))).unwrap().is_none());
    assert_works(&store, 1);
}

#[test]
fn a_full_device_is_called_full_and_may_pass() {
    let store = store();
    visit(&store, |connection| {
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update_and_check(None, "max_page_count", pages + 8, |_| Ok(())).unwrap();
    });
    let main = contract::session("main");
    let huge = vec![contract::create(&main), contract::append(&main.key, 0, &"x".repeat(200_000))];
    let fate = block_on(submit(&*store, huge.clone()));
    assert!(matches!(fate, Err(Refused::Storage(StoreError::Full(_)))), "{fate:?}");
    assert!(block_on(store.session(main.key)).unwrap().is_none());
    assert_works(&store, 1);
    visit(&store, |connection| {
        connection.pragma_update_and_check(None, "max_page_count", 1_000_000, |_| Ok(())).unwrap();
    });
    block_on(apply(&*store, huge));
}

#[test]
fn a_read_only_database_is_called_read_only() {
    let store = store();
    visit(&store, |connection| connection.pragma_update(None, "query_only", true).unwrap());
    let fate = block_on(submit(&*store, vec![contract::create(&contract::session("main"))]));
    assert!(matches!(fate, Err(Refused::Storage(StoreError::ReadOnly(_)))), "{fate:?}");
    visit(&store, |connection| connection.pragma_update(None, "query_only", false).unwrap());
    assert_works(&store, 1);
}

#[test]
fn closing_finishes_what_was_submitted() {
    let store = store();
    let applied = Arc::new(AtomicUsize::new(0));
    for transaction in sessions(1_500) {
        let applied = Arc::clone(&applied);
        store.submit(
            transaction,
            Box::new(move |fate| _ = applied.fetch_add(usize::from(fate.is_ok()), Ordering::SeqCst)),
        );
    }
    store.close();
    assert_eq!(applied.load(Ordering::SeqCst), 1_500);
    let fate = block_on(submit(&*store, sessions(1).remove(0)));
    assert!(matches!(fate, Err(Refused::Storage(StoreError::Unavailable(_)))), "{fate:?}");
    let read = block_on(store.open_runs());
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    store.close();
    let again = SqliteStorage::open(store.dir.path(), Durability::Full).unwrap();
    assert_eq!(block_on(again.list_sessions(Default::default(), all())).unwrap().len(), 1_500);
}

#[test]
fn the_last_owner_may_be_a_listener() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStorage::open(dir.path(), Durability::Normal).unwrap());
    let (done, fate) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let owner = Arc::clone(&store);
    store.submit(
        vec![contract::create(&contract::session("main"))],
        Box::new(move |result| {
            _ = held.recv();
            drop(owner);
            done.send(result).unwrap();
        }),
    );
    drop(store);
    drop(release);
    assert_eq!(fate.recv().unwrap(), Ok(()));
}

#[test]
fn a_loaded_session_is_one_snapshot() {
    let store = store();
    let main = contract::session("main");
    block_on(apply(&*store, vec![contract::create(&main)]));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for number in 0..300 {
                let run = contract::insert(&contract::run(number, &main.key));
                let entry = contract::append(&main.key, number, "text");
                let steer = Op::QueueSteer(Box::new(contract::steer(u128::from(number), &main.key)));
                block_on(apply(&*store, vec![run, entry, steer]));
            }
        });
        while !writing.is_finished() {
            let loaded = block_on(store.load_session(main.key.clone())).unwrap().unwrap();
            assert_eq!(loaded.runs.len(), loaded.transcript.len());
            assert_eq!(loaded.runs.len(), loaded.steers.len());
        }
    });
}

#[test]
fn more_questions_than_fit_the_queue_are_all_answered() {
    let store = store();
    block_on(async {
        contract::apply(&*store, vec![contract::create(&contract::session("main"))]).await;
        let ask = || store.session(contract::key("main"));
        let answers = futures::future::join_all((0..3_000).map(|_| ask())).await;
        assert!(answers.into_iter().all(|answer| answer.unwrap().is_some()));
    });
}

#[test]
fn questions_that_nobody_waits_for_do_not_stay() {
    let store = store();
    block_on(async {
        for _ in 0..3_000 {
            let question = store.open_runs();
            drop(futures::future::select(question, futures::future::ready(())).await);
        }
        assert_eq!(View::of(&*store).await, View::of(&*super::store()).await);
    });
}

fn all() -> offshoot_actors::ports::Page {
    offshoot_actors::ports::Page { offset: 0, limit: u32::MAX }
}
