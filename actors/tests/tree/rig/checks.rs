//! What must hold when a tree is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offshoot_actors::Delivery;
use offshoot_actors::ports::{Event, RunRow, RunState, Storage};
use offshoot_actors::types::{Entry, Origin, RunId, SessionKey, StoredEntry, Terminal, Usage};

use super::{Rig, items, main_key, request, soon};

impl Rig {
    /// What must hold when all is quiet.
    pub async fn check(&self) {
        let runs = self.storage.all_runs();
        for run in &runs {
            assert!(!run.state.is_open(), "I1: {run:?} is open");
            if run.steps > 0 && matches!(run.state, RunState::Ended(Terminal::Ok)) {
                let used = run.model_used.as_ref().expect("I14: a run that answered records its model");
                assert!(*used == run.model.primary || run.model.fallbacks.contains(used), "I14: {run:?}");
            }
        }
        self.check_announces(&runs);
        let states: BTreeMap<RunId, RunState> = runs.iter().map(|run| (run.id, run.state)).collect();
        for (key, transcript) in self.storage.transcripts() {
            check_transcript(&key, &transcript, &states);
        }
        self.check_usage(&runs).await;
        if self.fresh {
            self.check_events(&runs);
        }
        // On several threads the task of an aborted call is dropped a moment after its abort.
        self.until("no model call is in flight", |rig| rig.log.in_flight() == 0).await;
    }

    fn check_announces(&self, runs: &[RunRow]) {
        for row in self.storage.outbox() {
            let settled = matches!(row.delivery, Delivery::Delivered | Delivery::Abandoned);
            assert!(settled, "I2: the result of {} waits", row.run);
        }
        let mut seen: BTreeSet<RunId> = BTreeSet::new();
        let owner: BTreeMap<RunId, &RunRow> = runs.iter().map(|run| (run.id, run)).collect();
        for (key, transcript) in self.storage.transcripts() {
            for item in items(&transcript) {
                assert!(seen.insert(item.run), "I2: the result of {} stands twice", item.run);
                assert_eq!(
                    owner[&item.run].announce_to.as_ref(),
                    Some(&key),
                    "I2: a result in a wrong session"
                );
            }
        }
        let kept: BTreeSet<SessionKey> = self.storage.transcripts().into_keys().collect();
        for row in self.storage.outbox() {
            let Some(to) = owner[&row.run].announce_to.clone() else { continue };
            assert!(!kept.contains(&to) || seen.contains(&row.run), "I2: a result of {to} is lost");
        }
    }

    async fn check_usage(&self, runs: &[RunRow]) {
        let total: Usage = runs
            .iter()
            .filter(|run| {
                let session = self.storage.all_sessions().into_iter().find(|row| row.key == run.session);
                session
                    .or_else(|| {
                        self.storage.deleted_sessions().into_iter().find(|row| row.key == run.session)
                    })
                    .is_some_and(|row| row.root == main_key())
            })
            .map(|run| run.usage)
            .sum();
        if self.storage.all_sessions().iter().any(|row| row.key == main_key()) {
            let subtree = self.storage.subtree_usage(main_key()).await.unwrap();
            assert_eq!(subtree, total, "I7");
        }
    }

