//! A tree on an in-memory store with a scripted model that records every call, and a checker of what must hold
//! when it is quiet.
#![allow(dead_code)]

mod checks;
mod events;
mod faulty;
mod model;
#[cfg(feature = "faults")]
mod once;
mod tools;

use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::ports::{
    Answer, BoxFuture, Clock, EventSink, Host, ListFilter, ModelError, Page, RunRow, SeededIds, Storage,
    TokioClock,
};
use offshoot_actors::types::{
    Accepted, AgentId, Origin, Outcome, PromptRequest, RunId, SessionKey, Settings, StoredEntry, Timestamp,
};
use offshoot_actors::{MemoryStorage, Tree, TreeHandle, TreeOptions};

pub use self::events::Events;
pub use self::faulty::{Answered, Asked, Faulty};
use self::model::Scripted;
pub use self::model::{Call, Log, brief, items, texts};
#[cfg(feature = "faults")]
pub use self::once::{Once, with};
use self::tools::Toolbox;
pub use self::tools::{call, request};

pub fn main_key() -> SessionKey {
    "agent:main:main".parse().unwrap()
}

/// How a tree is set up.
pub struct Setup {
    pub settings: Settings,
    pub storage: Arc<MemoryStorage>,
    /// The store as the tree sees it, where that is not `storage`.
    pub faulty: Option<Arc<Faulty>>,
    pub seed: u64,
    pub host: Host,
    pub only_root: Option<SessionKey>,
    /// When it starts.
    pub at: Timestamp,
    /// Whether what happened before, on the same store, counts for the checks of events.
    pub fresh: bool,
    #[cfg(feature = "faults")]
    pub faults: Option<Arc<dyn offshoot_actors::kit::Faults>>,
}

pub fn setup() -> Setup {
    Setup {
        settings: Settings::with_model(AgentId::main(), "test/script".parse().unwrap()),
        storage: Arc::new(MemoryStorage::new()),
        faulty: None,
        seed: 7,
        host: Host::OneShot,
        only_root: None,
        at: Timestamp(1_700_000_000_000),
        fresh: true,
        #[cfg(feature = "faults")]
        faults: None,
    }
}

impl Setup {
    pub fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub fn on(mut self, storage: &Arc<MemoryStorage>, seed: u64) -> Self {
        (self.storage, self.seed, self.fresh) = (Arc::clone(storage), seed, false);
        self
    }

    /// Starts so long after the others.
    pub fn later(mut self, time: Duration) -> Self {
        self.at = self.at + time;
        self
    }

    /// Puts a store in between whose answers can be spoiled.
    pub fn faulty(mut self) -> (Self, Arc<Faulty>) {
        let faulty = Faulty::new(&self.storage);
        self.faulty = Some(Arc::clone(&faulty));
        (self, faulty)
    }

    pub async fn start<F, R>(self, script: F) -> Rig
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Answer, ModelError>> + Send + 'static,
    {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(self.at));
        let log = Arc::new(Log::default());
        let events = Arc::new(Events::default());
        let tools = Toolbox::new(Arc::clone(&clock), Arc::clone(&log));
        let models = Scripted {
            script: Arc::new(move |call| -> BoxFuture<_> { Box::pin(script(call)) }),
            log: Arc::clone(&log),
            clock: Arc::clone(&clock),
        };
        let storage = match self.faulty {
            Some(faulty) => faulty as Arc<dyn Storage>,
            None => Arc::clone(&self.storage) as Arc<dyn Storage>,
        };
        let mut options = TreeOptions::new(
            Arc::clone(&clock),
            Arc::new(SeededIds::new(self.seed)),
            storage,
            Arc::new(models),
            Arc::new(tools),
            self.settings,
        );
        options.events = Arc::clone(&events) as Arc<dyn EventSink>;
        (options.host, options.only_root) = (self.host, self.only_root);
        #[cfg(feature = "faults")]
        {
            options.faults = self.faults;
        }
        let tree = Tree::start(options).await.unwrap();
        Rig { handle: tree.handle(), tree, storage: self.storage, events, log, clock, fresh: self.fresh }
    }
}

pub struct Rig {
    pub tree: Tree,
    pub handle: TreeHandle,
    pub storage: Arc<MemoryStorage>,
    pub events: Arc<Events>,
    pub log: Arc<Log>,
    pub clock: Arc<dyn Clock>,
    fresh: bool,
}

/// Nothing here takes longer, also with virtual time; a wait past it is a hang.
#[expect(clippy::disallowed_methods, reason = "bounds a test, not the tree")]
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(36_000), future)
        .await
        .unwrap_or_else(|_| panic!("hangs: {what}"))
}

impl Rig {
    pub async fn spawn(&self, arguments: &str) -> Accepted {
        self.spawn_in(main_key(), arguments).await
    }

    pub async fn spawn_in(&self, parent: SessionKey, arguments: &str) -> Accepted {
        soon(arguments, self.handle.spawn(request(parent, arguments), Origin::Operator)).await.unwrap()
    }

    pub async fn say(&self, text: &str) -> RunId {
        self.say_to(main_key(), text).await
    }

    pub async fn say_to(&self, session: SessionKey, text: &str) -> RunId {
        let request = PromptRequest::new(session, text);
        soon(text, self.handle.submit(request, Origin::Operator)).await.unwrap().run
    }

    pub async fn outcome(&self, run: RunId) -> Outcome {
        soon("the end of a run", self.handle.outcome(run)).await.unwrap()
    }

    pub async fn answer(&self, text: &str) -> Outcome {
        let run = self.say(text).await;
        self.outcome(run).await
    }

    pub async fn sleep(&self, ms: u64) {
        self.clock.sleep(Duration::from_millis(ms)).await;
    }

    pub async fn quiet(&self) {
        soon("quiet", self.handle.quiet(&main_key())).await.unwrap();
    }

    pub fn row(&self, run: RunId) -> RunRow {
        self.storage.all_runs().into_iter().find(|row| row.id == run).unwrap()
    }

    pub fn runs_of(&self, session: &SessionKey) -> Vec<RunRow> {
        self.storage.all_runs().into_iter().filter(|row| row.session == *session).collect()
    }

    pub fn transcript(&self, session: &SessionKey) -> Vec<Arc<StoredEntry>> {
        self.storage.transcripts().remove(session).unwrap_or_default()
    }

    /// The paths of live actors of a kind.
    pub fn live(&self, kind: &str) -> Vec<String> {
        let views = self.handle.actors();
        views.into_iter().filter(|view| view.kind == kind).map(|view| view.path).collect()
    }

    /// Waits until `condition` holds, moving virtual time.
    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        soon(what, async {
            while !condition(self) {
                self.sleep(1).await;
            }
        })
        .await;
    }

    /// Waits for quiet, asserts what must hold then, and stops the tree.
    pub async fn finish(self) {
        self.quiet().await;
        self.check().await;
        self.permits_are_back().await;
        self.stop().await;
    }

    pub async fn stop(self) {
        let handle = self.handle.clone();
        soon("the tree's stop", self.tree.stop()).await;
        let left = handle.actors();
        assert!(left.is_empty(), "actors are left: {left:?}");
    }

    pub async fn open(&self) -> usize {
        let filter = ListFilter { open: true, ..ListFilter::default() };
        self.storage.list_runs(filter, Page { offset: 0, limit: 100_000 }).await.unwrap().len()
    }
}
