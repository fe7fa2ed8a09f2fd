//! Open runs, and the spans that they become.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use offshoot_actors::ports::Cause;
use offshoot_actors::types::{ModelRef, RunId, SessionKey, Terminal, ToolStatus, Usage};

use super::context::{SpanId, TraceId};
use super::kin::Kin;
use super::lookup::{Above, Found};
use super::note::{Nanos, Note, What};
use super::span::{Attribute, CLIENT, INTERNAL, Link, Moment, Span, Status};

/// Most runs that are open at once.
const MAX_OPEN: usize = 20_000;
/// Most spans of a run whose trace is not known yet.
const MAX_HELD: usize = 256;
/// Most moments of a run.
const MAX_MOMENTS: usize = 128;
/// Most announces of runs whose places are not known yet, and most sessions that follow on announces.
const MAX_ANNOUNCES: usize = 4_096;

/// Where spans go that are over.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) spans: Vec<Span>,
    /// Spans that there was no room for.
    pub(super) dropped: u64,
}

/// What is known of open runs, and what waits until it is known where it belongs.
#[derive(Debug, Default)]
pub(super) struct Book {
    open: HashMap<RunId, Open>,
    /// Those that have no place in a trace yet.
    unplaced: BTreeSet<RunId>,
    announces: Vec<Taken>,
    /// The first of the results that each session took last.
    follows: HashMap<SessionKey, RunId>,
}

#[derive(Debug)]
struct Open {
    session: SessionKey,
    begun: Nanos,
    basis: Basis,
    cause: Option<Cause>,
    label: Option<String>,
    model: Option<ModelRef>,
    step: Option<Step>,
    tools: HashMap<Arc<str>, Tool>,
    moments: Vec<Moment>,
    held: Vec<Span>,
    end: Option<End>,
}

/// What is known of what is above a run.
#[derive(Debug, Clone, Copy)]
enum Basis {
    /// A client asked for it, who may say from where.
    Asked,
    Known(Above, Option<RunId>),
    /// The store is to say.
    Stored,
}

#[derive(Debug)]
struct Step {
    number: u32,
    model: ModelRef,
    begun: Nanos,
}

#[derive(Debug)]
struct Tool {
    name: Arc<str>,
    begun: Nanos,
}

#[derive(Debug)]
struct End {
    at: Nanos,
    state: Terminal,
    reason: Option<String>,
    usage: Usage,
    steps: u32,
}

/// A result that its parent has taken.
#[derive(Debug)]
struct Taken {
    child: RunId,
    by: SessionKey,
    at: Nanos,
}

impl Book {
    /// Whether nothing waits for its place.
    pub(super) fn is_settled(&self) -> bool {
        self.unplaced.is_empty() && self.announces.is_empty()
    }

    pub(super) fn take(&mut self, note: Note, kin: &mut Kin, out: &mut Out) {
        let at = note.at;
        match note.what {
            What::Spawned { run, session, model, label, spawner } => {
                let basis = match spawner {
                    Some(spawner) => Basis::Known(Above::Run(spawner), Some(spawner)),
                    None => Basis::Asked,
                };
                let Some(open) = self.begin(run, &session, at, basis, out) else { return };
                (open.cause, open.model, open.label) = (Some(Cause::Spawn), Some(model), label);
            }
            What::Submitted { run, session, cause } => {
                let follows = (cause == Cause::Announce).then(|| self.follows.remove(&session)).flatten();
                let basis = match (follows, cause) {
                    (Some(child), _) => Basis::Known(Above::Announce(child), None),
                    (None, Cause::Message) if !session.is_subagent() => Basis::Asked,
                    _ => Basis::Stored,
                };
                let Some(open) = self.begin(run, &session, at, basis, out) else { return };
                open.cause = Some(cause);
            }
            What::Started { run, session } => self.moment(run, &session, at, "started", None, out),
            What::Yielded { run, session } => {
                self.moment(run, &session, at, "waits for children", None, out);
            }
            What::StepStarted { run, session, step, model } => {
                let Some(open) = self.of(run, &session, at, out) else { return };
                open.model = Some(model.clone());
                open.step = Some(Step { number: step, model, begun: at });
            }
            What::StepRestarted { run, session, reason } => {
                let Some(open) = self.of(run, &session, at, out) else { return };
                match open.step.take() {
                    Some(step) => {
                        let span = step.span(run, at, None, Some(("step_failed", reason)));
                        self.finish(run, span, kin, out);
                    }
                    None => self.moment(run, &session, at, "step begins again", Some(reason), out),
                }
            }
            What::StepFinished { run, session, step, model, spent } => {
                let Some(open) = self.of(run, &session, at, out) else { return };
                let step = open.step.take().unwrap_or(Step { number: step, model, begun: at });
                let span = step.span(run, at, Some(spent), None);
                self.finish(run, span, kin, out);
            }
            What::ToolStarted { run, session, call, name } => {
                let Some(open) = self.of(run, &session, at, out) else { return };
                open.tools.insert(call, Tool { name, begun: at });
            }
            What::ToolFinished { run, session, call, status } => {
                let Some(open) = self.of(run, &session, at, out) else { return };
                // One that was never begun has no time.
                let Some(tool) = open.tools.remove(&call) else { return };
                let failure = match status {
                    ToolStatus::Ok => None,
                    ToolStatus::Error => Some(("tool_error", "the tool failed".to_owned())),
                    ToolStatus::Unknown => Some(("unknown", "whether it did its work is unknown".to_owned())),
                };
                let span = tool.span(run, &call, at, failure);
                self.finish(run, span, kin, out);
            }
            What::Announced { session, runs } => self.announced(session, runs, at, out),
            What::Ended { run, session, state, reason, usage, steps } => {
                if self.of(run, &session, at, out).is_none() {
                    return;
                }
                self.end(run, End { at, state, reason, usage, steps }, kin, out);
            }
        }
    }

