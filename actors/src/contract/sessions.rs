//! Sessions and their transcripts.

use std::sync::Arc;

use super::View;
use super::fixtures::*;
use crate::ports::{Op, Refused, RunRow, SessionRow, Storage};
use crate::types::{
    Cleanup, Entry, ModelChoice, Origin, RunId, SessionKey, StoredEntry, Terminal, Timestamp, ToolCall,
    ToolStatus, Usage,
};

/// Two sessions cannot have one name.
pub async fn a_session_is_created_once(store: &dyn Storage) {
    let main = session("main");
    assert_eq!(store.session(main.key.clone()).await.unwrap(), None);
    apply(store, vec![create(&main)]).await;
    conflict(store, vec![create(&SessionRow { depth: 5, ..main.clone() })]).await;
    assert_eq!(store.session(main.key.clone()).await.unwrap(), Some(main));
}

/// A session hangs under one that exists; every column comes back.
pub async fn a_child_needs_its_parent(store: &dyn Storage) {
    let main = session("main");
    let row = child("subagent:1", &main);
    conflict(store, vec![create(&row)]).await;
    apply(store, vec![create(&main), create(&row)]).await;
    assert_eq!(store.session(row.key.clone()).await.unwrap(), Some(row.clone()));
    let bare = SessionRow { tools: Some(Arc::from([])), ..child("subagent:2", &main) };
    apply(store, vec![create(&bare)]).await;
    assert_eq!(store.session(bare.key.clone()).await.unwrap(), Some(bare));
}

/// Everything that a session's actor needs comes back, and nothing that belongs to others.
pub async fn a_loaded_session_is_complete(store: &dyn Storage) {
    let (main, first) = (session("main"), child("first", &session("main")));
    let second = child("second", &first);
    assert!(store.load_session(main.key.clone()).await.unwrap().is_none());
    apply(store, vec![create(&main), insert(&run(1, &main.key)), append(&main.key, 0, "hello")]).await;
    apply(store, spawn(2, &first)).await;
    apply(store, spawn(3, &second)).await;
    apply(store, vec![insert(&run(4, &main.key)), insert(&run(5, &main.key)), end(5, Terminal::Ok)]).await;
    let extra = child_run(6, &second.key, &main.key, Some(run_id(4)));
    apply(store, vec![insert(&extra), Op::YieldRun { run: run_id(1) }]).await;
    apply(store, vec![queue(&announce(4, &main.key, &main.key)), queue(&announce(5, &main.key, &main.key))])
        .await;
    apply(store, vec![queue(&announce(3, &second.key, &first.key))]).await;
    for (number, to) in [(2, &main), (1, &main), (3, &first)] {
        apply(store, vec![Op::QueueSteer(Box::new(steer(number, &to.key)))]).await;
    }

    let loaded = store.load_session(main.key.clone()).await.unwrap().unwrap();
    assert_eq!(loaded.row.yielded, Some(run_id(1)));
    assert_eq!(loaded.transcript, vec![stored(0, None, 1_000, user("hello"))]);
    assert_eq!(loaded.runs.iter().map(|run| run.id).collect::<Vec<_>>(), [run_id(1), run_id(4)]);
    let from_runs: Vec<_> = loaded.announces.iter().map(|announce| announce.item.run).collect();
    assert_eq!(from_runs, [run_id(4), run_id(5)]);
    assert_eq!(loaded.announces[0], announce(4, &main.key, &main.key));
    assert_eq!(loaded.steers, [steer(2, &main.key), steer(1, &main.key)]);
    let children: Vec<_> = loaded.children.iter().map(|open| (open.run, open.depth, open.spawner)).collect();
    assert_eq!(children, [(run_id(2), 1, Some(run_id(1))), (run_id(6), 2, Some(run_id(4)))]);
    assert_eq!(loaded.children[1].session, second.key);
    assert_eq!(loaded.children[1].root, main.key);
    assert_eq!(loaded.children[1].announce_to, Some(main.key));
}

