//! Rows to store, and ways to store them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::ports::{
    Announce, AuditRecord, Cause, Host, Op, Refused, RequestKey, RunEnd, RunRow, RunState, SessionRow, Steer,
    Storage, Transaction,
};
use crate::types::{
    AnnounceItem, Cleanup, Entry, Mode, ModelChoice, ModelRef, OnParentExit, Origin, Outcome, RunId,
    SessionKey, StoredEntry, Terminal, Timestamp, Usage,
};

/// Runs a case to its end on this thread.
pub fn block_on<T>(case: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(case)
}

/// Submits a transaction and waits for its fate.
pub async fn submit(store: &dyn Storage, transaction: Transaction) -> Result<(), Refused> {
    let (done, fate) = oneshot::channel();
    store.submit(transaction, Box::new(move |result| _ = done.send(result)));
    fate.await.expect("done was dropped without a call")
}

/// Submits a transaction that must be applied.
pub async fn apply(store: &dyn Storage, transaction: Transaction) {
    assert_eq!(submit(store, transaction).await, Ok(()));
}

/// Submits a transaction that must be refused because a condition does not hold.
pub async fn conflict(store: &dyn Storage, transaction: Transaction) {
    let fate = submit(store, transaction).await;
    assert!(matches!(fate, Err(Refused::Conflict(_))), "{fate:?}");
}

/// `agent:main:<name>`.
#[must_use]
pub fn key(name: &str) -> SessionKey {
    format!("agent:main:{name}").parse().unwrap()
}

/// The run of that number.
#[must_use]
pub fn run_id(number: u64) -> RunId {
    RunId(Uuid::from_u64_pair(0x0199_0000_0000_7000, 0x8000_0000_0000_0000 | number))
}

/// A model.
#[must_use]
pub fn model(name: &str) -> ModelRef {
    format!("builtin/{name}").parse().unwrap()
}

/// A root session.
#[must_use]
pub fn session(name: &str) -> SessionRow {
    SessionRow {
        key: key(name),
        agent: key(name).agent(),
        parent: None,
        root: key(name),
        depth: 0,
        label: None,
        mode: Mode::Session,
        cleanup: Cleanup::Keep,
        model: None,
        tools: None,
        yielded: None,
        on_parent_exit: OnParentExit::Stop,
        outlived: None,
        created_at: Timestamp(1_000),
        updated_at: Timestamp(1_000),
    }
}

/// A child session.
#[must_use]
pub fn child(name: &str, parent: &SessionRow) -> SessionRow {
    SessionRow {
        parent: Some(parent.key.clone()),
        root: parent.root.clone(),
        depth: parent.depth + 1,
        label: Some(format!("label of {name}")),
        mode: Mode::Run,
        cleanup: Cleanup::Delete,
        model: Some(ModelChoice {
            primary: model("child"),
            fallbacks: vec![model("second"), model("third")],
        }),
        tools: Some(Arc::from([Arc::from("sessions_spawn"), Arc::from("sessions_list")])),
        ..session(name)
    }
}

/// A new run of a session.
#[must_use]
pub fn run(number: u64, session: &SessionKey) -> RunRow {
    RunRow {
        id: run_id(number),
        session: session.clone(),
        cause: Cause::Message,
        spawner: None,
        announce_to: None,
        expects_completion: false,
        wire_id: None,
        model: ModelChoice { primary: model("rehearsal"), fallbacks: Vec::new() },
        model_used: None,
        timeout: None,
        input: Some(user("do it")),
        state: RunState::Accepted,
        outcome: None,
        usage: Usage::default(),
        steps: 0,
        accepted_at: Timestamp(1_000),
        started_at: None,
        ended_at: None,
        host: Host::OneShot,
        used: Duration::ZERO,
        recovery: None,
        attempts: 0,
    }
}

/// A new run that a run of another session spawned.
#[must_use]
pub fn child_run(number: u64, session: &SessionKey, to: &SessionKey, spawner: Option<RunId>) -> RunRow {
    RunRow {
        cause: Cause::Spawn,
        spawner,
        announce_to: Some(to.clone()),
        expects_completion: true,
        wire_id: Some(format!("wire {number} \u{1F980}")),
        model: ModelChoice { primary: model("child"), fallbacks: vec![model("second")] },
        timeout: Some(Duration::from_millis(20_500)),
        host: Host::Daemon,
        ..run(number, session)
    }
}

/// A message.
#[must_use]
pub fn user(text: &str) -> Entry {
    Entry::User { text: text.to_owned(), origin: Origin::Operator }
}

