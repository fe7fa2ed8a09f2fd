//! An actor as its file writes it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tracing::{Instrument, Span};

use super::children::{ChildSpec, Children, Exit};
use super::index::ActorInfo;
use super::mailbox::{Handle, Msg};
use super::runner;
use super::supervise::Intensity;
use super::system::{Note, NoteKind, System};
use super::task::Task;

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

    /// Whether whoever starts the actor says why its start failed: a line in the log about it would say so twice.
    const START_IS_TOLD: bool = false;

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

    /// A child is off the book that hangs elsewhere, or of whose end another actor was told.
    fn child_swept(&mut self, _child: Self::Child, _ctx: &mut Ctx<Self>) {}

    /// The actor has failed for good, its state is gone, and its children are about to be stopped: it may see to it that
    /// some of them are adopted before that. Must come to an end by itself.
    fn failing(_args: &mut Self::Args, _ctx: &mut Ctx<Self>) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// The actor stops; its children stop after this.
    fn stopping(&mut self, _ctx: &mut Ctx<Self>) {}
}

/// What a handler may use: itself, its children, its tasks.
pub struct Ctx<B: Behaviour> {
    pub(super) myself: Handle<B::Msg>,
    pub(super) children: Children<B::Child>,
    pub(super) ending: Option<Ending>,
    /// What log lines of the actor and of its tasks carry. One for life: a span a message would cost more
    /// than the message.
    pub(super) span: Span,
}

pub(super) enum Ending {
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
        let system = Arc::clone(self.system());
        let handle = runner::start::<C>(system, name, args, Some(self.myself.cell()))?;
        self.children.insert(key, Arc::clone(handle.info()), spec);
        Ok(handle)
    }

    /// Takes over a live child of another actor of this tree: from now on it hangs below this one, which hears of its end.
    /// The child notices nothing, its work and its own children go on. Its former parent has it in its book until it
    /// calls [`Ctx::release`], and does not stop it meanwhile.
    ///
    /// # Errors
    /// This actor is stopping, or has another child under this key; or the child is about to end, and then its former
    /// parent hears of that. One that ends at this very moment may seem adopted; one of the two parents hears of it.
    pub fn adopt(
        &mut self,
        key: B::Child,
        child: &Arc<ActorInfo>,
        spec: ChildSpec,
    ) -> Result<(), StartError> {
        let (myself, id) = (self.myself.cell(), child.cell().get_id());
        match self.children.id_of(&key) {
            Some(known) if known == id => return Ok(()),
            Some(_) => return Err(StartError(format!("there is another child {key:?}"))),
            None => {}
        }
        // In the book before the link: from then on the end of the child is told here.
        self.children.insert(key, Arc::clone(child), spec);
        child.cell().link(myself.clone());
        match child.cell().try_get_supervisor() {
            Some(supervisor) if supervisor.get_id() == myself.get_id() => child.hang_below(myself.get_id()),
            Some(_) => {
                self.children.remove(id);
                return Err(StartError(format!(
                    "{} cannot be linked: it is ending, or this actor is",
                    child.name
                )));
            }
            // It has ended by now, and one of the two parents is being told: if it is this one, before its next message.
            None => self.myself.sweep(id),
        }
        Ok(())
    }

    /// Takes a child off the book that another actor adopted, whether it lives or not. Returns whether it did. Not to be
    /// called before it is known to be adopted: the end of a child that was not might be lost.
    pub fn release(&mut self, key: &B::Child) -> bool {
        self.children.release(key, self.myself.cell().get_id())
    }

    /// After a rebuild: takes children off the book that other actors have adopted, as soon as all ends are told that are
    /// to be told here. Of each the behaviour hears as [`Behaviour::child_swept`].
    pub fn sweep(&self) {
        for child in self.children.strangers(self.myself.cell().get_id()) {
            self.myself.sweep(child);
        }
    }

    /// Runs `work` beside the actor; its result comes back as a message. A panic in it counts as the actor's.
    #[must_use = "dropping the task aborts it"]
    pub fn task<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(T) -> B::Msg + Send + 'static,
    ) -> Task {
        self.quiet_task(work.instrument(self.span.clone()), then)
    }

    /// The same for work that logs nothing and is polled for each message: entering the span costs more than that.
    #[must_use = "dropping the task aborts it"]
    pub fn quiet_task<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(T) -> B::Msg + Send + 'static,
    ) -> Task {
        let myself = self.myself.clone();
        Task::spawn(work.map(then), move |result| match result {
            // An actor that is gone needs no result.
            Ok(message) => drop(myself.send(message)),
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

    /// Ends the actor after this message as a failure, children first; its supervisor decides. Its `stopping`
    /// does not run.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.ending = Some(Ending::Fail(reason.into()));
    }

    /// Tells whoever listens what was decided about this actor.
    pub fn note(&self, kind: NoteKind) {
        let info = self.myself.info();
        info.system.note(Note { path: info.path(), actor: info.kind, kind });
    }

    pub(super) fn routine(&self, kind: impl FnOnce() -> NoteKind) {
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
    runner::start::<B>(system, name, args, None)
}
