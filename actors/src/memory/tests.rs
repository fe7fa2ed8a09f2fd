use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use crate::MemoryStorage;
use crate::contract::{self, View, block_on, random, submit};
use crate::memory::Delivery;
use crate::ports::Storage;
use crate::types::{Terminal, Timestamp, ToolStatus};

proptest! {
    #[test]
    fn refused_transactions_leave_no_trace(transactions in random::transactions()) {
        block_on(async {
            let store = MemoryStorage::new();
            for transaction in transactions {
                let before = (View::of(&store).await, store.outbox(), store.tool_rows(), store.audit());
                if submit(&store, transaction).await.is_err() {
                    let after = (View::of(&store).await, store.outbox(), store.tool_rows(), store.audit());
                    assert_eq!(before, after);
                }
            }
        });
    }

    #[test]
    fn every_commit_can_be_rebuilt(transactions in random::transactions(), at in any::<prop::sample::Index>()) {
        block_on(async {
            let store = MemoryStorage::recording();
            let mut views = vec![View::of(&store).await];
            for transaction in transactions {
                let empty = transaction.is_empty();
                if submit(&store, transaction).await.is_ok() && !empty {
                    views.push(View::of(&store).await);
                }
            }
            assert_eq!(store.commits() + 1, views.len() as u64);
            let commit = at.index(views.len());
            let rebuilt = store.at_commit(commit as u64).unwrap();
            assert_eq!(View::of(&rebuilt).await, views[commit]);
            assert_eq!(rebuilt.commits(), commit as u64);
            assert!(store.at_commit(views.len() as u64).is_none());
            let all = MemoryStorage::replay(&store.log());
            assert_eq!((all.audit(), all.outbox(), all.tool_rows()), (store.audit(), store.outbox(), store.tool_rows()));
        });
    }
}

#[test]
fn a_snapshot_shares_nothing() {
    block_on(async {
        let main = contract::session("main");
        let store = MemoryStorage::new();
        contract::apply(&store, vec![contract::create(&main)]).await;
        let copy = store.snapshot();
        contract::apply(&store, vec![contract::append(&main.key, 0, "text")]).await;
        contract::apply(&copy, vec![contract::insert(&contract::run(1, &main.key))]).await;
        assert_eq!((store.commits(), copy.commits()), (2, 2));
        assert!(copy.transcripts()[&main.key].is_empty());
        assert!(store.all_runs().is_empty());
        assert!(store.at_commit(0).is_none());
    });
}

#[test]
fn a_checker_sees_every_row() {
    block_on(async {
        let (main, row) = (contract::session("main"), contract::child("child", &contract::session("main")));
        let store = MemoryStorage::new();
        contract::apply(&store, vec![contract::create(&main)]).await;
        contract::apply(&store, contract::spawn(1, &row)).await;
        let result = contract::announce(1, &row.key, &main.key);
        let call = crate::ports::ToolMark { call: "call".into(), name: "tool".into() };
        let (run, at) = (contract::run_id(1), Timestamp(7));
        let start = crate::ports::Op::StartTools { run, step: 1, calls: vec![call], at };
        contract::apply(&store, vec![start, contract::queue(&result)]).await;
        assert_eq!(store.outbox()[0].announce.as_ref(), Some(&result));
        let status = ToolStatus::Ok;
        let finish = crate::ports::Op::FinishTool { run, step: 1, call: "call".into(), status, at };
        contract::apply(&store, vec![finish, contract::take(&main.key, &[1])]).await;
        contract::apply(&store, vec![contract::end(1, Terminal::Ok)]).await;
        let delete = crate::ports::Op::DeleteSession { session: row.key.clone(), with_parents: true };
        contract::apply(&store, vec![delete]).await;
        assert_eq!((store.outbox()[0].run, store.outbox()[0].delivery), (run, Delivery::Delivered));
        let tool = &store.tool_rows()[0];
        assert_eq!((tool.started_at, tool.finished), (at, Some((status, at))));
        assert_eq!((store.all_sessions().len(), store.deleted_sessions().len()), (1, 1));
        assert_eq!((store.all_runs().len(), store.audit().len(), store.steers().len()), (1, 1, 0));
    });
}

#[test]
fn a_done_may_submit_and_is_answered_in_order() {
    let store = Arc::new(MemoryStorage::new());
    let order = Arc::new(AtomicUsize::new(0));
    let (outer, inner, again) = (Arc::clone(&order), Arc::clone(&order), Arc::clone(&store));
    store.submit(
        Vec::new(),
        Box::new(move |_| {
            again.submit(Vec::new(), Box::new(move |_| assert_eq!(inner.fetch_add(1, Ordering::SeqCst), 1)));
            assert_eq!(outer.fetch_add(1, Ordering::SeqCst), 0);
        }),
    );
    assert_eq!(order.load(Ordering::SeqCst), 2);
}

#[test]
fn a_done_that_panics_leaves_the_store_working() {
    let store = MemoryStorage::new();
    let submit =
        std::panic::AssertUnwindSafe(|| store.submit(Vec::new(), Box::new(|_| panic!("on purpose"))));
    assert!(std::panic::catch_unwind(submit).is_err());
    block_on(contract::apply(&store, vec![contract::create(&contract::session("main"))]));
    assert_eq!(store.commits(), 1);
}
