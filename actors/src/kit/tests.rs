//! The kit under test: one actor whose handlers are closures, in a world of its own.

mod adoptions;
mod calls;
mod ends;
mod panics;
mod policy;
mod starts;
mod stops;
mod tasks;
mod watch;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::*;
use crate::ports::{Clock, SeededIds, TokioClock};
use crate::types::{Monotonic, Timestamp};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// What happened, in order.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// One tree with virtual time.
struct World {
    system: Arc<System>,
    log: Log,
    notes: Arc<Mutex<Vec<Note>>>,
}

impl World {
    fn new() -> Self {
        let notes = Arc::<Mutex<Vec<Note>>>::default();
        let sink = Arc::clone(&notes);
        let system =
            System::new(Arc::new(TokioClock::starting_at(Timestamp(0))), Arc::new(SeededIds::new(1)))
                .on_note(move |note| sink.lock().unwrap().push(note));
        Self { system: Arc::new(system), log: Log::default(), notes }
    }

    fn root(&self) -> Handle<Do<Node>> {
        self.root_of::<Node>(self.args())
    }

    fn root_of<B: Behaviour>(&self, args: B::Args) -> Handle<B::Msg> {
        spawn_root::<B>(Arc::clone(&self.system), "root".into(), args).unwrap()
    }

    fn args(&self) -> Args {
        Args { log: self.log.clone(), start: Start::Ready, starts: 0 }
    }

    fn starting(&self, start: Start) -> Args {
        Args { start, ..self.args() }
    }

    fn now(&self) -> Monotonic {
        self.system.clock.monotonic()
    }

    /// Lets everything run until all wait; takes a millisecond of virtual time.
    async fn settle(&self) {
        self.system.clock.sleep(Duration::from_millis(1)).await;
    }

    /// The kinds of the notes about the actor at this path, routine ones left out.
    fn decisions(&self, path: &str) -> Vec<NoteKind> {
        let notes = self.notes.lock().unwrap();
        let about = notes.iter().filter(|note| note.path == path).map(|note| note.kind.clone());
        about
            .filter(|kind| !matches!(kind, NoteKind::Starting | NoteKind::Running | NoteKind::Ended { .. }))
            .collect()
    }

    /// Stops the tree, however far it got, and sees that nothing is left of it.
    async fn end<M: Msg>(self, root: Handle<M>) {
        root.stop();
        root.ended().await;
        self.empty();
    }

    fn empty(&self) {
        let left: Vec<_> = self.system.index.views().into_iter().map(|view| view.path).collect();
        assert!(left.is_empty(), "still in the index: {left:?}");
    }
}

/// A message that says what to do.
struct Do<B: Behaviour<Msg = Self>>(&'static str, Job<B>);
type Job<B> = Box<dyn FnOnce(&mut B, &mut Ctx<B>) + Send>;

impl<B: Behaviour<Msg = Self>> Msg for Do<B> {
    fn name(&self) -> &'static str {
        self.0
    }
}

fn job<B: Behaviour<Msg = Do<B>>>(work: impl FnOnce(&mut B, &mut Ctx<B>) + Send + 'static) -> Do<B> {
    Do("job", Box::new(work))
}

impl<B: Behaviour<Msg = Do<B>>> Handle<Do<B>> {
    fn job(&self, work: impl FnOnce(&mut B, &mut Ctx<B>) + Send + 'static) {
        self.send(job(work)).map_err(|_| "the door is closed").unwrap();
    }

    async fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut B, &mut Ctx<B>) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        let (sender, answer) = oneshot::channel();
        let reply = Reply::Channel(sender);
        self.send(job(move |behaviour, ctx| reply.send(work(behaviour, ctx)))).map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}

/// The actor is gone, or went while it had the question.
#[derive(Debug, PartialEq, Eq)]
struct Gone;

/// What a start does.
#[derive(Debug, Clone, Copy)]
enum Start {
    Ready,
    /// Ready after this time.
    After(Duration),
    Never,
    Fails,
    Panics,
    /// The first is ready at once, later ones panic.
    OnceOnly,
}

#[derive(Debug)]
struct Args {
    log: Log,
    start: Start,
    starts: u32,
}

/// The actor of most tests. It survives two panics an hour.
#[derive(Debug)]
struct Node {
    log: Log,
    name: String,
    /// Numbers that messages left here.
    numbers: Vec<u32>,
    tasks: Vec<Task>,
    panics_on_stop: bool,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.log.add(format!("{} dropped", self.name));
    }
}

impl Node {
    async fn begin(args: &mut Args, name: String, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        args.starts += 1;
        match args.start {
            Start::OnceOnly if args.starts > 1 => panic!("start panics"),
            Start::Ready | Start::OnceOnly => {}
            Start::After(duration) => clock.sleep(duration).await,
            Start::Never => std::future::pending().await,
            Start::Fails => return Err(StartError("start fails".to_owned())),
            Start::Panics => panic!("start panics"),
        }
        let log = args.log.clone();
        Ok(Self { log, name, numbers: Vec::new(), tasks: Vec::new(), panics_on_stop: false })
    }
}

impl Behaviour for Node {
    const KIND: &'static str = "node";
    const SURVIVES: Option<Intensity> = Some(Intensity { max: 2, within: HOUR });
    type Msg = Do<Self>;
    type Args = Args;
    type Child = &'static str;

    async fn start(args: &mut Args, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let name = ctx.myself().info().name.to_string();
        Self::begin(args, name, Arc::clone(&ctx.system().clock)).await
    }

    fn handle(&mut self, message: Do<Self>, ctx: &mut Ctx<Self>) {
        (message.1)(self, ctx);
    }

    fn child_started(&mut self, child: &&'static str, _: &mut Ctx<Self>) {
        self.log.add(format!("{child} started"));
    }

    fn child_exited(&mut self, child: &'static str, exit: Exit, _: &mut Ctx<Self>) {
        self.log.add(format!("{child} {exit}"));
    }

    fn stopping(&mut self, _: &mut Ctx<Self>) {
        self.log.add(format!("{} stopping", self.name));
        assert!(!self.panics_on_stop, "on purpose");
    }
}

/// A node that a panic ends.
#[derive(Debug)]
struct Leaf(Node);

impl Behaviour for Leaf {
    const KIND: &'static str = "leaf";
    type Msg = Do<Self>;
    type Args = Args;
    type Child = &'static str;

    async fn start(args: &mut Args, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let name = ctx.myself().info().name.to_string();
        Node::begin(args, name, Arc::clone(&ctx.system().clock)).await.map(Self)
    }

    fn handle(&mut self, message: Do<Self>, ctx: &mut Ctx<Self>) {
        (message.1)(self, ctx);
    }

    fn stopping(&mut self, _: &mut Ctx<Self>) {
        self.0.log.add(format!("{} stopping", self.0.name));
    }
}

/// A parent's side of a spawn.
async fn spawn<C: Behaviour>(
    parent: &Handle<Do<Node>>,
    key: &'static str,
    spec: ChildSpec,
    args: C::Args,
) -> Result<Handle<C::Msg>, StartError> {
    parent.ask(move |_, ctx| ctx.spawn::<C>(key, key.into(), spec, args)).await.unwrap()
}

const fn in_order() -> ChildSpec {
    ChildSpec::in_order(HOUR)
}

const fn alike() -> ChildSpec {
    ChildSpec::alike(HOUR)
}