    fn begin(
        &mut self,
        run: RunId,
        session: &SessionKey,
        at: Nanos,
        basis: Basis,
        out: &mut Out,
    ) -> Option<&mut Open> {
        if !self.open.contains_key(&run) {
            if self.open.len() >= MAX_OPEN {
                out.dropped += 1;
                return None;
            }
            self.unplaced.insert(run);
        }
        Some(self.open.entry(run).or_insert_with(|| Open {
            session: session.clone(),
            begun: at,
            basis,
            cause: None,
            label: None,
            model: None,
            step: None,
            tools: HashMap::new(),
            moments: Vec::new(),
            held: Vec::new(),
            end: None,
        }))
    }

    /// An open run, also one that began before this process or that was not told of.
    fn of(&mut self, run: RunId, session: &SessionKey, at: Nanos, out: &mut Out) -> Option<&mut Open> {
        self.begin(run, session, at, Basis::Stored, out)
    }

    fn moment(
        &mut self,
        run: RunId,
        session: &SessionKey,
        at: Nanos,
        name: &'static str,
        why: Option<String>,
        out: &mut Out,
    ) {
        let Some(open) = self.of(run, session, at, out) else { return };
        if open.moments.len() < MAX_MOMENTS {
            let attributes = why.map(|why| Attribute::text("offshoot.reason", why)).into_iter().collect();
            open.moments.push(Moment { time_unix_nano: at, name, attributes });
        }
    }

    fn announced(&mut self, session: SessionKey, runs: Vec<RunId>, at: Nanos, out: &mut Out) {
        if self.follows.len() >= MAX_ANNOUNCES {
            // Of those that follow on what was forgotten the store says where they belong.
            self.follows.clear();
        }
        if let Some(first) = runs.first() {
            self.follows.insert(session.clone(), *first);
        }
        for child in runs {
            if self.announces.len() < MAX_ANNOUNCES {
                self.announces.push(Taken { child, by: session.clone(), at });
            } else {
                out.dropped += 1;
            }
        }
    }

    fn end(&mut self, run: RunId, end: End, kin: &mut Kin, out: &mut Out) {
        let Some(open) = self.open.get_mut(&run) else { return };
        let why = || Some(("cut_off", format!("the run ended as {}", end.state)));
        let mut unfinished: Vec<Span> =
            open.tools.drain().map(|(call, tool)| tool.span(run, &call, end.at, why())).collect();
        unfinished.extend(open.step.take().map(|step| step.span(run, end.at, None, why())));
        open.end = Some(end);
        for span in unfinished {
            self.finish(run, span, kin, out);
        }
        self.close(run, kin, out);
    }

