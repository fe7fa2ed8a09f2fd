//! Durable storage as a port: transactions in, rows out.
//!
//! The contract, which one suite tests against every implementation:
//!
//! - Transactions are applied in the order of submission, each of them whole or not at all. A refused one
//!   leaves no trace and does not disturb its neighbours.
//! - `done` is called exactly once per transaction: after it is durable, or after it was refused.
//! - A read that begins after a `done` sees what that transaction wrote.
//! - An empty transaction is a barrier: its `done` comes after all earlier ones.

mod audit;
mod deliveries;
mod health;
mod ops;
mod pairing;
mod reads;
mod rows;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use self::audit::{AuditColumns, AuditFilter, AuditPage, AuditPageOf, AuditRow};
pub use self::deliveries::{
    CallbackMark, DeliveryFilter, DeliveryKind, DeliveryRow, DeliveryState, DeliveryStatus, DeliveryTally,
    OpenCallback, Receiver, Undeliverable, UnknownDelivery,
};
pub use self::health::{StoreHealth, Trouble};
pub use self::ops::{AuditRecord, Done, Op, Refused, RunEnd, StoreError, ToolMark, Transaction};
pub use self::pairing::{BootstrapRow, DeviceRow, DeviceTokenRow, PairRequestRow, StoredPairing};
pub use self::reads::{
    Consequences, DAY_MS, DayUsage, Earlier, LeftRun, ListFilter, OpenRow, OpenRun, Overview, OverviewFilter,
    Overviews, Page, QuietFilter, QuietSession, RunGlance, RunTally, RunTrace, RunUse, SessionFigures,
    StoredSession, SubtreeRun, Survivors, Tallies, ToolUse, ToolUseFilter, Unfinished,
};
pub use self::rows::{Announce, CallbackRow, Cause, Host, RequestKey, RunRow, RunState, SessionRow, Steer};
use super::BoxFuture;
use crate::types::{AgentId, RunId, SessionKey, StoredEntry, Timestamp, Usage};

