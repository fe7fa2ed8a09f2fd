//! What runs led to.

use super::fixtures::*;
use crate::ports::{Cause, Op, RunRow, Storage};
use crate::types::{RunId, SessionKey, Terminal};

async fn led_to(store: &dyn Storage, number: u64) -> (Vec<RunId>, bool) {
    let found = store.consequences(run_id(number), None, 100).await.unwrap();
    (found.runs.iter().map(|row| row.id).collect(), found.pending)
}

/// A run of this session on the results of these.
fn answer(number: u64, session: &SessionKey, taken: &[u64]) -> Vec<Op> {
    let row = RunRow { cause: Cause::Announce, ..run(number, session) };
    vec![insert(&row), take_for(number, session, taken)]
}

/// A run led to what it spawned and to the runs on these results, also after sessions are deleted; what another run of
/// its session spawned, and what its own result did, is none of it.
pub async fn what_a_run_led_to_is_found_and_nothing_else(store: &dyn Storage) {
    let main = session("main");
    let (a, b, c) = (child("a", &main), child("b", &child("a", &main)), child("c", &main));
    apply(store, vec![create(&main), insert(&run(1, &main.key)), insert(&run(9, &main.key))]).await;
    apply(store, vec![create(&a), insert(&child_run(2, &a.key, &main.key, Some(run_id(1))))]).await;
    apply(store, vec![create(&b), insert(&child_run(3, &b.key, &a.key, Some(run_id(2))))]).await;
    apply(store, vec![create(&c), insert(&child_run(4, &c.key, &main.key, Some(run_id(9))))]).await;
    let ids = |numbers: &[u64]| numbers.iter().map(|number| run_id(*number)).collect::<Vec<_>>();
    assert_eq!(led_to(store, 1).await, (ids(&[1, 2, 3]), true));
    for number in [1, 9, 2] {
        apply(store, vec![end(number, Terminal::Ok)]).await;
    }
    for (number, from, to) in [(3, &b, &a), (4, &c, &main)] {
        apply(store, vec![end(number, Terminal::Ok), queue(&announce(number, &from.key, &to.key))]).await;
    }
    // All have ended; a result is on its way.
    assert_eq!(led_to(store, 1).await, (ids(&[1, 2, 3]), true));
    apply(store, answer(5, &a.key, &[3])).await;
    assert_eq!(led_to(store, 2).await, (ids(&[2, 3, 5]), true));
    apply(store, vec![end(5, Terminal::Ok), queue(&announce(5, &a.key, &main.key))]).await;
    // It has left the session of run 2.
    assert_eq!(led_to(store, 2).await, (ids(&[2, 3, 5]), false));
    assert_eq!(led_to(store, 1).await, (ids(&[1, 2, 3, 5]), true));
    apply(store, answer(6, &main.key, &[4])).await;
    apply(store, answer(7, &main.key, &[5])).await;
    assert_eq!(led_to(store, 1).await, (ids(&[1, 2, 3, 5, 7]), true));
    assert_eq!(led_to(store, 2).await, (ids(&[2, 3, 5]), false));
    apply(store, vec![end(7, Terminal::Ok)]).await;
    assert_eq!(led_to(store, 9).await, (ids(&[9, 4, 6]), true));
    let delete =
        |row: &crate::ports::SessionRow| Op::DeleteSession { session: row.key.clone(), with_parents: false };
    apply(store, vec![delete(&b), delete(&a)]).await;
    assert_eq!(led_to(store, 1).await, (ids(&[1, 2, 3, 5, 7]), false));
    let here = store.consequences(run_id(1), Some(main.key), 1).await.unwrap();
    assert_eq!(here.runs.iter().map(|row| row.id).collect::<Vec<_>>(), ids(&[7]));
    assert_eq!(led_to(store, 8).await, (Vec::new(), false));
}

/// A message may have taken up a result before a run on it was made: it is waited for and told of, and what it spawned is
/// its own affair.
pub async fn a_message_that_took_a_result_belongs_to_what_led_to_it(store: &dyn Storage) {
    let main = session("main");
    let (a, b, c) = (child("a", &main), child("b", &main), child("c", &child("a", &main)));
    apply(store, vec![create(&main), insert(&run(1, &main.key)), insert(&run(3, &main.key))]).await;
    apply(store, vec![create(&a), insert(&child_run(2, &a.key, &main.key, Some(run_id(1))))]).await;
    apply(store, vec![create(&b), insert(&child_run(4, &b.key, &main.key, Some(run_id(3))))]).await;
    for number in [1, 2] {
        apply(store, vec![end(number, Terminal::Ok)]).await;
    }
    apply(store, vec![queue(&announce(2, &a.key, &main.key))]).await;
    let all = async |number| {
        let found = store.consequences(run_id(number), None, 100).await.unwrap();
        let runs = found.runs.iter().map(|row| row.id).collect::<Vec<_>>();
        (runs, found.takers.into_iter().collect::<Vec<_>>(), found.pending)
    };
    let ids = |numbers: &[u64]| numbers.iter().map(|number| run_id(*number)).collect::<Vec<_>>();
    assert_eq!(all(1).await, (ids(&[1, 2]), ids(&[]), true));
    apply(store, vec![take_for(3, &main.key, &[2])]).await;
    assert_eq!(all(1).await, (ids(&[1, 3, 2]), ids(&[3]), true));
    apply(store, vec![end(3, Terminal::Ok)]).await;
    // What it spawned works on.
    assert_eq!(all(1).await, (ids(&[1, 3, 2]), ids(&[3]), false));
    assert_eq!(all(3).await, (ids(&[3, 4]), ids(&[]), true));
    // A run that took a result and is also spawned belongs to it with all that it spawned.
    apply(store, vec![create(&c), insert(&child_run(5, &c.key, &a.key, Some(run_id(2))))]).await;
    apply(store, vec![insert(&RunRow { spawner: Some(run_id(5)), ..run(6, &a.key) })]).await;
    apply(store, vec![end(5, Terminal::Ok), queue(&announce(5, &c.key, &a.key))]).await;
    apply(store, vec![take_for(6, &a.key, &[5]), end(6, Terminal::Ok)]).await;
    assert_eq!(all(1).await, (ids(&[1, 3, 2, 5, 6]), ids(&[3]), false));
    let none = store.consequences(run_id(1), Some(main.key), 0).await.unwrap();
    assert!(none.runs.is_empty() && none.takers.is_empty());
}

/// Names are not unique: each principal gives its own.
pub async fn runs_are_found_by_the_names_that_clients_gave_them(store: &dyn Storage) {
    let main = session("main");
    let named =
        |number, name: &str| insert(&RunRow { wire_id: Some(name.to_owned()), ..run(number, &main.key) });
    apply(
        store,
        vec![create(&main), named(1, "a"), named(2, "b"), named(3, "a"), insert(&run(4, &main.key))],
    )
    .await;
    let found = async |name: &str, limit| {
        let rows = store.runs_named(name.to_owned(), limit).await.unwrap();
        rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(found("a", 10).await, [run_id(3), run_id(1)]);
    assert_eq!(found("a", 1).await, [run_id(3)]);
    assert!(found("c", 10).await.is_empty());
}
