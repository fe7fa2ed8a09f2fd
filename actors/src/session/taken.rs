//! What is taken out of a session's inbox.

use std::sync::Arc;

use uuid::Uuid;

use crate::ports::{Op, Transaction};
use crate::types::{Entry, RunId, SessionKey, StoredEntry, Transcript, Usage};

/// What a transaction takes out of the inbox and appends to the transcript.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(super) announces: Vec<RunId>,
    pub(super) steers: Vec<Uuid>,
    /// The run that goes on with the results.
    pub(super) by: Option<RunId>,
    /// Child sessions that are deleted once their result is taken.
    pub(super) delete: Vec<SessionKey>,
    pub(super) entries: Vec<Arc<StoredEntry>>,
    /// The transcript with the entries.
    pub(super) transcript: Transcript,
}

impl Taken {
    pub(super) fn ops(&self, session: &SessionKey, open_run: Option<RunId>, into: &mut Transaction) {
        if !self.entries.is_empty() {
            let entries = self.entries.clone();
            into.push(Op::Append { session: session.clone(), open_run, entries });
        }
        if !self.announces.is_empty() {
            let (session, runs) = (session.clone(), self.announces.clone());
            into.push(Op::TakeAnnounces { session, runs, by: self.by });
        }
        if !self.steers.is_empty() {
            into.push(Op::TakeSteers { session: session.clone(), ids: self.steers.clone() });
        }
        into.extend(
            self.delete
                .iter()
                .map(|session| Op::DeleteSession { session: session.clone(), with_parents: true }),
        );
    }

    /// The step whose answer is among the entries: no tools follow on it that would record it.
    pub(super) fn step(&self, run: RunId, steps: u32, usage: Usage) -> Option<Op> {
        self.entries.iter().find_map(|entry| match &entry.entry {
            Entry::Assistant { model, .. } => {
                Some(Op::RecordStep { run, steps, usage, model: model.clone() })
            }
            _ => None,
        })
    }
}
