//! A run of which nothing is left to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use offshoot_actors::ports::{Answer, Cause, ModelError};
use offshoot_actors::types::Terminal;

use crate::rig::{Answered, Asked, Call, call, main_key, setup, soon};

/// `leave` ends before its child; what comes after it is a message of somebody else.
async fn script(call_: Call) -> Result<Answer, ModelError> {
    let task = call_.task();
    if let Some(ms) = task.strip_prefix("child ") {
        call_.sleep(ms.parse().unwrap()).await;
        return Ok(Answer::text(task));
    }
    Ok(match (&*task, call_.request.step) {
        ("leave", 1) => Answer::tools(vec![call("1", "spawn", "child 100"), call("2", "spawn", "child 200")]),
        ("busy", 1) => Answer::tools(vec![call("1", "wait", "1000")]),
        ("busy", 2) => {
            let calls = vec![call("1", "spawn", "child 100000"), call("2", "wait", "1000")];
            Answer::tools(calls)
        }
        _ => Answer::text(format!("got {}", call_.news().join(","))),
    })
}

#[tokio::test(start_paused = true)]
async fn a_message_that_takes_its_results_up_is_waited_for_and_follows_it() {
    let rig = setup().start(script).await;
    let first = rig.say("leave").await;
    assert_eq!(rig.outcome(first).await.text.as_deref(), Some("got "));
    let message = rig.say("busy").await;
    let settled = soon("it is settled", rig.handle.settled(first, 10)).await.unwrap();
    assert!(!rig.row(message).state.is_open(), "its results were still worked on");
    let follow_ups: Vec<_> = settled.follow_ups.iter().map(|row| (row.id, row.cause)).collect();
    assert_eq!(follow_ups, [(message, Cause::Message)]);
    let said = settled.follow_ups[0].outcome.as_ref().unwrap().text.as_deref();
    assert_eq!(said, Some("got ok:child 100,ok:child 200"));
    assert_eq!((settled.row.id, settled.outcome.state), (first, Terminal::Ok));
    // What the message spawned is its own affair.
    let of_the_message = soon("the message is settled", rig.handle.settled(message, 10)).await.unwrap();
    let causes: Vec<_> = of_the_message.follow_ups.iter().map(|row| row.cause).collect();
    assert_eq!((rig.open().await, &*causes), (0, &[Cause::Announce][..]));
    assert_eq!(rig.runs_of(&main_key()).len(), 3);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn its_rows_are_read_once_however_often_something_happens_meanwhile() {
    let (setup, faulty) = setup().faulty();
    let (looks, reads) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let counts = (Arc::clone(&looks), Arc::clone(&reads));
    faulty.spoil(move |asked| {
        if let Asked::Consequences { limit } = asked {
            let count = if *limit == 0 { &counts.0 } else { &counts.1 };
            count.fetch_add(1, Ordering::Relaxed);
        }
        Answered::Well
    });
    let rig = setup.start(script).await;
    let first = rig.say("leave").await;
    let settled = soon("it is settled", rig.handle.settled(first, 10)).await.unwrap();
    assert_eq!(settled.follow_ups.len(), 2, "each result came by itself");
    assert!(looks.load(Ordering::Relaxed) > 1, "it was looked at before all was done");
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    rig.finish().await;
}
