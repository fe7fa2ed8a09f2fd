//! What the book has of one session, and how what is read of it and what is told of it become one.
//!
//! A run's end is told after it is committed. So what the store says may count runs whose end is told only later, and may
//! miss none that were told before it was asked. It names the runs that ended last: those are not added again.

use std::sync::Arc;

use super::book::{EndedRun, SessionFacts};
use crate::ports::{Cause, RunState, SessionFigures};
use crate::types::{SessionKey, Terminal, Timestamp};

/// Runs that may end below a session while it is read.
const MAX_TOLD: usize = 1_000;

/// What is known of a session.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) facts: Option<Arc<SessionFacts>>,
    /// What its ended runs have used and the ended runs of those below it, and how its children ended.
    pub(super) figures: Option<SessionFigures>,
    /// Whether the figures may have missed something and are to be read again.
    stale: bool,
    /// How often there was doubt about all sessions when the store was asked for the figures.
    doubts: u64,
    /// Ends that were told since the store was asked for the figures, with the level below the session; none while it is
    /// not asked, or where its answer is void.
    told: Option<Vec<(Arc<EndedRun>, u64)>>,
    /// When a run of it ended last.
    pub(super) ended_at: Option<Timestamp>,
    /// Of the runs whose end was told, the one that was accepted last, and how that ended.
    pub(super) latest: Option<(Timestamp, RunState)>,
}

impl Entry {
    /// One of which nothing is used so far.
    pub(super) fn bear(&mut self, facts: SessionFacts, doubts: u64) {
        self.facts = Some(Arc::new(facts));
        if self.figures.is_none() {
            (self.figures, self.doubts) = (Some(SessionFigures::default()), doubts);
        }
    }

    /// The session above it, as far as that is known.
    #[expect(clippy::option_option, reason = "nobody above is something else than nothing known of it")]
    pub(super) fn parent(&self) -> Option<Option<SessionKey>> {
        self.facts.as_ref().map(|facts| facts.parent.clone())
    }

    /// Whether its figures are to be read, after so many doubts about all sessions.
    pub(super) const fn is_unread(&self, doubts: u64) -> bool {
        self.figures.is_none() || self.stale || self.doubts != doubts
    }

    /// After how many doubts about all sessions its figures were read; none before they were.
    pub(super) fn read_at(&self) -> Option<u64> {
        self.figures.as_ref().map(|_| self.doubts)
    }

    /// Its figures may miss something, also those that are being read.
    pub(super) fn doubt(&mut self) {
        self.stale = true;
        self.told = None;
    }

    /// The store is about to be asked for its figures.
    pub(super) fn ask(&mut self, doubts: u64) {
        (self.told, self.doubts) = (Some(Vec::new()), doubts);
        self.stale = true;
    }

    /// Enters what the store says, with what was told since it was asked.
    pub(super) fn learn(&mut self, figures: SessionFigures, doubts: u64) {
        let Some(told) = self.told.take().filter(|_| self.doubts == doubts) else { return };
        if let Some(latest) = figures.latest {
            self.note(latest);
        }
        self.figures = Some(figures);
        self.stale = false;
        for (run, level) in told {
            self.add(&run, level);
        }
    }

    /// The end of a run so many levels below it is committed.
    pub(super) fn tell(&mut self, run: &Arc<EndedRun>, level: u64) {
        match &mut self.told {
            Some(told) if told.len() < MAX_TOLD => told.push((Arc::clone(run), level)),
            told => *told = None,
        }
        self.add(run, level);
    }

    fn add(&mut self, run: &EndedRun, level: u64) {
        let Some(figures) = &mut self.figures else { return };
        let end = (run.ended_at, run.accepted.id);
        if figures.newest.contains(&end) {
            return;
        }
        if figures.newest.len() >= SessionFigures::MAX_NEWEST && figures.newest.first() > Some(&end) {
            // Nobody can tell whether it counts already.
            self.stale = true;
            return;
        }
        if level == 0 { &mut figures.own } else { &mut figures.below }.add(&run.model, run.usage);
        if level == 1 && run.accepted.cause == Cause::Spawn {
            match run.state {
                Terminal::Ok | Terminal::Partial => figures.done += 1,
                _ => figures.failed += 1,
            }
        }
    }

    /// A run of it that was accepted then stands so.
    pub(super) fn note(&mut self, run: (Timestamp, RunState)) {
        if self.latest.is_none_or(|(at, _)| at <= run.0) {
            self.latest = Some(run);
        }
    }
}
