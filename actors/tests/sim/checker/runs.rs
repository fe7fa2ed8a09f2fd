//! I1, I9, I11, I14: what becomes of an accepted run, and in which order it is told.

use std::collections::{BTreeMap, BTreeSet};

use offshoot_actors::policy::recovery::QUARANTINED;
use offshoot_actors::ports::{Cause, Event, Host};
use offshoot_actors::types::{RecoveryMode, RunId, Terminal};

use super::Facts;
use crate::faults::ON_PURPOSE;
use crate::history::{Ask, Heard, What};

/// More panics of a session or of the manager within a minute than it survives. Counted for all sessions
/// together, which errs on the side of silence.
const SESSION_SURVIVES: usize = 5;
const MANAGER_SURVIVES: usize = 10;

pub fn check(facts: &Facts<'_>, broken: &mut Vec<String>) {
    answers(facts, broken);
    ends(facts, broken);
    order(facts, broken);
    reasons(facts, broken);
    models(facts, broken);
    repeats(facts, broken);
}

/// What was acknowledged is stored as it was acknowledged.
fn answers(facts: &Facts<'_>, broken: &mut Vec<String>) {
    for record in facts.records {
        match &record.what {
            What::Answered { heard: Heard::Spawned(accepted), .. } => {
                let Some(row) = facts.rows.get(&accepted.run) else {
                    broken.push(format!("I13: accepted spawn {} is not stored", accepted.run));
                    continue;
                };
                let session = facts.sessions.get(&accepted.session);
                let same = row.session == accepted.session
                    && row.model == accepted.model
                    && row.timeout == accepted.timeout
                    && row.expects_completion == accepted.expects_completion
                    && session.is_some_and(|session| {
                        session.depth == accepted.depth
                            && session.agent == accepted.agent
                            && session.mode == accepted.mode
                            && session.tools.as_ref() == Some(&accepted.tools)
                    });
                if !same {
                    broken.push(format!("I14: spawn {} is not stored as it was accepted", accepted.run));
                }
            }
            What::Answered { heard: Heard::Submitted(submitted), .. } => {
                match facts.rows.get(&submitted.run) {
                    None => broken.push(format!("I13: accepted message {} is not stored", submitted.run)),
                    Some(row) if row.model != submitted.model || row.session != submitted.session => {
                        broken.push(format!("I14: run {} is not stored as accepted", submitted.run));
                    }
                    Some(_) => {}
                }
            }
            _ => {}
        }
    }
}

fn ends(facts: &Facts<'_>, broken: &mut Vec<String>) {
    for row in facts.rows.values().filter(|row| row.state.is_open() || row.outcome.is_none()) {
        broken.push(format!("I1: run {} is {} at rest", row.id, row.state.as_str()));
    }
    let mut told: BTreeMap<(usize, RunId), u32> = BTreeMap::new();
    for (_, record, event) in facts.events() {
        let Event::Ended { run, outcome, .. } = event else { continue };
        *told.entry((record.life, *run)).or_default() += 1;
        match facts.rows.get(run).and_then(|row| row.outcome.as_ref()) {
            Some(stored) if stored == outcome => {}
            stored => {
                broken.push(format!("I1: run {run} was told to end as {outcome:?}, stored is {stored:?}"))
            }
        }
    }
    for ((life, run), count) in told.iter().filter(|(_, count)| **count > 1) {
        broken.push(format!("I1: the end of run {run} was told {count} times in process {life}"));
    }
    let last = facts.last_life();
    for run in facts.rows.keys().filter(|run| !facts.played.lives[last].ended_before.contains(run)) {
        if !told.contains_key(&(last, *run)) {
            broken.push(format!("I1: the end of run {run} was never told"));
        }
    }
}

fn order(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let mut begun = BTreeSet::new();
    let mut over = BTreeSet::new();
    let mut early = BTreeSet::new();
    for (_, record, event) in facts.events() {
        let Some(run) = event.run() else {
            if let Event::Announced { session, runs } = event {
                for run in runs.iter().filter(|run| {
                    !over.contains(*run) && !facts.played.lives[record.life].ended_before.contains(run)
                }) {
                    broken.push(format!("I9: {session} has the result of run {run} before its end was told"));
                }
            }
            continue;
        };
        let first = matches!(event, Event::Spawned { .. } | Event::Submitted { .. });
        if first && (!begun.insert(run) || early.contains(&run)) {
            broken
                .push(format!("I9: run {run} was told twice to be accepted, or after something else of it"));
        }
        // A later process ends or goes on with what an earlier one accepted and perhaps never told of.
        let goes_on = facts.played.scenario.host == Host::Daemon;
        let left_behind = record.life > 0 && (goes_on || matches!(event, Event::Ended { .. }));
        if !begun.contains(&run) {
            early.insert(run);
            if !left_behind {
                broken.push(format!("I9: {event:?} comes before run {run} was accepted"));
            }
        }
        if over.contains(&run) && !matches!(event, Event::Ended { .. }) {
            broken.push(format!("I9: {event:?} comes after the end of run {run}"));
        }
        if matches!(event, Event::Ended { .. }) {
            over.insert(run);
        }
    }
}