/// An entry with its place.
#[must_use]
pub fn stored(seq: u64, run: Option<RunId>, at: i64, entry: Entry) -> Arc<StoredEntry> {
    Arc::new(StoredEntry { seq, run, at: Timestamp(at), entry })
}

/// Adds a session.
#[must_use]
pub fn create(row: &SessionRow) -> Op {
    Op::CreateSession(Box::new(row.clone()))
}

/// Adds a run.
#[must_use]
pub fn insert(row: &RunRow) -> Op {
    Op::InsertRun(Box::new(row.clone()))
}

/// Appends one message.
#[must_use]
pub fn append(session: &SessionKey, seq: u64, text: &str) -> Op {
    let entries = vec![stored(seq, None, 1_000, user(text))];
    Op::Append { session: session.clone(), open_run: None, entries }
}

/// Starts a run.
#[must_use]
pub fn start(number: u64, at: i64) -> Op {
    Op::StartRun { run: run_id(number), at: Timestamp(at) }
}

/// Ends a run.
#[must_use]
pub fn end(number: u64, state: Terminal) -> Op {
    Op::EndRun(Box::new(RunEnd {
        run: run_id(number),
        outcome: Outcome { state, reason: Some("reason".to_owned()), text: Some("text".to_owned()) },
        usage: Usage { input: 100, output: 10, cached: 1 },
        steps: 3,
        at: Timestamp(5_000),
    }))
}

/// A result of a run on its way to a session.
#[must_use]
pub fn announce(number: u64, from: &SessionKey, to: &SessionKey) -> Announce {
    Announce {
        to: to.clone(),
        spawner: Some(run_id(1)),
        cleanup: Cleanup::Delete,
        quiet: false,
        at: Timestamp(5_000),
        item: AnnounceItem {
            run: run_id(number),
            session: from.clone(),
            label: Some("label".to_owned()),
            state: Terminal::Partial,
            reason: Some("max_tokens".to_owned()),
            text: Some("half of it \u{1F980}".to_owned()),
            usage: Usage { input: 1, output: 2, cached: 0 },
            duration_ms: 1_234,
            steps: 2,
        },
    }
}

/// Puts a result on its way.
#[must_use]
pub fn queue(announce: &Announce) -> Op {
    Op::QueueAnnounce(Box::new(announce.clone()))
}

/// Takes results.
#[must_use]
pub fn take(session: &SessionKey, numbers: &[u64]) -> Op {
    Op::TakeAnnounces {
        session: session.clone(),
        runs: numbers.iter().map(|n| run_id(*n)).collect(),
        by: None,
    }
}

/// Takes results for the run of that number.
#[must_use]
pub fn take_for(by: u64, session: &SessionKey, numbers: &[u64]) -> Op {
    let runs = numbers.iter().map(|n| run_id(*n)).collect();
    Op::TakeAnnounces { session: session.clone(), runs, by: Some(run_id(by)) }
}

/// A steering message.
#[must_use]
pub fn steer(number: u128, session: &SessionKey) -> Steer {
    Steer {
        id: Uuid::from_u128(number),
        session: session.clone(),
        text: "the other way".to_owned(),
        origin: Origin::Client {
            connection: 7,
            device: Some("device".to_owned()),
            scopes: vec!["operator.write".to_owned()],
        },
        at: Timestamp(4_000),
    }
}

/// The name of a request.
#[must_use]
pub fn request(name: &str) -> RequestKey {
    RequestKey { principal: "operator".to_owned(), method: "spawn", key: name.to_owned() }
}

/// A line of the audit record.
#[must_use]
pub fn audit(session: &SessionKey, number: u64) -> Op {
    Op::Audit(Box::new(AuditRecord {
        at: Timestamp(1_000),
        event: "spawn.accepted",
        origin: Origin::Agent { session: key("main"), run: run_id(1) },
        session: Some(session.clone()),
        run: Some(run_id(number)),
        facts: vec![("model", "builtin/rehearsal".to_owned()), ("depth", "1".to_owned())],
    }))
}

/// A whole spawn under an existing parent.
#[must_use]
pub fn spawn(number: u64, session: &SessionRow) -> Transaction {
    let to = session.parent.clone().unwrap_or_else(|| key("main"));
    let row = RunRow { input: None, ..child_run(number, &session.key, &to, Some(run_id(1))) };
    let entries = vec![stored(0, Some(row.id), 1_000, user("Reply with exactly: SUBAGENT_OK"))];
    vec![
        create(session),
        insert(&row),
        Op::Append { session: session.key.clone(), open_run: Some(row.id), entries },
        audit(&session.key, number),
    ]
}
