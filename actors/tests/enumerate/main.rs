//! Every order in which runs of two parents and three children can go, with a crash anywhere, one state after the other.
//!
//! A state is a [`MemoryStorage`](offshoot_actors::MemoryStorage), so that what refuses a change is the product's own code,
//! and what each session's actor believes besides: its children, its inbox, its mailbox, the stage of its run. The moves are
//! the transactions that the actors commit, and the messages between them. At any point an actor may panic on a message,
//! and is rebuilt from the store, or the whole process may die, and the next one goes on by the rules of recovery. What a
//! session submits is applied at once here; that it hears of it later, after others had their turn, or never, is a move.
//!
//! Models, tools, lanes, steering and cancels are left to the simulator.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_debug_implementations
)]

mod actors;
mod moves;
mod rules;
mod store;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use self::actors::{Actor, Program};
use self::moves::{Move, moves};
use self::store::Stores;

/// Runs by number, as a set.
pub type Runs = u64;
pub type Run = u8;

/// More than any of these worlds has.
const MOST_STATES: usize = 3_000_000;

/// A mistake that is put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// A parent is told of a child's result before the child's end is committed.
    ToldBeforeCommit,
    /// A result is taken off its way in a transaction before the one with its entry.
    TakenBeforeCommit,
    /// After a crash a child whose result waits puts it on its way again.
    QueuedTwice,
    /// After a crash nobody wakes the sessions that have results but no open run.
    NotWoken,
    /// The word that a child was opened counts whenever it comes.
    OpenedAfterItsEnd,
}

/// Sessions by number: their parents and what their first runs do.
#[derive(Debug, Clone, Copy)]
pub struct World {
    pub name: &'static str,
    pub parents: &'static [Option<usize>],
    pub programs: [Program; 2],
    pub mistake: Option<Mistake>,
}

impl World {
    /// A root with a leaf and a child that has two leaves of its own.
    const fn nested(name: &'static str, programs: [Program; 2]) -> Self {
        Self { name, parents: &[None, Some(0), Some(0), Some(1), Some(1)], programs, mistake: None }
    }

    /// Two roots, one with two leaves, one with one.
    const fn beside(name: &'static str, programs: [Program; 2]) -> Self {
        Self { name, parents: &[None, None, Some(0), Some(0), Some(1)], programs, mistake: None }
    }

    /// A root with a child that has one leaf.
    const fn small(programs: [Program; 2], mistake: Mistake) -> Self {
        Self { name: "small", parents: &[None, Some(0), Some(1)], programs, mistake: Some(mistake) }
    }

    pub fn children(&self, of: usize) -> impl Iterator<Item = usize> {
        (0..self.parents.len()).filter(move |session| self.parents[*session] == Some(of))
    }
}

#[derive(Debug, Clone, Hash)]
pub struct State {
    pub store: usize,
    pub actors: [Actor; 2],
    /// Leaves that have told their parents of an end that they have not committed.
    pub early: Runs,
}

/// What a search saw.
#[derive(Debug, Default)]
struct Seen {
    states: usize,
    stores: usize,
    changes: usize,
    ends: usize,
    /// The first way to a broken rule.
    broken: Option<String>,
}

/// Looks at every state, those that take fewer moves first.
fn enumerate(world: &World) -> Seen {
    let mut stores = Stores::new(world);
    let first = State { store: 0, actors: [Actor::waking(), Actor::at_first(world)], early: 0 };
    let mut known: BTreeSet<u128> = BTreeSet::from([hash(&first)]);
    let mut came: Vec<(usize, Move)> = vec![(0, Move::Crash)];
    let mut seen = Seen::default();
    let mut level = vec![(first, 0)];
    while !level.is_empty() && seen.broken.is_none() {
        let mut next_level = Vec::new();
        for (state, number) in level {
            let nexts = moves(world, &mut stores, &state);
            if nexts.iter().all(|(step, ..)| step.is_fault()) {
                seen.ends += 1;
                let broken = rules::at_rest(world, stores.view(state.store), &state);
                if let Some(broken) = broken.first() {
                    seen.broken.get_or_insert_with(|| story(&came, number, None, broken));
                }
            }
            for (step, next, broken) in nexts {
                if let Some(broken) = broken {
                    seen.broken.get_or_insert_with(|| story(&came, number, Some(step), &broken));
                }
                let place = known.len();
                assert!(place < MOST_STATES, "{} does not end", world.name);
                if known.insert(hash(&next)) {
                    next_level.push((next, place));
                    came.push((number, step));
                }
            }
        }
        level = next_level;
    }
    (seen.states, seen.stores, seen.changes) = (known.len(), stores.len(), stores.changes());
    seen
}

