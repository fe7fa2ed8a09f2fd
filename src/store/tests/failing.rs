//! What the store does when what it stands on gives way, and when that is over.

use offshoot_actors::contract::{self, View, apply, block_on, submit};
use offshoot_actors::ports::{Op, Refused, Storage, StoreError};
use rusqlite::Connection;

use super::files::{DATABASE, fill, names, root_of};
use super::writing::together;
use super::{Store, store};
use crate::store::{Durability, OpenError, SqliteStorage};

fn visit(store: &Store, visit: impl FnOnce(&Connection) + Send + 'static) {
    store.storage.writer.as_ref().unwrap().visit(visit);
}

fn new_session(label: &str) -> Vec<Op> {
    vec![contract::create(&contract::session(label))]
}

/// What the store says of itself once everything before is done.
fn refuses(store: &Store) -> Option<StoreError> {
    block_on(submit(&**store, Vec::new())).ok();
    store.health().refuses.map(|trouble| trouble.error)
}

fn may_have_pages(store: &Store, more: i64) {
    visit(store, move |connection| {
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update_and_check(None, "max_page_count", pages + more, |_| Ok(())).unwrap();
    });
}

#[test]
fn a_full_store_says_so_until_there_is_room_and_needs_no_restart() {
    let store = store();
    assert_eq!(refuses(&store), None);
    may_have_pages(&store, 0);
    let huge = || {
        let main = contract::session("main");
        vec![contract::create(&main), contract::append(&main.key, 0, &"x".repeat(200_000))]
    };
    let fate = block_on(submit(&*store, huge()));
    let Err(Refused::Storage(error @ StoreError::Full(_))) = fate else { panic!("{fate:?}") };
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!(refuses(&store), Some(error));
    may_have_pages(&store, 1_000);
    assert!(refuses(&store).is_some(), "nobody has tried since");
    store.try_again();
    assert_eq!(refuses(&store), None);
    block_on(apply(&*store, huge()));
}

#[test]
fn a_request_that_is_wrong_is_no_fault_of_the_store() {
    let store = store();
    block_on(apply(&*store, new_session("main")));
    assert!(block_on(submit(&*store, new_session("main"))).is_err());
    assert_eq!(refuses(&store), None);
}

#[test]
fn nothing_is_written_to_a_file_that_was_moved_away() {
    let store = store();
    let (file, away) = (store.file().to_owned(), store.dir.path().join("away"));
    std::fs::rename(&file, &away).unwrap();
    for other in [None, Some("another file")] {
        other.into_iter().for_each(|text| std::fs::write(&file, text).unwrap());
        let fate = block_on(submit(&*store, new_session("lost")));
        assert!(matches!(fate, Err(Refused::Storage(StoreError::Unavailable(_)))), "{fate:?}");
        store.try_again();
        assert!(refuses(&store).is_some_and(|error| error.to_string().contains("put it back")));
    }
    std::fs::rename(&away, &file).unwrap();
    store.try_again();
    assert_eq!(refuses(&store), None);
    block_on(apply(&*store, new_session("main")));
    assert!(block_on(store.session(contract::key("lost"))).unwrap().is_none());
}

#[test]
fn a_writer_that_panicked_begins_anew_as_soon_as_it_can() {
    let store = store();
    block_on(apply(&*store, new_session("before")));
    let other = Connection::open(store.file()).unwrap();
    other.execute_batch("ALTER TABLE audit RENAME TO audit_away").unwrap();
    visit(&store, |connection| {
        connection.execute_batch("BEGIN IMMEDIATE; UPDATE sessions SET depth = 9").unwrap();
        panic!("on purpose");
    });
    for _ in 0..2 {
        let fate = block_on(submit(&*store, new_session("meanwhile")));
        assert!(matches!(fate, Err(Refused::Storage(_))), "{fate:?}");
    }
    assert!(refuses(&store).is_some());
    other.execute_batch("ALTER TABLE audit_away RENAME TO audit").unwrap();
    store.try_again();
    assert_eq!(refuses(&store), None);
    let before = block_on(store.session(contract::key("before"))).unwrap();
    assert_eq!(before, Some(contract::session("before")));
    block_on(apply(&*store, new_session("meanwhile")));
}