    /// Hands a span of a run out, as soon as it is known where the run belongs.
    fn finish(&mut self, run: RunId, mut span: Span, kin: &Kin, out: &mut Out) {
        match kin.get(run) {
            Some(relation) if relation.sampled => {
                span.trace_id = relation.trace;
                out.spans.push(span);
            }
            Some(_) => {}
            None => match self.open.get_mut(&run) {
                Some(open) if open.held.len() < MAX_HELD => open.held.push(span),
                _ => out.dropped += 1,
            },
        }
    }

    /// Hands the span of a run out that has ended, if it is known where it belongs.
    fn close(&mut self, run: RunId, kin: &mut Kin, out: &mut Out) {
        if kin.get(run).is_none() || self.open.get(&run).is_none_or(|open| open.end.is_none()) {
            return;
        }
        let Some(open) = self.open.remove(&run) else { return };
        let Some(end) = &open.end else { return };
        kin.ended(run, end.at);
        if let Some(relation) = kin.get(run).filter(|relation| relation.sampled) {
            out.spans.push(open.span(run, end, relation.trace, relation.parent));
        }
    }

    /// Gives places to what has none, where that can be. `undecided` says that some client is about to say from where it
    /// started a run. Returns the runs that the store is to be asked for.
    pub(super) fn settle(&mut self, undecided: bool, rate: f64, kin: &mut Kin, out: &mut Out) -> Vec<RunId> {
        let mut unknown = BTreeSet::new();
        // Parents are placed before their children, in whatever order they are.
        loop {
            let before = self.unplaced.len();
            unknown.clear();
            for run in self.unplaced.clone() {
                let Some(open) = self.open.get(&run) else {
                    self.unplaced.remove(&run);
                    continue;
                };
                let placed = match open.basis {
                    Basis::Asked if undecided && !kin.is_adopted(run) => false,
                    Basis::Asked => kin.place(run, Above::Nothing, None, rate),
                    Basis::Known(above, spawner) => kin.place(run, above, spawner, rate),
                    Basis::Stored => kin.get(run).is_some(),
                };
                if placed {
                    self.placed(run, kin, out);
                } else if self.is_for_the_store(run) {
                    unknown.insert(run);
                }
            }
            if self.unplaced.len() == before {
                break;
            }
        }
        self.announces.retain(|taken| match kin.get(taken.child) {
            Some(relation) => {
                if relation.sampled {
                    let under = relation.spawner.unwrap_or(taken.child);
                    out.spans.push(taken.span(relation.trace, under, relation.ended));
                }
                false
            }
            None => {
                if !self.open.contains_key(&taken.child) {
                    unknown.insert(taken.child);
                }
                true
            }
        });
        unknown.into_iter().collect()
    }

    /// Whether nothing that is under way here will say where the run belongs.
    fn is_for_the_store(&self, run: RunId) -> bool {
        match self.open.get(&run).map(|open| open.basis) {
            Some(Basis::Stored) => true,
            Some(Basis::Known(Above::Run(upper) | Above::Announce(upper), _)) => {
                !self.open.contains_key(&upper)
            }
            _ => false,
        }
    }

    fn placed(&mut self, run: RunId, kin: &mut Kin, out: &mut Out) {
        self.unplaced.remove(&run);
        let held = self.open.get_mut(&run).map(|open| std::mem::take(&mut open.held)).unwrap_or_default();
        for span in held {
            self.finish(run, span, kin, out);
        }
        self.close(run, kin, out);
    }

    /// Takes what the store said of a run.
    pub(super) fn found(&mut self, found: Found, rate: f64, kin: &mut Kin, out: &mut Out) {
        kin.place_found(&found, rate);
        let Some(open) = self.open.get_mut(&found.run) else { return };
        if matches!(open.basis, Basis::Stored) {
            open.begun = found.begun.map_or(open.begun, |begun| begun.min(open.begun));
            open.cause = open.cause.or(found.cause);
            if open.model.is_none() {
                open.model = found.model;
            }
        }
        self.placed(found.run, kin, out);
    }
}

