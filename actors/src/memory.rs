//! The store in memory: for tests, for the simulator, and for programs that embed the tree.
//!
//! `submit` applies its transaction before it returns, and calls `done` without any lock held. A `done` that
//! submits again is answered after it has returned, so that answers come in the order of submission and the
//! stack does not grow.

mod apply;
mod audit;
mod consequences;
mod deliveries;
mod moves;
mod overviews;
mod retention;
mod state;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::state::State;
pub(crate) use self::table::Table;
use crate::ports::{
    Announce, AuditFilter, AuditPage, AuditRecord, BoxFuture, Consequences, DayUsage, DeliveryFilter,
    DeliveryRow, DeliveryTally, Done, Earlier, Host, LeftRun, ListFilter, OpenCallback, OpenRow, OpenRun,
    OverviewFilter, Overviews, Page, QuietFilter, QuietSession, Refused, RequestKey, RunRow, RunUse,
    SessionFigures, SessionRow, Steer, Storage, StoreError, StoredPairing, StoredSession, SubtreeRun,
    Survivors, Tallies, ToolUse, ToolUseFilter, Transaction, Unfinished,
};
use crate::types::{AgentId, RunId, SessionKey, StoredEntry, Timestamp, ToolStatus, Usage};

/// Whether a result that was put on its way has been taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It waits.
    Open,
    /// It was taken.
    Delivered,
    /// Nobody is to have it.
    Dismissed,
    /// It was put on its way, and whoever was to have it went away: nobody takes it.
    Abandoned,
}

/// A result that was put on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// The child's run.
    pub run: RunId,
    /// Whether it was taken.
    pub delivery: Delivery,
    /// The result while it waits.
    pub announce: Option<Announce>,
}

/// A tool call that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRow {
    /// The run.
    pub run: RunId,
    /// The step that asked for it.
    pub step: u32,
    /// The call's id.
    pub call: Arc<str>,
    /// The tool's name.
    pub name: Arc<str>,
    /// When it started.
    pub started_at: Timestamp,
    /// How and when it ended, once it has.
    pub finished: Option<(ToolStatus, Timestamp)>,
}

/// A store that forgets everything when it is dropped.
#[derive(Default)]
pub struct MemoryStorage {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    state: State,
    commits: u64,
    log: Option<Vec<Transaction>>,
    answers: VecDeque<(Done, Result<(), Refused>)>,
    answering: bool,
}

impl MemoryStorage {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that keeps every transaction it applies, for [`MemoryStorage::at_commit`].
    #[must_use]
    pub fn recording() -> Self {
        Self::from_inner(Inner { log: Some(Vec::new()), ..Inner::default() })
    }

    /// A recording store to which these transactions were applied. One that is refused leaves no trace.
    #[must_use]
    pub fn replay(log: &[Transaction]) -> Self {
        let mut inner = Inner { log: Some(Vec::with_capacity(log.len())), ..Inner::default() };
        for transaction in log {
            // Whoever recorded the log was told of its refusals.
            _ = inner.transact(transaction.clone());
        }
        Self::from_inner(inner)
    }

    /// The store as it was after `commit` transactions; none if it was not recording or has made fewer.
    #[must_use]
    pub fn at_commit(&self, commit: u64) -> Option<Self> {
        let log = self.log().get(..usize::try_from(commit).ok()?)?.to_vec();
        self.lock().log.is_some().then(|| Self::replay(&log))
    }

    /// The transactions that a recording store has applied, in order; the empty ones left out.
    #[must_use]
    pub fn log(&self) -> Vec<Transaction> {
        self.lock().log.clone().unwrap_or_default()
    }

