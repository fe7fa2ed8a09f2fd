//! What becomes of the runs that an earlier process left open: decided and committed before anybody is awake.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::settle::{DETACHED, Verdict, WAITED_FOR, settle_each};
use super::{Sessions, SessionsMsg};
use crate::kit::Ctx;
use crate::policy::recovery::{Decision, decide};
use crate::ports::{
    AuditRecord, Cause, Host, LeftRun, Op, OpenRun, Refused, RunRow, RunState, StoreError, SubtreeRun,
};
use crate::shared::Shared;
use crate::store::pause;
use crate::types::{Origin, RunId, SessionKey};

/// A run that is to be ended, and why.
pub(super) type Ended = (SubtreeRun, Decision);

/// What an earlier process left open, decided.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// Runs that stay open: resumed ones, and those of another kind of process.
    pub(super) open: Vec<OpenRun>,
    /// Sessions that are to be woken because a run of theirs is resumed, parents first.
    pub(super) resumed: Vec<SessionKey>,
    /// Ends that the store does not take yet.
    pub(super) late: Vec<Ended>,
    /// Resumed runs whose decision the store does not take yet, and how many were to end at the same time.
    pub(super) undecided: (Vec<OpenRun>, usize),
}

/// Decides on every run that an earlier process of this kind, or a single command, left open.
///
/// # Errors
/// The store cannot be read.
pub(super) async fn recover(shared: &Arc<Shared>) -> Result<Recovered, StoreError> {
    let left = shared.storage.left_runs().await?;
    let waited_for: BTreeSet<SessionKey> =
        left.iter().filter_map(|run| run.open.announce_to.clone()).collect();
    let (mut recovered, mut resume, mut end) = (Recovered::default(), Vec::new(), Vec::new());
    for run in left {
        let waits = run.state == RunState::Yielded && waited_for.contains(&run.open.session);
        match verdict(shared, &run, waits) {
            None => recovered.open.push(run.open),
            Some(Decision::Resume) => resume.push(run.open),
            Some(why) => end.push((run.open, why)),
        }
    }
    record(shared, &resume, end.len());
    match commit_resumed(shared, &resume, end.len(), WAITED_FOR).await {
        Ok(()) => {
            resume.sort_by_key(|run| run.depth);
            recovered.resumed = resume.iter().map(|run| run.session.clone()).collect();
            recovered.open.append(&mut resume);
        }
        Err(refused) => {
            tracing::error!(runs = resume.len(), %refused, "runs cannot be resumed before the store takes changes");
            recovered.undecided = (resume, end.len());
        }
    }
    recovered.late = with_rows(shared, end).await?;
    let ended = self::end(shared, &recovered.late).await;
    // Those of other roots are left to the next process that starts.
    recovered.late.retain(|(run, _)| !ended.contains(&run.row.id) && shared.is_ours(&run.session.root));
    Ok(recovered)
}

/// Ends runs before anybody is awake who would have to be told. Returns those that it ended.
pub(super) async fn end(shared: &Arc<Shared>, runs: &[Ended]) -> BTreeSet<RunId> {
    settle_each(shared, judged(runs, true), WAITED_FOR).await.into_iter().collect()
}

/// What is decided on a run; nothing where it is another process's to decide.
fn verdict(shared: &Shared, run: &LeftRun, waits: bool) -> Option<Decision> {
    match (run.open.host, shared.host) {
        (Host::Daemon, Host::OneShot) => None,
        // One command ends with its work, and nobody waits for it any more.
        (Host::OneShot, _) => Some(Decision::Interrupt("the process that ran it went away".to_owned())),
        (Host::Daemon, Host::Daemon) => {
            Some(decide(run, waits, &shared.settings(), shared.system.clock.now()))
        }
    }
}

fn judged(runs: &[Ended], asleep: bool) -> Vec<(SubtreeRun, Verdict<'_>)> {
    runs.iter().map(|(run, why)| (run.clone(), judge(why, asleep))).collect()
}

fn judge(why: &Decision, asleep: bool) -> Verdict<'_> {
    match why {
        Decision::Interrupt(reason) if asleep => Verdict::left_behind(reason),
        Decision::Interrupt(reason) => Verdict::found_late(reason),
        Decision::Stop | Decision::Resume => Verdict::parent_stopped(),
    }
}

/// A start that went on with runs of an earlier one is on record, once for all of them.
fn record(shared: &Arc<Shared>, resumed: &[OpenRun], interrupted: usize) {
    if shared.host != Host::Daemon || (resumed.is_empty() && interrupted == 0) {
        return;
    }
    let spawned = resumed.iter().filter(|run| run.cause == Cause::Spawn).count();
    tracing::info!(
        resumed = resumed.len(),
        spawned,
        interrupted,
        "goes on with what an earlier process left open"
    );
    if resumed.is_empty() {
        // It is not worth a start that fails.
        shared.commit(vec![audit(shared, 0, interrupted)], |_| {});
    }
}

