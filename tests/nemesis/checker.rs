//! Reads what clients and models saw and what the store holds, and says which promises were broken.
//!
//! The identifiers are those of `docs/guarantees.md`. The checker knows nothing of how the history came about: what it
//! is given by its own tests is as good as what a daemon leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use crate::history::{Event, Run};
use crate::model::Seen;
use crate::plan::STEER;
use crate::store::Snapshot;

#[cfg(test)]
mod tests;

const TERMINAL: [&str; 7] = ["ok", "partial", "timeout", "cancelled", "error", "crashed", "interrupted"];

/// Everything that is known of a system once it is quiet.
#[derive(Debug, Clone, Default)]
pub struct Story {
    pub events: Vec<Event>,
    pub store: Snapshot,
    pub seen: Seen,
    /// How many children of one session may be open at once.
    pub most_children: usize,
}

/// In what way a promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Lost,
    Twice,
    TwoStates,
    RepeatedTool,
    Other,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    pub invariant: &'static str,
    pub kind: Kind,
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.invariant, self.kind, self.what)
    }
}

/// Every promise that the story breaks.
pub fn check(story: &Story) -> Vec<Broken> {
    let mut checker = Checker { story, broken: Vec::new() };
    checker.states();
    checker.acknowledged();
    checker.requests();
    checker.refused();
    checker.results();
    checker.sleepers();
    checker.caps();
    checker.usage();
    checker.tools();
    for wrong in &story.seen.wrong {
        checker.say("I2", Kind::Twice, wrong.clone());
    }
    checker.broken
}

struct Checker<'a> {
    story: &'a Story,
    broken: Vec<Broken>,
}

