//! What is told of a tree, in which order.

use offshoot_actors::ports::{Answer, Event, ModelError, ModelErrorKind};
use offshoot_actors::types::Origin;

use crate::rig::{Call, Rig, call, main_key, request, setup};

/// Every event in short: who, and what.
fn told(rig: &Rig) -> Vec<String> {
    let mut names = vec![(main_key(), "main".to_owned())];
    let mut lines = Vec::new();
    for event in rig.events.all() {
        if let Event::Spawned { child, label, .. } = &event {
            names.push((child.session.clone(), label.clone().unwrap()));
        }
        let (session, what) = match &event {
            Event::Spawned { child, .. } => (&child.session, "spawned".to_owned()),
            Event::Refused { parent, code } => (parent, format!("refused {code}")),
            Event::Submitted { session, .. } => (session, "submitted".to_owned()),
            Event::Started { session, .. } => (session, "started".to_owned()),
            Event::Text { session, piece, .. } => (session, format!("text {piece}")),
            Event::StepStarted { session, step, .. } => (session, format!("calls {step}")),
            Event::StepRestarted { session, reason, .. } => (session, format!("restarted: {reason}")),
            Event::StepFinished { session, step, .. } => (session, format!("step {step}")),
            Event::ToolStarted { session, name, .. } => (session, format!("tool {name}")),
            Event::ToolFinished { session, call, .. } => (session, format!("tool {call} done")),
            Event::Yielded { session, .. } => (session, "yielded".to_owned()),
            Event::Appended { session, entries } => (session, format!("appended {}", entries.len())),
            Event::Announced { session, runs } => (session, format!("took {}", runs.len())),
            Event::Ended { session, outcome, .. } => (session, format!("ended {}", outcome.state)),
            Event::Moved { session, .. } => (session, "moved".to_owned()),
            Event::Noted(_) | Event::Pairing(_) | Event::Watched(_) => {
                unreachable!("nothing here is about: {event:?}")
            }
        };
        let name = names.iter().find(|(key, _)| key == session).map(|(_, name)| name.clone());
        lines.push(format!("{}: {what}", name.expect("a session is told of before its events")));
    }
    lines
}

#[tokio::test(start_paused = true)]
async fn each_thing_is_told_after_what_it_follows_from() {
    let rig = setup()
        .start(|call_: Call| async move {
            if call_.task() == "work" {
                call_.sink.text("wo");
                if call_.clock.now().0 < 1_700_000_000_100 {
                    call_.sleep(100).await;
                    return Err(ModelError::new(ModelErrorKind::Cut, "cut"));
                }
                call_.sink.text("rk");
                return Ok(Answer::text("work"));
            }
            Ok(match call_.request.step {
                1 => Answer::tools(vec![call("s", "spawn", "label=child|work"), call("y", "yield", "")]),
                _ => Answer::text("done"),
            })
        })
        .await;
    rig.answer("go").await;
    rig.quiet().await;
    let lines = told(&rig);
    let of = |name: &str| -> Vec<String> {
        let prefix = format!("{name}: ");
        lines.iter().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    };
    assert_eq!(
        of("main"),
        [
            "submitted",
            "appended 1",
            "started",
            "calls 1",
            "step 1",
            "appended 1",
            "tool spawn",
            "tool s done",
            "appended 1",
            "tool yield",
            "tool y done",
            "appended 1",
            "yielded",
            "took 1",
            "appended 1",
            "calls 2",
            "step 2",
            "appended 1",
            "ended ok"
        ]
    );
    assert_eq!(
        of("child"),
        [
            "spawned",
            "appended 1",
            "started",
            "calls 1",
            "text wo",
            "restarted: cut",
            "calls 1",
            "text wo",
            "text rk",
            "step 1",
            "appended 1",
            "ended ok"
        ]
    );
    let place = |line: &str| lines.iter().position(|known| known == line).unwrap();
    assert!(place("main: tool spawn") < place("child: spawned"));
    assert!(place("child: ended ok") < place("main: took 1"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_entered_into_the_audit_record() {
    let rig = setup()
        .with(|settings| settings.subagents.max_children = 1)
        .start(|call: Call| async move {
            call.sleep(100).await;
            Ok(Answer::text("NO_REPLY"))
        })
        .await;
    rig.spawn("label=first|work").await;
    rig.handle.spawn(request(main_key(), "work"), Origin::Operator).await.unwrap_err();
    rig.quiet().await;
    assert!(told(&rig).contains(&"main: refused children".to_owned()));
    let audit = rig.storage.audit();
    let lines: Vec<_> =
        audit.iter().map(|line| line.event).filter(|event| event.starts_with("spawn.")).collect();
    assert_eq!(lines, ["spawn.accepted", "spawn.refused"]);
    rig.finish().await;
}
