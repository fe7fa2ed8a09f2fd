//! What is counted of the tree's events: the same that clients are told of and that the log tells.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use offshoot_actors::kit::{Note, NoteKind};
use offshoot_actors::policy::cost::Prices;
use offshoot_actors::ports::{Cause, Event};
use offshoot_actors::types::{Monotonic, RunId, SessionKey, Terminal, ToolStatus, Usage};

use super::figures::{Counter, Histogram, LONG};
use super::page::Page;

/// Runs that are followed at once; of more, times are not measured.
const RUNS: usize = 100_000;
/// Ends that are remembered until the parent has the result.
const ENDED: usize = 4_096;
/// What stands for everything that has no place of its own.
const OTHER: &str = "other";

/// What is known of a run that is open.
#[derive(Debug)]
struct Open {
    /// Until it makes its first step.
    accepted: Option<Monotonic>,
    works: bool,
    /// When it last gave a sign of life.
    heard: Monotonic,
    /// When the model call in hand was begun.
    called: Option<Monotonic>,
    /// The tool calls in hand, each with its place among the tools.
    tools: Vec<(Arc<str>, usize, Monotonic)>,
}

impl Open {
    const fn at(now: Monotonic) -> Self {
        Self { accepted: None, works: false, heard: now, called: None, tools: Vec::new() }
    }
}

/// Ends of children whose parents do not have the results yet.
#[derive(Debug, Default)]
struct Awaited {
    at: HashMap<RunId, Monotonic>,
    order: VecDeque<RunId>,
}

/// Calls of one tool.
#[derive(Debug)]
struct ToolFigures {
    name: &'static str,
    time: Histogram,
    /// In the order of [`STATUSES`].
    calls: [Counter; 3],
}

const STATUSES: [(ToolStatus, &str); 3] =
    [(ToolStatus::Ok, "ok"), (ToolStatus::Error, "error"), (ToolStatus::Unknown, "unknown")];

/// What one model was used for.
#[derive(Debug, Default)]
struct ModelFigures {
    input: Counter,
    output: Counter,
    cached: Counter,
    /// In billionths of a dollar.
    cost: Counter,
}

