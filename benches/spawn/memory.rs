//! What a live child session takes in RAM. Each figure comes from a process of its own.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{
    AuditFilter, AuditPage, BoxFuture, Consequences, DayUsage, DeliveryFilter, DeliveryRow, DeliveryTally,
    Done, Earlier, Host, LeftRun, ListFilter, OpenCallback, OpenRow, OpenRun, OverviewFilter, Overviews,
    Page, QuietFilter, QuietSession, RequestKey, RunRow, RunUse, SessionFigures, SessionRow, Storage,
    StoreError, StoredPairing, StoredSession, SubtreeRun, Survivors, Tallies, ToolUse, ToolUseFilter,
    Transaction, Unfinished,
};
use offshoot_actors::types::{AgentId, RunId, SessionKey, StoredEntry, Timestamp, Usage};
use tokio::sync::mpsc;

use crate::common::Args;
use crate::common::machine::{resident, state_dir};
use crate::common::report::{Row, Verdict};
use crate::world::{Plan, TASK, World, open, root, spawn};

/// The argument that makes this program measure one figure and print it.
pub const CHILD: &str = "--measure-memory";
const KINDS: [&str; 4] = ["sqlite", "memory", "nothing", "tasks"];
const AT_ONCE: usize = 256;

/// A store that says yes and keeps nothing: what is left is the tree alone.
struct NoStorage;

fn nothing<T: Send + 'static>(value: T) -> BoxFuture<Result<T, StoreError>> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Storage for NoStorage {
    fn submit(&self, _: Transaction, done: Done) {
        done(Ok(()));
    }
    fn load_session(&self, _: SessionKey) -> BoxFuture<Result<Option<StoredSession>, StoreError>> {
        nothing(None)
    }
    fn session(&self, _: SessionKey) -> BoxFuture<Result<Option<SessionRow>, StoreError>> {
        nothing(None)
    }
    fn run(&self, _: RunId) -> BoxFuture<Result<Option<RunRow>, StoreError>> {
        nothing(None)
    }
    fn entries(&self, _: SessionKey, _: u64, _: u32) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        nothing(Vec::new())
    }
    fn latest_entries(
        &self,
        _: SessionKey,
        _: Option<u64>,
        _: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        nothing(Vec::new())
    }
    fn quiet_sessions(&self, _: QuietFilter, _: u32) -> BoxFuture<Result<Vec<QuietSession>, StoreError>> {
        nothing(Vec::new())
    }

    fn overviews(&self, _: OverviewFilter, _: Page) -> BoxFuture<Result<Overviews, StoreError>> {
        nothing(Overviews::default())
    }
    fn earlier(&self, _: RequestKey) -> BoxFuture<Result<Option<Earlier>, StoreError>> {
        nothing(None)
    }
    fn open_runs(&self) -> BoxFuture<Result<Vec<OpenRun>, StoreError>> {
        nothing(Vec::new())
    }
    fn open_rows(&self) -> BoxFuture<Result<Vec<OpenRow>, StoreError>> {
        nothing(Vec::new())
    }
    fn left_runs(&self) -> BoxFuture<Result<Vec<LeftRun>, StoreError>> {
        nothing(Vec::new())
    }
    fn open_in_subtree(&self, _: SessionKey) -> BoxFuture<Result<Vec<SubtreeRun>, StoreError>> {
        nothing(Vec::new())
    }
    fn survivors(&self, _: SessionKey) -> BoxFuture<Result<Survivors, StoreError>> {
        nothing(Survivors::default())
    }
    fn waiting_sessions(&self) -> BoxFuture<Result<Vec<SessionKey>, StoreError>> {
        nothing(Vec::new())
    }
    fn unfinished(&self, _: SessionKey, _: Host) -> BoxFuture<Result<Unfinished, StoreError>> {
        nothing(Unfinished::default())
    }
    fn undelivered(&self, _: SessionKey) -> BoxFuture<Result<Option<SessionKey>, StoreError>> {
        nothing(None)
    }
    fn subtree_usage(&self, _: SessionKey) -> BoxFuture<Result<Usage, StoreError>> {
        nothing(Usage::default())
    }
    fn session_figures(&self, _: SessionKey) -> BoxFuture<Result<Option<SessionFigures>, StoreError>> {
        nothing(None)
    }
    fn list_sessions(&self, _: ListFilter, _: Page) -> BoxFuture<Result<Vec<SessionRow>, StoreError>> {
        nothing(Vec::new())
    }
    fn list_runs(&self, _: ListFilter, _: Page) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        nothing(Vec::new())
    }

    fn tallies(&self) -> BoxFuture<Result<Tallies, StoreError>> {
        nothing(Tallies::default())
    }

    fn usage_by_day(
        &self,
        _: Timestamp,
        _: Timestamp,
        _: i64,
    ) -> BoxFuture<Result<Vec<DayUsage>, StoreError>> {
        nothing(Vec::new())
    }

    fn tool_uses(&self, _: ToolUseFilter) -> BoxFuture<Result<Vec<ToolUse>, StoreError>> {
        nothing(Vec::new())
    }

    fn consequences(
        &self,
        _: RunId,
        _: Option<SessionKey>,
        _: u32,
    ) -> BoxFuture<Result<Consequences, StoreError>> {
        nothing(Consequences::default())
    }

    fn runs_named(&self, _: String, _: u32) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        nothing(Vec::new())
    }

    fn run_uses(&self, _: ToolUseFilter, _: u32) -> BoxFuture<Result<Vec<RunUse>, StoreError>> {
        nothing(Vec::new())
    }

    fn pairing(&self) -> BoxFuture<Result<StoredPairing, StoreError>> {
        nothing(StoredPairing::default())
    }

    fn callbacks(&self) -> BoxFuture<Result<Vec<OpenCallback>, StoreError>> {
        nothing(Vec::new())
    }

    fn deliveries(&self, _: DeliveryFilter, _: Page) -> BoxFuture<Result<Vec<DeliveryRow>, StoreError>> {
        nothing(Vec::new())
    }

    fn delivery_tally(
        &self,
        _: Option<Arc<BTreeSet<AgentId>>>,
    ) -> BoxFuture<Result<DeliveryTally, StoreError>> {
        nothing(DeliveryTally::default())
    }

    fn audit_rows(&self, _: AuditFilter, _: Option<i64>, _: u32) -> BoxFuture<Result<AuditPage, StoreError>> {
        nothing(AuditPage::default())
    }
}

