//! Sessions that sleep and wake.

use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::ports::{Answer, Ids, SeededIds};
use offshoot_actors::types::Terminal;

use crate::rig::{Call, main_key, setup, soon, texts};

#[tokio::test(start_paused = true)]
async fn a_quiet_session_sleeps_after_its_time_and_wakes_with_its_memory() {
    let rig = setup()
        .start(
            |call: Call| async move { Ok(Answer::text(texts(call.request.transcript.entries()).join("+"))) },
        )
        .await;
    rig.answer("one").await;
    rig.sleep(29_000).await;
    assert_eq!(rig.live("session").len(), 1);
    rig.sleep(2_000).await;
    assert_eq!(rig.live("session").len(), 0);
    assert_eq!(rig.answer("two").await.text.as_deref(), Some("one+two"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_of_one_run_sleeps_at_once_and_one_that_stays_takes_further_messages() {
    let rig = setup()
        .start(|call: Call| async move {
            let all = texts(call.request.transcript.entries()).join("+");
            Ok(Answer::text(if call.request.session.is_subagent() { all } else { "NO_REPLY".to_owned() }))
        })
        .await;
    let one = rig.spawn("one").await;
    let stays = rig.spawn("session|stays").await;
    rig.quiet().await;
    rig.sleep(1).await;
    let live = rig.live("session");
    let path = |child: &offshoot_actors::types::Accepted| {
        format!("offshoot/sessions/agent:main:main/{}", child.session)
    };
    assert!(!live.contains(&path(&one)), "{live:?}");
    assert!(live.contains(&path(&stays)), "{live:?}");
    rig.sleep(60_000).await;
    assert!(rig.live("session").is_empty(), "parents sleep once their children do");
    let run = rig.say_to(stays.session.clone(), "more").await;
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("stays+more"));
    assert_eq!(rig.live("session"), ["offshoot/sessions/agent:main:main".to_owned(), path(&stays)]);
    let run = rig.say_to(one.session, "again").await;
    assert_eq!(rig.outcome(run).await.text.as_deref(), Some("one+again"));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_deep_session_wakes_its_ancestors_first() {
    let rig = setup().start(|_| async { Ok(Answer::text("NO_REPLY")) }).await;
    let mut parent = main_key();
    for _ in 0..4 {
        parent = rig.spawn_in(parent, "session|stays").await.session;
    }
    // Each of the five sleeps half a minute after the one below it.
    rig.sleep(200_000).await;
    assert!(rig.live("session").is_empty());
    let run = rig.say_to(parent, "hello").await;
    assert_eq!(rig.outcome(run).await.state, Terminal::Ok);
    assert_eq!(rig.live("session").len(), 5);
    rig.sleep(200_000).await;
    assert!(rig.live("session").is_empty());
    rig.finish().await;
}

/// How many messages are sent; `TREE_SENDS` changes it.
fn sends() -> usize {
    std::env::var("TREE_SENDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// Sends against sessions that sleep at once or a moment after a run; each message is a run, and each run is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_message_to_a_session_that_keeps_falling_asleep_is_lost() {
    let rig = setup()
        .with(|settings| settings.sleep_after = Duration::ZERO)
        .start(|_| async { Ok(Answer::text("yes")) })
        .await;
    let (senders, sessions) = (8, 16);
    let each = sends() / senders;
    let random = Arc::new(SeededIds::new(11));
    let tasks = (0..senders).map(|sender| {
        let random = Arc::clone(&random);
        let tree = rig.handle.clone();
        tokio::spawn(async move {
            for number in 0..each {
                // A new session now and then, so that no transcript grows without end.
                let key = format!("agent:main:s{}-{}", (number + sender) % sessions, number / 2_000)
                    .parse()
                    .unwrap();
                let request = offshoot_actors::types::PromptRequest::new(key, "hello");
                let run = tree.submit(request, offshoot_actors::types::Origin::Operator).await.unwrap().run;
                if number % 64 == 0 {
                    let mut settings = (*tree.settings()).clone();
                    settings.sleep_after = Duration::from_micros(random.below(4) * 300);
                    tree.apply(settings).await.unwrap();
                }
                if number % 3 != 0 {
                    assert_eq!(tree.outcome(run).await.unwrap().state, Terminal::Ok);
                }
            }
        })
    });
    for task in soon("the senders", futures::future::join_all(tasks)).await {
        task.unwrap();
    }
    soon("the last runs", async {
        while rig.open().await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let runs = rig.storage.all_runs();
    assert_eq!(runs.len(), each * senders);
    assert!(runs.iter().all(|run| run.outcome.as_ref().unwrap().state == Terminal::Ok));
    rig.stop().await;
}
