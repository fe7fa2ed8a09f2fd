//! Screens and keys without a terminal.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use offshoot_actors::types::Scope;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::super::exit::{Exit, Failure};
use super::super::watch::sample::{self, NOW};
use super::super::watch::{Forest, Heard, Sort};
use super::keys::{About, Call, Wish, press};
use super::model::{Mode, Model};
use super::{hear, view};
use crate::client::Event;

fn model() -> Model {
    let mut model = Model::new();
    model.forest = Forest::of(sample::snapshot());
    model.arrived();
    model
}

fn screen(model: &mut Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(model, frame, true)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let rows = buffer.content.chunks(usize::from(width));
    rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned())
        .collect()
}

fn keys(model: &mut Model, codes: impl IntoIterator<Item = KeyCode>) -> Vec<Wish> {
    codes.into_iter().flat_map(|code| press(model, KeyEvent::new(code, KeyModifiers::NONE))).collect()
}

fn typed(model: &mut Model, text: &str) -> Vec<Wish> {
    keys(model, text.chars().map(KeyCode::Char))
}

fn select(model: &mut Model, name: &str) {
    let place = model.rows().iter().position(|row| row.node.name == name).unwrap();
    model.select(place);
}

fn event(name: &str, payload: Value) -> Heard {
    Heard::Event(Event { name: name.to_owned(), payload, seq: None })
}

fn hear(model: &mut Model, heard: Heard, about: Option<About>) -> bool {
    hear::take(model, heard, |_| about).unwrap()
}

#[test]
fn the_tree_fills_the_screen_with_details_of_what_is_selected() {
    let mut model = model();
    select(&mut model, "run aaaa");
    let shown = screen(&mut model, 160, 24);
    assert!(
        shown[0].starts_with("offshoot  up 1m00s  9 actors  2 running, 0 queued, 0 waiting"),
        "{}",
        shown[0]
    );
    assert!(shown[1].starts_with("▾ offshoot  running"), "{}", shown[1]);
    assert!(shown[5].starts_with("   └─ ▾ session agent:main:main  running"), "{}", shown[5]);
    let all = shown.join("\n");
    for text in [
        "      └─ run aaaa  running  exec(ls -l)",
        "┌ run aaaa ",
        "step       3/50",
        "the last words",
        "? help",
    ] {
        assert!(all.contains(text), "no {text} in\n{all}");
    }
    hear(
        &mut model,
        event(
            "agent",
            json!({"runId": "wire-aaaa", "stream": "assistant", "data": {"text": "as it\ncomes\u{1b}"}}),
        ),
        None,
    );
    for (phase, is_error) in [("start", false), ("result", true)] {
        let data = json!({"phase": phase, "name": "exec", "toolCallId": "1", "args": {"command": "ls"}, "isError": is_error});
        hear(&mut model, event("session.tool", json!({"runId": "wire-aaaa", "data": data})), None);
    }
    hear(
        &mut model,
        event("agent", json!({"runId": "other", "stream": "assistant", "data": {"text": "no"}})),
        None,
    );
    let all = screen(&mut model, 160, 30).join("\n");
    assert!(all.contains("FAILED  exec {\"command\":\"ls\"}") && all.contains("comes\u{fffd}"), "{all}");
    model.select(0);
    assert!(!screen(&mut model, 160, 24).join("\n").contains("comes"));
}

#[test]
fn any_size_of_terminal_is_drawn() {
    for mode in [
        Mode::Tree,
        Mode::Help,
        Mode::Filter,
        Mode::Log { title: "x".into(), lines: vec!["y".into(); 50], scroll: 40 },
    ] {
        let mut model = model();
        model.mode = mode;
        for (width, height) in [(1, 1), (2, 2), (10, 3), (20, 5), (80, 18), (119, 40), (120, 4), (300, 100)] {
            let shown = screen(&mut model, width, height);
            assert_eq!(shown.len(), usize::from(height));
        }
    }
}

#[test]
fn what_is_wrong_is_readable_without_colours() {
    let mut model = model();
    let mut tree = sample::snapshot();
    tree.nodes[1].actor.as_mut().unwrap().stuck = true;
    tree.nodes[5].run.as_mut().unwrap().silent = true;
    model.forest = Forest::of(tree);
    model.arrived();
    let mut terminal = Terminal::new(TestBackend::new(100, 14)).unwrap();
    terminal.draw(|frame| view::draw(&mut model, frame, false)).unwrap();
    let buffer = terminal.backend().buffer();
    assert!(buffer.content.iter().all(|cell| cell.fg == ratatui::style::Color::Reset));
    let text: String = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
    assert!(text.contains("gateway  running  STUCK: not answering") && text.contains("SILENT"), "{text}");
}

