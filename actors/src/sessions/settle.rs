//! Ends runs whose actors are gone: of a process that died, or of a subtree whose session failed for good.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::kit::Backoff;
use crate::ports::{
    Announce, AuditRecord, BoxFuture, Op, Refused, RunEnd, RunRow, StoreError, SubtreeRun, Transaction,
};
use crate::session::{announce_of, notify_end, tell_end};
use crate::shared::Shared;
use crate::types::{Origin, Outcome, RunId, Terminal};

/// Pauses before a store that refused is asked again.
pub(super) const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(100), most: Duration::from_secs(5) };

/// How often a store that refuses is asked where somebody waits, and where nobody does.
pub(crate) const WAITED_FOR: u32 = 4;
pub(crate) const DETACHED: u32 = 200;

/// What becomes of runs whose actors are gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict<'a> {
    pub(crate) state: Terminal,
    pub(crate) reason: &'a str,
    /// Whether their parents were stopped too and take the results without a run.
    pub(crate) quiet: bool,
    /// Whether their parents are told at once; else they are woken for what waits, if at all.
    pub(crate) deliver: bool,
}

/// One run that is to be ended.
struct Decided {
    row: RunRow,
    end: RunEnd,
    announce: Option<Announce>,
    audit: AuditRecord,
}

/// Ends each of `runs` that has not ended, in this order, and tells whoever waits. Returns those it ended. A store
/// that refuses is asked `tries` times.
pub(crate) async fn settle(
    shared: &Shared,
    runs: Vec<SubtreeRun>,
    verdict: Verdict<'_>,
    tries: u32,
) -> Vec<RunId> {
    let mut left: Vec<Decided> = runs.into_iter().map(|run| decide(shared, run, verdict)).collect();
    count(shared, &mut left).await;
    let mut ended = Vec::new();
    for tried in 1.. {
        let (done, refused) = submit(shared, std::mem::take(&mut left), verdict.deliver).await;
        ended.extend(done);
        let Some((_, first)) = refused.first() else { break };
        if tried >= tries {
            tracing::error!(runs = refused.len(), refused = %first, "runs whose actors are gone could not be ended");
            break;
        }
        left = refused.into_iter().map(|(run, _)| run).collect();
        let pause = BACKOFF.delay(tried.min(16), shared.system.ids.below(u64::MAX));
        shared.system.clock.sleep(pause).await;
    }
    ended
}

fn decide(shared: &Shared, run: SubtreeRun, verdict: Verdict<'_>) -> Decided {
    let SubtreeRun { row, session } = run;
    let Verdict { state, reason, quiet, .. } = verdict;
    let partial = shared.runs.remove(&row.id).and_then(|(_, cell)| {
        cell.cancelled.cancel();
        cell.partial()
    });
    let at = shared.system.clock.now();
    let outcome = Outcome::ended(state, reason, partial);
    let end = RunEnd { run: row.id, outcome, usage: row.usage, steps: row.steps, at };
    let (label, cleanup) = (session.label.as_ref(), session.cleanup);
    let announce = announce_of(&row, &end, row.started_at, quiet, row.usage, label, cleanup);
    let audit = AuditRecord {
        at,
        event: "run.settled",
        origin: Origin::Timer,
        session: Some(row.session.clone()),
        run: Some(row.id),
        facts: vec![("state", state.to_string()), ("reason", reason.to_owned())],
    };
    Decided { row, end, announce, audit }
}

/// Has each result say what the tree of its session has used. Where that cannot be read the run itself counts:
/// no end is held up for it.
async fn count(shared: &Shared, runs: &mut [Decided]) {
    for announce in runs.iter_mut().filter_map(|run| run.announce.as_mut()) {
        match shared.storage.subtree_usage(announce.item.session.clone()).await {
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
                let pause = BACKOFF.delay(tried.min(16), shared.system.ids.below(u64::MAX));
                shared.system.clock.sleep(pause).await;
                tried += 1;
            }
            answer => return answer,
        }
    }
}

/// Commits ends; returns the runs that this ended, and those that the store did not take.
async fn submit(shared: &Shared, runs: Vec<Decided>, deliver: bool) -> (Vec<RunId>, Vec<(Decided, Refused)>) {
    let mut submitted = Vec::with_capacity(runs.len());
    for run in runs {
        let mut transaction: Transaction = vec![Op::EndRun(Box::new(run.end.clone()))];
        transaction.extend(run.announce.clone().map(|announce| Op::QueueAnnounce(Box::new(announce))));
        transaction.push(Op::Audit(Box::new(run.audit.clone())));
        let (sender, receiver) = oneshot::channel();
        shared.commit(transaction, move |result| {
            // Nobody waits only where the tree is gone.
            let _ = sender.send(result);
        });
        submitted.push((run, receiver));
    }
    let (mut ended, mut refused) = (Vec::new(), Vec::new());
    for (run, receiver) in submitted {
        match receiver.await {
            Ok(Ok(())) => {
                ended.push(run.row.id);
                if deliver {
                    notify_end(shared, &run.row, &run.end, run.announce);
                } else {
                    tell_end(shared, &run.row, &run.end);
                }
            }
            // Whoever ended it before has told whoever waits.
            Ok(Err(Refused::Ended { .. })) | Err(_) => {}
            Ok(Err(error)) => refused.push((run, error)),
        }
    }
    (ended, refused)
}
