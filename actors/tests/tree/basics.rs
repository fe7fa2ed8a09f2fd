//! A spawn and its announce, a wait for children.

use offshoot_actors::ports::Answer;
use offshoot_actors::types::{Origin, Terminal};

use crate::rig::{Call, call, main_key, setup};

#[tokio::test(start_paused = true)]
async fn a_spawn_runs_and_its_result_reaches_the_parent() {
    let rig = setup()
        .start(|call: Call| async move {
            let news = call.news();
            Ok(if news.is_empty() {
                Answer::text(format!("did {}", call.task()))
            } else {
                Answer::text(format!("got {}", news.join(",")))
            })
        })
        .await;
    let child = rig.spawn("a task").await;
    let outcome = rig.outcome(child.run).await;
    assert_eq!((outcome.state, outcome.text.as_deref()), (Terminal::Ok, Some("did a task")));
    rig.quiet().await;
    let runs = rig.storage.all_runs();
    assert_eq!(runs.len(), 2);
    let texts: Vec<_> = runs.iter().filter_map(|run| run.outcome.clone()?.text).collect();
    assert!(texts.contains(&"got ok:did a task".to_owned()), "{texts:?}");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_waits_wakes_once_with_all_results() {
    let rig = setup()
        .start(|call_: Call| async move {
            let task = call_.task();
            if let Some(ms) = task.strip_prefix("child ") {
                call_.sleep(ms.parse().unwrap()).await;
                return Ok(Answer::text(task));
            }
            Ok(match call_.request.step {
                1 => Answer::tools(vec![
                    call("1", "spawn", "child 100"),
                    call("2", "spawn", "child 300"),
                    call("3", "spawn", "child 200"),
                ]),
                2 => Answer::tools(vec![call("4", "yield", "")]),
                _ => Answer::text(call_.news().join(",")),
            })
        })
        .await;
    let outcome = rig.answer("go").await;
    assert_eq!(outcome.text.as_deref(), Some("ok:child 100,ok:child 200,ok:child 300"));
    rig.quiet().await;
    assert_eq!(rig.storage.all_runs().len(), 4);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_names_each_run_that_it_ended_once() {
    let rig = setup()
        .start(|call_: Call| async move {
            match (call_.request.step, &*call_.task()) {
                (1, "go") => Ok(Answer::tools(vec![call("1", "spawn", "a"), call("2", "spawn", "b")])),
                _ => std::future::pending().await,
            }
        })
        .await;
    rig.say("go").await;
    rig.until("all three call a model", |rig| rig.log.in_flight() == 3).await;
    let stopped = rig.handle.stop(main_key(), Origin::Operator).await.unwrap();
    let mut ended = stopped.ended.clone();
    ended.sort();
    ended.dedup();
    assert_eq!((stopped.ended.len(), ended.len()), (3, 3), "{:?}", stopped.ended);
    rig.finish().await;
}
