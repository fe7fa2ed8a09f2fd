//! A store that can be told what to refuse, in front of one that takes all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{
    BoxFuture, Done, Earlier, ListFilter, Op, OpenRun, Page, RequestKey, RunRow, SessionRow, Storage,
    StoreError, StoredSession, SubtreeRun, Transaction,
};
use offshoot_actors::types::{RunId, SessionKey, StoredEntry, Usage};

type Chooses = Box<dyn Fn(&Op) -> bool + Send>;

pub struct Front {
    inner: Arc<MemoryStorage>,
    refuses: Mutex<Option<Chooses>>,
    unreadable: AtomicBool,
}

impl Front {
    pub fn new(inner: &Arc<MemoryStorage>) -> Self {
        Self { inner: Arc::clone(inner), refuses: Mutex::default(), unreadable: AtomicBool::new(false) }
    }

    /// Refuses the next transaction that holds such an operation.
    pub fn refuse(&self, chooses: impl Fn(&Op) -> bool + Send + 'static) {
        *self.refuses.lock().unwrap() = Some(Box::new(chooses));
    }

    /// Whether what was to be refused has been.
    pub fn has_refused(&self) -> bool {
        self.refuses.lock().unwrap().is_none()
    }

    /// Whether the row of a run can be read.
    pub fn readable(&self, readable: bool) {
        self.unreadable.store(!readable, Ordering::SeqCst);
    }
}

impl Storage for Front {
    fn submit(&self, transaction: Transaction, done: Done) {
        let refused = {
            let mut refuses = self.refuses.lock().unwrap();
            let meets = refuses.as_ref().is_some_and(|chooses| transaction.iter().any(chooses));
            meets.then(|| refuses.take()).is_some()
        };
        if refused {
            return done(Err(StoreError::Full("no room".to_owned()).into()));
        }
        self.inner.submit(transaction, done);
    }

    fn load_session(&self, key: SessionKey) -> BoxFuture<Result<Option<StoredSession>, StoreError>> {
        self.inner.load_session(key)
    }

    fn session(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionRow>, StoreError>> {
        self.inner.session(key)
    }

    fn run(&self, run: RunId) -> BoxFuture<Result<Option<RunRow>, StoreError>> {
        if self.unreadable.load(Ordering::SeqCst) {
            return Box::pin(async { Err(StoreError::Unavailable("not readable".to_owned())) });
        }
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

    fn earlier(&self, key: RequestKey) -> BoxFuture<Result<Option<Earlier>, StoreError>> {
        self.inner.earlier(key)
    }

    fn open_runs(&self) -> BoxFuture<Result<Vec<OpenRun>, StoreError>> {
        self.inner.open_runs()
    }

    fn open_in_subtree(&self, key: SessionKey) -> BoxFuture<Result<Vec<SubtreeRun>, StoreError>> {
        self.inner.open_in_subtree(key)
    }

    fn waiting_sessions(&self) -> BoxFuture<Result<Vec<SessionKey>, StoreError>> {
        self.inner.waiting_sessions()
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
}
