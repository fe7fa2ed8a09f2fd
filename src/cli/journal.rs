//! What has happened in the tree since the command began, as its events told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use offshoot_actors::ports::{Clock, Event, EventSink, RunRow, RunState};
use offshoot_actors::types::{Outcome, RunId, SessionKey, Terminal, Timestamp, Usage};
use tokio::sync::mpsc;

use super::output::one_line;

/// Lines that wait to be written; what comes on top of them is left out and counted.
const MAX_LINES: usize = 4_096;
/// Parents that are looked for above a run that is drawn; deeper ones are not set further in.
const MAX_DEPTH: usize = 8;

/// A run that was started, or went on, since the command began.
#[derive(Debug, Clone)]
pub(crate) struct SeenRun {
    pub(crate) id: RunId,
    pub(crate) session: SessionKey,
    pub(crate) state: SeenState,
    pub(crate) started: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) usage: Usage,
    /// The tools that run now, by their calls.
    pub(crate) tools: Vec<(Arc<str>, Arc<str>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeenState {
    Queued,
    Running,
    Yielded,
    Ended(Terminal),
}

impl SeenState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Yielded => "yielded",
            Self::Ended(state) => state.as_str(),
        }
    }
}

impl SeenRun {
    pub(crate) fn elapsed(&self, now: Timestamp) -> Option<Duration> {
        self.started.map(|started| self.ended.unwrap_or(now) - started)
    }
}

/// A session that was spawned since the command began.
#[derive(Debug, Clone)]
pub(crate) struct SeenSession {
    pub(crate) parent: SessionKey,
    pub(crate) label: Option<String>,
}

/// How many runs there are in each state, and what all of them used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) queued: usize,
    pub(crate) running: usize,
    pub(crate) yielded: usize,
    pub(crate) ended: usize,
    pub(crate) usage: Usage,
}

impl Counts {
    pub(crate) const fn runs(&self) -> usize {
        self.queued + self.running + self.yielded + self.ended
    }

    const fn of(&mut self, state: SeenState) -> &mut usize {
        match state {
            SeenState::Queued => &mut self.queued,
            SeenState::Running => &mut self.running,
            SeenState::Yielded => &mut self.yielded,
            SeenState::Ended(_) => &mut self.ended,
        }
    }
}

/// A run as it is drawn.
#[derive(Debug, Clone)]
pub(crate) struct Drawn {
    pub(crate) run: SeenRun,
    pub(crate) label: Option<String>,
    /// Parents above it, as far as they were seen.
    pub(crate) depth: usize,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// In the order in which they were accepted.
    pub(crate) runs: Vec<SeenRun>,
    pub(crate) spawned: BTreeMap<SessionKey, SeenSession>,
    places: BTreeMap<RunId, usize>,
    counts: Counts,
    /// The places of runs that run or have yielded.
    working: BTreeSet<usize>,
    queued: BTreeSet<usize>,
}

impl Seen {
    fn run(&mut self, id: RunId, session: &SessionKey) -> &mut SeenRun {
        let place = self.place(id, session);
        &mut self.runs[place]
    }

    fn place(&mut self, id: RunId, session: &SessionKey) -> usize {
        let place = *self.places.entry(id).or_insert(self.runs.len());
        if place == self.runs.len() {
            self.runs.push(SeenRun {
                id,
                session: session.clone(),
                state: SeenState::Queued,
                started: None,
                ended: None,
                usage: Usage::default(),
                tools: Vec::new(),
            });
            self.counts.queued += 1;
            self.queued.insert(place);
        }
        place
    }

    fn set_state(&mut self, id: RunId, session: &SessionKey, state: SeenState) -> &mut SeenRun {
        let place = self.place(id, session);
        let before = std::mem::replace(&mut self.runs[place].state, state);
        *self.counts.of(before) -= 1;
        *self.counts.of(state) += 1;
        self.queued.remove(&place);
        self.working.remove(&place);
        match state {
            SeenState::Queued => drop(self.queued.insert(place)),
            SeenState::Running | SeenState::Yielded => drop(self.working.insert(place)),
            SeenState::Ended(_) => {}
        }
        &mut self.runs[place]
    }

