//! A store whose answers a test spoils.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{
    AuditFilter, AuditPage, BoxFuture, Clock, Consequences, DayUsage, DeliveryFilter, DeliveryRow,
    DeliveryTally, Done, Earlier, Host, LeftRun, ListFilter, Op, OpenCallback, OpenRow, OpenRun,
    OverviewFilter, Overviews, Page, QuietFilter, QuietSession, RequestKey, RunRow, RunUse, SessionFigures,
    SessionRow, Storage, StoreError, StoredPairing, StoredSession, SubtreeRun, Survivors, Tallies,
    TokioClock, ToolUse, ToolUseFilter, Transaction, Unfinished,
};
use offshoot_actors::types::{AgentId, RunId, SessionKey, StoredEntry, Timestamp, Usage};
use tokio::sync::Notify;

/// What the store is asked for.
#[derive(Debug)]
pub enum Asked<'a> {
    Submit(&'a Transaction),
    Load(&'a SessionKey),
    Subtree(&'a SessionKey),
    Survivors(&'a SessionKey),
    Waiting,
    Unfinished(&'a SessionKey),
    Pairing,
    Callbacks,
    Consequences { limit: u32 },
}

/// What becomes of it.
#[derive(Debug, Clone)]
pub enum Answered {
    Well,
    WithAnError,
    /// With an error that does not pass.
    Damaged,
    WithAnErrorAfter(Duration),
    /// As it is now, but told after this time; a transaction is applied after this time.
    Late(Duration),
    /// A transaction is applied now, and told after this time.
    ToldLate(Duration),
    /// As it is now, a transaction applied now, but told once this is notified.
    Held(Arc<Notify>),
}

fn spoiled() -> StoreError {
    StoreError::Unavailable("spoiled".to_owned())
}

type Spoil = dyn FnMut(&Asked<'_>) -> Answered + Send;

pub struct Faulty {
    inner: Arc<MemoryStorage>,
    clock: TokioClock,
    spoil: Mutex<Box<Spoil>>,
    has_failed: AtomicBool,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").finish_non_exhaustive()
    }
}

impl Faulty {
    pub fn new(inner: &Arc<MemoryStorage>) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            clock: TokioClock::starting_at(Timestamp(0)),
            spoil: Mutex::new(Box::new(|_| Answered::Well)),
            has_failed: AtomicBool::new(false),
        })
    }

    /// From now on `spoil` says how each question is answered.
    pub fn spoil(&self, spoil: impl FnMut(&Asked<'_>) -> Answered + Send + 'static) {
        *self.spoil.lock().unwrap() = Box::new(spoil);
    }

    /// The next `times` questions of a kind are answered with an error.
    pub fn fail(&self, times: u32, of: impl Fn(&Asked<'_>) -> bool + Send + 'static) {
        let mut left = times;
        self.spoil(move |asked| {
            if left > 0 && of(asked) {
                left -= 1;
                return Answered::WithAnError;
            }
            Answered::Well
        });
    }

    /// The next transaction that holds such an operation is refused.
    pub fn refuse(&self, of: impl Fn(&Op) -> bool + Send + 'static) {
        self.fail(1, move |asked| matches!(asked, Asked::Submit(transaction) if transaction.iter().any(&of)));
    }

    /// The next transaction that holds such an operation meets a page that cannot be read.
    pub fn damage(&self, of: impl Fn(&Op) -> bool + Send + 'static) {
        let mut left = 1;
        self.spoil(move |asked| match asked {
            Asked::Submit(transaction) if left > 0 && transaction.iter().any(&of) => {
                left -= 1;
                Answered::Damaged
            }
            _ => Answered::Well,
        });
    }

    /// Whether anything was answered with an error.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    fn judge(&self, asked: &Asked<'_>) -> Answered {
        let answered = (self.spoil.lock().unwrap())(asked);
        if matches!(answered, Answered::WithAnError | Answered::Damaged | Answered::WithAnErrorAfter(_)) {
            self.has_failed.store(true, Ordering::SeqCst);
        }
        answered
    }

    fn answer<T: Send + 'static>(
        &self,
        asked: &Asked<'_>,
        question: impl FnOnce(&MemoryStorage) -> BoxFuture<Result<T, StoreError>>,
    ) -> BoxFuture<Result<T, StoreError>> {
        let answered = self.judge(asked);
        let answer = question(&self.inner);
        match answered {
            Answered::Well => answer,
            Answered::WithAnError => Box::pin(async { Err(spoiled()) }),
            Answered::Damaged => Box::pin(async { Err(StoreError::Damaged("spoiled".to_owned())) }),
            Answered::WithAnErrorAfter(pause) => {
                let pause = self.clock.sleep(pause);
                Box::pin(async move {
                    pause.await;
                    Err(spoiled())
                })
            }
            Answered::Late(pause) | Answered::ToldLate(pause) => {
                let pause = self.clock.sleep(pause);
                Box::pin(async move {
                    let answer = answer.await;
                    pause.await;
                    answer
                })
            }
            Answered::Held(gate) => Box::pin(async move {
                let answer = answer.await;
                gate.notified().await;
                answer
            }),
        }
    }
}

impl Storage for Faulty {
    fn submit(&self, transaction: Transaction, done: Done) {
        match self.judge(&Asked::Submit(&transaction)) {
            Answered::WithAnError => done(Err(spoiled().into())),
            Answered::Damaged => done(Err(StoreError::Damaged("spoiled".to_owned()).into())),
            Answered::Late(pause) => {
                let (inner, pause) = (Arc::clone(&self.inner), self.clock.sleep(pause));
                drop(tokio::spawn(async move {
                    pause.await;
                    inner.submit(transaction, done);
                }));
            }
            Answered::ToldLate(pause) => {
                let pause = self.clock.sleep(pause);
                let done = |result| {
                    drop(tokio::spawn(async move {
                        pause.await;
                        done(result);
                    }));
                };
                self.inner.submit(transaction, Box::new(done));
            }
            Answered::Held(gate) => {
                let done = |result| {
                    drop(tokio::spawn(async move {
                        gate.notified().await;
                        done(result);
                    }));
                };
                self.inner.submit(transaction, Box::new(done));
            }
            _ => self.inner.submit(transaction, done),
        }
    }

    fn load_session(&self, key: SessionKey) -> BoxFuture<Result<Option<StoredSession>, StoreError>> {
        self.answer(&Asked::Load(&key.clone()), |store| store.load_session(key))
    }

    fn session(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionRow>, StoreError>> {
        self.inner.session(key)
    }

    fn run(&self, run: RunId) -> BoxFuture<Result<Option<RunRow>, StoreError>> {
        self.inner.run(run)
    }

    fn entries(
        &self,
        key: SessionKey,
        from: u64,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        self.inner.entries(key, from, limit)
    }

    fn latest_entries(
        &self,
        key: SessionKey,
        before: Option<u64>,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        self.inner.latest_entries(key, before, limit)
    }

    fn quiet_sessions(
        &self,
        filter: QuietFilter,
        limit: u32,
    ) -> BoxFuture<Result<Vec<QuietSession>, StoreError>> {
        self.inner.quiet_sessions(filter, limit)
    }

    fn overviews(&self, filter: OverviewFilter, page: Page) -> BoxFuture<Result<Overviews, StoreError>> {
        self.inner.overviews(filter, page)
    }

    fn earlier(&self, key: RequestKey) -> BoxFuture<Result<Option<Earlier>, StoreError>> {
        self.inner.earlier(key)
    }

    fn open_runs(&self) -> BoxFuture<Result<Vec<OpenRun>, StoreError>> {
        self.inner.open_runs()
    }

    fn open_rows(&self) -> BoxFuture<Result<Vec<OpenRow>, StoreError>> {
        self.inner.open_rows()
    }

    fn left_runs(&self) -> BoxFuture<Result<Vec<LeftRun>, StoreError>> {
        self.inner.left_runs()
    }

    fn open_in_subtree(&self, key: SessionKey) -> BoxFuture<Result<Vec<SubtreeRun>, StoreError>> {
        self.answer(&Asked::Subtree(&key.clone()), |store| store.open_in_subtree(key))
    }

    fn survivors(&self, key: SessionKey) -> BoxFuture<Result<Survivors, StoreError>> {
        self.answer(&Asked::Survivors(&key.clone()), |store| store.survivors(key))
    }

    fn waiting_sessions(&self) -> BoxFuture<Result<Vec<SessionKey>, StoreError>> {
        self.answer(&Asked::Waiting, Storage::waiting_sessions)
    }

    fn unfinished(&self, root: SessionKey, host: Host) -> BoxFuture<Result<Unfinished, StoreError>> {
        self.answer(&Asked::Unfinished(&root.clone()), |store| store.unfinished(root, host))
    }

    fn undelivered(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionKey>, StoreError>> {
        self.inner.undelivered(key)
    }

    fn session_figures(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionFigures>, StoreError>> {
        self.inner.session_figures(key)
    }

    fn subtree_usage(&self, key: SessionKey) -> BoxFuture<Result<Usage, StoreError>> {
        self.inner.subtree_usage(key)
    }

    fn list_sessions(
        &self,
        filter: ListFilter,
        page: Page,
    ) -> BoxFuture<Result<Vec<SessionRow>, StoreError>> {
        self.inner.list_sessions(filter, page)
    }

    fn list_runs(&self, filter: ListFilter, page: Page) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        self.inner.list_runs(filter, page)
    }

    fn tallies(&self) -> BoxFuture<Result<Tallies, StoreError>> {
        self.inner.tallies()
    }

    fn usage_by_day(
        &self,
        from: Timestamp,
        until: Timestamp,
        offset_ms: i64,
    ) -> BoxFuture<Result<Vec<DayUsage>, StoreError>> {
        self.inner.usage_by_day(from, until, offset_ms)
    }

    fn tool_uses(&self, filter: ToolUseFilter) -> BoxFuture<Result<Vec<ToolUse>, StoreError>> {
        self.inner.tool_uses(filter)
    }

    fn consequences(
        &self,
        run: RunId,
        session: Option<SessionKey>,
        limit: u32,
    ) -> BoxFuture<Result<Consequences, StoreError>> {
        self.answer(&Asked::Consequences { limit }, |store| store.consequences(run, session, limit))
    }

    fn runs_named(&self, wire_id: String, limit: u32) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        self.inner.runs_named(wire_id, limit)
    }

    fn run_uses(&self, filter: ToolUseFilter, most: u32) -> BoxFuture<Result<Vec<RunUse>, StoreError>> {
        self.inner.run_uses(filter, most)
    }

    fn pairing(&self) -> BoxFuture<Result<StoredPairing, StoreError>> {
        self.answer(&Asked::Pairing, Storage::pairing)
    }

    fn callbacks(&self) -> BoxFuture<Result<Vec<OpenCallback>, StoreError>> {
        self.answer(&Asked::Callbacks, Storage::callbacks)
    }

    fn deliveries(
        &self,
        filter: DeliveryFilter,
        page: Page,
    ) -> BoxFuture<Result<Vec<DeliveryRow>, StoreError>> {
        self.inner.deliveries(filter, page)
    }

    fn delivery_tally(
        &self,
        agents: Option<Arc<BTreeSet<AgentId>>>,
    ) -> BoxFuture<Result<DeliveryTally, StoreError>> {
        self.inner.delivery_tally(agents)
    }

    fn audit_rows(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> BoxFuture<Result<AuditPage, StoreError>> {
        self.inner.audit_rows(filter, before, limit)
    }
}
