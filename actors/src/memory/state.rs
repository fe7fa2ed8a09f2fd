//! The tables, and the questions that are asked of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use uuid::Uuid;

use super::deliveries::Callback;
use super::table::Table;
use super::{Delivery, OutboxRow, ToolRow};
use crate::devices::Devices;
use crate::ports::{
    Announce, AuditRecord, Cause, DAY_MS, DayUsage, Earlier, Host, LeftRun, ListFilter, OpenRow, OpenRun,
    Page, RequestKey, RunRow, RunState, RunTally, RunTrace, SessionFigures, SessionRow, Steer, StoredSession,
    SubtreeRun, Tallies, Unfinished,
};
use crate::types::{ModelRef, RunId, SessionKey, StoredEntry, Timestamp, ToolStatus, Usage};

/// A stored session with its place in the order of creation.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) next_seq: u64,
    pub(super) row: SessionRow,
}

/// A stored run with its place in the order of acceptance.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) number: u64,
    /// The number of its session, which outlives that.
    pub(super) session: u64,
    pub(super) row: RunRow,
    pub(super) announced: Option<Announced>,
}

/// Where a run's result is.
#[derive(Debug, Clone)]
pub(super) enum Announced {
    /// In the outbox, here.
    Open(Place),
    /// Taken, by this run.
    Delivered(Option<RunId>),
    /// Nobody is to have it.
    Dismissed,
}

#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub(super) name: Arc<str>,
    pub(super) started_at: Timestamp,
    pub(super) finished: Option<(ToolStatus, Timestamp)>,
}

/// What was carried out under a request's name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) digest: [u8; 32],
    pub(super) run: RunId,
    /// When the run was accepted.
    pub(super) at: Timestamp,
}

/// A key within a session or a parent, in order of insertion.
pub(super) type Place = (SessionKey, u64);

/// Everything that is stored. Numbers grow with every insertion and stand for the order of it.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) last_number: u64,
    pub(super) sessions: Table<SessionKey, Session>,
    pub(super) session_order: Table<u64, SessionKey>,
    pub(super) children: Table<Place, SessionKey>,
    /// Rows of deleted sessions: their runs stay, and so must the tree that these belong to.
    pub(super) deleted: Table<u64, SessionRow>,
    pub(super) deleted_children: Table<Place, SessionKey>,
    pub(super) entries: Table<(u64, u64), Arc<StoredEntry>>,
    pub(super) runs: Table<RunId, Run>,
    pub(super) run_order: Table<u64, RunId>,
    pub(super) runs_of: Table<Place, RunId>,
    pub(super) open: Table<u64, RunId>,
    pub(super) open_of: Table<Place, RunId>,
    pub(super) open_to: Table<Place, RunId>,
    pub(super) tools: Table<(RunId, u32, Arc<str>), Tool>,
    pub(super) outbox: Table<Place, Announce>,
    /// Results in the outbox that have no receiver any more.
    pub(super) abandoned: Table<RunId, ()>,
    pub(super) steers: Table<Place, Steer>,
    pub(super) steer_places: Table<Uuid, Place>,
    pub(super) requests: Table<RequestKey, Request>,
    pub(super) callbacks: Table<RunId, Callback>,
    pub(super) died: Table<(), u32>,
    pub(super) devices: Devices,
    pub(super) audit: Vec<AuditRecord>,
    audit_kept: usize,
}

/// Calls a method on every table.
macro_rules! each_table {
    ($state:ident . $method:ident) => {
        $state.sessions.$method();
        $state.session_order.$method();
        $state.children.$method();
        $state.deleted.$method();
        $state.deleted_children.$method();
        $state.entries.$method();
        $state.runs.$method();
        $state.run_order.$method();
        $state.runs_of.$method();
        $state.open.$method();
        $state.open_of.$method();
        $state.open_to.$method();
        $state.tools.$method();
        $state.outbox.$method();
        $state.abandoned.$method();
        $state.steers.$method();
        $state.steer_places.$method();
        $state.requests.$method();
        $state.callbacks.$method();
        $state.died.$method();
        $state.devices.$method();
    };
}

