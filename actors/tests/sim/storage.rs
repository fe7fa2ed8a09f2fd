//! A store that refuses now and then, answers late, and is cut where a crash may cut it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{
    AuditFilter, AuditPage, BoxFuture, Clock, Consequences, DayUsage, DeliveryFilter, DeliveryRow,
    DeliveryTally, Done, Earlier, Host, LeftRun, ListFilter, Op, OpenCallback, OpenRow, OpenRun,
    OverviewFilter, Overviews, Page, QuietFilter, QuietSession, Refused, RequestKey, RunRow, RunUse,
    SessionFigures, SessionRow, Storage, StoreError, StoredPairing, StoredSession, SubtreeRun, Survivors,
    Tallies, ToolUse, ToolUseFilter, Transaction, Unfinished,
};
use offshoot_actors::types::{AgentId, RunId, SessionKey, StoredEntry, Timestamp, Usage};
use tokio::sync::Notify;

use super::history::{History, What};
use super::random::Random;
use super::scenario::StoreMode;

struct State {
    random: Random,
    queue: VecDeque<(Step, Done)>,
    /// Results that are on their way in the store.
    announced: BTreeSet<RunId>,
    /// The chance in a hundred that a transaction is refused.
    refusing: u64,
    gone: bool,
}

/// What is left to do of a transaction.
enum Step {
    Apply(Transaction),
    Tell { result: Result<(), Refused>, commits: u64 },
}

pub struct SimStorage {
    inner: Arc<MemoryStorage>,
    mode: StoreMode,
    clock: Arc<dyn Clock>,
    history: Arc<History>,
    state: Mutex<State>,
    /// Commits that somebody was told of or has read.
    known: Arc<AtomicU64>,
    wake: Notify,
}

impl SimStorage {
    pub fn new(
        inner: Arc<MemoryStorage>,
        mode: StoreMode,
        clock: Arc<dyn Clock>,
        history: Arc<History>,
        random: Random,
    ) -> Arc<Self> {
        let announced = inner.outbox().iter().map(|row| row.run).collect();
        let known = Arc::new(AtomicU64::new(inner.commits()));
        let state = State { random, queue: VecDeque::new(), announced, refusing: 0, gone: false };
        Arc::new(Self { inner, mode, clock, history, state: Mutex::new(state), known, wake: Notify::new() })
    }

    /// Refuses this part of the transactions, in percent.
    pub fn refuse(&self, percent: u64) {
        self.state.lock().unwrap().refusing = percent;
    }

    /// The process is gone. Returns the store as the next one may find it: with all that anybody was told of,
    /// and as much as chance will have of what came after that.
    pub fn crash(&self, random: &mut Random) -> MemoryStorage {
        self.state.lock().unwrap().gone = true;
        let known = self.known.load(Ordering::Relaxed);
        let cut = known + random.below(self.inner.commits() - known + 1);
        self.inner.at_commit(cut).unwrap()
    }

    /// Works off what was submitted. Never ends.
    pub async fn pump(self: Arc<Self>) {
        loop {
            let (delay, empty) = {
                let mut state = self.state.lock().unwrap();
                let late = state.random.percent(40);
                let delay = if late { state.random.millis(1, 40) } else { Duration::ZERO };
                (delay, state.queue.is_empty())
            };
            if empty {
                self.wake.notified().await;
                continue;
            }
            if !delay.is_zero() {
                self.clock.sleep(delay).await;
            }
            let next = self.state.lock().unwrap().queue.pop_front();
            let Some((step, done)) = next else { continue };
            let (result, commits) = match step {
                Step::Apply(transaction) => (self.apply(transaction), self.inner.commits()),
                Step::Tell { result, commits } => (result, commits),
            };
            self.known.fetch_max(commits, Ordering::Relaxed);
            done(result);
        }
    }

