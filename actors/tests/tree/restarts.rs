//! The end of a tree, and another one on the same store.

use std::sync::Arc;

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{Answer, Host, ModelError, Op};
use offshoot_actors::types::{Origin, PromptRequest, RunId, Terminal, Usage};

use crate::rig::{Answered, Asked, Call, Rig, brief, call, items, main_key, request, setup, soon};

async fn script(call_: Call) -> Result<Answer, ModelError> {
    Ok(match (&*call_.task(), call_.request.step) {
        ("hang", _) => std::future::pending().await,
        ("leave", 1) => Answer::tools(vec![call("1", "spawn", "hang")]),
        ("wait", 1) => Answer::tools(vec![call("1", "spawn", "hang"), call("2", "yield", "")]),
        ("tool", 1) => Answer::tools(vec![call("1", "hang", "")]),
        _ => Answer::text(format!("got {}", call_.news().join(","))),
    })
}

#[tokio::test(start_paused = true)]
async fn a_stopped_tree_leaves_no_actor_and_no_call_and_answers_nobody() {
    let rig = setup().with(|settings| settings.lanes.subagent = 1).start(script).await;
    let waits = rig.say("wait").await;
    rig.say_to("agent:main:other".parse().unwrap(), "tool").await;
    let queued = rig.spawn("hang").await;
    rig.sleep(100).await;
    assert_eq!((rig.log.in_flight(), rig.row(waits).state.as_str()), (1, "yielded"));
    let (handle, storage, log) = (rig.handle.clone(), Arc::clone(&rig.storage), Arc::clone(&rig.log));
    rig.stop().await;
    assert_eq!(log.in_flight(), 0);
    let open = storage.all_runs().into_iter().filter(|row| row.state.is_open()).count();
    assert_eq!(open, 4, "what is open stays open in the store");
    assert!(handle.spawn(request(main_key(), "hello"), Origin::Operator).await.is_err());
    assert!(handle.submit(PromptRequest::new(main_key(), "hello"), Origin::Operator).await.is_err());
    assert!(handle.steer(main_key(), "hello".into(), Origin::Operator).await.is_err());
    assert!(soon("a cancel", handle.cancel(queued.run, Origin::Operator)).await.is_err());
    assert!(handle.apply((*handle.settings()).clone()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_a_process_left_open_is_interrupted_by_the_next_and_told() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = setup().on(&storage, 1).start(script).await;
    assert_eq!(rig.answer("leave").await.state, Terminal::Ok);
    let other = "agent:main:other".parse::<offshoot_actors::types::SessionKey>().unwrap();
    let waits = rig.say_to(other.clone(), "wait").await;
    rig.until("it waits", |rig| rig.row(waits).state.as_str() == "yielded").await;
    let tool = rig.say_to("agent:main:third".parse().unwrap(), "tool").await;
    rig.sleep(10).await;
    rig.stop().await;
    let rig = setup().on(&storage, 2).start(script).await;
    for key in [main_key(), other.clone()] {
        soon("quiet", rig.handle.quiet(&key)).await.unwrap();
        let results: Vec<_> = items(&rig.transcript(&key)).iter().map(brief).collect();
        assert_eq!(results, ["interrupted:"], "{key}");
        let turn = rig.runs_of(&key).pop().unwrap();
        assert_eq!(turn.outcome.unwrap().text.as_deref(), Some("got interrupted:"));
    }
    for run in [waits, tool] {
        let outcome = rig.outcome(run).await;
        assert_eq!(
            (outcome.state, outcome.reason.as_deref()),
            (Terminal::Interrupted, Some("the process that ran it went away"))
        );
    }
    assert_eq!(rig.log.tools.lock().unwrap().len(), 0, "no tool call is repeated");
    assert!(rig.log.calls.lock().unwrap().iter().all(|call| !call.0.is_subagent()), "nor a model call");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_sessions_of_other_roots_waits_until_they_are_written_to() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = setup().on(&storage, 1).start(script).await;
    let other = "agent:main:other".parse::<offshoot_actors::types::SessionKey>().unwrap();
    let left = [main_key(), other.clone()];
    for key in &left {
        let run = rig.say_to(key.clone(), "leave").await;
        assert_eq!(rig.outcome(run).await.state, Terminal::Ok);
    }
    rig.stop().await;
    let mut own = setup().on(&storage, 2);
    own.only_root = Some(main_key());
    let rig = own.start(script).await;
    let results = |rig: &crate::rig::Rig| left.each_ref().map(|key| items(&rig.transcript(key)).len());
    for key in &left {
        soon("quiet", rig.handle.quiet(key)).await.unwrap();
    }
    assert_eq!(results(&rig), [1, 0], "no session of another root is woken, or waited for");
    rig.say_to(other.clone(), "hello").await;
    soon("quiet", rig.handle.quiet(&other)).await.unwrap();
    assert_eq!(results(&rig), [1, 1]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn runs_of_a_daemon_are_not_for_a_single_command_to_end() {
    let storage = Arc::new(MemoryStorage::new());
    let mut daemon = setup().on(&storage, 1);
    daemon.host = Host::Daemon;
    let rig = daemon.start(script).await;
    let run = rig.say_to("agent:main:other".parse().unwrap(), "hang").await;
    rig.sleep(10).await;
    rig.stop().await;
    let rig = setup().on(&storage, 2).start(script).await;
    assert_eq!(rig.answer("hello").await.state, Terminal::Ok);
    assert_eq!(rig.row(run).state.as_str(), "running");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_in_which_a_daemon_has_runs_serves_a_single_command_beside_them() {
    let storage = Arc::new(MemoryStorage::new());
    let mut daemon = setup().on(&storage, 1);
    daemon.host = Host::Daemon;
    let rig = daemon.start(script).await;
    let child = rig.spawn("hang").await.run;
    let (works, waits) = (rig.say("hang").await, rig.say("hang").await);
    rig.sleep(10).await;
    rig.stop().await;
    let rig = setup()
        .on(&storage, 2)
        .start(|call_: Call| async move {
            Ok(match (&*call_.task(), call_.request.step) {
                ("go", 1) => Answer::tools(vec![call("1", "spawn", "leaf"), call("2", "yield", "")]),
                ("hang", _) => std::future::pending().await,
                _ => Answer::text(format!("got {}", call_.news().join(","))),
            })
        })
        .await;
    let theirs = |rig: &crate::rig::Rig| [works, waits, child].map(|run| rig.row(run).state.as_str());
    let answer = rig.answer("go").await;
    assert_eq!(answer.text.as_deref(), Some("got ok:got "), "it waits for its own child alone");
    let refusal = rig.handle.cancel(works, Origin::Operator).await.unwrap_err();
    assert_eq!(refusal.code, "other_process");
    assert_eq!(theirs(&rig), ["running", "accepted", "running"]);
    rig.sleep(100_000).await;
    assert!(rig.live("session").is_empty(), "what others have open keeps no session awake");
    let mine = rig.say("hang").await;
    rig.sleep(10).await;
    let stopped = soon("the stop", rig.handle.stop(main_key(), Origin::Operator)).await.unwrap();
    assert!(stopped.ended.contains(&mine));
    assert_eq!(theirs(&rig), ["running", "accepted", "running"], "a stop ends what this process executes");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_conversation_goes_on_after_a_restart_at_any_commit() {
    let recorded = Arc::new(MemoryStorage::recording());
    let rig = setup()
        .on(&recorded, 1)
        .start(|call_: Call| async move {
            Ok(match (&*call_.task(), call_.request.step) {
                ("go", 1) => Answer::tools(vec![
                    call("1", "spawn", "one"),
                    call("2", "spawn", "delete|two"),
                    call("3", "yield", ""),
                ]),
                _ => Answer::text(call_.task()),
            })
        })
        .await;
    rig.answer("go").await;
    rig.quiet().await;
    rig.stop().await;
    for commit in 0..=recorded.commits() {
        let storage = Arc::new(recorded.at_commit(commit).unwrap());
        let rig = setup()
            .on(&storage, 1_000 + commit)
            .start(|call: Call| async move { Ok(Answer::text(call.task())) })
            .await;
        rig.quiet().await;
        assert_eq!(rig.answer("hello").await.text.as_deref(), Some("hello"), "after commit {commit}");
        rig.finish().await;
    }
}

/// A process that leaves a run open, and the next one, whose store refuses so many ends of runs.
async fn left_behind(refusals: u32) -> (Rig, RunId) {
    let storage = Arc::new(MemoryStorage::new());
    let rig = setup().on(&storage, 1).start(script).await;
    let run = rig.say("hang").await;
    rig.until("it works", |rig| rig.row(run).state.as_str() == "running").await;
    rig.stop().await;
    let (setup, faulty) = setup().on(&storage, 2).faulty();
    let ends = |asked: &Asked<'_>| match asked {
        Asked::Submit(transaction) => transaction.iter().any(|op| matches!(op, Op::EndRun(_))),
        _ => false,
    };
    faulty.fail(refusals, ends);
    (setup.start(script).await, run)
}

#[tokio::test(start_paused = true)]
async fn what_a_full_store_does_not_take_at_the_start_is_ended_later() {
    let (rig, run) = left_behind(10).await;
    assert_eq!(rig.row(run).state.as_str(), "running");
    assert_eq!(rig.outcome(run).await.state, Terminal::Interrupted);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_a_full_store_does_not_take() {
    let (rig, run) = left_behind(10).await;
    soon("a stop", rig.handle.stop(main_key(), Origin::Operator)).await.unwrap();
    assert_eq!(rig.row(run).outcome.map(|outcome| outcome.state), Some(Terminal::Interrupted));
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_run_is_ended_late_takes_what_waited_for_it_before() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = setup().on(&storage, 1).start(script).await;
    assert_eq!(rig.answer("leave").await.state, Terminal::Ok);
    let run = rig.say("hang").await;
    rig.until("it works", |rig| rig.row(run).state.as_str() == "running").await;
    rig.stop().await;
    // The end of the child is taken at once, and its result waits; that of the parent's own run is refused for long.
    let (setup, faulty) = setup().on(&storage, 2).faulty();
    faulty.fail(10, move |asked| match asked {
        Asked::Submit(transaction) => {
            transaction.iter().any(|op| matches!(op, Op::EndRun(end) if end.run == run))
        }
        _ => false,
    });
    let rig = setup.start(script).await;
    assert_eq!(rig.row(run).state.as_str(), "running");
    assert_eq!(rig.outcome(run).await.state, Terminal::Interrupted);
    rig.quiet().await;
    assert_eq!(items(&rig.transcript(&main_key())).len(), 1);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait_for_what_a_full_store_does_not_take() {
    let (rig, run) = left_behind(12).await;
    let limit = rig.handle.settings().prompts.max_queued;
    let say = |number: usize| {
        rig.handle.submit(PromptRequest::new(main_key(), number.to_string()), Origin::Operator)
    };
    let asked = async {
        let waiting = futures::future::join_all((0..limit).map(say));
        let more = async {
            rig.sleep(1).await;
            let spawn = rig.handle.spawn(request(main_key(), "hello"), Origin::Operator).await.unwrap_err();
            [say(limit).await.unwrap_err(), spawn].map(|refusal| refusal.code)
        };
        tokio::join!(waiting, more)
    };
    let (waited, more) = soon("the answers", asked).await;
    assert_eq!(more, ["store"; 2]);
    assert!(!rig.row(run).state.is_open());
    assert!(waited.iter().any(Result::is_ok));
    rig.quiet().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_result_of_what_was_left_open_tells_of_its_tokens_though_the_store_was_away_for_a_moment() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = setup()
        .on(&storage, 1)
        .start(|call_: Call| async move {
            Ok(match &*call_.task() {
                "leave" if call_.request.step == 1 => Answer::tools(vec![call("1", "spawn", "work")]),
                "work" => Answer {
                    usage: Usage { input: 10, output: 1, cached: 0 },
                    ..Answer::tools(vec![call("1", "spawn", "leaf"), call("2", "hang", "")])
                },
                "leaf" => {
                    Answer { usage: Usage { input: 100, output: 10, cached: 0 }, ..Answer::text("NO_REPLY") }
                }
                _ => Answer::text("NO_REPLY"),
            })
        })
        .await;
    rig.answer("leave").await;
    rig.until("the leaf is done", |rig| {
        let mut runs = rig.storage.all_runs().into_iter();
        runs.any(|row| row.usage.input == 100 && !row.state.is_open())
    })
    .await;
    rig.stop().await;
    let (setup, faulty) = setup().on(&storage, 2).faulty();
    let mut asked_before = 0;
    faulty.spoil(move |asked| match asked {
        // Two actors ask first, before they read what is theirs.
        Asked::Submit(transaction) if transaction.is_empty() => {
            asked_before += 1;
            if asked_before == 3 { Answered::WithAnError } else { Answered::Well }
        }
        _ => Answered::Well,
    });
    let rig = setup.start(script).await;
    rig.quiet().await;
    assert!(faulty.has_failed());
    let told: Vec<_> = items(&rig.transcript(&main_key())).iter().map(|item| item.usage).collect();
    assert_eq!(told, [Usage { input: 110, output: 11, cached: 0 }]);
    rig.finish().await;
}
