//! Churn for a while: what the daemon holds levels out.
//!
//! `SOAK_SECONDS` says how long. Bounds are generous, since a leak that matters grows without end, and what does not is
//! measured by the benches. The store on disk grows with what it is given to keep: what is looked at are its rows for each
//! run. Tokio's tasks are not counted by what the daemon tells of itself; an actor is one task, and so is a model call, and
//! one that stays holds memory, an open file or a run.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::daemon::{Daemon, Place, TOKEN};
use crate::history::{Event, History};
use crate::model::ModelServer;
use crate::nothing_lost::quiet;
use crate::store::{left, rows_per_thousand_runs, sessions_of_late};
use crate::workload::Worker;
use crate::{config, number};

const SAMPLES: u32 = 48;
const CLIENTS: u64 = 4;
/// Longer than a session stays awake after its last run.
const AWAKE: Duration = Duration::from_secs(40);

/// What a process holds at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    resident_kib: u64,
    files: u64,
    threads: u64,
    open_runs: u64,
    log_kib: u64,
    /// For 100 sessions that were written to so lately that they may be awake.
    actors: u64,
    /// Of all tables, for a thousand runs.
    rows: u64,
}

/// What may be more at the end than it was at first: a share in percent, and so much besides.
struct Bound {
    name: &'static str,
    of: fn(&Sample) -> u64,
    percent: u64,
    more: u64,
}

const BOUNDS: [Bound; 7] = [
    // SQLite fills its page caches, which have 32 MiB for the writer and 8 for each reader, while the database grows.
    Bound { name: "resident KiB", of: |sample| sample.resident_kib, percent: 25, more: 64 << 10 },
    Bound { name: "open files", of: |sample| sample.files, percent: 25, more: 16 },
    Bound { name: "threads", of: |sample| sample.threads, percent: 0, more: 8 },
    Bound { name: "open runs", of: |sample| sample.open_runs, percent: 100, more: 50 },
    Bound { name: "log KiB", of: |sample| sample.log_kib, percent: 25, more: 64 << 10 },
    Bound { name: "actors for 100 sessions of late", of: |sample| sample.actors, percent: 50, more: 50 },
    Bound { name: "rows for 1,000 runs", of: |sample| sample.rows, percent: 20, more: 500 },
];

#[test]
fn what_a_daemon_holds_levels_out_under_churn() {
    let seconds = number("SOAK_SECONDS", 20);
    let seed = number("SOAK_SEED", 1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let model = runtime.block_on(ModelServer::start(seed, 0));
    let place = Place::new(&config(&model.url, &json!({})));
    let daemon = place.start(&[]).ready().unwrap();
    let history = History::default();
    let (_address, addresses) = watch::channel(Some(daemon.address));
    let (stop, stopped) = watch::channel(false);
    let mut workers = JoinSet::new();
    for number in 0..CLIENTS {
        let worker = Worker::new(number, seed, 15, history.clone());
        workers.spawn_on(worker.work(addresses.clone(), stopped.clone()), runtime.handle());
    }

    let begun = Instant::now();
    let mut samples = Vec::new();
    for number in 1..=SAMPLES {
        let due = Duration::from_secs(seconds) * number / SAMPLES;
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        samples.push(sample(&daemon, &place));
    }
    stop.send_replace(true);
    runtime.block_on(async { while workers.join_next().await.is_some() {} });
    quiet(&place.state()).unwrap();
    daemon.stop();

    let accepted = history.events().iter().filter(|event| matches!(event, Event::Accepted { .. })).count();
    let early = middle(&samples[samples.len() / 4..samples.len() / 2]);
    let late = middle(&samples[samples.len() * 3 / 4..]);
    eprintln!("soak: {seconds} s, {accepted} requests accepted, seed {seed}; early {early:?}, late {late:?}");
    assert!(accepted > 0);
    for Bound { name, of, percent, more } in BOUNDS {
        let (was, is) = (of(&early), of(&late));
        assert!(is <= was + was * percent / 100 + more, "{name} grew from {was} to {is}: {samples:#?}");
    }
}

fn sample(daemon: &Daemon, place: &Place) -> Sample {
    let pid = daemon.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon lives");
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let log = fs::metadata(place.state().join("offshoot.db-wal")).unwrap();
    Sample {
        resident_kib: field("VmRSS:"),
        files: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64,
        threads: field("Threads:"),
        open_runs: left(&place.state()).unwrap().open,
        log_kib: log.len() >> 10,
        actors: actors(daemon.address) * 100 / sessions_of_late(&place.state(), AWAKE).unwrap().max(1),
        rows: rows_per_thousand_runs(&place.state()).unwrap(),
    }
}

/// Actors of all kinds, as the daemon counts them.
fn actors(address: SocketAddr) -> u64 {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer";
    stream.write_all(format!("{head} {TOKEN}\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let kinds = text.lines().filter(|line| line.starts_with("offshoot_actors{"));
    let actors = kinds.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>();
    assert!(actors > 0.0, "{text}");
    actors as u64
}

/// The median of each, which one moment does not change.
fn middle(samples: &[Sample]) -> Sample {
    let median = |of: fn(&Sample) -> u64| {
        let mut values: Vec<u64> = samples.iter().map(of).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    Sample {
        resident_kib: median(|sample| sample.resident_kib),
        files: median(|sample| sample.files),
        threads: median(|sample| sample.threads),
        open_runs: median(|sample| sample.open_runs),
        log_kib: median(|sample| sample.log_kib),
        actors: median(|sample| sample.actors),
        rows: median(|sample| sample.rows),
    }
}
