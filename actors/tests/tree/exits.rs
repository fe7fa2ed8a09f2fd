//! Children that outlive their parents.

use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::ports::{
    Answer, DeliveryFilter, DeliveryState, Event, Host, ModelError, Op, Page, RunState, Storage,
    Undeliverable,
};
use offshoot_actors::types::{Accepted, Origin, SessionKey, Terminal};
use offshoot_actors::{Delivery, MemoryStorage};

use crate::rig::{Answered, Asked, Call, Rig, Setup, brief, call, items, main_key, setup, soon};

/// What a child is doing while its parent goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    ModelCall,
    Tool,
    Queued,
    Asleep,
    Yielded,
}

const ALL: [Doing; 5] = [Doing::ModelCall, Doing::Tool, Doing::Queued, Doing::Asleep, Doing::Yielded];

/// How the parent goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Delete,
}

async fn script(call_: Call) -> Result<Answer, ModelError> {
    let task = call_.task();
    Ok(match (&*task, call_.request.step) {
        ("parent", 1) => {
            Answer::tools(vec![call("s", "spawn", "session|idle parent"), call("y", "yield", "")])
        }
        ("parent", _) => std::future::pending().await,
        ("model", _) => {
            call_.sleep(5_000).await;
            Answer::text("model is done")
        }
        ("tool", 1) => Answer::tools(vec![call("w", "wait", "5000")]),
        ("yields", 1) => Answer::tools(vec![call("s", "spawn", "model"), call("y", "yield", "")]),
        ("go", 1) => Answer::tools(vec![call("s", "spawn", "parent"), call("y", "yield", "")]),
        _ => {
            let mut news = call_.news();
            news.sort();
            Answer::text(format!("{task} {}", news.join(",")).trim().to_owned())
        }
    })
}

impl Doing {
    const fn task(self) -> &'static str {
        match self {
            Self::ModelCall | Self::Queued => "model",
            Self::Tool => "tool",
            Self::Asleep => "idle",
            Self::Yielded => "yields",
        }
    }

    /// What the child says when it is done.
    const fn result(self) -> &'static str {
        match self {
            Self::ModelCall | Self::Queued => "ok:model is done",
            Self::Tool => "ok:tool",
            Self::Asleep => "ok:idle",
            Self::Yielded => "ok:yields ok:model is done",
        }
    }
}

/// A parent below the main session, and a child of it in the state that is wanted.
async fn family(rig: &Rig, exit: &str, doing: Doing) -> (Accepted, Accepted) {
    let parent = rig.spawn("session|settle").await;
    rig.outcome(parent.run).await;
    if doing == Doing::Queued {
        rig.spawn_in("agent:main:other".parse().unwrap(), "model").await;
    }
    let spawn = format!("session,exit={exit}|{}", doing.task());
    let child = rig.spawn_in(parent.session.clone(), &spawn).await;
    let key = child.session.clone();
    rig.until("the child is where it is wanted", |rig| {
        let state = rig.row(child.run).state;
        match doing {
            Doing::ModelCall => rig.log.steps(child.run).len() == 1,
            Doing::Tool => !rig.log.tools.lock().unwrap().is_empty(),
            Doing::Queued => state == RunState::Accepted && rig.log.in_flight() == 1,
            Doing::Asleep => !state.is_open() && rig.handle.live().iter().all(|live| live.key != key),
            Doing::Yielded => state == RunState::Yielded && rig.log.in_flight() == 1,
        }
    })
    .await;
    (parent, child)
}

fn setup_for(doing: Doing) -> Setup {
    setup().with(|settings| {
        settings.sleep_after = Duration::from_millis(200);
        if doing == Doing::Queued {
            settings.lanes.subagent = 1;
        }
    })
}

impl End {
    async fn of(self, rig: &Rig, session: &SessionKey) {
        match self {
            Self::Stop => {
                drop(soon("a stop", rig.handle.stop(session.clone(), Origin::Operator)).await.unwrap())
            }
            Self::Delete => {
                let deleted = soon("a deletion", rig.handle.delete_session(session, Origin::Operator)).await;
                assert_eq!(deleted.unwrap(), std::slice::from_ref(session));
            }
        }
    }
}

fn paths_of(rig: &Rig, key: &SessionKey) -> Vec<String> {
    rig.live("session").into_iter().filter(|path| path.ends_with(key.as_str())).collect()
}

