//! I2 and I3: results arrive once, are worked on, and whoever waits wakes once.

use std::collections::{BTreeMap, BTreeSet};

use offshoot_actors::Delivery;
use offshoot_actors::ports::{Cause, Op, RunRow, RunState};
use offshoot_actors::types::{Entry, Outcome, RunId, SessionKey, Terminal};

use super::Facts;
use crate::history::{Ask, What};

pub fn check(facts: &Facts<'_>, broken: &mut Vec<String>) {
    appended_once(facts, broken);
    at_rest(facts, broken);
    worked_on(facts, broken);
    waits(facts, broken);
}

fn silent(outcome: &Outcome) -> bool {
    let text = outcome.text.as_deref().unwrap_or_default().trim();
    outcome.state == Terminal::Ok && (text == "ANNOUNCE_SKIP" || text.eq_ignore_ascii_case("NO_REPLY"))
}

fn announces(row: &RunRow) -> bool {
    row.announce_to.is_some()
        && row.expects_completion
        && row.outcome.as_ref().is_some_and(|outcome| !silent(outcome))
}

fn appended_once(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let transcripts = facts.played.store.transcripts();
    let mut appended: BTreeMap<(SessionKey, RunId), u32> = BTreeMap::new();
    for (session, entries) in &transcripts {
        for stored in entries {
            let Entry::Announce { items } = &stored.entry else { continue };
            for item in items {
                *appended.entry((session.clone(), item.run)).or_default() += 1;
                let outcome = facts.rows.get(&item.run).and_then(|row| row.outcome.as_ref());
                if outcome.is_none_or(|outcome| (outcome.state, &outcome.text) != (item.state, &item.text)) {
                    broken.push(format!("I2: {session} got {item:?}, but that run ended as {outcome:?}"));
                }
            }
        }
    }
    for row in facts.rows.values() {
        let Some(parent) = row.announce_to.clone() else { continue };
        if !transcripts.contains_key(&parent) {
            continue;
        }
        let count = appended.remove(&(parent.clone(), row.id)).unwrap_or(0);
        let wanted = u32::from(announces(row));
        if count != wanted {
            broken.push(format!(
                "I2: the result of run {} ({:?}) stands {count} times in {parent}, not {wanted}",
                row.id,
                row.outcome.as_ref().map(|outcome| outcome.state)
            ));
        }
    }
    for ((session, run), _) in appended {
        broken.push(format!("I2: {session} got the result of run {run}, which is not for it"));
    }
}

fn at_rest(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let store = &facts.played.store;
    for row in store.outbox().into_iter().filter(|row| row.delivery == Delivery::Open) {
        broken.push(format!("I3: the result of run {} waits at rest", row.run));
    }
    // What was for a parent that went away is there for people to see, and nothing else is.
    let wanted = facts.rows.values().filter(|row| row.announce_to.is_none() && row.expects_completion);
    let wanted = wanted.filter(|row| row.outcome.as_ref().is_some_and(|outcome| !silent(outcome)));
    let wanted: BTreeSet<RunId> = wanted.map(|row| row.id).collect();
    let left = store.outbox().into_iter().filter(|row| row.delivery == Delivery::Abandoned);
    let left: BTreeSet<RunId> = left.map(|row| row.run).collect();
    for run in wanted.symmetric_difference(&left) {
        let there = if left.contains(run) { "is kept for nobody" } else { "is lost, its receiver went away" };
        broken.push(format!("I2: the result of run {run} {there}"));
    }
    for steer in store.steers() {
        broken.push(format!("I3: steering message {} of {} waits at rest", steer.id, steer.session));
    }
    for session in store.all_sessions() {
        if let Some(run) = session.yielded {
            broken.push(format!("I3: {} still waits in run {run} at rest", session.key));
        }
    }
}