impl State {
    pub(super) fn keep(&mut self) {
        each_table!(self.keep);
        self.audit_kept = self.audit.len();
    }

    pub(super) fn undo(&mut self) {
        each_table!(self.undo);
        self.audit.truncate(self.audit_kept);
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn load_session(&self, key: &SessionKey) -> Option<StoredSession> {
        let session = self.sessions.get(key)?;
        Some(StoredSession {
            row: session.row.clone(),
            transcript: self.transcript(session.number, 0).cloned().collect(),
            runs: self.open_of.range(places(key)).filter_map(|(_, run)| self.run(*run)).collect(),
            announces: self.waiting_for(key).cloned().collect(),
            steers: self.steers.range(places(key)).map(|(_, steer)| steer.clone()).collect(),
            children: self.open_to.range(places(key)).filter_map(|(_, run)| self.open_run(*run)).collect(),
            traces: self.open_of.range(places(key)).filter_map(|(_, run)| self.trace(*run)).collect(),
        })
    }

    fn trace(&self, run: RunId) -> Option<RunTrace> {
        let row = &self.runs.get(&run)?.row;
        if !matches!(row.state, RunState::Running | RunState::Yielded) {
            return None;
        }
        let calls = self.tools.range((run, 0, "".into())..).take_while(|((of, ..), _)| *of == run);
        let started = calls.filter(|(_, tool)| tool.finished.is_none()).map(|((_, _, call), _)| call.clone());
        let by_run = |key: &&SessionKey| {
            let Some(session) = self.sessions.get(key) else { return false };
            let mut runs = self.runs_of.range(places(key)).filter_map(|(_, run)| self.runs.get(run));
            runs.any(|other| other.row.spawner == Some(run) && other.session == session.number)
        };
        let children = self.children.range(places(&row.session)).map(|(_, key)| key);
        Some(RunTrace {
            run,
            started: started.collect(),
            spawned: children.filter(|key| !self.outlives(key)).filter(by_run).cloned().collect(),
        })
    }

    /// The results that a session is to take.
    pub(super) fn waiting_for(&self, key: &SessionKey) -> impl Iterator<Item = &Announce> {
        let found = self.outbox.range(places(key)).map(|(_, announce)| announce);
        found.filter(|announce| !self.abandoned.contains(&announce.item.run))
    }

    pub(super) fn session(&self, key: &SessionKey) -> Option<SessionRow> {
        self.sessions.get(key).map(|session| session.row.clone())
    }

    pub(super) fn run(&self, run: RunId) -> Option<RunRow> {
        self.runs.get(&run).map(|run| run.row.clone())
    }

    pub(super) fn entries(&self, key: &SessionKey, from: u64, limit: u32) -> Vec<Arc<StoredEntry>> {
        self.sessions.get(key).map_or_else(Vec::new, |session| {
            self.transcript(session.number, from).take(limit as usize).cloned().collect()
        })
    }

    pub(super) fn latest_entries(
        &self,
        key: &SessionKey,
        before: Option<u64>,
        limit: u32,
    ) -> Vec<Arc<StoredEntry>> {
        let Some(session) = self.sessions.get(key) else { return Vec::new() };
        let end = (session.number, before.unwrap_or(u64::MAX));
        let newest_first = self.entries.range((session.number, 0)..end).rev();
        let mut found: Vec<_> =
            newest_first.take(limit as usize).map(|(_, entry)| Arc::clone(entry)).collect();
        found.reverse();
        found
    }

    pub(super) fn transcript(
        &self,
        session: u64,
        from: u64,
    ) -> impl DoubleEndedIterator<Item = &Arc<StoredEntry>> {
        self.entries.range((session, from)..=(session, u64::MAX)).map(|(_, entry)| entry)
    }

    pub(super) fn earlier(&self, key: &RequestKey) -> Option<Earlier> {
        let Request { digest, run, .. } = *self.requests.get(key)?;
        let run = self.runs.get(&run)?;
        Some(Earlier { digest, run: run.row.clone(), session: self.session_of(run)?.clone() })
    }

    /// The run's session, also if it is deleted.
    fn session_of(&self, run: &Run) -> Option<&SessionRow> {
        let live = self.sessions.get(&run.row.session).filter(|session| session.number == run.session);
        live.map(|session| &session.row).or_else(|| self.deleted.get(&run.session))
    }

    pub(super) fn open_runs(&self) -> Vec<OpenRun> {
        self.open.iter().filter_map(|(_, run)| self.open_run(*run)).collect()
    }

    fn open_run(&self, run: RunId) -> Option<OpenRun> {
        let row = &self.runs.get(&run)?.row;
        let session = &self.sessions.get(&row.session)?.row;
        Some(OpenRun {
            run,
            session: row.session.clone(),
            announce_to: row.announce_to.clone(),
            root: session.root.clone(),
            depth: session.depth,
            cause: row.cause,
            spawner: row.spawner,
            host: row.host,
            on_parent_exit: session.on_parent_exit,
        })
    }

    pub(super) fn open_rows(&self) -> Vec<OpenRow> {
        let open = |run: RunId| {
            let row = self.runs.get(&run)?.row.clone();
            let session = self.sessions.get(&row.session)?;
            let spawned = row.cause == Cause::Spawn;
            let first = spawned.then(|| self.transcript(session.number, 0).next()).flatten();
            let first = first.map(|first| first.entry.clone());
            Some(OpenRow { row, session: session.row.clone(), first })
        };
        self.open.iter().filter_map(|(_, run)| open(*run)).collect()
    }

    /// Starts in a row that died before any run of a daemon was at work.
    pub(super) fn died(&self) -> u32 {
        self.died.get(&()).copied().unwrap_or_default()
    }

    pub(super) fn left_runs(&self) -> Vec<LeftRun> {
        let left = |run: RunId| {
            let row = &self.runs.get(&run)?.row;
            Some(LeftRun {
                open: self.open_run(run)?,
                state: row.state,
                recovery: row.recovery,
                attempts: row.attempts,
                died: self.died(),
                spawner_ended: row
                    .spawner
                    .and_then(|spawner| self.runs.get(&spawner)?.row.outcome.as_ref())
                    .map(|outcome| outcome.state),
                written_at: self.sessions.get(&row.session)?.row.updated_at,
            })
        };
        self.open.iter().filter_map(|(_, run)| left(*run)).collect()
    }

    /// A session and all its descendants.
    fn subtree(&self, key: &SessionKey) -> Vec<SessionKey> {
        let mut keys = vec![key.clone()];
        let mut next = 0;
        while let Some(parent) = keys.get(next) {
            let children: Vec<_> = self.children.range(places(parent)).map(|(_, key)| key.clone()).collect();
            keys.extend(children);
            next += 1;
        }
        keys
    }

    pub(super) fn open_in_subtree(&self, key: &SessionKey) -> Vec<SubtreeRun> {
        let keys = self.subtree(key);
        let mut found = Vec::new();
        for key in &keys {
            let Some(session) = self.sessions.get(key) else { continue };
            for ((_, number), run) in self.open_of.range(places(key)) {
                found.extend(
                    self.run(*run).map(|row| (*number, SubtreeRun { row, session: session.row.clone() })),
                );
            }
        }
        found.sort_by_key(|(number, run)| (std::cmp::Reverse(run.session.depth), *number));
        found.into_iter().map(|(_, run)| run).collect()
    }

    pub(super) fn waiting_sessions(&self) -> Vec<SessionKey> {
        let due = self.outbox.iter().filter(|(_, announce)| !self.abandoned.contains(&announce.item.run));
        let places = due.map(|(place, _)| place).chain(self.steers.iter().map(|(place, _)| place));
        let keys: BTreeSet<_> = places.map(|(key, _)| key).collect();
        keys.into_iter().cloned().collect()
    }

    pub(super) fn unfinished(&self, root: &SessionKey, host: Host) -> Unfinished {
        let is_in =
            |key: &SessionKey| self.sessions.get(key).is_some_and(|session| session.row.root == *root);
        let open = self.open.iter().filter_map(|(_, run)| self.runs.get(run));
        let mut waiting = self.waiting_sessions();
        waiting.retain(is_in);
        Unfinished {
            open: open.into_iter().any(|run| run.row.host == host && is_in(&run.row.session)),
            waiting,
        }
    }

    pub(super) fn undelivered(&self, key: &SessionKey) -> Option<SessionKey> {
        let tree: BTreeSet<SessionKey> = self.gone_with(key).into_iter().collect();
        let results = self.outbox.iter().filter(|((receiver, _), announce)| {
            !self.abandoned.contains(&announce.item.run)
                && (tree.contains(receiver) || tree.contains(&announce.item.session))
        });
        let steers = self.steers.iter().map(|(place, _)| place).filter(|place| tree.contains(&place.0));
        results.map(|(place, _)| place).chain(steers).map(|(receiver, _)| receiver).min().cloned()
    }

    pub(super) fn subtree_usage(&self, key: &SessionKey) -> Usage {
        let mut seen = BTreeSet::from([key.clone()]);
        let mut todo = vec![key.clone()];
        let mut usage = Usage::default();
        while let Some(key) = todo.pop() {
            for (_, run) in self.runs_of.range(places(&key)) {
                usage += self.runs.get(run).map_or_else(Usage::default, |run| run.row.usage);
            }
            let live = self.children.range(places(&key));
            for (_, child) in live.chain(self.deleted_children.range(places(&key))) {
                if seen.insert(child.clone()) {
                    todo.push(child.clone());
                }
            }
        }
        usage
    }

    pub(super) fn session_figures(&self, key: &SessionKey) -> Option<SessionFigures> {
        self.sessions.get(key)?;
        let mut seen = BTreeSet::from([key.clone()]);
        let mut todo = vec![(key.clone(), 0)];
        let mut figures = SessionFigures::default();
        while let Some((key, level)) = todo.pop() {
            for (_, run) in self.runs_of.range(places(&key)) {
                let Some(row) = self.runs.get(run).map(|run| &run.row) else { continue };
                let model = row.model_used.as_ref().unwrap_or(&row.model.primary);
                let ended = (row.id, row.ended_at);
                figures.count(level, ended, (row.cause, row.state), row.accepted_at, (model, row.usage));
            }
            let live = self.children.range(places(&key));
            for (_, child) in live.chain(self.deleted_children.range(places(&key))) {
                if seen.insert(child.clone()) {
                    todo.push((child.clone(), level + 1));
                }
            }
        }
        Some(figures)
    }

    pub(super) fn list_sessions(&self, filter: &ListFilter, page: Page) -> Vec<SessionRow> {
        let wanted = |row: &&SessionRow| self.is_listed(row, filter);
        let rows = self.session_order.iter().rev().filter_map(|(_, key)| self.sessions.get(key));
        let rows = rows.map(|session| &session.row).filter(wanted);
        rows.skip(page.offset as usize).take(page.limit as usize).cloned().collect()
    }

    pub(super) fn is_listed(&self, row: &SessionRow, filter: &ListFilter) -> bool {
        filter.agent.as_ref().is_none_or(|agent| row.agent == *agent)
            && filter.session.as_ref().is_none_or(|parent| row.parent.as_ref() == Some(parent))
            && filter.root.as_ref().is_none_or(|root| row.root == *root)
            && (!filter.open || self.open_of.range(places(&row.key)).next().is_some())
            && filter.since.is_none_or(|since| row.updated_at >= since)
    }

    pub(super) fn list_runs(&self, filter: &ListFilter, page: Page) -> Vec<RunRow> {
        let wanted = |run: &&Run| {
            let row = &run.row;
            filter.agent.as_ref().is_none_or(|agent| row.session.agent() == *agent)
                && filter.session.as_ref().is_none_or(|session| row.session == *session)
                && filter
                    .root
                    .as_ref()
                    .is_none_or(|root| self.session_of(run).is_some_and(|row| row.root == *root))
                && filter.cause.is_none_or(|cause| row.cause == cause)
                && filter.announce_to.as_ref().is_none_or(|to| row.announce_to.as_ref() == Some(to))
                && (!filter.open || row.state.is_open())
                && filter.since.is_none_or(|since| written_at(row) >= since)
        };
        let rows = self.run_order.iter().rev().filter_map(|(_, run)| self.runs.get(run));
        let rows = rows.filter(wanted).map(|run| run.row.clone());
        rows.skip(page.offset as usize).take(page.limit as usize).collect()
    }

    pub(super) fn tallies(&self) -> Tallies {
        let mut tallies = Tallies::default();
        for (_, key) in self.session_order.iter() {
            if let Some(session) = self.sessions.get(key) {
                *tallies.sessions.entry(session.row.agent.clone()).or_default() += 1;
            }
        }
        let mut runs: BTreeMap<(&str, &str), RunTally> = BTreeMap::new();
        for (_, run) in self.run_order.iter() {
            let Some(Run { row, .. }) = self.runs.get(run) else { continue };
            let (cause, state) = (row.cause, row.state);
            let none = RunTally { cause, state, count: 0 };
            runs.entry((cause.as_str(), state.as_str())).or_insert(none).count += 1;
        }
        tallies.runs = runs.into_values().collect();
        tallies
    }

    pub(super) fn usage_by_day(&self, when: Range<Timestamp>, offset_ms: i64) -> Vec<DayUsage> {
        let mut days: BTreeMap<(i64, ModelRef), DayUsage> = BTreeMap::new();
        for (_, run) in self.run_order.iter() {
            let Some(Run { row, .. }) = self.runs.get(run) else { continue };
            let at = row.ended_at.unwrap_or(row.accepted_at);
            if when.contains(&at) && row.usage.total() > 0 {
                let day = at.0.saturating_add(offset_ms) / DAY_MS;
                let model = row.model_used.as_ref().unwrap_or(&row.model.primary);
                let none = DayUsage { day, model: model.clone(), runs: 0, usage: Usage::default() };
                let entry = days.entry((day, model.clone())).or_insert(none);
                entry.runs += 1;
                entry.usage += row.usage;
            }
        }
        days.into_values().collect()
    }

    pub(super) fn transcripts(&self) -> impl Iterator<Item = (SessionKey, Vec<Arc<StoredEntry>>)> {
        self.sessions.iter().map(|(key, session)| {
            (key.clone(), self.transcript(session.number, 0).cloned().collect::<Vec<_>>())
        })
    }

    pub(super) fn outbox_rows(&self) -> Vec<OutboxRow> {
        let rows = self.run_order.iter().filter_map(|(_, run)| {
            let (delivery, announce) = match self.runs.get(run)?.announced.as_ref()? {
                Announced::Open(place) if self.abandoned.contains(run) => {
                    (Delivery::Abandoned, self.outbox.get(place).cloned())
                }
                Announced::Open(place) => (Delivery::Open, self.outbox.get(place).cloned()),
                Announced::Delivered(_) => (Delivery::Delivered, None),
                Announced::Dismissed => (Delivery::Dismissed, None),
            };
            Some(OutboxRow { run: *run, delivery, announce })
        });
        rows.collect()
    }

    pub(super) fn tool_rows(&self) -> Vec<ToolRow> {
        let rows = self.tools.iter().map(|((run, step, call), tool)| ToolRow {
            run: *run,
            step: *step,
            call: Arc::clone(call),
            name: Arc::clone(&tool.name),
            started_at: tool.started_at,
            finished: tool.finished,
        });
        rows.collect()
    }
}

/// Every place within a session or a parent.
pub(super) fn places(key: &SessionKey) -> RangeInclusive<Place> {
    (key.clone(), 0)..=(key.clone(), u64::MAX)
}

fn written_at(row: &RunRow) -> Timestamp {
    row.ended_at.or(row.started_at).unwrap_or(row.accepted_at)
}