/// Two states that are not the same have two hashes: of a million, with a chance of one in 10^26.
fn hash(state: &State) -> u128 {
    let half = |first: u8| {
        let mut hasher = DefaultHasher::new();
        (first, state).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// How a state is come to.
fn story(came: &[(usize, Move)], mut number: usize, last: Option<Move>, broken: &str) -> String {
    let mut steps: Vec<Move> = last.into_iter().collect();
    while number != 0 {
        let (from, step) = came[number];
        steps.push(step);
        number = from;
    }
    steps.reverse();
    format!("{broken}, after {steps:?}")
}

/// Those that the test command looks at.
const WORLDS: [World; 3] = [
    World::nested("both wait", [Program::Waits, Program::Waits]),
    World::nested("the lower one waits", [Program::Leaves, Program::Waits]),
    World::beside("one waits, one is idle", [Program::Waits, Program::Leaves]),
];

/// Those that take longer.
const MORE_WORLDS: [World; 3] = [
    World::nested("the upper one waits", [Program::Waits, Program::Leaves]),
    World::nested("both work on", [Program::Works, Program::Works]),
    World::beside("one is busy, one waits", [Program::Works, Program::Waits]),
];

fn every_state_of(worlds: &[World]) {
    std::thread::scope(|scope| {
        for world in worlds {
            scope.spawn(move || {
                let Seen { states, stores, changes, ends, broken } = enumerate(world);
                println!("{}: {states} states, {stores} stores, {changes} changes, {ends} ends", world.name);
                assert_eq!(broken, None, "{}", world.name);
                assert!(ends > 0, "{} never comes to rest", world.name);
            });
        }
    });
}

#[test]
fn every_state_keeps_the_rules() {
    every_state_of(&WORLDS);
}

#[test]
#[ignore = "takes minutes"]
fn every_state_of_more_worlds_keeps_the_rules() {
    every_state_of(&MORE_WORLDS);
}

fn finds(mistake: Mistake, rule: &str) {
    let broken = found(mistake);
    assert!(broken.starts_with(rule), "{mistake:?} is found as {broken}");
}

fn found(mistake: Mistake) -> String {
    let programs = [[Program::Waits; 2], [Program::Leaves; 2]];
    let found = programs.iter().find_map(|programs| {
        let seen = enumerate(&World::small(*programs, mistake));
        seen.broken.map(|broken| (seen.states, broken))
    });
    let (states, broken) = found.unwrap_or_else(|| panic!("{mistake:?} is not found"));
    println!("{mistake:?} is found in {states} states: {broken}");
    broken
}

#[test]
fn a_result_that_is_told_before_its_end_is_committed_is_found() {
    finds(Mistake::ToldBeforeCommit, "I2: a result is taken before it is committed");
}

#[test]
fn a_result_that_is_taken_before_its_entry_is_committed_is_found() {
    finds(Mistake::TakenBeforeCommit, "I2: the result of run");
}

#[test]
fn a_result_that_is_queued_twice_is_found() {
    finds(Mistake::QueuedTwice, "I2: a result is queued twice");
}

#[test]
fn a_session_that_nobody_wakes_is_found() {
    finds(Mistake::NotWoken, "I3: the result of run");
}

#[test]
fn a_child_that_is_opened_after_its_end_is_found() {
    let broken = found(Mistake::OpenedAfterItsEnd);
    assert!(broken.contains("is refused: no result of run"), "{broken}");
}
