//! Order, atomicity, answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use super::View;
use super::fixtures::*;
use crate::ports::{Refused, Storage};
use crate::types::Terminal;

/// Later transactions build on earlier ones that were not answered yet, and answers come in the same order.
pub async fn transactions_apply_in_the_order_of_submission(store: &dyn Storage) {
    let main = session("main");
    let order = Arc::new(Mutex::new(Vec::new()));
    let (done, fates) = mpsc::channel();
    let mut transactions = vec![vec![create(&main)]];
    transactions.extend((0..200).map(|seq| vec![append(&main.key, seq, &format!("message {seq}"))]));
    for (index, transaction) in transactions.into_iter().enumerate() {
        let (order, done) = (Arc::clone(&order), done.clone());
        store.submit(
            transaction,
            Box::new(move |result| {
                order.lock().unwrap().push(index);
                done.send(result).unwrap();
            }),
        );
    }
    drop(done);
    assert!(fates.iter().all(|fate| fate == Ok(())));
    assert!(order.lock().unwrap().iter().copied().eq(0..201));
    assert_eq!(store.entries(main.key, 0, 1_000).await.unwrap().len(), 200);
}

/// A refused change takes back what came before it in its transaction, whatever it was.
pub async fn a_transaction_is_whole_or_not_at_all(store: &dyn Storage) {
    let (main, other) = (session("main"), child("other", &session("main")));
    apply(store, vec![create(&main), insert(&run(1, &main.key)), insert(&run(2, &main.key))]).await;
    apply(store, vec![end(2, Terminal::Ok), queue(&announce(2, &main.key, &main.key))]).await;
    let before = View::of(store).await;
    let mut refused = spawn(3, &other);
    refused.extend([
        start(1, 2_000),
        append(&main.key, 0, "never"),
        take(&main.key, &[2]),
        crate::ports::Op::QueueSteer(Box::new(steer(1, &main.key))),
        end(1, Terminal::Ok),
        insert(&run(2, &main.key)),
    ]);
    conflict(store, refused).await;
    assert_eq!(View::of(store).await, before);
}

/// Of many transactions in flight the bad ones fail alone.
pub async fn a_refused_transaction_does_not_disturb_its_neighbours(store: &dyn Storage) {
    let main = session("main");
    apply(store, vec![create(&main)]).await;
    let (done, fates) = mpsc::channel();
    for number in 0..90 {
        let row = child(&format!("child-{number}"), &main);
        let mut transaction = spawn(number, &row);
        if number % 3 == 1 {
            transaction.push(create(&main));
        }
        let done = done.clone();
        store.submit(transaction, Box::new(move |result| done.send((number, result)).unwrap()));
    }
    drop(done);
    for (number, fate) in fates {
        assert_eq!(fate.is_err(), number % 3 == 1, "spawn {number}: {fate:?}");
    }
    assert_eq!(store.open_runs().await.unwrap().len(), 60);
}

/// Applied, refused and empty transactions are each answered once.
pub async fn done_is_called_once_per_transaction(store: &dyn Storage) {
    let calls: Arc<Vec<AtomicUsize>> = Arc::new((0..60).map(|_| AtomicUsize::new(0)).collect());
    for index in 0..60_usize {
        let transaction = match index % 3 {
            0 => vec![create(&session(&format!("session-{index}")))],
            1 => vec![create(&session(&format!("session-{}", index - 1)))],
            _ => Vec::new(),
        };
        let calls = Arc::clone(&calls);
        store.submit(transaction, Box::new(move |_| _ = calls[index].fetch_add(1, Ordering::SeqCst)));
    }
    apply(store, Vec::new()).await;
    assert!(calls.iter().all(|calls| calls.load(Ordering::SeqCst) == 1));
}

/// Whatever was submitted before a barrier was answered before it.
pub async fn an_empty_transaction_is_a_barrier(store: &dyn Storage) {
    let main = session("main");
    let answered = Arc::new(AtomicUsize::new(0));
    for seq in 0..50 {
        let transaction =
            if seq == 0 { vec![create(&main)] } else { vec![append(&main.key, seq - 1, "text")] };
        let answered = Arc::clone(&answered);
        store.submit(transaction, Box::new(move |_| _ = answered.fetch_add(1, Ordering::SeqCst)));
    }
    apply(store, Vec::new()).await;
    assert_eq!(answered.load(Ordering::SeqCst), 50);
}

/// Every read sees what was answered before it began.
pub async fn a_read_after_done_sees_the_write(store: &dyn Storage) {
    let main = session("main");
    apply(store, vec![create(&main)]).await;
    for number in 0..50 {
        apply(store, vec![insert(&run(number, &main.key)), append(&main.key, number, "text")]).await;
        assert!(store.run(run_id(number)).await.unwrap().is_some());
        let loaded = store.load_session(main.key.clone()).await.unwrap().unwrap();
        assert_eq!(loaded.runs.len() as u64, number + 1);
        assert_eq!(loaded.transcript.len() as u64, number + 1);
    }
}

/// A change may rest on an earlier one of its own transaction.
pub async fn changes_of_one_transaction_see_each_other(store: &dyn Storage) {
    let main = session("main");
    let whole = vec![
        create(&main),
        insert(&run(1, &main.key)),
        append(&main.key, 0, "first"),
        append(&main.key, 1, "second"),
        start(1, 2_000),
        end(1, Terminal::Ok),
        queue(&announce(1, &main.key, &main.key)),
        take(&main.key, &[1]),
    ];
    apply(store, whole).await;
    assert_eq!(
        submit(store, vec![end(1, Terminal::Error)]).await,
        Err(Refused::Ended { run: run_id(1), state: Terminal::Ok })
    );
}

/// Nothing is lost or answered twice when many threads submit at once.
pub async fn submissions_from_many_threads_all_arrive(store: &dyn Storage) {
    let main = session("main");
    apply(store, vec![create(&main)]).await;
    let (done, fates) = mpsc::channel();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (done, main) = (done.clone(), &main);
            scope.spawn(move || {
                for number in 0..50 {
                    let number = thread * 50 + number;
                    let row = child(&format!("child-{number}"), main);
                    let done = done.clone();
                    store.submit(spawn(number, &row), Box::new(move |fate| done.send(fate).unwrap()));
                }
            });
        }
    });
    drop(done);
    assert_eq!(fates.iter().filter(Result::is_ok).count(), 200);
    assert_eq!(store.open_runs().await.unwrap().len(), 200);
}
