//! A store without room in the middle of work: what is under way waits for it.

use offshoot_actors::ports::{Answer, ModelError, Op, StoreError};
use offshoot_actors::types::{Origin, Terminal};

use crate::rig::{Asked, Call, Rig, call, main_key, setup, soon};

async fn script(call_: Call) -> Result<Answer, ModelError> {
    Ok(match (&*call_.task(), call_.request.step) {
        ("work", 1) => Answer::tools(vec![call("1", "alone", "10"), call("2", "alone", "10")]),
        ("family", 1) => Answer::tools(vec![call("1", "spawn", "work"), call("2", "yield", "")]),
        ("family", _) => Answer::text(call_.news().join(",")),
        _ => Answer::text("done"),
    })
}

type Change = fn(&Op) -> bool;

/// Which changes of a run the store refuses, a few times each.
const STEPS: [(&str, Change); 6] = [
    ("its start", |op| matches!(op, Op::StartRun { .. })),
    ("an answer", |op| matches!(op, Op::RecordStep { .. })),
    ("the start of a tool", |op| matches!(op, Op::StartTools { .. })),
    ("the result of a tool", |op| matches!(op, Op::FinishTool { .. })),
    ("a wait", |op| matches!(op, Op::YieldRun { .. })),
    ("results that are taken", |op| matches!(op, Op::TakeAnnounces { .. })),
];

async fn refusing(what: Change, times: u32) -> Rig {
    let (setup, faulty) = setup().faulty();
    faulty.fail(times, move |asked| match asked {
        Asked::Submit(transaction) => transaction.iter().any(what),
        _ => false,
    });
    setup.start(script).await
}

#[tokio::test(start_paused = true)]
async fn whatever_a_run_wants_to_write_waits_until_there_is_room() {
    for (name, what) in STEPS {
        let rig = refusing(what, 5).await;
        let outcome = rig.answer("family").await;
        assert_eq!((outcome.state, outcome.text.as_deref()), (Terminal::Ok, Some("ok:done")), "{name}");
        assert_eq!(rig.log.count(), 4, "{name}: no model call is made twice");
        assert_eq!(rig.log.tools.lock().unwrap().len(), 4, "{name}: and no tool");
        rig.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_room_can_be_cancelled() {
    for (name, what) in STEPS {
        let rig = refusing(what, 1_000).await;
        let run = rig.say("family").await;
        rig.sleep(5_000).await;
        soon(name, rig.handle.cancel(run, Origin::Operator)).await.unwrap();
        assert_eq!(rig.outcome(run).await.state, Terminal::Cancelled, "{name}");
        soon(name, rig.handle.stop(main_key(), Origin::Operator)).await.unwrap();
        rig.stop().await;
    }
}

#[test]
fn only_damage_does_not_pass() {
    assert!(StoreError::Full(String::new()).passes());
    assert!(!StoreError::Damaged(String::new()).passes());
}