/// Keeps what must survive.
pub trait Storage: Send + Sync + 'static {
    /// Applies a transaction. Returns at once.
    fn submit(&self, transaction: Transaction, done: Done);

    /// How it is, as its latest work has found it. Never waits. One that cannot fail is always well.
    fn health(&self) -> StoreHealth {
        StoreHealth::default()
    }

    /// Has it try anew whether it takes transactions, where the latest was refused. Returns at once; what comes of it is
    /// in [`Storage::health`] later.
    fn try_again(&self) {}

    /// A session with all that its actor needs.
    fn load_session(&self, key: SessionKey) -> BoxFuture<Result<Option<StoredSession>, StoreError>>;

    /// A session's row.
    fn session(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionRow>, StoreError>>;

    /// A run's row.
    fn run(&self, run: RunId) -> BoxFuture<Result<Option<RunRow>, StoreError>>;

    /// A page of a transcript: entries with `from <= seq`, oldest first.
    fn entries(
        &self,
        key: SessionKey,
        from: u64,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>>;

    /// The latest entries of a transcript with `seq < before`, oldest first; none means the latest of all.
    fn latest_entries(
        &self,
        key: SessionKey,
        before: Option<u64>,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>>;

    /// The request of that name, if it was carried out.
    fn earlier(&self, key: RequestKey) -> BoxFuture<Result<Option<Earlier>, StoreError>>;

    /// Every open run, oldest first.
    fn open_runs(&self) -> BoxFuture<Result<Vec<OpenRun>, StoreError>>;

    /// Every open run with its row and its session, oldest first. All of one moment.
    fn open_rows(&self) -> BoxFuture<Result<Vec<OpenRow>, StoreError>>;

    /// Every open run with what a start of the daemon decides on, oldest first.
    fn left_runs(&self) -> BoxFuture<Result<Vec<LeftRun>, StoreError>>;

    /// The open runs of a session and of all its descendants, deepest first.
    fn open_in_subtree(&self, key: SessionKey) -> BoxFuture<Result<Vec<SubtreeRun>, StoreError>>;

    /// Who outlives this session if it goes away with all that goes with it, and who is above it. All of one moment.
    fn survivors(&self, key: SessionKey) -> BoxFuture<Result<Survivors, StoreError>>;

    /// Sessions that have results or steering messages waiting for them.
    fn waiting_sessions(&self) -> BoxFuture<Result<Vec<SessionKey>, StoreError>>;

    /// What is not done in the tree of this root session, of runs only those that this kind of process accepted. All of
    /// one moment.
    fn unfinished(&self, root: SessionKey, host: Host) -> BoxFuture<Result<Unfinished, StoreError>>;

    /// Some session that is still to take a result of this session or of one of its descendants, or anything that
    /// waits for one of them. Descendants that outlive their parents, and results that nobody takes, are left out.
    fn undelivered(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionKey>, StoreError>>;

    /// Tokens of all runs of a session and of all its descendants, the deleted ones included.
    fn subtree_usage(&self, key: SessionKey) -> BoxFuture<Result<Usage, StoreError>>;

    /// What a session and those below it have used, all of one moment; none if there is no such session.
    fn session_figures(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionFigures>, StoreError>>;

    /// Sessions of mode `run` that `DeleteSession` would delete, by the time when they were last written to and then by
    /// key, at most `limit`.
    fn quiet_sessions(
        &self,
        filter: QuietFilter,
        limit: u32,
    ) -> BoxFuture<Result<Vec<QuietSession>, StoreError>>;

    /// Sessions, newest first.
    fn list_sessions(&self, filter: ListFilter, page: Page)
    -> BoxFuture<Result<Vec<SessionRow>, StoreError>>;

    /// Sessions with what a list shows of them, the one written to last first. All of one moment.
    fn overviews(&self, filter: OverviewFilter, page: Page) -> BoxFuture<Result<Overviews, StoreError>>;

    /// Runs, newest first.
    fn list_runs(&self, filter: ListFilter, page: Page) -> BoxFuture<Result<Vec<RunRow>, StoreError>>;

    /// What a run led to, all of one moment: of one session or of all, and of these the newest, at most `limit`, which may
    /// be 0. Empty if there is no such run.
    fn consequences(
        &self,
        run: RunId,
        session: Option<SessionKey>,
        limit: u32,
    ) -> BoxFuture<Result<Consequences, StoreError>>;

    /// The runs that clients gave this name, the newest first, at most `limit`.
    fn runs_named(&self, wire_id: String, limit: u32) -> BoxFuture<Result<Vec<RunRow>, StoreError>>;

    /// How many sessions and runs there are, by kind.
    fn tallies(&self) -> BoxFuture<Result<Tallies, StoreError>>;

    /// What runs used that ended, or if they have not, were accepted, at or after `from` and before `until`: day by
    /// day and model by model, the first one first, without the days when nothing was used. A day begins `offset_ms` before that of UTC.
    fn usage_by_day(
        &self,
        from: Timestamp,
        until: Timestamp,
        offset_ms: i64,
    ) -> BoxFuture<Result<Vec<DayUsage>, StoreError>>;

    /// Tool calls by session, tool and day, in this order.
    fn tool_uses(&self, filter: ToolUseFilter) -> BoxFuture<Result<Vec<ToolUse>, StoreError>>;

    /// What runs used by session, model and day: of the rows whose latest runs are the last ones, at most `most`, in this
    /// order.
    fn run_uses(&self, filter: ToolUseFilter, most: u32) -> BoxFuture<Result<Vec<RunUse>, StoreError>>;

    /// Devices, their tokens, and what waits for approval. All of one moment.
    fn pairing(&self) -> BoxFuture<Result<StoredPairing, StoreError>>;

    /// Where results are wanted that are still to be delivered, by run. Without those for which nothing more is tried.
    fn callbacks(&self) -> BoxFuture<Result<Vec<OpenCallback>, StoreError>>;

    /// What is to reach somebody or has reached them, the result of the newest run first; of one run the announce
    /// first.
    fn deliveries(
        &self,
        filter: DeliveryFilter,
        page: Page,
    ) -> BoxFuture<Result<Vec<DeliveryRow>, StoreError>>;

    /// How many deliveries are not settled, all of one moment; `agents` as in [`DeliveryFilter`].
    fn delivery_tally(
        &self,
        agents: Option<Arc<BTreeSet<AgentId>>>,
    ) -> BoxFuture<Result<DeliveryTally, StoreError>>;

    /// Rows of the audit record before this one, the newest first, at most `limit`, and fewer where too many would have
    /// to be looked at; none means the newest of all.
    fn audit_rows(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> BoxFuture<Result<AuditPage, StoreError>>;
}
