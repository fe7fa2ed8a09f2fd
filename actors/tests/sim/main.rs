//! The whole tree on one thread, in virtual time, under faults: one number is one history.
//!
//! ```text
//! cargo test -p offshoot-actors --features faults --test sim              2,000 seeds
//! SIM_SEEDS=10000 cargo test -p offshoot-actors --features faults --test sim
//! SIM_SEED=42 cargo test -p offshoot-actors --features faults --test sim  one seed, with its history if it fails
//! SIM_TRACE=1                                                             a history has every message in it
//! ```
#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_debug_implementations
)]

mod checker;
mod clock;
mod faults;
mod history;
mod model;
mod process;
mod random;
mod scenario;
mod storage;
mod tools;
mod world;

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use offshoot_actors::kit::Bug;

use self::process::{Played, play};

const SEEDS: u64 = 2_000;
/// Where the test command stops to look for a bug that was put in.
const SEEDS_PER_BUG: u64 = 400;

/// The rules that this seed breaks.
fn problems(seed: u64, bug: Option<Bug>) -> Vec<String> {
    let played = std::panic::catch_unwind(|| play(seed, bug));
    played.map_or_else(|_| vec!["the simulator itself panicked".to_owned()], |played| checker::check(&played))
}

fn dump(played: &Played) -> String {
    let mut text = format!("{:#?}\n", played.scenario);
    for record in &played.records {
        let _ = writeln!(text, "{}", record.line());
    }
    text
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays seeds on all cores until `stop` says so; returns what it was told, by seed.
fn each_seed(seeds: u64, bug: Option<Bug>, until: usize) -> Vec<(u64, Vec<String>)> {
    let (next, found) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while found.lock().unwrap().len() < until {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let problems = problems(seed, bug);
                    if !problems.is_empty() {
                        found.lock().unwrap().push((seed, problems));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort();
    found
}

fn command(seed: u64) -> String {
    format!("SIM_SEED={seed} cargo test -p offshoot-actors --features faults --test sim every_seed")
}

#[test]
fn every_seed_keeps_the_rules() {
    if let Some(seed) = number("SIM_SEED") {
        let problems = problems(seed, None);
        let history = if problems.is_empty() { String::new() } else { dump(&play(seed, None)) };
        assert!(problems.is_empty(), "{history}\nseed {seed} breaks:\n{}", problems.join("\n"));
        return;
    }
    let found = each_seed(number("SIM_SEEDS").unwrap_or(SEEDS), None, 20);
    let mut text = String::new();
    for (seed, problems) in &found {
        let more = problems.len().saturating_sub(3);
        let first: Vec<_> = problems.iter().take(3).map(String::as_str).collect();
        let _ = writeln!(text, "{}\n    {}\n    and {more} more", command(*seed), first.join("\n    "));
    }
    assert!(found.is_empty(), "{text}");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..number("SIM_REPLAYS").unwrap_or(10) {
        let (first, second) = (play(seed, None), play(seed, None));
        let lines = |played: &Played| format!("{:?}", played.records);
        if lines(&first) != lines(&second) {
            let pairs = first.records.iter().zip(&second.records);
            let differ = pairs.map(|(a, b)| (a.line(), b.line())).find(|(a, b)| a != b);
            panic!("two histories of seed {seed} differ: {differ:#?}");
        }
        assert_eq!(checker::store_text(&first.store), checker::store_text(&second.store), "seed {seed}");
    }
}

/// Looks for the bug with one seed after another, and shows that the seed it is found with finds it again.
fn is_caught(bug: Bug, rule: &str) {
    let of_rule = |problems: &[String]| problems.iter().any(|problem| problem.contains(rule));
    let seed = (0..SEEDS_PER_BUG).find(|seed| of_rule(&problems(*seed, Some(bug))));
    let seed = seed.unwrap_or_else(|| panic!("{bug:?} is not caught by {SEEDS_PER_BUG} seeds"));
    let (without, again) = (problems(seed, None), problems(seed, Some(bug)));
    assert!(!of_rule(&without), "seed {seed} breaks {rule:?} without {bug:?} too: {without:#?}");
    assert!(of_rule(&again), "seed {seed} does not find {bug:?} again");
    println!("{bug:?} is caught by seed {seed}: {}", again.iter().find(|text| text.contains(rule)).unwrap());
}

#[test]
fn an_announce_before_its_commit_is_caught() {
    is_caught(Bug::AnnounceBeforeCommit, "before that is committed");
}

#[test]
fn an_announce_taken_before_its_commit_is_caught() {
    is_caught(Bug::AnnounceTakenBeforeCommit, "I2");
}

#[test]
fn a_permit_forgotten_on_panic_is_caught() {
    is_caught(Bug::PermitForgottenOnPanic, "a permit is lost");
}

#[test]
fn a_tool_that_is_started_twice_is_caught() {
    is_caught(Bug::StartedToolRerun, "I10");
}

#[test]
fn unfair_lanes_are_caught() {
    is_caught(Bug::LaneFairnessOff, "fairness");
}
