//! A daemon that is killed between every two commits: whole scenarios are recorded, and from every commit of each a new
//! daemon starts on what was stored by then. It comes to the end that the undisturbed one came to, also if it is killed once
//! more on the way.

mod ends;
mod scenarios;

use std::sync::Arc;

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{Done, Host, Op, Refused, Storage, Transaction};
use offshoot_actors::types::RunId;

use self::ends::{Ends, ends, prefix_allows};
use self::scenarios::{FIRST, Later, Scenario, script};
use crate::rig::{Rig, Setup, setup};

/// Second kills for each first one.
const SECOND_KILLS: u64 = 2;

impl Scenario {
    fn daemon(&self) -> Setup {
        let mut setup = Setup { host: Host::Daemon, ..setup() }.with(|settings| {
            // Few, so that runs wait in their lane too, and what fills the lanes at the end is soon done.
            (settings.lanes.main, settings.lanes.subagent) = (1, 2);
            settings.subagents.max_children = 4;
            // Runs are at work at each of these kills, and not to blame.
            settings.recovery.max_attempts = 10;
        });
        (self.settings)(&mut setup.settings);
        #[cfg(feature = "faults")]
        {
            setup.faults = self.faults.clone();
        }
        setup
    }

    /// Plays it from here to where all is quiet.
    async fn play(&self, storage: &Arc<MemoryStorage>, seed: u64, later: Later) -> Rig {
        let known = first_run(storage);
        let rig = self.daemon().on(storage, seed).start(script).await;
        let run = match known {
            Some(run) => run,
            None => self.ask(&rig).await,
        };
        self.later(&rig, run, later).await;
        rig.quiet().await;
        if known.is_some() {
            self.ask_again(&rig, run).await;
        }
        rig
    }

    /// A client that asks a second time gets the first answer, and nothing comes of it.
    async fn ask_again(&self, rig: &Rig, run: RunId) {
        let commits = rig.storage.commits();
        assert_eq!(self.ask(rig).await, run, "{}", self.name);
        rig.quiet().await;
        let log = rig.storage.log().split_off(commits as usize);
        assert!(log.is_empty(), "{}: a repeated request leads to {log:#?}", self.name);
    }
}

/// The run that the client asked for.
fn first_run(storage: &MemoryStorage) -> Option<RunId> {
    storage.requests().into_iter().find(|(name, ..)| name.key == FIRST).map(|(_, _, run)| run)
}

fn submit(storage: &MemoryStorage, transaction: Transaction) -> Result<(), Refused> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let done: Done = Box::new(move |result| sender.send(result).unwrap());
    storage.submit(transaction, done);
    receiver.recv().unwrap()
}

/// Whatever is delivered a second time is refused, and leaves no trace: results and messages are put on their way once and
/// taken once, runs end once, tools start once.
fn takes_nothing_twice(scenario: &Scenario, storage: &MemoryStorage) -> usize {
    let copy = storage.snapshot();
    let is_once = |op: &&Op| {
        matches!(
            op,
            Op::CreateSession(_)
                | Op::InsertRun(_)
                | Op::NameRequest { .. }
                | Op::Append { .. }
                | Op::StartTools { .. }
                | Op::FinishTool { .. }
                | Op::EndRun(_)
                | Op::QueueAnnounce(_)
                | Op::TakeAnnounces { .. }
                | Op::TakeSteers { .. }
        )
    };
    let mut tried = 0;
    for transaction in storage.log() {
        for op in transaction.iter().filter(is_once) {
            // A session that is gone by now may be made anew, by name alone.
            let deleted = |row: &offshoot_actors::ports::SessionRow| {
                copy.deleted_sessions().iter().any(|gone| gone.key == row.key)
            };
            if matches!(op, Op::CreateSession(row) if deleted(row)) {
                continue;
            }
            let again = submit(&copy, vec![op.clone()]);
            assert!(again.is_err(), "{}: {op:?} is taken twice", scenario.name);
            tried += 1;
        }
    }
    assert_eq!(
        ends::stored(&copy),
        ends::stored(storage),
        "{}: what is refused leaves a trace",
        scenario.name
    );
    tried
}

