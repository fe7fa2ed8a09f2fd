//! A tree with a model that does what the last message says, and notes when.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use offshoot::store::{Durability, SqliteStorage};
use offshoot::tools::AgentTools;
use offshoot_actors::ports::{
    Answer, BoxFuture, Clock, Event, EventSink, Ids, ModelError, ModelRequest, ModelSink, Models, Storage,
    TokioClock,
};
use offshoot_actors::types::{
    Accepted, AgentId, Entry, ModelRef, Origin, PromptRequest, RunId, SessionKey, Settings, SpawnRequest,
    Timestamp, ToolCall,
};
use offshoot_actors::{MemoryStorage, Tree, TreeHandle, TreeOptions};
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

/// What the model was seen doing.
#[derive(Debug, Clone, Copy)]
pub enum Seen {
    /// A spawn was accepted.
    Accepted { run: RunId, at: Instant },
    /// A run makes a model call; its last message holds results of children or not.
    Called { run: RunId, at: Instant, results: bool },
    /// The model answers a call.
    Answered { at: Instant },
}

/// Follows the model. Events go to `seen` while `telling`.
pub struct Probe {
    base: Instant,
    telling: bool,
    seen: mpsc::UnboundedSender<Seen>,
    /// Model calls that hang now.
    hanging: AtomicU64,
    /// When the last hanging call was dropped, in nanoseconds from `base`.
    dropped: AtomicU64,
    /// Lets gated calls answer.
    gate: Semaphore,
}

impl Probe {
    fn tell(&self, seen: Seen) {
        if self.telling {
            // At the end of a row nobody listens any more.
            let _ = self.seen.send(seen);
        }
    }

    pub fn hanging(&self) -> u64 {
        self.hanging.load(Ordering::Acquire)
    }

    /// How long after `begun` the last hanging call was dropped.
    pub fn last_drop_after(&self, begun: Instant) -> Duration {
        (self.base + Duration::from_nanos(self.dropped.load(Ordering::Acquire))).duration_since(begun)
    }
}

impl EventSink for Probe {
    fn publish(&self, event: Event) {
        if let Event::Spawned { child, .. } = event {
            self.tell(Seen::Accepted { run: child.run, at: Instant::now() });
        }
    }
}

/// A call that hangs, for as long as it is not dropped.
struct Hanging(Arc<Probe>);

impl Hanging {
    fn new(probe: Arc<Probe>) -> Self {
        probe.hanging.fetch_add(1, Ordering::AcqRel);
        Self(probe)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.base.elapsed().as_nanos()).unwrap();
        self.0.dropped.fetch_max(now, Ordering::AcqRel);
        self.0.hanging.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Model(Arc<Probe>);

impl Models for Model {
    fn resolve(&self, name: &str) -> Result<ModelRef, ModelError> {
        Ok(name.parse()?)
    }

    fn call(&self, request: ModelRequest, _: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>> {
        let at = Instant::now();
        let probe = Arc::clone(&self.0);
        let last = request.transcript.entries().last().map(|stored| &stored.entry);
        let results = matches!(last, Some(Entry::Announce { .. }));
        probe.tell(Seen::Called { run: request.run, at, results });
        let call = |id: &str, name: &str, arguments: &str| ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
        };
        match last {
            Some(Entry::User { text, .. }) if text.starts_with("hang") => {
                let hanging = Hanging::new(probe);
                // A call in flight holds no copy of the conversation: a real one has sent it.
                drop(request);
                Box::pin(async move {
                    let _hanging = hanging;
                    std::future::pending().await
                })
            }
            Some(Entry::User { text, .. }) if text == "gate" => Box::pin(async move {
                probe.gate.acquire().await.unwrap().forget();
                probe.tell(Seen::Answered { at: Instant::now() });
                Ok(Answer::text("done"))
            }),
            Some(Entry::User { text, .. }) if text == "spawn and wait" => {
                let spawn = call("1", "sessions_spawn", r#"{"task": "gate"}"#);
                Box::pin(async move { Ok(Answer::tools(vec![spawn])) })
            }
            Some(Entry::ToolResult { name, .. }) if &**name == "sessions_spawn" => {
                let wait = call("2", "sessions_yield", "{}");
                Box::pin(async move { Ok(Answer::tools(vec![wait])) })
            }
            _ => Box::pin(async move { Ok(Answer::text("ok")) }),
        }
    }
}

/// Ids as a daemon makes them.
struct RandomIds;

impl Ids for RandomIds {
    fn session(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn run(&self) -> Uuid {
        Uuid::now_v7()
    }

    fn secret(&self) -> [u8; 32] {
        let (first, second) = (Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes());
        std::array::from_fn(|index| if index < 16 { first[index] } else { second[index - 16] })
    }

    fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { Uuid::new_v4().as_u64_pair().1 % bound }
    }
}

/// How a world differs from the default one.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Runs of sub-agents at once.
    pub lane: u32,
    /// Whether the probe tells what it sees.
    pub telling: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { lane: 1_000_000, telling: true }
    }
}

