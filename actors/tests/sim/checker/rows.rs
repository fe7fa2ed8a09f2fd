//! I6, I7, I8, audit, transcripts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{Cause, Event, Op, Storage};
use offshoot_actors::types::{Entry, RunId, SessionKey, StoredEntry, Usage};

use super::{Facts, store_text};
use crate::history::What;

pub fn check(facts: &Facts<'_>, broken: &mut Vec<String>) {
    tools(facts, broken);
    usage(facts, broken);
    results(facts, broken);
    if store_text(&MemoryStorage::replay(&facts.log)) != store_text(&facts.played.store) {
        broken.push("I8: the store differs from its replayed log".to_owned());
    }
    audit(facts, broken);
    for (session, entries) in facts.played.store.transcripts() {
        transcript(&session, &entries, broken);
    }
    for record in facts.records {
        if let What::ModelBegan { session, seen, .. } = &record.what {
            transcript(session, seen.entries(), broken);
        }
    }
}

fn tools(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let scenario = &facts.played.scenario;
    for session in facts.sessions.values() {
        let (Some(parent), Some(tools)) = (&session.parent, &session.tools) else { continue };
        let Some(parent) = facts.sessions.get(parent) else {
            broken.push(format!("{} has a parent that never was", session.key));
            continue;
        };
        for tool in &**tools {
            let agent = scenario.settings.agent(&parent.agent);
            let denied = agent.is_some_and(|agent| agent.tools.deny.iter().any(|deny| **deny == **tool));
            let lacks = parent.tools.as_ref().is_some_and(|tools| !tools.contains(tool));
            if denied || lacks {
                broken.push(format!("I6: {} has {tool}, its parent {} has not", session.key, parent.key));
            }
        }
    }
    for record in facts.records {
        let What::ModelBegan { session, tools: offered, .. } = &record.what else { continue };
        let Some(own) = facts.sessions.get(session).and_then(|row| row.tools.as_ref()) else { continue };
        for tool in offered.iter().filter(|tool| !own.contains(tool)) {
            broken.push(format!("I6: {session} is offered {tool}, which it was not given"));
        }
    }
}

fn usage(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for root in facts.sessions.values().filter(|session| session.parent.is_none()) {
        let subtree = facts.subtree(&root.key);
        let sum: Usage =
            facts.rows.values().filter(|row| subtree.contains(&row.session)).map(|row| row.usage).sum();
        let told = runtime.block_on(facts.played.store.subtree_usage(root.key.clone())).unwrap();
        if sum != told {
            broken.push(format!("I7: {} used {sum:?}, the store says {told:?}", root.key));
        }
    }
    for (_, record, event) in facts.events() {
        let Event::Ended { run, usage, .. } = event else { continue };
        if record.life == facts.last_life() && facts.rows.get(run).is_some_and(|row| row.usage != *usage) {
            broken.push(format!("I7: run {run} is told to have used {usage:?}"));
        }
    }
}