/// A session's `updated_at` is the latest of what was written to it.
pub async fn updated_at_never_goes_back(store: &dyn Storage) {
    let main = session("main");
    let updated_at = async || store.session(main.key.clone()).await.unwrap().unwrap().updated_at;
    let late = RunRow { accepted_at: Timestamp(3_000), ..run(1, &main.key) };
    apply(store, vec![create(&main), insert(&late)]).await;
    assert_eq!(updated_at().await, Timestamp(3_000));
    apply(store, vec![append(&main.key, 0, "dated 1000")]).await;
    assert_eq!(updated_at().await, Timestamp(3_000));
    apply(store, vec![end(1, Terminal::Ok)]).await;
    assert_eq!(updated_at().await, Timestamp(5_000));
}

/// Open runs, children, undelivered results and steering messages that wait each keep a session.
pub async fn a_session_in_use_is_not_deleted(store: &dyn Storage) {
    let main = session("main");
    let row = SessionRow { cleanup: Cleanup::Keep, ..child("child", &main) };
    let grandchild = child("grandchild", &row);
    let delete = |row: &SessionRow| Op::DeleteSession { session: row.key.clone(), with_parents: true };
    apply(store, vec![create(&main), create(&row)]).await;

    apply(store, vec![insert(&run(1, &row.key))]).await;
    let before = View::of(store).await;
    apply(store, vec![delete(&row), delete(&main), delete(&grandchild)]).await;
    assert_eq!(View::of(store).await, before);

    apply(store, vec![end(1, Terminal::Ok), create(&grandchild), delete(&row)]).await;
    assert!(store.session(row.key.clone()).await.unwrap().is_some());
    apply(store, vec![delete(&grandchild)]).await;
    assert!(store.session(grandchild.key.clone()).await.unwrap().is_none());

    apply(store, vec![queue(&announce(1, &row.key, &main.key)), delete(&row)]).await;
    assert!(store.session(row.key.clone()).await.unwrap().is_some());

    apply(store, vec![insert(&run(2, &main.key)), end(2, Terminal::Ok)]).await;
    apply(store, vec![queue(&announce(2, &main.key, &row.key)), take(&main.key, &[1]), delete(&row)]).await;
    assert!(store.session(row.key.clone()).await.unwrap().is_some());

    let queued = Op::QueueSteer(Box::new(steer(1, &row.key)));
    apply(store, vec![take(&row.key, &[2]), queued, delete(&row)]).await;
    assert_eq!(store.load_session(row.key.clone()).await.unwrap().unwrap().steers, [steer(1, &row.key)]);

    let taken = Op::TakeSteers { session: row.key.clone(), ids: vec![steer(1, &row.key).id] };
    apply(store, vec![taken, delete(&row)]).await;
    assert!(store.session(row.key.clone()).await.unwrap().is_none());
}

/// A parent that could not be deleted because of a child goes with the last of them, and so on upwards, but none
/// that is kept or in use otherwise.
pub async fn a_deleted_session_takes_parents_that_waited_for_it(store: &dyn Storage) {
    let main = session("main");
    let row = child("child", &main);
    let (first, second) = (child("first", &row), child("second", &row));
    let below = child("below", &second);
    let delete = |row: &SessionRow| Op::DeleteSession { session: row.key.clone(), with_parents: true };
    let exists = async |row: &SessionRow| store.session(row.key.clone()).await.unwrap().is_some();
    apply(store, [&main, &row, &first, &second, &below].map(create).into()).await;
    apply(store, vec![insert(&run(1, &row.key)), insert(&run(2, &second.key)), delete(&row)]).await;

    apply(store, vec![delete(&first)]).await;
    assert!(!exists(&first).await && exists(&row).await, "it has another child and an open run");
    apply(store, vec![end(1, Terminal::Ok), delete(&row), delete(&below)]).await;
    assert!(!exists(&below).await && exists(&second).await, "its run is open");
    apply(store, vec![end(2, Terminal::Ok), delete(&second)]).await;
    assert!(!exists(&second).await && !exists(&row).await && exists(&main).await);
}

