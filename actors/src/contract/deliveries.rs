//! The one view of what is to reach somebody.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::callbacks::*;
use super::fixtures::*;
use crate::ports::{
    DeliveryFilter, DeliveryKind, DeliveryRow, DeliveryState, DeliveryStatus, DeliveryTally, Op, Page,
    Receiver, Storage, Undeliverable,
};
use crate::types::{AgentId, Cleanup, OnParentExit, SessionKey, Terminal, Timestamp};

/// A page that holds everything.
const ALL: Page = Page { offset: 0, limit: 100 };

/// Takes the result of the run of that number off its way for good.
#[must_use]
pub fn dismiss_announce(number: u64) -> Op {
    Op::DismissAnnounce { run: run_id(number) }
}

fn to_session(number: u64, from: &str, to: &str, state: DeliveryState) -> DeliveryRow {
    DeliveryRow {
        kind: DeliveryKind::Announce,
        run: run_id(number),
        session: key(from),
        receiver: Receiver::Session(key(to)),
        at: Timestamp(5_000),
        settled_at: None,
        state,
    }
}

fn outside(number: u64, state: DeliveryState, settled_at: Option<i64>) -> DeliveryRow {
    DeliveryRow {
        kind: DeliveryKind::Callback,
        run: run_id(number),
        session: key("main"),
        receiver: Receiver::Address("https://receiver:8".to_owned()),
        at: Timestamp(1_000),
        settled_at: settled_at.map(Timestamp),
        state,
    }
}

async fn list(store: &dyn Storage, filter: DeliveryFilter) -> Vec<DeliveryRow> {
    store.deliveries(filter, ALL).await.unwrap()
}

/// A parent with four children: the result of the first is taken, that of the second is on its way, that of the third
/// dismissed; the parent of the fourth is gone. Runs 5 to 8 of the parent are wanted outside.
async fn deliveries_of_every_kind(store: &dyn Storage) {
    let (main, gone) = (session("main"), session("gone"));
    apply(store, vec![create(&main), create(&gone)]).await;
    for (number, name) in [(1, "a"), (2, "b"), (3, "c")] {
        apply(store, spawn(number, &child(name, &main))).await;
        apply(store, vec![end(number, Terminal::Ok), queue(&announce(number, &key(name), &main.key))]).await;
    }
    apply(store, vec![take(&main.key, &[1]), dismiss_announce(3)]).await;
    let orphan = crate::ports::SessionRow { cleanup: Cleanup::Keep, ..session("d") };
    let run_of_orphan = child_run(4, &orphan.key, &gone.key, None);
    apply(store, vec![create(&orphan), insert(&run_of_orphan)]).await;
    apply(store, vec![Op::DeleteSession { session: gone.key.clone(), with_parents: false }]).await;
    apply(store, vec![end(4, Terminal::Ok), queue(&announce(4, &orphan.key, &gone.key))]).await;
    let wanted = |number| callback(number, "https://user:pass@receiver:8/path?token=x");
    for number in 5..=8 {
        apply(store, vec![insert(&run(number, &main.key)), put_callback(&wanted(number))]).await;
    }
    apply(store, vec![failed(&wanted(6), 2, Some(9_000))]).await;
    apply(store, vec![delivered(&wanted(7))]).await;
    apply(store, vec![failed(&wanted(8), 300, None)]).await;
}

/// Everything is listed with what became of it, the result of the newest run first, and nothing of an address but who
/// receives it.
pub async fn every_delivery_is_listed_with_what_became_of_it(store: &dyn Storage) {
    assert_eq!(list(store, DeliveryFilter::default()).await, []);
    deliveries_of_every_kind(store).await;
    let failed = |attempts: u32, next: Option<i64>| DeliveryState::Failed {
        reason: format!("reason {attempts}"),
        attempts,
        next: next.map(Timestamp),
    };
    let no_session = DeliveryState::Undeliverable(Undeliverable::NoSession);
    let all = [
        outside(8, failed(300, None), None),
        outside(7, DeliveryState::Delivered, Some(6_000)),
        outside(6, failed(2, Some(9_000)), None),
        outside(5, DeliveryState::Open, None),
        to_session(4, "d", "gone", no_session),
        to_session(3, "c", "main", DeliveryState::Dismissed),
        to_session(2, "b", "main", DeliveryState::Open),
        to_session(1, "a", "main", DeliveryState::Delivered),
    ];
    assert_eq!(list(store, DeliveryFilter::default()).await, all);
    let page = store.deliveries(DeliveryFilter::default(), Page { offset: 3, limit: 2 }).await.unwrap();
    assert_eq!(page, all[3..5]);
    let both = vec![put_callback(&callback(2, "https://receiver:8"))];
    apply(store, both).await;
    let of_run = DeliveryFilter { run: Some(run_id(2)), ..DeliveryFilter::default() };
    let kinds: Vec<_> = list(store, of_run).await.iter().map(|row| row.kind).collect();
    assert_eq!(kinds, DeliveryKind::ALL);
    apply(store, vec![Op::DismissCallback { run: run_id(2), at: Timestamp(8_000) }]).await;
    let dismissed = DeliveryFilter { status: Some(DeliveryStatus::Dismissed), ..DeliveryFilter::default() };
    let dismissed: Vec<_> =
        list(store, dismissed).await.iter().map(|row| (row.kind, row.run, row.settled_at)).collect();
    let at = Some(Timestamp(8_000));
    let expected = [(DeliveryKind::Announce, run_id(3), None), (DeliveryKind::Callback, run_id(2), at)];
    assert_eq!(dismissed, expected);
}

