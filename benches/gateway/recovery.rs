//! What a start costs that finds work of a daemon that was killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use offshoot::store::{Durability, SqliteStorage};
use offshoot_actors::policy::recovery::{Decision, decide};
use offshoot_actors::ports::{Announce, Op, RunEnd, Storage};
use offshoot_actors::types::{
    AgentId, AnnounceItem, Cleanup, ModelRef, Outcome, RunId, Settings, Terminal, Timestamp, Usage,
};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use super::client::{Client, Identity};
use super::common::report::{Row, Verdict};
use super::common::{Args, Samples, machine};
use super::daemon::Daemon;

/// Runs that are at work when the daemon is killed.
const OPEN: usize = 1_000;
/// Results that were committed when it was killed, and that their parents have not taken.
const FINISHED: usize = 100;
/// Sessions that have ended before.
const ENDED: usize = 100_000;
/// Children of one session.
const PER_PARENT: usize = 10;
/// Runs that one sweep decides on.
const SWEPT: usize = 2_000;

pub async fn measure(args: &Args) -> Vec<Row> {
    let (open, finished) = (args.samples(OPEN, 50), args.samples(FINISHED, 5));
    let left = killed(open + finished).await;
    finish(left.path(), finished).await;
    let mut settles = Samples::default();
    let mut home = None;
    for _ in 0..args.samples(5, 1) {
        // What is delivered once is not there for the next start.
        let copy = copy(left.path());
        let begun = Instant::now();
        let (daemon, _) = Daemon::with_lane(copy, open + finished).await;
        all_at_work(&daemon, open).await;
        all_delivered(&daemon).await;
        settles.push(begun.elapsed());
        home = Some(daemon.kill());
    }
    let home = home.unwrap();
    add_ended(&database(home.path()), args.samples(ENDED, 500));
    let (mut accepts, mut home) = (Samples::default(), Some(home));
    for _ in 0..args.samples(5, 1) {
        forgive(home.as_ref().map(TempDir::path));
        let (daemon, took) = Daemon::with_lane(home.take().unwrap(), open).await;
        accepts.push(took);
        home = Some(daemon.kill());
    }
    vec![
        Row::new(format!(
            "kill -9 with {OPEN} runs open and {FINISHED} results on their way: to all resumed and every result delivered"
        ))
        .verdict(Verdict::at_most(settles.p50() / 1e3, 1_000.0, "ms").by("from the start of the process"))
        .samples("to all resumed and delivered", &settles),
        Row::new(format!("start with {ENDED} ended sessions and {OPEN} open runs, to hello-ok"))
            .verdict(Verdict::at_most(accepts.p50() / 1e3, 100.0, "ms"))
            .samples("to hello-ok", &accepts),
        sweep(args).await,
    ]
}

/// The home of a daemon that was killed with so many runs at work.
async fn killed(open: usize) -> TempDir {
    let (daemon, _) = Daemon::with_lane(machine::state_dir(), open).await;
    let mut client = Client::connect(daemon.address, &Identity::Command).await;
    for number in 0..open {
        let key = format!("agent:main:bench-{}", number / PER_PARENT);
        client.call("sessions.spawn", json!({ "key": key, "task": "Wait: 2h" })).await;
    }
    all_at_work(&daemon, open).await;
    daemon.kill()
}

