//! A session is read while things go on: what comes of an old read takes nothing away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use offshoot_actors::ports::{Answer, ModelError, ModelErrorKind, Op};
use offshoot_actors::types::{Origin, Terminal};
use tokio::sync::Notify;

use crate::rig::{Answered, Asked, Call, Faulty, Once, Rig, brief, call, items, main_key, setup, with};

/// What is held back.
#[derive(Default)]
struct Gates {
    /// The answer to the first read of the main session.
    read: Arc<Notify>,
    /// The word that `ends` has ended, where that is wanted.
    end: Option<Arc<Notify>>,
    reads: Arc<AtomicU32>,
}

/// While `ends` works, below the main session or not, another session, which goes on for long, is handed over to the main session: that
/// is read, which shows it as it is then. Then `ends` ends.
async fn read_before_an_end(below_main: bool, gates: &Gates) -> (Rig, Arc<Faulty>) {
    let (setup, faulty) = setup().faulty();
    let rig = setup
        .start(|call: Call| async move {
            match &*call.task() {
                "ends" => call.sleep(5_000).await,
                "goes on" => call.sleep(60_000).await,
                _ => {}
            }
            Ok(Answer::text(format!("{} is done", call.task())))
        })
        .await;
    let parent = rig.spawn("session,quiet|parent").await;
    rig.outcome(parent.run).await;
    rig.quiet().await;
    rig.spawn_in(parent.session.clone(), "session,exit=hand-over|goes on").await;
    let above = if below_main { main_key() } else { parent.session.clone() };
    let ends = rig.spawn_in(above, "session,exit=hand-over|ends").await;
    rig.until("both work", |rig| rig.log.in_flight() == 2).await;
    let (reads, read, end) = (Arc::clone(&gates.reads), Arc::clone(&gates.read), gates.end.clone());
    let mut refused = false;
    faulty.spoil(move |asked| match asked {
        Asked::Load(key) if **key == main_key() && reads.fetch_add(1, Ordering::Relaxed) == 0 => {
            Answered::Held(Arc::clone(&read))
        }
        Asked::Submit(transaction) => {
            let has = |of: &dyn Fn(&Op) -> bool| transaction.iter().any(of);
            match &end {
                Some(end) if has(&|op| matches!(op, Op::EndRun(end) if end.run == ends.run)) => {
                    Answered::Held(Arc::clone(end))
                }
                None if !refused && has(&|op| matches!(op, Op::TakeAnnounces { .. })) => {
                    refused = true;
                    Answered::WithAnError
                }
                _ => Answered::Well,
            }
        }
        _ => Answered::Well,
    });
    rig.handle.stop(parent.session, Origin::Operator).await.unwrap();
    rig.until("it is read", |_| gates.reads.load(Ordering::Relaxed) == 1).await;
    rig.until("it has ended", |rig| !rig.row(ends.run).state.is_open()).await;
    rig.sleep(10).await;
    (rig, faulty)
}

