//! Where results are wanted outside.

use super::fixtures::*;
use crate::ports::{CallbackRow, Op, Storage};
use crate::types::{Secret, Terminal, Timestamp};

/// Where the result of the run of that number is wanted.
#[must_use]
pub fn callback(number: u64, address: &str) -> CallbackRow {
    CallbackRow { run: run_id(number), address: Secret::presented(address), at: Timestamp(1_000) }
}

/// Keeps where a result is wanted.
#[must_use]
pub fn put_callback(row: &CallbackRow) -> Op {
    Op::PutCallback(Box::new(row.clone()))
}

/// Takes it.
#[must_use]
pub fn take_callback(row: &CallbackRow) -> Op {
    Op::TakeCallback(Box::new(row.clone()))
}

/// A run can be accepted together with where its result is wanted: both are kept, or neither.
pub async fn a_run_and_where_its_result_is_wanted_are_kept_together(store: &dyn Storage) {
    let main = session("main");
    apply(store, vec![create(&main)]).await;
    let row = callback(1, "http://a/");
    conflict(
        store,
        vec![insert(&run(1, &main.key)), put_callback(&row), take_callback(&callback(2, "http://a/"))],
    )
    .await;
    assert_eq!(store.callbacks().await.unwrap(), []);
    assert_eq!(store.run(run_id(1)).await.unwrap(), None);
    apply(store, vec![insert(&run(1, &main.key)), put_callback(&row)]).await;
    assert_eq!(store.callbacks().await.unwrap(), [row]);
}

/// A result is wanted in one place, until it was delivered, also when its run has ended and its session is gone.
pub async fn a_result_is_wanted_until_it_is_taken(store: &dyn Storage) {
    let main = session("main");
    conflict(store, vec![put_callback(&callback(1, "http://a/"))]).await;
    apply(store, vec![create(&main), insert(&run(1, &main.key)), insert(&run(2, &main.key))]).await;
    apply(store, vec![put_callback(&callback(2, "http://a/")), put_callback(&callback(1, "http://a/"))])
        .await;
    apply(store, vec![put_callback(&callback(1, "http://b/"))]).await;
    apply(store, vec![end(1, Terminal::Ok), end(2, Terminal::Ok)]).await;
    apply(store, vec![Op::DeleteSession { session: main.key, with_parents: true }]).await;
    let wanted = [callback(1, "http://b/"), callback(2, "http://a/")];
    assert_eq!(store.callbacks().await.unwrap(), wanted);
    let [first, second] = &wanted;
    conflict(store, vec![take_callback(second), take_callback(&callback(3, "http://a/"))]).await;
    // Whoever has delivered the one before does not take the one that came in its place.
    conflict(store, vec![take_callback(&callback(1, "http://a/"))]).await;
    conflict(store, vec![take_callback(&CallbackRow { at: Timestamp(999), ..first.clone() })]).await;
    apply(store, vec![take_callback(first)]).await;
    conflict(store, vec![take_callback(first)]).await;
    assert_eq!(store.callbacks().await.unwrap(), [callback(2, "http://a/")]);
}
