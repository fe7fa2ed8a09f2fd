//! A checker that never found anything is not known to work: each bad history here is found, and found as what it is.

use serde_json::json;

use super::*;
use crate::store::{Run as Row, Session, Tool};

const PARENT: &str = "agent:main:parent";
const CHILD: &str = "agent:main:subagent:child";

fn row(session: &str, at: (i64, i64)) -> Row {
    Row {
        session: session.to_owned(),
        state: "ok".to_owned(),
        accepted_at: at.0,
        ended_at: Some(at.1),
        input: 11,
        output: 3,
        ..Row::default()
    }
}

fn answer() -> Value {
    json!({ "type": "assistant", "text": "x", "tool_calls": [], "usage": { "input": 11, "output": 3 } })
}

fn announce(run: &str) -> Value {
    let usage = json!({ "input": 11, "output": 3 });
    json!({ "type": "announce", "items": [{ "run": run, "session": CHILD, "state": "ok", "usage": usage }] })
}

fn result(name: &str, text: &Value) -> Value {
    json!({ "type": "tool_result", "name": name, "status": "ok", "text": text.to_string() })
}

fn entry(run: &str, entry: Value) -> (Option<String>, Value) {
    (Some(run.to_owned()), entry)
}

/// A parent that a client asked, and a child that it spawned, waited for, steered and heard of.
fn good() -> Story {
    let mut story = Story { most_children: 1, ..Story::default() };
    story.events = vec![
        Event::Asked { key: "k".to_owned() },
        Event::Unknown { key: "k".to_owned() },
        Event::Asked { key: "k".to_owned() },
        Event::Accepted { key: "k".to_owned(), run: Run::Wire("k".to_owned()) },
        Event::Told { key: "k".to_owned(), ok: true },
    ];
    let store = &mut story.store;
    let parent = Row { wire_id: Some("k".to_owned()), ..row(PARENT, (1, 9)) };
    let parent = Row { input: 22, output: 6, ..parent };
    let child = Row { announce_to: Some(PARENT.to_owned()), ..row(CHILD, (2, 5)) };
    store.runs = BTreeMap::from([("one".to_owned(), parent), ("two".to_owned(), child)]);
    store.labels.insert("k.0".to_owned(), 1);
    store.tools.push(Tool {
        run: "one".to_owned(),
        call: "call_k_1_0".to_owned(),
        name: "subagents".to_owned(),
    });
    let spawned = json!({ "status": "accepted", "runId": "two" });
    let parent = vec![
        entry("one", answer()),
        entry("one", result("sessions_spawn", &spawned)),
        entry("one", result("sessions_yield", &json!({ "status": "yielded" }))),
        entry("one", announce("two")),
        entry("one", answer()),
    ];
    let child =
        vec![entry("two", json!({ "type": "user", "text": "<steer call_k_1_0>" })), entry("two", answer())];
    store.sessions = BTreeMap::from([
        (PARENT.to_owned(), Session { entries: parent, ..Session::default() }),
        (CHILD.to_owned(), Session { entries: child, ..Session::default() }),
    ]);
    store.parents.insert(CHILD.to_owned(), PARENT.to_owned());
    story.seen.spawned.insert("two".to_owned());
    story.seen.steered.insert("call_k_1_0".to_owned());
    story
}

/// What the checker finds when one thing of the good story is different.
#[track_caller]
fn finds(change: impl FnOnce(&mut Story), invariant: &str, kind: Kind) {
    let mut story = good();
    change(&mut story);
    let broken = check(&story);
    assert!(broken.iter().any(|broken| (broken.invariant, broken.kind) == (invariant, kind)), "{broken:#?}");
}

fn run<'a>(story: &'a mut Story, id: &str) -> &'a mut Row {
    story.store.runs.get_mut(id).unwrap()
}

fn entries<'a>(story: &'a mut Story, key: &str) -> &'a mut Vec<(Option<String>, Value)> {
    &mut story.store.sessions.get_mut(key).unwrap().entries
}

