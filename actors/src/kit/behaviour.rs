//! An actor as its file writes it, and the ractor actor that runs it.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::children::{ChildSpec, Children, Exit};
use super::index::{ActorInfo, ActorState};
use super::mailbox::{Body, Envelope, Handle, Msg};
use super::supervise::{Intensity, Window};
use super::system::{Note, NoteKind, System};
use super::task::{Task, panic_text};

/// Why an actor could not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// What an actor does.
///
/// `start` runs after the actor is linked and before its first message: it may wait, and its failure reaches
/// the supervisor. It also runs after a panic of an actor that survives panics, to rebuild the state in place.
pub trait Behaviour: Sized + Send + 'static {
    /// `session`, `run`, `store`, ...
    const KIND: &'static str;

    /// Panics that the actor survives by rebuilding its state. `None`: a panic ends it. An actor that has
    /// children must survive, because ractor kills the children of an actor that ends.
    const SURVIVES: Option<Intensity> = None;

    /// Its messages.
    type Msg: Msg;

    /// Everything that a start needs, the first as well as a later one.
    type Args: Send + 'static;

    /// What it calls its children.
    type Child: Ord + Clone + fmt::Debug + Send + Sync + 'static;

    /// Builds the state.
    fn start(
        args: &mut Self::Args,
        ctx: &mut Ctx<Self>,
    ) -> impl Future<Output = Result<Self, StartError>> + Send;

    /// Handles one message.
    fn handle(&mut self, message: Self::Msg, ctx: &mut Ctx<Self>);

    /// A child takes messages now.
    fn child_started(&mut self, _child: &Self::Child, _ctx: &mut Ctx<Self>) {}

    /// A child ended. It is off the book already.
    fn child_exited(&mut self, _child: Self::Child, _exit: Exit, _ctx: &mut Ctx<Self>) {}

    /// The actor stops; its children stop after this.
    fn stopping(&mut self, _ctx: &mut Ctx<Self>) {}
}

/// What a handler may use: itself, its children, its tasks.
pub struct Ctx<B: Behaviour> {
    myself: Handle<B::Msg>,
    children: Children<B::Child>,
    ending: Option<Ending>,
}

enum Ending {
    Stop,
    Fail(String),
}

impl<B: Behaviour> fmt::Debug for Ctx<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx").field("actor", &self.myself).field("children", &self.children.len()).finish()
    }
}

impl<B: Behaviour> Ctx<B> {
    /// The actor's own handle.
    #[must_use]
    pub const fn myself(&self) -> &Handle<B::Msg> {
        &self.myself
    }

    /// What the tree shares.
    #[must_use]
    pub fn system(&self) -> &Arc<System> {
        &self.myself.info().system
    }

    /// The actor's children.
    #[must_use]
    pub const fn children(&self) -> &Children<B::Child> {
        &self.children
    }

    /// The actor's children, to stop one.
    pub const fn children_mut(&mut self) -> &mut Children<B::Child> {
        &mut self.children
    }

    /// Starts a child, linked to this actor. Its `start` runs in its own task; messages wait until it is done.
    ///
    /// # Errors
    /// This actor is stopping.
    pub fn spawn<C: Behaviour>(
        &mut self,
        key: B::Child,
        name: Arc<str>,
        spec: ChildSpec,
        args: C::Args,
    ) -> Result<Handle<C::Msg>, StartError> {
        let parent = self.myself.cell();
        let info_parent = Some(parent.get_id());
        let birth = Birth { system: Arc::clone(self.system()), name, parent: info_parent, args };
        // `pre_start` waits for nothing, so the future is done at its first poll.
        let started = Actor::spawn_linked(None, Runner::<C>(PhantomData), birth, parent)
            .now_or_never()
            .ok_or_else(|| StartError("the actor did not start at once".to_owned()))?;
        let (actor, _) = started.map_err(|error| StartError(error.to_string()))?;
        let info = self
            .system()
            .index
            .get(actor.get_id())
            .ok_or_else(|| StartError("the actor ended while it started".to_owned()))?;
        self.children.insert(key, Arc::clone(&info), spec);
        Ok(Handle::new(actor, info))
    }