    fn apply(&self, transaction: Transaction) -> Result<(), Refused> {
        let refused = {
            let mut state = self.state.lock().unwrap();
            let percent = state.refusing;
            !transaction.is_empty() && percent > 0 && state.random.percent(percent)
        };
        if refused {
            self.history.note(What::Full);
            return Err(StoreError::Full("no room in the simulator".to_owned()).into());
        }
        let announced: Vec<RunId> = transaction
            .iter()
            .filter_map(|op| match op {
                Op::QueueAnnounce(announce) => Some(announce.item.run),
                _ => None,
            })
            .collect();
        let result = Arc::new(Mutex::new(Ok(())));
        let slot = Arc::clone(&result);
        self.inner.submit(transaction, Box::new(move |result| *slot.lock().unwrap() = result));
        let result = result.lock().unwrap().clone();
        match &result {
            Ok(()) => self.state.lock().unwrap().announced.extend(announced),
            Err(refused) => self.history.note(What::Refused(refused.to_string())),
        }
        result
    }

    /// A parent hears of a result after it is committed, so it takes none that is not.
    fn check_order(&self, transaction: &Transaction) {
        let state = self.state.lock().unwrap();
        for op in transaction {
            let Op::TakeAnnounces { session, runs, .. } = op else { continue };
            for run in runs.iter().filter(|run| !state.announced.contains(run)) {
                let text = format!("{session} takes the result of run {run} before that is committed");
                self.history.note(What::Broken(text));
            }
        }
    }

    fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&MemoryStorage) -> BoxFuture<T> + Send + 'static,
    ) -> BoxFuture<T> {
        let (delay, early) = {
            let mut state = self.state.lock().unwrap();
            let late = self.mode != StoreMode::Immediate && state.random.percent(30);
            let delay = if late { state.random.millis(1, 30) } else { Duration::ZERO };
            (delay, state.random.percent(50))
        };
        let (inner, clock, known) =
            (Arc::clone(&self.inner), Arc::clone(&self.clock), Arc::clone(&self.known));
        let question = move || {
            known.fetch_max(inner.commits(), Ordering::Relaxed);
            question(&inner)
        };
        if early {
            let answer = question();
            return Box::pin(async move {
                clock.sleep(delay).await;
                answer.await
            });
        }
        Box::pin(async move {
            clock.sleep(delay).await;
            question().await
        })
    }
}

impl Storage for SimStorage {
    fn submit(&self, transaction: Transaction, done: Done) {
        if self.state.lock().unwrap().gone {
            return;
        }
        self.check_order(&transaction);
        if self.mode == StoreMode::Immediate {
            let result = self.apply(transaction);
            self.known.fetch_max(self.inner.commits(), Ordering::Relaxed);
            return done(result);
        }
        let step = match self.mode {
            StoreMode::ToldLate => {
                let result = self.apply(transaction);
                Step::Tell { result, commits: self.inner.commits() }
            }
            _ => Step::Apply(transaction),
        };
        self.state.lock().unwrap().queue.push_back((step, done));
        self.wake.notify_one();
    }

    fn load_session(&self, key: SessionKey) -> BoxFuture<Result<Option<StoredSession>, StoreError>> {
        self.read(|store| store.load_session(key))
    }

