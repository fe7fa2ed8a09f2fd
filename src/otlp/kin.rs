//! Where runs are in their traces.

use std::collections::{HashMap, VecDeque};

use offshoot_actors::types::RunId;

use super::context::{Context, SpanId, TraceId};
use super::lookup::{Above, Found};
use super::note::Nanos;

/// Most runs whose places are known. Of one that was forgotten the store says where it is.
const MAX_RUNS: usize = 20_000;

/// The place of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) trace: TraceId,
    pub(super) sampled: bool,
    /// The span above that of the run.
    pub(super) parent: Option<SpanId>,
    /// The run whose tool call spawned it.
    pub(super) spawner: Option<RunId>,
    pub(super) ended: Option<Nanos>,
}

/// A map that forgets what it has had longest.
#[derive(Debug)]
pub(super) struct Recent<T> {
    map: HashMap<RunId, T>,
    order: VecDeque<RunId>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { map: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Recent<T> {
    pub(super) fn get(&self, run: RunId) -> Option<&T> {
        self.map.get(&run)
    }

    pub(super) fn get_mut(&mut self, run: RunId) -> Option<&mut T> {
        self.map.get_mut(&run)
    }

    pub(super) fn insert(&mut self, run: RunId, value: T) {
        if self.map.insert(run, value).is_none() {
            self.order.push_back(run);
        }
        if self.order.len() > MAX_RUNS
            && let Some(oldest) = self.order.pop_front()
        {
            self.map.remove(&oldest);
        }
    }
}

/// Where runs are, and what clients said of it.
#[derive(Debug, Default)]
pub(super) struct Kin {
    placed: Recent<Relation>,
    /// The places from which clients started runs.
    adopted: Recent<Context>,
}

impl Kin {
    pub(super) fn get(&self, run: RunId) -> Option<&Relation> {
        self.placed.get(run)
    }

    /// A client started the run from here.
    pub(super) fn adopt(&mut self, run: RunId, context: Context) {
        self.adopted.insert(run, context);
    }

    pub(super) fn is_adopted(&self, run: RunId) -> bool {
        self.adopted.get(run).is_some()
    }

    pub(super) fn ended(&mut self, run: RunId, at: Nanos) {
        if let Some(relation) = self.placed.get_mut(run) {
            relation.ended = Some(at);
        }
    }

    /// The span of a run, if it is known where it is; one that begins a trace is known without that.
    pub(super) fn context(&self, run: RunId, is_root: bool, rate: f64) -> Option<Context> {
        if let Some(adopted) = self.adopted.get(run) {
            return Some(Context::of(run, adopted.trace, adopted.sampled));
        }
        if let Some(relation) = self.get(run) {
            return Some(Context::of(run, relation.trace, relation.sampled));
        }
        let trace = TraceId::of(run);
        is_root.then(|| Context::of(run, trace, trace.is_sampled(rate)))
    }

    /// Places a run below what is above it. False if that has no place yet.
    pub(super) fn place(&mut self, run: RunId, above: Above, spawner: Option<RunId>, rate: f64) -> bool {
        let ended = self.get(run).and_then(|relation| relation.ended);
        let below = |upper: &Relation, parent| Relation {
            trace: upper.trace,
            sampled: upper.sampled,
            parent: Some(parent),
            spawner,
            ended,
        };
        let relation = match (self.adopted.get(run), above) {
            (Some(context), _) => Relation {
                trace: context.trace,
                sampled: context.sampled,
                parent: Some(context.span),
                spawner,
                ended,
            },
            (None, Above::Nothing) => {
                let trace = TraceId::of(run);
                Relation { trace, sampled: trace.is_sampled(rate), parent: None, spawner, ended }
            }
            (None, Above::Run(upper)) => match self.get(upper) {
                Some(relation) => below(relation, SpanId::of(upper)),
                None => return false,
            },
            (None, Above::Announce(child)) => match self.get(child) {
                Some(relation) => below(relation, SpanId::of_announce(child)),
                None => return false,
            },
        };
        self.placed.insert(run, relation);
        true
    }

    /// Places a run as the store has it, and those above it that have no place yet.
    pub(super) fn place_found(&mut self, found: &Found, rate: f64) {
        for link in found.chain.iter().rev() {
            if self.get(link.run).is_none() && !self.place(link.run, link.above, link.spawner, rate) {
                // What is above it is not stored any more.
                self.place(link.run, Above::Nothing, link.spawner, rate);
            }
            if let Some(at) = link.ended {
                self.ended(link.run, at);
            }
        }
    }
}
