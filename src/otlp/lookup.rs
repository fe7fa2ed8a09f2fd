//! What the store says of a run that this process has not seen begin.

use std::collections::BTreeSet;
use std::sync::Arc;

use offshoot_actors::ports::{Cause, ListFilter, Page, RunRow, Storage, StoreError};
use offshoot_actors::types::{Entry, ModelRef, RunId, SessionKey, Timestamp};

use super::note::Nanos;

/// Most runs above one.
const MAX_DEPTH: usize = 64;
/// Entries of a transcript among which the results are that a run was started for.
const MAX_ENTRIES: u32 = 256;

/// What is above a run in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Above {
    /// The trace begins with it.
    Nothing,
    /// The run that spawned it, or the first one of its session.
    Run(RunId),
    /// The announce of this run, whose result it follows on.
    Announce(RunId),
}

/// A run with what is above it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(super) run: RunId,
    pub(super) above: Above,
    pub(super) spawner: Option<RunId>,
    pub(super) ended: Option<Nanos>,
}

/// A run as it is stored.
#[derive(Debug)]
pub(crate) struct Found {
    pub(super) run: RunId,
    pub(super) begun: Option<Nanos>,
    pub(super) model: Option<ModelRef>,
    pub(super) cause: Option<Cause>,
    /// The run itself, then those above it, as far as they are stored.
    pub(super) chain: Vec<Link>,
}

/// Looks runs up, one after the other.
pub(super) async fn look_up(storage: Arc<dyn Storage>, runs: Vec<RunId>) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::with_capacity(runs.len());
    for run in runs {
        found.push(one(storage.as_ref(), run).await?);
    }
    Ok(found)
}

async fn one(storage: &dyn Storage, run: RunId) -> Result<Found, StoreError> {
    let mut found = Found { run, begun: None, model: None, cause: None, chain: Vec::new() };
    let (mut next, mut seen) = (Some(run), BTreeSet::new());
    while let Some(run) = next.filter(|run| found.chain.len() < MAX_DEPTH && seen.insert(*run)) {
        let Some(row) = storage.run(run).await? else { break };
        if found.chain.is_empty() {
            found.begun = Some(nanos(row.accepted_at));
            found.model = Some(row.model_used.clone().unwrap_or_else(|| row.model.primary.clone()));
            found.cause = Some(row.cause);
        }
        let above = above(storage, &row).await?;
        let (spawner, ended) = (row.spawner, row.ended_at.map(nanos));
        found.chain.push(Link { run, above, spawner, ended });
        next = match above {
            Above::Nothing => None,
            Above::Run(upper) | Above::Announce(upper) => Some(upper),
        };
    }
    if found.chain.is_empty() {
        found.chain.push(Link { run, above: Above::Nothing, spawner: None, ended: None });
    }
    Ok(found)
}

async fn above(storage: &dyn Storage, row: &RunRow) -> Result<Above, StoreError> {
    if let Some(spawner) = row.spawner {
        return Ok(Above::Run(spawner));
    }
    if row.cause == Cause::Announce
        && let Some(child) = announced(storage, row).await?
    {
        return Ok(Above::Announce(child));
    }
    let first = first_run(storage, &row.session).await?;
    Ok(first.filter(|first| *first != row.id).map_or(Above::Nothing, Above::Run))
}

/// The first of the results that a run was started for.
async fn announced(storage: &dyn Storage, row: &RunRow) -> Result<Option<RunId>, StoreError> {
    let entries = storage.latest_entries(row.session.clone(), None, MAX_ENTRIES).await?;
    let of_run = entries.iter().filter(|stored| stored.run.is_none_or(|run| run == row.id));
    let items = of_run.filter(|stored| stored.at >= row.accepted_at).find_map(|stored| match &stored.entry {
        Entry::Announce { items } => items.first(),
        _ => None,
    });
    Ok(items.map(|item| item.run))
}

/// The run as which a session was spawned.
async fn first_run(storage: &dyn Storage, session: &SessionKey) -> Result<Option<RunId>, StoreError> {
    if !session.is_subagent() {
        return Ok(None);
    }
    let filter =
        ListFilter { session: Some(session.clone()), cause: Some(Cause::Spawn), ..ListFilter::default() };
    let rows = storage.list_runs(filter, Page { offset: 0, limit: 1 }).await?;
    Ok(rows.first().map(|row| row.id))
}

pub(super) fn nanos(at: Timestamp) -> Nanos {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000_000)
}