/// The transcript goes, the runs stay.
pub async fn a_deleted_session_leaves_its_runs(store: &dyn Storage) {
    let (main, row) = (session("main"), child("child", &session("main")));
    apply(store, vec![create(&main)]).await;
    apply(store, spawn(1, &row)).await;
    apply(
        store,
        vec![end(1, Terminal::Ok), Op::DeleteSession { session: row.key.clone(), with_parents: true }],
    )
    .await;
    assert!(store.load_session(row.key.clone()).await.unwrap().is_none());
    assert!(store.entries(row.key.clone(), 0, 10).await.unwrap().is_empty());
    assert!(store.waiting_sessions().await.unwrap().is_empty());
    let run = store.run(run_id(1)).await.unwrap().unwrap();
    assert_eq!((run.session, run.outcome.unwrap().state), (row.key.clone(), Terminal::Ok));
    conflict(store, vec![append(&row.key, 1, "too late")]).await;
    conflict(store, vec![insert(&super::run(2, &row.key))]).await;
}

/// A new session of an old name begins empty.
pub async fn a_deleted_key_can_be_used_again(store: &dyn Storage) {
    let main = session("main");
    apply(store, vec![create(&main), append(&main.key, 0, "old"), append(&main.key, 1, "older")]).await;
    apply(store, vec![Op::DeleteSession { session: main.key.clone(), with_parents: true }, create(&main)])
        .await;
    assert!(store.entries(main.key.clone(), 0, 10).await.unwrap().is_empty());
    apply(store, vec![append(&main.key, 0, "new")]).await;
    apply(store, vec![Op::DeleteSession { session: main.key.clone(), with_parents: true }]).await;
    assert!(store.session(main.key).await.unwrap().is_none());
}

/// Entries take the next places of their session and no others.
pub async fn entries_append_without_gaps(store: &dyn Storage) {
    let main = session("main");
    conflict(store, vec![append(&main.key, 0, "nowhere")]).await;
    apply(store, vec![create(&main)]).await;
    conflict(store, vec![append(&main.key, 1, "gap")]).await;
    apply(store, vec![append(&main.key, 0, "first")]).await;
    conflict(store, vec![append(&main.key, 0, "again")]).await;
    let entries = |seqs: &[u64]| Op::Append {
        session: main.key.clone(),
        open_run: None,
        entries: seqs.iter().map(|seq| stored(*seq, None, 1_000, user("many"))).collect(),
    };
    conflict(store, vec![entries(&[1, 3])]).await;
    conflict(store, vec![entries(&[1, 1])]).await;
    apply(store, vec![entries(&[])]).await;
    apply(store, vec![entries(&[1, 2, 3])]).await;
    let seqs: Vec<_> = store.entries(main.key, 0, 10).await.unwrap().iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [0, 1, 2, 3]);
}

/// What a run says after its end is refused, also in another session.
pub async fn entries_need_an_open_run(store: &dyn Storage) {
    let main = session("main");
    let entries = |seq, run: RunId| Op::Append {
        session: main.key.clone(),
        open_run: Some(run),
        entries: vec![stored(seq, Some(run), 1_000, user("text"))],
    };
    apply(store, vec![create(&main), insert(&run(1, &main.key))]).await;
    apply(store, vec![entries(0, run_id(1))]).await;
    conflict(store, vec![entries(1, run_id(9))]).await;
    apply(store, vec![end(1, Terminal::Cancelled)]).await;
    let ended = Refused::Ended { run: run_id(1), state: Terminal::Cancelled };
    assert_eq!(submit(store, vec![entries(1, run_id(1))]).await, Err(ended));
    assert_eq!(store.entries(main.key.clone(), 0, 10).await.unwrap().len(), 1);
}

/// Every kind of entry is stored as it is.
pub async fn entries_of_every_kind_come_back(store: &dyn Storage) {
    let main = session("main");
    let entries = every_kind(&main.key);
    let op = Op::Append { session: main.key.clone(), open_run: None, entries: entries.clone() };
    apply(store, vec![create(&main), op]).await;
    assert_eq!(store.entries(main.key.clone(), 0, 100).await.unwrap(), entries);
    assert_eq!(store.load_session(main.key).await.unwrap().unwrap().transcript, entries);
}

