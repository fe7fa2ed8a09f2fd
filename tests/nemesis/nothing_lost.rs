//! The test itself: rage, quiet, a proof that every permit is back, another restart, and the checker.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::checker::{Broken, Kind, Story, check};
use crate::client::Client;
use crate::daemon::{Daemon, Place};
use crate::faults::Nemesis;
use crate::history::{Event, History};
use crate::model::ModelServer;
use crate::plan::Plan;
use crate::skipped::skipped;
use crate::store::{Left, Snapshot, left};
use crate::workload::Worker;
use crate::{config, number};

const CLIENTS: u64 = 4;
/// Limits of the configuration: open children of a session, and runs at once of the two lanes.
const CHILDREN: u64 = 8;
const MAIN: u64 = 4;
/// All must be quiet so long after the last fault. Nothing waits for it otherwise.
const QUIET: Duration = Duration::from_secs(90);

/// Names the home directory whose state is on a disk of its own.
const HOME: &str = "NEMESIS_HOME";
const NAME: &str = "nothing_lost::nothing_is_lost_and_nothing_is_done_twice_under_a_nemesis";

#[test]
fn nothing_is_lost_and_nothing_is_done_twice_under_a_nemesis() {
    let seconds = number("NEMESIS_SECONDS", 60);
    match (std::env::var_os(HOME), seconds) {
        (Some(home), seconds) => rage(seconds, |config| Place::at(Path::new(&home), config)),
        (None, seconds) => match on_a_disk(128 + seconds) {
            Ok(()) => {}
            Err(why) => {
                skipped(&format!("a disk to fill: {why}"));
                rage(seconds, Place::new);
            }
        },
    }
}

/// Runs this test again in a process that sees a small file system where nobody else does.
///
/// # Errors
/// Why that cannot be: it takes root and Linux's namespaces.
fn on_a_disk(megabytes: u64) -> Result<(), String> {
    let unshare = |script: &str, home: &Path| {
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
            &megabytes.to_string(),
        ]);
        command.arg(home.join(".offshoot"));
        command
    };
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".offshoot")).unwrap();
    let mount = "mount -t tmpfs -o size=$1m,mode=700 tmpfs \"$2\"";
    let tried = unshare(mount, home.path()).output().map_err(|error| format!("unshare: {error}"))?;
    if !tried.status.success() {
        return Err("a mount namespace with a file system of its own needs root".to_owned());
    }
    let status = unshare(&format!("{mount} && shift 2 && exec \"$@\""), home.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(HOME, home.path())
        .status()
        .unwrap();
    if !status.success() {
        drop(home.keep());
        panic!("see above");
    }
    Ok(())
}

