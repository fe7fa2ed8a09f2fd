//! What goes wrong is seen as what it is: a tool that hangs, a handler that hangs, a crash that comes again and again.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures::future::{Either, select};

use super::super::*;
use crate::kit::{Bug, Faults};
use crate::ports::{
    Answer, BoxFuture, Clock, Event, EventSink, FnModels, ModelRequest, SeededIds, TokioClock, ToolContext,
    ToolOutput, ToolSpec, Tools,
};
use crate::tree::{Tree, TreeOptions};
use crate::types::{
    AgentId, ModelRef, Monotonic, Origin, PromptRequest, SessionKey, Settings, Timestamp, ToolCall,
};

/// A clock that goes as far as it is told to; who waits on it waits by the real one.
#[derive(Default)]
struct ByHand(AtomicU64);

impl ByHand {
    fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for ByHand {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000 + i64::try_from(self.0.load(Ordering::Relaxed)).unwrap())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.load(Ordering::Relaxed) * 1_000_000)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        TokioClock::starting_at(Timestamp(0)).sleep(duration)
    }
}

struct Shared(Arc<ByHand>);

impl Clock for Shared {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Monotonic {
        self.0.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        self.0.sleep(duration)
    }
}

/// Blocks the thread of a session that handles a steering message, and lets the configuration panic.
#[derive(Default)]
struct Gate {
    blocks: Mutex<bool>,
    opened: Condvar,
    panics: AtomicBool,
}

impl Faults for Gate {
    fn panics(&self, actor: &'static str, message: &'static str) -> bool {
        if (actor, message) == ("session", "steer") {
            let blocks = self.blocks.lock().unwrap();
            drop(self.opened.wait_while(blocks, |blocks| *blocks).unwrap());
        }
        (actor, message) == ("config", "apply") && self.panics.load(Ordering::Relaxed)
    }

    fn has(&self, _: Bug) -> bool {
        false
    }
}

struct Hangs(Vec<Arc<ToolSpec>>);

impl Tools for Hangs {
    fn catalog(&self) -> &[Arc<ToolSpec>] {
        &self.0
    }

    fn call(&self, _: ToolContext, _: ToolCall) -> BoxFuture<ToolOutput> {
        Box::pin(std::future::pending())
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<WatchTrouble>>);

impl EventSink for Heard {
    fn publish(&self, event: Event) {
        if let Event::Watched(trouble) = event {
            self.0.lock().unwrap().push(trouble);
        }
    }
}

impl Heard {
    fn take(&self) -> Vec<WatchTrouble> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct Rig {
    tree: Tree,
    clock: Arc<ByHand>,
    gate: Arc<Gate>,
    heard: Arc<Heard>,
    main: SessionKey,
}

impl Rig {
    async fn start() -> Self {
        let (clock, gate, heard) =
            (Arc::<ByHand>::default(), Arc::<Gate>::default(), Arc::<Heard>::default());
        let call = ToolCall {
            id: "1".into(),
            name: "hang".into(),
            arguments: r#"{"command":"x","token":"y"}"#.into(),
        };
        let models = FnModels::new(move |_: ModelRequest, _| {
            let answer = Answer { tool_calls: vec![call.clone()], ..Answer::text("on it") };
            async move { Ok(answer) }
        });
        let settings = Settings::with_model(AgentId::main(), ModelRef::rehearsal());
        let mut options =
            TreeOptions::in_memory(Shared(Arc::clone(&clock)), SeededIds::new(1), models, settings);
        options.tools = Arc::new(Hangs(vec![Arc::new(ToolSpec {
            name: "hang".into(),
            description: "hangs".into(),
            parameters: "{}".into(),
            parallel: false,
            idempotent: false,
            yields: false,
            groups: &[],
        })]));
        options.faults = Some(Arc::clone(&gate) as Arc<dyn Faults>);
        options.events = Arc::clone(&heard) as Arc<dyn EventSink>;
        let tree = Tree::start(options).await.unwrap();
        Self { tree, clock, gate, heard, main: "agent:main:main".parse().unwrap() }
    }

