//! A model whose answers follow from the seed, the run and the step.

use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::ports::{
    Answer, BoxFuture, Clock, ModelError, ModelErrorKind, ModelRequest, ModelSink, Models, StopReason,
};
use offshoot_actors::types::{Entry, ModelRef, ToolCall, Usage};

use super::random::{Random, number_of};
use super::world::World;

/// The prompt that fills a lane, and how long its answer takes.
pub const PROBE: &str = "probe";
pub const PROBE_TIME: Duration = Duration::from_secs(16);

pub struct SimModels {
    pub world: Arc<World>,
    pub clock: Arc<dyn Clock>,
}

impl Models for SimModels {
    fn resolve(&self, name: &str) -> Result<ModelRef, ModelError> {
        Ok(name.parse()?)
    }

    fn call(&self, request: ModelRequest, sink: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>> {
        let (world, clock) = (Arc::clone(&self.world), Arc::clone(&self.clock));
        Box::pin(async move { answer(&world, &*clock, &request, &*sink).await })
    }
}

async fn answer(
    world: &World,
    clock: &dyn Clock,
    request: &ModelRequest,
    sink: &dyn ModelSink,
) -> Result<Answer, ModelError> {
    let call = world.history.model_began(request);
    let task = task(request);
    if task == PROBE {
        clock.sleep(PROBE_TIME).await;
        call.answered("probed", false);
        return Ok(Answer::text("probed"));
    }
    let attempt = world.attempt(request.run, request.step);
    let run = number_of(&request.run.to_string());
    let mut random = Random::of(&[world.scenario.seed, 2, run, request.step.into(), attempt]);
    let latency = if random.percent(20) { Duration::ZERO } else { random.millis(1, 4_000) };
    let patience = match random.below(100) {
        0..=2 => random.millis(20_000, 400_000),
        3..=9 if task.contains("deadline") => Duration::from_secs(100_000),
        _ => latency,
    };
    let streamed = random.percent(30);
    let text = text(call.call, &mut random);
    clock.sleep(patience / 2).await;
    if streamed {
        let (first, rest) = text.split_at(text.len() / 2);
        for piece in [first, rest] {
            if !piece.is_empty() {
                sink.text(piece);
            }
            clock.sleep(patience / 4).await;
        }
    } else {
        clock.sleep(patience / 2).await;
    }
    let kind = match random.below(100) {
        0..=5 => Some(failure(true, &mut random)),
        6..=7 => Some(failure(false, &mut random)),
        8 => panic!("the model panics {}", super::faults::ON_PURPOSE),
        _ => None,
    };
    if let Some(kind) = kind {
        call.failed(kind);
        let mut error = ModelError::new(kind, "the model fails on request");
        error.retry_after = random.percent(30).then(|| random.millis(10, 90_000));
        return Err(error);
    }
    let tool_calls = if random.percent(55) { tool_calls(world, request, &mut random) } else { Vec::new() };
    let stop = match random.below(100) {
        0..=3 => StopReason::Length,
        4..=5 => StopReason::Filtered,
        _ if tool_calls.is_empty() => StopReason::End,
        _ => StopReason::Tools,
    };
    let entries = request.transcript.entries().len() as u64;
    call.answered(&text, streamed);
    Ok(Answer { text, tool_calls, stop, usage: Usage { input: 10 + entries, output: 5, cached: 1 } })
}

fn failure(transient: bool, random: &mut Random) -> ModelErrorKind {
    let kinds = ModelErrorKind::ALL.into_iter().filter(|kind| kind.is_transient() == transient);
    *random.pick(&kinds.collect::<Vec<_>>())
}

fn task(request: &ModelRequest) -> &str {
    let entries = request.transcript.entries().iter().rev();
    let texts = entries.filter_map(|stored| match &stored.entry {
        Entry::User { text, .. } => Some(text.as_str()),
        _ => None,
    });
    texts.into_iter().next().unwrap_or_default()
}

fn text(call: u64, random: &mut Random) -> String {
    match random.below(100) {
        0..=5 => "ANNOUNCE_SKIP".to_owned(),
        6..=11 => "NO_REPLY".to_owned(),
        12..=13 => String::new(),
        _ => format!("answer {call}"),
    }
}

fn tool_calls(world: &World, request: &ModelRequest, random: &mut Random) -> Vec<ToolCall> {
    let has = |name: &str| request.tools.iter().any(|spec| &*spec.name == name);
    let mut names: Vec<&str> = Vec::new();
    let spawns = if has("spawn") && random.percent(55) {
        let wanted = random.between(1, 4);
        world.allow_spawns(wanted)
    } else {
        0
    };
    names.extend((0..spawns).map(|_| "spawn"));
    if spawns == 0 || random.percent(20) {
        let others = ["sleep", "sleep", "slow", "slow", "note", "fail", "cancel", "steer", "boom", "missing"];
        for _ in 0..random.between(1, 3) {
            // The worst is the rarest.
            let name = *random.pick(&others);
            names.push(if name == "boom" && !random.percent(30) { "note" } else { name });
        }
    }
    if random.percent(if spawns > 0 { 40 } else { 15 }) {
        names.push("yield");
    }
    names
        .into_iter()
        .enumerate()
        .map(|(index, name)| ToolCall {
            id: format!("call {index}").into(),
            name: name.into(),
            arguments: "{}".into(),
        })
        .collect()
}
