//! Sessions that get other names, begin anew, or go.

use offshoot_actors::ports::{Answer, Op};
use offshoot_actors::types::{Origin, PromptRequest, SessionKey, Terminal};
use offshoot_actors::{SessionPatch, delete_stored};

use crate::rig::{Call, Rig, call, main_key, setup, soon, texts};

fn desk() -> SessionKey {
    "agent:main:desk".parse().unwrap()
}

fn label(label: Option<&str>) -> SessionPatch {
    SessionPatch { label: Some(label.map(str::to_owned)), model: None }
}

fn model(model: Option<&str>) -> SessionPatch {
    SessionPatch { label: None, model: Some(model.map(str::to_owned)) }
}

/// Answers with its model and the number of messages that it sees; hangs on `hang`.
async fn tell(call: Call) -> Result<Answer, offshoot_actors::ports::ModelError> {
    if call.task() == "hang" {
        return std::future::pending().await;
    }
    let seen = call.request.transcript.entries().len();
    Ok(Answer::text(format!("{} {seen}", call.request.model)))
}

/// As [`Rig::finish`], where a name stands for two transcripts one after the other, which the checks do not know of.
async fn finish(rig: Rig) {
    rig.quiet().await;
    rig.permits_are_back().await;
    rig.stop().await;
}