/// Lists hold what was asked for and nothing else; whether an agent is there is told by whoever asks.
pub async fn deliveries_are_filtered_and_counted(store: &dyn Storage) {
    deliveries_of_every_kind(store).await;
    let runs = async |filter: DeliveryFilter| -> Vec<u64> {
        let rows = list(store, filter).await;
        (1..=8).filter(|number| rows.iter().any(|row| row.run == run_id(*number))).collect()
    };
    let any = DeliveryFilter::default;
    for (status, expected) in [
        (DeliveryStatus::Open, vec![2, 5]),
        (DeliveryStatus::Failed, vec![6, 8]),
        (DeliveryStatus::Undeliverable, vec![4]),
        (DeliveryStatus::Delivered, vec![1, 7]),
        (DeliveryStatus::Dismissed, vec![3]),
    ] {
        assert_eq!(runs(DeliveryFilter { status: Some(status), ..any() }).await, expected, "{status}");
    }
    assert_eq!(runs(DeliveryFilter { kind: Some(DeliveryKind::Announce), ..any() }).await, [1, 2, 3, 4]);
    assert_eq!(runs(DeliveryFilter { kind: Some(DeliveryKind::Callback), ..any() }).await, [5, 6, 7, 8]);
    assert_eq!(runs(DeliveryFilter { run: Some(run_id(4)), ..any() }).await, [4]);
    assert_eq!(runs(DeliveryFilter { run: Some(run_id(9)), ..any() }).await, [] as [u64; 0]);
    let of = |key: SessionKey| DeliveryFilter { session: Some(key), ..any() };
    assert_eq!(runs(of(key("main"))).await, [1, 2, 3, 5, 6, 7, 8]);
    assert_eq!(runs(of(key("gone"))).await, [4]);
    assert_eq!(runs(of(key("b"))).await, [2]);
    let tally = |open, undeliverable| DeliveryTally { open, failed: 2, given_up: 1, undeliverable };
    assert_eq!(store.delivery_tally(None).await.unwrap(), tally(2, 1));
    let (there, none) = (Arc::new(BTreeSet::from([AgentId::main()])), Arc::new(BTreeSet::new()));
    assert_eq!(store.delivery_tally(Some(Arc::clone(&there))).await.unwrap(), tally(2, 1));
    assert_eq!(store.delivery_tally(Some(Arc::clone(&none))).await.unwrap(), tally(1, 2));
    let open = |agents| DeliveryFilter { status: Some(DeliveryStatus::Open), agents, ..any() };
    assert_eq!(runs(open(Some(there))).await, [2, 5]);
    assert_eq!(runs(open(Some(Arc::clone(&none)))).await, [5]);
    let undeliverable = DeliveryFilter { run: Some(run_id(2)), agents: Some(none), ..any() };
    let state = DeliveryState::Undeliverable(Undeliverable::NoAgent);
    assert_eq!(list(store, undeliverable).await, [to_session(2, "b", "main", state)]);
}

/// A result that nobody is to have is taken off its way once, and never put there again.
pub async fn a_result_is_dismissed_once_and_for_good(store: &dyn Storage) {
    let (main, row) = (session("main"), child("child", &session("main")));
    let result = announce(1, &row.key, &main.key);
    apply(store, vec![create(&main)]).await;
    apply(store, spawn(1, &row)).await;
    conflict(store, vec![dismiss_announce(1)]).await;
    conflict(store, vec![dismiss_announce(2)]).await;
    apply(store, vec![end(1, Terminal::Ok), queue(&result)]).await;
    let delete = || vec![Op::DeleteSession { session: row.key.clone(), with_parents: false }];
    apply(store, delete()).await;
    assert!(store.session(row.key.clone()).await.unwrap().is_some(), "its result is on its way");
    apply(store, vec![dismiss_announce(1)]).await;
    conflict(store, vec![dismiss_announce(1)]).await;
    conflict(store, vec![take(&main.key, &[1])]).await;
    conflict(store, vec![queue(&result)]).await;
    assert!(store.load_session(main.key).await.unwrap().unwrap().announces.is_empty());
    assert_eq!(store.waiting_sessions().await.unwrap(), []);
    apply(store, delete()).await;
    assert!(store.session(row.key.clone()).await.unwrap().is_none());
}

/// What becomes of a result whose receiver went away before it was there is listed with that receiver, to the end.
pub async fn a_result_for_nobody_is_listed_until_its_session_is_forgotten(store: &dyn Storage) {
    let main = session("main");
    let row = crate::ports::SessionRow { on_parent_exit: OnParentExit::Continue, ..child("child", &main) };
    apply(store, vec![create(&main)]).await;
    apply(store, spawn(1, &row)).await;
    let (session, from) = (row.key.clone(), main.key.clone());
    apply(store, vec![Op::MoveSession { session: session.clone(), from, to: None }]).await;
    let result = queue(&announce(1, &row.key, &main.key));
    apply(store, vec![end(1, Terminal::Ok), result, Op::AbandonAnnounce { run: run_id(1) }]).await;
    let state = DeliveryState::Undeliverable(Undeliverable::NoSession);
    let all = || list(store, DeliveryFilter::default());
    assert_eq!(all().await, [to_session(1, "child", "main", state)]);
    let delete = Op::DeleteSession { session, with_parents: true };
    apply(store, vec![dismiss_announce(1), delete]).await;
    let dismissed = [to_session(1, "child", "main", DeliveryState::Dismissed)];
    assert_eq!(all().await, dismissed);
    let forget = |before| vec![Op::ForgetSessions { before: Timestamp(before), limit: 9 }];
    apply(store, forget(1_000)).await;
    assert_eq!(all().await, dismissed);
    apply(store, forget(9_000)).await;
    assert_eq!(all().await, []);
}