/// Results that nobody has to be quiet about are seen by a model, unless the run that took them ended before.
fn worked_on(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let quiet: BTreeSet<RunId> = facts
        .log
        .iter()
        .flatten()
        .filter_map(|op| match op {
            Op::QueueAnnounce(announce) if announce.quiet => Some(announce.item.run),
            _ => None,
        })
        .collect();
    let mut seen: BTreeMap<RunId, u64> = BTreeMap::new();
    let mut stopped: BTreeSet<SessionKey> = BTreeSet::new();
    for record in facts.records {
        match &record.what {
            What::ModelBegan { run, seen: transcript, .. } => {
                seen.insert(*run, transcript.next_seq());
            }
            What::Asked { ask: Ask::Stop(session), .. } => stopped.extend(facts.subtree(session)),
            _ => {}
        }
    }
    // A cancel or a deadline stops the sessions that the run spawned.
    for row in facts.rows.values() {
        let spawner = row.spawner.and_then(|run| facts.rows.get(&run)?.outcome.as_ref());
        if spawner.is_some_and(|outcome| matches!(outcome.state, Terminal::Cancelled | Terminal::Timeout)) {
            stopped.extend(facts.subtree(&row.session));
        }
    }
    for (session, entries) in facts.played.store.transcripts() {
        for stored in entries {
            let Entry::Announce { items } = &stored.entry else { continue };
            let loud = items.iter().any(|item| !quiet.contains(&item.run));
            let worked = stored.run.is_some_and(|run| {
                let well = facts.rows.get(&run).and_then(|row| row.outcome.as_ref());
                seen.get(&run).is_some_and(|next| *next > stored.seq)
                    || well.is_some_and(|outcome| outcome.state != Terminal::Ok)
            });
            if loud && !worked && !stopped.contains(&session) {
                let runs: Vec<_> = items.iter().map(|item| item.run).collect();
                broken.push(format!("I3: {session} never worked on the results of {runs:?}"));
            }
        }
    }
}

/// A run that waits goes on once, when no child of its session is open.
fn waits(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let mut open: BTreeMap<RunId, Option<SessionKey>> = BTreeMap::new();
    let mut state: BTreeMap<RunId, RunState> = BTreeMap::new();
    let mut announce_after: Vec<RunId> = Vec::new();
    // Those that may go on: what somebody else spawns below them just then is too late to be waited for.
    let mut may: BTreeSet<RunId> = BTreeSet::new();
    let session = |run: &RunId| facts.rows.get(run).map(|row| &row.session);
    let spawned_in =
        |child: &RunId| facts.rows.get(child).and_then(|row| row.spawner.as_ref()).and_then(session);
    for transaction in &facts.log {
        for op in transaction {
            match op {
                // A child that goes on with results of its own may do so just as its parent stops to wait for it.
                Op::InsertRun(row) if row.cause == Cause::Spawn => {
                    open.insert(row.id, row.announce_to.clone());
                }
                Op::MoveSession { session, from, to } => {
                    for (run, receiver) in &mut open {
                        let of = facts.rows.get(run).is_some_and(|row| row.session == *session);
                        if of && receiver.as_ref() == Some(from) {
                            receiver.clone_from(to);
                        }
                    }
                }
                Op::EndRun(end) => {
                    open.remove(&end.run);
                    state.remove(&end.run);
                }
                Op::YieldRun { run } => {
                    state.insert(*run, RunState::Yielded);
                    may.remove(run);
                }
                Op::StartRun { run, .. } => {
                    let Some(RunState::Yielded) = state.insert(*run, RunState::Running) else {
                        if announce_after.contains(run) {
                            broken.push(format!("I3: run {run} goes on twice after one wait"));
                        }
                        continue;
                    };
                    announce_after.push(*run);
                    let late = |child: &RunId| may.contains(run) && spawned_in(child) != session(run);
                    let waits_for: Vec<_> = open
                        .iter()
                        .filter(|(child, to)| to.is_some() && to.as_ref() == session(run) && !late(child))
                        .collect();
                    if !waits_for.is_empty() {
                        broken.push(format!("I3: run {run} goes on while {waits_for:?} are open"));
                    }
                }
                _ => {}
            }
            let waiting = state.iter().filter(|(_, state)| **state == RunState::Yielded);
            may.extend(waiting.map(|(run, _)| *run).filter(|run| {
                open.values().all(|receiver| receiver.is_none() || receiver.as_ref() != session(run))
            }));
        }
    }
}
