//! What ractor does not give: counted mailboxes, an index of live actors, supervision that restarts.
//!
//! An actor is a [`Behaviour`]. Its handlers are plain functions, so none of them can wait for the store, the
//! network or a child; slow work runs in a [`Task`] and comes back as a message. The kit starts actors linked,
//! catches their panics, keeps the book of their children and stops them in order.

mod behaviour;
mod children;
mod faults;
mod index;
mod mailbox;
mod runner;
mod supervise;
mod system;
mod task;

pub use behaviour::{Behaviour, Ctx, StartError, spawn_root};
pub use children::{ChildSpec, Children, Exit};
#[cfg(feature = "faults")]
pub use faults::{Bug, Faults};
pub use index::{ActorIndex, ActorInfo, ActorState, ActorView, KindFigures};
pub use mailbox::{Envelope, Handle, Msg, Reply};
pub use supervise::{Backoff, Intensity, Restart, Verdict, Window, decide};
pub use system::{Note, NoteKind, System};
pub use task::Task;

#[cfg(test)]
mod tests;
