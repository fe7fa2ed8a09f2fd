//! I5 and I10: nothing starts in a subtree that was stopped; no tool call is carried out twice.

use std::collections::{BTreeMap, BTreeSet};

use offshoot_actors::ports::Event;
use offshoot_actors::types::RunId;

use super::Facts;
use crate::history::{Ask, Heard, What};
use crate::tools::IDEMPOTENT;

pub fn check(facts: &Facts<'_>, broken: &mut Vec<String>) {
    stopped(facts, broken);
    tools_once(facts, broken);
}

fn stopped(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let mut accepted: Vec<RunId> = Vec::new();
    let mut asked: BTreeMap<u64, BTreeSet<RunId>> = BTreeMap::new();
    let mut dead: BTreeMap<RunId, u64> = BTreeMap::new();
    for record in facts.records {
        match &record.what {
            What::Event(event @ (Event::Spawned { .. } | Event::Submitted { .. })) => {
                accepted.extend(event.run());
            }
            What::Asked { number, ask: Ask::Stop(session) } => {
                let subtree = facts.subtree(session);
                let inside =
                    |run: &&RunId| facts.rows.get(run).is_some_and(|row| subtree.contains(&row.session));
                asked.insert(*number, accepted.iter().filter(inside).copied().collect());
            }
            What::Asked { number, ask: Ask::Cancel(run) } => {
                asked.insert(*number, below(facts, *run, &accepted));
            }
            What::Answered { number, heard: Heard::Stopped(_) } => {
                for run in asked.remove(number).unwrap_or_default() {
                    dead.insert(run, *number);
                }
            }
            What::ModelBegan { run, .. } | What::ToolBegan { run, .. } => {
                if let Some(number) = dead.get(run) {
                    broken.push(format!(
                        "I5: run {run} works after request {number} had stopped it: {}",
                        record.line()
                    ));
                }
            }
            _ => {}
        }
    }
}

/// The run and what it spawned, at any depth, unless it had ended when it was to be cancelled.
fn below(facts: &Facts<'_>, run: RunId, accepted: &[RunId]) -> BTreeSet<RunId> {
    let mut found = BTreeSet::from([run]);
    for run in accepted {
        let row = facts.rows.get(run);
        let spawner = row.and_then(|row| row.spawner);
        let outlives = row
            .and_then(|row| facts.sessions.get(&row.session))
            .is_some_and(|session| session.on_parent_exit.outlives());
        if !outlives && spawner.is_some_and(|spawner| found.contains(&spawner)) {
            found.insert(*run);
        }
    }
    let cancelled = |run: &RunId| {
        let outcome = facts.rows.get(run).and_then(|row| row.outcome.as_ref());
        outcome.is_some_and(|outcome| outcome.state == offshoot_actors::types::Terminal::Cancelled)
    };
    if cancelled(&run) { found } else { BTreeSet::from([run]) }
}

/// What may be repeated is, once for each time that a run is gone on with.
fn tools_once(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let mut begun: BTreeMap<_, u32> = BTreeMap::new();
    let mut started: BTreeMap<RunId, u32> = BTreeMap::new();
    for record in facts.records {
        match &record.what {
            What::Event(Event::Started { run, .. }) => *started.entry(*run).or_default() += 1,
            What::ToolBegan { run, step, call, name, .. } => {
                let times = begun.entry((*run, *step, call)).or_default();
                *times += 1;
                let repeats =
                    IDEMPOTENT.contains(&&**name) && started.get(run).is_some_and(|most| *times <= *most);
                if *times > 1 && !repeats {
                    broken.push(format!(
                        "I10: {call:?} of step {step} of run {run} is carried out {times} times"
                    ));
                }
            }
            _ => {}
        }
    }
}
