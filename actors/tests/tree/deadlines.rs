//! Deadlines: told before they pass, kept when they do.

use std::time::Duration;

use offshoot_actors::ports::Answer;
use offshoot_actors::types::{MAX_TIMEOUT, Origin, PromptRequest, RunId, Terminal};

use crate::rig::{Call, Rig, call, main_key, setup};

async fn script(call_: Call) -> Result<Answer, offshoot_actors::ports::ModelError> {
    let task = call_.task();
    Ok(match (&*task, call_.request.step) {
        ("hang", _) => {
            call_.sink.text("so ");
            call_.sink.text("far");
            call_.sleep(10_000_000).await;
            Answer::text("late")
        }
        ("tool", 1) => Answer { text: "calling".into(), ..Answer::tools(vec![call("1", "hang", "")]) },
        ("long", 1) => Answer::tools(vec![call("1", "wait", "9000")]),
        ("long", _) => Answer::text(call_.notices().join("|")),
        ("wait", 1) => Answer::tools(vec![call("1", "spawn", "hang"), call("2", "yield", "")]),
        _ => {
            call_.sleep(1_000).await;
            Answer::text("done")
        }
    })
}

async fn say(rig: &Rig, text: &str, seconds: u64) -> RunId {
    let mut request = PromptRequest::new(main_key(), text);
    request.timeout = Some(Duration::from_secs(seconds));
    rig.handle.submit(request, Origin::Operator).await.unwrap().run
}

#[tokio::test(start_paused = true)]
async fn a_model_that_hangs_is_cut_off_with_what_it_said() {
    let rig = setup().start(script).await;
    let run = say(&rig, "hang", 10).await;
    let outcome = rig.outcome(run).await;
    assert_eq!((outcome.state, outcome.text.as_deref()), (Terminal::Timeout, Some("so far")));
    assert_eq!(outcome.reason.as_deref(), Some("the run took longer than its limit of 10 s"));
    let row = rig.row(run);
    assert_eq!(row.ended_at.unwrap() - row.started_at.unwrap(), Duration::from_secs(10));
    assert_eq!(rig.log.in_flight(), 0);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_hangs_is_cut_off() {
    let rig = setup().start(script).await;
    let run = say(&rig, "tool", 10).await;
    let outcome = rig.outcome(run).await;
    assert_eq!((outcome.state, outcome.text.as_deref()), (Terminal::Timeout, Some("calling")));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_model_is_told_before_it_is_too_late() {
    let rig = setup().start(script).await;
    let run = say(&rig, "long", 10).await;
    let text = rig.outcome(run).await.text.unwrap();
    assert!(text.starts_with("Most of the 10 seconds for this task have passed."), "{text}");
    let run = say(&rig, "long", 100).await;
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some(""));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn zero_is_no_deadline() {
    let rig = setup()
        .with(|settings| {
            settings.subagents.run_timeout = Some(Duration::from_secs(5));
            settings.runs.timeout = Some(Duration::from_secs(5));
        })
        .start(|call: Call| async move {
            call.sleep(if call.task().is_empty() { 1 } else { 1_000_000 }).await;
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    let run = say(&rig, "hello", 0).await;
    let child = rig.spawn("timeout=0|hello").await;
    let short = rig.spawn("hello").await;
    assert_eq!((child.timeout, short.timeout), (None, Some(Duration::from_secs(5))));
    assert_eq!(rig.outcome(run).await.state, Terminal::Ok);
    assert_eq!(rig.outcome(child.run).await.state, Terminal::Ok);
    assert_eq!(rig.outcome(short.run).await.state, Terminal::Timeout);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_configured_zero_is_no_deadline_for_later_runs_either() {
    let rig = setup()
        .with(|settings| {
            settings.subagents.run_timeout = Some(Duration::ZERO);
            settings.runs.timeout = Some(Duration::ZERO);
        })
        .start(script)
        .await;
    assert_eq!(rig.answer("hello").await.state, Terminal::Ok);
    let child = rig.spawn("session,quiet|hello").await;
    rig.outcome(child.run).await;
    let run = rig.say_to(child.session, "hello").await;
    assert_eq!(rig.outcome(run).await.state, Terminal::Ok);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn time_in_the_lane_does_not_count() {
    let rig = setup().with(|settings| settings.lanes.subagent = 1).start(script).await;
    let mut children = Vec::new();
    for _ in 0..4 {
        children.push(rig.spawn("timeout=1500,quiet|work").await);
    }
    for child in children {
        assert_eq!(rig.outcome(child.run).await.state, Terminal::Ok);
    }
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn time_in_the_lane_after_a_back_off_does_not_count() {
    use offshoot_actors::ports::{ModelError, ModelErrorKind};
    let rig = setup()
        .with(|settings| settings.lanes.subagent = 1)
        .start(|call: Call| async move {
            match &*call.task() {
                "busy" => call.sleep(100_000).await,
                "work" if call.clock.now().0 < 1_700_000_001_000 => {
                    return Err(ModelError::new(ModelErrorKind::Network, "no connection"));
                }
                _ => {}
            }
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    let work = rig.spawn("timeout=10000|work").await;
    rig.sleep(1).await;
    rig.spawn("busy").await;
    assert_eq!(rig.outcome(work.run).await.state, Terminal::Ok);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_parent_ends_what_it_spawned() {
    let rig = setup().start(script).await;
    let run = say(&rig, "wait", 10).await;
    let outcome = rig.outcome(run).await;
    assert_eq!(outcome.state, Terminal::Timeout);
    assert_eq!(rig.open().await, 0);
    rig.quiet().await;
    let states: Vec<_> =
        rig.storage.all_runs().iter().map(|run| run.outcome.as_ref().unwrap().state).collect();
    assert_eq!(states, [Terminal::Timeout, Terminal::Cancelled]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_past_all_bounds_is_refused() {
    let rig = setup().start(script).await;
    for timeout in [MAX_TIMEOUT + Duration::from_nanos(1), Duration::MAX] {
        let mut request = PromptRequest::new(main_key(), "hello");
        request.timeout = Some(timeout);
        let refusal = rig.handle.submit(request, Origin::Operator).await.unwrap_err();
        assert_eq!(refusal.code, "timeout");
        assert!(refusal.hint.unwrap().contains("agents.defaults.timeoutSeconds"));
    }
    let mut settings = (*rig.handle.settings()).clone();
    settings.runs.timeout = Some(Duration::MAX);
    let path = rig.handle.apply(settings.clone()).await.unwrap_err().path;
    assert_eq!(path, "agents.defaults.timeoutSeconds");
    (settings.runs.timeout, settings.subagents.run_timeout) = (None, Some(Duration::MAX));
    let path = rig.handle.apply(settings).await.unwrap_err().path;
    assert_eq!(path, "agents.defaults.subagents.runTimeoutSeconds");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept_in_whole_milliseconds() {
    let rig = setup().start(script).await;
    for (asked, kept) in [(Duration::from_nanos(1), 1), (MAX_TIMEOUT, 31_536_000_000)] {
        let mut request = PromptRequest::new(main_key(), "hello");
        request.timeout = Some(asked);
        let run = rig.handle.submit(request, Origin::Operator).await.unwrap().run;
        assert_eq!(rig.row(run).timeout, Some(Duration::from_millis(kept)));
        rig.outcome(run).await;
    }
    rig.finish().await;
}
