//! Runs, their steps and their tool calls.

use std::sync::Arc;
use std::time::Duration;

use super::View;
use super::fixtures::*;
use crate::ports::{Host, Op, Refused, RunRow, RunState, RunTrace, Storage, ToolMark};
use crate::types::{Outcome, RecoveryMode, RunId, Terminal, Timestamp, ToolStatus, Usage};

async fn state_of(store: &dyn Storage, number: u64) -> RunState {
    store.run(run_id(number)).await.unwrap().unwrap().state
}

/// A run has one row, a session, and no past; every column comes back.
pub async fn a_run_is_inserted_once_and_new(store: &dyn Storage) {
    let main = session("main");
    let row = child_run(1, &main.key, &key("elsewhere"), Some(run_id(9)));
    assert_eq!(store.run(row.id).await.unwrap(), None);
    conflict(store, vec![insert(&row)]).await;
    apply(store, vec![create(&main), insert(&row)]).await;
    conflict(store, vec![insert(&row)]).await;
    assert_eq!(store.run(row.id).await.unwrap(), Some(row));
    apply(store, vec![insert(&run(2, &main.key))]).await;
    assert_eq!(store.run(run_id(2)).await.unwrap(), Some(run(2, &main.key)));
    let fresh = run(3, &main.key);
    conflict(store, vec![insert(&RunRow { state: RunState::Running, ..fresh.clone() })]).await;
    conflict(store, vec![insert(&RunRow { state: RunState::Ended(Terminal::Ok), ..fresh.clone() })]).await;
    conflict(store, vec![insert(&RunRow { outcome: Some(Outcome::ok("text")), ..fresh.clone() })]).await;
    conflict(store, vec![insert(&RunRow { ended_at: Some(Timestamp(1)), ..fresh })]).await;
}

/// The first start is remembered; a start clears the input and the session's wait for this run only.
pub async fn a_run_starts_goes_on_and_yields(store: &dyn Storage) {
    let main = session("main");
    let yielded = async || store.session(main.key.clone()).await.unwrap().unwrap().yielded;
    apply(store, vec![create(&main), insert(&run(1, &main.key)), insert(&run(2, &main.key))]).await;
    assert!(store.run(run_id(1)).await.unwrap().unwrap().input.is_some());
    apply(store, vec![start(1, 2_000)]).await;
    let row = store.run(run_id(1)).await.unwrap().unwrap();
    assert_eq!((row.state, row.input, row.started_at), (RunState::Running, None, Some(Timestamp(2_000))));

    apply(store, vec![Op::YieldRun { run: run_id(1) }]).await;
    assert_eq!((state_of(store, 1).await, yielded().await), (RunState::Yielded, Some(run_id(1))));
    apply(store, vec![start(2, 2_500)]).await;
    assert_eq!(yielded().await, Some(run_id(1)));
    apply(store, vec![start(1, 3_000)]).await;
    assert_eq!((state_of(store, 1).await, yielded().await), (RunState::Running, None));
    assert_eq!(store.run(run_id(1)).await.unwrap().unwrap().started_at, Some(Timestamp(2_000)));

    apply(store, vec![Op::YieldRun { run: run_id(2) }, end(1, Terminal::Ok)]).await;
    assert_eq!(yielded().await, Some(run_id(2)));
    apply(store, vec![end(2, Terminal::Ok)]).await;
    assert_eq!(yielded().await, None);
}

/// Steps, usage and model are what the latest record says.
pub async fn a_step_is_recorded(store: &dyn Storage) {
    let main = session("main");
    apply(store, vec![create(&main), insert(&run(1, &main.key))]).await;
    for steps in 1..4 {
        let usage = Usage { input: u64::from(steps) * 10, output: 5, cached: 2 };
        let op = Op::RecordStep { run: run_id(1), steps, usage, model: model("second") };
        apply(store, vec![op]).await;
        let row = store.run(run_id(1)).await.unwrap().unwrap();
        assert_eq!((row.steps, row.usage, row.model_used), (steps, usage, Some(model("second"))));
        assert_eq!(
            row.state,
            RunState::Running,
            "one that makes steps runs, whether its start was taken or not"
        );
    }
}

