//! What is given up after a while.

use std::slice::from_ref;

use super::fixtures::*;
use crate::ports::{Op, QuietFilter, RunRow, SessionRow, Storage};
use crate::types::{Cleanup, SessionKey, Terminal, Timestamp};

fn written(from: i64, until: i64) -> QuietFilter {
    let written = Timestamp(from)..=Timestamp(until);
    QuietFilter { written, after: None, cleanup: Cleanup::Keep }
}

async fn quiet(store: &dyn Storage, filter: QuietFilter, limit: u32) -> Vec<SessionKey> {
    let found = store.quiet_sessions(filter, limit).await.unwrap();
    found.into_iter().map(|session| session.row.key).collect()
}

fn kept(name: &str, parent: &SessionRow, at: i64) -> SessionRow {
    SessionRow { cleanup: Cleanup::Keep, updated_at: Timestamp(at), ..child(name, parent) }
}

/// Sessions that ended with their run, the oldest first, page by page. One that takes further messages is none of them.
pub async fn quiet_sessions_are_paged_by_age(store: &dyn Storage) {
    let main = session("main");
    let rows = [kept("b", &main, 2_000), kept("a", &main, 2_000), kept("c", &main, 1_000)];
    let deleted = child("d", &main);
    apply(store, vec![create(&main), create(&rows[0]), create(&rows[1]), create(&rows[2]), create(&deleted)])
        .await;
    let [b, a, c] = rows.map(|row| row.key);
    assert_eq!(quiet(store, written(0, 9_000), 9).await, [c.clone(), a.clone(), b.clone()]);
    assert_eq!(quiet(store, written(0, 9_000), 2).await, [c.clone(), a.clone()]);
    let rest = QuietFilter { after: Some(a.clone()), ..written(2_000, 9_000) };
    assert_eq!(quiet(store, rest, 9).await, from_ref(&b));
    assert_eq!(quiet(store, written(0, 1_999), 9).await, [c]);
    assert_eq!(quiet(store, written(2_001, 9_000), 9).await, []);
    let filter = QuietFilter { cleanup: Cleanup::Delete, ..written(0, 9_000) };
    assert_eq!(quiet(store, filter, 9).await, [deleted.key]);
    apply(store, vec![append(&b, 0, "one"), append(&b, 1, "two")]).await;
    let found = store.quiet_sessions(written(2_000, 2_000), 9).await.unwrap();
    assert_eq!(found.iter().map(|session| session.entries).collect::<Vec<_>>(), [0, 2]);
}

/// Open runs, children, undelivered results and steering messages that wait each keep a session, and so does anything
/// that was written to it since it was read.
pub async fn a_session_retires_only_as_it_was_read(store: &dyn Storage) {
    let (main, all) = (session("main"), written(0, 9_000));
    let (row, below) = (kept("child", &main, 1_000), kept("below", &kept("child", &main, 1_000), 1_000));
    let retire = |row: &SessionRow, at: i64, entries: u64| Op::RetireSession {
        session: row.key.clone(),
        written_at: Timestamp(at),
        entries,
    };
    apply(store, vec![create(&main), create(&row), create(&below), append(&row.key, 0, "text")]).await;
    assert_eq!(quiet(store, all.clone(), 9).await, from_ref(&below.key));
    conflict(store, vec![retire(&row, 1_000, 1)]).await;
    apply(store, vec![retire(&below, 1_000, 0)]).await;
    conflict(store, vec![retire(&below, 1_000, 0)]).await;

    apply(store, vec![insert(&run(1, &row.key))]).await;
    conflict(store, vec![retire(&row, 1_000, 1)]).await;
    apply(store, vec![end(1, Terminal::Ok), queue(&announce(1, &row.key, &main.key))]).await;
    assert_eq!(quiet(store, all.clone(), 9).await, []);
    conflict(store, vec![retire(&row, 5_000, 1)]).await;
    apply(store, vec![take(&main.key, &[1])]).await;
    assert_eq!(quiet(store, all.clone(), 9).await, from_ref(&row.key));

    conflict(store, vec![retire(&row, 4_999, 1)]).await;
    conflict(store, vec![retire(&row, 5_000, 0)]).await;
    apply(store, vec![Op::QueueSteer(Box::new(steer(1, &row.key)))]).await;
    conflict(store, vec![retire(&row, 5_000, 1)]).await;
    apply(store, vec![Op::TakeSteers { session: row.key.clone(), ids: vec![steer(1, &row.key).id] }]).await;
    apply(store, vec![retire(&row, 5_000, 1)]).await;
    assert!(store.session(row.key.clone()).await.unwrap().is_none());
    assert!(store.entries(row.key, 0, 9).await.unwrap().is_empty());
    assert!(store.run(run_id(1)).await.unwrap().is_some(), "its runs stay");
}