    fn set_usage(&mut self, id: RunId, session: &SessionKey, usage: Usage) -> &mut SeenRun {
        let place = self.place(id, session);
        let before = std::mem::replace(&mut self.runs[place].usage, usage);
        let all = self.counts.usage;
        let others = Usage {
            input: all.input.saturating_sub(before.input),
            output: all.output.saturating_sub(before.output),
            cached: all.cached.saturating_sub(before.cached),
        };
        self.counts.usage = others + usage;
        &mut self.runs[place]
    }

    /// The open runs, those at work first, then the latest that have ended, `max` at most.
    fn drawn(&self, max: usize) -> Vec<Drawn> {
        let open = self.working.iter().chain(&self.queued).map(|place| &self.runs[*place]);
        // They are asked for only where few runs are open, so that few are passed over.
        let ended = self.runs.iter().rev().filter(|run| matches!(run.state, SeenState::Ended(_)));
        let runs = open.chain(ended).take(max);
        runs.map(|run| {
            let label = self.spawned.get(&run.session).and_then(|spawned| spawned.label.clone());
            Drawn { run: run.clone(), label, depth: self.depth(&run.session) }
        })
        .collect()
    }

    fn depth(&self, session: &SessionKey) -> usize {
        let parent = |key| self.spawned.get(key).map(|spawned| &spawned.parent);
        std::iter::successors(parent(session), |key| parent(key)).take(MAX_DEPTH).count()
    }

    /// A session's name for people: its label, or its key.
    pub(crate) fn name(&self, session: &SessionKey) -> String {
        let label = self.spawned.get(session).and_then(|spawned| spawned.label.as_deref());
        label.map_or_else(|| session.to_string(), |label| format!("{} ({session})", one_line(label, 40)))
    }
}

/// Listens to the tree.
pub(crate) struct Journal {
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
    lines: mpsc::Sender<String>,
    verbose: bool,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

impl Journal {
    /// One that tells as lines what nobody asked for and everybody should know; each change of a run's state too
    /// if `verbose`.
    pub(crate) fn new(clock: Arc<dyn Clock>, verbose: bool) -> (Self, mpsc::Receiver<String>) {
        let (lines, receiver) = mpsc::channel(MAX_LINES);
        (Self { clock, seen: Mutex::default(), lines, verbose }, receiver)
    }