async fn reply(rig: &Rig, text: &str) -> String {
    let run = rig.say_to(desk(), text).await;
    rig.outcome(run).await.text.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_session_is_made_with_its_names_and_gets_others_while_it_is_awake() {
    let rig = setup().start(tell).await;
    let patch =
        SessionPatch { label: Some(Some("my desk".to_owned())), model: Some(Some("test/first".to_owned())) };
    soon("create", rig.handle.create_session(&desk(), patch, Origin::Operator)).await.unwrap();
    let live = |rig: &Rig| rig.handle.live().into_iter().find(|live| live.key == desk()).unwrap();
    assert_eq!(live(&rig).label.as_deref(), Some("my desk"));
    assert_eq!(reply(&rig, "hello").await, "test/first 1");
    soon("patch", rig.handle.patch_session(&desk(), model(Some("test/second")), Origin::Operator))
        .await
        .unwrap();
    assert_eq!(live(&rig).label.as_deref(), Some("my desk"));
    assert_eq!(reply(&rig, "hello").await, "test/second 3");
    soon("patch", rig.handle.patch_session(&desk(), model(None), Origin::Operator)).await.unwrap();
    soon("patch", rig.handle.patch_session(&desk(), label(None), Origin::Operator)).await.unwrap();
    assert_eq!((live(&rig).label, reply(&rig, "hello").await.as_str()), (None, "test/script 5"));
    // It wakes with what was committed.
    soon("patch", rig.handle.patch_session(&desk(), model(Some("test/first")), Origin::Operator))
        .await
        .unwrap();
    rig.until("it sleeps", |rig| rig.handle.live().is_empty()).await;
    assert_eq!(reply(&rig, "hello").await, "test/first 7");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn only_a_session_of_a_known_agent_is_made_and_only_one_that_exists_is_changed() {
    let rig = setup().start(tell).await;
    let code = |result: Result<(), offshoot_actors::types::Refusal>| result.unwrap_err().code;
    let patched = rig.handle.patch_session(&desk(), label(Some("x")), Origin::Operator).await;
    assert_eq!(code(patched), "unknown_session");
    let stranger: SessionKey = "agent:nobody:main".parse().unwrap();
    let made = rig.handle.create_session(&stranger, SessionPatch::default(), Origin::Operator).await;
    assert_eq!(code(made), "unknown_session");
    assert_eq!(
        rig.handle.reset_session(&desk(), Origin::Operator).await.unwrap_err().code,
        "unknown_session"
    );
    assert_eq!(
        rig.handle.delete_session(&desk(), Origin::Operator).await.unwrap_err().code,
        "unknown_session"
    );
    let long = label(Some(&"x".repeat(513)));
    assert_eq!(code(rig.handle.create_session(&desk(), long, Origin::Operator).await), "too_long");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_what_is_open_and_the_next_message_is_the_first() {
    let rig = setup().start(tell).await;
    assert_eq!(reply(&rig, "hello").await, "test/script 1");
    let hangs = rig.say_to(desk(), "hang").await;
    rig.until("it hangs", |rig| rig.log.in_flight() == 1).await;
    let stopped = soon("reset", rig.handle.reset_session(&desk(), Origin::Operator)).await.unwrap();
    assert_eq!(stopped.ended, [hangs]);
    assert_eq!(rig.outcome(hangs).await.state, Terminal::Cancelled);
    assert!(rig.transcript(&desk()).is_empty());
    assert_eq!(reply(&rig, "again").await, "test/script 1");
    assert_eq!(texts(&rig.transcript(&desk())), ["again"]);
    let audit = rig.storage.audit().into_iter().filter(|line| line.event == "session.reset").count();
    assert_eq!(audit, 1);
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_is_deleted_with_the_work_below_it_and_its_name_is_free() {
    let rig = setup()
        .start(|call_: Call| async move {
            match (call_.request.step, &*call_.task()) {
                (1, "go") => Ok(Answer::tools(vec![call("1", "spawn", "hang")])),
                _ => tell(call_).await,
            }
        })
        .await;
    let run = rig.say_to(desk(), "go").await;
    rig.until("the child hangs", |rig| rig.log.in_flight() >= 1 && rig.storage.all_sessions().len() == 2)
        .await;
    let deleted = soon("delete", rig.handle.delete_session(&desk(), Origin::Operator)).await.unwrap();
    assert_eq!((deleted.len(), deleted.last()), (2, Some(&desk())));
    assert!(rig.storage.all_sessions().is_empty());
    assert!(!rig.row(run).state.is_open());
    assert_eq!(reply(&rig, "hello").await, "test/script 1");
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_sub_agent_is_deleted_once_its_parent_was_told() {
    let rig = setup().start(tell).await;
    let child = rig.spawn("hang").await;
    rig.until("the child hangs", |rig| rig.log.in_flight() == 1).await;
    let deleted = soon("delete", rig.handle.delete_session(&child.session, Origin::Operator)).await.unwrap();
    assert_eq!(deleted, std::slice::from_ref(&child.session));
    rig.quiet().await;
    let told = rig.transcript(&main_key());
    assert!(crate::rig::items(&told).iter().any(|item| item.state == Terminal::Cancelled), "{told:?}");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_changes_at_once_each_is_carried_out() {
    let rig = setup().start(tell).await;
    let first = label(Some("first"));
    soon("create", rig.handle.create_session(&desk(), first, Origin::Operator)).await.unwrap();
    let desk = desk();
    let patch = |patch| rig.handle.patch_session(&desk, patch, Origin::Operator);
    let (label_, model_) = tokio::join!(patch(label(Some("second"))), patch(model(Some("test/other"))));
    label_.and(model_).unwrap();
    let seen = |rig: &Rig| {
        let live = rig.handle.live().into_iter().find(|live| live.key == desk).unwrap();
        let stored = rig.storage.all_sessions().into_iter().find(|row| row.key == desk).unwrap();
        (live.label, stored.label)
    };
    let both = |label: &str| (Some(label.to_owned()), Some(label.to_owned()));
    assert_eq!(seen(&rig), both("second"));
    assert_eq!(reply(&rig, "hello").await, "test/other 1");
    // The later one asks for what there was when it came.
    let (one, two) = tokio::join!(patch(label(Some("third"))), patch(label(Some("second"))));
    one.and(two).unwrap();
    assert_eq!(seen(&rig), both("second"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_store_does_not_take_says_that_nothing_was_changed() {
    let (setup, faulty) = setup().faulty();
    let rig = setup.start(tell).await;
    assert_eq!(reply(&rig, "hello").await, "test/script 1");
    faulty.refuse(|op| matches!(op, Op::PatchSession { .. }));
    let refusal = rig.handle.patch_session(&desk(), label(Some("x")), Origin::Operator).await.unwrap_err();
    assert_eq!((refusal.code, refusal.hint.as_deref()), ("store", Some("try again")));
    assert!(refusal.message.starts_with("nothing was changed: "), "{refusal}");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_deleted_while_it_is_awake_is_soon_a_new_one() {
    for request in 0..4 {
        let rig = setup().start(tell).await;
        assert_eq!(reply(&rig, "hello").await, "test/script 1");
        let deleted =
            delete_stored(rig.storage.as_ref(), rig.clock.as_ref(), &desk(), Origin::Operator).await;
        assert_eq!(deleted, Ok(vec![desk()]));
        let refused = match request {
            0 => {
                let prompt = PromptRequest::new(desk(), "hello");
                rig.handle.submit(prompt, Origin::Operator).await.unwrap_err()
            }
            1 => rig.handle.patch_session(&desk(), label(None), Origin::Operator).await.unwrap_err(),
            2 => rig.handle.inject(desk(), "by the way".to_owned(), Origin::Operator).await.unwrap_err(),
            _ => rig.handle.reset_session(&desk(), Origin::Operator).await.unwrap_err(),
        };
        assert!(["store", "unknown_session"].contains(&refused.code), "{request}: {refused}");
        rig.sleep(10).await;
        assert_eq!(reply(&rig, "hello").await, "test/script 1", "after request {request}");
        finish(rig).await;
    }
}