/// The most panics of this kind of actor within a minute of one process.
fn panics(facts: &Facts<'_>, life: usize, kind: &str) -> usize {
    let times: Vec<i64> = facts
        .records
        .iter()
        .filter(|record| {
            record.life == life && matches!(&record.what, What::Panic { actor, .. } if *actor == kind)
        })
        .map(|record| record.at.0)
        .collect();
    times
        .iter()
        .map(|from| times.iter().filter(|at| (*from..=*from + 60_000).contains(*at)).count())
        .max()
        .unwrap_or(0)
}

fn reasons(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let accepted_in: BTreeMap<RunId, usize> = facts
        .events()
        .filter(|(_, _, event)| matches!(event, Event::Spawned { .. } | Event::Submitted { .. }))
        .filter_map(|(_, record, event)| Some((event.run()?, record.life)))
        .collect();
    for (_, record, event) in facts.events() {
        let Event::Ended { run, outcome, .. } = event else { continue };
        let reason = outcome.reason.as_deref().unwrap_or_default();
        // A rebuild that the store cannot serve counts like one more panic.
        let unread = panics(facts, record.life, "store");
        let manager_fell = panics(facts, record.life, "sessions") + unread > MANAGER_SURVIVES;
        let session_fell = panics(facts, record.life, "session") > SESSION_SURVIVES;
        let full =
            facts.records.iter().any(|other| other.life == record.life && matches!(other.what, What::Full));
        let store_fell = panics(facts, record.life, "store") > 0;
        let allowed = match outcome.state {
            Terminal::Crashed => {
                reason.starts_with("injected fault in run")
                    || reason.ends_with(ON_PURPOSE)
                    || (reason.starts_with("its session failed")
                        && (session_fell || manager_fell || store_fell))
            }
            Terminal::Interrupted if facts.played.scenario.host == Host::Daemon => {
                let asked = facts.rows.get(run).and_then(|row| row.recovery);
                let earlier = accepted_in.get(run).is_none_or(|life| *life < record.life);
                let spawn_says =
                    asked == Some(RecoveryMode::Interrupt) && reason.contains("its spawn says not to resume");
                // A manager that fell is a start, too.
                reason.starts_with(QUARANTINED) || ((earlier || manager_fell) && spawn_says)
            }
            Terminal::Interrupted => {
                manager_fell || accepted_in.get(run).is_none_or(|life| *life < record.life)
            }
            Terminal::Error if reason.contains("the store") => full || store_fell,
            _ => true,
        };
        if !allowed {
            broken.push(format!(
                "I11: run {run} ended as {} for no reason of its own: {reason}",
                outcome.state
            ));
        }
    }
}

fn models(facts: &Facts<'_>, broken: &mut Vec<String>) {
    for record in facts.records {
        let What::ModelBegan { run, model, .. } = &record.what else { continue };
        // A run that a crash cut off before anybody heard of it is in no store.
        let Some(row) = facts.rows.get(run) else { continue };
        if row.model.primary != *model && !row.model.fallbacks.contains(model) {
            broken.push(format!("I14: run {run} calls {model}, accepted was {:?}", row.model));
        }
    }
    for row in facts.rows.values() {
        if let Some(used) = &row.model_used
            && row.model.primary != *used
            && !row.model.fallbacks.contains(used)
        {
            broken.push(format!("I14: run {} records {used}, accepted was {:?}", row.id, row.model));
        }
    }
}

/// One idempotency key is one run.
fn repeats(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let mut keys: BTreeMap<u64, String> = BTreeMap::new();
    let mut runs: BTreeMap<String, RunId> = BTreeMap::new();
    for record in facts.records {
        match &record.what {
            What::Asked { number, ask } => {
                let key = match ask {
                    Ask::Spawn(request, _) => request.idempotency.as_ref(),
                    Ask::Submit(request) => request.idempotency.as_ref(),
                    _ => None,
                };
                keys.extend(key.map(|key| (*number, key.key.clone())));
            }
            What::Answered { number, heard } => {
                let run = match heard {
                    Heard::Spawned(accepted) => accepted.run,
                    Heard::Submitted(submitted) => submitted.run,
                    _ => continue,
                };
                let Some(key) = keys.get(number) else { continue };
                let first = *runs.entry(key.clone()).or_insert(run);
                if first != run {
                    broken.push(format!("{key:?} was carried out twice, as {first} and as {run}"));
                }
            }
            _ => {}
        }
    }
    let spawns = facts.rows.values().filter(|row| row.cause == Cause::Spawn).count();
    let sessions = facts.sessions.values().filter(|row| row.depth > 0).count();
    if spawns != sessions {
        broken.push(format!("{spawns} spawns made {sessions} sessions"));
    }
}