/// The first start of a run that begins counts, and then what it says itself, until that is forgotten.
pub async fn attempts_are_counted_of_runs_at_work(store: &dyn Storage) {
    let main = session("main");
    let daemons = |number| RunRow { host: Host::Daemon, ..run(number, &main.key) };
    apply(store, vec![create(&main), insert(&daemons(1)), insert(&daemons(2)), insert(&run(3, &main.key))])
        .await;
    apply(store, vec![start(1, 2_000), start(3, 2_000)]).await;
    let counts = |number, attempts| Op::CountAttempts { run: run_id(number), attempts };
    let counted = async || {
        let left = store.left_runs().await.unwrap();
        left.iter().map(|left| (left.open.run, left.attempts)).collect::<Vec<_>>()
    };
    assert_eq!(counted().await, [(run_id(1), 1), (run_id(2), 0), (run_id(3), 1)]);
    let all = || Op::ResumeRuns { runs: vec![run_id(1), run_id(2), run_id(3)] };
    apply(store, vec![all(), counts(1, 2), start(1, 2_100), counts(3, 7)]).await;
    assert_eq!(counted().await, [(run_id(1), 2), (run_id(2), 0), (run_id(3), 7)]);
    // One that waited for its children has yet to get its place.
    apply(store, vec![Op::YieldRun { run: run_id(1) }, counts(1, 0), start(1, 2_200)]).await;
    assert_eq!(counted().await[0], (run_id(1), 0));
    apply(store, vec![counts(1, 3), Op::ForgetAttempts { host: Host::Daemon }]).await;
    assert_eq!(counted().await, [(run_id(1), 0), (run_id(2), 0), (run_id(3), 7)]);
    apply(store, vec![end(2, Terminal::Ok)]).await;
    let refused = Err(Refused::Ended { run: run_id(2), state: Terminal::Ok });
    assert_eq!(submit(store, vec![all()]).await, refused);
}

/// A start that goes on with runs counts until one of a daemon is at work, or that is forgotten.
pub async fn starts_that_die_early_are_counted(store: &dyn Storage) {
    let main = session("main");
    let daemons = |number| RunRow { host: Host::Daemon, ..run(number, &main.key) };
    apply(store, vec![create(&main), insert(&daemons(1)), insert(&daemons(2)), insert(&run(3, &main.key))])
        .await;
    let resume = || Op::ResumeRuns { runs: vec![run_id(1), run_id(2)] };
    let counts = |number| Op::CountAttempts { run: run_id(number), attempts: 1 };
    let died = async || {
        let left = store.left_runs().await.unwrap();
        left.iter().map(|left| left.died).collect::<Vec<_>>()
    };
    assert_eq!(died().await, [0; 3]);
    apply(store, vec![resume()]).await;
    apply(store, vec![resume(), Op::ForgetAttempts { host: Host::OneShot }, start(3, 2_000), counts(3)])
        .await;
    assert_eq!(died().await, [2; 3]);
    for ends in [start(1, 2_000), counts(2), Op::ForgetAttempts { host: Host::Daemon }] {
        apply(store, vec![resume()]).await;
        assert!(died().await[0] > 0);
        apply(store, vec![ends]).await;
        assert_eq!(died().await, [0; 3]);
    }
    apply(store, vec![end(2, Terminal::Ok)]).await;
    submit(store, vec![resume()]).await.unwrap_err();
    assert_eq!(died().await, [0; 2]);
}

/// What a start decides on, and what a run needs to go on, is found with it.
pub async fn a_run_leaves_its_traces(store: &dyn Storage) {
    let main = session("main");
    let (kept, other) = (child("kept", &main), child("other", &main));
    let row = RunRow { recovery: Some(RecoveryMode::Interrupt), ..run(1, &main.key) };
    apply(store, vec![create(&main), insert(&row)]).await;
    assert!(store.load_session(main.key.clone()).await.unwrap().unwrap().traces.is_empty());
    apply(store, vec![start(1, 2_000)]).await;
    for (number, row, spawner) in [(2, &kept, Some(run_id(1))), (3, &other, None)] {
        let spawned = child_run(number, &row.key, &main.key, spawner);
        apply(store, vec![create(row), insert(&spawned)]).await;
    }
    let calls = vec![mark("open"), mark("done")];
    let at = Timestamp(2_500);
    let done = Op::FinishTool { run: run_id(1), step: 1, call: "done".into(), status: ToolStatus::Ok, at };
    apply(store, vec![Op::StartTools { run: run_id(1), step: 1, calls, at }, done]).await;
    apply(store, vec![Op::RecordTime { run: run_id(1), used: Duration::from_millis(750) }]).await;
    let stored = store.load_session(main.key.clone()).await.unwrap().unwrap();
    let trace = RunTrace { run: run_id(1), started: vec!["open".into()], spawned: vec![kept.key.clone()] };
    assert_eq!(stored.traces, [trace]);
    assert_eq!(stored.runs[0].used, Duration::from_millis(750));
    let left = store.left_runs().await.unwrap();
    let first = &left[0];
    assert_eq!((first.state, first.recovery), (RunState::Running, Some(RecoveryMode::Interrupt)));
    assert_eq!(
        (first.open.clone(), first.written_at),
        (row.open(&main.key, 0, main.on_parent_exit), Timestamp(1_000))
    );
    assert_eq!(left[1].spawner_ended, None);
    apply(store, vec![end(1, Terminal::Cancelled)]).await;
    assert_eq!(store.left_runs().await.unwrap()[0].spawner_ended, Some(Terminal::Cancelled));
}