/// The oldest first, but none of a run that is open or may be spawned again by one that is.
pub async fn names_of_requests_are_forgotten_by_age(store: &dyn Storage) {
    let (main, row) = (session("main"), child("child", &session("main")));
    let name = |key: &'static str, run: u64| Op::NameRequest {
        key: request(key),
        digest: [1; 32],
        run: run_id(run),
    };
    let forget = |before, limit| vec![Op::ForgetRequests { before: Timestamp(before), limit }];
    let known = async || {
        let mut known = String::new();
        for key in ["w", "x", "y", "z"] {
            if store.earlier(request(key)).await.unwrap().is_some() {
                known.push_str(key);
            }
        }
        known
    };
    let at = |number: u64, at: i64| insert(&RunRow { accepted_at: Timestamp(at), ..run(number, &main.key) });
    let spawned = RunRow { accepted_at: Timestamp(50), ..child_run(4, &row.key, &main.key, Some(run_id(3))) };
    apply(store, vec![create(&main), create(&row), at(1, 200), at(2, 100), at(3, 300), insert(&spawned)])
        .await;
    apply(store, vec![name("w", 1), name("x", 2), name("y", 3), name("z", 4)]).await;
    apply(store, forget(1_000, 9)).await;
    assert_eq!(known().await, "wxyz", "their runs are open");
    apply(store, vec![end(1, Terminal::Ok), end(2, Terminal::Ok), end(4, Terminal::Ok)]).await;
    apply(store, forget(100, 9)).await;
    assert_eq!(known().await, "wxyz", "the run that spawned the oldest is open");
    apply(store, forget(1_000, 1)).await;
    assert_eq!(known().await, "wyz");
    apply(store, vec![end(3, Terminal::Ok)]).await;
    apply(store, forget(200, 9)).await;
    assert_eq!(known().await, "wy");
    apply(store, vec![name("x", 2)]).await;
    assert_eq!(known().await, "wxy", "a name that was forgotten is free");
}

/// With their runs and tool calls, leaves first; never one whose result somebody waits for.
pub async fn deleted_sessions_are_forgotten_by_age(store: &dyn Storage) {
    let main = session("main");
    let (row, below) = (kept("child", &main, 1_000), kept("below", &kept("child", &main, 1_000), 1_000));
    let delete = |row: &SessionRow| Op::DeleteSession { session: row.key.clone(), with_parents: false };
    let forget = |before, limit| vec![Op::ForgetSessions { before: Timestamp(before), limit }];
    let known = async || {
        let mut known = Vec::new();
        for number in 1..=2 {
            if store.run(run_id(number)).await.unwrap().is_some() {
                known.push(number);
            }
        }
        known
    };
    apply(store, vec![create(&main), create(&row), create(&below)]).await;
    apply(store, vec![insert(&run(1, &row.key)), insert(&run(2, &below.key))]).await;
    apply(store, vec![end(1, Terminal::Ok), end(2, Terminal::Ok)]).await;
    apply(store, forget(9_000, 9)).await;
    assert_eq!(known().await, [1, 2], "their sessions are there");
    let wanted = super::callbacks::callback(2, "http://a/");
    apply(store, vec![super::callbacks::put_callback(&wanted), delete(&below), delete(&row)]).await;
    apply(store, forget(9_000, 9)).await;
    assert_eq!(known().await, [1, 2], "the result of one is wanted, and the other is above it");
    apply(store, vec![Op::DismissCallback { run: run_id(2), at: Timestamp(7_000) }]).await;
    apply(store, forget(5_000, 9)).await;
    assert_eq!(known().await, [1, 2], "not old enough");
    assert_eq!(store.subtree_usage(main.key.clone()).await.unwrap().total(), 220);
    apply(store, forget(5_001, 9)).await;
    assert_eq!(known().await, [1], "what is below goes first");
    assert_eq!(store.subtree_usage(main.key.clone()).await.unwrap().total(), 110);
    apply(store, forget(5_001, 9)).await;
    assert_eq!(known().await, [0; 0]);
    assert_eq!(store.subtree_usage(main.key).await.unwrap().total(), 0);
    apply(store, vec![create(&row), insert(&run(1, &row.key))]).await;
}
