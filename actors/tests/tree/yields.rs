//! A run that waits for the children of its session.

use offshoot_actors::ports::{Answer, Event};
use offshoot_actors::types::{Origin, Terminal};

use crate::rig::{Call, call, items, main_key, setup};

async fn parent(call_: &Call, children: &[&str]) -> Answer {
    match call_.request.step {
        1 => {
            let mut calls: Vec<_> = children
                .iter()
                .enumerate()
                .map(|(number, child)| call(&number.to_string(), "spawn", child))
                .collect();
            calls.push(call("y", "yield", ""));
            Answer::tools(calls)
        }
        _ => Answer::text(format!(
            "woke with {} and {}",
            call_.results().iter().map(crate::rig::brief).collect::<Vec<_>>().join(","),
            call_.notices().join(",")
        )),
    }
}

async fn script(call_: Call) -> Result<Answer, offshoot_actors::ports::ModelError> {
    let task = call_.task();
    if let Some(ms) = task.strip_prefix("child ") {
        call_.sleep(ms.parse().unwrap()).await;
        return Ok(Answer::text(task));
    }
    if let Some(word) = task.strip_prefix("say ") {
        call_.sleep(1).await;
        return Ok(Answer::text(word));
    }
    Ok(match (&*task, call_.request.step) {
        ("two", _) => parent(&call_, &["child 1000", "child 2000"]).await,
        ("skip", _) => parent(&call_, &["say NO_REPLY", "say ANNOUNCE_SKIP", "quiet|say x"]).await,
        ("none", _) => parent(&call_, &[]).await,
        ("nested", _) => parent(&call_, &["two", "child 100"]).await,
        ("again", 1) => Answer::tools(vec![call("y", "yield", "")]),
        ("again", _) => Answer::text("went on"),
        ("tools", 1) => Answer::tools(vec![call("w", "wait", "100")]),
        _ => Answer::text(format!("answer to {} with {:?}", call_.messages().join("+"), call_.news())),
    })
}

#[tokio::test(start_paused = true)]
async fn it_wakes_once_with_all_results() {
    let rig = setup().start(script).await;
    let outcome = rig.answer("two").await;
    assert_eq!(outcome.text.as_deref(), Some("woke with ok:child 1000,ok:child 2000 and "));
    rig.quiet().await;
    assert_eq!(rig.runs_of(&main_key()).len(), 1);
    assert_eq!(rig.events.count(|event| matches!(event, Event::Yielded { .. })), 1);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn it_wakes_once_when_no_child_has_anything_to_say() {
    let rig = setup().start(script).await;
    let outcome = rig.answer("skip").await;
    assert_eq!(
        outcome.text.as_deref(),
        Some("woke with  and All sub-agents have ended. None of them reported a result.")
    );
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn without_open_children_it_goes_on() {
    let rig = setup().start(script).await;
    assert_eq!(rig.answer("none").await.text.as_deref(), Some("woke with  and "));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_may_wait_too() {
    let rig = setup().start(script).await;
    assert_eq!(
        rig.answer("nested").await.text.as_deref(),
        Some("woke with ok:child 100,ok:woke with ok:child 1000,ok:child 2000 and  and ")
    );
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_meanwhile_runs_at_once_and_the_condition_stands() {
    let rig = setup().start(script).await;
    let run = rig.say("two").await;
    rig.sleep(500).await;
    let early = rig.say("hello").await;
    rig.sleep(10).await;
    assert_eq!(rig.row(early).outcome.unwrap().text.as_deref(), Some("answer to hello with []"));
    // One child has ended by now: its result is kept for the run that waits.
    rig.sleep(1_000).await;
    let late = rig.say("tools").await;
    rig.sleep(10).await;
    assert_eq!(rig.row(run).state.as_str(), "yielded");
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("woke with ok:child 1000,ok:child 2000 and "));
    assert_eq!(rig.outcome(late).await.text.as_deref(), Some("answer to tools with []"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_steering_message_meanwhile_runs_as_a_turn() {
    let rig = setup().start(script).await;
    let run = rig.say("two").await;
    rig.sleep(1_500).await;
    rig.handle.steer(main_key(), "steered".into(), Origin::Operator).await.unwrap();
    rig.sleep(10).await;
    let turn = rig.runs_of(&main_key()).pop().unwrap();
    assert_eq!(turn.outcome.unwrap().text.as_deref(), Some("answer to steered with []"));
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("woke with ok:child 1000,ok:child 2000 and "));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_steering_message_for_a_turn_beside_a_waiting_run_is_taken_at_its_next_step() {
    let rig = setup().start(script).await;
    let run = rig.say("two").await;
    rig.sleep(1_500).await;
    let turn = rig.say("tools").await;
    rig.sleep(10).await;
    rig.handle.steer(main_key(), "steered".into(), Origin::Operator).await.unwrap();
    assert_eq!(rig.outcome(turn).await.text.as_deref(), Some("answer to tools+steered with []"));
    assert_eq!(rig.row(turn).steps, 2);
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("woke with ok:child 1000,ok:child 2000 and "));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_beside_a_waiting_run_that_waits_too_loses_neither() {
    let rig = setup().start(script).await;
    let run = rig.say("two").await;
    rig.sleep(100).await;
    let second = rig.say("again").await;
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("woke with ok:child 1000,ok:child 2000 and "));
    assert_eq!(rig.outcome(second).await.state, Terminal::Ok);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_spawned_meanwhile_is_waited_for() {
    let rig = setup().start(script).await;
    let run = rig.say("two").await;
    rig.sleep(100).await;
    rig.spawn("child 9000").await;
    assert_eq!(
        rig.outcome(run).await.text.as_deref(),
        Some("woke with ok:child 1000,ok:child 2000,ok:child 9000 and ")
    );
    rig.quiet().await;
    assert_eq!(items(&rig.transcript(&main_key())).len(), 3);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn two_who_wait_one_after_the_other_wake_each_once() {
    let rig = setup().start(script).await;
    for _ in 0..3 {
        assert_eq!(rig.answer("two").await.state, Terminal::Ok);
    }
    rig.quiet().await;
    assert_eq!(rig.events.count(|event| matches!(event, Event::Yielded { .. })), 3);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_child_makes_of_results_that_its_run_left_is_waited_for() {
    let rig = setup()
        .start(|call_: Call| async move {
            Ok(match (&*call_.task(), call_.request.step) {
                ("go", 1) => Answer::tools(vec![call("1", "spawn", "middle"), call("2", "yield", "")]),
                ("middle", 1) => Answer::tools(vec![call("1", "spawn", "leaf")]),
                ("middle", _) => {
                    call_.sleep(500).await;
                    Answer::text("first")
                }
                ("leaf", _) => {
                    call_.sleep(100).await;
                    Answer::text("leaf")
                }
                _ => Answer::text(format!("then {}", call_.news().join(","))),
            })
        })
        .await;
    let run = rig.say("go").await;
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("then ok:first,ok:then ok:leaf"));
    rig.quiet().await;
    assert_eq!(rig.runs_of(&main_key()).len(), 1);
    rig.finish().await;
}