    /// Transactions that were applied, the empty ones not counted.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// A copy that shares nothing with this store.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let inner = self.lock();
        Self::from_inner(Inner {
            state: inner.state.clone(),
            commits: inner.commits,
            log: inner.log.clone(),
            ..Inner::default()
        })
    }

    /// Every session, by name.
    #[must_use]
    pub fn all_sessions(&self) -> Vec<SessionRow> {
        self.lock().state.sessions.iter().map(|(_, session)| session.row.clone()).collect()
    }

    /// The sessions that were deleted, as they were last, in the order of their creation.
    #[must_use]
    pub fn deleted_sessions(&self) -> Vec<SessionRow> {
        self.lock().state.deleted.iter().map(|(_, row)| row.clone()).collect()
    }

    /// Every run, oldest first.
    #[must_use]
    pub fn all_runs(&self) -> Vec<RunRow> {
        let inner = self.lock();
        inner.state.run_order.iter().filter_map(|(_, run)| inner.state.run(*run)).collect()
    }

    /// Every transcript, by session.
    #[must_use]
    pub fn transcripts(&self) -> BTreeMap<SessionKey, Vec<Arc<StoredEntry>>> {
        self.lock().state.transcripts().collect()
    }

    /// Every result that was ever put on its way, in the order in which their runs were accepted.
    #[must_use]
    pub fn outbox(&self) -> Vec<OutboxRow> {
        self.lock().state.outbox_rows()
    }

    /// Every tool call that was ever started, by run, step and call.
    #[must_use]
    pub fn tool_rows(&self) -> Vec<ToolRow> {
        self.lock().state.tool_rows()
    }

    /// Steering messages that wait, by session, oldest first.
    #[must_use]
    pub fn steers(&self) -> Vec<Steer> {
        self.lock().state.steers.iter().map(|(_, steer)| steer.clone()).collect()
    }

    /// The names of requests that were carried out, with the digest of their parameters and their run.
    #[must_use]
    pub fn requests(&self) -> Vec<(RequestKey, [u8; 32], RunId)> {
        let inner = self.lock();
        inner.state.requests.iter().map(|(key, request)| (key.clone(), request.digest, request.run)).collect()
    }

    /// Devices, their tokens, and what waits for approval.
    #[must_use]
    pub fn devices(&self) -> StoredPairing {
        self.lock().state.devices.stored()
    }

    /// The audit record, oldest line first.
    #[must_use]
    pub fn audit(&self) -> Vec<AuditRecord> {
        self.lock().state.audit.clone()
    }

    fn from_inner(inner: Inner) -> Self {
        Self { inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers in the order of submission. A `done` that panics does so in its caller, after the others.
    fn answer(&self) {
        let mut panicked = None;
        loop {
            let next = {
                let mut inner = self.lock();
                let next = inner.answers.pop_front();
                inner.answering = next.is_some();
                next
            };
            let Some((done, result)) = next else { break };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| done(result))) {
                panicked.get_or_insert(panic);
            }
        }
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
    }

    fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&State) -> T,
    ) -> BoxFuture<Result<T, StoreError>> {
        let answer = question(&self.lock().state);
        Box::pin(std::future::ready(Ok(answer)))
    }
}

impl Inner {
    fn transact(&mut self, transaction: Transaction) -> Result<(), Refused> {
        if transaction.is_empty() {
            return Ok(());
        }
        let recorded = self.log.is_some().then(|| transaction.clone());
        self.state.transact(transaction)?;
        self.commits += 1;
        if let (Some(log), Some(transaction)) = (&mut self.log, recorded) {
            log.push(transaction);
        }
        Ok(())
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("commits", &self.commits()).finish_non_exhaustive()
    }
}

impl Storage for MemoryStorage {
    fn submit(&self, transaction: Transaction, done: Done) {
        let mut inner = self.lock();
        let result = inner.transact(transaction);
        inner.answers.push_back((done, result));
        let answering = std::mem::replace(&mut inner.answering, true);
        drop(inner);
        if !answering {
            self.answer();
        }
    }

    fn load_session(&self, key: SessionKey) -> BoxFuture<Result<Option<StoredSession>, StoreError>> {
        self.read(|state| state.load_session(&key))
    }

