//! A tree with scripted models and a few tools, for tests.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_debug_implementations
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use offshoot_actors::ports::{
    Answer, BoxFuture, Clock, Effect, Event, EventSink, FnModels, ModelError, ModelRequest, Models,
    SeededIds, Storage, TokioClock, ToolContext, ToolOutput, ToolSpec, Tools,
};
use offshoot_actors::types::{
    AgentId, Entry, ModelRef, Origin, SessionKey, Settings, SpawnRequest, Timestamp, ToolCall, ToolStatus,
};
use offshoot_actors::{MemoryStorage, Tree, TreeOptions};

pub fn main_key() -> SessionKey {
    "agent:main:main".parse().unwrap()
}

pub fn settings() -> Settings {
    let main: AgentId = "main".parse().unwrap();
    let model: ModelRef = "test/script".parse().unwrap();
    Settings::with_model(main, model)
}

/// Remembers every event.
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
}

/// `spawn` (arguments: the task), `yield`, `sleep` (milliseconds), `panic`.
pub struct TestTools {
    specs: Vec<Arc<ToolSpec>>,
    pub clock: Arc<dyn Clock>,
    pub calls: Arc<Mutex<Vec<(String, String)>>>,
}

impl TestTools {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
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
        Self {
            specs: vec![spec("spawn", true), spec("yield", false), spec("sleep", true), spec("panic", false)],
            clock,
            calls: Arc::default(),
        }
    }
}

impl Tools for TestTools {
    fn catalog(&self) -> &[Arc<ToolSpec>] {
        &self.specs
    }

    fn call(&self, context: ToolContext, call: ToolCall) -> BoxFuture<ToolOutput> {
        self.calls.lock().unwrap().push((call.id.to_string(), call.name.to_string()));
        let clock = Arc::clone(&self.clock);
        Box::pin(async move {
            match &*call.name {
                "spawn" => {
                    let origin = Origin::Agent { session: context.session.clone(), run: context.run };
                    let request = SpawnRequest::new(context.session, call.arguments.to_string());
                    match context.tree.spawn(request, origin).await {
                        Ok(accepted) => ToolOutput::ok(format!("accepted {}", accepted.run)),
                        Err(refusal) => ToolOutput::ok(format!("refused {refusal}")),
                    }
                }
                "yield" => {
                    ToolOutput { text: "waiting".into(), status: ToolStatus::Ok, effect: Effect::Yield }
                }
                "sleep" => {
                    clock.sleep(Duration::from_millis(call.arguments.parse().unwrap())).await;
                    ToolOutput::ok("slept")
                }
                _ => panic!("the tool panics on purpose"),
            }
        })
    }
}

pub fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

pub struct Bench {
    pub tree: Tree,
    pub storage: Arc<MemoryStorage>,
    pub events: Arc<Events>,
    pub tool_calls: Arc<Mutex<Vec<(String, String)>>>,
}

pub async fn start<F, R>(settings: Settings, model: F) -> Bench
where
    F: Fn(ModelRequest, Arc<dyn Clock>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Answer, ModelError>> + Send + 'static,
{
    start_on(Arc::new(MemoryStorage::new()), settings, model).await
}

pub async fn start_on<F, R>(storage: Arc<MemoryStorage>, settings: Settings, model: F) -> Bench
where
    F: Fn(ModelRequest, Arc<dyn Clock>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Answer, ModelError>> + Send + 'static,
{
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Timestamp(1_700_000_000_000)));
    let model_clock = Arc::clone(&clock);
    let models: Arc<dyn Models> =
        Arc::new(FnModels::new(move |request, _| model(request, Arc::clone(&model_clock))));
    let events = Arc::new(Events::default());
    let tools = Arc::new(TestTools::new(Arc::clone(&clock)));
    let tool_calls = Arc::clone(&tools.calls);
    let mut options = TreeOptions::new(
        clock,
        Arc::new(SeededIds::new(7)),
        Arc::clone(&storage) as Arc<dyn Storage>,
        models,
        tools,
        settings,
    );
    options.events = Arc::clone(&events) as Arc<dyn EventSink>;
    let tree = Tree::start(options).await.unwrap();
    Bench { tree, storage, events, tool_calls }
}

/// The latest message to the agent in the run that is asked for.
pub fn last_user(request: &ModelRequest) -> String {
    request
        .transcript
        .entries()
        .iter()
        .rev()
        .find_map(|entry| match &entry.entry {
            Entry::User { text, .. } => Some(text.clone()),
            _ => None,
        })
        .unwrap_or_default()
}

/// Texts of all announces in the transcript that the model sees.
pub fn announced(request: &ModelRequest) -> Vec<String> {
    request
        .transcript
        .entries()
        .iter()
        .filter_map(|entry| match &entry.entry {
            Entry::Announce { items } => Some(items),
            _ => None,
        })
        .flatten()
        .map(|item| format!("{}:{}", item.state, item.text.clone().unwrap_or_default()))
        .collect()
}
