//! What the exporter is told of an event: no texts, and the time.

use std::sync::Arc;

use offshoot_actors::ports::{Cause, Event};
use offshoot_actors::types::{ModelRef, Origin, RunId, SessionKey, Terminal, ToolStatus, Usage};

/// Longest text of an error in a span, in bytes.
const MAX_TEXT: usize = 500;

/// Nanoseconds since the Unix epoch.
pub(crate) type Nanos = u64;

/// A happening that makes, changes or ends a span.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) at: Nanos,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Spawned {
        run: RunId,
        session: SessionKey,
        model: ModelRef,
        label: Option<String>,
        spawner: Option<RunId>,
    },
    Submitted {
        run: RunId,
        session: SessionKey,
        cause: Cause,
    },
    Started {
        run: RunId,
        session: SessionKey,
    },
    StepStarted {
        run: RunId,
        session: SessionKey,
        step: u32,
        model: ModelRef,
    },
    StepRestarted {
        run: RunId,
        session: SessionKey,
        reason: String,
    },
    StepFinished {
        run: RunId,
        session: SessionKey,
        step: u32,
        model: ModelRef,
        spent: Usage,
    },
    ToolStarted {
        run: RunId,
        session: SessionKey,
        call: Arc<str>,
        name: Arc<str>,
    },
    ToolFinished {
        run: RunId,
        session: SessionKey,
        call: Arc<str>,
        status: ToolStatus,
    },
    Yielded {
        run: RunId,
        session: SessionKey,
    },
    Announced {
        session: SessionKey,
        runs: Vec<RunId>,
    },
    Ended {
        run: RunId,
        session: SessionKey,
        state: Terminal,
        reason: Option<String>,
        usage: Usage,
        steps: u32,
    },
}

impl What {
    /// What is to be known of an event; none if no span changes by it.
    pub(super) fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Spawned { child, label, origin, .. } => Self::Spawned {
                run: child.run,
                session: child.session.clone(),
                model: child.model.primary.clone(),
                label: label.clone(),
                spawner: match origin {
                    Origin::Agent { run, .. } => Some(*run),
                    _ => None,
                },
            },
            Event::Submitted { session, run, cause, .. } => {
                Self::Submitted { run: *run, session: session.clone(), cause: *cause }
            }
            Event::Started { session, run } => Self::Started { run: *run, session: session.clone() },
            Event::StepStarted { session, run, step, model } => {
                Self::StepStarted { run: *run, session: session.clone(), step: *step, model: model.clone() }
            }
            Event::StepRestarted { session, run, reason, .. } => {
                Self::StepRestarted { run: *run, session: session.clone(), reason: short(reason) }
            }
            Event::StepFinished { session, run, step, model, spent, .. } => Self::StepFinished {
                run: *run,
                session: session.clone(),
                step: *step,
                model: model.clone(),
                spent: *spent,
            },
            Event::ToolStarted { session, run, call, name } => Self::ToolStarted {
                run: *run,
                session: session.clone(),
                call: Arc::clone(call),
                name: Arc::clone(name),
            },
            Event::ToolFinished { session, run, call, status } => Self::ToolFinished {
                run: *run,
                session: session.clone(),
                call: Arc::clone(call),
                status: *status,
            },
            Event::Yielded { session, run } => Self::Yielded { run: *run, session: session.clone() },
            Event::Announced { session, runs } => {
                Self::Announced { session: session.clone(), runs: runs.clone() }
            }
            Event::Ended { session, run, outcome, usage, steps } => Self::Ended {
                run: *run,
                session: session.clone(),
                state: outcome.state,
                reason: outcome.reason.as_deref().map(short),
                usage: *usage,
                steps: *steps,
            },
            _ => return None,
        })
    }
}

/// The beginning of a text.
fn short(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