/// Figures of what happens in the tree.
#[derive(Debug)]
pub(crate) struct Tally {
    open: DashMap<RunId, Open>,
    awaited: Mutex<Awaited>,
    spawns: Counter,
    /// By the refusal's code: each is a word of the program.
    refusals: DashMap<&'static str, Counter>,
    accepted: [(Cause, Counter); 3],
    ended: [(Terminal, Counter); 7],
    waits: [(&'static str, Histogram); 2],
    steps: Histogram,
    restarted_steps: Counter,
    tools: Vec<ToolFigures>,
    models: DashMap<Box<str>, ModelFigures>,
    announces: Histogram,
    /// By the name of the actor below the root, or the kind of one that was rebuilt in place.
    restarts: DashMap<Box<str>, Counter>,
}

impl Tally {
    /// One that knows these tools by their names.
    pub(crate) fn new(tools: impl Iterator<Item = &'static str>) -> Self {
        let tool = |name| ToolFigures { name, time: Histogram::new(LONG), calls: Default::default() };
        Self {
            open: DashMap::new(),
            awaited: Mutex::default(),
            spawns: Counter::new(),
            refusals: DashMap::new(),
            accepted: [Cause::Spawn, Cause::Message, Cause::Announce].map(|cause| (cause, Counter::new())),
            ended: Terminal::ALL.map(|state| (state, Counter::new())),
            waits: ["main", "subagent"].map(|lane| (lane, Histogram::new(LONG))),
            steps: Histogram::new(LONG),
            restarted_steps: Counter::new(),
            tools: tools.chain([OTHER]).map(tool).collect(),
            models: [OTHER].map(|name| (name.into(), ModelFigures::default())).into_iter().collect(),
            announces: Histogram::new(LONG),
            restarts: DashMap::new(),
        }
    }

    /// From now on these models are counted by their names. Those of an earlier configuration stay.
    pub(crate) fn know_models(&self, models: BTreeSet<String>) {
        for model in models {
            self.models.entry(model.into()).or_default();
        }
    }

    /// Counts what has happened, and by these prices what it cost.
    pub(crate) fn hear(&self, event: &Event, now: Monotonic, prices: &Prices) {
        match event {
            Event::Spawned { child, .. } => {
                self.spawns.one();
                self.accept(child.run, Cause::Spawn, now);
            }
            Event::Refused { code, .. } => self.refusals.entry(code).or_default().one(),
            Event::Submitted { run, cause, .. } => self.accept(*run, *cause, now),
            Event::Started { session, run } => self.start(session, *run, now),
            Event::Text { run, .. } => self.follow(*run, now, |_| {}),
            Event::StepStarted { run, .. } => self.follow(*run, now, |open| {
                open.works = true;
                open.called = Some(now);
            }),
            Event::StepRestarted { .. } => self.restarted_steps.one(),
            Event::StepFinished { run, model, spent, .. } => {
                self.spend(model.as_str(), *spent, prices.cost(model, *spent).map(|cost| cost.total()));
                self.follow(*run, now, |open| {
                    if let Some(called) = open.called.take() {
                        self.steps.took(now.since(called));
                    }
                });
            }
            Event::ToolStarted { run, call, name, .. } => {
                let at = self.tools.iter().position(|tool| tool.name == &**name);
                let at = at.unwrap_or(self.tools.len() - 1);
                self.follow(*run, now, |open| open.tools.push((Arc::clone(call), at, now)));
            }
            Event::ToolFinished { run, call, status, .. } => self.tool_finished(*run, call, *status, now),
            Event::Yielded { run, .. } => self.follow(*run, now, |open| open.works = false),
            Event::Announced { runs, .. } => self.announced(runs, now),
            Event::Ended { session, run, outcome, .. } => {
                let ended = self.ended.iter().filter(|(state, _)| *state == outcome.state);
                ended.for_each(|(_, ended)| ended.one());
                self.open.remove(run);
                if session.is_subagent() {
                    self.await_announce(*run, now);
                }
            }
            Event::Noted(note) => self.note(note),
            Event::Appended { .. } | Event::Moved { .. } | Event::Pairing(_) | Event::Watched(_) => {}
        }
    }

    /// Counts tokens, and what they cost in dollars where that is known.
    fn spend(&self, model: &str, spent: Usage, cost: Option<f64>) {
        let Some(figures) = self.models.get(model).or_else(|| self.models.get(OTHER)) else { return };
        figures.input.add(spent.input);
        figures.output.add(spent.output);
        figures.cached.add(spent.cached);
        if let Some(cost) = cost {
            // A cost that is none counts for nothing.
            figures.cost.add((cost * 1e9) as u64);
        }
    }

    fn accept(&self, run: RunId, cause: Cause, now: Monotonic) {
        self.accepted.iter().filter(|(known, _)| *known == cause).for_each(|(_, accepted)| accepted.one());
        if self.open.len() < RUNS {
            self.open.insert(run, Open { accepted: Some(now), ..Open::at(now) });
        }
    }

    fn start(&self, session: &SessionKey, run: RunId, now: Monotonic) {
        if self.open.len() >= RUNS && !self.open.contains_key(&run) {
            return;
        }
        let mut open = self.open.entry(run).or_insert_with(|| Open::at(now));
        (open.works, open.heard) = (true, now);
        if let Some(accepted) = open.accepted.take() {
            self.waits[usize::from(session.is_subagent())].1.took(now.since(accepted));
        }
    }

    fn follow(&self, run: RunId, now: Monotonic, note: impl FnOnce(&mut Open)) {
        if let Some(mut open) = self.open.get_mut(&run) {
            open.heard = now;
            note(&mut open);
        }
    }

    /// A call that an earlier process began has neither a name nor a time here.
    fn tool_finished(&self, run: RunId, call: &str, status: ToolStatus, now: Monotonic) {
        let mut begun = None;
        self.follow(run, now, |open| {
            let at = open.tools.iter().position(|(open, ..)| &**open == call);
            begun = at.map(|at| open.tools.swap_remove(at));
        });
        let tool = match begun {
            Some((_, tool, since)) => {
                self.tools[tool].time.took(now.since(since));
                tool
            }
            None => self.tools.len() - 1,
        };
        let calls = STATUSES.iter().zip(&self.tools[tool].calls);
        calls.filter(|((known, _), _)| *known == status).for_each(|(_, calls)| calls.one());
    }

    fn await_announce(&self, run: RunId, now: Monotonic) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.at.insert(run, now);
        awaited.order.push_back(run);
        while awaited.order.len() > ENDED {
            let Some(oldest) = awaited.order.pop_front() else { break };
            awaited.at.remove(&oldest);
        }
    }

    fn announced(&self, runs: &[RunId], now: Monotonic) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        for run in runs {
            if let Some(ended) = awaited.at.remove(run) {
                self.announces.took(now.since(ended));
            }
        }
    }

    fn note(&self, note: &Note) {
        let what = match &note.kind {
            NoteKind::Rebuilt { .. } => note.actor,
            NoteKind::Restarting { child, .. } => child,
            _ => return,
        };
        match self.restarts.get(what) {
            Some(restarts) => restarts.one(),
            None => self.restarts.entry(what.into()).or_default().one(),
        }
    }

    /// How many runs work and have given no sign of life for so long.
    fn silent(&self, now: Monotonic, after: Duration) -> usize {
        self.open.iter().filter(|open| open.works && now.since(open.heard) > after).count()
    }

