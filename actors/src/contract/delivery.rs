//! Results, steering messages, named requests.

use super::fixtures::*;
use crate::ports::{Op, Refused, Storage};
use crate::types::Terminal;

/// Also after it was taken, a result is not put on its way again.
pub async fn a_result_is_put_on_its_way_once_ever(store: &dyn Storage) {
    let (main, row) = (session("main"), child("child", &session("main")));
    let result = announce(1, &row.key, &main.key);
    apply(store, vec![create(&main)]).await;
    apply(store, spawn(1, &row)).await;
    apply(store, vec![end(1, Terminal::Ok), queue(&result)]).await;
    conflict(store, vec![queue(&result)]).await;
    conflict(store, vec![queue(&announce(1, &row.key, &row.key))]).await;
    apply(store, vec![take(&main.key, &[1])]).await;
    conflict(store, vec![queue(&result)]).await;
    assert!(store.load_session(main.key).await.unwrap().unwrap().announces.is_empty());
}

/// Results are taken by their receiver, once, all of a list or none.
pub async fn results_are_taken_exactly_once(store: &dyn Storage) {
    let (main, other) = (session("main"), session("other"));
    apply(store, vec![create(&main), create(&other)]).await;
    for number in 1..=4 {
        let row = child(&format!("child-{number}"), &main);
        apply(store, spawn(number, &row)).await;
        apply(store, vec![end(number, Terminal::Ok), queue(&announce(number, &row.key, &main.key))]).await;
    }
    let waiting = async || -> Vec<_> {
        let loaded = store.load_session(main.key.clone()).await.unwrap().unwrap();
        loaded.announces.iter().map(|announce| announce.item.run).collect()
    };
    conflict(store, vec![take(&other.key, &[1])]).await;
    conflict(store, vec![take(&main.key, &[1, 9])]).await;
    conflict(store, vec![take(&main.key, &[1, 1])]).await;
    assert_eq!(waiting().await, [1, 2, 3, 4].map(run_id));
    apply(store, vec![take(&main.key, &[3, 1])]).await;
    assert_eq!(waiting().await, [2, 4].map(run_id));
    conflict(store, vec![take(&main.key, &[2, 3])]).await;
    apply(store, vec![take(&main.key, &[])]).await;
    apply(store, vec![take(&main.key, &[2, 4])]).await;
    assert!(waiting().await.is_empty());
}

/// Steering messages are taken from their session, once, all of a list or none.
pub async fn steering_messages_are_taken_exactly_once(store: &dyn Storage) {
    let (main, other) = (session("main"), session("other"));
    let keep = |number| Op::QueueSteer(Box::new(steer(number, &main.key)));
    let take = |session: &crate::ports::SessionRow, numbers: &[u128]| Op::TakeSteers {
        session: session.key.clone(),
        ids: numbers.iter().map(|number| uuid::Uuid::from_u128(*number)).collect(),
    };
    conflict(store, vec![keep(1)]).await;
    apply(store, vec![create(&main), create(&other), keep(3), keep(1), keep(2)]).await;
    conflict(store, vec![keep(2)]).await;
    conflict(store, vec![take(&other, &[1])]).await;
    conflict(store, vec![take(&main, &[1, 4])]).await;
    conflict(store, vec![take(&main, &[1, 1])]).await;
    apply(store, vec![take(&main, &[1])]).await;
    let loaded = store.load_session(main.key.clone()).await.unwrap().unwrap();
    assert_eq!(loaded.steers, [steer(3, &main.key), steer(2, &main.key)]);
    conflict(store, vec![take(&main, &[1])]).await;
    apply(store, vec![keep(1), take(&main, &[2, 3, 1])]).await;
    assert!(store.load_session(main.key).await.unwrap().unwrap().steers.is_empty());
}

/// A name is unique per principal and method; a repeat is refused as such and finds the earlier request.
pub async fn a_request_is_named_once(store: &dyn Storage) {
    let (main, row) = (session("main"), child("child", &session("main")));
    let name = |key, digest| Op::NameRequest { key, digest: [digest; 32], run: run_id(1) };
    apply(store, vec![create(&main)]).await;
    let mut transaction = spawn(1, &row);
    transaction.push(name(request("a"), 1));
    assert!(store.earlier(request("a")).await.unwrap().is_none());
    apply(store, transaction).await;
    let earlier = store.earlier(request("a")).await.unwrap().unwrap();
    assert_eq!((earlier.digest, earlier.run.id, earlier.session), ([1; 32], run_id(1), row));

    let mut repeat = spawn(2, &child("other", &main));
    repeat.push(name(request("a"), 2));
    assert_eq!(submit(store, repeat).await, Err(Refused::Repeated));
    assert!(store.run(run_id(2)).await.unwrap().is_none());
    let (mut method, mut principal) = (request("a"), request("a"));
    method.method = "prompt";
    principal.principal = "device:1".to_owned();
    assert!(store.earlier(method.clone()).await.unwrap().is_none());
    apply(store, vec![name(method, 3), name(principal, 4), name(request("b"), 5)]).await;
    assert_eq!(store.earlier(request("a")).await.unwrap().unwrap().digest, [1; 32]);
}

/// A repeat that comes after the child was deleted still finds what was answered.
pub async fn an_earlier_request_survives_its_session(store: &dyn Storage) {
    let (main, row) = (session("main"), child("child", &session("main")));
    apply(store, vec![create(&main)]).await;
    let mut transaction = spawn(1, &row);
    transaction.push(Op::NameRequest { key: request("a"), digest: [1; 32], run: run_id(1) });
    apply(store, transaction).await;
    apply(
        store,
        vec![end(1, Terminal::Ok), Op::DeleteSession { session: row.key.clone(), with_parents: true }],
    )
    .await;
    assert!(store.session(row.key.clone()).await.unwrap().is_none());
    let earlier = store.earlier(request("a")).await.unwrap().unwrap();
    assert_eq!((earlier.run.id, &earlier.session.key), (run_id(1), &row.key));
    assert_eq!((earlier.session.mode, earlier.session.tools), (row.mode, row.tools));
}