    /// Runs `work` beside the actor; its result comes back as a message. A panic in it counts as the actor's.
    #[must_use = "dropping the task aborts it"]
    pub fn task<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(T) -> B::Msg + Send + 'static,
    ) -> Task {
        let myself = self.myself.clone();
        Task::spawn(work, move |result| match result {
            // An actor that is gone needs no result.
            Ok(value) => drop(myself.send(then(value))),
            Err(panic) => myself.task_panicked(panic),
        })
    }

    /// Sends the actor a message after `duration`, unless the task is dropped before.
    #[must_use = "dropping the task cancels the timer"]
    pub fn after(&self, duration: Duration, message: B::Msg) -> Task {
        let sleep = self.system().clock.sleep(duration);
        self.task(sleep, move |()| message)
    }

    /// Stops the actor after this message, children first.
    pub fn stop(&mut self) {
        self.ending.get_or_insert(Ending::Stop);
    }

    /// Ends the actor after this message as a failure; its supervisor decides.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.ending = Some(Ending::Fail(reason.into()));
    }

    /// Tells whoever listens what was decided about this actor.
    pub fn note(&self, kind: NoteKind) {
        let info = self.myself.info();
        info.system.note(Note { path: info.path(), actor: info.kind, kind });
    }

    fn routine(&self, kind: impl FnOnce() -> NoteKind) {
        if self.system().listens() {
            self.note(kind());
        }
    }
}

/// Starts the first actor of a tree, which has no supervisor.
///
/// # Errors
/// The runtime is shutting down.
pub fn spawn_root<B: Behaviour>(
    system: Arc<System>,
    name: Arc<str>,
    args: B::Args,
) -> Result<Handle<B::Msg>, StartError> {
    let birth = Birth { system: Arc::clone(&system), name, parent: None, args };
    let started = Actor::spawn(None, Runner::<B>(PhantomData), birth)
        .now_or_never()
        .ok_or_else(|| StartError("the root did not start at once".to_owned()))?;
    let (actor, _) = started.map_err(|error| StartError(error.to_string()))?;
    let info = system
        .index
        .get(actor.get_id())
        .ok_or_else(|| StartError("the root ended while it started".to_owned()))?;
    Ok(Handle::new(actor, info))
}

struct Runner<B>(PhantomData<fn() -> B>);

struct Birth<A> {
    system: Arc<System>,
    name: Arc<str>,
    parent: Option<ractor::ActorId>,
    args: A,
}

/// What a running actor holds. Dropped however the actor ends.
struct Cell<B: Behaviour> {
    args: B::Args,
    ctx: Ctx<B>,
    /// Absent before `start` and while the state is rebuilt.
    behaviour: Option<B>,
    panics: Window,
}

impl<B: Behaviour> Drop for Cell<B> {
    fn drop(&mut self) {
        self.ctx.system().index.remove(self.ctx.myself.cell().get_id());
    }
}

impl<B: Behaviour> Cell<B> {
    /// Runs one of the behaviour's functions, catches its panic and does what it asked for.
    async fn run(&mut self, act: impl FnOnce(&mut B, &mut Ctx<B>)) -> Result<(), ActorProcessingErr> {
        let Self { ctx, behaviour, .. } = self;
        let Some(behaviour) = behaviour else { return Ok(()) };
        let result = catch_unwind(AssertUnwindSafe(|| act(behaviour, ctx)));
        match result {
            Ok(()) => self.obey(),
            Err(panic) => Box::pin(self.rebuild(panic_text(panic.as_ref()))).await,
        }
    }

    fn obey(&mut self) -> Result<(), ActorProcessingErr> {
        match self.ctx.ending.take() {
            None => Ok(()),
            Some(Ending::Stop) => {
                self.ctx.myself.cell().stop(None);
                Ok(())
            }
            Some(Ending::Fail(reason)) => Err(reason.into()),
        }
    }

    /// After a panic: builds the state anew in place, if the actor survives panics and had not too many.
    async fn rebuild(&mut self, reason: String) -> Result<(), ActorProcessingErr> {
        let Some(intensity) = B::SURVIVES else { return Err(reason.into()) };
        let info = Arc::clone(self.ctx.myself.info());
        self.behaviour = None;
        info.rebuilt(&reason);
        info.set_state(ActorState::Rebuilding);
        if self.panics.count(info.system.clock.monotonic(), intensity).is_none() {
            self.ctx.note(NoteKind::GaveUp { reason: reason.clone() });
            return Err(reason.into());
        }
        let start = AssertUnwindSafe(B::start(&mut self.args, &mut self.ctx)).catch_unwind();
        let behaviour = match start.await {
            Ok(Ok(behaviour)) => behaviour,
            Ok(Err(error)) => return Err(format!("{reason}; then the rebuild failed: {error}").into()),
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                return Err(format!("{reason}; then the rebuild panicked: {text}").into());
            }
        };
        self.behaviour = Some(behaviour);
        info.set_state(ActorState::Running);
        self.ctx.note(NoteKind::Rebuilt { reason });
        self.obey()
    }
}

