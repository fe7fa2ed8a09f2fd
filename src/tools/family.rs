//! The sub-agents of a session, at any depth: what a session may list and control.

use std::collections::BTreeMap;
use std::sync::Arc;

use offshoot_actors::ports::{ListFilter, Page, RunRow, RunState, SessionRow, Storage, StoreError};
use offshoot_actors::types::{Mode, Refusal, RunId, SessionKey, Timestamp};

use super::lookup::latest_run;
use super::reply::clip;
use super::visibility::{Relation, Rows};

/// Ended runs that one look reads.
const MAX_RECENT: u32 = 200;
/// Shortest beginning of a run id that names it.
const MIN_PREFIX: usize = 4;

/// One run of a sub-agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) run: RunId,
    pub(super) session: SessionKey,
    pub(super) parent: Option<SessionKey>,
    pub(super) depth: u32,
    pub(super) label: Option<String>,
    pub(super) mode: Mode,
    pub(super) state: RunState,
    pub(super) model: String,
    pub(super) tokens: u64,
    pub(super) accepted_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    pub(super) ended_at: Option<Timestamp>,
}

/// The sub-agents of a session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Family {
    /// Open runs, newest first, then those that ended lately, newest first.
    pub(super) children: Vec<Child>,
    /// How many of them are open.
    pub(super) active: usize,
    /// Open runs below a session, by its name.
    pub(super) pending: BTreeMap<SessionKey, usize>,
}

impl Family {
    /// Reads the sub-agents of `caller`, with those that ended at `since` or later.
    pub(super) async fn read(
        storage: &Arc<dyn Storage>,
        caller: &SessionKey,
        since: Timestamp,
    ) -> Result<Self, StoreError> {
        let mut rows = Rows::new(storage);
        let mut family = Self::default();
        for open in storage.open_in_subtree(caller.clone()).await? {
            rows.add(open.session.clone());
            if open.session.key != *caller {
                family.children.push(Child::new(open.row, Some(&open.session)));
            }
        }
        family.children.sort_by_key(Child::newest_first);
        family.active = family.children.len();
        for child in &family.children {
            for above in rows.above(&child.session).await? {
                *family.pending.entry(above.clone()).or_default() += 1;
                if above == *caller {
                    break;
                }
            }
        }
        let root = rows.get(caller).await?.map_or_else(|| caller.clone(), |row| row.root.clone());
        let filter = ListFilter { root: Some(root), since: Some(since), ..ListFilter::default() };
        let mut recent = Vec::new();
        for run in storage.list_runs(filter, Page { offset: 0, limit: MAX_RECENT }).await? {
            let ended_lately = run.ended_at.is_some_and(|at| at >= since);
            if ended_lately && let Some(child) = ended(&mut rows, caller, run).await? {
                recent.push(child);
            }
        }
        recent.sort_by_key(Child::newest_first);
        family.children.extend(recent);
        Ok(family)
    }

    /// The sub-agent that `target` names: `last`, a place in the list from 1, a session key, a label, a run id
    /// or its beginning. None if nothing in the list is meant.
    ///
    /// # Errors
    /// Several are meant.
    pub(super) fn find(&self, target: &str) -> Result<Option<&Child>, Refusal> {
        if target.eq_ignore_ascii_case("last") {
            return Ok(self.children.iter().min_by_key(|child| child.newest_first()));
        }
        let index = target.parse::<usize>().ok().and_then(|place| place.checked_sub(1));
        if let Some(child) = index.and_then(|index| self.children.get(index)) {
            return Ok(Some(child));
        }
        let lower = target.to_lowercase();
        // Open runs come first, newest first: the run of a session that a person means.
        if let Some(child) = self.children.iter().find(|child| child.session.as_str() == lower) {
            return Ok(Some(child));
        }
        let labelled =
            |child: &&Child| child.label.as_ref().is_some_and(|label| label.to_lowercase() == lower);
        if let Some(child) = self.one_session(target, labelled)? {
            return Ok(Some(child));
        }
        if lower.len() < MIN_PREFIX {
            return Ok(None);
        }
        let mut named = self.children.iter().filter(|child| child.run.to_string().starts_with(&lower));
        match (named.next(), named.next()) {
            (Some(_), Some(_)) => Err(ambiguous(
                target,
                self.children.iter().filter(|child| child.run.to_string().starts_with(&lower)),
            )),
            (first, _) => Ok(first),
        }
    }