/// In the process that is measured: makes what `kind` says `count` times and prints bytes before and after.
pub async fn child(kind: &str, count: usize) {
    let dir = state_dir();
    let (before, after) = match kind {
        "tasks" => tasks(count).await,
        "sqlite" => sessions(open(dir.path()), count).await,
        "memory" => sessions(Arc::new(MemoryStorage::new()), count).await,
        _ => sessions(Arc::new(NoStorage), count).await,
    };
    println!("{before} {after}");
}

/// Bare tasks that wait at a channel of their own.
async fn tasks(count: usize) -> (u64, u64) {
    let before = resident();
    let doors: Vec<_> = (0..count)
        .map(|_| {
            let (door, mut messages) = mpsc::unbounded_channel::<Box<[u8]>>();
            (door, tokio::spawn(async move { while messages.recv().await.is_some() {} }))
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let after = resident();
    drop(doors);
    (before, after)
}

async fn sessions(storage: Arc<dyn Storage>, count: usize) -> (u64, u64) {
    let world = World::start(storage, Plan { telling: false, ..Plan::default() }).await;
    world.spawn(&root(0), TASK).await;
    world.wait_hanging(1).await;
    let before = resident();
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|worker| {
            let handle = world.handle.clone();
            tokio::spawn(async move {
                for _ in 0..count / AT_ONCE + usize::from(worker < count % AT_ONCE) {
                    spawn(&handle, &root(0), TASK).await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    world.wait_hanging(u64::try_from(count).unwrap() + 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    (before, resident())
}

/// Bytes for each of `count`, and megabytes before and after.
fn measured(kind: &str, count: usize) -> (f64, f64, f64) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([CHILD, kind, &count.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let &[before, after] = numbers.as_slice() else {
        panic!("{kind} was not measured: {}", String::from_utf8_lossy(&output.stderr));
    };
    let each = (after.saturating_sub(before)) as f64 / count as f64;
    (each, before as f64 / 1e6, after as f64 / 1e6)
}

pub fn measure(args: &Args) -> Vec<Row> {
    let count = args.samples(100_000, 10_000);
    let [sqlite, memory, bare, tasks] = KINDS.map(|kind| measured(kind, count));
    let row = Row::new(format!("memory: {count} live child sessions, run alive and model call in flight"))
        .verdict(Verdict::at_most(sqlite.0 / 1024.0, 24.0, "KiB each").by("SQLite FULL"))
        .value("with SQLite (its page cache included)", sqlite.0, "bytes each")
        .value("with a store that keeps nothing", bare.0, "bytes each")
        .value("with the in-memory store, its rows included", memory.0, "bytes each")
        .value("floor: tokio task waiting at its channel", tasks.0, "bytes each");
    let rss = |(_, before, after): (f64, f64, f64)| format!("{before:.1} to {after:.1} MB");
    vec![row.note(format!(
        "resident before and after: SQLite {}, nothing {}, in memory {}, tasks {}",
        rss(sqlite),
        rss(bare),
        rss(memory),
        rss(tasks)
    ))]
}
