//! The power goes at a chosen write or sync, and the store is opened again on what was synced.
//!
//! `POWER_POINTS=n` looks at n points of each kind, `POWER_POINT=n` at the one of that number. A point is a number: the
//! operation at which the power goes, and how much of what was not synced is on the disk all the same.

#![allow(clippy::print_stderr)]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use offshoot_actors::contract::{self, submit};
use offshoot_actors::ports::{Refused, SessionRow, Storage, Transaction};
use offshoot_actors::types::Terminal;
use offshoot_power::Disk;
use rusqlite::Connection;

use crate::config::{Environment, load_text};
use crate::gateway::Serving;
use crate::runtime::clock;
use crate::store::{Durability, SqliteStorage, verify_audit};

/// Sub-agents of one history: each is spawned, ends, and is delivered, in a transaction each.
const CHILDREN: u64 = 24;
/// Transactions that are committed together, in turn.
const TOGETHER: [usize; 5] = [1, 3, 1, 7, 2];
/// Pages after which the log is moved into the database: so few that it happens in each history several times.
const CHECKPOINT: u32 = 40;

/// Of so many points one is recovered from by a daemon.
const RECOVERED: u64 = 10;
const CONFIG: &str = "{ gateway: { auth: { mode: 'none' } } }";
const PATIENCE: Duration = Duration::from_secs(20);

/// What one transaction of the history does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Spawn(u64),
    End(u64),
    Deliver(u64),
    /// One that is refused, and takes nothing of its neighbours with it.
    Refused,
}

/// How the store is set up.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Full,
    Normal,
    /// As no setting makes it: nothing is ever synced.
    Off,
}

fn acts() -> Vec<Act> {
    let child = |number| [Act::Spawn(number), Act::End(number), Act::Deliver(number)];
    let mut acts: Vec<Act> = (0..CHILDREN).flat_map(child).collect();
    // Several at work at a time.
    for at in (0..acts.len() - 4).step_by(3) {
        acts.swap(at + 2, at + 3);
    }
    for at in (5..acts.len()).step_by(11) {
        acts.insert(at, Act::Refused);
    }
    acts
}

fn child(number: u64) -> SessionRow {
    contract::child(&format!("child-{number}"), &contract::session("main"))
}

fn run_number(number: u64) -> u64 {
    number + 100
}

fn transaction(act: Act, delivered: &mut u64) -> Transaction {
    let main = contract::key("main");
    match act {
        Act::Spawn(number) => {
            let mut spawn = contract::spawn(run_number(number), &child(number));
            // Some fill several pages.
            let more = usize::try_from(number * 977 % 9_000).unwrap();
            spawn.push(contract::append(&child(number).key, 1, &"x".repeat(more)));
            spawn
        }
        Act::End(number) => {
            let result = contract::announce(run_number(number), &child(number).key, &main);
            vec![contract::end(run_number(number), Terminal::Ok), contract::queue(&result)]
        }
        Act::Deliver(number) => {
            *delivered += 1;
            let text = format!("delivered {number}");
            vec![contract::append(&main, *delivered - 1, &text), contract::take(&main, &[run_number(number)])]
        }
        Act::Refused => {
            vec![contract::create(&contract::session("never")), contract::end(9_999, Terminal::Ok)]
        }
    }
}

/// Lets the history happen until the power goes, and returns what its transactions were told; fewer if the store could
/// not be opened.
fn live(dir: &Path, mode: Mode) -> Vec<(Act, Result<(), Refused>)> {
    let durability = if mode == Mode::Full { Durability::Full } else { Durability::Normal };
    let Ok(store) = SqliteStorage::open(dir, durability) else { return Vec::new() };
    let writer = store.writer.as_ref().unwrap();
    writer.visit(move |connection| {
        // It fails if the power is off already, which the next commit will notice.
        _ = connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT, |_| Ok(()));
        if mode == Mode::Off {
            _ = connection.pragma_update(None, "synchronous", "OFF");
        }
    });
    let main = vec![
        contract::create(&contract::session("main")),
        contract::insert(&contract::run(1, &contract::key("main"))),
    ];
    if contract::block_on(submit(&store, main)).is_err() {
        return Vec::new();
    }
    let (mut told, mut delivered, mut acts) = (Vec::new(), 0, acts().into_iter().peekable());
    let mut sizes = TOGETHER.into_iter().cycle();
    while acts.peek().is_some() {
        let batch: Vec<Act> = acts.by_ref().take(sizes.next().unwrap()).collect();
        // The writer waits until all are there: the same batches each time.
        let (go, wait) = mpsc::channel::<()>();
        writer.visit(move |_| _ = wait.recv());
        let fates: Vec<_> = batch
            .iter()
            .map(|act| {
                let (tell, fate) = mpsc::channel();
                store.submit(transaction(*act, &mut delivered), Box::new(move |told| _ = tell.send(told)));
                fate
            })
            .collect();
        drop(go);
        told.extend(batch.into_iter().zip(fates).map(|(act, fate)| (act, fate.recv().unwrap())));
    }
    told
}

