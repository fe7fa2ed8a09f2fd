//! Questions over many rows.

use std::collections::BTreeSet;

use super::fixtures::*;
use crate::policy::cost::Spent;
use crate::ports::{
    Cause, DAY_MS, DayUsage, Host, ListFilter, Op, OverviewFilter, Page, RunRow, RunState, RunUse,
    SessionFigures, SessionRow, Storage, Tallies, ToolMark, ToolUse, ToolUseFilter, Unfinished,
};
use crate::types::{Entry, SessionKey, Terminal, Timestamp, ToolStatus, Usage};

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
    let rows = store.open_rows().await.unwrap();
    assert_eq!(rows.iter().map(|open| open.row.id).collect::<Vec<_>>(), ids);
    for open in rows {
        assert_eq!(store.run(open.row.id).await.unwrap().as_ref(), Some(&open.row));
        assert_eq!(store.session(open.row.session.clone()).await.unwrap().as_ref(), Some(&open.session));
        let first = store.entries(open.row.session, 0, 1).await.unwrap();
        let first = first.first().filter(|_| open.row.cause == Cause::Spawn);
        assert_eq!(open.first.as_ref(), first.map(|first| &first.entry));
    }
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

/// Only what has ended counts, by the model that was called last; what hangs right below is counted by how it ended.
pub async fn figures_of_a_session_are_of_what_has_ended(store: &dyn Storage) {
    let rows = tree(store).await;
    let figures = async |row: &SessionRow| store.session_figures(row.key.clone()).await.unwrap();
    for number in 0..7 {
        let usage = Usage { input: 1 << number, output: 0, cached: 0 };
        let model = model(if number % 2 == 0 { "even" } else { "odd" });
        apply(store, vec![Op::RecordStep { run: run_id(number), steps: 1, usage, model }]).await;
    }
    let open = figures(&rows[0]).await.unwrap();
    assert_eq!((open.own.usage(), open.below.usage(), open.done, open.failed), Default::default());
    assert!(open.latest.is_some_and(|(_, state)| state == RunState::Running));
    let delete = Op::DeleteSession { session: rows[5].key.clone(), with_parents: true };
    apply(store, vec![end(5, Terminal::Ok), delete, end(6, Terminal::Crashed), end(2, Terminal::Partial)])
        .await;
    let top = figures(&rows[0]).await.unwrap();
    let middle = figures(&rows[2]).await.unwrap();
    let used = |spent: &Spent| spent.usage().input;
    assert_eq!((used(&top.own), used(&top.below)), (0, 300));
    assert_eq!((used(&middle.own), used(&middle.below)), (100, 200));
    let models: Vec<_> = middle.own.iter().map(|(model, _)| model.clone()).collect();
    assert_eq!(models, [model("even")]);
    let named =
        |figures: &SessionFigures| figures.newest.iter().map(|(_, run)| *run).collect::<BTreeSet<_>>();
    assert_eq!(
        [named(&top), named(&middle)],
        [BTreeSet::from([2, 5, 6].map(run_id)), [2, 5, 6].map(run_id).into()]
    );
    assert!(open.newest.is_empty());
    assert_eq!((top.done, top.failed, middle.done, middle.failed), (1, 0, 1, 1));
    assert_eq!(middle.latest.map(|(_, state)| state), Some(RunState::Ended(Terminal::Partial)));
    assert_eq!(figures(&session("nowhere")).await, None);
}