/// What must hold of a child that was handed over to the main session.
async fn handed_over(rig: Rig, child: Accepted, doing: Doing) {
    let row = || rig.storage.all_sessions().into_iter().find(|row| row.key == child.session).unwrap();
    assert_eq!((row().parent, row().outlived), (Some(main_key()), None), "{doing:?}");
    let live = paths_of(&rig, &child.session);
    let path = format!("offshoot/sessions/{}/{}", main_key(), child.session);
    assert!(live.iter().all(|live| *live == path), "{doing:?}: {live:?}");
    assert_eq!(live.is_empty(), doing == Doing::Asleep, "{doing:?}");
    rig.quiet().await;
    assert_eq!(rig.outcome(child.run).await.state, Terminal::Ok, "{doing:?}");
    let told: Vec<_> = items(&rig.transcript(&main_key())).iter().map(brief).collect();
    let to_main = told.iter().filter(|item| *item == doing.result()).count();
    // What it did before its parent went away was that one's.
    assert_eq!(to_main, usize::from(doing != Doing::Asleep), "{doing:?}: {told:?}");
    rig.finish().await;
}

/// What must hold of a child that goes on alone.
async fn alone(rig: Rig, parent: &SessionKey, child: Accepted, doing: Doing) {
    let row = || rig.storage.all_sessions().into_iter().find(|row| row.key == child.session).unwrap();
    assert_eq!((row().parent, row().outlived), (None, Some(parent.clone())), "{doing:?}");
    let live = paths_of(&rig, &child.session);
    assert!(live.iter().all(|path| *path == format!("offshoot/sessions/{}", child.session)), "{live:?}");
    assert_eq!(live.is_empty(), doing == Doing::Asleep, "{doing:?}");
    assert_eq!(rig.outcome(child.run).await.state, Terminal::Ok, "{doing:?}");
    rig.quiet().await;
    let outbox = rig.storage.outbox();
    let abandoned: Vec<_> = outbox.iter().filter(|row| row.delivery == Delivery::Abandoned).collect();
    assert_eq!(abandoned.len(), usize::from(doing != Doing::Asleep), "{doing:?}");
    if let Some(result) = abandoned.first().and_then(|row| row.announce.as_ref()) {
        assert_eq!((&result.to, brief(&result.item)), (parent, doing.result().to_owned()));
        let filter = DeliveryFilter { run: Some(child.run), ..DeliveryFilter::default() };
        let shown = rig.storage.deliveries(filter, Page { offset: 0, limit: 9 }).await.unwrap();
        assert_eq!(shown[0].state, DeliveryState::Undeliverable(Undeliverable::NoSession));
    }
    // Nobody is woken for it, and it can be deleted.
    soon("a deletion", rig.handle.delete_session(&child.session, Origin::Operator)).await.unwrap();
    assert_eq!(rig.storage.outbox().len(), outbox.len());
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_spawned_while_its_parent_is_deleted_keeps_it() {
    for exit in ["hand-over", "continue"] {
        let (setup, faulty) = setup().faulty();
        let rig = setup.start(script).await;
        let parent = rig.spawn("session|settle").await.session;
        rig.sleep(1_000).await;
        let mut looked = false;
        faulty.spoil(move |asked| match asked {
            // The stop is carried out when it looks whether it was.
            Asked::Subtree(_) if !std::mem::replace(&mut looked, true) => {
                Answered::Late(Duration::from_secs(1))
            }
            _ => Answered::Well,
        });
        let spawned = async {
            rig.sleep(500).await;
            rig.spawn_in(parent.clone(), &format!("session,exit={exit}|model")).await
        };
        let (deleted, child) = tokio::join!(rig.handle.delete_session(&parent, Origin::Operator), spawned);
        assert_eq!(deleted.unwrap_err().code, "session_open");
        let row = rig.storage.all_sessions().into_iter().find(|row| row.key == child.session).unwrap();
        assert_eq!(row.parent.as_ref(), Some(&parent), "{exit}");
        rig.quiet().await;
        let told: Vec<_> = items(&rig.transcript(&parent)).iter().map(brief).collect();
        assert_eq!(told, ["ok:model is done"], "{exit}");
        rig.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_handed_over_goes_on_below_the_grandparent_which_gets_its_result() {
    for end in [End::Stop, End::Delete] {
        for doing in ALL {
            let rig = setup_for(doing).start(script).await;
            let (parent, child) = family(&rig, "hand-over", doing).await;
            end.of(&rig, &parent.session).await;
            handed_over(rig, child, doing).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_continues_goes_on_alone_and_nobody_takes_its_result() {
    for end in [End::Stop, End::Delete] {
        for doing in ALL {
            let rig = setup_for(doing).start(script).await;
            let (parent, child) = family(&rig, "continue", doing).await;
            end.of(&rig, &parent.session).await;
            alone(rig, &parent.session, child, doing).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_grandparent_a_child_that_is_handed_over_goes_on_alone() {
    for doing in [Doing::ModelCall, Doing::Yielded] {
        let rig = setup_for(doing).start(script).await;
        let child = rig.spawn(&format!("session,exit=hand-over|{}", doing.task())).await;
        rig.until("it works", |rig| rig.log.in_flight() == 1).await;
        soon("a stop", rig.handle.stop(main_key(), Origin::Operator)).await.unwrap();
        alone(rig, &main_key(), child, doing).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_of_the_default_policy_is_stopped_with_its_parent() {
    for doing in ALL {
        let rig = setup_for(doing).start(script).await;
        let (parent, child) = family(&rig, "stop", doing).await;
        soon("a stop", rig.handle.stop(parent.session, Origin::Operator)).await.unwrap();
        let wanted = if doing == Doing::Asleep { Terminal::Ok } else { Terminal::Cancelled };
        assert_eq!(rig.outcome(child.run).await.state, wanted, "{doing:?}");
        rig.sleep(5_000).await;
        rig.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_subtree_that_goes_away_hands_over_to_the_nearest_one_that_stays() {
    let rig = setup().start(script).await;
    let top = rig.spawn("session|settle").await;
    rig.outcome(top.run).await;
    let parent = rig.spawn_in(top.session.clone(), "session|settle").await;
    rig.outcome(parent.run).await;
    let child = rig.spawn_in(parent.session.clone(), "session,exit=hand-over|model").await;
    let below = rig.spawn_in(child.session.clone(), "model").await;
    rig.until("they work", |rig| rig.log.in_flight() == 2).await;
    soon("a stop", rig.handle.stop(top.session, Origin::Operator)).await.unwrap();
    assert_eq!(rig.log.in_flight(), 2, "neither it nor what hangs below it is interrupted");
    rig.quiet().await;
    assert_eq!(rig.outcome(below.run).await.state, Terminal::Ok);
    assert_eq!(rig.log.steps(child.run), [1], "no model call is made again");
    handed_over(rig, child, Doing::ModelCall).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_stops_what_it_spawned_but_for_those_that_outlive_it() {
    let rig = setup()
        .start(|call_: Call| async move {
            let task = call_.task();
            match (&*task, call_.request.step) {
                ("cancelled", 1) => Ok(Answer::tools(vec![
                    call("1", "spawn", "model"),
                    call("2", "spawn", "exit=continue|model"),
                    call("3", "spawn", "exit=hand-over|model"),
                    call("y", "yield", ""),
                ])),
                _ => script(call_).await,
            }
        })
        .await;
    let run = rig.say("cancelled").await;
    rig.until("they work", |rig| rig.log.in_flight() == 3).await;
    let stopped = soon("a cancel", rig.handle.cancel(run, Origin::Operator)).await.unwrap();
    assert_eq!(stopped.ended.len(), 2, "the run and one child");
    assert_eq!(rig.log.in_flight(), 2);
    rig.quiet().await;
    let mut told: Vec<_> = items(&rig.transcript(&main_key())).iter().map(brief).collect();
    told.sort();
    // Their parent stays, so that it gets the results.
    assert_eq!(told, ["cancelled:", "ok:model is done", "ok:model is done"]);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_waits_for_a_grandchild_that_it_got_wakes_once_when_that_is_done() {
    let rig = setup()
        .start(|call_: Call| async move {
            let task = call_.task();
            match (&*task, call_.request.step) {
                ("parent", 1) => Ok(Answer::tools(vec![
                    call("s", "spawn", "exit=hand-over|model"),
                    call("y", "yield", ""),
                ])),
                _ => script(call_).await,
            }
        })
        .await;
    let run = rig.say("go").await;
    rig.until("all wait", |rig| rig.log.in_flight() == 1 && rig.storage.all_runs().len() == 3).await;
    let parent = rig.storage.all_runs()[1].session.clone();
    soon("a stop", rig.handle.stop(parent, Origin::Operator)).await.unwrap();
    let outcome = rig.outcome(run).await;
    assert_eq!(outcome.text.as_deref(), Some("go cancelled:,ok:model is done"));
    assert_eq!(rig.log.steps(run), [1, 2], "it wakes once");
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_move_is_committed_and_told_before_the_parent_has_ended() {
    let rig = setup().start(script).await;
    let (parent, child) = family(&rig, "hand-over", Doing::ModelCall).await;
    soon("a stop", rig.handle.stop(parent.session.clone(), Origin::Operator)).await.unwrap();
    let moved = |event: &Event| {
        matches!(event, Event::Moved { session, to: Some(to), .. }
        if *session == child.session && *to == main_key())
    };
    assert_eq!(rig.events.count(moved), 1);
    assert_eq!(rig.storage.audit().iter().filter(|line| line.event == "session.moved").count(), 1);
    rig.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_at_any_commit_of_a_hand_over_neither_loses_nor_doubles_the_result() {
    for exit in ["hand-over", "continue"] {
        for doing in [Doing::ModelCall, Doing::Tool, Doing::Yielded] {
            let recorded = Arc::new(MemoryStorage::recording());
            let daemon = |storage: &Arc<MemoryStorage>, seed| {
                Setup { host: Host::Daemon, ..setup_for(doing) }.on(storage, seed)
            };
            let rig = daemon(&recorded, 1).start(script).await;
            let (parent, child) = family(&rig, exit, doing).await;
            let before = recorded.commits();
            soon("a stop", rig.handle.stop(parent.session.clone(), Origin::Operator)).await.unwrap();
            rig.outcome(child.run).await;
            rig.quiet().await;
            rig.stop().await;
            for commit in before..=recorded.commits() {
                let storage = Arc::new(recorded.at_commit(commit).unwrap());
                let rig = daemon(&storage, 1_000 + commit).start(script).await;
                assert_eq!(rig.outcome(child.run).await.state, Terminal::Ok, "{exit} {doing:?} {commit}");
                rig.quiet().await;
                let row = storage.all_sessions().into_iter().find(|row| row.key == child.session).unwrap();
                let told = |key: &SessionKey| {
                    items(&rig.transcript(key)).iter().filter(|item| item.run == child.run).count()
                };
                let outbox = storage.outbox();
                let abandoned = outbox.iter().filter(|row| row.delivery == Delivery::Abandoned).count();
                let found = (told(&main_key()), told(&parent.session), abandoned);
                let wanted = match (&row.parent, exit) {
                    (Some(key), _) if *key == main_key() => (1, 0, 0),
                    // The stop was not carried out: its parent stays.
                    (Some(_), _) => (0, 1, 0),
                    (None, _) => (0, 0, 1),
                };
                assert_eq!(found, wanted, "{exit} {doing:?} after commit {commit}");
                rig.finish().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_ends_before_it_hears_of_its_new_parent_tells_that_one() {
    for exit in ["hand-over", "continue"] {
        let (setup, faulty) = setup_for(Doing::ModelCall).faulty();
        let rig = setup.start(script).await;
        let (parent, child) = family(&rig, exit, Doing::ModelCall).await;
        faulty.spoil(|asked| match asked {
            Asked::Submit(transaction)
                if transaction.iter().any(|op| matches!(op, Op::MoveSession { .. })) =>
            {
                Answered::ToldLate(Duration::from_secs(60))
            }
            _ => Answered::Well,
        });
        soon("a stop", rig.handle.stop(parent.session.clone(), Origin::Operator)).await.unwrap();
        assert!(!rig.row(child.run).state.is_open(), "it ended meanwhile");
        rig.quiet().await;
        let told = |key: &SessionKey| {
            items(&rig.transcript(key)).iter().filter(|item| item.run == child.run).count()
        };
        let outbox = rig.storage.outbox();
        let abandoned = outbox.iter().filter(|row| row.delivery == Delivery::Abandoned).count();
        let wanted = if exit == "hand-over" { (1, 0, 0) } else { (0, 0, 1) };
        assert_eq!((told(&main_key()), told(&parent.session), abandoned), wanted, "{exit}");
        rig.finish().await;
    }
}

#[cfg(feature = "faults")]
mod faults {
    use std::sync::Mutex;

    use offshoot_actors::kit::{Bug, Faults};

    use super::*;

    /// Makes the sessions that are told to panic do so.
    #[derive(Debug, Default)]
    struct Panics(Mutex<u32>);

    impl Faults for Panics {
        fn panics(&self, kind: &'static str, message: &'static str) -> bool {
            if (kind, message) != ("session", "steer") {
                return false;
            }
            let mut left = self.0.lock().unwrap();
            *left = left.saturating_sub(1);
            *left > 0
        }

        fn has(&self, _: Bug) -> bool {
            false
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_that_fails_for_good_hands_over_too() {
        for exit in ["hand-over", "continue"] {
            for doing in ALL {
                let panics = Arc::new(Panics(Mutex::new(100)));
                let setup = Setup { faults: Some(Arc::clone(&panics) as _), ..setup_for(doing) };
                let rig = setup.start(script).await;
                let (parent, child) = family(&rig, exit, doing).await;
                for _ in 0..7 {
                    let steer = rig.handle.steer(parent.session.clone(), "x".into(), Origin::Operator);
                    drop(soon("a steer", steer).await);
                }
                *panics.0.lock().unwrap() = 0;
                rig.sleep(100).await;
                match exit {
                    "continue" => alone(rig, &parent.session, child, doing).await,
                    _ => handed_over(rig, child, doing).await,
                }
            }
        }
    }
}
