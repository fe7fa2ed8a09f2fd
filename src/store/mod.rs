//! The durable store: one SQLite database in the state directory.
//!
//! One thread writes and commits what waits for it together (`writer`); a few threads read beside it
//! (`readers`). A lock file lets one process write at a time; reading needs no lock.

mod apply;
pub(crate) mod audit;
pub mod backup;
mod condition;
mod error;
mod heads;
mod inspect;
mod lock;
mod place;
mod queries;
mod readers;
mod rows;
mod schema;
mod space;
#[cfg(test)]
mod tests;
mod threads;
mod writer;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use offshoot_actors::ports::{
    AuditFilter, AuditPage, BoxFuture, Consequences, DayUsage, DeliveryFilter, DeliveryRow, DeliveryTally,
    Done, Earlier, Host, LeftRun, ListFilter, OpenCallback, OpenRow, OpenRun, OverviewFilter, Overviews,
    Page, QuietFilter, QuietSession, RequestKey, RunRow, RunUse, SessionFigures, SessionRow, Storage,
    StoreError, StoreHealth, StoredPairing, StoredSession, SubtreeRun, Survivors, Tallies, ToolUse,
    ToolUseFilter, Transaction, Unfinished,
};
use offshoot_actors::types::{AgentId, RunId, SessionKey, StoredEntry, Timestamp, Usage};

pub use self::audit::{
    AuditError, AuditExportError, AuditExported, AuditHash, AuditReader, AuditVerified, verify_audit,
};
use self::condition::Condition;
pub use self::error::OpenError;
pub use self::inspect::{Inspection, NamedRun, NamedRuns};
use self::lock::StateLock;
pub use self::lock::{Holder, died_with_lock, holder, in_use, make_private, while_unused};
use self::readers::Readers;
pub(crate) use self::schema::DATABASE_FILE;
use self::schema::Database;
pub use self::space::compact;
use self::writer::{Work, Writer};

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process and of the machine's power.
    #[default]
    Full,
    /// The end of the process.
    Normal,
}

/// The store in a state directory. Dropping it closes it.
#[derive(Debug)]
pub struct SqliteStorage {
    file: PathBuf,
    writer: Option<Writer>,
    readers: Readers,
    condition: Arc<Condition>,
}

impl SqliteStorage {
    /// Opens the store for writing, as the only writer of its directory; makes what is missing, the directory
    /// with mode 0700 and its files with mode 0600.
    ///
    /// # Errors
    /// Another process writes there, the file is damaged or from a newer version, or the system refuses.
    pub fn open(dir: &Path, durability: Durability) -> Result<Self, OpenError> {
        let lock = StateLock::take(dir)?;
        let (database, connection) = Database::open_writer(dir, durability)?;
        let failed = |error| OpenError::store(database.file(), error);
        let condition = Arc::new(Condition::default());
        let readers = Readers::start(&database, None, Arc::clone(&condition)).map_err(failed)?;
        let work = Work {
            database: database.clone(),
            durability,
            connection,
            lock,
            condition: Arc::clone(&condition),
        };
        let writer = Writer::start(work).map_err(failed)?;
        Ok(Self { file: database.file().to_owned(), writer: Some(writer), readers, condition })
    }

    /// Opens the store for reading, beside whoever writes. Takes no lock and makes no file. Every transaction
    /// is refused with [`StoreError::ReadOnly`].
    ///
    /// A database without SQLite's `-wal` file beside it, such as a copy, is read as a file that does not
    /// change while it is open.
    ///
    /// # Errors
    /// [`OpenError::Missing`] if there is no store; the file is damaged or from another version, or the system
    /// refuses.
    pub fn open_read_only(dir: &Path) -> Result<Self, OpenError> {
        let (database, connection) = Database::for_reading(dir)?;
        let failed = |error| OpenError::store(database.file(), error);
        let condition = Arc::new(Condition::default());
        let readers = Readers::start(&database, Some(connection), Arc::clone(&condition)).map_err(failed)?;
        Ok(Self { file: database.file().to_owned(), writer: None, readers, condition })
    }

