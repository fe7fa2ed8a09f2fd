use uuid::Uuid;

use super::*;
use crate::otlp::context::Context;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn run(number: u128) -> RunId {
    RunId(Uuid::from_u128(number))
}

fn key(name: &str) -> SessionKey {
    format!("agent:main:{name}").parse().unwrap()
}

#[derive(Default)]
struct Stage {
    book: Book,
    kin: Kin,
    out: Out,
    at: Nanos,
}

impl Stage {
    fn take(&mut self, what: What) {
        self.at += 1;
        self.book.take(Note { at: self.at, what }, &mut self.kin, &mut self.out);
    }

    fn asked(&mut self, number: u128) {
        self.take(What::Submitted { run: run(number), session: key("main"), cause: Cause::Message });
    }

    fn spawned(&mut self, number: u128, spawner: u128) {
        let (session, spawner) = (key(&format!("subagent:{number}")), Some(run(spawner)));
        let model = ModelRef::rehearsal();
        self.take(What::Spawned { run: run(number), session, model, label: None, spawner });
    }

    fn ended(&mut self, number: u128, state: Terminal) {
        let (usage, reason) = (Usage::default(), None);
        let session = key("main");
        self.take(What::Ended { run: run(number), session, state, reason, usage, steps: 1 });
    }

    fn settle(&mut self, undecided: bool) -> Vec<RunId> {
        self.book.settle(undecided, 1.0, &mut self.kin, &mut self.out)
    }

    fn span(&self, of: SpanId) -> &Span {
        self.out.spans.iter().find(|span| span.span_id == of).unwrap()
    }
}

#[test]
fn a_child_that_ends_first_is_below_its_parent() {
    let mut stage = Stage::default();
    stage.asked(1);
    stage.spawned(2, 1);
    stage.ended(2, Terminal::Ok);
    assert!(stage.settle(false).is_empty() && stage.book.open.len() == 1);
    let child = stage.span(SpanId::of(run(2)));
    assert_eq!((child.trace_id, child.parent_span_id), (TraceId::of(run(1)), Some(SpanId::of(run(1)))));
}

#[test]
fn nothing_of_a_run_goes_out_while_its_client_may_say_where_it_comes_from() {
    let mut stage = Stage::default();
    stage.asked(1);
    stage.spawned(2, 1);
    stage.ended(2, Terminal::Ok);
    stage.ended(1, Terminal::Ok);
    assert!(stage.settle(true).is_empty() && stage.out.spans.is_empty());
    let context = Context::parse(PARENT).unwrap();
    stage.kin.adopt(run(1), context);
    stage.settle(true);
    assert_eq!(stage.span(SpanId::of(run(1))).parent_span_id, Some(context.span));
    assert!(stage.out.spans.len() == 2 && stage.out.spans.iter().all(|span| span.trace_id == context.trace));
    assert!(stage.book.is_settled());
}

#[test]
fn what_a_client_does_not_keep_is_not_exported() {
    let mut stage = Stage::default();
    stage.kin.adopt(run(1), Context::parse(&PARENT.replace("-01", "-00")).unwrap());
    stage.asked(1);
    stage.spawned(2, 1);
    stage.ended(2, Terminal::Ok);
    stage.ended(1, Terminal::Ok);
    stage.settle(false);
    assert!(stage.out.spans.is_empty() && stage.book.open.is_empty() && stage.out.dropped == 0);
}

#[test]
fn a_run_that_fails_takes_what_it_had_begun_with_it() {
    let mut stage = Stage::default();
    stage.asked(1);
    let (session, call, name) = (key("main"), "c".into(), "exec".into());
    stage.take(What::ToolStarted { run: run(1), session, call, name });
    stage.ended(1, Terminal::Timeout);
    stage.settle(false);
    assert!(stage.out.spans.len() == 2 && stage.out.spans.iter().all(|span| span.status.is_some()));
}

#[test]
fn the_store_is_asked_for_a_run_that_nobody_saw_begin() {
    let mut stage = Stage::default();
    stage.ended(7, Terminal::Ok);
    stage.take(What::Announced { session: key("main"), runs: vec![run(8)] });
    assert_eq!(stage.settle(false), [run(7), run(8)]);
    for number in [7, 8] {
        let found = Found {
            run: run(number),
            begun: Some(0),
            model: None,
            cause: None,
            chain: vec![
                crate::otlp::lookup::Link {
                    run: run(number),
                    above: Above::Run(run(1)),
                    spawner: Some(run(1)),
                    ended: None,
                },
                crate::otlp::lookup::Link { run: run(1), above: Above::Nothing, spawner: None, ended: None },
            ],
        };
        stage.book.found(found, 1.0, &mut stage.kin, &mut stage.out);
    }
    stage.settle(false);
    assert_eq!(stage.span(SpanId::of(run(7))).trace_id, TraceId::of(run(1)));
    assert_eq!(stage.span(SpanId::of_announce(run(8))).parent_span_id, Some(SpanId::of(run(1))));
    assert!(stage.book.is_settled());
}

#[test]
fn a_run_holds_only_so_many_spans_that_have_no_place() {
    let mut stage = Stage::default();
    let (session, model) = (key("main"), ModelRef::rehearsal());
    for step in 0..MAX_HELD as u32 + 10 {
        let (session, model, spent) = (session.clone(), model.clone(), Usage::default());
        stage.take(What::StepFinished { run: run(1), session, step, model, spent });
    }
    assert_eq!(stage.out.dropped, 10);
}
