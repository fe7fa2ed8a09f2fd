//! Where results are wanted outside.

use super::fixtures::*;
use crate::ports::{CallbackMark, CallbackRow, Op, OpenCallback, Storage};
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

/// It was delivered.
#[must_use]
pub fn delivered(row: &CallbackRow) -> Op {
    let mark = CallbackMark::Delivered { at: Timestamp(6_000) };
    Op::MarkCallback { callback: Box::new(row.clone()), mark }
}

/// An attempt to deliver it failed.
#[must_use]
pub fn failed(row: &CallbackRow, attempts: u32, next: Option<i64>) -> Op {
    let next = next.map(Timestamp);
    let mark = CallbackMark::Failed { reason: format!("reason {attempts}"), attempts, next };
    Op::MarkCallback { callback: Box::new(row.clone()), mark }
}

/// It as it is to be delivered, with the attempts that have failed and the time of the next one.
#[must_use]
pub fn open(row: &CallbackRow, attempts: u32, next: Option<i64>) -> OpenCallback {
    OpenCallback { callback: row.clone(), attempts, next: next.map(Timestamp) }
}

/// A run can be accepted together with where its result is wanted: both are kept, or neither.
pub async fn a_run_and_where_its_result_is_wanted_are_kept_together(store: &dyn Storage) {
    let main = session("main");
    apply(store, vec![create(&main)]).await;
    let row = callback(1, "http://a/");
    conflict(
        store,
        vec![insert(&run(1, &main.key)), put_callback(&row), delivered(&callback(2, "http://a/"))],
    )
    .await;
    assert_eq!(store.callbacks().await.unwrap(), []);
    assert_eq!(store.run(run_id(1)).await.unwrap(), None);
    apply(store, vec![insert(&run(1, &main.key)), put_callback(&row)]).await;
    assert_eq!(store.callbacks().await.unwrap(), [open(&row, 0, None)]);
}

/// A result is wanted in one place, until it was delivered, also when its run has ended and its session is gone.
pub async fn a_result_is_wanted_until_it_is_delivered(store: &dyn Storage) {
    let main = session("main");
    conflict(store, vec![put_callback(&callback(1, "http://a/"))]).await;
    apply(store, vec![create(&main), insert(&run(1, &main.key)), insert(&run(2, &main.key))]).await;
    apply(store, vec![put_callback(&callback(2, "http://a/")), put_callback(&callback(1, "http://a/"))])
        .await;
    apply(store, vec![put_callback(&callback(1, "http://b/"))]).await;
    apply(store, vec![end(1, Terminal::Ok), end(2, Terminal::Ok)]).await;
    apply(store, vec![Op::DeleteSession { session: main.key, with_parents: true }]).await;
    let wanted = [callback(1, "http://b/"), callback(2, "http://a/")];
    assert_eq!(store.callbacks().await.unwrap(), wanted.each_ref().map(|row| open(row, 0, None)));
    let [first, second] = &wanted;
    conflict(store, vec![delivered(second), delivered(&callback(3, "http://a/"))]).await;
    // Whoever has delivered the one before does not mark the one that came in its place.
    conflict(store, vec![delivered(&callback(1, "http://a/"))]).await;
    conflict(store, vec![delivered(&CallbackRow { at: Timestamp(999), ..first.clone() })]).await;
    conflict(store, vec![failed(&callback(1, "http://a/"), 1, None)]).await;
    apply(store, vec![delivered(first)]).await;
    conflict(store, vec![delivered(first)]).await;
    conflict(store, vec![failed(first, 1, None)]).await;
    assert_eq!(store.callbacks().await.unwrap(), [open(second, 0, None)]);
    // Whoever asks again gets it again.
    apply(store, vec![put_callback(first)]).await;
    assert_eq!(store.callbacks().await.unwrap(), [open(first, 0, None), open(second, 0, None)]);
}

/// Attempts are counted until nothing more is tried; somebody may ask for more, or for none.
pub async fn attempts_to_deliver_a_result_are_kept(store: &dyn Storage) {
    let (main, row) = (session("main"), callback(1, "http://a/"));
    apply(store, vec![create(&main), insert(&run(1, &main.key)), put_callback(&row)]).await;
    let again = || Op::RetryCallback { run: run_id(1) };
    let dismiss = || Op::DismissCallback { run: run_id(1), at: Timestamp(7_000) };
    apply(store, vec![failed(&row, 1, Some(2_000))]).await;
    apply(store, vec![failed(&row, 2, Some(3_000))]).await;
    assert_eq!(store.callbacks().await.unwrap(), [open(&row, 2, Some(3_000))]);
    apply(store, vec![failed(&row, 3, None)]).await;
    assert_eq!(store.callbacks().await.unwrap(), []);
    apply(store, vec![again()]).await;
    assert_eq!(store.callbacks().await.unwrap(), [open(&row, 0, None)]);
    apply(store, vec![failed(&row, 1, Some(2_000)), again()]).await;
    assert_eq!(store.callbacks().await.unwrap(), [open(&row, 0, None)]);
    conflict(store, vec![Op::RetryCallback { run: run_id(2) }]).await;
    conflict(store, vec![Op::DismissCallback { run: run_id(2), at: Timestamp(7_000) }]).await;
    apply(store, vec![dismiss()]).await;
    for change in [again(), dismiss(), delivered(&row), failed(&row, 1, None)] {
        conflict(store, vec![change]).await;
    }
    assert_eq!(store.callbacks().await.unwrap(), []);
}
