//! Model calls that fail, and answers that are cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use offshoot_actors::ports::{Answer, Event, ModelError, ModelErrorKind, StopReason};
use offshoot_actors::types::{ModelChoice, ModelRef, Origin, PromptRequest, Settings, Terminal, Usage};

use crate::rig::{Call, Rig, call, main_key, setup};

fn model(name: &str) -> ModelRef {
    name.parse().unwrap()
}

fn with_fallbacks(settings: &mut Settings) {
    let id = settings.default_agent.clone();
    let agent = Arc::make_mut(settings.agents.get_mut(&id).unwrap());
    agent.model = ModelChoice {
        primary: model("test/first"),
        fallbacks: vec![model("test/second"), model("test/third")],
    };
}

/// Fails `times` calls in the given way, then answers.
async fn failing(times: u32, error: ModelError) -> Rig {
    let failed = AtomicU32::new(0);
    setup()
        .start(move |_| {
            let fails = failed.fetch_add(1, Ordering::Relaxed) < times;
            let error = error.clone();
            async move { if fails { Err(error) } else { Ok(Answer::text("at last")) } }
        })
        .await
}

fn restarts(rig: &Rig) -> usize {
    rig.events.count(|event| matches!(event, Event::StepRestarted { step: 1, .. }))
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again() {
    for kind in ModelErrorKind::ALL.into_iter().filter(|kind| kind.is_transient()) {
        let rig = failing(3, ModelError::new(kind, "not now")).await;
        let run = rig.say("hello").await;
        assert_eq!(rig.outcome(run).await.text.as_deref(), Some("at last"));
        assert_eq!((rig.log.steps(run), restarts(&rig)), (vec![1; 4], 3));
        assert_eq!(rig.row(run).steps, 1);
        rig.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_wish_of_the_provider_is_kept() {
    let mut error = ModelError::new(ModelErrorKind::RateLimited, "not now");
    error.retry_after = Some(Duration::from_secs(40));
    let rig = failing(1, error).await;
    let run = rig.say("hello").await;
    rig.outcome(run).await;
    let row = rig.row(run);
    let took = row.ended_at.unwrap() - row.started_at.unwrap();
    assert!(took >= Duration::from_secs(40) && took <= Duration::from_secs(42), "{took:?}");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_with_the_kind_and_the_words() {
    let rig = failing(100, ModelError::new(ModelErrorKind::Server, "status 500")).await;
    let outcome = rig.answer("hello").await;
    assert_eq!(
        (outcome.state, outcome.reason.as_deref()),
        (Terminal::Error, Some("server_error: status 500"))
    );
    assert_eq!(rig.log.count(), 4);
    rig.stop().await;
    let rig = failing(100, ModelError::new(ModelErrorKind::Auth, "wrong key")).await;
    let outcome = rig.answer("hello").await;
    assert_eq!((outcome.state, outcome.reason.as_deref()), (Terminal::Error, Some("auth: wrong key")));
    assert_eq!(rig.log.count(), 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_answers_is_recorded() {
    let rig = setup()
        .with(with_fallbacks)
        .start(|call_: Call| async move {
            match (call_.request.model.as_str(), call_.request.step) {
                ("test/first", _) => Err(ModelError::new(ModelErrorKind::Auth, "wrong key")),
                ("test/second", 1) => Ok(Answer::tools(vec![call("1", "wait", "1")])),
                ("test/second", _) => Err(ModelError::new(ModelErrorKind::BadRequest, "no")),
                _ => Ok(Answer::text("third")),
            }
        })
        .await;
    let run = rig.say("hello").await;
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("third"));
    let called: Vec<_> = rig.log.calls.lock().unwrap().iter().map(|call| call.3.to_string()).collect();
    assert_eq!(called, ["test/first", "test/second", "test/second", "test/third"]);
    let row = rig.row(run);
    assert_eq!((row.model.primary, row.model_used), (model("test/first"), Some(model("test/third"))));
    let told: Vec<_> = rig
        .events
        .all()
        .into_iter()
        .filter_map(|event| match event {
            Event::StepRestarted { step, reason, fallback, .. } => Some((step, reason, fallback)),
            _ => None,
        })
        .collect();
    let expected = [
        (1, "test/first failed: auth: wrong key", "test/second"),
        (2, "test/second failed: format: no", "test/third"),
    ];
    let expected = expected.map(|(step, why, next)| (step, why.to_owned(), Some(model(next))));
    assert_eq!(told, expected);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_model_of_a_run_of_one_step_is_recorded() {
    let rig = setup().with(with_fallbacks).start(|_| async { Ok(Answer::text("done")) }).await;
    let run = rig.say("hello").await;
    rig.outcome(run).await;
    assert_eq!(rig.row(run).model_used, Some(model("test/first")));
    let child = rig.spawn("model=test/other|hello").await;
    assert_eq!((child.model.primary.clone(), child.model.fallbacks.len()), (model("test/other"), 0));
    rig.outcome(child.run).await;
    assert_eq!(rig.row(child.run).model_used, Some(model("test/other")));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_makes_too_many_steps_is_partial() {
    let rig = setup()
        .with(|settings| settings.runs.max_steps = 3)
        .start(|call_: Call| async move {
            let step = call_.request.step.to_string();
            Ok(Answer {
                text: format!("step {step}"),
                usage: Usage { input: 10, output: 1, cached: 5 },
                ..Answer::tools(vec![call(&step, "wait", "1")])
            })
        })
        .await;
    let run = rig.say("hello").await;
    let outcome = rig.outcome(run).await;
    assert_eq!((outcome.state, outcome.text.as_deref()), (Terminal::Partial, Some("step 3")));
    assert_eq!(outcome.reason.as_deref(), Some("the run has made its 3 steps"));
    let row = rig.row(run);
    assert_eq!((row.steps, row.usage), (3, Usage { input: 30, output: 3, cached: 15 }));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_cut_off_is_partial() {
    for (stop, reason) in [(StopReason::Length, "max_tokens"), (StopReason::Filtered, "content_filter")] {
        let rig = setup()
            .start(move |_| async move {
                let calls = vec![call("1", "wait", "1")];
                Ok(Answer { text: "half".into(), stop, ..Answer::tools(calls) })
            })
            .await;
        let outcome = rig.answer("hello").await;
        assert_eq!(
            (outcome.state, outcome.reason.as_deref(), outcome.text.as_deref()),
            (Terminal::Partial, Some(reason), Some("half"))
        );
        assert!(rig.storage.tool_rows().is_empty(), "the calls of a cut answer may be cut themselves");
        assert_eq!(rig.transcript(&main_key()).len(), 2);
        rig.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_of_the_same_agent_runs_on_the_model_of_the_run_that_asks() {
    let rig = setup()
        .start(|call_: Call| async move {
            Ok(match (&*call_.task(), call_.request.step) {
                ("go", 1) => Answer::tools(vec![call("1", "spawn", "quiet|child")]),
                _ => Answer::text("done"),
            })
        })
        .await;
    let mut request = PromptRequest::new(main_key(), "go");
    request.model = Some("test/other".to_owned());
    let run = rig.handle.submit(request, Origin::Operator).await.unwrap().run;
    rig.outcome(run).await;
    rig.quiet().await;
    let child = rig.storage.all_runs().into_iter().find(|row| row.spawner == Some(run)).unwrap();
    assert_eq!((&child.model.primary, &child.model_used), (&model("test/other"), &Some(model("test/other"))));
    // Without a run that asks it is the session's.
    assert_eq!(rig.spawn("quiet|child").await.model.primary, model("test/script"));
    rig.finish().await;
}