#[test]
fn a_good_history_is_called_good() {
    assert_eq!(check(&good()), []);
}

#[test]
fn a_run_without_an_end_is_found() {
    finds(|story| run(story, "two").state = "running".to_owned(), "I1", Kind::Lost);
    finds(|story| run(story, "two").ended_at = None, "I1", Kind::Lost);
}

#[test]
fn a_run_that_ended_twice_is_found() {
    finds(|story| run(story, "one").state = "interrupted".to_owned(), "I1", Kind::TwoStates);
    finds(|story| run(story, "two").state = "crashed".to_owned(), "I2", Kind::TwoStates);
}

#[test]
fn an_acknowledged_run_that_vanished_is_found() {
    finds(|story| drop(story.store.runs.remove("one")), "I13", Kind::Lost);
    finds(|story| drop(story.store.runs.remove("two")), "I13", Kind::Lost);
    let accepted = Event::Accepted { key: "j".to_owned(), run: Run::Id("three".to_owned()) };
    finds(|story| story.events.push(accepted), "I13", Kind::Lost);
}

#[test]
fn a_request_that_became_two_runs_is_found() {
    finds(|story| run(story, "two").wire_id = Some("k".to_owned()), "I1", Kind::Twice);
    let other = Event::Accepted { key: "k".to_owned(), run: Run::Id("two".to_owned()) };
    finds(|story| story.events.push(other), "I1", Kind::Twice);
    finds(|story| *story.store.labels.get_mut("k.0").unwrap() = 2, "I1", Kind::Twice);
}

#[test]
fn a_refused_request_that_runs_all_the_same_is_found() {
    let refused = |story: &mut Story| {
        story.events = vec![Event::Refused { key: "k".to_owned(), why: "full".to_owned() }];
    };
    finds(refused, "I13", Kind::Other);
    let refused = Event::Refused { key: "k.0".to_owned(), why: "full".to_owned() };
    finds(|story| story.events.push(refused), "I13", Kind::Other);
}

#[test]
fn a_result_that_is_missing_or_there_twice_is_found() {
    finds(|story| drop(entries(story, PARENT).remove(3)), "I2", Kind::Lost);
    finds(|story| entries(story, PARENT).push(entry("one", announce("two"))), "I2", Kind::Twice);
    finds(|story| entries(story, CHILD).push(entry("two", announce("two"))), "I2", Kind::Twice);
    finds(|story| story.seen.wrong.push("told twice".to_owned()), "I2", Kind::Twice);
}

#[test]
fn a_parent_that_is_left_asleep_is_found() {
    let sleeps =
        |story: &mut Story| story.store.sessions.get_mut(PARENT).unwrap().yielded = Some("one".to_owned());
    finds(sleeps, "I3", Kind::Lost);
    finds(|story| story.store.outbox.push(("two".to_owned(), PARENT.to_owned())), "I3", Kind::Lost);
    finds(|story| story.store.steers.push((CHILD.to_owned(), "psst".to_owned())), "I3", Kind::Lost);
}

#[test]
fn a_parent_that_wakes_too_early_is_found() {
    finds(|story| entries(story, PARENT).swap(3, 4), "I3", Kind::Other);
    let other = |story: &mut Story| entries(story, PARENT)[3].1["items"][0]["run"] = json!("other");
    finds(other, "I3", Kind::Other);
}

#[test]
fn a_run_that_may_not_wait_goes_on_at_once() {
    let yields = || result("sessions_yield", &json!({ "status": "yielded" }));
    let spawns = |child: &str| result("sessions_spawn", &json!({ "status": "accepted", "runId": child }));
    let mut story = good();
    // The second takes its turn before the first, which was woken, has spoken; the third asks while the second waits.
    let more = [
        entry("second", spawns("x")),
        entry("second", yields()),
        entry("one", answer()),
        entry("third", spawns("y")),
        entry("third", yields()),
        entry("third", answer()),
    ];
    entries(&mut story, PARENT).splice(4..4, more);
    assert!(!check(&story).iter().any(|broken| broken.invariant == "I3"));
    entries(&mut story, PARENT).push(entry("second", answer()));
    assert!(check(&story).iter().any(|broken| broken.invariant == "I3"));
}

