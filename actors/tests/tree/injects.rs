//! Messages in the agent's name: between two turns, in the transcript once, and nobody is woken.

use offshoot_actors::ports::{Answer, ModelError};
use offshoot_actors::types::{Entry, Origin, Refusal};

use crate::rig::{Call, Rig, main_key, setup};

async fn script(call: Call) -> Result<Answer, ModelError> {
    if call.task() == "slow" {
        call.sleep(1_000).await;
    }
    Ok(Answer::text("answer"))
}

async fn inject(rig: &Rig, text: &str) -> Result<u64, Refusal> {
    rig.handle.inject(main_key(), text.to_owned(), Origin::Operator).await
}

#[tokio::test(start_paused = true)]
async fn it_is_appended_and_starts_no_run() {
    let rig = setup().start(script).await;
    let run = rig.say("hello").await;
    rig.outcome(run).await;
    rig.quiet().await;
    assert_eq!(inject(&rig, "by the way").await, Ok(2));
    assert_eq!(inject(&rig, "and more").await, Ok(3));
    let entries = rig.handle.storage().entries(main_key(), 2, 9).await.unwrap();
    let said = |entry: &Entry| match entry {
        Entry::Assistant { text, tool_calls, .. } if tool_calls.is_empty() => text.clone(),
        other => panic!("{other:?}"),
    };
    let said: Vec<String> = entries.iter().map(|entry| said(&entry.entry)).collect();
    assert_eq!(said, ["by the way", "and more"]);
    assert_eq!(rig.runs_of(&main_key()).len(), 1);
    // The next turn goes on behind it.
    let run = rig.say("again").await;
    rig.outcome(run).await;
    rig.quiet().await;
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn it_does_not_come_into_a_turn_and_goes_on_after_one_that_was_aborted() {
    let rig = setup().start(script).await;
    let run = rig.say("slow").await;
    rig.sleep(500).await;
    assert_eq!(inject(&rig, "now").await.unwrap_err().code, "busy");
    rig.handle.cancel(run, Origin::Operator).await.unwrap();
    assert_eq!(inject(&rig, "now").await, Ok(1));
    rig.quiet().await;
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn it_makes_no_session() {
    let rig = setup().start(script).await;
    assert_eq!(inject(&rig, "hello").await.unwrap_err().code, "unknown_session");
    assert_eq!(inject(&rig, " ").await.unwrap_err().code, "unknown_session");
    rig.finish().await;
}