    fn session(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionRow>, StoreError>> {
        self.read(|store| store.session(key))
    }

    fn run(&self, run: RunId) -> BoxFuture<Result<Option<RunRow>, StoreError>> {
        self.read(move |store| store.run(run))
    }

    fn entries(
        &self,
        key: SessionKey,
        from: u64,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        self.read(move |store| store.entries(key, from, limit))
    }

    fn latest_entries(
        &self,
        key: SessionKey,
        before: Option<u64>,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        self.read(move |store| store.latest_entries(key, before, limit))
    }

    fn quiet_sessions(
        &self,
        filter: QuietFilter,
        limit: u32,
    ) -> BoxFuture<Result<Vec<QuietSession>, StoreError>> {
        self.read(move |store| store.quiet_sessions(filter, limit))
    }

    fn overviews(&self, filter: OverviewFilter, page: Page) -> BoxFuture<Result<Overviews, StoreError>> {
        self.read(move |store| store.overviews(filter, page))
    }

    fn earlier(&self, key: RequestKey) -> BoxFuture<Result<Option<Earlier>, StoreError>> {
        self.read(|store| store.earlier(key))
    }

    fn open_runs(&self) -> BoxFuture<Result<Vec<OpenRun>, StoreError>> {
        self.read(Storage::open_runs)
    }

    fn open_rows(&self) -> BoxFuture<Result<Vec<OpenRow>, StoreError>> {
        self.read(Storage::open_rows)
    }

    fn left_runs(&self) -> BoxFuture<Result<Vec<LeftRun>, StoreError>> {
        self.read(Storage::left_runs)
    }

    fn open_in_subtree(&self, key: SessionKey) -> BoxFuture<Result<Vec<SubtreeRun>, StoreError>> {
        self.read(|store| store.open_in_subtree(key))
    }

    fn survivors(&self, key: SessionKey) -> BoxFuture<Result<Survivors, StoreError>> {
        self.read(|store| store.survivors(key))
    }

    fn waiting_sessions(&self) -> BoxFuture<Result<Vec<SessionKey>, StoreError>> {
        self.read(Storage::waiting_sessions)
    }

    fn unfinished(&self, root: SessionKey, host: Host) -> BoxFuture<Result<Unfinished, StoreError>> {
        self.read(move |store| store.unfinished(root, host))
    }

    fn undelivered(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionKey>, StoreError>> {
        self.read(|store| store.undelivered(key))
    }

    fn session_figures(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionFigures>, StoreError>> {
        self.read(|store| store.session_figures(key))
    }

    fn subtree_usage(&self, key: SessionKey) -> BoxFuture<Result<Usage, StoreError>> {
        self.read(|store| store.subtree_usage(key))
    }

    fn list_sessions(
        &self,
        filter: ListFilter,
        page: Page,
    ) -> BoxFuture<Result<Vec<SessionRow>, StoreError>> {
        self.read(move |store| store.list_sessions(filter, page))
    }

    fn list_runs(&self, filter: ListFilter, page: Page) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        self.read(move |store| store.list_runs(filter, page))
    }

    fn tallies(&self) -> BoxFuture<Result<Tallies, StoreError>> {
        self.read(Storage::tallies)
    }

    fn usage_by_day(
        &self,
        from: Timestamp,
        until: Timestamp,
        offset_ms: i64,
    ) -> BoxFuture<Result<Vec<DayUsage>, StoreError>> {
        self.read(move |store| store.usage_by_day(from, until, offset_ms))
    }

    fn tool_uses(&self, filter: ToolUseFilter) -> BoxFuture<Result<Vec<ToolUse>, StoreError>> {
        self.read(move |store| store.tool_uses(filter))
    }

    fn consequences(
        &self,
        run: RunId,
        session: Option<SessionKey>,
        limit: u32,
    ) -> BoxFuture<Result<Consequences, StoreError>> {
        self.read(move |store| store.consequences(run, session, limit))
    }

    fn runs_named(&self, wire_id: String, limit: u32) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        self.read(move |store| store.runs_named(wire_id, limit))
    }

    fn run_uses(&self, filter: ToolUseFilter, most: u32) -> BoxFuture<Result<Vec<RunUse>, StoreError>> {
        self.read(move |store| store.run_uses(filter, most))
    }

    fn pairing(&self) -> BoxFuture<Result<StoredPairing, StoreError>> {
        self.read(Storage::pairing)
    }

    fn callbacks(&self) -> BoxFuture<Result<Vec<OpenCallback>, StoreError>> {
        self.read(Storage::callbacks)
    }

    fn deliveries(
        &self,
        filter: DeliveryFilter,
        page: Page,
    ) -> BoxFuture<Result<Vec<DeliveryRow>, StoreError>> {
        self.read(move |store| store.deliveries(filter, page))
    }

    fn delivery_tally(
        &self,
        agents: Option<Arc<BTreeSet<AgentId>>>,
    ) -> BoxFuture<Result<DeliveryTally, StoreError>> {
        self.read(move |store| store.delivery_tally(agents))
    }

    fn audit_rows(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> BoxFuture<Result<AuditPage, StoreError>> {
        self.read(move |store| store.audit_rows(filter, before, limit))
    }
}