    fn session(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionRow>, StoreError>> {
        self.read(|state| state.session(&key))
    }

    fn run(&self, run: RunId) -> BoxFuture<Result<Option<RunRow>, StoreError>> {
        self.read(|state| state.run(run))
    }

    fn entries(
        &self,
        key: SessionKey,
        from: u64,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        self.read(|state| state.entries(&key, from, limit))
    }

    fn latest_entries(
        &self,
        key: SessionKey,
        before: Option<u64>,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        self.read(|state| state.latest_entries(&key, before, limit))
    }

    fn earlier(&self, key: RequestKey) -> BoxFuture<Result<Option<Earlier>, StoreError>> {
        self.read(|state| state.earlier(&key))
    }

    fn open_runs(&self) -> BoxFuture<Result<Vec<OpenRun>, StoreError>> {
        self.read(State::open_runs)
    }

    fn open_rows(&self) -> BoxFuture<Result<Vec<OpenRow>, StoreError>> {
        self.read(State::open_rows)
    }

    fn left_runs(&self) -> BoxFuture<Result<Vec<LeftRun>, StoreError>> {
        self.read(State::left_runs)
    }

    fn open_in_subtree(&self, key: SessionKey) -> BoxFuture<Result<Vec<SubtreeRun>, StoreError>> {
        self.read(|state| state.open_in_subtree(&key))
    }

    fn survivors(&self, key: SessionKey) -> BoxFuture<Result<Survivors, StoreError>> {
        self.read(|state| state.survivors(&key))
    }

    fn waiting_sessions(&self) -> BoxFuture<Result<Vec<SessionKey>, StoreError>> {
        self.read(State::waiting_sessions)
    }

    fn unfinished(&self, root: SessionKey, host: Host) -> BoxFuture<Result<Unfinished, StoreError>> {
        self.read(|state| state.unfinished(&root, host))
    }

    fn undelivered(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionKey>, StoreError>> {
        self.read(|state| state.undelivered(&key))
    }

    fn subtree_usage(&self, key: SessionKey) -> BoxFuture<Result<Usage, StoreError>> {
        self.read(|state| state.subtree_usage(&key))
    }

    fn session_figures(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionFigures>, StoreError>> {
        self.read(|state| state.session_figures(&key))
    }

    fn list_sessions(
        &self,
        filter: ListFilter,
        page: Page,
    ) -> BoxFuture<Result<Vec<SessionRow>, StoreError>> {
        self.read(|state| state.list_sessions(&filter, page))
    }

    fn quiet_sessions(
        &self,
        filter: QuietFilter,
        limit: u32,
    ) -> BoxFuture<Result<Vec<QuietSession>, StoreError>> {
        self.read(|state| state.quiet_sessions(&filter, limit))
    }

    fn overviews(&self, filter: OverviewFilter, page: Page) -> BoxFuture<Result<Overviews, StoreError>> {
        self.read(|state| state.overviews(&filter, page))
    }

    fn list_runs(&self, filter: ListFilter, page: Page) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        self.read(|state| state.list_runs(&filter, page))
    }

    fn tallies(&self) -> BoxFuture<Result<Tallies, StoreError>> {
        self.read(State::tallies)
    }

    fn usage_by_day(
        &self,
        from: Timestamp,
        until: Timestamp,
        offset_ms: i64,
    ) -> BoxFuture<Result<Vec<DayUsage>, StoreError>> {
        self.read(move |state| state.usage_by_day(from..until, offset_ms))
    }

    fn tool_uses(&self, filter: ToolUseFilter) -> BoxFuture<Result<Vec<ToolUse>, StoreError>> {
        self.read(|state| state.tool_uses(&filter))
    }

    fn consequences(
        &self,
        run: RunId,
        session: Option<SessionKey>,
        limit: u32,
    ) -> BoxFuture<Result<Consequences, StoreError>> {
        self.read(|state| state.consequences(run, session.as_ref(), limit as usize))
    }

    fn runs_named(&self, wire_id: String, limit: u32) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        self.read(|state| {
            let rows = state.run_order.iter().rev().filter_map(|(_, run)| state.run(*run));
            let rows = rows.filter(|row| row.wire_id.as_deref() == Some(&*wire_id));
            rows.take(limit as usize).collect()
        })
    }

    fn run_uses(&self, filter: ToolUseFilter, most: u32) -> BoxFuture<Result<Vec<RunUse>, StoreError>> {
        self.read(|state| state.run_uses(&filter, most))
    }

    fn pairing(&self) -> BoxFuture<Result<StoredPairing, StoreError>> {
        self.read(|state| state.devices.stored())
    }

    fn callbacks(&self) -> BoxFuture<Result<Vec<OpenCallback>, StoreError>> {
        self.read(State::open_callbacks)
    }

    fn deliveries(
        &self,
        filter: DeliveryFilter,
        page: Page,
    ) -> BoxFuture<Result<Vec<DeliveryRow>, StoreError>> {
        self.read(|state| state.deliveries(&filter, page))
    }

    fn delivery_tally(
        &self,
        agents: Option<Arc<BTreeSet<AgentId>>>,
    ) -> BoxFuture<Result<DeliveryTally, StoreError>> {
        self.read(|state| state.delivery_tally(agents.as_deref()))
    }

    fn audit_rows(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> BoxFuture<Result<AuditPage, StoreError>> {
        self.read(|state| state.audit_rows(&filter, before, limit))
    }
}