#[test]
fn a_cap_that_was_passed_is_found() {
    let more = |story: &mut Story, at| {
        let row = Row { announce_to: Some(PARENT.to_owned()), ..row("agent:main:subagent:other", at) };
        story.store.runs.insert("three".to_owned(), row);
    };
    finds(|story| more(story, (4, 6)), "I4", Kind::Other);
    let mut story = good();
    more(&mut story, (5, 6));
    assert!(!check(&story).iter().any(|broken| broken.invariant == "I4"));
}

#[test]
fn tokens_that_do_not_add_up_are_found() {
    finds(|story| run(story, "one").input = 21, "I7", Kind::Other);
    finds(|story| run(story, "two").output = 0, "I7", Kind::Other);
    for told in [10, 12] {
        let told =
            |story: &mut Story| entries(story, PARENT)[3].1["items"][0]["usage"]["input"] = json!(told);
        finds(told, "I7", Kind::Other);
    }
    // An answer that found no room in the store.
    let mut story = good();
    *run(&mut story, "one") = Row { state: "error".to_owned(), input: 33, ..run(&mut story, "one").clone() };
    assert!(!check(&story).iter().any(|broken| broken.invariant == "I7"));
}

#[test]
fn a_tool_that_ran_twice_is_found() {
    let again = |story: &mut Story| {
        let said = entries(story, CHILD)[0].clone();
        entries(story, CHILD).push(said);
    };
    finds(again, "I10", Kind::RepeatedTool);
    let queued = (CHILD.to_owned(), "<steer call_k_1_0>".to_owned());
    finds(|story| story.store.steers.push(queued), "I10", Kind::RepeatedTool);
    let asked = Some("<steer call_k_1_0>".to_owned());
    finds(|story| run(story, "two").asked = asked, "I10", Kind::RepeatedTool);
    let row = good().store.tools[0].clone();
    finds(|story| story.store.tools.push(row), "I10", Kind::RepeatedTool);
}

#[test]
fn a_call_with_an_unknown_outcome_is_a_decision() {
    let unknown =
        json!({ "type": "tool_result", "call": "call_k_1_0", "name": "subagents", "status": "unknown" });
    finds(|story| entries(story, PARENT).push(entry("one", unknown)), "I10", Kind::Other);
    let repeated = ("tool.repeated".to_owned(), "call_k_1_0".to_owned());
    finds(|story| story.store.decisions.push(repeated), "I10", Kind::RepeatedTool);
}

#[test]
fn an_accepted_message_that_vanished_is_found() {
    finds(|story| drop(entries(story, CHILD).remove(0)), "I13", Kind::Lost);
}

#[test]
fn what_no_provider_would_take_is_seen() {
    let call = |id: &str| json!({ "role": "assistant", "tool_calls": [{ "id": id }] });
    let tool = |id: &str, text: &str| json!({ "role": "tool", "tool_call_id": id, "content": text });
    let user = |text: &str| json!({ "role": "user", "content": text });
    let accepted = json!({ "status": "accepted", "runId": "two" }).to_string();
    let told = "BEGIN x\nrun: two\nEND x";
    let seen = |messages: &[Value]| {
        let mut seen = Seen::default();
        crate::model::look(messages, &mut seen);
        seen
    };
    let good = seen(&[user("hi"), call("a"), tool("a", &accepted), user(told)]);
    assert_eq!((good.wrong.len(), good.spawned.len()), (0, 1));
    for bad in [
        vec![call("a"), user("hi")],
        vec![call("a"), tool("a", "x"), tool("a", "x"), user("hi")],
        vec![call("a"), tool("b", "x")],
        vec![user(told), user(told)],
    ] {
        assert!(!seen(&bad).wrong.is_empty(), "{bad:?}");
    }
}
