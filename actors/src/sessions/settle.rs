//! Ends runs whose actors are gone: of a process that died, or of a subtree whose session failed for good.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::ending::{Ending, Record};
use crate::ports::{BoxFuture, Refused, StoreError, SubtreeRun};
use crate::session::{notify_end, tell_end};
use crate::shared::Shared;
use crate::store::pause;
use crate::types::{Origin, Outcome, RunId, SessionKey, Terminal};

/// How often a store that refuses is asked where somebody waits, and where nobody does.
pub(crate) const WAITED_FOR: u32 = 4;
pub(crate) const DETACHED: u32 = u32::MAX;

/// The sessions whose open runs are being ended by a task that a panic of the manager does not end: a rebuilt manager
/// must not wake them either. The task takes them out before it tells the manager, which may lose that message: then it
/// finds in the store what waits for them. By how many tasks each of them is held: the last one lets it go.
#[derive(Debug, Default)]
pub(super) struct Unsettled(Mutex<BTreeMap<SessionKey, u32>>);

impl Unsettled {
    pub(super) fn add(&self, keys: &[SessionKey]) {
        let mut unsettled = self.lock();
        for key in keys {
            *unsettled.entry(key.clone()).or_default() += 1;
        }
    }

    pub(super) fn remove(&self, keys: &[SessionKey]) {
        let mut unsettled = self.lock();
        for key in keys {
            if let Some(holders) = unsettled.get_mut(key) {
                *holders -= 1;
                if *holders == 0 {
                    unsettled.remove(key);
                }
            }
        }
    }

    pub(super) fn holds(&self, key: &SessionKey) -> bool {
        self.lock().contains_key(key)
    }

    pub(super) fn keys(&self) -> BTreeSet<SessionKey> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionKey, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of runs whose actors are gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict<'a> {
    state: Terminal,
    reason: &'a str,
    /// Whether their parents were stopped too and take the results without a run.
    quiet: bool,
    /// Whether their parents are told at once; else they are woken for what waits, if at all.
    deliver: bool,
}

impl<'a> Verdict<'a> {
    const fn stopped(reason: &'a str) -> Self {
        Self { state: Terminal::Cancelled, reason, quiet: true, deliver: true }
    }

    /// Their parent was stopped, or the run that spawned them was cancelled.
    pub(crate) const fn parent_stopped() -> Self {
        Self::stopped("its parent was stopped")
    }

    /// Their session, or one above it, failed for good.
    pub(crate) const fn session_failed(reason: &'a str) -> Self {
        Self { state: Terminal::Crashed, reason, quiet: false, deliver: true }
    }

    /// An earlier process left them open. Nobody is awake when they are ended.
    pub(crate) const fn left_behind(reason: &'a str) -> Self {
        Self { state: Terminal::Interrupted, reason, quiet: false, deliver: false }
    }

    /// The same, for what could not be ended at the start: by now somebody may be awake.
    pub(crate) const fn found_late(reason: &'a str) -> Self {
        Self { deliver: true, ..Self::left_behind(reason) }
    }
}

/// Ends each of `runs` that has not ended, in this order, and tells whoever waits. Returns those it ended. A store
/// that refuses is asked `tries` times.
pub(crate) async fn settle(
    shared: &Arc<Shared>,
    runs: Vec<SubtreeRun>,
    verdict: Verdict<'_>,
    tries: u32,
) -> Vec<RunId> {
    settle_each(shared, runs.into_iter().map(|run| (run, verdict)).collect(), tries).await
}