/// Sessions by agent, runs by cause and state; the runs of a deleted session stay.
pub async fn everything_is_counted(store: &dyn Storage) {
    assert_eq!(store.tallies().await.unwrap(), Tallies::default());
    let rows = tree(store).await;
    let delete = Op::DeleteSession { session: rows[5].key.clone(), with_parents: true };
    apply(store, vec![end(5, Terminal::Ok), delete, end(6, Terminal::Crashed), start(1, 2_000)]).await;
    let tallies = store.tallies().await.unwrap();
    assert_eq!(tallies.sessions, [(rows[0].agent.clone(), 6)].into());
    let mut runs: Vec<_> =
        tallies.runs.iter().map(|tally| (tally.cause.as_str(), tally.state.as_str(), tally.count)).collect();
    runs.sort_unstable();
    let first = run(0, &rows[0].key).cause.as_str();
    let mut expected = vec![
        (first, "accepted", 1),
        ("spawn", "accepted", 3),
        ("spawn", "crashed", 1),
        ("spawn", "ok", 1),
        ("spawn", "running", 1),
    ];
    expected.sort_unstable();
    assert_eq!(runs, expected);
}

/// A day begins where the offset says; a run without tokens counts for nothing.
pub async fn usage_is_added_up_by_day(store: &dyn Storage) {
    tree(store).await;
    for number in 0..4 {
        let usage = Usage { input: 10 << number, output: 1, cached: number };
        let op = Op::RecordStep { run: run_id(number), steps: 1, usage, model: model("rehearsal") };
        apply(store, vec![op]).await;
    }
    let at: Vec<_> = {
        let mut at = Vec::new();
        for number in 0..4 {
            let row = store.run(run_id(number)).await.unwrap().unwrap();
            at.push(row.accepted_at.0);
        }
        at
    };
    let (first, last) = (at.iter().min().copied().unwrap(), at.iter().max().copied().unwrap());
    let all = |offset| store.usage_by_day(Timestamp(first), Timestamp(last + 1), offset);
    let days = all(0).await.unwrap();
    assert_eq!(days.iter().map(|day| day.usage).sum::<Usage>(), Usage { input: 150, output: 4, cached: 6 });
    assert_eq!(days.iter().map(|day| day.runs).sum::<u64>(), 4);
    assert!(days.iter().all(|day| (first / DAY_MS..=last / DAY_MS).contains(&day.day)));
    let shifted = all(10 * DAY_MS).await.unwrap();
    let moved: Vec<_> = days.iter().map(|day| DayUsage { day: day.day + 10, ..day.clone() }).collect();
    assert_eq!(shifted, moved);
    // What is before the beginning, or at the end, does not count.
    assert_eq!(store.usage_by_day(Timestamp(0), Timestamp(first), 0).await.unwrap(), []);
    assert_eq!(store.usage_by_day(Timestamp(last + 1), Timestamp(i64::MAX), 0).await.unwrap(), []);
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

/// A tree is finished when nothing is open and nothing waits in it; other trees count for nothing, nor do the runs of
/// another kind of host.
pub async fn what_is_unfinished_is_told_by_root(store: &dyn Storage) {
    let rows = tree(store).await;
    let (root, other) = (&rows[0].key, session("other"));
    apply(store, vec![create(&other), insert(&run(20, &other.key))]).await;
    let unfinished = async |root: &SessionKey, host| store.unfinished(root.clone(), host).await.unwrap();
    let (own, another) = (run(0, root).host, Host::Daemon);
    let left = |open, waiting: &[&SessionKey]| Unfinished {
        open,
        waiting: waiting.iter().map(|key| (*key).clone()).collect(),
    };
    assert_eq!(unfinished(root, own).await, left(true, &[]));
    assert_eq!(unfinished(&key("nowhere"), own).await, left(false, &[]));
    apply(store, vec![end(0, Terminal::Ok)]).await;
    assert_eq!(unfinished(root, own).await, left(false, &[]));
    assert_eq!(unfinished(root, another).await, left(true, &[]));
    let ends = (1..rows.len() as u64).map(|number| end(number, Terminal::Ok));
    apply(store, ends.collect()).await;
    assert_eq!(unfinished(root, another).await, left(false, &[]));
    assert_eq!(unfinished(&other.key, own).await, left(true, &[]));
    apply(store, vec![queue(&announce(5, &rows[5].key, &rows[2].key))]).await;
    apply(store, vec![Op::QueueSteer(Box::new(steer(1, &rows[1].key)))]).await;
    apply(store, vec![Op::QueueSteer(Box::new(steer(2, &other.key)))]).await;
    assert_eq!(unfinished(root, own).await, left(false, &[&rows[1].key, &rows[2].key]));
    assert_eq!(unfinished(&other.key, own).await, left(true, &[&other.key]));
    apply(store, vec![take(&rows[2].key, &[5])]).await;
    assert_eq!(unfinished(root, another).await, left(false, &[&rows[1].key]));
}

/// A result from below that somebody above is to take counts, and all that waits for a session of the subtree.
pub async fn what_is_on_its_way_to_or_from_a_subtree_is_found(store: &dyn Storage) {
    let rows = tree(store).await;
    let (main, child, beside, below) = (&rows[0], &rows[1], &rows[2], &rows[3]);
    assert_eq!(below.parent.as_ref(), Some(&child.key));
    let undelivered = async |row: &SessionRow| store.undelivered(row.key.clone()).await.unwrap();
    for row in &rows {
        assert_eq!(undelivered(row).await, None);
    }
    assert_eq!(store.undelivered(key("nowhere")).await.unwrap(), None);
    // On its way past the parent.
    apply(store, vec![queue(&announce(3, &below.key, &main.key))]).await;
    for row in [main, child, below] {
        assert_eq!(undelivered(row).await.as_ref(), Some(&main.key));
    }
    assert_eq!(undelivered(beside).await, None);
    apply(store, vec![Op::QueueSteer(Box::new(steer(1, &beside.key)))]).await;
    assert_eq!(undelivered(beside).await.as_ref(), Some(&beside.key));
    apply(store, vec![take(&main.key, &[3])]).await;
    assert_eq!([undelivered(child).await, undelivered(below).await], [None, None]);
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
    let spawned = ListFilter { cause: Some(Cause::Spawn), ..ListFilter::default() };
    assert_eq!(list(spawned, ALL).await, [6, 5, 4, 3, 2, 1].map(run_id));
    let told = ListFilter { announce_to: Some(rows[2].key.clone()), ..ListFilter::default() };
    assert_eq!(list(told, ALL).await, [6, 5].map(run_id));
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

/// The latest entries come in order, and pages go back from there.
pub async fn the_end_of_a_transcript_is_read_first(store: &dyn Storage) {
    let main = session("main");
    apply(store, vec![create(&main), create(&session("other")), append(&key("other"), 0, "text")]).await;
    apply(store, (0..10).map(|seq| append(&main.key, seq, "text")).collect()).await;
    let seqs = async |before, limit| -> Vec<_> {
        let page = store.latest_entries(main.key.clone(), before, limit).await.unwrap();
        page.iter().map(|entry| entry.seq).collect()
    };
    assert_eq!(seqs(None, 3).await, [7, 8, 9]);
    assert_eq!(seqs(Some(7), 3).await, [4, 5, 6]);
    assert_eq!(seqs(Some(2), 3).await, [0, 1]);
    assert_eq!(seqs(Some(u64::MAX), 1).await, [9]);
    assert!(seqs(Some(0), 3).await.is_empty());
    assert!(seqs(None, 0).await.is_empty());
    assert!(store.latest_entries(key("nowhere"), None, 5).await.unwrap().is_empty());
}

/// Open runs, the latest run, children, and the size of the last prompt.
pub async fn sessions_are_shown_with_their_runs_and_children(store: &dyn Storage) {
    let rows = tree(store).await;
    let answer = Entry::Assistant {
        text: "answer".to_owned(),
        tool_calls: Vec::new(),
        model: model("rehearsal"),
        usage: Usage { input: 77, output: 1, cached: 0 },
    };
    let entries = vec![stored(0, None, 2_000, answer), stored(1, None, 2_000, user("more"))];
    apply(store, vec![Op::Append { session: rows[0].key.clone(), open_run: None, entries }]).await;
    apply(store, vec![insert(&run(7, &rows[0].key)), end(7, Terminal::Timeout)]).await;
    let filter = OverviewFilter { key: Some(rows[0].key.clone()), ..OverviewFilter::default() };
    let found = store.overviews(filter, ALL).await.unwrap();
    assert_eq!((found.total, found.sessions.len()), (1, 1));
    let main = &found.sessions[0];
    assert_eq!(Some(&main.row), store.session(rows[0].key.clone()).await.unwrap().as_ref());
    assert_eq!(main.open.iter().map(|run| run.id).collect::<Vec<_>>(), [run_id(0)]);
    let latest = store.run(run_id(7)).await.unwrap().unwrap();
    assert_eq!(main.latest, Some((&latest).into()));
    assert_eq!(main.children, [rows[2].key.clone(), rows[1].key.clone()]);
    assert_eq!((main.entries, main.context), (2, Some(77)));
    let bare = OverviewFilter { key: Some(rows[6].key.clone()), ..OverviewFilter::default() };
    let bare = store.overviews(bare, ALL).await.unwrap().sessions.remove(0);
    assert_eq!((bare.entries, bare.context, bare.children), (1, None, Vec::new()));
}

/// Each filter alone; the number counts what other pages hold; the one written to last comes first.
pub async fn overviews_are_filtered_counted_and_paged(store: &dyn Storage) {
    let rows = tree(store).await;
    apply(store, vec![end(3, Terminal::Ok)]).await;
    let list = async |filter: OverviewFilter, page| -> (u64, Vec<String>) {
        let found = store.overviews(filter, page).await.unwrap();
        let name = |key: &str| key.rsplit(':').next().unwrap().to_owned();
        (found.total, found.sessions.iter().map(|found| name(found.row.key.as_str())).collect())
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = ["child-3", "child-6", "child-5", "child-4", "child-2", "child-1", "main"];
    assert_eq!(list(OverviewFilter::default(), ALL).await, (7, names(&all)));
    let page = Page { offset: 2, limit: 2 };
    assert_eq!(list(OverviewFilter::default(), page).await, (7, names(&all[2..4])));
    let beyond = Page { offset: 9, limit: 2 };
    assert_eq!(list(OverviewFilter::default(), beyond).await, (7, Vec::new()));
    let label = OverviewFilter { label: Some("label of child-2".to_owned()), ..OverviewFilter::default() };
    assert_eq!(list(label, ALL).await, (1, names(&["child-2"])));
    let search = |text: &str| OverviewFilter { search: Some(text.to_owned()), ..OverviewFilter::default() };
    assert_eq!(list(search("MAIN:MAIN"), ALL).await, (1, names(&["main"])));
    assert_eq!(list(search("Of Child-4"), ALL).await, (1, names(&["child-4"])));
    assert_eq!(list(search("%"), ALL).await, (0, Vec::new()));
    let roots = OverviewFilter { roots: true, ..OverviewFilter::default() };
    assert_eq!(list(roots, ALL).await, (1, names(&["main"])));
    let open = ListFilter { open: true, session: Some(rows[1].key.clone()), ..ListFilter::default() };
    let open = OverviewFilter { list: open, ..OverviewFilter::default() };
    assert_eq!(list(open, ALL).await, (1, names(&["child-4"])));
}

/// Calls of deleted sessions count; a day begins where the asker is.
pub async fn tool_calls_are_counted_by_session_tool_and_day(store: &dyn Storage) {
    const DAY: i64 = 86_400_000;
    let rows = tree(store).await;
    let starts = |number: u64, step: u32, at: i64, names: [&str; 2]| {
        let mark =
            |(place, name): (usize, &str)| ToolMark { call: place.to_string().into(), name: name.into() };
        let calls = names.into_iter().enumerate().map(mark).collect();
        Op::StartTools { run: run_id(number), step, calls, at: Timestamp(at) }
    };
    let (run, call, at) = (run_id(5), "0".into(), Timestamp(DAY));
    let failed = Op::FinishTool { run, step: 0, call, status: ToolStatus::Error, at };
    apply(store, vec![starts(5, 0, DAY - 1, ["read", "write"]), starts(5, 1, DAY, ["read", "read"]), failed])
        .await;
    apply(store, vec![starts(0, 0, -1, ["read", "read"]), end(5, Terminal::Ok)]).await;
    apply(store, vec![Op::DeleteSession { session: rows[5].key.clone(), with_parents: true }]).await;
    let of = |session: &SessionKey, tool: &str, day, calls, failed| ToolUse {
        session: session.clone(),
        tool: tool.to_owned(),
        day,
        calls,
        failed,
    };
    let (child, main) = (&rows[5].key, &rows[0].key);
    let all = ToolUseFilter { since: Timestamp(-10), ..ToolUseFilter::default() };
    assert_eq!(
        store.tool_uses(all).await.unwrap(),
        [
            of(child, "read", 0, 1, 1),
            of(child, "read", 1, 2, 0),
            of(child, "write", 0, 1, 0),
            of(main, "read", -1, 2, 0)
        ]
    );
    let east = ToolUseFilter { session: Some(child.clone()), since: Timestamp(0), offset_ms: 1 };
    assert_eq!(
        store.tool_uses(east).await.unwrap(),
        [of(child, "read", 1, 3, 1), of(child, "write", 1, 1, 0)]
    );
    let late = ToolUseFilter { since: Timestamp(DAY), ..ToolUseFilter::default() };
    assert_eq!(store.tool_uses(late).await.unwrap(), [of(child, "read", 1, 2, 0)]);
}

/// Runs of deleted sessions count; of too many rows the oldest are left out.
pub async fn runs_are_counted_by_session_model_and_day(store: &dyn Storage) {
    let rows = tree(store).await;
    apply(store, vec![end(5, Terminal::Ok), end(4, Terminal::Error)]).await;
    apply(store, vec![Op::DeleteSession { session: rows[5].key.clone(), with_parents: true }]).await;
    let early = ToolUseFilter { since: Timestamp(i64::MIN / 2), ..ToolUseFilter::default() };
    let all = store.run_uses(early.clone(), 1_000).await.unwrap();
    let stored = store.list_runs(ListFilter::default(), Page { offset: 0, limit: 1_000 }).await.unwrap();
    assert_eq!(all.iter().map(|used| used.runs).sum::<u64>(), stored.len() as u64);
    let of = |key: &SessionKey| all.iter().find(|used| used.session == *key).unwrap();
    let (good, bad) = (of(&rows[5].key), of(&rows[4].key));
    assert_eq!((good.runs, good.failed, bad.runs, bad.failed), (1, 0, 1, 1));
    let row = stored.iter().find(|row| row.session == rows[4].key).unwrap();
    let at = row.ended_at.unwrap();
    assert_eq!((bad.usage, bad.steps, bad.latest), (row.usage, u64::from(row.steps), at));
    assert_eq!((bad.day, &bad.model), (at.0.div_euclid(86_400_000), &row.model.primary));
    assert!(all.is_sorted_by(|one, two| one.latest >= two.latest));
    assert_eq!(store.run_uses(early.clone(), 1).await.unwrap().len(), 1);
    let one = ToolUseFilter { session: Some(rows[4].key.clone()), offset_ms: 86_400_000, ..early.clone() };
    let shifted = RunUse { day: bad.day + 1, ..bad.clone() };
    assert_eq!(store.run_uses(one, 10).await.unwrap(), [shifted]);
    let late = ToolUseFilter { since: Timestamp(all[0].latest.0 + 1), ..early };
    assert_eq!(store.run_uses(late, 10).await.unwrap(), []);
}