#[test]
fn the_selection_stays_in_sight_and_moves_on_when_its_node_goes() {
    let mut model = model();
    screen(&mut model, 80, 6);
    keys(&mut model, [KeyCode::End]);
    assert!(screen(&mut model, 80, 6).join("\n").contains("run aaaa"));
    keys(&mut model, [KeyCode::PageUp, KeyCode::Up]);
    let at = model.selected.clone();
    assert_eq!(model.node().unwrap().name, "agent:main:main");
    let totals = sample::snapshot().totals;
    let delta = json!({"base": 10, "rev": 11, "ts": NOW.0, "total": 4, "truncated": false, "lanes": [], "totals": totals,
        "changed": [], "gone": ["4", "5", "6", "7", "9"]});
    assert!(!hear(&mut model, event("tree", delta.clone()), None));
    assert_ne!(model.selected, at);
    assert_eq!(model.node().unwrap().name, "sessions");
    assert!(hear(&mut model, event("tree", delta), None), "a delta of another state asks for the whole tree");
}

#[test]
fn nodes_close_and_open_and_are_ordered() {
    let mut model = model();
    select(&mut model, "run bbbb");
    keys(&mut model, [KeyCode::Left, KeyCode::Left]);
    assert_eq!(model.node().unwrap().name, "agent:main:subagent:aa");
    let shown = screen(&mut model, 100, 14).join("\n");
    assert!(shown.contains("▸ session agent:main:subagent:aa") && shown.contains("… 1 below"), "{shown}");
    keys(&mut model, [KeyCode::Right]);
    assert!(screen(&mut model, 100, 14).join("\n").contains("run bbbb"));
    typed(&mut model, "ooo");
    assert_eq!(model.sort, Sort::Tokens);
    assert!(screen(&mut model, 160, 14)[0].contains("by tokens"));
    assert_eq!(
        model.node().unwrap().name,
        "agent:main:subagent:aa",
        "the selection does not move with the order"
    );
}

#[test]
fn a_filter_is_typed_and_taken_back() {
    let mut model = model();
    typed(&mut model, "/bbqq");
    assert!(screen(&mut model, 80, 10).join("\n").contains("nothing has this text"));
    keys(&mut model, [KeyCode::Backspace, KeyCode::Backspace, KeyCode::Enter]);
    let shown = screen(&mut model, 80, 10).join("\n");
    assert!(
        shown.contains("run bbbb") && !shown.contains("run aaaa") && shown.contains("with \"bb\""),
        "{shown}"
    );
    keys(&mut model, [KeyCode::Esc]);
    assert!(screen(&mut model, 80, 12).join("\n").contains("run aaaa"));
}

#[test]
fn a_cancel_is_asked_for_first_and_takes_all_that_is_open_below() {
    let mut model = model();
    select(&mut model, "gateway");
    assert_eq!(typed(&mut model, "c"), []);
    assert!(model.status.take().unwrap().text.contains("nothing is open in gateway"));
    select(&mut model, "agent:main:main");
    assert_eq!(typed(&mut model, "cn"), []);
    assert_eq!(typed(&mut model, "cx"), []);
    assert!(screen(&mut model, 80, 12).join("\n").contains("cancel session agent:main:main, 2 runs? [y/n]"));
    let wishes = typed(&mut model, "y");
    let params: Vec<&Value> = wishes
        .iter()
        .map(|wish| match wish {
            Wish::Call(Call { method: "sessions.abort", params, scope: None, .. }) => params,
            other => panic!("{other:?}"),
        })
        .collect();
    let [main, sub] = ["aaaa", "bbbb"].map(|run| format!("{run}-0000-0000-0000-000000000000"));
    assert_eq!(
        params,
        [
            &json!({"key": "agent:main:main", "runId": main}),
            &json!({"key": "agent:main:subagent:aa", "runId": sub})
        ]
    );
    hear(&mut model, Heard::Answer(1, Ok(json!({"status": "aborted"}))), Some(About::Cancel(main)));
    assert!(model.status.as_ref().unwrap().text.starts_with("cancelled run aaaa"));
}

