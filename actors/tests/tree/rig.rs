//! A tree on an in-memory store with a scripted model that records every call, and a checker of what must hold
//! when it is quiet.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offshoot_actors::ports::{
    Answer, BoxFuture, Clock, Effect, Event, EventSink, Host, ListFilter, ModelError, ModelRequest,
    ModelSink, Models, Page, RunRow, RunState, SeededIds, Storage, TokioClock, ToolContext, ToolOutput,
    ToolSpec, Tools,
};
use offshoot_actors::types::{
    Accepted, AnnounceItem, Cleanup, Entry, IdempotencyKey, Mode, ModelRef, Origin, Outcome, PromptRequest,
    RunId, SessionKey, Settings, SpawnRequest, StoredEntry, Terminal, Timestamp, ToolCall, ToolStatus, Usage,
};
use offshoot_actors::{Delivery, MemoryStorage, Tree, TreeHandle, TreeOptions};

pub use crate::common::{call, main_key, settings};

/// One model call as the script sees it.
pub struct Call {
    pub request: ModelRequest,
    pub sink: Arc<dyn ModelSink>,
    pub clock: Arc<dyn Clock>,
}

impl Call {
    /// The entries of the run that asks.
    pub fn own(&self) -> Vec<Arc<StoredEntry>> {
        let run = Some(self.request.run);
        self.request.transcript.entries().iter().filter(|entry| entry.run == run).cloned().collect()
    }

