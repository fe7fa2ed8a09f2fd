//! Changes to runs and sessions that nobody executes, in a store on which no tree runs.

mod delete;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tokio::sync::oneshot;

pub(crate) use self::delete::delete_stopped;
pub use self::delete::{deletable, delete_stored};
use crate::ending::{Ending, Record};
use crate::policy::exits::moves;
use crate::ports::{
    Cause, Clock, ListFilter, Page, Refused, RunRow, Storage, StoreError, SubtreeRun, Transaction,
};
use crate::tree::Stopped;
use crate::types::{Origin, Outcome, Refusal, RunId, SessionKey, Terminal};

/// Cancels a run that is open in a store on which no tree runs, with the sessions that it spawned and all that
/// is open below them. Their results wait in the store for whoever runs a tree on it next.
///
/// # Errors
/// The run does not exist, or the store cannot be read or written.
pub async fn cancel_stored(
    storage: &dyn Storage,
    clock: &dyn Clock,
    run: RunId,
    origin: Origin,
) -> Result<Stopped, Refusal> {
    let Some(row) = storage.run(run).await.map_err(failed)? else { return Err(Refusal::unknown_run(run)) };
    if !row.state.is_open() {
        return Ok(Stopped { ended: Vec::new(), already: row.outcome });
    }
    let cancel = Cancel { storage, clock, origin };
    cancel.bequeath(&row).await?;
    let (own, below) = cancel.subtree(row).await.map_err(failed)?;
    let mut ended = Vec::new();
    for descendant in below {
        ended.extend(cancel.end(descendant, "its parent was cancelled".to_owned(), true).await?);
    }
    if let Some(own) = own {
        let reason = format!("cancelled by {}", cancel.origin.in_words());
        ended.extend(cancel.end(own, reason, false).await?);
    }
    Ok(Stopped { ended, already: None })
}

fn failed(error: StoreError) -> Refusal {
    Refusal::error("store", error.to_string())
}

struct Cancel<'a> {
    storage: &'a dyn Storage,
    clock: &'a dyn Clock,
    origin: Origin,
}

impl Cancel<'_> {
    /// The run, and the open runs of the sessions that it spawned and below, deepest first. A session counts also
    /// where its own runs have ended.
    async fn subtree(&self, row: RunRow) -> Result<(Option<SubtreeRun>, Vec<SubtreeRun>), StoreError> {
        let mut own = None;
        let mut below = Vec::new();
        let mut spawned: BTreeMap<SessionKey, bool> = BTreeMap::new();
        for open in self.storage.open_in_subtree(row.session.clone()).await? {
            if open.row.id == row.id {
                own = Some(open);
                continue;
            }
            let Some(child) = self.child_above(&open, &row.session).await? else { continue };
            let is_spawned = match spawned.get(&child) {
                Some(known) => *known,
                None => self.is_spawned_by(&child, row.id).await?,
            };
            spawned.insert(child, is_spawned);
            if is_spawned {
                below.push(open);
            }
        }
        below.sort_by_key(|open| Reverse(open.session.depth));
        Ok((own, below))
    }

    /// Has those below the sessions that the run spawned find other places that are to outlive them.
    async fn bequeath(&self, row: &RunRow) -> Result<(), Refusal> {
        let session = self.storage.load_session(row.session.clone()).await.map_err(failed)?;
        let traces = session.into_iter().flat_map(|session| session.traces);
        for spawned in traces.filter(|trace| trace.run == row.id).flat_map(|trace| trace.spawned) {
            bequeath(self.storage, self.clock, &spawned).await?;
        }
        Ok(())
    }

    /// The child of `parent` in or below which a run is open; none if it is open in `parent` itself.
    async fn child_above(
        &self,
        open: &SubtreeRun,
        parent: &SessionKey,
    ) -> Result<Option<SessionKey>, StoreError> {
        let mut session = open.session.clone();
        while let Some(up) = session.parent.filter(|_| session.key != *parent) {
            if up == *parent {
                return Ok(Some(session.key));
            }
            let Some(row) = self.storage.session(up).await? else { break };
            session = row;
        }
        Ok(None)
    }

    /// Whether a tool call of this run spawned the session.
    async fn is_spawned_by(&self, session: &SessionKey, run: RunId) -> Result<bool, StoreError> {
        let filter = ListFilter { session: Some(session.clone()), ..ListFilter::default() };
        let mut page = Page { offset: 0, limit: 64 };
        loop {
            let runs = self.storage.list_runs(filter.clone(), page).await?;
            if let Some(spawn) = runs.iter().find(|row| row.cause == Cause::Spawn) {
                let row = self.storage.session(session.clone()).await?;
                let outlives = row.is_some_and(|row| row.on_parent_exit.outlives());
                return Ok(spawn.spawner == Some(run) && !outlives);
            }
            if runs.len() < page.limit as usize {
                return Ok(false);
            }
            page.offset = page.offset.saturating_add(page.limit);
        }
    }

    /// Ends one run and puts its result on its way. None if it had ended before.
    async fn end(&self, open: SubtreeRun, reason: String, quiet: bool) -> Result<Option<RunId>, Refusal> {
        let record = Record {
            event: "run.cancelled",
            origin: self.origin.clone(),
            facts: vec![("reason", reason.clone())],
        };
        let outcome = Outcome::ended(Terminal::Cancelled, reason, None);
        let used = self.storage.subtree_usage(open.row.session.clone()).await.map_err(failed)?;
        let ending = Ending::new(open, outcome, quiet, record, self.clock.now()).counting(used);
        match apply(self.storage, ending.transaction()).await {
            Ok(()) => Ok(Some(ending.run())),
            Err(Refused::Ended { .. }) => Ok(None),
            Err(refused) => Err(Refusal::error("store", refused.to_string())),
        }
    }
}

/// Gives those other places who outlive a session that goes away.
async fn bequeath(storage: &dyn Storage, clock: &dyn Clock, session: &SessionKey) -> Result<(), Refusal> {
    let survivors = storage.survivors(session.clone()).await.map_err(failed)?;
    let moves = moves(&survivors, |_| true);
    if moves.is_empty() {
        return Ok(());
    }
    let at = clock.now();
    let transaction = moves.into_iter().flat_map(|wanted| wanted.ops(at)).collect();
    apply(storage, transaction).await.map_err(|refused| Refusal::error("store", refused.to_string()))
}

async fn apply(storage: &dyn Storage, transaction: Transaction) -> Result<(), Refused> {
    let (sender, receiver) = oneshot::channel();
    // Without a receiver nobody is left to tell.
    storage.submit(transaction, Box::new(move |result| drop(sender.send(result))));
    let went_away = || StoreError::Unavailable("it went away before it answered".to_owned());
    receiver.await.unwrap_or_else(|_| Err(went_away().into()))
}
