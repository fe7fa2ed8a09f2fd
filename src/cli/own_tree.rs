//! The store as the tree of one command sees it.

use std::collections::BTreeSet;
use std::sync::Arc;

use offshoot_actors::ports::{
    BoxFuture, Done, Earlier, ListFilter, OpenRun, Page, RequestKey, RunRow, SessionRow, Storage, StoreError,
    StoredSession, SubtreeRun, Transaction,
};
use offshoot_actors::types::{RunId, SessionKey, StoredEntry, Usage};
use tokio::sync::OnceCell;

/// The store, without the sessions of other trees for which results waited before the command did anything: a
/// command does not run sessions that nobody asked it to run, and does not wait for them.
pub(crate) struct OwnTree {
    storage: Arc<dyn Storage>,
    root: SessionKey,
    /// Known from the first question on, which the tree asks when it starts.
    others: Arc<OnceCell<BTreeSet<SessionKey>>>,
}

impl OwnTree {
    /// The store as the tree of `root` sees it.
    pub(crate) fn new(storage: Arc<dyn Storage>, root: SessionKey) -> Self {
        Self { storage, root, others: Arc::default() }
    }
}

async fn of_other_trees(
    storage: &dyn Storage,
    root: &SessionKey,
    waiting: &[SessionKey],
) -> Result<BTreeSet<SessionKey>, StoreError> {
    let mut others = BTreeSet::new();
    for key in waiting {
        if storage.session(key.clone()).await?.is_none_or(|row| row.root != *root) {
            others.insert(key.clone());
        }
    }
    Ok(others)
}

impl Storage for OwnTree {
    fn waiting_sessions(&self) -> BoxFuture<Result<Vec<SessionKey>, StoreError>> {
        let (storage, root, others) =
            (Arc::clone(&self.storage), self.root.clone(), Arc::clone(&self.others));
        Box::pin(async move {
            let mut waiting = storage.waiting_sessions().await?;
            let others = others.get_or_try_init(|| of_other_trees(&*storage, &root, &waiting)).await?;
            waiting.retain(|key| !others.contains(key));
            Ok(waiting)
        })
    }

    fn submit(&self, transaction: Transaction, done: Done) {
        self.storage.submit(transaction, done);
    }

    fn load_session(&self, key: SessionKey) -> BoxFuture<Result<Option<StoredSession>, StoreError>> {
        self.storage.load_session(key)
    }

    fn session(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionRow>, StoreError>> {
        self.storage.session(key)
    }

    fn run(&self, run: RunId) -> BoxFuture<Result<Option<RunRow>, StoreError>> {
        self.storage.run(run)
    }

    fn entries(
        &self,
        key: SessionKey,
        from: u64,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        self.storage.entries(key, from, limit)
    }

    fn earlier(&self, key: RequestKey) -> BoxFuture<Result<Option<Earlier>, StoreError>> {
        self.storage.earlier(key)
    }

    fn open_runs(&self) -> BoxFuture<Result<Vec<OpenRun>, StoreError>> {
        self.storage.open_runs()
    }

    fn open_in_subtree(&self, key: SessionKey) -> BoxFuture<Result<Vec<SubtreeRun>, StoreError>> {
        self.storage.open_in_subtree(key)
    }

    fn subtree_usage(&self, key: SessionKey) -> BoxFuture<Result<Usage, StoreError>> {
        self.storage.subtree_usage(key)
    }

    fn list_sessions(
        &self,
        filter: ListFilter,
        page: Page,
    ) -> BoxFuture<Result<Vec<SessionRow>, StoreError>> {
        self.storage.list_sessions(filter, page)
    }

    fn list_runs(&self, filter: ListFilter, page: Page) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        self.storage.list_runs(filter, page)
    }
}