    /// The first message of the run that asks; empty for a run on results of children.
    pub fn task(&self) -> String {
        self.own()
            .iter()
            .find_map(|entry| match &entry.entry {
                Entry::User { text, .. } => Some(text.clone()),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// Every message of the run that asks.
    pub fn messages(&self) -> Vec<String> {
        texts(&self.own())
    }

    /// Results of children in the whole transcript.
    pub fn results(&self) -> Vec<AnnounceItem> {
        items(self.request.transcript.entries())
    }

    /// Results of children that the run that asks was given.
    pub fn news(&self) -> Vec<String> {
        items(&self.own()).iter().map(brief).collect()
    }

    pub fn notices(&self) -> Vec<String> {
        self.own()
            .iter()
            .filter_map(|entry| match &entry.entry {
                Entry::Notice { text } => Some(text.clone()),
                _ => None,
            })
            .collect()
    }

    pub async fn sleep(&self, ms: u64) {
        self.clock.sleep(Duration::from_millis(ms)).await;
    }
}

pub fn texts(entries: &[Arc<StoredEntry>]) -> Vec<String> {
    entries
        .iter()
        .filter_map(|entry| match &entry.entry {
            Entry::User { text, .. } => Some(text.clone()),
            _ => None,
        })
        .collect()
}

pub fn items(entries: &[Arc<StoredEntry>]) -> Vec<AnnounceItem> {
    entries
        .iter()
        .filter_map(|entry| match &entry.entry {
            Entry::Announce { items } => Some(items.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}

pub fn brief(item: &AnnounceItem) -> String {
    format!("{}:{}", item.state, item.text.clone().unwrap_or_default())
}

/// What happened, in order of beginning.
#[derive(Default)]
pub struct Log {
    pub calls: Mutex<Vec<(SessionKey, RunId, u32, ModelRef)>>,
    pub tools: Mutex<Vec<(String, String)>>,
    pub tool_ends: Mutex<Vec<String>>,
    now: AtomicUsize,
    peak: AtomicUsize,
    children_now: AtomicUsize,
    children_peak: AtomicUsize,
}

impl Log {
    /// Model calls so far.
    pub fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// Model calls in flight.
    pub fn in_flight(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }

    /// The most model calls of sub-agents that ever were in flight.
    pub fn children_peak(&self) -> usize {
        self.children_peak.load(Ordering::SeqCst)
    }

    /// Calls of one run, by step.
    pub fn steps(&self, run: RunId) -> Vec<u32> {
        self.calls.lock().unwrap().iter().filter(|call| call.1 == run).map(|call| call.2).collect()
    }
}

struct InFlight(Arc<Log>, bool);

impl InFlight {
    fn enter(log: &Arc<Log>, child: bool) -> Self {
        let now = log.now.fetch_add(1, Ordering::SeqCst) + 1;
        log.peak.fetch_max(now, Ordering::SeqCst);
        if child {
            let now = log.children_now.fetch_add(1, Ordering::SeqCst) + 1;
            log.children_peak.fetch_max(now, Ordering::SeqCst);
        }
        Self(Arc::clone(log), child)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        if self.1 {
            self.0.children_now.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

type Script = dyn Fn(Call) -> BoxFuture<Result<Answer, ModelError>> + Send + Sync;

struct Scripted {
    script: Arc<Script>,
    log: Arc<Log>,
    clock: Arc<dyn Clock>,
}

impl Models for Scripted {
    fn resolve(&self, name: &str) -> Result<ModelRef, ModelError> {
        Ok(name.parse()?)
    }

    fn call(&self, request: ModelRequest, sink: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>> {
        assert_valid(&request);
        let (key, run) = (request.session.clone(), request.run);
        self.log.calls.lock().unwrap().push((key.clone(), run, request.step, request.model.clone()));
        let guard = InFlight::enter(&self.log, key.is_subagent());
        if key.as_str().contains("probe") || request.transcript.entries().iter().any(is_probe) {
            let clock = Arc::clone(&self.clock);
            return Box::pin(async move {
                let _guard = guard;
                clock.sleep(Duration::from_secs(1)).await;
                Ok(Answer::text("NO_REPLY"))
            });
        }
        let call = Call { request, sink, clock: Arc::clone(&self.clock) };
        let answer = (self.script)(call);
        Box::pin(async move {
            let _guard = guard;
            answer.await
        })
    }
}

fn is_probe(entry: &Arc<StoredEntry>) -> bool {
    matches!(&entry.entry, Entry::User { text, .. } if text == "probe")
}

/// `spawn` (`option=value,..|task`), `yield`, `wait` (milliseconds; runs beside others), `alone` (milliseconds;
/// runs alone), `panic`, `hang`.
struct Toolbox {
    specs: Vec<Arc<ToolSpec>>,
    clock: Arc<dyn Clock>,
    log: Arc<Log>,
}

pub fn request(parent: SessionKey, arguments: &str) -> SpawnRequest {
    let (options, task) = arguments.split_once('|').unwrap_or(("", arguments));
    let mut request = SpawnRequest::new(parent, task);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "delete" => request.cleanup = Cleanup::Delete,
            "session" => request.mode = Mode::Session,
            "quiet" => request.expects_completion = false,
            "timeout" => request.timeout = Some(Duration::from_millis(value.parse().unwrap())),
            "label" => request.label = Some(value.to_owned()),
            "model" => request.model = Some(value.to_owned()),
            "key" => {
                request.idempotency = Some(IdempotencyKey { key: value.to_owned(), may_repeat: true });
            }
            _ => panic!("unknown option {name}"),
        }
    }
    request
}

impl Tools for Toolbox {
    fn catalog(&self) -> &[Arc<ToolSpec>] {
        &self.specs
    }

    fn call(&self, context: ToolContext, call: ToolCall) -> BoxFuture<ToolOutput> {
        self.log.tools.lock().unwrap().push((call.id.to_string(), call.name.to_string()));
        let (clock, log) = (Arc::clone(&self.clock), Arc::clone(&self.log));
        Box::pin(async move {
            let output = match &*call.name {
                "spawn" => {
                    let origin = Origin::Agent { session: context.session.clone(), run: context.run };
                    match context.tree.spawn(request(context.session, &call.arguments), origin).await {
                        Ok(accepted) => ToolOutput::ok(format!("accepted {}", accepted.run)),
                        Err(refusal) => ToolOutput::ok(format!("refused {refusal}")),
                    }
                }
                "yield" => {
                    ToolOutput { text: "waiting".into(), status: ToolStatus::Ok, effect: Effect::Yield }
                }
                "wait" | "alone" => {
                    clock.sleep(Duration::from_millis(call.arguments.parse().unwrap())).await;
                    ToolOutput::ok("waited")
                }
                "hang" => std::future::pending().await,
                _ => panic!("the tool panics on purpose"),
            };
            log.tool_ends.lock().unwrap().push(call.id.to_string());
            output
        })
    }
}

/// Remembers every event but the pieces of text.
#[derive(Default)]
pub struct Events(Mutex<Vec<Event>>);

impl EventSink for Events {
    fn publish(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Events {
    pub fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.all().iter().filter(|event| wanted(event)).count()
    }
}

/// How a tree is set up.
pub struct Setup {
    pub settings: Settings,
    pub storage: Arc<MemoryStorage>,
    pub seed: u64,
    pub host: Host,
    pub wake_waiting: bool,
    /// Whether what happened before, on the same store, counts for the checks of events.
    pub fresh: bool,
    #[cfg(feature = "faults")]
    pub faults: Option<Arc<dyn offshoot_actors::kit::Faults>>,
}

pub fn setup() -> Setup {
    Setup {
        settings: settings(),
        storage: Arc::new(MemoryStorage::new()),
        seed: 7,
        host: Host::OneShot,
        wake_waiting: false,
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

    pub async fn start<F, R>(self, script: F) -> Rig
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Answer, ModelError>> + Send + 'static,
    {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Timestamp(1_700_000_000_000)));
        let log = Arc::new(Log::default());
        let events = Arc::new(Events::default());
        let spec = |name: &str, parallel| {
            Arc::new(ToolSpec {
                name: name.into(),
                description: "".into(),
                parameters: "{}".into(),
                parallel,
                idempotent: false,
                groups: &[],
            })
        };
        let tools = Toolbox {
            specs: vec![
                spec("spawn", true),
                spec("yield", false),
                spec("wait", true),
                spec("alone", false),
                spec("panic", false),
                spec("hang", true),
            ],
            clock: Arc::clone(&clock),
            log: Arc::clone(&log),
        };
        let models = Scripted {
            script: Arc::new(move |call| -> BoxFuture<_> { Box::pin(script(call)) }),
            log: Arc::clone(&log),
            clock: Arc::clone(&clock),
        };
        let mut options = TreeOptions::new(
            Arc::clone(&clock),
            Arc::new(SeededIds::new(self.seed)),
            Arc::clone(&self.storage) as Arc<dyn Storage>,
            Arc::new(models),
            Arc::new(tools),
            self.settings,
        );
        options.events = Arc::clone(&events) as Arc<dyn EventSink>;
        (options.host, options.wake_waiting) = (self.host, self.wake_waiting);
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

    /// What must hold when all is quiet.
    pub async fn check(&self) {
        let runs = self.storage.all_runs();
        for run in &runs {
            assert!(!run.state.is_open(), "I1: {run:?} is open");
            if run.steps > 0 && matches!(run.state, RunState::Ended(Terminal::Ok)) {
                let used = run.model_used.as_ref().expect("I14: a run that answered records its model");
                assert!(*used == run.model.primary || run.model.fallbacks.contains(used), "I14: {run:?}");
            }
        }
        self.check_announces(&runs);
        let states: BTreeMap<RunId, RunState> = runs.iter().map(|run| (run.id, run.state)).collect();
        for (key, transcript) in self.storage.transcripts() {
            check_transcript(&key, &transcript, &states);
        }
        self.check_usage(&runs).await;
        if self.fresh {
            self.check_events(&runs);
        }
        assert_eq!(self.log.in_flight(), 0, "a model call is in flight");
    }

    fn check_announces(&self, runs: &[RunRow]) {
        for row in self.storage.outbox() {
            assert_eq!(row.delivery, Delivery::Delivered, "I2: the result of {} waits", row.run);
        }
        let mut seen: BTreeSet<RunId> = BTreeSet::new();
        let owner: BTreeMap<RunId, &RunRow> = runs.iter().map(|run| (run.id, run)).collect();
        for (key, transcript) in self.storage.transcripts() {
            for item in items(&transcript) {
                assert!(seen.insert(item.run), "I2: the result of {} stands twice", item.run);
                assert_eq!(
                    owner[&item.run].announce_to.as_ref(),
                    Some(&key),
                    "I2: a result in a wrong session"
                );
            }
        }
        let kept: BTreeSet<SessionKey> = self.storage.transcripts().into_keys().collect();
        for row in self.storage.outbox() {
            let to = owner[&row.run].announce_to.clone().unwrap();
            assert!(!kept.contains(&to) || seen.contains(&row.run), "I2: a result of {to} is lost");
        }
    }

    async fn check_usage(&self, runs: &[RunRow]) {
        let total: Usage = runs
            .iter()
            .filter(|run| {
                let session = self.storage.all_sessions().into_iter().find(|row| row.key == run.session);
                session
                    .or_else(|| {
                        self.storage.deleted_sessions().into_iter().find(|row| row.key == run.session)
                    })
                    .is_some_and(|row| row.root == main_key())
            })
            .map(|run| run.usage)
            .sum();
        if self.storage.all_sessions().iter().any(|row| row.key == main_key()) {
            let subtree = self.storage.subtree_usage(main_key()).await.unwrap();
            assert_eq!(subtree, total, "I7");
        }
    }

    /// I9: a run's first event is that it was accepted, its last one that it ended, and there is one of each.
    fn check_events(&self, runs: &[RunRow]) {
        let mut of: BTreeMap<RunId, Vec<&'static str>> = BTreeMap::new();
        for event in self.events.all() {
            let (run, name) = match &event {
                Event::Spawned { child, .. } => (child.run, "accepted"),
                Event::Submitted { run, .. } => (*run, "accepted"),
                Event::Started { run, .. } => (*run, "started"),
                Event::Text { run, .. } => (*run, "text"),
                Event::StepRestarted { run, .. } => (*run, "restarted"),
                Event::StepFinished { run, .. } => (*run, "step"),
                Event::ToolStarted { run, .. } => (*run, "tool"),
                Event::ToolFinished { run, .. } => (*run, "tool done"),
                Event::Yielded { run, .. } => (*run, "yielded"),
                Event::Ended { run, .. } => (*run, "ended"),
                Event::Refused { .. } | Event::Announced { .. } => continue,
            };
            of.entry(run).or_default().push(name);
        }
        for run in runs {
            let events = of.remove(&run.id).unwrap_or_default();
            assert_eq!(events.first(), Some(&"accepted"), "I9: {} has {events:?}", run.id);
            assert_eq!(events.last(), Some(&"ended"), "I9: {} has {events:?}", run.id);
            for name in ["accepted", "ended"] {
                let count = events.iter().filter(|event| **event == name).count();
                assert_eq!(count, 1, "I9: {} has {events:?}", run.id);
            }
        }
        assert!(of.is_empty(), "I9: events of runs that are not stored: {of:?}");
    }

    /// Both lanes serve as many runs at once as they allow, and no cap is used up.
    pub async fn permits_are_back(&self) {
        let limits = self.handle.settings().lanes;
        let begun = self.log.count();
        let mut runs = Vec::new();
        for number in 0..limits.main {
            let key: SessionKey = format!("agent:main:probe{number}").parse().unwrap();
            runs.push(self.say_to(key, "probe").await);
        }
        self.sleep(10).await;
        assert_eq!(self.log.count() - begun, runs.len(), "I4: a permit of lane main is not back");
        for run in runs.drain(..) {
            self.outcome(run).await;
        }
        let begun = self.log.count();
        let children = self.handle.settings().subagents.max_children;
        for number in 0..limits.subagent {
            let key: SessionKey = format!("agent:main:probe{}", number / children).parse().unwrap();
            runs.push(self.spawn_in(key, "probe").await.run);
        }
        self.sleep(10).await;
        assert_eq!(self.log.count() - begun, runs.len(), "I4: a permit of lane subagent is not back");
        for run in runs.drain(..) {
            self.outcome(run).await;
        }
        for number in 0..children.min(50) {
            let request = request(main_key(), "quiet|probe");
            let answer = soon("a probe of the cap", self.handle.spawn(request, Origin::Operator)).await;
            assert!(answer.is_ok(), "I4: the cap is used up after {number} of {children}: {answer:?}");
            runs.push(answer.unwrap().run);
        }
        for run in runs {
            self.outcome(run).await;
        }
        soon("quiet", self.handle.quiet(&main_key())).await.unwrap();
    }

    pub async fn open(&self) -> usize {
        let filter = ListFilter { open: true, ..ListFilter::default() };
        self.storage.list_runs(filter, Page { offset: 0, limit: 100_000 }).await.unwrap().len()
    }
}

/// A provider takes no conversation in which a tool call is not followed by its results at once.
fn check_transcript(key: &SessionKey, transcript: &[Arc<StoredEntry>], states: &BTreeMap<RunId, RunState>) {
    let mut open: BTreeMap<Arc<str>, Option<RunId>> = BTreeMap::new();
    for (place, entry) in transcript.iter().enumerate() {
        assert_eq!(entry.seq, place as u64, "a gap in {key}");
        if let Entry::ToolResult { call, .. } = &entry.entry {
            assert!(open.remove(call).is_some(), "a result without a call in {key}: {call}");
            continue;
        }
        for run in open.values() {
            let state = run.and_then(|run| states.get(&run).copied());
            // Results of children may end a run that was cut off; its own next step may not.
            let goes_on = entry.run == *run && !matches!(entry.entry, Entry::Announce { .. });
            let cut = matches!(state, Some(RunState::Ended(state)) if state != Terminal::Ok) && !goes_on;
            assert!(cut, "{:?} stands between a call and its result in {key}", entry.entry);
        }
        open.clear();
        if let Entry::Assistant { tool_calls, .. } = &entry.entry {
            for call in tool_calls {
                let twice = open.insert(Arc::clone(&call.id), entry.run);
                assert!(twice.is_none(), "two calls of one step in {key} have the id {}", call.id);
            }
        }
    }
}

/// What a model is given: no call without its result, unless its run was cut off.
fn assert_valid(request: &ModelRequest) {
    let mut open: BTreeSet<Arc<str>> = BTreeSet::new();
    for entry in request.transcript.entries() {
        if entry.run != Some(request.run) {
            continue;
        }
        match &entry.entry {
            Entry::ToolResult { call, .. } => assert!(open.remove(call), "a result without a call"),
            Entry::Assistant { tool_calls, .. } => {
                assert!(open.is_empty(), "an answer before all results");
                open.extend(tool_calls.iter().map(|call| Arc::clone(&call.id)));
            }
            other => assert!(open.is_empty(), "{other:?} before all results"),
        }
    }
    assert!(open.is_empty(), "calls without results");
}
