//! What all actors of one tree share.

use std::fmt;
use std::sync::Arc;

use super::index::ActorIndex;
use crate::ports::{Clock, Ids};

/// What a supervisor decided or saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoteKind {
    /// An actor runs its `start`.
    Starting,
    /// An actor takes messages.
    Running,
    /// An actor that has children panicked and its state was rebuilt in place.
    Rebuilt {
        /// The panic's text.
        reason: String,
    },
    /// A child ended and will be started again.
    Restarting {
        /// The child's name.
        child: String,
        /// How it ended.
        reason: String,
        /// After how many milliseconds.
        after_ms: u64,
    },
    /// Too many restarts; the failure goes up.
    GaveUp {
        /// The last failure.
        reason: String,
    },
    /// An actor did not stop in time and was killed.
    Killed,
    /// An actor ended.
    Ended {
        /// How.
        reason: String,
        /// Messages that it never handled.
        unhandled: u32,
    },
}

impl NoteKind {
    /// Whether it tells of a failure, not of an actor's ordinary life.
    #[must_use]
    pub const fn is_trouble(&self) -> bool {
        matches!(self, Self::Rebuilt { .. } | Self::Restarting { .. } | Self::GaveUp { .. } | Self::Killed)
    }
}

/// One decision about one actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The actor's path from the root.
    pub path: String,
    /// Its kind.
    pub actor: &'static str,
    /// What was decided or seen.
    pub kind: NoteKind,
}

/// Takes notes.
pub(super) type NoteSink = Arc<dyn Fn(Note) + Send + Sync>;

/// Clock, ids, index and listeners of one tree.
pub struct System {
    /// The tree's time.
    pub clock: Arc<dyn Clock>,
    /// The tree's ids and random numbers.
    pub ids: Arc<dyn Ids>,
    /// The live actors.
    pub index: ActorIndex,
    notes: Option<NoteSink>,
    troubles: Option<NoteSink>,
    #[cfg(feature = "faults")]
    pub(super) faults: Option<Arc<dyn super::Faults>>,
}

impl System {
    /// A system without listeners.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self {
            clock,
            ids,
            index: ActorIndex::default(),
            notes: None,
            troubles: None,
            #[cfg(feature = "faults")]
            faults: None,
        }
    }

    /// The same with somebody who gets every note.
    #[must_use]
    pub fn on_note(mut self, sink: impl Fn(Note) + Send + Sync + 'static) -> Self {
        self.notes = Some(Arc::new(sink));
        self
    }

    /// The same with somebody who gets the notes of failures. The others are not made for it.
    #[must_use]
    pub fn on_trouble(mut self, sink: impl Fn(Note) + Send + Sync + 'static) -> Self {
        self.troubles = Some(Arc::new(sink));
        self
    }

    /// The same with faults.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn with_faults(mut self, faults: Arc<dyn super::Faults>) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Whether anybody would see a note of routine.
    pub(super) fn listens(&self) -> bool {
        self.notes.is_some() || tracing::enabled!(tracing::Level::DEBUG)
    }

    pub(super) fn note(&self, note: Note) {
        match &note.kind {
            NoteKind::Rebuilt { reason } => {
                tracing::error!(path = note.path, actor = note.actor, reason, "panicked, state rebuilt");
            }
            NoteKind::Restarting { child, reason, after_ms } => {
                tracing::warn!(path = note.path, actor = note.actor, child, reason, after_ms, "restarting");
            }
            NoteKind::GaveUp { reason } => {
                tracing::error!(path = note.path, actor = note.actor, reason, "too many restarts, giving up");
            }
            NoteKind::Killed => tracing::warn!(path = note.path, actor = note.actor, "did not stop in time"),
            NoteKind::Starting => tracing::trace!(path = note.path, actor = note.actor, "starting"),
            NoteKind::Running => tracing::trace!(path = note.path, actor = note.actor, "running"),
            NoteKind::Ended { reason, unhandled } => {
                tracing::debug!(path = note.path, actor = note.actor, reason, unhandled, "ended");
            }
        }
        if let Some(sink) = self.troubles.as_ref().filter(|_| note.kind.is_trouble()) {
            sink(note.clone());
        }
        if let Some(sink) = &self.notes {
            sink(note);
        }
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").field("actors", &self.index.len()).finish_non_exhaustive()
    }
}