    /// I9: a run's first event is that it was accepted, its last one that it ended, and there is one of each.
    fn check_events(&self, runs: &[RunRow]) {
        let mut of: BTreeMap<RunId, Vec<&'static str>> = BTreeMap::new();
        let mut told: BTreeMap<SessionKey, u64> = BTreeMap::new();
        for event in self.events.all() {
            let (run, name) = match &event {
                Event::Spawned { child, .. } => (child.run, "accepted"),
                Event::Submitted { run, .. } => (*run, "accepted"),
                Event::Started { run, .. } => (*run, "started"),
                Event::Text { run, .. } => (*run, "text"),
                Event::StepStarted { run, .. } => (*run, "calls"),
                Event::StepRestarted { run, .. } => (*run, "restarted"),
                Event::StepFinished { run, .. } => (*run, "step"),
                Event::ToolStarted { run, .. } => (*run, "tool"),
                Event::ToolFinished { run, .. } => (*run, "tool done"),
                Event::Yielded { run, .. } => (*run, "yielded"),
                Event::Ended { run, .. } => (*run, "ended"),
                Event::Appended { session, entries } => {
                    for entry in entries {
                        let next = told.entry(session.clone()).or_default();
                        assert_eq!(entry.seq, *next, "I9: entries of {session} are told in order, each once");
                        *next += 1;
                        if let Some(run) = entry.run {
                            of.entry(run).or_default().push("appended");
                        }
                    }
                    continue;
                }
                Event::Refused { .. }
                | Event::Announced { .. }
                | Event::Moved { .. }
                | Event::Noted(_)
                | Event::Pairing(_)
                | Event::Watched(_) => continue,
            };
            of.entry(run).or_default().push(name);
        }
        for run in runs {
            let events = of.remove(&run.id).unwrap_or_default();
            assert_eq!(events.first(), Some(&"accepted"), "I9: {} has {events:?}", run.id);
            assert_eq!(events.last(), Some(&"ended"), "I9: {} has {events:?}", run.id);
            for name in ["accepted", "ended"] {
                let count = events.iter().filter(|event| **event == name).count();
                assert_eq!(count, 1, "I9: {} has {events:?}", run.id);
            }
        }
        assert!(of.is_empty(), "I9: events of runs that are not stored: {of:?}");
    }

    /// Both lanes serve as many runs at once as they allow, and no cap is used up.
    pub async fn permits_are_back(&self) {
        let limits = self.handle.settings().lanes;
        let begun = self.log.count();
        let mut runs = Vec::new();
        for number in 0..limits.main {
            let key: SessionKey = format!("agent:main:probe{number}").parse().unwrap();
            runs.push(self.say_to(key, "probe").await);
        }
        self.sleep(10).await;
        assert_eq!(self.log.count() - begun, runs.len(), "I4: a permit of lane main is not back");
        for run in runs.drain(..) {
            self.outcome(run).await;
        }
        let begun = self.log.count();
        let children = self.handle.settings().subagents.max_children;
        for number in 0..limits.subagent {
            let key: SessionKey = format!("agent:main:probe{}", number / children).parse().unwrap();
            runs.push(self.spawn_in(key, "probe").await.run);
        }
        self.sleep(10).await;
        assert_eq!(self.log.count() - begun, runs.len(), "I4: a permit of lane subagent is not back");
        for run in runs.drain(..) {
            self.outcome(run).await;
        }
        for number in 0..children.min(50) {
            let request = request(main_key(), "quiet|probe");
            let answer = soon("a probe of the cap", self.handle.spawn(request, Origin::Operator)).await;
            assert!(answer.is_ok(), "I4: the cap is used up after {number} of {children}: {answer:?}");
            runs.push(answer.unwrap().run);
        }
        for run in runs {
            self.outcome(run).await;
        }
        soon("quiet", self.handle.quiet(&main_key())).await.unwrap();
    }
}

/// A provider takes no conversation in which a tool call is not followed by its results at once.
fn check_transcript(key: &SessionKey, transcript: &[Arc<StoredEntry>], states: &BTreeMap<RunId, RunState>) {
    let mut open: BTreeMap<Arc<str>, Option<RunId>> = BTreeMap::new();
    for (place, entry) in transcript.iter().enumerate() {
        assert_eq!(entry.seq, place as u64, "a gap in {key}");
        if let Entry::ToolResult { call, .. } = &entry.entry {
            assert!(open.remove(call).is_some(), "a result without a call in {key}: {call}");
            continue;
        }
        for run in open.values() {
            let state = run.and_then(|run| states.get(&run).copied());
            // Results of children may end a run that was cut off; its own next step may not.
            let goes_on = entry.run == *run && !matches!(entry.entry, Entry::Announce { .. });
            let cut = matches!(state, Some(RunState::Ended(state)) if state != Terminal::Ok) && !goes_on;
            assert!(cut, "{:?} stands between a call and its result in {key}", entry.entry);
        }
        open.clear();
        if let Entry::Assistant { tool_calls, .. } = &entry.entry {
            for call in tool_calls {
                let twice = open.insert(Arc::clone(&call.id), entry.run);
                assert!(twice.is_none(), "two calls of one step in {key} have the id {}", call.id);
            }
        }
    }
}
