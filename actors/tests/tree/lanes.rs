//! Permits: fair between parents, held only while a run works, back however a run ends.

use offshoot_actors::ports::{Answer, ModelError, ModelErrorKind};
use offshoot_actors::types::{SessionKey, Terminal};

use crate::rig::{Call, call, setup};

#[tokio::test(start_paused = true)]
async fn a_parent_with_500_children_does_not_starve_one_with_one() {
    let rig = setup()
        .with(|settings| {
            settings.subagents.max_children = 500;
            settings.lanes.subagent = 2;
        })
        .start(|call: Call| async move {
            call.sleep(100).await;
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    for number in 0..500 {
        rig.spawn(&format!("child {number}")).await;
    }
    let other: SessionKey = "agent:main:other".parse().unwrap();
    let single = rig.spawn_in(other, "single").await;
    rig.outcome(single.run).await;
    let before = rig.log.calls.lock().unwrap().iter().position(|call| call.1 == single.run).unwrap();
    assert!(before < 10, "{before} others went first");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_tells_what_runs_and_what_waits_in_it() {
    let rig = setup()
        .with(|settings| settings.lanes.subagent = 2)
        .start(|call: Call| async move {
            call.sleep(100).await;
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    let mut last = None;
    for number in 0..5 {
        last = Some(rig.spawn(&format!("child {number}")).await.run);
    }
    let busy = rig.handle.lanes().await.unwrap();
    assert_eq!(busy.map(|lane| (lane.name, lane.active, lane.queued)), [("main", 0, 0), ("subagent", 2, 3)]);
    assert_eq!(busy[1].limit, 2);
    rig.outcome(last.unwrap()).await;
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_its_children_holds_no_permit() {
    let rig = setup()
        .with(|settings| {
            settings.lanes.subagent = 1;
            settings.lanes.main = 1;
        })
        .start(|call_: Call| async move {
            let task = call_.task();
            let level: usize = task.parse().unwrap_or(0);
            Ok(match call_.request.step {
                _ if level == 4 => Answer::text("bottom"),
                1 => {
                    Answer::tools(vec![call("s", "spawn", &(level + 1).to_string()), call("y", "yield", "")])
                }
                _ => Answer::text(call_.news().join(",")),
            })
        })
        .await;
    assert_eq!(rig.answer("go").await.text.as_deref(), Some("ok:ok:ok:ok:bottom"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_in_back_off_holds_no_permit() {
    let rig = setup()
        .with(|settings| settings.lanes.subagent = 1)
        .start(|call: Call| async move {
            if call.task() == "slow"
                && call.request.transcript.entries().len() == 1
                && call.clock.now().0 < 1_700_000_050_000
            {
                let mut error = ModelError::new(ModelErrorKind::RateLimited, "too many");
                error.retry_after = Some(std::time::Duration::from_secs(50));
                return Err(error);
            }
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    let slow = rig.spawn("slow").await;
    rig.sleep(1_000).await;
    let quick = rig.spawn("quick").await;
    rig.sleep(1_000).await;
    assert_eq!(rig.row(quick.run).state.as_str(), "ok");
    assert_eq!(rig.row(slow.run).state.as_str(), "running");
    assert_eq!(rig.outcome(slow.run).await.state, Terminal::Ok);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_panics_gives_its_permit_back() {
    let rig = setup()
        .with(|settings| settings.lanes.subagent = 1)
        .start(|call_: Call| async move {
            match &*call_.task() {
                "model" => panic!("the model panics on purpose"),
                "tool" => Ok(Answer::tools(vec![call("1", "panic", "")])),
                _ => Ok(Answer::text("NO_REPLY")),
            }
        })
        .await;
    for task in ["model", "tool", "fine"] {
        let child = rig.spawn(task).await;
        let outcome = rig.outcome(child.run).await;
        let wanted = if task == "fine" { Terminal::Ok } else { Terminal::Crashed };
        assert_eq!(outcome.state, wanted, "{outcome:?}");
        if task != "fine" {
            assert_eq!(outcome.reason.unwrap(), format!("the {task} panics on purpose"));
        }
    }
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_wider_lane_serves_at_once_and_a_narrower_one_drains() {
    let rig = setup()
        .with(|settings| settings.lanes.subagent = 1)
        .start(|call: Call| async move {
            call.sleep(1_000).await;
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    for number in 0..5 {
        rig.spawn(&format!("child {number}")).await;
    }
    rig.sleep(10).await;
    assert_eq!(rig.log.in_flight(), 1);
    let mut settings = (*rig.handle.settings()).clone();
    settings.lanes.subagent = 3;
    rig.handle.apply(settings.clone()).await.unwrap();
    rig.sleep(10).await;
    assert_eq!(rig.log.in_flight(), 3);
    settings.lanes.subagent = 2;
    rig.handle.apply(settings.clone()).await.unwrap();
    rig.sleep(1_500).await;
    assert!(rig.log.in_flight() <= 2);
    settings.lanes.subagent = 0;
    assert!(rig.handle.apply(settings).await.is_err());
    rig.finish().await;
}
