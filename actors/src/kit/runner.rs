//! The ractor actor that runs a behaviour.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tracing::Instrument;

use super::behaviour::{Behaviour, Ctx, Ending, StartError};
use super::children::{Children, Exit};
use super::index::{ActorInfo, ActorState};
use super::mailbox::{Body, Envelope, Handle, Msg};
use super::supervise::Window;
use super::system::{NoteKind, System};
use super::task::panic_text;
use crate::types::Monotonic;

/// How long an actor may take one message after the other before others have their turn. With a full mailbox each of a few
/// busy actors would keep a thread for many times as long, and whoever has one question would wait for all of them.
const TURN: Duration = Duration::from_micros(250);

/// Starts an actor, linked to `parent` if there is one. Its `start` runs in its own task.
pub(super) fn start<B: Behaviour>(
    system: Arc<System>,
    name: Arc<str>,
    args: B::Args,
    parent: Option<ActorCell>,
) -> Result<Handle<B::Msg>, StartError> {
    // The actor may have come to its end before this function does, so the index is no place to look it up.
    let entered = Arc::new(OnceLock::new());
    let birth = Birth {
        system,
        name,
        parent: parent.as_ref().map(ActorCell::get_id),
        args,
        entered: Arc::clone(&entered),
    };
    let runner = Runner::<B>(PhantomData);
    // `pre_start` waits for nothing, so the future is done at its first poll, unless tokio makes it yield
    // because the task that polls it had its share.
    let started = match parent {
        Some(parent) => {
            tokio::task::unconstrained(Actor::spawn_linked(None, runner, birth, parent)).now_or_never()
        }
        None => tokio::task::unconstrained(Actor::spawn(None, runner, birth)).now_or_never(),
    };
    let (actor, _) = started
        .ok_or_else(|| StartError("the actor did not start at once".to_owned()))?
        .map_err(|error| StartError(error.to_string()))?;
    let info = entered.get().ok_or_else(|| StartError("the actor did not enter the index".to_owned()))?;
    Ok(Handle::new(actor, Arc::clone(info)))
}

struct Runner<B>(PhantomData<fn() -> B>);

struct Birth<A> {
    system: Arc<System>,
    name: Arc<str>,
    parent: Option<ractor::ActorId>,
    args: A,
    entered: Arc<OnceLock<Arc<ActorInfo>>>,
}

/// What a running actor holds. Dropped however the actor ends.
struct Cell<B: Behaviour> {
    args: B::Args,
    ctx: Ctx<B>,
    /// Absent before `start`, while the state is rebuilt, and at the end.
    behaviour: Option<B>,
    panics: Window,
    /// The name that the index shows for the message in hand.
    shown: &'static str,
    /// When the last message was done, if another waited then.
    next: Option<Monotonic>,
    /// When the first message was taken since the mailbox was empty or others had their turn.
    turn: Monotonic,
}

impl<B: Behaviour> Drop for Cell<B> {
    fn drop(&mut self) {
        self.leave("killed");
    }
}

impl<B: Behaviour> Cell<B> {
    fn info(&self) -> &Arc<ActorInfo> {
        self.ctx.myself.info()
    }

    /// Notes that a message is taken in hand. What is known already is not written and not measured again:
    /// the index would cost more than ractor does.
    fn begin(&mut self, message: &'static str, sent: Monotonic) -> Monotonic {
        let now = self.next.take().unwrap_or_else(|| {
            self.turn = self.ctx.system().clock.monotonic();
            self.turn
        });
        if !std::ptr::eq(self.shown, message) {
            self.shown = message;
            self.info().name_in_hand(message);
        }
        self.info().begin(sent, now);
        now
    }

    fn end(&mut self, begun: Monotonic) {
        let now = self.info().end(begun);
        self.next = (self.info().mailbox() > 0).then_some(now);
    }

    /// Lets others have their turn, where one message has followed on the other for long.
    async fn pause(&mut self) {
        if self.next.is_some_and(|now| now.since(self.turn) >= TURN) {
            self.next = None;
            tokio::task::yield_now().await;
        }
    }

    /// Runs one of the behaviour's functions and catches its panic.
    fn call(&mut self, name: &'static str, act: impl FnOnce(&mut B, &mut Ctx<B>)) -> Result<(), String> {
        let Self { ctx, behaviour, .. } = self;
        let Some(behaviour) = behaviour else { return Ok(()) };
        let span = ctx.span.clone();
        let _actor = span.enter();
        let _message = tracing::debug_span!("handle", msg = name).entered();
        catch_unwind(AssertUnwindSafe(|| act(behaviour, ctx))).map_err(|panic| panic_text(panic.as_ref()))
    }

