//! Questions over many rows.

use super::fixtures::*;
use crate::ports::{ListFilter, Op, Page, RunRow, SessionRow, Storage};
use crate::types::{Terminal, Timestamp, Usage};

const ALL: Page = Page { offset: 0, limit: 1_000 };

/// Three levels with two children each, one run per session, numbered in the order of spawning.
async fn tree(store: &dyn Storage) -> Vec<SessionRow> {
    let main = session("main");
    apply(store, vec![create(&main), insert(&run(0, &main.key))]).await;
    let mut rows = vec![main];
    for parent in 0..3 {
        for _ in 0..2 {
            let number = rows.len() as u64;
            let row = child(&format!("child-{number}"), &rows[parent]);
            apply(store, spawn(number, &row)).await;
            rows.push(row);
        }
    }
    rows
}

/// Every open run is found with its place in the tree.
pub async fn open_runs_are_listed_oldest_first(store: &dyn Storage) {
    assert!(store.open_runs().await.unwrap().is_empty());
    let rows = tree(store).await;
    apply(store, vec![end(1, Terminal::Ok), start(2, 2_000), Op::YieldRun { run: run_id(3) }]).await;
    let open = store.open_runs().await.unwrap();
    let ids: Vec<_> = open.iter().map(|open| open.run).collect();
    assert_eq!(ids, [0, 2, 3, 4, 5, 6].map(run_id));
    let last = &open[5];
    assert_eq!((&last.session, &last.root, last.depth), (&rows[6].key, &rows[0].key, 2));
    assert_eq!((last.announce_to.as_ref(), last.spawner), (Some(&rows[2].key), Some(run_id(1))));
}

/// Leaves come before their parents, sleeping branches are not forgotten, and nobody else's runs come.
pub async fn a_subtree_is_listed_deepest_first(store: &dyn Storage) {
    let rows = tree(store).await;
    let ids = async |row: &SessionRow| -> Vec<_> {
        let open = store.open_in_subtree(row.key.clone()).await.unwrap();
        open.iter().map(|open| open.row.id).collect()
    };
    assert_eq!(ids(&rows[0]).await, [3, 4, 5, 6, 1, 2, 0].map(run_id));
    assert_eq!(ids(&rows[2]).await, [5, 6, 2].map(run_id));
    apply(store, vec![end(2, Terminal::Ok), end(5, Terminal::Ok)]).await;
    assert_eq!(ids(&rows[0]).await, [3, 4, 6, 1, 0].map(run_id));
    assert_eq!(ids(&rows[2]).await, [6].map(run_id));
    assert!(ids(&session("nowhere")).await.is_empty());
    let open = store.open_in_subtree(rows[2].key.clone()).await.unwrap();
    assert_eq!(open[0].session, rows[6]);
    assert_eq!(Some(&open[0].row), store.run(run_id(6)).await.unwrap().as_ref());
}

/// Open, ended and deleted descendants all count, others do not.
pub async fn usage_of_a_tree_is_the_sum_over_its_runs(store: &dyn Storage) {
    let rows = tree(store).await;
    let usage = async |row: &SessionRow| store.subtree_usage(row.key.clone()).await.unwrap();
    assert_eq!(usage(&rows[0]).await, Usage::default());
    for number in 0..7 {
        let usage = Usage { input: 1 << number, output: 100 << number, cached: number };
        let op = Op::RecordStep { run: run_id(number), steps: 1, usage, model: model("rehearsal") };
        apply(store, vec![op]).await;
    }
    assert_eq!(usage(&rows[0]).await, Usage { input: 127, output: 12_700, cached: 21 });
    assert_eq!(usage(&rows[2]).await, Usage { input: 4 + 32 + 64, output: 10_000, cached: 13 });
    let delete = |number: usize| Op::DeleteSession { session: rows[number].key.clone(), with_parents: true };
    apply(store, vec![end(5, Terminal::Ok), end(6, Terminal::Ok), delete(5), delete(6)]).await;
    assert_eq!(usage(&rows[2]).await, Usage { input: 4 + 200, output: 420, cached: 2 + 2 });
    apply(store, vec![end(2, Terminal::Ok), delete(2)]).await;
    assert_eq!(usage(&rows[0]).await.input, 1 + 2 + 8 + 16 + 300);
    assert_eq!(usage(&session("nowhere")).await, Usage::default());
}

/// A session waits as long as there is a result or a message to take.
pub async fn waiting_sessions_have_something_to_take(store: &dyn Storage) {
    let rows = tree(store).await;
    assert!(store.waiting_sessions().await.unwrap().is_empty());
    apply(store, vec![queue(&announce(5, &rows[5].key, &rows[2].key))]).await;
    apply(store, vec![queue(&announce(6, &rows[6].key, &rows[2].key))]).await;
    apply(store, vec![Op::QueueSteer(Box::new(steer(1, &rows[2].key)))]).await;
    apply(store, vec![Op::QueueSteer(Box::new(steer(2, &rows[1].key)))]).await;
    assert_eq!(store.waiting_sessions().await.unwrap(), [rows[1].key.clone(), rows[2].key.clone()]);
    apply(store, vec![take(&rows[2].key, &[5, 6])]).await;
    let ids = vec![steer(1, &rows[2].key).id];
    apply(store, vec![Op::TakeSteers { session: rows[2].key.clone(), ids }]).await;
    assert_eq!(store.waiting_sessions().await.unwrap(), [rows[1].key.clone()]);
}