/// The second end is refused with the first one's state and changes nothing.
pub async fn the_first_end_of_a_run_wins(store: &dyn Storage) {
    let main = session("main");
    apply(store, vec![create(&main)]).await;
    for (first, number) in Terminal::ALL.into_iter().zip(1..) {
        apply(store, vec![insert(&run(number, &main.key)), end(number, first)]).await;
        let ended = store.run(run_id(number)).await.unwrap().unwrap();
        assert_eq!(ended.state, RunState::Ended(first));
        assert_eq!(ended.outcome.as_ref().map(|outcome| outcome.state), Some(first));
        assert_eq!(ended.outcome.as_ref().and_then(|outcome| outcome.text.as_deref()), Some("text"));
        assert_eq!((ended.steps, ended.usage.input, ended.ended_at), (3, 100, Some(Timestamp(5_000))));
        for second in Terminal::ALL {
            let refused = Err(Refused::Ended { run: run_id(number), state: first });
            assert_eq!(submit(store, vec![end(number, second)]).await, refused);
        }
        assert_eq!(store.run(run_id(number)).await.unwrap(), Some(ended));
    }
}

fn changes(run: RunId) -> Vec<Op> {
    let at = Timestamp(6_000);
    vec![
        Op::StartRun { run, at },
        Op::RecordStep { run, steps: 9, usage: Usage::default(), model: model("late") },
        Op::RecordTime { run, used: Duration::from_secs(1) },
        Op::ResumeRuns { runs: vec![run] },
        Op::CountAttempts { run, attempts: 9 },
        Op::StartTools { run, step: 9, calls: vec![mark("late")], at },
        Op::StartTools { run, step: 9, calls: Vec::new(), at },
        Op::FinishTool { run, step: 1, call: "open".into(), status: ToolStatus::Ok, at },
        Op::YieldRun { run },
    ]
}

fn mark(call: &str) -> ToolMark {
    ToolMark { call: call.into(), name: "sessions_list".into() }
}

/// After its end a run stays as it is.
pub async fn an_ended_run_takes_no_change(store: &dyn Storage) {
    let main = session("main");
    let calls = vec![mark("open")];
    apply(store, vec![create(&main), insert(&run(1, &main.key))]).await;
    apply(store, vec![Op::StartTools { run: run_id(1), step: 1, calls, at: Timestamp(1_500) }]).await;
    apply(store, vec![end(1, Terminal::Timeout)]).await;
    let before = View::of(store).await;
    for op in changes(run_id(1)) {
        let refused = Err(Refused::Ended { run: run_id(1), state: Terminal::Timeout });
        assert_eq!(submit(store, vec![op]).await, refused);
    }
    assert_eq!(View::of(store).await, before);
}

/// Nothing can be done to a run that does not exist.
pub async fn an_unknown_run_takes_no_change(store: &dyn Storage) {
    let main = session("main");
    apply(store, vec![create(&main)]).await;
    for op in changes(run_id(1)) {
        conflict(store, vec![op]).await;
    }
    conflict(store, vec![end(1, Terminal::Ok)]).await;
    conflict(store, vec![queue(&announce(1, &main.key, &main.key))]).await;
    conflict(store, vec![Op::NameRequest { key: request("a"), digest: [0; 32], run: run_id(1) }]).await;
}

/// A call of a step starts once and is over once, whatever became of it.
pub async fn a_tool_call_starts_and_finishes_once(store: &dyn Storage) {
    let main = session("main");
    let start = |step, calls: &[&str]| {
        let calls = calls.iter().map(|call| mark(call)).collect();
        Op::StartTools { run: run_id(1), step, calls, at: Timestamp(2_000) }
    };
    let finish = |step, call: &str| {
        let (call, at) = (Arc::from(call), Timestamp(3_000));
        Op::FinishTool { run: run_id(1), step, call, status: ToolStatus::Unknown, at }
    };
    apply(store, vec![create(&main), insert(&run(1, &main.key))]).await;
    conflict(store, vec![finish(1, "a")]).await;
    apply(store, vec![start(1, &["a", "b"])]).await;
    conflict(store, vec![start(1, &["b"])]).await;
    conflict(store, vec![start(1, &["c", "a"])]).await;
    conflict(store, vec![start(2, &["d", "d"])]).await;
    conflict(store, vec![finish(1, "c")]).await;
    conflict(store, vec![finish(2, "a")]).await;
    apply(store, vec![finish(1, "a")]).await;
    conflict(store, vec![finish(1, "a")]).await;
    conflict(store, vec![start(1, &["a"])]).await;
    apply(store, vec![start(2, &["a"]), finish(2, "a"), finish(1, "b")]).await;
}