impl Open {
    fn span(&self, run: RunId, end: &End, trace: TraceId, parent: Option<SpanId>) -> Span {
        let agent = self.session.agent();
        let mut attributes = vec![
            Attribute::text("gen_ai.operation.name", "invoke_agent"),
            Attribute::text("gen_ai.agent.id", &agent),
            Attribute::text("gen_ai.conversation.id", &self.session),
            Attribute::text("offshoot.session", &self.session),
            Attribute::text("offshoot.run", run),
            Attribute::text("offshoot.state", end.state),
            Attribute::number("offshoot.steps", end.steps.into()),
        ];
        attributes.extend(self.cause.map(|cause| Attribute::text("offshoot.cause", cause.as_str())));
        attributes.extend(self.label.as_ref().map(|label| Attribute::text("offshoot.label", label)));
        attributes.extend(self.model.iter().flat_map(of_model));
        attributes.extend(of_usage(end.usage));
        let failed = !matches!(end.state, Terminal::Ok | Terminal::Partial);
        let reason = || end.reason.clone().unwrap_or_else(|| end.state.to_string());
        if failed {
            attributes.push(Attribute::text("error.type", end.state));
        }
        Span {
            trace_id: trace,
            span_id: SpanId::of(run),
            parent_span_id: parent,
            name: format!("invoke_agent {agent}"),
            kind: INTERNAL,
            start_time_unix_nano: self.begun,
            end_time_unix_nano: end.at.max(self.begun),
            attributes,
            events: self.moments.clone(),
            links: Vec::new(),
            status: failed.then(|| Status::error(reason())),
        }
    }
}

type Failure = (&'static str, String);

/// A span below that of a run.
fn below(run: RunId, id: &str, name: String, (begun, at): (Nanos, Nanos), failure: Option<Failure>) -> Span {
    let mut attributes = vec![Attribute::text("offshoot.run", run)];
    attributes.extend(failure.as_ref().map(|(kind, _)| Attribute::text("error.type", kind)));
    Span {
        trace_id: TraceId::of(run),
        span_id: SpanId::named(run, id, begun),
        parent_span_id: Some(SpanId::of(run)),
        name,
        kind: INTERNAL,
        start_time_unix_nano: begun,
        end_time_unix_nano: at.max(begun),
        attributes,
        events: Vec::new(),
        links: Vec::new(),
        status: failure.map(|(_, text)| Status::error(text)),
    }
}

impl Step {
    fn span(&self, run: RunId, at: Nanos, spent: Option<Usage>, failure: Option<Failure>) -> Span {
        let name = format!("chat {}", self.model.model());
        let mut span = below(run, "step", name, (self.begun, at), failure);
        span.kind = CLIENT;
        span.attributes.push(Attribute::text("gen_ai.operation.name", "chat"));
        span.attributes.push(Attribute::number("offshoot.step", self.number.into()));
        span.attributes.extend(of_model(&self.model));
        span.attributes.extend(spent.into_iter().flat_map(of_usage));
        span
    }
}

impl Tool {
    fn span(&self, run: RunId, call: &str, at: Nanos, failure: Option<Failure>) -> Span {
        let name = format!("execute_tool {}", self.name);
        let mut span = below(run, call, name, (self.begun, at), failure);
        span.attributes.push(Attribute::text("gen_ai.operation.name", "execute_tool"));
        span.attributes.push(Attribute::text("gen_ai.tool.name", &self.name));
        span.attributes.push(Attribute::text("gen_ai.tool.call.id", call));
        span
    }
}

impl Taken {
    /// From the end of the child to the moment when its parent took the result.
    fn span(&self, trace: TraceId, under: RunId, ended: Option<Nanos>) -> Span {
        let begun = ended.unwrap_or(self.at).min(self.at);
        Span {
            trace_id: trace,
            span_id: SpanId::of_announce(self.child),
            parent_span_id: Some(SpanId::of(under)),
            name: "announce".to_owned(),
            kind: INTERNAL,
            start_time_unix_nano: begun,
            end_time_unix_nano: self.at,
            attributes: vec![
                Attribute::text("offshoot.run", self.child),
                Attribute::text("offshoot.session", &self.by),
            ],
            events: Vec::new(),
            links: vec![Link { trace_id: trace, span_id: SpanId::of(self.child) }],
            status: None,
        }
    }
}

fn of_model(model: &ModelRef) -> [Attribute; 2] {
    [
        Attribute::text("gen_ai.provider.name", model.provider()),
        Attribute::text("gen_ai.request.model", model.model()),
    ]
}

fn of_usage(usage: Usage) -> [Attribute; 3] {
    [
        Attribute::number("gen_ai.usage.input_tokens", usage.input),
        Attribute::number("gen_ai.usage.output_tokens", usage.output),
        Attribute::number("gen_ai.usage.cache_read.input_tokens", usage.cached),
    ]
}

#[cfg(test)]
mod tests;
