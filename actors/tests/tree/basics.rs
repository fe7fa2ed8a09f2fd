//! A spawn and its announce, a wait for children.

use crate::common::{announced, call, last_user, main_key, settings, start};
use offshoot_actors::ports::Answer;
use offshoot_actors::types::{Origin, PromptRequest, SpawnRequest, Terminal};

#[tokio::test(start_paused = true)]
async fn a_spawn_runs_and_its_result_reaches_the_parent() {
    let bench = start(settings(), |request, _| async move {
        let announced = announced(&request);
        Ok(if announced.is_empty() {
            Answer::text(format!("did {}", last_user(&request)))
        } else {
            Answer::text(format!("got {}", announced.join(",")))
        })
    })
    .await;
    let tree = bench.tree.handle();
    let accepted = tree.spawn(SpawnRequest::new(main_key(), "a task"), Origin::Operator).await.unwrap();
    let outcome = tree.outcome(accepted.run).await.unwrap();
    assert_eq!((outcome.state, outcome.text.as_deref()), (Terminal::Ok, Some("did a task")));
    tree.quiet(&main_key()).await.unwrap();
    let runs = bench.storage.all_runs();
    assert_eq!(runs.len(), 2);
    let texts: Vec<_> = runs.iter().filter_map(|run| run.outcome.clone()?.text).collect();
    assert!(texts.contains(&"got ok:did a task".to_owned()), "{texts:?}");
    bench.tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_waits_wakes_once_with_all_results() {
    let bench = start(settings(), |request, clock| async move {
        let task = last_user(&request);
        if task.starts_with("child") {
            let ms = task.trim_start_matches("child ").parse().unwrap();
            clock.sleep(std::time::Duration::from_millis(ms)).await;
            return Ok(Answer::text(task));
        }
        Ok(match request.step {
            1 => Answer::tools(vec![
                call("1", "spawn", "child 100"),
                call("2", "spawn", "child 300"),
                call("3", "spawn", "child 200"),
            ]),
            2 => Answer::tools(vec![call("4", "yield", "")]),
            _ => Answer::text(announced(&request).join(",")),
        })
    })
    .await;
    let tree = bench.tree.handle();
    let submitted = tree.submit(PromptRequest::new(main_key(), "go"), Origin::Operator).await.unwrap();
    let outcome = tree.outcome(submitted.run).await.unwrap();
    assert_eq!(outcome.text.as_deref(), Some("ok:child 100,ok:child 200,ok:child 300"));
    tree.quiet(&main_key()).await.unwrap();
    assert_eq!(bench.storage.all_runs().len(), 4);
    bench.tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_names_each_run_that_it_ended_once() {
    let bench = start(settings(), |request, _| async move {
        match (request.step, last_user(&request).as_str()) {
            (1, "go") => Ok(Answer::tools(vec![call("1", "spawn", "a"), call("2", "spawn", "b")])),
            _ => std::future::pending().await,
        }
    })
    .await;
    let tree = bench.tree.handle();
    tree.submit(PromptRequest::new(main_key(), "go"), Origin::Operator).await.unwrap();
    while tree
        .live()
        .iter()
        .filter(|live| live.run.as_ref().is_some_and(|run| run.state == "running"))
        .count()
        < 3
    {
        tokio::task::yield_now().await;
    }
    let stopped = tree.stop(main_key(), Origin::Operator).await.unwrap();
    let mut ended = stopped.ended.clone();
    ended.sort();
    ended.dedup();
    assert_eq!((stopped.ended.len(), ended.len()), (3, 3), "{:?}", stopped.ended);
    bench.tree.stop().await;
}
