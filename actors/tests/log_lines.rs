//! Log lines carry the actor that runs. A binary of its own: tracing decides once for all threads of a process
//! whether a span is wanted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offshoot_actors::kit::{Behaviour, ChildSpec, Ctx, Handle, Msg, StartError, System, Task, spawn_root};
use offshoot_actors::ports::{Clock, SeededIds, TokioClock};
use offshoot_actors::types::Timestamp;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

struct Speaker(Vec<Task>);

enum Say {
    Line(&'static str),
    /// From a task.
    Later(&'static str),
    /// Says the first and has somebody else say the second.
    Both(&'static str, Handle<Say>, &'static str),
    Spawn(Arc<Mutex<Option<Handle<Self>>>>),
    Panic,
}

impl Msg for Say {
    fn name(&self) -> &'static str {
        "say"
    }
}

impl Behaviour for Speaker {
    const KIND: &'static str = "speaker";
    type Msg = Say;
    type Args = ();
    type Child = ();

    async fn start((): &mut (), _: &mut Ctx<Self>) -> Result<Self, StartError> {
        tokio::task::yield_now().await;
        tracing::info!("starting");
        Ok(Self(Vec::new()))
    }

    fn handle(&mut self, message: Say, ctx: &mut Ctx<Self>) {
        match message {
            Say::Line(line) => tracing::info!("{line}"),
            Say::Later(line) => {
                let work = async move {
                    tokio::task::yield_now().await;
                    tracing::info!("{line}");
                };
                self.0.push(ctx.task(work, |()| Say::Line("task done")));
            }
            Say::Both(first, other, second) => {
                tracing::info!("{first}");
                assert!(other.send(Say::Line(second)).is_ok());
            }
            Say::Spawn(child) => {
                let spec = ChildSpec::alike(Duration::from_secs(1));
                *child.lock().unwrap() = ctx.spawn::<Self>((), "child".into(), spec, ()).ok();
            }
            Say::Panic => panic!("on purpose"),
        }
    }

    fn stopping(&mut self, _: &mut Ctx<Self>) {
        tracing::info!("stopping");
    }
}

#[tokio::test(start_paused = true)]
async fn log_lines_carry_the_actor_that_runs_and_not_the_sender() {
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let subscriber = Lines { out: Arc::clone(&lines), spans: Mutex::default(), entered: Mutex::default() };
    let _guard = tracing::subscriber::set_default(subscriber);
    let clock = Arc::new(TokioClock::starting_at(Timestamp(0)));
    let system = Arc::new(System::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(SeededIds::new(1))));
    let sender = tracing::error_span!("sender");
    let root = sender.in_scope(|| spawn_root::<Speaker>(Arc::clone(&system), "root".into(), ())).unwrap();
    let settle = || clock.sleep(Duration::from_millis(1));
    let say = |to: &Handle<Say>, message| sender.in_scope(|| assert!(to.send(message).is_ok()));

    let slot = Arc::<Mutex<Option<Handle<Say>>>>::default();
    say(&root, Say::Spawn(Arc::clone(&slot)));
    settle().await;
    let child = slot.lock().unwrap().take().unwrap();
    say(&child, Say::Line("handled"));
    say(&child, Say::Later("in a task"));
    settle().await;
    say(&root, Say::Both("asks", child.clone(), "asked"));
    settle().await;
    say(&child, Say::Panic);
    settle().await;
    root.stop();
    root.ended().await;

    let actor = |name, handle: &Handle<Say>| {
        format!("actor kind=speaker actor={name} id={}", handle.info().view().id)
    };
    let (root, child) = (actor("root", &root), actor("child", &child));
    let expected = [
        (&root, "starting"),
        (&child, "starting"),
        (&child, "handled"),
        (&child, "in a task"),
        (&child, "task done"),
        (&root, "asks"),
        (&child, "asked"),
        (&child, "failed path=root/child actor=speaker reason=on purpose"),
        (&root, "stopping"),
    ];
    let expected: Vec<_> = expected.map(|(actor, line)| format!("{actor}: {line}")).into();
    assert_eq!(*lines.lock().unwrap(), expected);
}

/// Writes each event behind the innermost actor span that was open.
struct Lines {
    out: Arc<Mutex<Vec<String>>>,
    spans: Mutex<Vec<String>>,
    entered: Mutex<Vec<u64>>,
}

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        let text = text.trim_matches('"');
        match field.name() {
            "message" => write!(self.0, " {text}"),
            name => write!(self.0, " {name}={text}"),
        }
        .unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        let mut spans = self.spans.lock().unwrap();
        spans.push(format!("{}{}", span.metadata().name(), fields.0));
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = self.entered.lock().unwrap().last().copied().unwrap_or_default();
        let spans = self.spans.lock().unwrap();
        let name = usize::try_from(span).ok().and_then(|at| spans.get(at.checked_sub(1)?));
        self.out.lock().unwrap().push(format!("{}:{}", name.map_or("", String::as_str), fields.0));
    }

    fn enter(&self, span: &Id) {
        self.entered.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut entered = self.entered.lock().unwrap();
        if let Some(at) = entered.iter().rposition(|id| *id == span.into_u64()) {
            entered.remove(at);
        }
    }
}