/// What became of a history.
#[derive(Debug, Default)]
struct Found {
    /// Acknowledged transactions that are not there.
    lost: u64,
    /// Everything that no loss of power explains.
    wrong: Vec<String>,
}

/// Looks at what is left, and whether it can be worked with.
fn look(dir: &Path, told: &[(Act, Result<(), Refused>)]) -> Found {
    let mut found = Found::default();
    let store = match SqliteStorage::open(dir, Durability::Full) {
        Ok(store) => store,
        Err(error) => {
            found.wrong.push(format!("cannot be opened: {error}"));
            return found;
        }
    };
    if let Err(error) =
        contract::block_on(submit(&store, vec![contract::create(&contract::session("afterwards"))]))
    {
        found.wrong.push(format!("takes nothing any more: {error}"));
    }
    drop(store);
    if let Err(error) = verify_audit(dir) {
        found.wrong.push(format!("its audit record is broken: {error}"));
    }
    let connection = Connection::open(dir.join("offshoot.db")).unwrap();
    if let Err(error) = look_into(&connection, told, &mut found) {
        found.wrong.push(format!("cannot be read: {error}"));
    }
    found
}

fn look_into(
    connection: &Connection,
    told: &[(Act, Result<(), Refused>)],
    found: &mut Found,
) -> rusqlite::Result<()> {
    let integrity: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if integrity != "ok" {
        found.wrong.push(integrity);
    }
    let mut gap = None;
    for (act, fate) in told {
        let parts = parts(connection, *act)?;
        if *act == Act::Refused {
            let right = fate.is_err() && !parts.contains(&true);
            found.wrong.extend((!right).then(|| "a refused transaction is there".to_owned()));
            continue;
        }
        let there = parts.iter().all(|part| *part);
        if !there && parts.contains(&true) {
            found.wrong.push(format!("{act:?} is there in part: {parts:?}"));
        }
        // They were committed in this order.
        match gap {
            Some(gap) if there => found.wrong.push(format!("{act:?} is there without {gap:?}")),
            None if !there => gap = Some(*act),
            _ => {}
        }
        found.lost += u64::from(fate.is_ok() && !there);
    }
    Ok(())
}

/// Each part of a transaction, and whether it is there. A later transaction of the same child takes some away.
fn parts(connection: &Connection, act: Act) -> rusqlite::Result<Vec<bool>> {
    let ask = |sql: &str, value: String| connection.prepare_cached(sql)?.exists([value]);
    Ok(match act {
        Act::Spawn(number) => {
            let (key, run) =
                (child(number).key.to_string(), contract::run_id(run_number(number)).to_string());
            vec![
                ask("SELECT 1 FROM sessions WHERE key = ?1 AND next_seq = 2", key.clone())?,
                ask("SELECT 1 FROM runs WHERE id = ?1", run.clone())?,
                ask("SELECT 1 FROM transcripts WHERE session_key = ?1 AND seq = 0", key.clone())?,
                ask("SELECT 1 FROM transcripts WHERE session_key = ?1 AND seq = 1", key)?,
                ask("SELECT 1 FROM audit WHERE run_id = ?1", run)?,
            ]
        }
        Act::End(number) => {
            let run = contract::run_id(run_number(number)).to_string();
            let delivered = parts(connection, Act::Deliver(number))?.into_iter().all(|part| part);
            vec![
                ask("SELECT 1 FROM runs WHERE id = ?1 AND ended_at IS NOT NULL", run.clone())?,
                ask("SELECT 1 FROM runs WHERE id = ?1 AND announced = 1", run.clone())?,
                delivered || ask("SELECT 1 FROM outbox WHERE run_id = ?1", run)?,
            ]
        }
        Act::Deliver(number) => {
            let run = contract::run_id(run_number(number)).to_string();
            let text = format!("%\"delivered {number}\"%");
            let announced = ask("SELECT 1 FROM runs WHERE id = ?1 AND announced = 1", run.clone())?;
            vec![
                ask(
                    "SELECT 1 FROM transcripts WHERE session_key = 'agent:main:main' AND content LIKE ?1",
                    text,
                )?,
                announced && !ask("SELECT 1 FROM outbox WHERE run_id = ?1", run)?,
            ]
        }
        Act::Refused => {
            vec![ask("SELECT 1 FROM sessions WHERE key = ?1", contract::key("never").to_string())?]
        }
    })
}

