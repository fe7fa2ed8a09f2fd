//! Sessions that nothing may wake while what is open in them is being ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use offshoot_actors::ports::{Answer, Cause, Event, Op};
use offshoot_actors::types::{Origin, Terminal};

use crate::rig::{Answered, Asked, Call, Once, call, soon, with};

#[tokio::test(start_paused = true)]
async fn a_spawn_that_is_ended_before_its_start_is_not_woken_after_a_panic_of_the_manager() {
    let faults = Arc::new(Once::default());
    let (setup, faulty) = with(&faults).faulty();
    let full = Arc::new(AtomicBool::new(true));
    let is_full = Arc::clone(&full);
    // It is committed when the run that asked for it is cancelled, and the store takes the ends of both late.
    faulty.spoil(move |asked| match asked {
        Asked::Submit(transaction)
            if transaction.iter().any(|op| matches!(op, Op::CreateSession(row) if row.parent.is_some())) =>
        {
            Answered::Late(Duration::from_millis(50))
        }
        Asked::Submit(transaction)
            if is_full.load(Ordering::Relaxed)
                && transaction.iter().any(|op| matches!(op, Op::EndRun(_))) =>
        {
            Answered::WithAnError
        }
        _ => Answered::Well,
    });
    let rig = setup
        .start(|call_: Call| async move {
            Ok(match (&*call_.task(), call_.request.step) {
                ("go", 1) => Answer::tools(vec![call("1", "spawn", "work")]),
                _ => Answer::text("done"),
            })
        })
        .await;
    let run = rig.say("go").await;
    rig.sleep(10).await;
    let panic = async {
        rig.sleep(100).await;
        let spawned = rig.storage.all_runs().into_iter().find(|row| row.cause == Cause::Spawn).unwrap();
        faults.arm("sessions", "settings_changed");
        rig.handle.apply((*rig.handle.settings()).clone()).await.unwrap();
        rig.until("the manager panics", |_| faults.fired()).await;
        rig.sleep(5_000).await;
        assert!(rig.row(spawned.id).state.is_open(), "the store did not take its end yet");
        full.store(false, Ordering::Relaxed);
        spawned.id
    };
    let (_, spawned) =
        soon("a cancel", async { tokio::join!(rig.handle.cancel(run, Origin::Operator), panic) }).await;
    assert_eq!(rig.outcome(spawned).await.state, Terminal::Cancelled);
    let begins = |event: &Event| matches!(event, Event::Started { run, .. } if *run == spawned);
    assert_eq!((rig.events.count(begins), rig.log.count()), (0, 1));
    rig.quiet().await;
    rig.sleep(1_000_000).await;
    assert!(rig.live("session").is_empty(), "all sleep: {:?}", rig.live("session"));
    rig.stop().await;
}
