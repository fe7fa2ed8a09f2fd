//! A store that refuses, once or for a while.

use offshoot_actors::ports::{Answer, ModelError, Op};
use offshoot_actors::types::{Entry, Terminal};

use crate::rig::{Call, Rig, call, main_key, setup, texts};

async fn waits_once(call_: Call) -> Result<Answer, ModelError> {
    Ok(match (&*call_.task(), call_.request.step) {
        ("work", 1) => Answer::tools(vec![call("1", "wait", "10")]),
        (task, _) => Answer::text(format!("did {task}")),
    })
}

/// A run whose step the store refuses, and another one after it.
async fn a_step_is_refused(chooses: impl Fn(&Op) -> bool + Send + 'static) -> Rig {
    let (setup, faulty) = setup().faulty();
    let rig = setup.start(waits_once).await;
    faulty.damage(chooses);
    let failed = rig.answer("work").await;
    assert!(faulty.has_failed());
    assert_eq!(failed.state, Terminal::Error);
    assert!(failed.reason.unwrap().starts_with("the store refused a step: "));
    let next = rig.answer("go on").await;
    assert_eq!((next.state, next.text.as_deref()), (Terminal::Ok, Some("did go on")), "{:?}", next.reason);
    rig
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_answer_is_refused_leaves_a_session_that_goes_on() {
    let rig = a_step_is_refused(|op| matches!(op, Op::StartTools { .. })).await;
    assert_eq!(texts(&rig.transcript(&main_key())), ["work", "go on"]);
    assert!(rig.log.tools.lock().unwrap().is_empty());
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_tool_result_is_refused_leaves_a_session_that_goes_on() {
    let rig = a_step_is_refused(|op| matches!(op, Op::FinishTool { .. })).await;
    let entries = rig.transcript(&main_key());
    assert!(!entries.iter().any(|entry| matches!(entry.entry, Entry::ToolResult { .. })), "{entries:?}");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_start_is_refused_does_not_work_on_as_one_that_never_began() {
    let (setup, faulty) = setup().faulty();
    let rig = setup
        .start(|call_: Call| async move {
            call_.sleep(1_000).await;
            Ok(Answer::text("late"))
        })
        .await;
    // A child's task is in its transcript: its start has nothing to append, and it does not wait for the commit.
    faulty.damage(|op| matches!(op, Op::StartRun { .. }));
    let child = rig.spawn("quiet|work").await;
    let outcome = rig.outcome(child.run).await;
    assert!(faulty.has_failed());
    assert_eq!(outcome.state, Terminal::Error);
    assert!(outcome.reason.unwrap().starts_with("the store refused the start of the run: "));
    rig.finish().await;
}