#[test]
fn damage_that_is_met_is_told_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let open = || SqliteStorage::open(dir.path(), Durability::Normal);
    let first = open().unwrap();
    block_on(fill(&first));
    drop(first);
    let file = dir.path().join(DATABASE);
    spoil(&file, "entries");
    let store = open().unwrap();
    assert_eq!(store.health().damaged, None, "nobody has met it");
    let read = block_on(store.load_session(contract::key("main")));
    let Err(error @ StoreError::Damaged(_)) = read else { panic!("{read:?}") };
    let text = error.to_string();
    assert!(text.contains("`offshoot doctor`") && text.contains("`offshoot backup restore`"), "{text}");
    assert_eq!(store.health().damaged.map(|trouble| trouble.error), Some(error));
    let main = contract::key("main");
    let fate = block_on(submit(&store, vec![contract::append(&main, 0, "x")]));
    assert!(matches!(fate, Err(Refused::Storage(StoreError::Damaged(_)))), "{fate:?}");
    assert_eq!(store.health().refuses, None, "what does not need that page is taken");
    block_on(apply(&store, new_session("another")));
    assert_eq!(store.health().refuses, None);
    drop(store);

    spoil(&file, "audit");
    let error = open().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("damaged") && text.contains("`offshoot backup restore`"), "{text}");
}

#[test]
fn a_damaged_page_fails_alone_also_among_what_is_committed_with_it() {
    let dir = tempfile::tempdir().unwrap();
    block_on(fill(&SqliteStorage::open(dir.path(), Durability::Normal).unwrap()));
    spoil(&dir.path().join(DATABASE), "entries");
    let store = Store { storage: SqliteStorage::open(dir.path(), Durability::Normal).unwrap(), dir };
    let needs_it = vec![contract::append(&contract::key("main"), 0, "x")];
    let wrong = new_session("main");
    let fates = together(&store, vec![new_session("a"), needs_it, wrong, new_session("b")], |_| {});
    let told: Vec<_> = fates.iter().map(Result::is_ok).collect();
    assert_eq!(told, [true, false, false, true], "{fates:?}");
    assert!(matches!(fates[1], Err(Refused::Storage(StoreError::Damaged(_)))), "{fates:?}");
    assert!(matches!(fates[2], Err(Refused::Conflict(_))), "{fates:?}");
    for key in ["a", "b"] {
        assert!(block_on(store.session(contract::key(key))).unwrap().is_some());
    }
    assert_eq!(refuses(&store), None);
}

fn spoil(file: &std::path::Path, table: &str) {
    let root = root_of(file, table);
    let mut bytes = std::fs::read(file).unwrap();
    bytes[(root - 1) * 4_096..][..4_096].fill(0xff);
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn what_a_newer_program_wrote_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(DATABASE);
    let newer = Connection::open(&file).unwrap();
    newer.execute_batch("CREATE TABLE tomorrow (x); PRAGMA user_version = 99").unwrap();
    drop(newer);
    let bytes = std::fs::read(&file).unwrap();
    let error = SqliteStorage::open(dir.path(), Durability::Full).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error:?}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    assert_eq!(names(dir.path()), [DATABASE, "offshoot.lock"].map(str::to_owned).into());
}

#[test]
fn a_copy_of_yesterday_goes_on_where_it_was() {
    let store = store();
    block_on(fill(&*store));
    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join(DATABASE);
    Connection::open(store.file()).unwrap().execute("VACUUM INTO ?1", [file.to_str().unwrap()]).unwrap();
    let yesterday = block_on(View::of(&*store));
    let late = contract::child("late", &contract::session("main"));
    block_on(apply(&*store, contract::spawn(7, &late)));
    let today = crate::store::verify_audit(store.dir.path()).unwrap();

    let again = SqliteStorage::open(copy.path(), Durability::Normal).unwrap();
    assert_eq!(block_on(View::of(&again)), yesterday);
    block_on(apply(&again, contract::spawn(7, &late)));
    assert_eq!(crate::store::verify_audit(copy.path()).unwrap(), today);
    assert_eq!(block_on(View::of(&again)), block_on(View::of(&*store)));
}
