//! What a scenario came to, without what may differ from one process to the next.

use std::collections::{BTreeMap, BTreeSet};

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{Cause, RunRow, RunState};
use offshoot_actors::types::{Entry, RunId, SessionKey, Terminal};

use super::scenarios::{Middle, STEER, Scenario};
use crate::rig::{Rig, brief, items, main_key, texts};

/// How it ended: in which portions results were taken while nobody waited for them is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// State and text of every run that somebody asked for.
    runs: Vec<String>,
    /// The results that a session has, by its depth.
    results: Vec<String>,
    /// What clients said to the main session.
    said: Vec<String>,
    /// How many sessions were kept.
    sessions: usize,
}

fn depths(storage: &MemoryStorage) -> BTreeMap<SessionKey, u32> {
    let all = storage.all_sessions().into_iter().chain(storage.deleted_sessions());
    all.map(|session| (session.key, session.depth)).collect()
}

pub fn ends(rig: &Rig) -> Ends {
    let (rows, depths) = (rig.storage.all_runs(), depths(&rig.storage));
    let brief_run = |row: &RunRow| {
        let text = row.outcome.as_ref().and_then(|outcome| outcome.text.as_deref()).unwrap_or_default();
        format!("{} {} {text}", depths[&row.session], row.state.as_str())
    };
    let asked = rows.iter().filter(|row| row.cause != Cause::Announce);
    let mut runs: Vec<String> = asked.clone().map(brief_run).collect();
    let asked: BTreeSet<RunId> = asked.map(|row| row.id).collect();
    let mut results = Vec::new();
    let transcripts = rig.storage.transcripts();
    for (key, transcript) in &transcripts {
        let items = items(transcript).into_iter().filter(|item| asked.contains(&item.run));
        results.extend(items.map(|item| format!("{} {}", depths[key], brief(&item))));
    }
    runs.sort();
    results.sort();
    let said = transcripts.get(&main_key()).map(|transcript| texts(transcript)).unwrap_or_default();
    Ends { runs, results, said, sessions: transcripts.len() }
}

/// All that stands in a store.
pub fn stored(storage: &MemoryStorage) -> String {
    format!(
        "{:?}{:?}{:?}{:?}{:?}{:?}",
        storage.all_sessions(),
        storage.all_runs(),
        storage.transcripts(),
        storage.outbox(),
        storage.tool_rows(),
        storage.steers()
    )
}

/// Whether going on from `from` may come to `found`; `wanted` is what the undisturbed scenario came to without and with what
/// the client does later.
pub fn prefix_allows(scenario: &Scenario, from: &MemoryStorage, wanted: &[Ends], found: &Ends) -> bool {
    match scenario.middle {
        Middle::Nothing => wanted[1] == *found,
        Middle::Steer => wanted[usize::from(was_said(from))] == *found,
        // A cancel is carried out from the leaves up, and its first trace is the end of one of them. Until the run itself has
        // ended, nobody knows of it after a kill: the run goes on, and is told what has been cancelled below it. A client
        // that asks again may come too late for that.
        Middle::Cancel { again } => {
            let cancelled = |row: &RunRow| row.state == RunState::Ended(Terminal::Cancelled);
            let rows = from.all_runs();
            if rows.iter().any(|row| row.session == main_key() && !row.state.is_open()) {
                // The end of the run stands, whichever it is.
                let end = rows.iter().find(|row| row.session == main_key()).map(|row| row.state.as_str());
                found.runs[0].split(' ').nth(1) == end
            } else if rows.iter().any(cancelled) {
                again
                    || found.runs[0] == "0 ok cancelled:,ok:one()"
                    || found.runs[0] == "0 ok cancelled:,cancelled:"
            } else {
                *found == wanted[usize::from(again)] || (again && *found == wanted[0])
            }
        }
    }
}

fn was_said(from: &MemoryStorage) -> bool {
    let taken = from
        .transcripts()
        .get(&main_key())
        .is_some_and(|entries| texts(entries).iter().any(|text| text == STEER));
    taken || !from.steers().is_empty()
}

/// Whoever has results has said something after them, unless its run was ended from outside.
pub fn check_worked_on(scenario: &Scenario, rig: &Rig, at: &str) {
    let rows = rig.storage.all_runs();
    for (key, transcript) in rig.storage.transcripts() {
        let Some(last) = transcript.iter().rposition(|entry| matches!(entry.entry, Entry::Announce { .. }))
        else {
            continue;
        };
        let by = transcript[last].run;
        let ended_well = |row: &RunRow| Some(row.id) == by && row.state == RunState::Ended(Terminal::Ok);
        let answered = transcript[last..].iter().any(|entry| matches!(entry.entry, Entry::Assistant { .. }));
        let cut = by.is_none() || !rows.iter().any(ended_well);
        let cancels = matches!(scenario.middle, Middle::Cancel { .. });
        assert!(
            answered || (cancels && cut),
            "{} {at}: I3: {key} never worked on its results",
            scenario.name
        );
    }
}