impl Checker<'_> {
    fn say(&mut self, invariant: &'static str, kind: Kind, what: String) {
        self.broken.push(Broken { invariant, kind, what });
    }

    /// The run that an answer names, by its id.
    fn run_of(&self, run: &Run) -> Option<&str> {
        match run {
            Run::Id(id) => self.story.store.runs.get_key_value(id).map(|(id, _)| id.as_str()),
            Run::Wire(name) => self.wire(name).first().copied(),
        }
    }

    fn wire(&self, name: &str) -> Vec<&str> {
        let named = self.story.store.runs.iter().filter(|(_, run)| run.wire_id.as_deref() == Some(name));
        named.map(|(id, _)| id.as_str()).collect()
    }

    /// I1: each run has one terminal state, and nobody was told of another one.
    fn states(&mut self) {
        for (id, run) in &self.story.store.runs {
            if !TERMINAL.contains(&run.state.as_str()) || run.ended_at.is_none() {
                self.say("I1", Kind::Lost, format!("run {id} is {} when all is quiet", run.state));
            }
        }
        for event in &self.story.events {
            let Event::Told { key, ok } = event else { continue };
            let Some(id) = self.wire(key).first().copied() else { continue };
            let state = &self.story.store.runs[id].state;
            if *ok != matches!(state.as_str(), "ok" | "partial") {
                let what =
                    format!("run {id} of {key} ended {}, and is {state}", if *ok { "well" } else { "badly" });
                self.say("I1", Kind::TwoStates, what);
            }
        }
    }

    /// I13: what was acknowledged, to a client or to a model, is there.
    fn acknowledged(&mut self) {
        for event in &self.story.events {
            if let Event::Accepted { key, run } = event
                && self.run_of(run).is_none()
            {
                self.say("I13", Kind::Lost, format!("{key} was accepted as {run:?}, which does not exist"));
            }
        }
        let known = &self.story.store.runs;
        for id in self.story.seen.spawned.iter().filter(|id| !known.contains_key(*id)) {
            self.say("I13", Kind::Lost, format!("a model was told of run {id}, which does not exist"));
        }
    }

    /// I1: one idempotency key is one run, and one child is one session, however often somebody asked.
    fn requests(&mut self) {
        let mut answers: BTreeMap<&str, BTreeSet<&Run>> = BTreeMap::new();
        for event in &self.story.events {
            if let Event::Accepted { key, run } = event {
                answers.entry(key).or_default().insert(run);
            }
        }
        for (key, runs) in answers.iter().filter(|(_, runs)| runs.len() > 1) {
            self.say("I1", Kind::Twice, format!("{key} was accepted as {runs:?}"));
        }
        let names: BTreeSet<&str> =
            self.story.store.runs.values().filter_map(|run| run.wire_id.as_deref()).collect();
        if names.len() < self.story.store.runs.values().filter(|run| run.wire_id.is_some()).count() {
            let twice = names.into_iter().map(|name| (name, self.wire(name)));
            let twice: Vec<_> = twice.filter(|(_, runs)| runs.len() > 1).collect();
            self.say("I1", Kind::Twice, format!("these requests became more than one run: {twice:?}"));
        }
        for (label, count) in self.story.store.labels.iter().filter(|(_, count)| **count > 1) {
            self.say("I1", Kind::Twice, format!("child {label} was spawned {count} times"));
        }
    }

    /// I13 the other way round: what was refused did not happen.
    fn refused(&mut self) {
        let mut refused: BTreeMap<&str, &str> = BTreeMap::new();
        for event in &self.story.events {
            if let Event::Refused { key, why } = event {
                refused.insert(key, why);
            }
        }
        for event in &self.story.events {
            if let Event::Accepted { key, .. } | Event::Unknown { key } = event {
                refused.remove(key.as_str());
            }
        }
        for (key, why) in refused {
            if !self.wire(key).is_empty() || self.story.store.labels.contains_key(key) {
                self.say("I13", Kind::Other, format!("{key} was refused, and is there all the same: {why}"));
            }
        }
    }

    /// I2: each result that somebody wants is in that session's transcript, once, as the run ended.
    fn results(&mut self) {
        let store = &self.story.store;
        let mut found: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for (key, session) in &store.sessions {
            for (_, entry) in session.entries.iter().filter(|(_, entry)| entry["type"] == "announce") {
                for item in entry["items"].as_array().into_iter().flatten() {
                    let (run, state) = (item["run"].as_str(), item["state"].as_str());
                    found.entry((key, run.unwrap_or_default())).or_default().push(state.unwrap_or_default());
                }
            }
        }
        let wanted = store.runs.iter().filter_map(|(id, run)| Some((id, run, run.announce_to.as_deref()?)));
        for (id, run, parent) in wanted.filter(|(_, _, parent)| store.sessions.contains_key(*parent)) {
            match found.remove(&(parent, id.as_str())).unwrap_or_default().as_slice() {
                [] => self.say("I2", Kind::Lost, format!("the result of run {id} never reached {parent}")),
                [state] if *state != run.state => {
                    self.say(
                        "I2",
                        Kind::TwoStates,
                        format!("{parent} was told that run {id} ended {state}, it is {}", run.state),
                    );
                }
                [_] => {}
                more => self.say(
                    "I2",
                    Kind::Twice,
                    format!("the result of run {id} is in {parent} {} times", more.len()),
                ),
            }
        }
        for (session, run) in found.into_keys() {
            self.say(
                "I2",
                Kind::Twice,
                format!("{session} has a result of run {run}, which nobody sent there"),
            );
        }
    }

    /// I3: nobody waits for nothing, nothing waits to be taken, and whoever waited was told of all its children at once.
    fn sleepers(&mut self) {
        let store = &self.story.store;
        for (run, receiver) in &store.outbox {
            self.say(
                "I3",
                Kind::Lost,
                format!("the result of run {run} waits for {receiver} when all is quiet"),
            );
        }
        for (session, text) in &store.steers {
            self.say("I3", Kind::Lost, format!("a message waits for {session} when all is quiet: {text}"));
        }
        for (key, session) in &store.sessions {
            if let Some(run) = &session.yielded {
                self.say("I3", Kind::Lost, format!("{key} sleeps in run {run}, and nothing will wake it"));
            }
            self.wakes(key, &session.entries);
        }
    }

    /// A run that waited goes on when all children that it had spawned have told their results. One run of a session waits.
    fn wakes(&mut self, key: &str, entries: &[(Option<String>, Value)]) {
        let mut spawned: BTreeMap<Option<&str>, BTreeSet<String>> = BTreeMap::new();
        let mut told: BTreeSet<&str> = BTreeSet::new();
        let mut waits: Option<Option<&str>> = None;
        for (run, entry) in entries {
            let run = run.as_deref();
            match entry["type"].as_str() {
                Some("tool_result") if entry["status"] == "ok" => match entry["name"].as_str() {
                    Some("sessions_spawn") => {
                        let result: Value = serde_json::from_str(entry["text"].as_str().unwrap_or_default())
                            .unwrap_or_default();
                        let child = result["runId"].as_str().filter(|_| result["status"] == "accepted");
                        spawned.entry(run).or_default().extend(child.map(str::to_owned));
                    }
                    // While one waits, another that asks to goes on without.
                    Some("sessions_yield") => waits = waits.or(Some(run)),
                    _ => {}
                },
                Some("announce") => {
                    let items = entry["items"].as_array().into_iter().flatten();
                    told.extend(items.filter_map(|item| item["run"].as_str()));
                    // Results are kept for whoever waits: it has ended if another run has them.
                    if waits.take() == Some(run) {
                        self.has_all(key, spawned.get(&run), &told);
                    }
                }
                Some("assistant") if waits.take_if(|waits| *waits == run).is_some() => {
                    self.has_all(key, spawned.get(&run), &told);
                }
                _ => {}
            }
        }
    }

    fn has_all(&mut self, key: &str, children: Option<&BTreeSet<String>>, told: &BTreeSet<&str>) {
        if let Some(child) = children.into_iter().flatten().find(|child| !told.contains(child.as_str())) {
            self.say("I3", Kind::Other, format!("{key} woke before it had the result of run {child}"));
        }
    }

    /// I4: no session ever had more open children than it may. A child that ended in the moment in which another was
    /// accepted made room for it.
    fn caps(&mut self) {
        let mut changes: BTreeMap<&str, Vec<(i64, i64)>> = BTreeMap::new();
        let store = &self.story.store;
        let children = store.runs.values().filter_map(|run| Some((run, run.announce_to.as_deref()?)));
        // A message makes a child work again, which is no spawn and takes no place.
        let mut first: BTreeMap<&str, i64> = BTreeMap::new();
        for (run, _) in children.clone() {
            let at = first.entry(&run.session).or_insert(run.accepted_at);
            *at = run.accepted_at.min(*at);
        }
        for (run, parent) in children.filter(|(run, _)| first[run.session.as_str()] == run.accepted_at) {
            let changes = changes.entry(parent).or_default();
            changes.push((run.accepted_at, 1));
            changes.extend(run.ended_at.map(|at| (at, -1)));
        }
        let most = i64::try_from(self.story.most_children).unwrap_or(i64::MAX);
        for (parent, mut changes) in changes {
            changes.sort_unstable();
            let mut open = 0;
            for (at, change) in changes {
                open += change;
                if open > most {
                    self.say(
                        "I4",
                        Kind::Other,
                        format!("{parent} had {open} open children at {at}, {most} are allowed"),
                    );
                    break;
                }
            }
        }
    }

    /// I7: a run used what its answers say that they used, and its result tells of no more than was used below it. An
    /// answer that could not be stored was used all the same, and ends its run badly.
    fn usage(&mut self) {
        let store = &self.story.store;
        let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (run, entry) in store.sessions.values().flat_map(|session| &session.entries) {
            if let Some(run) = run.as_deref().filter(|_| entry["type"] == "assistant") {
                let sum = sums.entry(run).or_default();
                *sum = plus(*sum, tokens(&entry["usage"]));
            }
        }
        for (id, run) in &store.runs {
            let (sum, used) = (sums.get(id.as_str()).copied().unwrap_or_default(), (run.input, run.output));
            let more = run.state != "ok" && sum.0 <= used.0 && sum.1 <= used.1;
            if store.sessions.contains_key(&run.session) && sum != used && !more {
                let what = format!("run {id} ({}) says {used:?} tokens, its answers {sum:?}", run.state);
                self.say("I7", Kind::Other, what);
            }
        }
        let trees = trees(store);
        for (_, entry) in store.sessions.values().flat_map(|session| &session.entries) {
            for item in entry["items"].as_array().into_iter().flatten() {
                let (Some(id), Some(session)) = (item["run"].as_str(), item["session"].as_str()) else {
                    continue;
                };
                let (Some(run), told) = (store.runs.get(id), tokens(&item["usage"])) else { continue };
                let all = trees.get(session).copied().unwrap_or_default();
                if told.0 < run.input || told.1 < run.output || told.0 > all.0 || told.1 > all.1 {
                    let what =
                        format!("the result of run {id} tells of {told:?} tokens, there are {all:?} below");
                    self.say("I7", Kind::Other, what);
                }
            }
        }
    }

    /// I10: a tool that is not idempotent ran at most once for each call, and once where the model was told so.
    fn tools(&mut self) {
        let store = &self.story.store;
        let mut rows: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for tool in store.tools.iter().filter(|tool| tool.name == "subagents") {
            *rows.entry((&tool.run, &tool.call)).or_default() += 1;
        }
        for ((run, call), count) in rows.into_iter().filter(|(_, count)| *count > 1) {
            self.say(
                "I10",
                Kind::RepeatedTool,
                format!("call {call} of run {run} was started {count} times"),
            );
        }
        for (_, call) in store.decisions.iter().filter(|(event, _)| event == "tool.repeated") {
            self.say("I10", Kind::RepeatedTool, format!("it was decided to repeat the call {call}"));
        }
        let unknown = |entry: &&Value| entry["status"] == "unknown" && entry["name"] == "subagents";
        for call in store
            .sessions
            .values()
            .flat_map(|session| &session.entries)
            .map(|(_, entry)| entry)
            .filter(unknown)
        {
            let call = call["call"].as_str().unwrap_or_default();
            if !store.decisions.iter().any(|(_, decided)| decided == call) {
                self.say("I10", Kind::Other, format!("nobody decided that the outcome of {call} is unknown"));
            }
        }
        let mut traces: BTreeMap<&str, u64> = BTreeMap::new();
        let entries = store.sessions.values().flat_map(|session| &session.entries);
        let said = entries
            .filter(|(_, entry)| entry["type"] == "user")
            .filter_map(|(_, entry)| entry["text"].as_str());
        // One that started a run, which was interrupted before it could begin.
        let asked = store.runs.values().filter_map(|run| run.asked.as_deref());
        for text in said.chain(store.steers.iter().map(|(_, text)| text.as_str())).chain(asked) {
            let call = text.strip_prefix(STEER).and_then(|rest| rest.split_once('>'));
            if let Some((call, _)) = call {
                *traces.entry(call).or_default() += 1;
            }
        }
        for (call, count) in traces.iter().filter(|(_, count)| **count > 1) {
            self.say("I10", Kind::RepeatedTool, format!("call {call} left {count} traces"));
        }
        for call in self.story.seen.steered.iter().filter(|call| !traces.contains_key(call.as_str())) {
            self.say(
                "I13",
                Kind::Lost,
                format!("the model was told that {call} was accepted, and it left no trace"),
            );
        }
    }
}

fn tokens(usage: &Value) -> (u64, u64) {
    (usage["input"].as_u64().unwrap_or(0), usage["output"].as_u64().unwrap_or(0))
}

const fn plus(one: (u64, u64), two: (u64, u64)) -> (u64, u64) {
    (one.0 + two.0, one.1 + two.1)
}

/// What was used by each session and everything below it.
fn trees(store: &Snapshot) -> BTreeMap<&str, (u64, u64)> {
    let mut trees: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for run in store.runs.values() {
        let mut next = Some(run.session.as_str());
        while let Some(key) = next {
            let tree = trees.entry(key).or_default();
            *tree = plus(*tree, (run.input, run.output));
            next = store.parents.get(key).map(String::as_str);
        }
    }
    trees
}