    /// The first that matches, provided that all that match, or all open ones, are of one session.
    fn one_session(
        &self,
        target: &str,
        matches: impl Fn(&&Child) -> bool,
    ) -> Result<Option<&Child>, Refusal> {
        for candidates in [&self.children[..self.active], &self.children[self.active..]] {
            let Some(first) = candidates.iter().find(&matches) else { continue };
            if candidates.iter().filter(&matches).all(|child| child.session == first.session) {
                return Ok(Some(first));
            }
            return Err(ambiguous(target, candidates.iter().filter(&matches)));
        }
        Ok(None)
    }
}

impl Child {
    fn new(run: RunRow, session: Option<&SessionRow>) -> Self {
        Self {
            parent: session.and_then(|row| row.parent.clone()).or(run.announce_to),
            depth: session.map_or(0, |row| row.depth),
            label: session.and_then(|row| row.label.clone()),
            mode: session.map_or(Mode::Run, |row| row.mode),
            run: run.id,
            session: run.session,
            state: run.state,
            model: run.model_used.unwrap_or(run.model.primary).to_string(),
            tokens: run.usage.total(),
            accepted_at: run.accepted_at,
            started_at: run.started_at,
            ended_at: run.ended_at,
        }
    }

    /// The label, or the beginning of the session's own name.
    pub(super) fn name(&self) -> String {
        let unnamed = || {
            let name = self.session.as_str();
            clip(name.rsplit(':').next().unwrap_or(name), 8).0
        };
        self.label.clone().unwrap_or_else(unnamed)
    }

    fn newest_first(&self) -> impl Ord + use<> {
        std::cmp::Reverse((self.accepted_at, self.run))
    }
}

/// A sub-agent that stands in no list: an older one, named by its session or its whole run id.
pub(super) async fn find_stored(
    storage: &Arc<dyn Storage>,
    caller: &SessionKey,
    target: &str,
) -> Result<Option<Child>, StoreError> {
    let run = if let Ok(run) = target.parse::<RunId>() {
        storage.run(run).await?
    } else if let Ok(session) = target.parse::<SessionKey>() {
        latest_run(storage, &session).await?
    } else {
        None
    };
    match run {
        Some(run) => ended(&mut Rows::new(storage), caller, run).await,
        None => Ok(None),
    }
}

/// The run as a sub-agent of `caller`, if it is one. Of a deleted session the run still knows its parent.
async fn ended(rows: &mut Rows<'_>, caller: &SessionKey, run: RunRow) -> Result<Option<Child>, StoreError> {
    let row = rows.get(&run.session).await?.cloned();
    let below = match (&row, &run.announce_to) {
        (Some(_), _) => rows.relation(caller, &run.session).await? == Relation::Descendant,
        (None, Some(parent)) => rows.relation(caller, parent).await? <= Relation::Descendant,
        (None, None) => false,
    };
    Ok(below.then(|| Child::new(run, row.as_ref())))
}

fn ambiguous<'a>(target: &str, among: impl Iterator<Item = &'a Child>) -> Refusal {
    const SHOWN: usize = 5;
    let runs: Vec<String> = among.take(SHOWN).map(|child| child.run.to_string()).collect();
    Refusal::error("ambiguous_target", format!("Ambiguous subagent target \"{}\".", clip(target, 80).0))
        .with_hint(format!("use a run id: {}", runs.join(", ")))
}

#[cfg(test)]
mod tests;