fn every_kind(session: &SessionKey) -> Vec<Arc<StoredEntry>> {
    let origin = Origin::Agent { session: session.clone(), run: run_id(7) };
    let client = Origin::Client { connection: u64::MAX, device: None, scopes: Vec::new() };
    let call = ToolCall {
        id: "call_1".into(),
        name: "sessions_spawn".into(),
        arguments: "{\"task\": \"quote \\\" and \\u0000\"".into(),
    };
    let mut kinds = vec![
        Entry::User { text: String::new(), origin },
        Entry::User { text: "line\nbreak \u{0} \u{1F980}".to_owned(), origin: client },
        Entry::User { text: "timer".to_owned(), origin: Origin::Timer },
        Entry::User { text: "embedder".to_owned(), origin: Origin::Embedder },
        Entry::Assistant {
            text: "answer".to_owned(),
            tool_calls: vec![call],
            model: model("rehearsal"),
            usage: Usage { input: 3, output: 2, cached: 1 },
        },
        Entry::Announce { items: vec![announce(3, session, session).item] },
        Entry::Notice { text: "the deadline is near".to_owned() },
    ];
    for status in [ToolStatus::Ok, ToolStatus::Error, ToolStatus::Unknown] {
        kinds.push(Entry::ToolResult {
            call: "call_1".into(),
            name: "sessions_spawn".into(),
            text: "x".repeat(100_000),
            status,
        });
    }
    let numbered = kinds.into_iter().zip(0_u64..);
    numbered.map(|(entry, seq)| stored(seq, Some(run_id(seq)), 1_000, entry)).collect()
}

/// The transcript is empty and takes entries from the first on; the rest stays. Not while a run is open.
pub async fn a_reset_session_begins_anew(store: &dyn Storage) {
    let main = session("main");
    let reset = |at| Op::ResetSession { session: main.key.clone(), at: Timestamp(at) };
    conflict(store, vec![reset(1)]).await;
    apply(store, vec![create(&main), insert(&run(0, &main.key)), append(&main.key, 0, "old")]).await;
    conflict(store, vec![reset(7_000)]).await;
    apply(store, vec![end(0, Terminal::Ok), reset(7_000)]).await;
    assert!(store.entries(main.key.clone(), 0, 9).await.unwrap().is_empty());
    let row = store.session(main.key.clone()).await.unwrap().unwrap();
    assert_eq!((row.created_at, row.updated_at), (Timestamp(7_000), Timestamp(7_000)));
    conflict(store, vec![append(&main.key, 1, "not the first")]).await;
    apply(store, vec![append(&main.key, 0, "new")]).await;
    let entries = store.entries(main.key.clone(), 0, 9).await.unwrap();
    assert_eq!(entries, [stored(0, None, 1_000, user("new"))]);
    assert!(store.run(run_id(0)).await.unwrap().is_some());
}

/// What a change does not name stays.
pub async fn a_session_gets_other_names(store: &dyn Storage) {
    let (main, first) = (session("main"), child("first", &session("main")));
    let patch = |label, model| Op::PatchSession { session: first.key.clone(), label, model };
    conflict(store, vec![patch(None, None)]).await;
    apply(store, vec![create(&main), create(&first)]).await;
    let row = async || store.session(first.key.clone()).await.unwrap().unwrap();
    apply(store, vec![patch(None, None)]).await;
    assert_eq!(row().await, first);
    apply(store, vec![patch(Some(Some("other".to_owned())), None)]).await;
    assert_eq!(row().await, SessionRow { label: Some("other".to_owned()), ..first.clone() });
    let choice = ModelChoice { primary: model("other"), fallbacks: vec![model("second")] };
    apply(store, vec![patch(Some(None), Some(Some(choice.clone())))]).await;
    assert_eq!(row().await, SessionRow { label: None, model: Some(choice), ..first.clone() });
    apply(store, vec![patch(None, Some(None))]).await;
    assert_eq!(row().await, SessionRow { label: None, model: None, ..first.clone() });
}