async fn all_at_work(daemon: &Daemon, open: usize) {
    let mut client = Client::connect(daemon.address, &Identity::Command).await;
    loop {
        let answer = client.call("diagnostics.lanes", json!({})).await;
        let lanes = answer["lanes"].as_array().unwrap();
        let of_children = lanes.iter().filter(|lane| lane["lane"] == "subagent");
        let active: u64 = of_children.map(|lane| lane["activeCount"].as_u64().unwrap()).sum();
        if active as usize >= open {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Ends some of the runs as a daemon does that is killed before their parents have heard of it.
async fn finish(home: &Path, finished: usize) {
    let storage = SqliteStorage::open(&home.join(".offshoot"), Durability::Full).unwrap();
    let open = storage.open_runs().await.unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let at = Timestamp(i64::try_from(now).unwrap());
    for open in open.iter().step_by(open.len() / finished).take(finished) {
        let outcome = Outcome { state: Terminal::Ok, reason: None, text: Some("done".to_owned()) };
        let usage = Usage { input: 10, output: 10, cached: 0 };
        let item = AnnounceItem {
            run: open.run,
            session: open.session.clone(),
            label: None,
            state: outcome.state,
            reason: None,
            text: outcome.text.clone(),
            usage,
            duration_ms: 1_000,
            steps: 1,
        };
        let announce = Announce {
            to: open.announce_to.clone().unwrap(),
            spawner: open.spawner,
            cleanup: Cleanup::Keep,
            quiet: false,
            at,
            item,
        };
        let end = RunEnd { run: open.run, outcome, usage, steps: 1, at };
        commit(&storage, vec![Op::EndRun(Box::new(end)), Op::QueueAnnounce(Box::new(announce))]).await;
    }
    storage.close();
    assert_eq!(on_their_way(home), finished as i64);
}

fn on_their_way(home: &Path) -> i64 {
    let connection = Connection::open(database(home)).unwrap();
    connection.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).unwrap()
}

/// Every result is with its parent, and the runs that they woke are over.
async fn all_delivered(daemon: &Daemon) {
    let connection = Connection::open(database(daemon.home())).unwrap();
    let sql = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM runs WHERE ended_at IS NULL AND cause = 'announce')";
    let mut left = connection.prepare(sql).unwrap();
    while left.query_row([], |row| row.get::<_, i64>(0)).unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A home with the same state.
fn copy(home: &Path) -> TempDir {
    let to = machine::state_dir();
    let copied = Command::new("cp").arg("-a").arg(home.join(".offshoot")).arg(to.path()).status().unwrap();
    assert!(copied.success());
    to
}

fn database(home: &Path) -> PathBuf {
    home.join(".offshoot/offshoot.db")
}

fn forgive(home: Option<&Path>) {
    let connection = Connection::open(database(home.unwrap())).unwrap();
    connection.execute("UPDATE runs SET attempts = 0 WHERE ended_at IS NULL", []).unwrap();
    connection.execute("UPDATE starts SET died = 0", []).unwrap();
}

/// Sessions with a run that has ended and two entries, like those that there are.
fn add_ended(file: &Path, count: usize) {
    let mut connection = Connection::open(file).unwrap();
    let now: i64 =
        connection.query_row("SELECT max(updated_at) FROM sessions", [], |row| row.get(0)).unwrap();
    let (session, run): (i64, i64) = connection
        .query_row("SELECT (SELECT max(id) FROM sessions), (SELECT max(number) FROM runs)", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let transaction = connection.transaction().unwrap();
    for at in 1..=count as i64 {
        let key = format!("agent:main:ended-{at}");
        let id = uuid::Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + at as u128).to_string();
        transaction
            .prepare_cached(
                "INSERT INTO sessions (id, key, agent, root_key, depth, mode, cleanup, next_seq, created_at, \
                 updated_at) VALUES (?1, ?2, 'main', ?2, 0, 'session', 'keep', 2, ?3, ?3)",
            )
            .unwrap()
            .execute(rusqlite::params![session + at, key, now])
            .unwrap();
        transaction
            .prepare_cached(
                "INSERT INTO runs (number, id, session, session_key, state, cause, expects_completion, model, \
                 fallbacks, steps, input_tokens, output_tokens, cached_tokens, accepted_at, ended_at, host, result) \
                 VALUES (?1, ?2, ?3, ?4, 'ok', 'message', 0, 'builtin/rehearsal', '[]', 1, 10, 10, 0, ?5, ?5, \
                 'daemon', 'done')",
            )
            .unwrap()
            .execute(rusqlite::params![run + at, id, session + at, key, now])
            .unwrap();
        for seq in 0..2 {
            transaction
                .prepare_cached(
                    "INSERT INTO entries (session, seq, run_id, at, content) VALUES (?1, ?2, ?3, ?4, ?5)",
                )
                .unwrap()
                .execute(rusqlite::params![
                    session + at,
                    seq,
                    id,
                    now,
                    r#"{"type":"notice","text":"an entry"}"#
                ])
                .unwrap();
        }
    }
    transaction.commit().unwrap();
}

/// The decisions alone, in this process: read, made, committed.
async fn sweep(args: &Args) -> Row {
    let count = args.samples(SWEPT, 100);
    let home = killed(count).await;
    let storage = SqliteStorage::open(&home.path().join(".offshoot"), Durability::Full).unwrap();
    let settings = Settings::with_model(AgentId::main(), ModelRef::rehearsal());
    let (mut swept, mut floor) = (Samples::default(), Samples::default());
    for _ in 0..args.samples(20, 2) {
        forgive(Some(home.path()));
        let begun = Instant::now();
        let left = storage.left_runs().await.unwrap();
        let resumed = |run: &&_| decide(run, false, &settings, Timestamp(0)) == Decision::Resume;
        let runs: Vec<RunId> = left.iter().filter(resumed).map(|run| run.open.run).collect();
        assert_eq!(runs.len(), left.len());
        commit(&storage, vec![Op::ResumeRuns { runs }]).await;
        swept.push(begun.elapsed());
        floor.push(super::common::timed(storage.open_runs()).await.1);
    }
    Row::new(format!("sweep over {SWEPT} open runs, read and decisions committed"))
        .verdict(Verdict::at_most(swept.p50() / 1e3, 10.0, "ms"))
        .samples("sweep", &swept)
        .samples("floor: the rows are read", &floor)
}

async fn commit(storage: &SqliteStorage, transaction: Vec<Op>) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    storage.submit(transaction, Box::new(|result| sender.send(result).unwrap()));
    receiver.await.unwrap().unwrap();
}
