//! Who waits for what is forgotten when it waits no more.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::ports::{FnModels, ModelRequest, SeededIds, TokioClock};
use crate::tree::TreeHandle;
use crate::types::{AgentId, ModelRef, Timestamp};

fn shared() -> Arc<Shared> {
    let models = FnModels::new(|_: ModelRequest, _| std::future::pending());
    let settings = Settings::with_model(AgentId::main(), ModelRef::rehearsal());
    let clock = TokioClock::starting_at(Timestamp(0));
    let options = TreeOptions::in_memory(clock, SeededIds::new(1), models, settings);
    let system = Arc::new(System::new(Arc::clone(&options.clock), Arc::clone(&options.ids)));
    Arc::new(Shared::new(system, options))
}

fn waiting(shared: &Shared) -> usize {
    shared.waiters.lock().unwrap().len()
}

#[tokio::test]
async fn who_asks_for_a_run_that_is_not_there_is_not_remembered() {
    let shared = shared();
    let unknown = TreeHandle::of(&shared).outcome(RunId(uuid::Uuid::nil())).await;
    assert_eq!(unknown.unwrap_err().code, "unknown_run");
    assert_eq!(waiting(&shared), 0);
}

#[test]
fn those_who_stop_watching_a_root_at_once_are_all_forgotten() {
    let shared = shared();
    let root: SessionKey = "agent:main:main".parse().unwrap();
    let (both, left) = (std::sync::Barrier::new(2), AtomicU32::new(0));
    let watch = || {
        for _ in 0..20_000 {
            let watch = shared.watch_root(&root);
            both.wait();
            drop(watch);
            both.wait();
            left.fetch_add(u32::from(!shared.watched().is_empty()), Ordering::Relaxed);
            both.wait();
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(watch);
        threads.spawn(watch);
    });
    assert_eq!(left.into_inner(), 0);
}

#[tokio::test]
async fn one_that_no_longer_waits_leaves_the_others_waiting() {
    let shared = shared();
    let run = RunId(uuid::Uuid::nil());
    let (mut stays, leaves) = (shared.watch_run(run), shared.watch_run(run));
    drop(leaves);
    assert_eq!(waiting(&shared), 1);
    shared.ended(run, &Outcome::ok("done".to_owned()));
    assert_eq!(stays.outcome().await, Some(Outcome::ok("done".to_owned())));
    assert_eq!(waiting(&shared), 0);
}
