//! Steering messages: taken at the next step, never lost, never twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use offshoot_actors::Steered;
use offshoot_actors::ports::{Answer, Op};
use offshoot_actors::types::{Origin, Terminal};

use crate::rig::{Answered, Asked, Call, Rig, call, items, main_key, setup, texts};

async fn script(call_: Call) -> Result<Answer, offshoot_actors::ports::ModelError> {
    Ok(match (&*call_.task(), call_.request.step) {
        ("tools", 1) => Answer::tools(vec![call("1", "wait", "1000")]),
        ("slow", 1) => {
            call_.sleep(1_000).await;
            Answer::text("first answer")
        }
        ("hang", _) => {
            call_.sleep(1_000_000).await;
            Answer::text("late")
        }
        _ => Answer::text(format!("heard {}", call_.messages().join("+"))),
    })
}

async fn steer(rig: &Rig, text: &str) -> Steered {
    rig.handle.steer(main_key(), text.to_owned(), Origin::Operator).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_is_taken_at_the_next_step() {
    let rig = setup().start(script).await;
    let run = rig.say("tools").await;
    rig.sleep(500).await;
    assert_eq!(steer(&rig, "a").await, Steered::Queued(run));
    assert_eq!(steer(&rig, "b").await, Steered::Queued(run));
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("heard tools+a+b"));
    rig.quiet().await;
    assert_eq!(rig.runs_of(&main_key()).len(), 1);
    let audit = rig.storage.audit();
    let by: Vec<_> =
        audit.iter().filter(|row| row.event == "run.steered").map(|row| (row.run, &row.origin)).collect();
    assert_eq!(by, [(Some(run), &Origin::Operator); 2]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_during_the_last_answer_is_not_lost() {
    let rig = setup().start(script).await;
    let run = rig.say("slow").await;
    rig.sleep(500).await;
    steer(&rig, "more").await;
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("heard slow+more"));
    assert_eq!(rig.row(run).steps, 2);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn one_for_a_session_at_rest_starts_a_run() {
    let rig = setup().start(script).await;
    let Steered::Started(run) = steer(&rig, "hello").await else { panic!("no run was open") };
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("heard hello"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn one_for_a_run_that_is_cancelled_is_answered_all_the_same() {
    let rig = setup().start(script).await;
    let run = rig.say("hang").await;
    rig.sleep(500).await;
    steer(&rig, "more").await;
    rig.handle.cancel(run, Origin::Operator).await.unwrap();
    rig.quiet().await;
    let last = rig.runs_of(&main_key()).pop().unwrap();
    assert_eq!(last.outcome.unwrap().text.as_deref(), Some("heard more"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn one_for_a_session_that_is_stopped_starts_nothing() {
    let rig = setup().start(script).await;
    let run = rig.say("hang").await;
    rig.sleep(500).await;
    steer(&rig, "more").await;
    rig.handle.stop(main_key(), Origin::Operator).await.unwrap();
    let called = rig.log.count();
    rig.quiet().await;
    rig.sleep(100_000).await;
    assert_eq!(rig.log.count(), called);
    assert_eq!(rig.outcome(run).await.state, Terminal::Cancelled);
    assert_eq!(texts(&rig.transcript(&main_key())), ["hang", "more"]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_a_stop_leaves_unanswered_keeps_nobody_waiting_for_quiet() {
    let (setup, faulty) = setup().faulty();
    let rig = setup.start(script).await;
    rig.say("hang").await;
    rig.sleep(500).await;
    steer(&rig, "more").await;
    // So that it waits for a while after the run has ended.
    faulty.refuse(|op| matches!(op, Op::TakeSteers { .. }));
    let stop = rig.handle.stop(main_key(), Origin::Operator);
    let ((), stopped) = tokio::join!(rig.quiet(), stop);
    assert!(faulty.has_failed());
    assert_eq!(stopped.unwrap().ended.len(), 1);
    assert_eq!(texts(&rig.transcript(&main_key())), ["hang", "more"]);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_one_of_many_is_heard_once() {
    let rig = setup()
        .start(|call: Call| async move {
            call.sleep(1).await;
            Ok(Answer::text("yes"))
        })
        .await;
    for number in 0..500 {
        steer(&rig, &number.to_string()).await;
        if number % 7 == 0 {
            rig.sleep(1).await;
        }
    }
    rig.quiet().await;
    let heard = texts(&rig.transcript(&main_key()));
    assert_eq!(heard, (0..500).map(|number| number.to_string()).collect::<Vec<_>>());
    rig.check().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_for_a_run_in_its_lane_stands_after_the_runs_own_message() {
    let rig = setup().with(|settings| settings.lanes.main = 1).start(script).await;
    rig.say_to("agent:main:other".parse().unwrap(), "slow").await;
    let run = rig.say("first").await;
    rig.sleep(10).await;
    assert_eq!(steer(&rig, "second").await, Steered::Queued(run));
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("heard first+second"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_while_the_inbox_is_read_again_is_not_lost() {
    let (setup, faulty) = setup().faulty();
    let rig = setup.start(script).await;
    let reading = Arc::new(AtomicBool::new(false));
    let (mut refused, read) = (false, Arc::clone(&reading));
    faulty.spoil(move |asked| match asked {
        Asked::Submit(transaction)
            if !refused && transaction.iter().any(|op| matches!(op, Op::TakeAnnounces { .. })) =>
        {
            refused = true;
            Answered::WithAnError
        }
        Asked::Load(key) if refused && **key == main_key() => {
            read.store(true, Ordering::SeqCst);
            Answered::Late(Duration::from_secs(1))
        }
        _ => Answered::Well,
    });
    rig.spawn("child").await;
    rig.until("the parent is read again", |_| reading.load(Ordering::SeqCst)).await;
    let run = rig.say("first").await;
    assert_eq!(steer(&rig, "second").await, Steered::Queued(run));
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("heard first+second"));
    assert_eq!(items(&rig.transcript(&main_key())).len(), 1);
    rig.finish().await;
}