pub struct World {
    pub tree: Tree,
    pub handle: TreeHandle,
    pub probe: Arc<Probe>,
    pub seen: mpsc::UnboundedReceiver<Seen>,
}

/// Limits out of the way.
pub fn settings(lane: u32) -> Settings {
    let mut settings = Settings::with_model(AgentId::main(), "bench/model".parse().unwrap());
    settings.subagents.max_children = 1_000_000;
    settings.subagents.max_descendants = 1_000_000;
    settings.lanes.main = 1_000;
    settings.lanes.subagent = lane;
    settings
}

pub fn clock() -> Arc<dyn Clock> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Arc::new(TokioClock::starting_at(Timestamp(i64::try_from(now.as_millis()).unwrap())))
}

impl World {
    pub async fn start(storage: Arc<dyn Storage>, plan: Plan) -> Self {
        Self::with(storage, plan, settings(plan.lane)).await
    }

    pub async fn with(storage: Arc<dyn Storage>, plan: Plan, settings: Settings) -> Self {
        let (sender, seen) = mpsc::unbounded_channel();
        let probe = Arc::new(Probe {
            base: Instant::now(),
            telling: plan.telling,
            seen: sender,
            hanging: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            gate: Semaphore::new(0),
        });
        let (clock, models) = (clock(), Arc::new(Model(Arc::clone(&probe))));
        let tools = Arc::new(AgentTools::new(Arc::clone(&clock)));
        let mut options = TreeOptions::new(clock, Arc::new(RandomIds), storage, models, tools, settings);
        options.events = Arc::clone(&probe) as Arc<dyn EventSink>;
        let tree = Tree::start(options).await.unwrap();
        let handle = tree.handle();
        Self { tree, handle, probe, seen }
    }

    pub async fn in_memory(plan: Plan) -> Self {
        Self::start(Arc::new(MemoryStorage::new()), plan).await
    }

    pub async fn durable(dir: &Path, plan: Plan) -> Self {
        Self::start(open(dir), plan).await
    }

    pub async fn spawn(&self, parent: &SessionKey, task: &str) -> Accepted {
        spawn(&self.handle, parent, task).await
    }

    /// Sends a message to a session; the answer says that it is accepted.
    pub async fn submit(&self, session: &SessionKey, text: &str) -> RunId {
        let request = PromptRequest::new(session.clone(), text);
        self.handle.submit(request, Origin::Operator).await.unwrap().run
    }

    /// Lets one gated call answer, and says when it did.
    pub async fn open_gate(&mut self) -> Instant {
        self.probe.gate.add_permits(1);
        self.next(|seen| match seen {
            Seen::Answered { at } => Some(at),
            _ => None,
        })
        .await
    }

    /// What `pick` picks of what is seen next.
    pub async fn next<T>(&mut self, pick: impl Fn(Seen) -> Option<T>) -> T {
        loop {
            if let Some(picked) = pick(self.seen.recv().await.unwrap()) {
                return picked;
            }
        }
    }

    /// When the spawn of `run` was accepted and when it made its first model call.
    pub async fn first_call(&mut self, run: RunId) -> (Instant, Instant) {
        let (mut accepted, mut called) = (None, None);
        loop {
            match self.seen.recv().await.unwrap() {
                Seen::Accepted { run: seen, at } if seen == run => accepted = Some(at),
                Seen::Called { run: seen, at, .. } if seen == run => called = Some(at),
                _ => {}
            }
            if let (Some(accepted), Some(called)) = (accepted, called) {
                return (accepted, called);
            }
        }
    }

    /// Waits until so many model calls hang.
    pub async fn wait_hanging(&self, count: u64) {
        while self.probe.hanging() < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub async fn spawn(handle: &TreeHandle, parent: &SessionKey, task: &str) -> Accepted {
    handle.spawn(SpawnRequest::new(parent.clone(), task), Origin::Operator).await.unwrap()
}

pub fn open(dir: &Path) -> Arc<SqliteStorage> {
    Arc::new(SqliteStorage::open(dir, Durability::Full).unwrap())
}

/// A session that nobody spawned.
pub fn root(number: usize) -> SessionKey {
    format!("agent:main:bench-{number}").parse().unwrap()
}

/// The task of every spawn that is measured: as long as a short task is.
pub const TASK: &str = "hang: read the three files, compare their totals, and answer with one line for each \
                        difference that you find, the largest first.";
