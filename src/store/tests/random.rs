//! The durable store does what the one in memory does, change by change.

use offshoot_actors::MemoryStorage;
use offshoot_actors::contract::{View, block_on, random, submit};
use offshoot_actors::ports::Storage;
use proptest::prelude::*;

use super::store;
use crate::store::{AuditError, verify_audit};

async fn earlier(store: &dyn Storage) -> Vec<String> {
    let mut found = Vec::new();
    for key in random::requests() {
        found.push(format!("{:?}", store.earlier(key).await.unwrap()));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_stores_agree(
        transactions in random::transactions(),
        lists in prop::collection::vec(random::lists(), 8),
        deliveries in prop::collection::vec(random::delivery_lists(), 16),
        look in 2usize..16,
    ) {
        block_on(async {
            let (durable, memory) = (store(), MemoryStorage::new());
            for (index, transaction) in transactions.into_iter().enumerate() {
                let text = format!("{transaction:?}");
                let expected = submit(&memory, transaction.clone()).await;
                assert_eq!(submit(&*durable, transaction).await, expected, "{text}");
                if index % look == 0 {
                    assert_eq!(View::of(&*durable).await, View::of(&memory).await, "after {text}");
                }
            }
            assert_eq!(View::of(&*durable).await, View::of(&memory).await);
            assert_eq!(earlier(&*durable).await, earlier(&memory).await);
            for (filter, page) in lists {
                let (one, two) = (durable.list_sessions(filter.clone(), page), memory.list_sessions(filter.clone(), page));
                assert_eq!(one.await.unwrap(), two.await.unwrap(), "{filter:?} {page:?}");
                let (one, two) = (durable.list_runs(filter.clone(), page), memory.list_runs(filter.clone(), page));
                assert_eq!(one.await.unwrap(), two.await.unwrap(), "{filter:?} {page:?}");
            }
            for (filter, page) in deliveries {
                let (one, two) = (durable.deliveries(filter.clone(), page), memory.deliveries(filter.clone(), page));
                assert_eq!(one.await.unwrap(), two.await.unwrap(), "{filter:?} {page:?}");
                let agents = || filter.agents.clone();
                let (one, two) = (durable.delivery_tally(agents()), memory.delivery_tally(agents()));
                assert_eq!(one.await.unwrap(), two.await.unwrap(), "{filter:?}");
            }
            // Runs come here without their rows, as they never do from the tree.
            let rows = match verify_audit(durable.dir.path()) {
                Err(AuditError::Cut { last, .. }) => u64::try_from(last).unwrap(),
                verified => verified.unwrap(),
            };
            assert_eq!(rows, memory.audit().len() as u64);
        });
    }

    /// Many transactions in one commit are as good as one by one.
    #[test]
    fn batches_do_not_change_the_outcome(transactions in random::transactions()) {
        block_on(async {
            let (durable, memory) = (store(), MemoryStorage::new());
            let (done, fates) = std::sync::mpsc::channel();
            let (hold, held) = std::sync::mpsc::channel::<()>();
            durable.storage.writer.as_ref().unwrap().visit(move |_| _ = held.recv());
            let count = transactions.len();
            for transaction in transactions.clone() {
                let done = done.clone();
                durable.submit(transaction, Box::new(move |fate| done.send(fate).unwrap()));
            }
            drop(hold);
            let fates: Vec<_> = fates.iter().take(count).collect();
            for (transaction, fate) in transactions.into_iter().zip(fates) {
                assert_eq!(submit(&memory, transaction).await, fate);
            }
            assert_eq!(View::of(&*durable).await, View::of(&memory).await);
        });
    }
}