    /// The ids of runs that begin with this text, the newest first, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn runs_beginning(&self, text: String, limit: u32) -> Result<Vec<RunId>, StoreError> {
        self.readers.ask(move |connection| queries::runs_beginning(connection, &text, limit)).await
    }

    /// The database file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// How the writer's connection is set up, as SQLite itself says: pragmas and their values. Empty for a store
    /// that was opened for reading. Blocks until the writer is between two batches.
    #[must_use]
    pub fn pragmas(&self) -> Vec<(&'static str, String)> {
        let Some(writer) = &self.writer else { return Vec::new() };
        let (answer, answered) = std::sync::mpsc::channel();
        writer.visit(move |connection| {
            // Who asked waits below.
            _ = answer.send(schema::pragmas(connection));
        });
        answered.recv().unwrap_or_default()
    }

    /// Finishes what was submitted, closes the database and gives up the lock. What comes later is refused
    /// with [`StoreError::Unavailable`]. Blocks until it is done.
    pub fn close(&self) {
        self.readers.close();
        if let Some(writer) = &self.writer {
            writer.close();
        }
    }
}

impl Drop for SqliteStorage {
    fn drop(&mut self) {
        self.close();
    }
}

impl Storage for SqliteStorage {
    fn submit(&self, transaction: Transaction, done: Done) {
        match &self.writer {
            Some(writer) => writer.submit(transaction, done),
            None => {
                let problem = format!("{} was opened for reading", self.file.display());
                done(Err(StoreError::ReadOnly(problem).into()));
            }
        }
    }

    fn health(&self) -> StoreHealth {
        self.condition.health()
    }

    fn try_again(&self) {
        if let Some(writer) = &self.writer {
            writer.try_again();
        }
    }

    fn load_session(&self, key: SessionKey) -> BoxFuture<Result<Option<StoredSession>, StoreError>> {
        self.readers.ask(move |connection| queries::load_session(connection, &key))
    }