    /// Does what the behaviour's function asked for, or repairs what its panic left.
    async fn settle(&mut self, called: Result<(), String>) -> Result<(), ActorProcessingErr> {
        match called {
            Ok(()) if self.ctx.ending.is_none() => Ok(()),
            Ok(()) => Box::pin(self.obey()).await,
            Err(panic) => Box::pin(self.rebuild(panic)).await,
        }
    }

    async fn obey(&mut self) -> Result<(), ActorProcessingErr> {
        match self.ctx.ending.take() {
            None => Ok(()),
            Some(Ending::Stop) => {
                self.ctx.myself.stop();
                Ok(())
            }
            Some(Ending::Fail(reason)) => Err(self.fail(reason).await),
        }
    }

    /// After a panic: builds the state anew in place, if the actor survives panics and had not too many. A
    /// rebuild that fails counts as one more.
    async fn rebuild(&mut self, mut reason: String) -> Result<(), ActorProcessingErr> {
        let info = Arc::clone(self.info());
        self.drop_state();
        // What the lost message asked for is lost with it.
        self.ctx.ending = None;
        let Some(intensity) = B::SURVIVES else { return Err(self.fall(reason).await) };
        info.set_state(ActorState::Rebuilding);
        loop {
            info.panicked(&reason);
            if self.panics.count(info.system.clock.monotonic(), intensity).is_none() {
                self.ctx.note(NoteKind::GaveUp { reason: reason.clone() });
                return Err(self.fall(reason).await);
            }
            match self.start().await {
                Ok(()) => break,
                Err(error) => reason = format!("{reason}; then the rebuild failed: {error}"),
            }
        }
        info.rebuilt();
        info.set_state(ActorState::Running);
        self.ctx.note(NoteKind::Rebuilt { reason });
        self.obey().await
    }

    /// Builds the state; a panic is an error.
    async fn start(&mut self) -> Result<(), StartError> {
        let span = self.ctx.span.clone();
        let start = AssertUnwindSafe(B::start(&mut self.args, &mut self.ctx)).catch_unwind();
        match start.instrument(span).await {
            Ok(started) => {
                self.behaviour = Some(started?);
                Ok(())
            }
            Err(panic) => Err(StartError(panic_text(panic.as_ref()))),
        }
    }

    async fn fail(&mut self, reason: String) -> ActorProcessingErr {
        self.ctx.span.in_scope(|| {
            tracing::error!(path = self.info().path(), actor = B::KIND, reason, "failed");
        });
        self.go_down(reason).await
    }

    /// After a panic, which the panic hook has reported, or a start whose failure is told elsewhere: the supervisor says
    /// what becomes of it.
    async fn fall(&mut self, reason: String) -> ActorProcessingErr {
        self.ctx.span.in_scope(|| {
            tracing::info!(path = self.info().path(), actor = B::KIND, reason, "failed");
        });
        self.go_down(reason).await
    }

    /// Ends the children in order before the failure goes up; ractor would kill them.
    async fn go_down(&mut self, reason: String) -> ActorProcessingErr {
        self.info().set_state(ActorState::Stopping);
        if !self.ctx.children.is_empty() {
            self.bequeath().await;
        }
        let myself = self.info().cell().get_id();
        self.ctx.children.stop_all(myself).await;
        self.leave(&reason);
        reason.into()
    }

    /// Lets the behaviour find other parents for children that are to outlive it; it may panic on that.
    async fn bequeath(&mut self) {
        let failing = AssertUnwindSafe(B::failing(&mut self.args, &mut self.ctx)).catch_unwind();
        if let Err(panic) = failing.await {
            tracing::error!(actor = B::KIND, reason = panic_text(panic.as_ref()), "panicked while it failed");
        }
    }

    /// Drops the state and leaves the index. What the actor held is free before anybody hears of its end.
    fn leave(&mut self, reason: &str) {
        if self.info().has_left() {
            return;
        }
        self.drop_state();
        let unhandled = self.info().mailbox();
        self.info().leave();
        self.ctx.routine(|| NoteKind::Ended { reason: reason.to_owned(), unhandled });
    }