    /// Of each tool how many calls are in hand, and how long the oldest of them is.
    fn in_hand(&self, now: Monotonic) -> Vec<(usize, Duration)> {
        let mut tools = vec![(0, Duration::ZERO); self.tools.len()];
        for open in &self.open {
            for (_, tool, since) in &open.tools {
                let (count, oldest) = &mut tools[*tool];
                (*count, *oldest) = (*count + 1, now.since(*since).max(*oldest));
            }
        }
        tools
    }

    pub(super) fn write(&self, page: &mut Page, now: Monotonic, silent_after: Duration) {
        page.counter("offshoot_spawns_total", "Sub-agents that were accepted.").of(&[], &self.spawns);
        let mut refusals =
            page.counter("offshoot_spawn_refusals_total", "Sub-agents that were refused, by reason.");
        for refused in &self.refusals {
            refusals.of(&[("reason", refused.key())], &refused);
        }
        let mut accepted =
            page.counter("offshoot_runs_accepted_total", "Runs that were accepted, by their cause.");
        for (cause, count) in &self.accepted {
            accepted.of(&[("cause", cause.as_str())], count);
        }
        let mut ended =
            page.counter("offshoot_runs_ended_total", "Runs that ended, by their terminal state.");
        for (state, count) in &self.ended {
            ended.of(&[("state", state.as_str())], count);
        }
        let help = "Runs that work and gave no sign of life for gateway.watch.silentAfterSeconds.";
        page.gauge("offshoot_runs_silent", help).value(&[], self.silent(now, silent_after));
        let mut waits = page
            .histogram("offshoot_lane_wait_seconds", "From a run's acceptance to its start, by its lane.");
        for (lane, time) in &self.waits {
            waits.spread(&[("lane", lane)], time);
        }
        page.histogram("offshoot_step_seconds", "Model calls that were answered.").spread(&[], &self.steps);
        let help = "Model calls that failed or were cut short, and were made again.";
        page.counter("offshoot_steps_restarted_total", help).of(&[], &self.restarted_steps);
        let mut times = page.histogram("offshoot_tool_seconds", "Tool calls, by the tool.");
        for tool in self.tools.iter().filter(|tool| tool.is_used()) {
            times.spread(&[("tool", tool.name)], &tool.time);
        }
        let mut calls =
            page.counter("offshoot_tool_calls_total", "Tool calls that ended, by the tool and how.");
        for tool in self.tools.iter().filter(|tool| tool.is_used()) {
            for ((_, status), count) in STATUSES.iter().zip(&tool.calls) {
                calls.of(&[("tool", tool.name), ("status", status)], count);
            }
        }
        self.write_in_hand(page, now);
        self.write_models(page);
        let help = "From the committed end of a sub-agent's run to its parent having the result.";
        page.histogram("offshoot_announce_latency_seconds", help).spread(&[], &self.announces);
        let help = "Actors that were rebuilt in place or started again after a failure.";
        let mut restarts = page.counter("offshoot_actor_restarts_total", help);
        for restarted in &self.restarts {
            restarts.of(&[("kind", restarted.key())], &restarted);
        }
    }

    /// A tool that was called once is there from then on: what is zero is not what is missing.
    fn write_in_hand(&self, page: &mut Page, now: Monotonic) {
        let in_hand = self.in_hand(now);
        let tools = || {
            let tools = self.tools.iter().zip(&in_hand);
            tools.filter(|(tool, (count, _))| tool.is_used() || *count > 0)
        };
        let mut running =
            page.gauge("offshoot_tool_calls_running", "Tool calls that have not ended, by the tool.");
        for (tool, (count, _)) in tools() {
            running.value(&[("tool", tool.name)], count);
        }
        let help = "For how long the oldest tool call that has not ended runs, by the tool; 0 without one.";
        let mut oldest = page.gauge("offshoot_tool_call_oldest_seconds", help);
        for (tool, (_, age)) in tools() {
            oldest.value(&[("tool", tool.name)], age.as_secs_f64());
        }
    }

    fn write_models(&self, page: &mut Page) {
        let help = "Tokens that models used, by the configured model; cached ones are among the input.";
        let mut tokens = page.counter("offshoot_tokens_total", help);
        for model in &self.models {
            for (kind, count) in
                [("input", &model.input), ("output", &model.output), ("cached", &model.cached)]
            {
                tokens.of(&[("model", model.key()), ("kind", kind)], count);
            }
        }
        let mut costs = page
            .counter("offshoot_cost_usd_total", "What models cost whose price is configured, in dollars.");
        for model in self.models.iter().filter(|model| model.cost.get() > 0) {
            #[expect(clippy::cast_precision_loss, reason = "dollars for people")]
            let dollars = model.cost.get() as f64 / 1e9;
            costs.value(&[("model", model.key())], dollars);
        }
    }
}

impl ToolFigures {
    fn is_used(&self) -> bool {
        self.calls.iter().any(|calls| calls.get() > 0)
    }
}

#[cfg(test)]
mod tests;