    /// Waits until a node is as wanted.
    async fn until(&self, wanted: impl Fn(&Node) -> bool) -> Node {
        let look = async {
            loop {
                let prices = Prices::default();
                let look = Look { prices: &prices, silent_after: Duration::from_secs(120) };
                if let Some(node) = self.tree.handle().snapshot(&look).nodes.into_iter().find(&wanted) {
                    return node;
                }
                tokio::task::yield_now().await;
            }
        };
        let limit = self.clock.sleep(Duration::from_secs(20));
        match select(pin!(look), limit).await {
            Either::Left((node, _)) => node,
            Either::Right(_) => panic!("no node comes to look so"),
        }
    }

    fn watch(&self, dog: &mut Watchdog) -> Vec<WatchTrouble> {
        self.tree.handle().watch(dog, Duration::from_secs(120));
        self.heard.take()
    }
}

fn stuck(node: &Node) -> bool {
    node.actor.as_ref().is_some_and(|actor| actor.stuck)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hangs_is_seen_while_it_does_and_told_when_it_begins_and_ends() {
    let rig = Rig::start().await;
    let (mut dog, handle) = (Watchdog::default(), rig.tree.handle());
    let request = PromptRequest::new(rig.main.clone(), "go");
    let run = handle.submit(request, Origin::Timer).await.unwrap().run;

    // A tool.
    let in_tool = |node: &Node| node.run.as_ref().is_some_and(|run| !run.tools.is_empty());
    let node = rig.until(in_tool).await;
    let shown = node.run.unwrap();
    assert_eq!(
        (shown.doing, &*shown.tools[0].argument, shown.silent),
        (Some("tools"), "command=x token=***", false)
    );
    assert_eq!(rig.watch(&mut dog), []);
    rig.clock.advance(120_001);
    assert!(rig.until(in_tool).await.run.unwrap().silent);
    let told = rig.watch(&mut dog);
    assert!(matches!(&told[..], [WatchTrouble::Silent { run: of, .. }] if *of == run), "{told:?}");
    assert_eq!(rig.watch(&mut dog), []);

    // A handler.
    *rig.gate.blocks.lock().unwrap() = true;
    let (asked, main) = (handle.clone(), rig.main.clone());
    let steer = tokio::spawn(async move { asked.steer(main, "hm".to_owned(), Origin::Timer).await });
    let in_hand = |node: &Node| {
        let message = node.actor.as_ref().and_then(|actor| actor.in_hand);
        message.is_some_and(|(message, _)| message == "steer")
    };
    assert!(!stuck(&rig.until(in_hand).await));
    rig.clock.advance(1_001);
    let node = rig.until(in_hand).await;
    assert!(stuck(&node) && node.kind == "session");
    let told = rig.watch(&mut dog);
    let is_steer = |told: &WatchTrouble| matches!(told, WatchTrouble::Stuck { message: Some("steer"), .. });
    assert!(told.len() == 1 && is_steer(&told[0]), "{told:?}");
    *rig.gate.blocks.lock().unwrap() = false;
    rig.gate.opened.notify_all();
    steer.await.unwrap().unwrap();
    rig.until(|node| node.kind == "session" && !stuck(node)).await;
    let told = rig.watch(&mut dog);
    assert!(matches!(&told[..], [WatchTrouble::Answers { kind: "session", .. }]), "{told:?}");
    handle.cancel(run, Origin::Timer).await.unwrap();
    let told = rig.watch(&mut dog);
    assert!(matches!(&told[..], [WatchTrouble::Heard { .. }]), "{told:?}");

    // A crash, again and again.
    rig.gate.panics.store(true, Ordering::Relaxed);
    for restarts in 1..=3 {
        let settings = Settings::clone(&handle.settings());
        assert!(handle.apply(settings).await.is_err());
        let again = |node: &Node| {
            let restarted = node.actor.as_ref().is_some_and(|actor| actor.restarts == restarts);
            node.kind == "config" && restarted && node.state == "running"
        };
        let actor = rig.until(again).await.actor.unwrap();
        assert!(actor.last_failure.unwrap().contains("injected fault in config on apply"));
        assert!(actor.restarted_at.is_some());
    }
    rig.tree.stop().await;
}