    /// A panic while the state is dropped must not keep the actor from its end.
    fn drop_state(&mut self) {
        let state = self.behaviour.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(state))) {
            tracing::error!(actor = B::KIND, reason = panic_text(panic.as_ref()), "panicked while dropped");
        }
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
        // The level is that of the gravest line, so that no filter takes the actor's name off a line.
        let span = tracing::error_span!(
            parent: None, "actor", kind = B::KIND, actor = &*birth.name, id = cell.get_id().pid()
        );
        let info = Arc::new(ActorInfo::new(&birth.system, cell, B::KIND, birth.name, birth.parent));
        info.enter();
        // Set once: the slot was made for this start.
        let _ = birth.entered.set(Arc::clone(&info));
        let ctx = Ctx { myself: Handle::new(myself, info), children: Children::new(), ending: None, span };
        let (panics, turn) = (Window::default(), Monotonic::default());
        Ok(Cell { args: birth.args, ctx, behaviour: None, panics, shown: "", next: None, turn })
    }

    async fn post_start(
        &self,
        _: ActorRef<Self::Msg>,
        cell: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        cell.ctx.routine(|| NoteKind::Starting);
        if let Err(error) = cell.start().await {
            return Err(if B::START_IS_TOLD { cell.fall(error.0).await } else { cell.fail(error.0).await });
        }
        cell.info().set_state(ActorState::Running);
        cell.ctx.routine(|| NoteKind::Running);
        cell.obey().await
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        cell: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match envelope.body {
            Body::Message(message) => {
                let name = message.name();
                #[cfg(feature = "faults")]
                Arc::clone(&cell.info().system).stagger(B::KIND, name).await;
                let begun = cell.begin(name, envelope.sent);
                let called = cell.call(name, |behaviour, ctx| {
                    ctx.system().inject(B::KIND, name);
                    behaviour.handle(message, ctx);
                });
                let result = cell.settle(called).await;
                cell.end(begun);
                if result.is_ok() {
                    cell.pause().await;
                }
                result
            }
            Body::Sweep(child) => {
                let begun = cell.begin("sweep", envelope.sent);
                let myself = cell.info().cell().get_id();
                let swept = cell.ctx.children.sweep(child, myself);
                let called = swept.map_or(Ok(()), |key| {
                    cell.call("child_swept", |behaviour, ctx| behaviour.child_swept(key, ctx))
                });
                let result = cell.settle(called).await;
                cell.end(begun);
                result
            }
            Body::TaskPanicked(reason) => {
                let begun = cell.begin("task_panicked", envelope.sent);
                let result = cell.settle(Err(reason)).await;
                cell.end(begun);
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
        cell.next = None;
        let (child, failure) = match event {
            SupervisionEvent::ActorStarted(child) => {
                let Some(key) = cell.ctx.children.key_of(child.get_id()).cloned() else { return Ok(()) };
                let called = cell.call("child_started", |behaviour, ctx| behaviour.child_started(&key, ctx));
                return cell.settle(called).await;
            }
            SupervisionEvent::ActorTerminated(child, state, reason) => {
                // The state of a child that was killed while it waited for a message comes along.
                drop(state);
                // ractor calls a kill and an aborted task by these reasons.
                let killed = matches!(reason.as_deref(), Some("killed" | "actor_task_cancelled"));
                (child, killed.then_some(Exit::Killed))
            }
            SupervisionEvent::ActorFailed(child, error) => (child, Some(Exit::Failed(error.to_string()))),
            _ => return Ok(()),
        };
        let Some((key, info, asked)) = cell.ctx.children.remove(child.get_id()) else { return Ok(()) };
        info.dropped().await;
        let exit = match failure {
            Some(Exit::Killed) | None if asked => Exit::Asked,
            Some(exit) => exit,
            None => Exit::Normal,
        };
        let called = cell.call("child_exited", |behaviour, ctx| behaviour.child_exited(key, exit, ctx));
        cell.settle(called).await
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        cell: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        cell.info().set_state(ActorState::Stopping);
        // Children are stopped in order even if this panics.
        if let Err(reason) = cell.call("stopping", B::stopping) {
            tracing::error!(path = cell.info().path(), reason, "panicked on stop");
        }
        if !cell.ctx.children.is_empty() {
            let myself = cell.info().cell().get_id();
            Box::pin(cell.ctx.children.stop_all(myself)).await;
        }
        cell.leave("stopped");
        Ok(())
    }
}