/// The same with a verdict for each.
pub(super) async fn settle_each(
    shared: &Arc<Shared>,
    runs: Vec<(SubtreeRun, Verdict<'_>)>,
    tries: u32,
) -> Vec<RunId> {
    let mut left: Vec<(Ending, bool)> =
        runs.into_iter().map(|(run, verdict)| (decide(shared, run, verdict), verdict.deliver)).collect();
    count(shared, &mut left).await;
    let mut ended = Vec::new();
    for tried in 1.. {
        let (done, refused) = submit(shared, std::mem::take(&mut left)).await;
        ended.extend(done);
        let Some((_, first)) = refused.first() else { break };
        if tried >= tries {
            tracing::error!(runs = refused.len(), refused = %first, "runs whose actors are gone could not be ended");
            break;
        }
        left = refused.into_iter().map(|(run, _)| run).collect();
        let pause = pause(tried, &shared.system);
        shared.system.clock.sleep(pause).await;
    }
    ended
}

fn decide(shared: &Shared, run: SubtreeRun, verdict: Verdict<'_>) -> Ending {
    let Verdict { state, reason, quiet, .. } = verdict;
    let partial = shared.runs.remove(&run.row.id).and_then(|(_, cell)| {
        cell.cancelled.cancel();
        cell.close();
        cell.partial()
    });
    let record = Record {
        event: "run.settled",
        origin: Origin::Timer,
        facts: vec![("state", state.to_string()), ("reason", reason.to_owned())],
    };
    Ending::new(run, Outcome::ended(state, reason, partial), quiet, record, shared.system.clock.now())
        .keeping_session(shared.settings().retention.export_deleted)
}

/// Has each result say what the tree of its session has used. Where that cannot be read, also when it is asked for
/// again, the run itself counts: no end is held up for long.
async fn count(shared: &Arc<Shared>, runs: &mut [(Ending, bool)]) {
    if runs.is_empty() {
        return;
    }
    // The last step of a run may be on its way.
    let barrier = || -> BoxFuture<_> {
        let shared = Arc::clone(shared);
        Box::pin(async move { shared.barrier().await })
    };
    if let Err(error) = read(shared, WAITED_FOR, barrier).await {
        return tracing::warn!(%error, "the tokens of results cannot be read");
    }
    for announce in runs.iter_mut().filter_map(|(run, _)| run.announce.as_mut()) {
        let session = &announce.item.session;
        match read(shared, WAITED_FOR, || shared.storage.subtree_usage(session.clone())).await {
            Ok(used) => announce.item.usage = used,
            Err(error) => return tracing::warn!(%error, "the tokens of results cannot be read"),
        }
    }
}

/// Asks the store a question until it answers, at most `tries` times.
pub(super) async fn read<T>(
    shared: &Shared,
    tries: u32,
    question: impl Fn() -> BoxFuture<Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut tried = 1;
    loop {
        match question().await {
            Err(error) if tried < tries => {
                tracing::warn!(%error, "the store cannot be read, will try again");
                let pause = pause(tried, &shared.system);
                shared.system.clock.sleep(pause).await;
                tried += 1;
            }
            answer => return answer,
        }
    }
}

/// Commits ends, of which some are to be delivered; returns the runs that this ended, and those that the store did not
/// take.
async fn submit(
    shared: &Arc<Shared>,
    runs: Vec<(Ending, bool)>,
) -> (Vec<RunId>, Vec<((Ending, bool), Refused)>) {
    let mut submitted = Vec::with_capacity(runs.len());
    for (run, deliver) in runs {
        let (sender, receiver) = oneshot::channel();
        let telling = Arc::clone(shared);
        shared.commit(run.transaction(), move |result| {
            // Told by the commit itself: whoever finds the result in the store tells of it after this.
            if result.is_ok() {
                tell(&telling, &run, deliver);
            }
            // Nobody waits only where the tree is gone.
            let _ = sender.send((run, result));
        });
        submitted.push((receiver, deliver));
    }
    let (mut ended, mut refused) = (Vec::new(), Vec::new());
    for (receiver, deliver) in submitted {
        match receiver.await {
            Ok((run, Ok(()))) => ended.push(run.run()),
            // Whoever ended it before has told whoever waits.
            Ok((_, Err(Refused::Ended { .. }))) | Err(_) => {}
            Ok((mut run, Err(Refused::Moved { session, to }))) => {
                run.moved(to.clone());
                refused.push(((run, deliver), Refused::Moved { session, to }));
            }
            Ok((run, Err(error))) => refused.push(((run, deliver), error)),
        }
    }
    (ended, refused)
}

fn tell(shared: &Shared, run: &Ending, deliver: bool) {
    if deliver {
        notify_end(shared, &run.row, &run.end, run.announce.clone(), None);
    } else {
        tell_end(shared, &run.row, &run.end, None);
    }
}
