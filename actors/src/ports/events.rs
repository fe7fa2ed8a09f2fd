//! What happens in the tree, told to whoever listens.

mod pairing;

use std::sync::Arc;

pub use self::pairing::{PairVerdict, PairingEvent};
use super::Cause;
use crate::kit::Note;
use crate::types::{Accepted, ModelRef, Origin, Outcome, RunId, SessionKey, StoredEntry, ToolStatus, Usage};
use crate::watch::WatchTrouble;

/// One happening. Events of one session, and of one device, come in order; a run's first is its `Spawned` or `Submitted`.
#[derive(Debug, Clone)]
pub enum Event {
    /// A spawn was accepted and committed.
    Spawned {
        /// The session that asked.
        parent: SessionKey,
        /// What was accepted.
        child: Arc<Accepted>,
        /// The label that the spawn gave.
        label: Option<String>,
        /// What it is asked: the first entry of its transcript.
        task: Arc<StoredEntry>,
        /// Who asked.
        origin: Origin,
    },
    /// A spawn was refused.
    Refused {
        /// The session that asked.
        parent: SessionKey,
        /// The refusal's code.
        code: &'static str,
    },
    /// A message was accepted and committed, or results of children started a run.
    Submitted {
        /// Its session.
        session: SessionKey,
        /// The run.
        run: RunId,
        /// What started it.
        cause: Cause,
        /// The name that its client gave it.
        wire_id: Option<String>,
    },
    /// Entries were appended to the transcript.
    Appended {
        /// The session.
        session: SessionKey,
        /// The entries, in order.
        entries: Vec<Arc<StoredEntry>>,
    },
    /// The run has its place in the lane and makes its first step.
    Started {
        /// Its session.
        session: SessionKey,
        /// The run.
        run: RunId,
    },
    /// A piece of the model's text.
    Text {
        /// Its session.
        session: SessionKey,
        /// The run.
        run: RunId,
        /// The piece.
        piece: Arc<str>,
    },
    /// A step is made again; text since its beginning is void.
    StepRestarted {
        /// Its session.
        session: SessionKey,
        /// The run.
        run: RunId,
        /// The step.
        step: u32,
        /// Why.
        reason: String,
        /// The fallback that makes it, and all steps after it, if the model gave up.
        fallback: Option<ModelRef>,
    },
    /// A model call was begun. A step that is made again begins again.
    StepStarted {
        /// Its session.
        session: SessionKey,
        /// The run.
        run: RunId,
        /// The step.
        step: u32,
        /// The model that is called.
        model: ModelRef,
    },
    /// A model call was answered.
    StepFinished {
        /// Its session.
        session: SessionKey,
        /// The run.
        run: RunId,
        /// The step.
        step: u32,
        /// The model that answered.
        model: ModelRef,
        /// What this call used.
        spent: Usage,
        /// What the run used so far.
        usage: Usage,
    },
    /// A tool call was committed as started.
    ToolStarted {
        /// Its session.
        session: SessionKey,
        /// The run.
        run: RunId,
        /// The call's id.
        call: Arc<str>,
        /// The tool's name.
        name: Arc<str>,
    },
    /// A tool call was committed as finished.
    ToolFinished {
        /// Its session.
        session: SessionKey,
        /// The run.
        run: RunId,
        /// The call's id.
        call: Arc<str>,
        /// How it ended.
        status: ToolStatus,
    },
    /// The run waits for the children of its session.
    Yielded {
        /// Its session.
        session: SessionKey,
        /// The run.
        run: RunId,
    },
    /// Results of children were appended to the transcript.
    Announced {
        /// The session that got them.
        session: SessionKey,
        /// The children's runs.
        runs: Vec<RunId>,
    },
    /// The run's end was committed.
    Ended {
        /// Its session.
        session: SessionKey,
        /// The run.
        run: RunId,
        /// How it ended.
        outcome: Outcome,
        /// Tokens of the run itself.
        usage: Usage,
        /// Model calls that it made.
        steps: u32,
    },
    /// A session has outlived its parent.
    Moved {
        /// The session.
        session: SessionKey,
        /// The parent that goes away.
        from: SessionKey,
        /// The one that came in its place, which gets its results; none if nobody takes them.
        to: Option<SessionKey>,
    },
    /// Something happened to a device.
    Pairing(PairingEvent),
    /// An actor stopped answering or a run went silent, or is back.
    Watched(WatchTrouble),
    /// An actor failed, and this became of it. The kit has logged it.
    Noted(Note),
}

impl Event {
    /// The run that it is about, if it is about one.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::Spawned { child, .. } => Some(child.run),
            Self::Submitted { run, .. }
            | Self::Started { run, .. }
            | Self::Text { run, .. }
            | Self::StepRestarted { run, .. }
            | Self::StepStarted { run, .. }
            | Self::StepFinished { run, .. }
            | Self::ToolStarted { run, .. }
            | Self::ToolFinished { run, .. }
            | Self::Yielded { run, .. }
            | Self::Ended { run, .. } => Some(*run),
            Self::Watched(WatchTrouble::Silent { run, .. } | WatchTrouble::Heard { run, .. }) => Some(*run),
            Self::Watched(WatchTrouble::Stuck { .. } | WatchTrouble::Answers { .. })
            | Self::Refused { .. }
            | Self::Announced { .. }
            | Self::Appended { .. }
            | Self::Moved { .. }
            | Self::Pairing(_)
            | Self::Noted(_) => None,
        }
    }
}

/// Listens. Called from inside the actors and from the store's commits.
pub trait EventSink: Send + Sync + 'static {
    /// Takes one event. Must return at once: it must not wait, do I/O, or take a lock that anybody holds for long. A piece
    /// of text is told under a lock of its run, so that none comes after the end: while a sink has it, that end, and the
    /// commits that come after it, stand still.
    fn publish(&self, event: Event);

    /// Whether anybody listens at all; if not, some events are not even made.
    fn listens(&self) -> bool {
        true
    }
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn publish(&self, _: Event) {}

    fn listens(&self) -> bool {
        false
    }
}