/// A result tells of no more than the runs of its session and of those below have used, and of no less than those of
/// its session and what was told to that session.
fn results(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let mut used: BTreeMap<RunId, Usage> = BTreeMap::new();
    let mut ended: BTreeMap<&SessionKey, Usage> = BTreeMap::new();
    let mut told: BTreeMap<RunId, (&SessionKey, Usage)> = BTreeMap::new();
    let mut taken: BTreeMap<&SessionKey, BTreeMap<&SessionKey, Usage>> = BTreeMap::new();
    // Those that a session has outlived on its way up told of it while it was below them.
    let mut ever: BTreeSet<(&SessionKey, &SessionKey)> = BTreeSet::new();
    let mut left: BTreeSet<SessionKey> = BTreeSet::new();
    for op in facts.log.iter().flatten() {
        match op {
            Op::CreateSession(row) => ever.extend(row.parent.as_ref().map(|parent| (parent, &row.key))),
            Op::MoveSession { session, from, to } => {
                ever.extend(to.as_ref().map(|parent| (parent, session)));
                left.extend(reach(from, |of| {
                    ever.iter().filter(|(_, child)| *child == of).map(|(up, _)| *up).collect()
                }));
            }
            Op::RecordStep { run, usage, .. } => _ = used.insert(*run, *usage),
            Op::EndRun(end) => {
                used.insert(end.run, end.usage);
                if let Some(row) = facts.rows.get(&end.run) {
                    *ended.entry(&row.session).or_default() += end.usage;
                }
            }
            Op::TakeAnnounces { session, runs, .. } => {
                for (child, usage) in runs.iter().filter_map(|run| told.remove(run)) {
                    taken.entry(session).or_default().insert(child, usage);
                }
            }
            Op::QueueAnnounce(announce) => {
                let item = &announce.item;
                let below = reach(&item.session, |of| {
                    ever.iter().filter(|(up, _)| *up == of).map(|(_, child)| *child).collect()
                });
                let inside =
                    |run: &RunId| facts.rows.get(run).is_some_and(|row| below.contains(&row.session));
                let most: Usage = used.iter().filter(|(run, _)| inside(run)).map(|(_, usage)| *usage).sum();
                let own = ended.get(&item.session).copied().unwrap_or_default();
                let least =
                    own + taken.get(&item.session).into_iter().flat_map(BTreeMap::values).copied().sum();
                let least = if left.contains(&item.session) { own } else { least };
                if item.usage.total() < least.total() || item.usage.total() > most.total() {
                    broken.push(format!(
                        "I7: the result of run {} tells of {:?}, not of {least:?} to {most:?}",
                        item.run, item.usage
                    ));
                }
                told.insert(item.run, (&item.session, item.usage));
            }
            _ => {}
        }
    }
}

/// All that is reached from a session by these steps, itself too.
fn reach<'a>(
    from: &'a SessionKey,
    next: impl Fn(&SessionKey) -> Vec<&'a SessionKey>,
) -> BTreeSet<SessionKey> {
    let mut found = BTreeSet::new();
    let mut todo = vec![from];
    while let Some(key) = todo.pop() {
        if found.insert(key.clone()) {
            todo.extend(next(key));
        }
    }
    found
}

fn audit(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let audit = facts.played.store.audit();
    let accepted: BTreeSet<_> =
        audit.iter().filter(|line| line.event == "spawn.accepted").filter_map(|line| line.run).collect();
    let spawned: BTreeSet<_> =
        facts.rows.values().filter(|row| row.cause == Cause::Spawn).map(|row| row.id).collect();
    if accepted != spawned {
        broken.push("the audit record and the accepted spawns differ".to_owned());
    }
    let faults = facts.played.lives.len() > 1
        || facts
            .records
            .iter()
            .any(|record| matches!(record.what, What::Full | What::Panic { actor: "store" | "root", .. }));
    let refused = audit.iter().filter(|line| line.event == "spawn.refused").count();
    let told = facts.events().filter(|(_, _, event)| matches!(event, Event::Refused { .. })).count();
    if !faults && refused != told {
        broken.push(format!("{told} spawns were refused, the audit record has {refused}"));
    }
}

/// No gaps, and results stand right behind the answer that asked for them.
fn transcript(session: &SessionKey, entries: &[Arc<StoredEntry>], broken: &mut Vec<String>) {
    let mut asked: BTreeSet<&str> = BTreeSet::new();
    for (index, stored) in entries.iter().enumerate() {
        if stored.seq != index as u64 {
            broken.push(format!("{session}: entry {} stands at {index}", stored.seq));
        }
        match &stored.entry {
            Entry::Assistant { tool_calls, .. } => {
                asked = tool_calls.iter().map(|call| &*call.id).collect();
            }
            Entry::ToolResult { call, .. } => {
                if !asked.remove(&**call) {
                    broken.push(format!(
                        "{session}: entry {index} is a result of {call:?} that nothing asked for"
                    ));
                }
            }
            // An answer whose run ended before its tools did keeps calls without results.
            _ => asked.clear(),
        }
    }
}