/// Each filter alone, all together, and pages.
pub async fn sessions_are_filtered_and_paged(store: &dyn Storage) {
    let rows = tree(store).await;
    let other = SessionRow { updated_at: Timestamp(9_000), ..session("other") };
    let research = SessionRow {
        key: "agent:research:main".parse().unwrap(),
        agent: "research".parse().unwrap(),
        root: "agent:research:main".parse().unwrap(),
        ..session("main")
    };
    apply(store, vec![create(&other), create(&research), end(3, Terminal::Ok)]).await;
    let list = async |filter: ListFilter, page| -> Vec<_> {
        let rows = store.list_sessions(filter, page).await.unwrap();
        rows.iter().map(|row| row.key.as_str().rsplit(':').next().unwrap().to_owned()).collect()
    };
    let all = list(ListFilter::default(), ALL).await;
    let newest_first =
        ["main", "other", "child-6", "child-5", "child-4", "child-3", "child-2", "child-1", "main"];
    assert_eq!(all, newest_first);
    assert_eq!(list(ListFilter::default(), Page { offset: 1, limit: 2 }).await, all[1..3]);
    assert!(list(ListFilter::default(), Page { offset: 9, limit: 2 }).await.is_empty());
    assert!(list(ListFilter::default(), Page { offset: 0, limit: 0 }).await.is_empty());
    let of_agent = ListFilter { agent: Some(research.agent), ..ListFilter::default() };
    assert_eq!(list(of_agent, ALL).await, ["main"]);
    let of_parent = ListFilter { session: Some(rows[2].key.clone()), ..ListFilter::default() };
    assert_eq!(list(of_parent.clone(), ALL).await, ["child-6", "child-5"]);
    let of_root = ListFilter { root: Some(rows[0].key.clone()), ..ListFilter::default() };
    assert_eq!(list(of_root.clone(), ALL).await, all[2..]);
    let open = ListFilter { open: true, ..of_root };
    assert_eq!(list(open, ALL).await, ["child-6", "child-5", "child-4", "child-2", "child-1", "main"]);
    let since = ListFilter { since: Some(Timestamp(5_000)), ..ListFilter::default() };
    assert_eq!(list(since, ALL).await, ["other", "child-3"]);
    let together = ListFilter { root: Some(rows[0].key.clone()), open: true, ..of_parent };
    assert_eq!(list(together, Page { offset: 1, limit: 5 }).await, ["child-5"]);
}

/// Each filter alone, all together, and pages.
pub async fn runs_are_filtered_and_paged(store: &dyn Storage) {
    let rows = tree(store).await;
    let other =
        SessionRow { agent: "m".parse().unwrap(), key: "agent:m:other".parse().unwrap(), ..session("x") };
    let late = RunRow { accepted_at: Timestamp(9_000), ..run(7, &other.key) };
    apply(store, vec![create(&other), insert(&late), end(3, Terminal::Ok), start(4, 4_000)]).await;
    apply(store, vec![insert(&run(8, &rows[1].key)), end(5, Terminal::Ok)]).await;
    apply(store, vec![Op::DeleteSession { session: rows[5].key.clone(), with_parents: true }]).await;
    let list = async |filter: ListFilter, page| -> Vec<_> {
        store.list_runs(filter, page).await.unwrap().iter().map(|row| row.id).collect()
    };
    let all = list(ListFilter::default(), ALL).await;
    assert_eq!(all, [8, 7, 6, 5, 4, 3, 2, 1, 0].map(run_id));
    assert_eq!(list(ListFilter::default(), Page { offset: 2, limit: 3 }).await, all[2..5]);
    let of_agent = ListFilter { agent: Some(other.agent), ..ListFilter::default() };
    assert_eq!(list(of_agent, ALL).await, [7].map(run_id));
    let of_session = ListFilter { session: Some(rows[1].key.clone()), ..ListFilter::default() };
    assert_eq!(list(of_session.clone(), ALL).await, [8, 1].map(run_id));
    let of_root = ListFilter { root: Some(rows[0].key.clone()), ..ListFilter::default() };
    assert_eq!(list(of_root.clone(), ALL).await, [8, 6, 5, 4, 3, 2, 1, 0].map(run_id));
    let open = ListFilter { open: true, ..of_root.clone() };
    assert_eq!(list(open, ALL).await, [8, 6, 4, 2, 1, 0].map(run_id));
    let since = ListFilter { since: Some(Timestamp(4_000)), ..ListFilter::default() };
    assert_eq!(list(since, ALL).await, [7, 5, 4, 3].map(run_id));
    let agent = Some(rows[0].agent.clone());
    let together = ListFilter { agent, since: Some(Timestamp(4_500)), ..of_root };
    assert_eq!(list(together, Page { offset: 1, limit: 5 }).await, [3].map(run_id));
}

/// Pages of a transcript begin where they were asked to.
pub async fn transcripts_are_paged(store: &dyn Storage) {
    let main = session("main");
    apply(store, vec![create(&main)]).await;
    let appends = (0..10).map(|seq| append(&main.key, seq, "text")).collect();
    apply(store, appends).await;
    let seqs = async |from, limit| -> Vec<_> {
        let page = store.entries(main.key.clone(), from, limit).await.unwrap();
        page.iter().map(|entry| entry.seq).collect()
    };
    assert_eq!(seqs(0, 3).await, [0, 1, 2]);
    assert_eq!(seqs(8, 5).await, [8, 9]);
    assert!(seqs(10, 5).await.is_empty());
    assert!(seqs(0, 0).await.is_empty());
    assert!(seqs(u64::MAX, 5).await.is_empty());
    assert!(store.entries(key("nowhere"), 0, 5).await.unwrap().is_empty());
}