    /// All of it, for the end: whoever draws takes [`Self::drawn`], because events wait for the copy.
    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// The counts and `max` runs at most, those first that are worth the room.
    pub(crate) fn drawn(&self, max: usize) -> (Counts, Vec<Drawn>) {
        let seen = self.lock();
        (seen.counts, seen.drawn(max))
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a run as it is stored, where no events come.
    pub(crate) fn observe(&self, row: &RunRow, spawned: Option<&SeenSession>) {
        let seen = &mut *self.lock();
        let new = !seen.places.contains_key(&row.id);
        if let Some(spawned) = spawned {
            seen.spawned.entry(row.session.clone()).or_insert_with(|| spawned.clone());
        }
        let state = match row.state {
            RunState::Accepted => SeenState::Queued,
            RunState::Running => SeenState::Running,
            RunState::Yielded => SeenState::Yielded,
            RunState::Ended(state) => SeenState::Ended(state),
        };
        let before = seen.run(row.id, &row.session).state;
        seen.set_usage(row.id, &row.session, row.usage);
        let entry = seen.set_state(row.id, &row.session, state);
        (entry.started, entry.ended) = (row.started_at, row.ended_at);
        if new || before != state {
            let ended = row.outcome.as_ref().map(ended_line);
            self.tell(seen, &row.session, row.id, ended.as_deref().unwrap_or(state.as_str()));
        }
    }

    /// Tells a change of a run's state.
    fn tell(&self, seen: &Seen, session: &SessionKey, run: RunId, what: &str) {
        if self.verbose {
            self.say(seen, session, run, what);
        }
    }

    fn say(&self, seen: &Seen, session: &SessionKey, run: RunId, what: &str) {
        // Whoever cannot keep up misses a line, not the result.
        _ = self.lines.try_send(format!("{} run {run} {what}", seen.name(session)));
    }
}

fn ended_line(outcome: &Outcome) -> String {
    match &outcome.reason {
        Some(reason) => format!("{}: {}", outcome.state, one_line(reason, 200)),
        None => outcome.state.to_string(),
    }
}

impl EventSink for Journal {
    fn publish(&self, event: Event) {
        crate::telemetry::happened(&event);
        if matches!(event, Event::Text { .. }) {
            return;
        }
        let now = self.clock.now();
        let seen = &mut *self.lock();
        match event {
            Event::Spawned { parent, child, label, .. } => {
                seen.spawned.insert(child.session.clone(), SeenSession { parent, label });
                seen.run(child.run, &child.session);
                self.tell(seen, &child.session, child.run, "queued");
            }
            Event::Submitted { session, run, .. } => {
                let known = seen.places.contains_key(&run);
                seen.run(run, &session);
                if !known {
                    self.tell(seen, &session, run, "queued");
                }
            }
            Event::Started { session, run } => {
                let entry = seen.set_state(run, &session, SeenState::Running);
                entry.started.get_or_insert(now);
                self.tell(seen, &session, run, "running");
            }
            Event::StepFinished { session, run, usage, .. } => {
                if seen.set_usage(run, &session, usage).state == SeenState::Yielded {
                    seen.set_state(run, &session, SeenState::Running);
                }
            }
            Event::StepRestarted { session, run, step, reason, fallback: None } => {
                let what = format!("makes step {step} again: {}", one_line(&reason, 200));
                self.tell(seen, &session, run, &what);
            }
            Event::StepRestarted { session, run, reason, fallback: Some(model), .. } => {
                let what = format!("goes on with {model}: {}", one_line(&reason, 300));
                self.say(seen, &session, run, &what);
            }
            Event::ToolStarted { session, run, call, name } => {
                seen.run(run, &session).tools.push((call, name));
            }
            Event::ToolFinished { session, run, call, .. } => {
                seen.run(run, &session).tools.retain(|(open, _)| *open != call);
            }
            Event::Yielded { session, run } => {
                seen.set_state(run, &session, SeenState::Yielded);
                self.tell(seen, &session, run, "yielded");
            }
            Event::Ended { session, run, outcome, usage, .. } => {
                seen.set_usage(run, &session, usage);
                let entry = seen.set_state(run, &session, SeenState::Ended(outcome.state));
                entry.ended = Some(now);
                entry.tools.clear();
                self.tell(seen, &session, run, &ended_line(&outcome));
            }
            Event::Refused { .. }
            | Event::Announced { .. }
            | Event::Appended { .. }
            | Event::Text { .. }
            | Event::StepStarted { .. }
            | Event::Noted(_)
            | Event::Moved { .. }
            | Event::Pairing(_)
            | Event::Watched(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use offshoot_actors::ports::{Cause, TokioClock};
    use offshoot_actors::types::ModelRef;

    use super::*;

    fn journal(verbose: bool) -> (Journal, mpsc::Receiver<String>) {
        Journal::new(Arc::new(TokioClock::starting_at(Timestamp(1))), verbose)
    }

    fn publish(journal: &Journal, run: RunId, session: &SessionKey) {
        journal.publish(Event::Submitted {
            session: session.clone(),
            run,
            cause: Cause::Message,
            wire_id: None,
        });
        journal.publish(Event::Started { session: session.clone(), run });
    }

    #[test]
    fn a_run_keeps_its_place_and_its_end() {
        let (journal, _lines) = journal(false);
        let session: SessionKey = "agent:main:main".parse().unwrap();
        let [first, second] = [1, 2].map(|n| RunId(uuid::Uuid::from_u128(n)));
        publish(&journal, second, &session);
        publish(&journal, first, &session);
        let outcome = Outcome::ended(Terminal::Crashed, "boom", None);
        let usage = Usage { input: 3, output: 4, cached: 0 };
        journal.publish(Event::Ended { session, run: second, outcome, usage, steps: 1 });
        let seen = journal.seen();
        let states: Vec<_> = seen.runs.iter().map(|run| (run.id, run.state.as_str())).collect();
        assert_eq!(states, [(second, "crashed"), (first, "running")]);
        let counts = Counts { running: 1, ended: 1, usage, ..Counts::default() };
        assert_eq!(journal.counts(), counts);
        assert_eq!(journal.counts().runs(), 2);
    }

    #[test]
    fn the_counts_are_those_of_the_runs() {
        let (journal, _lines) = journal(false);
        let session: SessionKey = "agent:main:main".parse().unwrap();
        for n in 0..500_u64 {
            let (session, run) = (session.clone(), RunId(uuid::Uuid::from_u128(u128::from(n % 37))));
            let usage = Usage { input: n, output: 2 * n, cached: n / 2 };
            journal.publish(match n * 7 % 5 {
                0 => Event::Submitted { session, run, cause: Cause::Message, wire_id: None },
                1 => Event::Started { session, run },
                2 => {
                    let (model, spent) = (ModelRef::rehearsal(), usage);
                    Event::StepFinished { session, run, step: 1, model, spent, usage }
                }
                3 => Event::Yielded { session, run },
                _ => Event::Ended { session, run, outcome: Outcome::ok("x"), usage, steps: 1 },
            });
            let seen = journal.seen();
            let count = |is: fn(SeenState) -> bool| seen.runs.iter().filter(|run| is(run.state)).count();
            let expected = Counts {
                queued: count(|state| state == SeenState::Queued),
                running: count(|state| state == SeenState::Running),
                yielded: count(|state| state == SeenState::Yielded),
                ended: count(|state| matches!(state, SeenState::Ended(_))),
                usage: seen.runs.iter().map(|run| run.usage).sum(),
            };
            assert_eq!(journal.counts(), expected);
            let mut drawn: Vec<_> = seen.drawn(100).into_iter().map(|drawn| drawn.run.id).collect();
            drawn.sort();
            let mut all: Vec<_> = seen.runs.iter().map(|run| run.id).collect();
            all.sort();
            assert_eq!(drawn, all);
        }
    }

    #[test]
    fn lines_tell_each_change_once_and_never_block() {
        let (journal, mut lines) = journal(true);
        let session: SessionKey = "agent:main:main".parse().unwrap();
        for n in 0..MAX_LINES as u128 {
            publish(&journal, RunId(uuid::Uuid::from_u128(n)), &session);
        }
        drop(journal);
        let mut told = Vec::new();
        while let Ok(line) = lines.try_recv() {
            told.push(line);
        }
        assert_eq!(told.len(), MAX_LINES);
        assert!(told[0].ends_with("queued") && told[1].ends_with("running"), "{told:?}");
    }

    #[test]
    fn another_model_is_told_of_unasked() {
        let (journal, mut lines) = journal(false);
        let session: SessionKey = "agent:main:main".parse().unwrap();
        let run = RunId(uuid::Uuid::nil());
        publish(&journal, run, &session);
        for fallback in [None, Some("local/small".parse().unwrap())] {
            let (session, reason) = (session.clone(), "openai/large failed: auth: wrong\nkey".to_owned());
            journal.publish(Event::StepRestarted { session, run, step: 1, reason, fallback });
        }
        let line = lines.try_recv().unwrap();
        assert!(line.ends_with("goes on with local/small: openai/large failed: auth: wrong key"), "{line}");
        assert!(lines.try_recv().is_err());
    }
}