/// Lets a daemon come up on what is left, and looks whether every run has its end and every child is told of once.
fn recover(dir: &Path, found: &mut Found) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut config = load_text(&Environment::default(), "offshoot.json", CONFIG).unwrap();
        config.gateway.port = 0;
        let storage: Arc<dyn Storage> = Arc::new(SqliteStorage::open(dir, Durability::Full).unwrap());
        let daemon = Serving::start(Arc::new(config), clock(), storage, dir.to_owned()).await.unwrap();
        let connection = Connection::open(dir.join("offshoot.db")).unwrap();
        let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let begun = Instant::now();
        while count("SELECT count(*) FROM runs WHERE ended_at IS NULL") + count("SELECT count(*) FROM outbox")
            > 0
        {
            if begun.elapsed() > PATIENCE {
                found
                    .wrong
                    .push("a daemon on what is left leaves runs open, or results undelivered".to_owned());
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        daemon.stop("service restart").await;
        let lines = |text: String| {
            let sql =
                "SELECT count(*) FROM transcripts WHERE session_key = 'agent:main:main' AND content LIKE ?1";
            connection.query_row(sql, [format!("%{text}%")], |row| row.get::<_, i64>(0)).unwrap()
        };
        for number in 0..CHILDREN {
            let spawned = parts(&connection, Act::Spawn(number)).unwrap().contains(&true);
            let (before, since) = (
                lines(format!("\"delivered {number}\"")),
                lines(contract::run_id(run_number(number)).to_string()),
            );
            if before + since != i64::from(spawned) {
                let times = format!("{before} and {since} times");
                found.wrong.push(format!("after a recovery the result of child {number} stands {times}"));
            }
        }
    });
}

/// How many operations the whole history is.
fn operations(mode: Mode) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path());
    let told = live(dir.path(), mode);
    assert!(told.iter().all(|(act, fate)| fate.is_err() == (*act == Act::Refused)), "{told:?}");
    disk.operations()
}

/// What happened at all points.
#[derive(Debug, Default)]
struct Report {
    points: u64,
    /// Points at which something acknowledged was lost.
    lossy: u64,
    acknowledged: u64,
    lost: u64,
    /// What was wrong, with the number of the point.
    wrong: String,
    wrongs: u64,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn lose_power(mode: Mode, points: u64) -> Report {
    let all = operations(mode);
    let points = number("POWER_POINTS").unwrap_or(points);
    let one = number("POWER_POINT");
    let mut report = Report::default();
    for point in one.map_or(0..points, |one| one..one + 1) {
        let (dir, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let disk = Disk::new(dir.path());
        // Spread over the whole history, and more than once over all of it where there are more points.
        disk.cut_at(1 + point.wrapping_mul((all * 618 / 1_000) | 1) % all);
        let told = live(dir.path(), mode);
        disk.cut();
        // Nothing of what was not synced, or some of it.
        let keeps = [0, 50, 0, 10, 90][usize::try_from(point % 5).unwrap()];
        disk.lose(left.path(), keeps, point);
        let mut found = look(left.path(), &told);
        if mode == Mode::Full && point % RECOVERED == 0 && !told.is_empty() {
            recover(left.path(), &mut found);
        }
        report.points += 1;
        report.lossy += u64::from(found.lost > 0);
        report.lost += found.lost;
        report.acknowledged += told.iter().filter(|(_, fate)| fate.is_ok()).count() as u64;
        report.wrongs += u64::from(!found.wrong.is_empty());
        for wrong in found.wrong.iter().take(3) {
            writeln!(report.wrong, "POWER_POINT={point}: {wrong}").unwrap();
        }
    }
    let Report { points, lossy, acknowledged, lost, wrongs, .. } = &report;
    eprintln!(
        "power loss, {mode:?}: {points} points of {all} operations; acknowledged {acknowledged}, lost {lost} at {lossy} points; \
         damaged or torn at {wrongs}"
    );
    report
}

#[test]
fn what_was_acknowledged_survives_the_loss_of_power() {
    let report = lose_power(Mode::Full, 150);
    assert_eq!((report.lost, report.wrong.as_str()), (0, ""));
    assert!(report.acknowledged > 0);
}

#[test]
fn with_durability_normal_the_latest_may_be_lost_and_nothing_is_torn() {
    let report = lose_power(Mode::Normal, 60);
    assert_eq!(report.wrong, "");
    // Otherwise the disk does not lose what is not synced, and the test above shows nothing.
    assert!(report.lossy > 0);
}

#[test]
fn a_store_that_does_not_sync_is_caught() {
    let report = lose_power(Mode::Off, 60);
    assert!(report.lossy > 0 && report.wrongs > 0, "{report:?}");
}
