//! Messages on their way: envelope, typed handle, reply.

use std::fmt;
use std::sync::Arc;

use ractor::{ActorCell, ActorId, ActorRef, MessagingErr};
use tokio::sync::oneshot;

use super::index::{ActorInfo, ActorState};
use crate::types::Monotonic;

/// A message type of one actor.
pub trait Msg: Send + 'static {
    /// The message's name, for people who watch.
    fn name(&self) -> &'static str;
}

/// A message with what the kit needs of it.
pub struct Envelope<M> {
    pub(super) sent: Monotonic,
    pub(super) body: Body<M>,
}

pub(super) enum Body<M> {
    Message(M),
    /// A task that the actor owns panicked.
    TaskPanicked(String),
    /// A child ended while it was adopted: if its end was not told here, it was told to its former parent.
    Sweep(ActorId),
}

impl<M> fmt::Debug for Envelope<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope").field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// Sends messages to one actor and counts them.
pub struct Handle<M: Msg> {
    actor: ActorRef<Envelope<M>>,
    info: Arc<ActorInfo>,
}

impl<M: Msg> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { actor: self.actor.clone(), info: Arc::clone(&self.info) }
    }
}

impl<M: Msg> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("kind", &self.info.kind).field("name", &self.info.name).finish()
    }
}

impl<M: Msg> Handle<M> {
    pub(super) const fn new(actor: ActorRef<Envelope<M>>, info: Arc<ActorInfo>) -> Self {
        Self { actor, info }
    }

    /// The handle of the actor behind an entry of the index, if it takes messages of this type.
    pub(super) fn of(info: &Arc<ActorInfo>) -> Option<Self> {
        let cell = info.cell();
        (cell.is_message_type_of::<Envelope<M>>() == Some(true))
            .then(|| Self { actor: cell.clone().into(), info: Arc::clone(info) })
    }

    /// Sends a message. Gives it back if the actor's door is closed.
    ///
    /// `Ok` says that the message waits, not that it will be handled: a stop overtakes what waits. What must
    /// not be lost is sent to an actor that ends by [`Handle::drain`], or is answered.
    ///
    /// # Errors
    /// The message, if the actor was asked to stop or to drain, or is gone.
    pub fn send(&self, message: M) -> Result<(), M> {
        self.post(Body::Message(message)).map_err(|body| match body {
            Body::Message(message) => message,
            Body::TaskPanicked(_) | Body::Sweep(_) => unreachable!("what comes back is what was sent"),
        })
    }

    pub(super) fn task_panicked(&self, text: String) {
        // An actor that is gone has nothing left that the panic could harm.
        let _ = self.post(Body::TaskPanicked(text));
    }

    pub(super) fn sweep(&self, child: ActorId) {
        // An actor that is gone has no book.
        let _ = self.post(Body::Sweep(child));
    }

    fn post(&self, body: Body<M>) -> Result<(), Body<M>> {
        // ractor takes messages until the actor gets to the stop, and loses them.
        if self.info.state() == ActorState::Stopping {
            return Err(body);
        }
        let sent = self.info.enqueued();
        match self.actor.send_message(Envelope { sent, body }) {
            Ok(()) => Ok(()),
            Err(MessagingErr::SendErr(envelope)) => {
                self.info.refused();
                Err(envelope.body)
            }
            Err(MessagingErr::ChannelClosed | MessagingErr::InvalidActorType) => {
                unreachable!("the handle is typed, and a closed mailbox gives the message back")
            }
        }
    }

    /// What is known of the actor.
    #[must_use]
    pub const fn info(&self) -> &Arc<ActorInfo> {
        &self.info
    }

    /// The actor's ractor cell.
    #[must_use]
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// Closes the door and stops the actor before its next message, children first.
    pub fn stop(&self) {
        self.info.stop();
    }

    /// Closes the door, works off what is queued, then stops. A draining actor can start no children.
    pub fn drain(&self) {
        self.info.set_state(ActorState::Stopping);
        // A closed mailbox is what was asked for.
        let _ = self.actor.drain();
    }

    /// Waits until the actor has ended, whoever ended it.
    pub async fn ended(&self) {
        self.info.ended().await;
    }
}

/// Takes one answer, for a waiting caller or as a message to an actor.
pub enum Reply<R> {
    /// Somebody waits.
    Channel(oneshot::Sender<R>),
    /// Somebody gets it as a message.
    Message(Box<dyn FnOnce(R) + Send>),
}

impl<R> Reply<R> {
    /// A reply that becomes a message.
    pub fn to(send: impl FnOnce(R) + Send + 'static) -> Self {
        Self::Message(Box::new(send))
    }

    /// Answers. A caller who no longer waits misses it.
    pub fn send(self, answer: R) {
        match self {
            Self::Channel(sender) => {
                let _ = sender.send(answer);
            }
            Self::Message(send) => send(answer),
        }
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