impl<B: Behaviour> Actor for Runner<B> {
    type Msg = Envelope<B::Msg>;
    type State = Cell<B>;
    type Arguments = Birth<B::Args>;

    /// Only enters the actor into the index: a failure before the link would reach no supervisor.
    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        birth: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let cell = myself.get_cell();
        let info = Arc::new(ActorInfo::new(&birth.system, cell, B::KIND, birth.name, birth.parent));
        birth.system.index.insert(&info);
        let ctx = Ctx { myself: Handle::new(myself, info), children: Children::new(), ending: None };
        Ok(Cell { args: birth.args, ctx, behaviour: None, panics: Window::default() })
    }

    async fn post_start(
        &self,
        _: ActorRef<Self::Msg>,
        cell: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        cell.ctx.routine(|| NoteKind::Starting);
        cell.behaviour = Some(B::start(&mut cell.args, &mut cell.ctx).await?);
        cell.ctx.myself.info().set_state(ActorState::Running);
        cell.ctx.routine(|| NoteKind::Running);
        cell.obey()
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        cell: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let info = Arc::clone(cell.ctx.myself.info());
        match envelope.body {
            Body::Message(message) => {
                let name = message.name();
                let begun = info.begin(name, envelope.sent);
                let span = tracing::debug_span!("actor", kind = info.kind, name = &*info.name, msg = name);
                let result = {
                    let entered = span.enter();
                    let run = cell.run(|behaviour, ctx| {
                        ctx.system().inject(B::KIND, name);
                        behaviour.handle(message, ctx);
                    });
                    // Without a panic the future is done at its first poll, inside the span.
                    let mut run = std::pin::pin!(run);
                    let first = run.as_mut().now_or_never();
                    drop(entered);
                    match first {
                        Some(result) => result,
                        None => run.await,
                    }
                };
                info.end(begun);
                result
            }
            Body::TaskPanicked(reason) => {
                let begun = info.begin("task_panicked", envelope.sent);
                let result = Box::pin(cell.rebuild(reason)).await;
                info.end(begun);
                result
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        cell: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (child, failure): (ActorCell, _) = match event {
            SupervisionEvent::ActorStarted(child) => {
                let Some(key) = cell.ctx.children.key_of(child.get_id()).cloned() else { return Ok(()) };
                return cell.run(|behaviour, ctx| behaviour.child_started(&key, ctx)).await;
            }
            // ractor calls a kill and an aborted task by these reasons.
            SupervisionEvent::ActorTerminated(child, _, reason) => match reason.as_deref() {
                Some("killed" | "actor_task_cancelled") => (child, Some(Exit::Killed)),
                _ => (child, None),
            },
            SupervisionEvent::ActorFailed(child, error) => (child, Some(Exit::Failed(error.to_string()))),
            _ => return Ok(()),
        };
        let Some((key, asked)) = cell.ctx.children.remove(child.get_id()) else { return Ok(()) };
        let exit = match failure {
            Some(Exit::Killed) | None if asked => Exit::Asked,
            Some(exit) => exit,
            None => Exit::Normal,
        };
        cell.run(|behaviour, ctx| behaviour.child_exited(key, exit, ctx)).await
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        cell: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let info = Arc::clone(cell.ctx.myself.info());
        info.set_state(ActorState::Stopping);
        if let Some(behaviour) = &mut cell.behaviour {
            // Children are stopped in order even if this panics.
            let stopping = catch_unwind(AssertUnwindSafe(|| behaviour.stopping(&mut cell.ctx)));
            if let Err(panic) = stopping {
                tracing::error!(path = info.path(), reason = panic_text(panic.as_ref()), "panicked on stop");
            }
        }
        if !cell.ctx.children.is_empty() {
            Box::pin(cell.ctx.children.stop_all()).await;
        }
        cell.ctx.routine(|| NoteKind::Ended { reason: "stopped".to_owned(), unhandled: info.mailbox() });
        Ok(())
    }
}