fn audit(shared: &Shared, resumed: usize, interrupted: usize) -> Op {
    Op::Audit(Box::new(AuditRecord {
        at: shared.system.clock.now(),
        event: "daemon.recovered",
        origin: Origin::Timer,
        session: None,
        run: None,
        facts: vec![("resumed", resumed.to_string()), ("interrupted", interrupted.to_string())],
    }))
}

/// Commits the decision to resume these runs, with its line on record; a store that refuses is asked `tries` times.
async fn commit_resumed(
    shared: &Arc<Shared>,
    runs: &[OpenRun],
    interrupted: usize,
    tries: u32,
) -> Result<(), Refused> {
    let mut runs: Vec<RunId> = runs.iter().map(|run| run.run).collect();
    let mut tried = 1;
    while !runs.is_empty() {
        let decided = vec![Op::ResumeRuns { runs: runs.clone() }, audit(shared, runs.len(), interrupted)];
        match shared.committed(decided).await {
            // Somebody was first, and told whoever had to know.
            Err(Refused::Ended { run, .. }) => runs.retain(|other| *other != run),
            Err(refused) if tried < tries => {
                tracing::warn!(%refused, "runs cannot be resumed yet, will try again");
                let pause = pause(tried, &shared.system);
                shared.system.clock.sleep(pause).await;
                tried += 1;
            }
            answer => return answer,
        }
    }
    Ok(())
}

/// Leaves first, so that a parent is told of its children before it is settled itself.
pub(super) async fn with_rows(
    shared: &Shared,
    open: Vec<(OpenRun, Decision)>,
) -> Result<Vec<Ended>, StoreError> {
    let mut runs: Vec<Ended> = Vec::with_capacity(open.len());
    for (run, why) in open {
        let row: Option<RunRow> = shared.storage.run(run.run).await?;
        let session = shared.storage.session(run.session).await?;
        runs.extend(row.zip(session).map(|(row, session)| (SubtreeRun { row, session }, why)));
    }
    runs.sort_by_key(|(run, _)| std::cmp::Reverse(run.session.depth));
    Ok(runs)
}

impl Sessions {
    /// Ends runs that were found open as soon as the store takes that. Until then nothing wakes their sessions: they would
    /// execute what is about to be ended.
    pub(super) fn settle_late(&mut self, late: Vec<Ended>, ctx: &Ctx<Self>) {
        let keys = late.iter().map(|(run, _)| run.session.key.clone()).collect();
        let Some(keys) = self.hold_back(keys) else { return };
        let (shared, myself) = (Arc::clone(&self.shared), ctx.myself().clone());
        let unsettled = Arc::clone(&self.unsettled);
        // Detached: nobody waits for runs that a store which is full now takes later.
        tokio::spawn(async move {
            settle_each(&shared, judged(&late, false), DETACHED).await;
            unsettled.remove(&keys);
            // What waited for them before was noted at the start.
            drop(myself.send(SessionsMsg::Settled { keys, waiting: Vec::new() }));
        });
    }

    /// Resumes runs as soon as the store takes the decision. Until then nothing wakes their sessions.
    pub(super) fn resume_late(&mut self, (undecided, interrupted): (Vec<OpenRun>, usize), ctx: &Ctx<Self>) {
        let keys = undecided.iter().map(|run| run.session.clone()).collect();
        let Some(keys) = self.hold_back(keys) else { return };
        let (shared, myself) = (Arc::clone(&self.shared), ctx.myself().clone());
        let unsettled = Arc::clone(&self.unsettled);
        // Detached: nobody waits for a store that is full now.
        tokio::spawn(async move {
            if let Err(refused) = commit_resumed(&shared, &undecided, interrupted, DETACHED).await {
                tracing::error!(%refused, "runs cannot be resumed");
            }
            unsettled.remove(&keys);
            drop(myself.send(SessionsMsg::Settled { waiting: keys.clone(), keys }));
        });
    }

    /// Lets nothing wake these sessions; none if there are none.
    fn hold_back(&mut self, keys: BTreeSet<SessionKey>) -> Option<Vec<SessionKey>> {
        if keys.is_empty() {
            return None;
        }
        let keys: Vec<SessionKey> = keys.into_iter().collect();
        for key in &keys {
            self.residents.insert(key.clone(), super::Resident::Settling { waiting: Vec::new() });
        }
        self.unsettled.add(&keys);
        Some(keys)
    }
}
