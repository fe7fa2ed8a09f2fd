//! I4: caps, lanes, and fairness between parents.

use std::collections::BTreeMap;

use offshoot_actors::ports::{Cause, Event, Op};
use offshoot_actors::types::{RunId, SessionKey, Timestamp};

use super::Facts;
use crate::history::What;

/// From the answer to a spawn until its run stands in the lane, and from its permit until its start is told.
const LAG: i64 = 1_000;

pub fn check(facts: &Facts<'_>, broken: &mut Vec<String>) {
    caps(facts, broken);
    lanes(facts, broken);
    fairness(facts, broken);
}

fn caps(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let settings = &facts.played.scenario.settings.subagents;
    let mut open: BTreeMap<RunId, (Option<SessionKey>, SessionKey)> = BTreeMap::new();
    let mut children: BTreeMap<SessionKey, u32> = BTreeMap::new();
    let mut descendants: BTreeMap<SessionKey, u32> = BTreeMap::new();
    for transaction in &facts.log {
        for op in transaction {
            match op {
                Op::InsertRun(row) if row.cause == Cause::Spawn => {
                    let (Some(parent), Some(session)) = (&row.announce_to, facts.sessions.get(&row.session))
                    else {
                        broken.push(format!("spawn {} has no parent or no session", row.id));
                        continue;
                    };
                    open.insert(row.id, (Some(parent.clone()), session.root.clone()));
                    for (counts, key, max, what) in [
                        (&mut children, parent, settings.max_children, "children"),
                        (&mut descendants, &session.root, settings.max_descendants, "descendants"),
                    ] {
                        let count = counts.entry(key.clone()).or_default();
                        *count += 1;
                        if *count > max {
                            broken.push(format!("I4: {key} has {count} open {what}, {max} are allowed"));
                        }
                    }
                }
                // Who gets a child by this is not allowed to spawn before it has fewer.
                Op::MoveSession { session, to, .. } => {
                    let moved = open
                        .iter_mut()
                        .filter(|(run, _)| facts.rows.get(run).is_some_and(|row| row.session == *session));
                    for (_, (parent, _)) in moved {
                        if let Some(former) = parent {
                            *children.get_mut(former).unwrap() -= 1;
                        }
                        parent.clone_from(to);
                        if let Some(heir) = to {
                            *children.entry(heir.clone()).or_default() += 1;
                        }
                    }
                }
                Op::EndRun(end) => {
                    if let Some((parent, root)) = open.remove(&end.run) {
                        if let Some(parent) = parent {
                            *children.get_mut(&parent).unwrap() -= 1;
                        }
                        *descendants.get_mut(&root).unwrap() -= 1;
                    }
                }
                _ => {}
            }
        }
    }
}

fn lanes(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let lanes = facts.played.scenario.settings.lanes;
    let mut calls: BTreeMap<u64, bool> = BTreeMap::new();
    for record in facts.records {
        match &record.what {
            What::Life(_) => calls.clear(),
            What::ModelBegan { call, session, run, .. } => {
                let main = !session.is_subagent();
                calls.insert(*call, main);
                let now = calls.values().filter(|other| **other == main).count();
                let limit = if main { lanes.main } else { lanes.subagent } as usize;
                if now > limit {
                    broken.push(format!("I4: {now} model calls at once with {run}, the lane takes {limit}"));
                }
            }
            What::ModelAnswered { call, .. }
            | What::ModelFailed { call, .. }
            | What::ModelDropped { call, .. } => {
                calls.remove(call);
            }
            _ => {}
        }
    }
}

#[derive(Debug)]
struct Child {
    parent: SessionKey,
    queued: Timestamp,
    started: Option<Timestamp>,
}

/// While a parent has a child in the lane, no other parent gets more than one turn more than it does. A later run
/// of a child, on a message or on results, takes a turn of its parent like a spawn. Where an actor panicked or the
/// store refused, queues are built anew, and what was before does not count.
fn fairness(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let mut parents: BTreeMap<SessionKey, Vec<SessionKey>> = BTreeMap::new();
    for (life, played) in facts.played.lives.iter().enumerate() {
        // What an earlier process had begun goes on ahead of what has not.
        let resumed = &played.begun_before;
        let mut children: BTreeMap<RunId, Child> = BTreeMap::new();
        let mut faults = Vec::new();
        let mut begun: BTreeMap<RunId, (Vec<SessionKey>, i64)> = BTreeMap::new();
        for record in facts.records.iter().filter(|record| record.life == life) {
            match &record.what {
                What::Event(Event::Moved { session, from, to }) => {
                    let now = to.clone().unwrap_or_else(|| session.clone());
                    parents.entry(session.clone()).or_insert_with(|| vec![from.clone()]).push(now);
                }
                What::Event(Event::Spawned { parent, child, .. }) => {
                    parents.insert(child.session.clone(), vec![parent.clone()]);
                    let (parent, queued) = (parent.clone(), record.at);
                    children.insert(child.run, Child { parent, queued, started: None });
                }
                What::Event(Event::Started { run, .. }) if resumed.contains(run) => {}
                What::Event(Event::Started { session, run }) => {
                    let row = facts.sessions.get(session).filter(|row| row.depth > 0);
                    let parent = row.map(|row| row.parent.clone().unwrap_or_else(|| row.key.clone()));
                    // One that has been moved may have queued for its turn as a child of any of them.
                    let all = parents.get(session).cloned().unwrap_or_else(|| parent.into_iter().collect());
                    if !all.is_empty() {
                        begun.entry(*run).or_insert((all, record.at.0));
                    }
                    if let Some(child) = children.get_mut(run) {
                        child.started.get_or_insert(record.at);
                    }
                }
                What::Panic { .. } | What::Full => faults.push(record.at.0),
                _ => {}
            }
        }
        // Whose turn one takes that has had several parents depends on when it took it.
        let moves = |run: &RunId| {
            let session = facts.rows.get(run).and_then(|row| facts.sessions.get(&row.session));
            session.is_some_and(|session| session.on_parent_exit.outlives())
        };
        children.retain(|run, _| !moves(run));
        for (run, child) in &children {
            let Some(started) = child.started else { continue };
            let fault = faults.iter().copied().filter(|at| *at <= started.0).max().unwrap_or(0);
            let window = (child.queued.0.max(fault) + LAG)..started.0;
            let mut turns: BTreeMap<&SessionKey, u32> = BTreeMap::new();
            let mut own = 0;
            for (parents, _) in begun.values().filter(|(_, at)| window.contains(at)) {
                if parents.contains(&child.parent) {
                    own += 1;
                } else if let [parent] = parents.as_slice() {
                    *turns.entry(parent).or_default() += 1;
                }
            }
            for (parent, count) in turns {
                if count > own + 2 {
                    broken.push(format!(
                        "fairness: {parent} had {count} turns and {} had {own} while run {run} waited",
                        child.parent
                    ));
                }
            }
        }
    }
}
