//! The results that wait to be appended to a session's transcript.

use std::collections::BTreeSet;
use std::ops::Deref;

use crate::ports::Announce;
use crate::types::RunId;

/// Results in order of arrival, each run's once.
#[derive(Debug, Default)]
pub(super) struct Announces {
    in_order: Vec<Announce>,
    /// A parent of thousands is asked for each of them.
    runs: BTreeSet<RunId>,
}

impl Announces {
    pub(super) fn contains(&self, run: RunId) -> bool {
        self.runs.contains(&run)
    }

    /// Adds a result. A run's second one is no news.
    pub(super) fn add(&mut self, announce: Announce) {
        if self.runs.insert(announce.item.run) {
            self.in_order.push(announce);
        }
    }

    /// Forgets the results of these runs.
    pub(super) fn forget(&mut self, runs: impl IntoIterator<Item = RunId>) {
        let before = self.runs.len();
        for run in runs {
            self.runs.remove(&run);
        }
        if self.runs.len() < before {
            self.in_order.retain(|announce| self.runs.contains(&announce.item.run));
        }
    }
}

impl FromIterator<Announce> for Announces {
    fn from_iter<T: IntoIterator<Item = Announce>>(announces: T) -> Self {
        let mut all = Self::default();
        for announce in announces {
            all.add(announce);
        }
        all
    }
}

impl Deref for Announces {
    type Target = [Announce];

    fn deref(&self) -> &[Announce] {
        &self.in_order
    }
}