async fn both_are_told(rig: Rig) {
    rig.quiet().await;
    let told: Vec<_> = items(&rig.transcript(&main_key())).iter().map(brief).collect();
    assert_eq!(told, ["ok:ends is done", "ok:goes on is done"]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_read_that_was_given_up_hides_no_result() {
    let end = Arc::new(Notify::new());
    let gates = Gates { end: Some(Arc::clone(&end)), ..Gates::default() };
    let (rig, _) = read_before_an_end(false, &gates).await;
    // What was read waits in the mailbox when the session hears of the end, and reads anew.
    end.notify_one();
    gates.read.notify_one();
    both_are_told(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_could_not_be_taken_while_the_session_was_read_is_not_forgotten() {
    let gates = Gates::default();
    let (rig, faulty) = read_before_an_end(true, &gates).await;
    assert!(faulty.has_failed());
    gates.read.notify_one();
    both_are_told(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_for_the_transcript_that_the_end_of_another_one_has() {
    let (setup, faulty) = setup().faulty();
    let gate = Arc::new(Notify::new());
    let place = Arc::clone(&gate);
    let rig = setup
        .with(|settings| settings.lanes.subagent = 1)
        .start(move |call_: Call| {
            let place = Arc::clone(&place);
            async move {
                match &*call_.task() {
                    "waits" => {
                        return Ok(Answer::tools(vec![call("1", "spawn", "pauses"), call("2", "yield", "")]));
                    }
                    "pauses" => {
                        let mut error = ModelError::new(ModelErrorKind::RateLimited, "too many");
                        error.retry_after = Some(Duration::from_secs(50));
                        return Err(error);
                    }
                    "busy" => place.notified().await,
                    _ => {}
                }
                Ok(Answer::text("NO_REPLY"))
            }
        })
        .await;
    let waits = rig.spawn("session,timeout=1000|waits").await;
    rig.until("its child pauses", |rig| rig.log.count() == 2).await;
    rig.spawn("busy").await;
    let next = rig.say_to(waits.session.clone(), "next").await;
    // The end takes the transcript at once, and its commit waits for what the tokens below are counted from.
    faulty.spoil(|asked| match asked {
        Asked::Submit(transaction) if transaction.is_empty() => Answered::Late(Duration::from_millis(100)),
        _ => Answered::Well,
    });
    let cut = |rig: &Rig| rig.storage.all_runs().iter().any(|row| row.state.as_str() == "cancelled");
    rig.until("its time is over", cut).await;
    // Meanwhile there is a place for the next one: what it reads is older than that commit, and here before that is told.
    faulty.spoil(move |asked| match asked {
        Asked::Submit(transaction)
            if transaction.iter().any(|op| matches!(op, Op::EndRun(end) if end.run == waits.run)) =>
        {
            Answered::ToldLate(Duration::from_millis(200))
        }
        Asked::Load(_) => Answered::Late(Duration::from_millis(200)),
        _ => Answered::Well,
    });
    gate.notify_one();
    assert_eq!(rig.outcome(next).await.state, Terminal::Ok);
    assert_eq!(rig.outcome(waits.run).await.state, Terminal::Timeout);
    assert_eq!(items(&rig.transcript(&waits.session)).len(), 1);
    rig.finish().await;
}

/// A run reports while its session is away, and again when that is back, which then crashes once more: the first report is
/// answered, and the second one is old when the session is back again.
#[tokio::test(start_paused = true)]
async fn a_report_that_was_answered_before_a_second_panic_is_not_answered_again() {
    let faults = Arc::new(Once::default());
    let (setup, faulty) = with(&faults).faulty();
    let rig = setup
        .with(|settings| settings.lanes.main = 1)
        .start(|call_: Call| async move {
            call_.sleep(50).await;
            Ok(match call_.request.step {
                step @ 1..4 => Answer::tools(vec![call(&step.to_string(), "wait", "1")]),
                _ => Answer::text("done"),
            })
        })
        .await;
    let run = rig.say("work").await;
    rig.until("it calls its model", |rig| rig.log.in_flight() == 1).await;
    let mut away = Some(Duration::from_millis(100));
    faulty.spoil(move |asked| match asked {
        Asked::Submit(transaction) if transaction.is_empty() => {
            away.take().map_or(Answered::Well, Answered::Late)
        }
        _ => Answered::Well,
    });
    let steer = || rig.handle.steer(main_key(), "hello".into(), Origin::Operator);
    let second = async {
        rig.sleep(80).await;
        faults.arm_too("session", "steer", 1);
        steer().await
    };
    faults.arm("session", "steer");
    let (first, second) = tokio::join!(steer(), second);
    assert!(first.is_err() && second.is_err(), "both were lost: {first:?} {second:?}");
    let outcome = rig.outcome(run).await;
    assert_eq!((outcome.state, outcome.reason), (Terminal::Ok, None));
    assert_eq!(rig.log.steps(run), [1, 2, 3, 4]);
    rig.finish().await;
}