    fn session(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionRow>, StoreError>> {
        self.readers.ask(move |connection| queries::session(connection, &key))
    }

    fn run(&self, run: RunId) -> BoxFuture<Result<Option<RunRow>, StoreError>> {
        self.readers.ask(move |connection| queries::run(connection, run))
    }

    fn entries(
        &self,
        key: SessionKey,
        from: u64,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        self.readers.ask(move |connection| queries::entries(connection, &key, from, limit))
    }

    fn latest_entries(
        &self,
        key: SessionKey,
        before: Option<u64>,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        self.readers.ask(move |connection| queries::latest_entries(connection, &key, before, limit))
    }

    fn earlier(&self, key: RequestKey) -> BoxFuture<Result<Option<Earlier>, StoreError>> {
        self.readers.ask(move |connection| queries::earlier(connection, &key))
    }

    fn open_runs(&self) -> BoxFuture<Result<Vec<OpenRun>, StoreError>> {
        self.readers.ask(queries::open_runs)
    }

    fn open_rows(&self) -> BoxFuture<Result<Vec<OpenRow>, StoreError>> {
        self.readers.ask(queries::open_rows)
    }

    fn left_runs(&self) -> BoxFuture<Result<Vec<LeftRun>, StoreError>> {
        self.readers.ask(queries::left_runs)
    }

    fn open_in_subtree(&self, key: SessionKey) -> BoxFuture<Result<Vec<SubtreeRun>, StoreError>> {
        self.readers.ask(move |connection| queries::open_in_subtree(connection, &key))
    }

    fn survivors(&self, key: SessionKey) -> BoxFuture<Result<Survivors, StoreError>> {
        self.readers.ask(move |connection| queries::survivors(connection, &key))
    }

    fn waiting_sessions(&self) -> BoxFuture<Result<Vec<SessionKey>, StoreError>> {
        self.readers.ask(queries::waiting_sessions)
    }

    fn unfinished(&self, root: SessionKey, host: Host) -> BoxFuture<Result<Unfinished, StoreError>> {
        self.readers.ask(move |connection| queries::unfinished(connection, &root, host))
    }

    fn undelivered(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionKey>, StoreError>> {
        self.readers.ask(move |connection| queries::undelivered(connection, &key))
    }

    fn session_figures(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionFigures>, StoreError>> {
        self.readers.ask(move |connection| queries::session_figures(connection, &key))
    }

    fn subtree_usage(&self, key: SessionKey) -> BoxFuture<Result<Usage, StoreError>> {
        self.readers.ask(move |connection| queries::subtree_usage(connection, &key))
    }

    fn list_sessions(
        &self,
        filter: ListFilter,
        page: Page,
    ) -> BoxFuture<Result<Vec<SessionRow>, StoreError>> {
        self.readers.ask(move |connection| queries::list_sessions(connection, &filter, page))
    }

    fn quiet_sessions(
        &self,
        filter: QuietFilter,
        limit: u32,
    ) -> BoxFuture<Result<Vec<QuietSession>, StoreError>> {
        self.readers.ask(move |connection| queries::quiet_sessions(connection, &filter, limit))
    }

    fn overviews(&self, filter: OverviewFilter, page: Page) -> BoxFuture<Result<Overviews, StoreError>> {
        self.readers.ask(move |connection| queries::overviews(connection, &filter, page))
    }

    fn list_runs(&self, filter: ListFilter, page: Page) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        self.readers.ask(move |connection| queries::list_runs(connection, &filter, page))
    }

    fn tallies(&self) -> BoxFuture<Result<Tallies, StoreError>> {
        self.readers.ask(queries::tallies)
    }

    fn usage_by_day(
        &self,
        from: Timestamp,
        until: Timestamp,
        offset_ms: i64,
    ) -> BoxFuture<Result<Vec<DayUsage>, StoreError>> {
        self.readers.ask(move |connection| queries::usage_by_day(connection, from..until, offset_ms))
    }

    fn tool_uses(&self, filter: ToolUseFilter) -> BoxFuture<Result<Vec<ToolUse>, StoreError>> {
        self.readers.ask(move |connection| queries::tool_uses(connection, &filter))
    }

    fn consequences(
        &self,
        run: RunId,
        session: Option<SessionKey>,
        limit: u32,
    ) -> BoxFuture<Result<Consequences, StoreError>> {
        self.readers.ask(move |connection| queries::consequences(connection, run, session.as_ref(), limit))
    }

    fn runs_named(&self, wire_id: String, limit: u32) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        self.readers.ask(move |connection| queries::runs_named(connection, &wire_id, limit))
    }

    fn run_uses(&self, filter: ToolUseFilter, most: u32) -> BoxFuture<Result<Vec<RunUse>, StoreError>> {
        self.readers.ask(move |connection| queries::run_uses(connection, &filter, most))
    }

    fn pairing(&self) -> BoxFuture<Result<StoredPairing, StoreError>> {
        self.readers.ask(queries::pairing)
    }

    fn callbacks(&self) -> BoxFuture<Result<Vec<OpenCallback>, StoreError>> {
        self.readers.ask(queries::callbacks)
    }

    fn deliveries(
        &self,
        filter: DeliveryFilter,
        page: Page,
    ) -> BoxFuture<Result<Vec<DeliveryRow>, StoreError>> {
        self.readers.ask(move |connection| queries::deliveries(connection, &filter, page))
    }

    fn delivery_tally(
        &self,
        agents: Option<Arc<BTreeSet<AgentId>>>,
    ) -> BoxFuture<Result<DeliveryTally, StoreError>> {
        self.readers.ask(move |connection| queries::delivery_tally(connection, agents.as_deref()))
    }

    fn audit_rows(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> BoxFuture<Result<AuditPage, StoreError>> {
        self.readers.ask(move |connection| audit::page(connection, &filter, before, limit))
    }
}