/// Checks what a daemon came to that went on from `from`, and ends it.
async fn check(scenario: &Scenario, rig: Rig, from: &MemoryStorage, wanted: &[Ends], at: &str) {
    let found = ends(&rig);
    assert!(
        prefix_allows(scenario, from, wanted, &found),
        "{} {at}: {found:#?} instead of {wanted:#?}",
        scenario.name
    );
    ends::check_worked_on(scenario, &rig, at);
    rig.finish().await;
}

#[derive(Debug, Default)]
struct Tried {
    commits: u64,
    starts: u64,
    repeats: usize,
}

async fn kill_between_every_two_commits(scenario: &Scenario) -> Tried {
    let mut wanted = Vec::new();
    let mut recorded = Arc::default();
    // Without what a client does later, too: where that is not stored, it has not happened.
    for later in [Later::Not, Later::First] {
        recorded = Arc::new(MemoryStorage::recording());
        let rig = scenario.play(&recorded, 1, later).await;
        wanted.push(ends(&rig));
        rig.stop().await;
    }
    let mut tried = Tried { commits: recorded.commits(), ..Tried::default() };
    for first in 0..=recorded.commits() {
        let left = recorded.at_commit(first).unwrap();
        tried.repeats += takes_nothing_twice(scenario, &left);
        let storage = Arc::new(left.snapshot());
        let rig = scenario.play(&storage, 1_000 + first, Later::Again).await;
        let last = storage.commits();
        check(scenario, rig, &left, &wanted, &format!("killed after commit {first}")).await;
        tried.starts += 1;
        for nth in 1..=SECOND_KILLS.min(last - first) {
            // Spread over what follows, at other places each time.
            let second = first + 1 + (first * 7 + nth * 13) % (last - first);
            let left = storage.at_commit(second).unwrap();
            let storage = Arc::new(left.snapshot());
            let rig = scenario.play(&storage, 100_000 + 1_000 * first + second, Later::Again).await;
            let at = format!("killed after commit {first} and again after {second}");
            check(scenario, rig, &left, &wanted, &at).await;
            tried.starts += 1;
        }
    }
    tried
}

#[cfg(feature = "faults")]
#[tokio::test(start_paused = true)]
#[should_panic(expected = "a_parent_that_sleeps killed after commit")]
async fn a_result_that_is_taken_before_its_entry_is_committed_is_missed() {
    struct TakenBefore;
    impl offshoot_actors::kit::Faults for TakenBefore {
        fn panics(&self, _: &'static str, _: &'static str) -> bool {
            false
        }
        fn has(&self, bug: offshoot_actors::kit::Bug) -> bool {
            bug == offshoot_actors::kit::Bug::AnnounceTakenBeforeCommit
        }
    }
    let sleeps = scenarios::a_parent_that_sleeps("a_parent_that_sleeps");
    kill_between_every_two_commits(&Scenario { faults: Some(Arc::new(TakenBefore)), ..sleeps }).await;
}

/// One test for each scenario.
macro_rules! scenarios {
    ($($name:ident)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                let scenario = scenarios::$name(stringify!($name));
                let tried = kill_between_every_two_commits(&scenario).await;
                println!(
                    "{}: {} commits, {} starts, {} changes made twice",
                    scenario.name, tried.commits, tried.starts, tried.repeats
                );
            }
        )*
    };
}

scenarios! {
    a_parent_that_is_idle
    a_parent_that_is_in_a_model_call
    a_parent_that_is_in_a_tool
    a_parent_that_sleeps
    a_parent_that_waits
    parents_that_wait_three_deep
    parents_that_sleep_three_deep
    a_child_of_a_client
    children_that_are_deleted
    a_message_to_a_run
    a_message_to_a_run_that_waits
    a_cancel
    a_cancel_that_is_repeated
    a_deadline
}