#[test]
fn a_message_is_typed_and_steers_the_session() {
    let mut model = model();
    typed(&mut model, "s");
    assert!(model.status.take().unwrap().bad, "the root is no session");
    select(&mut model, "run bbbb");
    typed(&mut model, "sgo q ");
    assert!(
        screen(&mut model, 90, 12)
            .join("\n")
            .contains("steer agent:main:subagent:aa, which ends its run: go q")
    );
    let wishes = keys(&mut model, [KeyCode::Enter]);
    let params = json!({"key": "agent:main:subagent:aa", "message": "go q "});
    let about = About::Steer("agent:main:subagent:aa".to_owned());
    let call = Call { about: about.clone(), method: "sessions.steer", params, scope: None };
    assert_eq!(wishes, [Wish::Call(call)]);
    let refused =
        Failure::new(Exit::Refused, "missing_scope", "missing scope: operator.write").with_hint("sign in");
    hear(&mut model, Heard::Answer(1, Err(refused)), Some(about));
    let status = model.status.clone().unwrap();
    assert_eq!((status.text.as_str(), status.bad), ("missing scope: operator.write; sign in", true));
    typed(&mut model, "sx");
    assert_eq!(keys(&mut model, [KeyCode::Esc]), []);
    assert_eq!(model.mode, Mode::Tree);
}

#[test]
fn a_result_is_tried_again_and_an_id_is_copied() {
    let mut model = model();
    select(&mut model, "run aaaa");
    let run = "aaaa-0000-0000-0000-000000000000";
    match &*typed(&mut model, "ry") {
        [
            Wish::Call(Call { method: "deliveries.retry", params, scope: Some(Scope::Admin), .. }),
            Wish::Copy(copied),
        ] => {
            assert_eq!((params, copied.as_str()), (&json!({"runId": run}), run));
        }
        other => panic!("{other:?}"),
    }
    select(&mut model, "gateway");
    assert_eq!(typed(&mut model, "ry"), [Wish::Copy("offshoot/gateway".to_owned())]);
}

#[test]
fn a_transcript_is_read_in_its_place_and_left() {
    let mut model = model();
    let asks = |wishes: &[Wish]| match wishes {
        [Wish::Call(call)] => (call.method, call.about.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(asks(&typed(&mut model, "l")).0, "logs.tail");
    select(&mut model, "run aaaa");
    let (method, about) = asks(&typed(&mut model, "l"));
    assert_eq!((method, &about), ("chat.history", &About::Log("agent:main:main".to_owned())));
    let messages = json!({"messages": [
        {"role": "user", "content": [{"type": "text", "text": "go\u{1b}\non"}]},
        {"role": "assistant", "content": [{"type": "toolCall", "name": "exec", "arguments": {"a": 1}}]},
        {"role": "toolResult", "toolName": "exec", "content": "done"},
    ]});
    hear(&mut model, Heard::Answer(1, Ok(messages)), Some(about));
    let shown = screen(&mut model, 80, 14).join("\n");
    for text in ["agent:main:main", "user:", "  on", "calls exec {\"a\":1}", "toolResult exec:", "  done"] {
        assert!(shown.contains(text), "no {text} in {shown}");
    }
    assert_eq!(typed(&mut model, "q"), [], "leaves the log, not the program");
    assert_eq!(typed(&mut model, "q"), [Wish::Quit]);
}

#[test]
fn a_gateway_that_went_away_is_told_and_so_is_that_it_is_back() {
    let mut model = model();
    typed(&mut model, "?");
    assert!(screen(&mut model, 80, 20).join("\n").contains("deliver a run's result again"));
    hear(
        &mut model,
        Heard::Lost(Failure::new(Exit::Unavailable, "gateway", "the gateway was stopped")),
        None,
    );
    typed(&mut model, "x");
    let shown = screen(&mut model, 80, 14);
    assert_eq!(shown[0], "the gateway was stopped; waiting for it to come back");
    assert!(shown.join("\n").contains("run aaaa"), "what was known stays");
    assert_eq!(model.now(), NOW, "time stands still");
    hear(&mut model, Heard::Here(serde_json::to_value(sample::snapshot()).unwrap()), None);
    let shown = screen(&mut model, 80, 14);
    assert!(shown[0].starts_with("offshoot") && shown[13].contains("the gateway is back"), "{shown:?}");
}

#[test]
fn control_c_leaves_from_everywhere() {
    for mode in [Mode::Tree, Mode::Filter, Mode::Help, Mode::Steer { session: "x".into(), text: "y".into() }]
    {
        let mut model = model();
        model.mode = mode;
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(press(&mut model, key), [Wish::Quit]);
    }
}