fn rage(seconds: u64, place: impl FnOnce(&str) -> Place) {
    let kills = number("NEMESIS_KILLS", seconds * 5 / 12);
    let seed = number("NEMESIS_SEED", u64::from(std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let model = runtime.block_on(ModelServer::start(seed, 1));
    let place = place(&config(&model.url, &json!({})));
    let history = History::default();
    let (address, addresses) = watch::channel(None);
    let (stop, stopped) = watch::channel(false);
    let mut workers = JoinSet::new();
    for number in 0..CLIENTS {
        let worker = Worker::new(number, seed, 40, history.clone());
        workers.spawn_on(worker.work(addresses.clone(), stopped.clone()), runtime.handle());
    }

    let mut nemesis = Nemesis::new(&place, seed, address);
    let mut daemon = nemesis.rage(Duration::from_secs(seconds), kills);
    stop.send_replace(true);
    runtime.block_on(async { while workers.join_next().await.is_some() {} });
    let mut wrong = Vec::new();
    wrong.extend(quiet(&place.state()).err());
    if let Some(running) = daemon.take() {
        wrong.extend(runtime.block_on(crowds(&running)).err());
        running.stop();
        // What is over stays over.
        daemon = nemesis.start();
        wrong.extend(quiet(&place.state()).err());
    }
    if let Some(running) = daemon {
        running.stop();
    }
    wrong.append(&mut nemesis.done.wrong);

    let story = Story {
        events: history.events(),
        store: Snapshot::of(&place.state()).unwrap(),
        seen: model.seen(),
        most_children: usize::try_from(CHILDREN).unwrap(),
    };
    let mut broken = check(&story);
    broken.sort_by_key(|broken| broken.kind);
    eprintln!("{}", summary(&story, &broken, &nemesis.done, seed));
    if broken.is_empty() && wrong.is_empty() {
        return;
    }
    broken.iter().take(20).for_each(|broken| eprintln!("  {broken}"));
    wrong.iter().for_each(|wrong| eprintln!("  {wrong}"));
    panic!(
        "{} promises broken, {} other failures; NEMESIS_SEED={seed}, everything is in {}",
        broken.len(),
        wrong.len(),
        place.keep().display()
    );
}

/// Waits until nothing is left to do.
pub fn quiet(state: &Path) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let left = left(state).unwrap();
        if left == Left::NOTHING {
            return Ok(());
        }
        if begun.elapsed() > QUIET {
            return Err(format!("not quiet {QUIET:?} after the last fault: {left:?}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// As many runs as may be at work at once are at work at once: no permit was lost.
async fn crowds(daemon: &Daemon) -> Result<(), String> {
    let all = async {
        let mut client = Client::connect(daemon.address).await.map_err(|gone| format!("{gone:?}"))?;
        let mut plans = vec![("crowd".to_owned(), Plan::crowd("crowd", CHILDREN))];
        for number in 0..MAIN {
            let token = format!("main-{number}");
            plans.push((token.clone(), Plan::in_crowd(&token, "main", MAIN)));
        }
        for (at, (token, plan)) in plans.into_iter().enumerate() {
            let params = json!({ "message": plan.prompt(), "sessionKey": token, "idempotencyKey": token });
            let mut answer = client.call("agent", params).await.map_err(|gone| format!("{gone:?}"))?;
            if at == 0 {
                // The others would take places of the lane that it needs.
                let wait = json!({ "runId": token, "timeoutMs": 4_000 });
                for _ in 0..10 {
                    answer =
                        client.call("agent.wait", wait.clone()).await.map_err(|gone| format!("{gone:?}"))?;
                    if answer.as_ref().is_ok_and(|answer| answer["status"] == "ok") {
                        break;
                    }
                }
            }
            answer.map_err(|refused| format!("{token}: {refused}"))?;
        }
        for number in 0..MAIN {
            let wait = json!({ "runId": format!("main-{number}"), "timeoutMs": 4_000 });
            loop {
                let answer =
                    client.call("agent.wait", wait.clone()).await.map_err(|gone| format!("{gone:?}"))?;
                if answer.map_err(|refused| refused.to_string())?["status"] == "ok" {
                    break;
                }
            }
        }
        Ok(())
    };
    tokio::time::timeout(QUIET, all)
        .await
        .unwrap_or_else(|_| Err("I4: permits of a lane did not come back".to_owned()))
}

fn summary(story: &Story, broken: &[Broken], done: &crate::faults::Done, seed: u64) -> String {
    let of = |kind| broken.iter().filter(|broken| broken.kind == kind).count();
    let mut last: BTreeMap<&str, &Event> = BTreeMap::new();
    for event in &story.events {
        if let Event::Accepted { key, .. } | Event::Unknown { key } | Event::Refused { key, .. } = event {
            let known = last.get(key.as_str()).is_some_and(|event| matches!(event, Event::Accepted { .. }));
            if !known {
                last.insert(key, event);
            }
        }
    }
    let count = |is: fn(&Event) -> bool| last.values().filter(|event| is(event)).count();
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for run in story.store.runs.values() {
        *states.entry(&run.state).or_default() += 1;
    }
    format!(
        "nemesis: {} kills, {} stops, {} freezes, {} full disks; accepted {} ({} by clients, {} runs), lost {}, twice {}, \
         two states {}, repeated tools {}, other {}; unknown {}, refused {}; {} messages, {} with an unknown \
         outcome; ends {states:?}; seed {seed}",
        done.kills,
        done.stops,
        done.freezes,
        done.full,
        story.store.labels.values().sum::<u64>(),
        count(|event| matches!(event, Event::Accepted { .. })),
        story.store.runs.len(),
        of(Kind::Lost),
        of(Kind::Twice),
        of(Kind::TwoStates),
        of(Kind::RepeatedTool),
        of(Kind::Other),
        count(|event| matches!(event, Event::Unknown { .. })),
        count(|event| matches!(event, Event::Refused { .. })),
        story.seen.steered.len(),
        story.store.decisions.len(),
    )
}
