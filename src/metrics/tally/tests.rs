use offshoot_actors::policy::cost::Price;
use offshoot_actors::types::{AgentId, ModelRef, Outcome};
use uuid::Uuid;

use super::*;

/// A tally under a clock that only the test moves.
struct Stage {
    tally: Tally,
    now: Monotonic,
    prices: Prices,
}

impl Stage {
    fn new() -> Self {
        let tally = Tally::new(["read", "exec"].into_iter());
        tally.know_models(["local/known".to_owned()].into());
        let price = Price { input: 1.0, output: 2.0, ..Price::default() };
        let prices = [("local/known".parse().unwrap(), price)].into_iter().collect();
        Self { tally, now: Monotonic(0), prices }
    }

    fn after(&mut self, seconds: u64, event: Event) {
        self.now = self.now + Duration::from_secs(seconds);
        self.tally.hear(&event, self.now, &self.prices);
    }

    /// The lines of the page that begin with one of these.
    fn lines(&self, starts: &[&str]) -> Vec<String> {
        let mut page = Page::default();
        self.tally.write(&mut page, self.now, Duration::from_secs(120));
        let page = page.finish();
        let wanted = |line: &&str| starts.iter().any(|start| line.starts_with(start));
        let mut lines: Vec<_> = page.lines().filter(wanted).map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

fn run(number: u128) -> RunId {
    RunId(Uuid::from_u128(number))
}

fn child() -> SessionKey {
    SessionKey::subagent(&AgentId::main(), Uuid::from_u128(9))
}

fn submitted(number: u128) -> Event {
    Event::Submitted { session: child(), run: run(number), cause: Cause::Message, wire_id: None }
}

fn ended(number: u128) -> Event {
    let (outcome, usage) = (Outcome::ok("done"), Usage::default());
    Event::Ended { session: child(), run: run(number), outcome, usage, steps: 1 }
}

fn step_finished(number: u128, model: &str) -> Event {
    let spent = Usage { input: 10, output: 3, cached: 4 };
    let model: ModelRef = model.parse().unwrap();
    Event::StepFinished { session: child(), run: run(number), step: 1, model, spent, usage: spent }
}

#[test]
fn a_run_is_measured_from_its_acceptance_to_its_parent_having_the_result() {
    let mut stage = Stage::new();
    let model: ModelRef = "local/known".parse().unwrap();
    stage.after(0, submitted(1));
    stage.after(2, Event::Started { session: child(), run: run(1) });
    stage.after(0, Event::StepStarted { session: child(), run: run(1), step: 1, model });
    stage.after(5, step_finished(1, "local/known"));
    stage.after(
        0,
        Event::ToolStarted { session: child(), run: run(1), call: "c".into(), name: "exec".into() },
    );
    stage.after(
        3,
        Event::ToolFinished { session: child(), run: run(1), call: "c".into(), status: ToolStatus::Error },
    );
    stage.after(0, Event::Started { session: child(), run: run(1) });
    stage.after(1, ended(1));
    stage.after(
        7,
        Event::Announced { session: SessionKey::main(&AgentId::main()), runs: vec![run(1), run(2)] },
    );
    let expected = [
        "offshoot_announce_latency_seconds_count 1",
        "offshoot_announce_latency_seconds_sum 7",
        "offshoot_lane_wait_seconds_count{lane=\"main\"} 0",
        "offshoot_lane_wait_seconds_count{lane=\"subagent\"} 1",
        "offshoot_lane_wait_seconds_sum{lane=\"main\"} 0",
        "offshoot_lane_wait_seconds_sum{lane=\"subagent\"} 2",
        "offshoot_step_seconds_sum 5",
        "offshoot_tool_calls_total{tool=\"exec\",status=\"error\"} 1",
        "offshoot_tool_calls_total{tool=\"exec\",status=\"ok\"} 0",
        "offshoot_tool_calls_total{tool=\"exec\",status=\"unknown\"} 0",
        "offshoot_tool_seconds_sum{tool=\"exec\"} 3",
    ];
    let starts = [
        "offshoot_announce_latency_seconds_count",
        "offshoot_announce_latency_seconds_sum",
        "offshoot_lane_wait_seconds_count",
        "offshoot_lane_wait_seconds_sum",
        "offshoot_step_seconds_sum",
        "offshoot_tool_calls_total",
        "offshoot_tool_seconds_sum",
    ];
    assert_eq!(stage.lines(&starts), expected);
    assert!(stage.tally.open.is_empty());
}

#[test]
fn labels_come_from_the_configuration_and_never_from_a_model() {
    let mut stage = Stage::new();
    stage.after(0, submitted(1));
    for call in 0..50 {
        stage.after(0, step_finished(1, &format!("local/made-up-{call}")));
        let (call, name): (Arc<str>, Arc<str>) = (call.to_string().into(), format!("made_up_{call}").into());
        stage.after(0, Event::ToolStarted { session: child(), run: run(1), call: Arc::clone(&call), name });
        stage.after(0, Event::ToolFinished { session: child(), run: run(1), call, status: ToolStatus::Ok });
    }
    let expected = [
        "offshoot_tokens_total{model=\"local/known\",kind=\"cached\"} 0",
        "offshoot_tokens_total{model=\"local/known\",kind=\"input\"} 0",
        "offshoot_tokens_total{model=\"local/known\",kind=\"output\"} 0",
        "offshoot_tokens_total{model=\"other\",kind=\"cached\"} 200",
        "offshoot_tokens_total{model=\"other\",kind=\"input\"} 500",
        "offshoot_tokens_total{model=\"other\",kind=\"output\"} 150",
        "offshoot_tool_seconds_count{tool=\"other\"} 50",
    ];
    assert_eq!(stage.lines(&["offshoot_tokens_total", "offshoot_tool_seconds_count"]), expected);
}

#[test]
fn a_call_that_an_earlier_process_began_is_counted_without_a_name() {
    let mut stage = Stage::new();
    let finished =
        Event::ToolFinished { session: child(), run: run(1), call: "c".into(), status: ToolStatus::Unknown };
    stage.after(0, finished);
    let expected = [
        "offshoot_tool_calls_total{tool=\"other\",status=\"error\"} 0",
        "offshoot_tool_calls_total{tool=\"other\",status=\"ok\"} 0",
        "offshoot_tool_calls_total{tool=\"other\",status=\"unknown\"} 1",
        "offshoot_tool_seconds_count{tool=\"other\"} 0",
    ];
    let written = stage
        .lines(&["offshoot_tool_calls_total{tool=\"other\"", "offshoot_tool_seconds_count{tool=\"other\""]);
    assert_eq!(written, expected);
}

#[test]
fn a_run_is_silent_while_it_works_and_gives_no_sign_of_life() {
    let mut stage = Stage::new();
    let silent = |stage: &Stage| stage.lines(&["offshoot_runs_silent "]).join("");
    stage.after(0, submitted(1));
    stage.after(500, Event::Started { session: child(), run: run(1) });
    assert_eq!(silent(&stage), "offshoot_runs_silent 0");
    stage.after(121, submitted(2));
    assert_eq!(silent(&stage), "offshoot_runs_silent 1");
    stage.after(0, Event::Text { session: child(), run: run(1), piece: "x".into() });
    assert_eq!(silent(&stage), "offshoot_runs_silent 0");
    stage.after(0, Event::Yielded { session: child(), run: run(1) });
    stage.after(500, submitted(3));
    assert_eq!(silent(&stage), "offshoot_runs_silent 0");
}

#[test]
fn a_tool_that_does_not_answer_is_seen_growing_old() {
    let mut stage = Stage::new();
    let seen = |stage: &Stage| stage.lines(&["offshoot_tool_calls_running{", "offshoot_tool_call_oldest_"]);
    let started = |number, call: &str| Event::ToolStarted {
        session: child(),
        run: run(number),
        call: call.into(),
        name: "exec".into(),
    };
    stage.after(0, submitted(1));
    stage.after(0, submitted(2));
    assert_eq!(seen(&stage), [""; 0]);
    stage.after(0, started(1, "a"));
    stage.after(2, started(2, "b"));
    stage.now = stage.now + Duration::from_millis(500);
    let lines = |count, seconds| {
        [
            format!("offshoot_tool_call_oldest_seconds{{tool=\"exec\"}} {seconds}"),
            format!("offshoot_tool_calls_running{{tool=\"exec\"}} {count}"),
        ]
    };
    assert_eq!(seen(&stage), lines(2, 2.5));
    let (call, status) = ("a".into(), ToolStatus::Ok);
    stage.after(0, Event::ToolFinished { session: child(), run: run(1), call, status });
    assert_eq!(seen(&stage), lines(1, 0.5));
    stage.after(0, ended(2));
    assert_eq!(seen(&stage), lines(0, 0.0));
}

#[test]
fn what_is_remembered_of_runs_that_ended_has_a_bound() {
    let mut stage = Stage::new();
    for number in 0..10_000 {
        stage.after(0, submitted(number));
        stage.after(0, ended(number));
    }
    let awaited = stage.tally.awaited.lock().unwrap();
    assert_eq!((stage.tally.open.len(), awaited.at.len(), awaited.order.len()), (0, ENDED, ENDED));
}

#[test]
fn restarts_are_counted_by_what_was_restarted() {
    let mut stage = Stage::new();
    let note = |actor, kind| Event::Noted(Note { path: "offshoot".to_owned(), actor, kind });
    let rebuilt = || NoteKind::Rebuilt { reason: "boom".to_owned() };
    stage.after(0, note("session", rebuilt()));
    stage.after(0, note("session", rebuilt()));
    stage.after(
        0,
        note(
            "root",
            NoteKind::Restarting { child: "gateway".to_owned(), reason: "boom".to_owned(), after_ms: 5 },
        ),
    );
    stage.after(0, note("session", NoteKind::GaveUp { reason: "boom".to_owned() }));
    let expected = [
        "offshoot_actor_restarts_total{kind=\"gateway\"} 1",
        "offshoot_actor_restarts_total{kind=\"session\"} 2",
    ];
    assert_eq!(stage.lines(&["offshoot_actor_restarts_total"]), expected);
}
