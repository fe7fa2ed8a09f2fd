//! A session is read while things go on: what comes of an old read takes nothing away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use offshoot_actors::ports::{Answer, Op};
use offshoot_actors::types::Origin;
use tokio::sync::Notify;

use crate::rig::{Answered, Asked, Call, Faulty, Rig, brief, items, main_key, setup};

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
