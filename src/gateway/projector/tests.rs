use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::ports::{Cause, Event, RunRow, RunState};
use offshoot_actors::types::{
    Accepted, AgentId, Entry, Mode, ModelChoice, ModelRef, Monotonic, Origin, Outcome, RunId, SessionKey,
    StoredEntry, Terminal, Timestamp, ToolCall, ToolStatus, Usage,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::payload::{Audience, Projected};
use super::projection::{Projection, TEXT_EVERY};
use super::run::Now;
use super::told::Told;
use crate::gateway::outbox::Lossy;
use crate::protocol::version::Protocol;

mod resumed;

/// A projection under a clock that only the test moves.
struct Stage {
    projection: Projection,
    now: Duration,
}

fn run() -> RunId {
    RunId(Uuid::from_u128(1))
}

fn session() -> SessionKey {
    SessionKey::main(&AgentId::main())
}

fn name(id: RunId) -> Arc<str> {
    if id == run() { "key".into() } else { id.to_string().into() }
}

fn payload(told: &Projected) -> Value {
    serde_json::from_str(told.payload(Protocol::V4).get()).unwrap()
}

fn step_finished(session: SessionKey, run: RunId) -> Event {
    let (model, usage) = (ModelRef::rehearsal(), Usage::default());
    Event::StepFinished { session, run, step: 1, model, spent: usage, usage }
}

fn step_restarted() -> Event {
    let reason = "stalled".to_owned();
    Event::StepRestarted { session: session(), run: run(), step: 1, reason, fallback: None }
}

impl Stage {
    fn new() -> Self {
        Self { projection: Projection::default(), now: Duration::from_secs(1) }
    }

    fn now(&self) -> Now {
        let millis = i64::try_from(self.now.as_millis()).unwrap();
        Now { at: Timestamp(millis), monotonic: Monotonic(0) + self.now }
    }

    fn take(&mut self, event: Event) -> Vec<Projected> {
        let (now, mut told) = (self.now(), Vec::new());
        self.projection.take(event, now, &name, &mut |projected| told.push(projected));
        told
    }

    fn after(&mut self, time: Duration) -> Vec<Projected> {
        self.now += time;
        let (now, mut told) = (self.now(), Vec::new());
        self.projection.flush_due(now, &mut |projected| told.push(projected));
        told
    }

    fn start(&mut self) -> Vec<Projected> {
        let (session, run) = (session(), run());
        let submitted = Event::Submitted {
            session: session.clone(),
            run,
            cause: Cause::Message,
            wire_id: Some("key".to_owned()),
        };
        let mut told = self.take(submitted);
        told.extend(self.take(Event::Started { session, run }));
        told
    }

    fn text(&mut self, piece: &str) -> Vec<Projected> {
        self.take(Event::Text { session: session(), run: run(), piece: piece.into() })
    }

    fn step_over(&mut self) -> Vec<Projected> {
        self.take(step_finished(session(), run()))
    }

    fn end(&mut self, outcome: Outcome) -> Vec<Projected> {
        let usage = Usage { input: 3, output: 2, cached: 0 };
        self.take(Event::Ended { session: session(), run: run(), outcome, usage, steps: 1 })
    }
}

/// Names of events with what tells them apart.
fn names(told: &[Projected]) -> Vec<String> {
    let word = |told: &Projected| {
        let payload = payload(told);
        let words = [
            &payload["stream"],
            &payload["data"]["phase"],
            &payload["state"],
            &payload["phase"],
            &payload["reason"],
        ];
        let words: Vec<&str> = words.into_iter().filter_map(Value::as_str).collect();
        format!("{} {}", told.name, words.join(" ")).trim_end().to_owned()
    };
    told.iter().map(word).collect()
}

fn chats(told: &[Projected]) -> Vec<Value> {
    told.iter().filter(|told| told.name == "chat").map(payload).collect()
}

#[test]
fn a_run_is_told_in_order_with_numbers_without_gaps() {
    let mut stage = Stage::new();
    let mut told = stage.start();
    told.extend(stage.text("Hel"));
    told.extend(stage.text("lo"));
    told.extend(stage.step_over());
    told.extend(stage.end(Outcome::ok("Hello")));
    assert_eq!(
        names(&told),
        [
            "sessions.changed send",
            "agent lifecycle start",
            "sessions.changed start",
            "agent assistant",
            "chat delta",
            "agent assistant",
            "chat delta",
            "agent lifecycle end",
            "chat final",
            "sessions.changed end",
        ]
    );
    let numbers: Vec<_> =
        told.iter().filter(|told| told.name == "agent").map(|told| payload(told)["seq"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert!(told.iter().filter(|told| told.name == "agent").all(|told| payload(told)["runId"] == "key"));
    let last = chats(&told).pop().unwrap();
    assert_eq!(last["message"]["content"][0]["text"], "Hello");
    assert_eq!(last["agentId"], "main");
    assert_eq!(stage.projection.len(), 0, "nothing is kept of a run that ended");
}

#[test]
fn text_comes_at_most_so_often_and_is_never_left_behind() {
    let mut stage = Stage::new();
    stage.start();
    assert_eq!(chats(&stage.text("a")).len(), 1);
    for _ in 0..10 {
        assert!(stage.text("b").is_empty());
        assert!(stage.after(Duration::from_millis(10)).is_empty());
    }
    let told = stage.after(Duration::from_millis(50));
    assert_eq!(chats(&told)[0]["message"]["content"][0]["text"], "abbbbbbbbbb");
    assert_eq!(chats(&told)[0]["deltaText"], "bbbbbbbbbb");
    assert_eq!(payload(&told[0])["data"], json!({"text": "abbbbbbbbbb", "delta": "bbbbbbbbbb"}));
    assert!(stage.after(TEXT_EVERY).is_empty(), "nothing new, nothing told");
    assert_eq!(stage.projection.next_due(), None);
    stage.text("c");
    stage.text("d");
    let told = stage.end(Outcome::ok("abbbbbbbbbbcd"));
    assert_eq!(
        names(&told)[..2],
        ["agent assistant", "chat delta"],
        "what is held back comes before the end"
    );
    assert_eq!(stage.projection.next_due(), None);
}

#[test]
fn the_pieces_add_up_to_the_whole_over_steps() {
    let mut stage = Stage::new();
    stage.start();
    let mut told = stage.text("first ");
    told.extend(stage.text("step"));
    told.extend(stage.step_over());
    stage.now += TEXT_EVERY;
    told.extend(stage.text("second"));
    let deltas = chats(&told);
    let pieces: String = deltas.iter().map(|delta| delta["deltaText"].as_str().unwrap()).collect();
    assert_eq!(pieces, "first step\n\nsecond");
    assert_eq!(deltas.last().unwrap()["message"]["content"][0]["text"], pieces);
    let assistant = told.iter().rfind(|told| told.name == "agent").map(payload).unwrap();
    assert_eq!(
        assistant["data"],
        json!({"text": "second", "delta": "second"}),
        "an agent's text is that of the step"
    );
}

#[test]
fn a_step_that_is_made_again_replaces_what_was_said() {
    let mut stage = Stage::new();
    stage.start();
    stage.text("wrong and long");
    assert!(stage.take(step_restarted()).is_empty());
    stage.now += TEXT_EVERY;
    let told = stage.text("right");
    assert_eq!(payload(&told[0])["data"], json!({"text": "right", "delta": "right", "replace": true}));
    let chat = payload(&told[1]);
    assert_eq!((&chat["deltaText"], &chat["replace"]), (&json!("right"), &json!(true)));
    assert_eq!(chats(&stage.after(TEXT_EVERY)).len(), 0);
}

#[test]
fn who_has_nothing_to_say_says_nothing() {
    let mut stage = Stage::new();
    stage.start();
    let mut told = Vec::new();
    for piece in ["NO", "_REP", "LY"] {
        told.extend(stage.text(piece));
        told.extend(stage.after(TEXT_EVERY));
    }
    assert!(chats(&told).is_empty());
    let told = stage.end(Outcome::ok("NO_REPLY"));
    let chats = chats(&told);
    assert_eq!((chats.len(), &chats[0]["state"]), (1, &json!("final")));
    assert!(chats[0].get("message").is_none());
    let mut stage = Stage::new();
    stage.start();
    assert!(chats_of(stage.text("NO")).is_empty());
    stage.now += TEXT_EVERY;
    assert_eq!(chats_of(stage.text(" problem"))[0]["deltaText"], "NO problem");
}

fn chats_of(told: Vec<Projected>) -> Vec<Value> {
    chats(&told)
}

#[test]
fn every_end_is_told_exactly_once() {
    for state in Terminal::ALL {
        let mut stage = Stage::new();
        let mut told = stage.start();
        let outcome = match state {
            Terminal::Ok => Outcome::ok("x"),
            state => Outcome::ended(state, "because", Some("half".to_owned())),
        };
        told.extend(stage.end(outcome));
        let chats = chats(&told);
        assert_eq!(chats.len(), 1, "{state}");
        assert_eq!(stage.projection.len(), 0);
        let ends = told.iter().map(payload).filter(|told| told["stream"] == "lifecycle");
        let phases: Vec<Value> = ends.map(|told| told["data"]["phase"].clone()).collect();
        let (chat, phase) = match state {
            Terminal::Ok | Terminal::Partial => ("final", "end"),
            Terminal::Cancelled => ("aborted", "end"),
            _ => ("error", "error"),
        };
        assert_eq!((&chats[0]["state"], &phases[1]), (&json!(chat), &json!(phase)), "{state}");
        assert_eq!(chats[0].get("errorMessage").is_some(), phase == "error");
        let aborts = names(&told).iter().filter(|name| *name == "sessions.changed abort").count();
        assert_eq!(aborts, usize::from(state == Terminal::Cancelled));
    }
}

#[test]
fn a_run_that_waited_for_its_children_starts_once() {
    let mut stage = Stage::new();
    stage.start();
    assert!(stage.take(Event::Yielded { session: session(), run: run() }).is_empty());
    assert!(stage.take(Event::Started { session: session(), run: run() }).is_empty());
}

#[test]
fn tool_events_are_for_those_who_started_the_run_and_for_followers() {
    let mut stage = Stage::new();
    stage.start();
    let call = ToolCall { id: "c1".into(), name: "read".into(), arguments: r#"{"path":"x"}"#.into() };
    let entry = Entry::Assistant {
        text: String::new(),
        tool_calls: vec![call],
        model: ModelRef::rehearsal(),
        usage: Usage::default(),
    };
    let entry = Arc::new(StoredEntry { seq: 1, run: Some(run()), at: Timestamp(1), entry });
    let told = stage.take(Event::Appended { session: session(), entries: vec![entry] });
    assert_eq!(names(&told), ["session.message", "sessions.changed message"]);
    assert_eq!(told[0].audience, Audience::Listeners(session()));
    let message = payload(&told[0]);
    assert_eq!((&message["messageId"], &message["messageSeq"]), (&json!("00000001"), &json!(2)));
    assert_eq!(message["message"]["__openclaw"], json!({"id": "00000001", "seq": 2, "runId": "key"}));
    let (call, name) = (Arc::from("c1"), Arc::from("read"));
    let mut told = stage.take(Event::ToolStarted { session: session(), run: run(), call, name });
    let finished =
        Event::ToolFinished { session: session(), run: run(), call: "c1".into(), status: ToolStatus::Ok };
    told.extend(stage.take(finished));
    assert_eq!(
        names(&told),
        ["agent tool start", "session.tool tool start", "agent tool result", "session.tool tool result"]
    );
    assert_eq!(told[0].audience, Audience::Starter("key".into()));
    assert_eq!(told[1].audience, Audience::Followers);
    assert_eq!(payload(&told[0]), payload(&told[1]));
    assert_eq!(
        payload(&told[0])["data"],
        json!({"phase": "start", "name": "read", "toolCallId": "c1", "args": {"path": "x"}})
    );
    assert_eq!(
        payload(&told[2])["data"],
        json!({"phase": "result", "name": "read", "toolCallId": "c1", "isError": false})
    );
}

#[test]
fn nothing_of_a_run_comes_after_its_end() {
    let mut stage = Stage::new();
    stage.start();
    stage.text("Hel");
    let call: Arc<str> = "c1".into();
    let (session, run) = (session(), run());
    let late = [
        Event::Text { session: session.clone(), run, piece: "lo".into() },
        step_finished(session.clone(), run),
        Event::ToolStarted { session: session.clone(), run, call: Arc::clone(&call), name: "read".into() },
        Event::ToolFinished { session, run, call, status: ToolStatus::Ok },
    ];
    assert_ne!(stage.end(Outcome::ok("Hel")).len(), 0);
    let told: Vec<_> = late.into_iter().flat_map(|event| stage.take(event)).collect();
    assert_eq!(names(&told), [""; 0]);
    assert_eq!(stage.projection.len(), 0, "nothing is kept of it");
}

/// A spawn with this label: its run, its session, and the event.
fn spawn(label: Option<&str>) -> (RunId, SessionKey, Event) {
    let child: SessionKey = SessionKey::subagent(&AgentId::main(), Uuid::from_u128(9));
    let id = RunId(Uuid::from_u128(7));
    let accepted = Accepted {
        run: id,
        session: child.clone(),
        agent: AgentId::main(),
        model: ModelChoice { primary: ModelRef::rehearsal(), fallbacks: Vec::new() },
        timeout: None,
        depth: 1,
        mode: Mode::Run,
        expects_completion: true,
        tools: Arc::from([]),
    };
    let entry = Entry::User { text: "\n Look there\nand here".into(), origin: Origin::Embedder };
    let task = StoredEntry { seq: 0, run: Some(id), at: Timestamp(1_000), entry };
    let spawned = Event::Spawned {
        parent: session(),
        child: Arc::new(accepted),
        label: label.map(str::to_owned),
        task: Arc::new(task),
        origin: Origin::Embedder,
    };
    (id, child, spawned)
}

#[test]
fn a_sub_agent_without_a_label_is_called_by_what_it_was_asked_whoever_was_there_to_hear_it() {
    let mut stage = Stage::new();
    let (run, session, spawned) = spawn(None);
    let mut told = stage.take(spawned);
    // Nobody was connected when its transcript began.
    told.extend(stage.take(Event::Started { session, run }));
    let tasks: Vec<Value> = told.iter().filter(|told| told.name == "task").map(payload).collect();
    let titles: Vec<&Value> = tasks.iter().map(|task| &task["task"]["title"]).collect();
    assert_eq!(titles, ["Look there"; 2]);
}

#[test]
fn nothing_of_a_sub_agent_comes_before_its_spawn() {
    let mut stage = Stage::new();
    let (id, child, spawned) = spawn(Some("helper"));
    let mut told = stage.take(spawned);
    told.extend(stage.take(Event::Started { session: child.clone(), run: id }));
    told.extend(stage.take(step_finished(child.clone(), id)));
    let (outcome, usage) = (Outcome::ok("done"), Usage::default());
    told.extend(stage.take(Event::Ended { session: child, run: id, outcome, usage, steps: 1 }));
    assert_eq!(
        names(&told),
        [
            "subagent.spawned",
            "task",
            "sessions.changed create",
            "agent lifecycle start",
            "sessions.changed start",
            "subagent.started",
            "task",
            "subagent.progress",
            "agent lifecycle end",
            "chat final",
            "sessions.changed end",
            "sessions.changed subagent-status",
            "subagent.ended ok",
            "task",
        ]
    );
    let tasks: Vec<Value> = told.iter().filter(|told| told.name == "task").map(payload).collect();
    let statuses: Vec<&Value> = tasks.iter().map(|task| &task["task"]["status"]).collect();
    assert_eq!(statuses, ["queued", "running", "completed"]);
    assert!(tasks.iter().all(|task| task["action"] == "upserted" && task["task"]["title"] == "helper"));
    assert!(told.iter().all(|told| {
        let payload = payload(told);
        payload["parentSessionKey"] == json!(session())
            || payload["spawnedBy"] == json!(session())
            || payload["session"]["spawnedBy"] == json!(session())
            || payload["task"]["ownerKey"] == json!(session())
    }));
    assert_eq!(told.iter().filter(|told| told.lossy == Lossy::Droppable).count(), 5);
}

/// A run as the store has it, in this state.
fn stored(outcome: Option<Outcome>) -> RunRow {
    let row = offshoot_actors::contract::child_run(1, &session(), &session(), None);
    let state = outcome.as_ref().map_or(RunState::Running, |outcome| RunState::Ended(outcome.state));
    let ended_at = outcome.as_ref().map(|_| Timestamp(7_000));
    RunRow {
        id: run(),
        cause: Cause::Message,
        wire_id: Some("key".to_owned()),
        state,
        outcome,
        ended_at,
        ..row
    }
}

#[test]
fn after_a_panic_numbers_go_on_and_an_end_that_was_missed_is_told_once() {
    let told = Arc::new(Told::default());
    let stage = || Stage { projection: Projection::new(Arc::clone(&told)), now: Duration::from_secs(1) };
    let number = |told: &[Projected]| payload(&told[0])["seq"].as_u64().unwrap();
    let mut first = stage();
    first.start();
    let before = number(&first.text("Hel"));
    let mut second = stage();
    assert_eq!(told.open(), [run()]);
    second.projection.resume(&stored(None), None, None);
    let after = number(&second.text("lo"));
    assert_eq!(after, before + 1);
    // The end was in the message in which it panicked; or it is still to come.
    let mut third = stage();
    let mut heard = Vec::new();
    let row = stored(Some(Outcome::ok("Hello")));
    third.projection.resume(&row, None, None);
    third.projection.tell_missed_end(&row, third.now(), &mut |projected| heard.push(projected));
    assert_eq!(chats(&heard)[0]["state"], "final");
    assert_eq!((number(&heard), &payload(&heard[0])["data"]["endedAt"]), (after + 1, &json!(7_000)));
    assert_eq!(told.open(), []);
    for old in [third.text("lo"), third.end(Outcome::ok("Hello"))] {
        assert!(old.is_empty(), "{old:?}");
    }
    assert_eq!(third.projection.len(), 0);
}
