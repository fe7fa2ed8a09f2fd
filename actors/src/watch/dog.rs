//! The watchdog's looks: cheap enough to be taken all the time, also over ten thousand actors.

use std::time::Duration;

use crate::policy::watch::{Changes, Overdue, STUCK_AFTER, is_overdue};
use crate::ports::Event;
use crate::run::Phase;
use crate::shared::Shared;
use crate::tree::TreeHandle;
use crate::types::{Monotonic, RunId, SessionKey, Timestamp};

/// What has become of an actor or a run that somebody watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// An actor does not answer.
    Stuck {
        /// Its path.
        path: String,
        /// Its kind.
        kind: &'static str,
        /// The message in hand; none where messages wait and it takes none.
        message: Option<&'static str>,
        /// Since when.
        since: Timestamp,
    },
    /// It answers again, or has ended.
    Answers {
        /// Its path.
        path: String,
        /// Its kind.
        kind: &'static str,
        /// How long it did not.
        after: Duration,
    },
    /// A run gives no sign of life.
    Silent {
        /// Its session.
        session: SessionKey,
        /// The run.
        run: RunId,
        /// Since when.
        since: Timestamp,
    },
    /// It gave one, or has ended.
    Heard {
        /// Its session.
        session: SessionKey,
        /// The run.
        run: RunId,
        /// How long it did not.
        after: Duration,
    },
}

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub struct Watchdog {
    stuck: Overdue<(u64, String, &'static str)>,
    silent: Overdue<(RunId, SessionKey), Timestamp>,
}

impl TreeHandle {
    /// Takes a look, and tells of everybody who stopped answering or went silent, or is back.
    pub fn watch(&self, dog: &mut Watchdog, silent_after: Duration) {
        let shared = self.shared();
        for trouble in dog.look(shared, silent_after) {
            shared.publish(Event::Watched(trouble));
        }
    }
}

impl Watchdog {
    fn look(&mut self, shared: &Shared, silent_after: Duration) -> Vec<Trouble> {
        let (now, monotonic) = (shared.system.clock.now(), shared.system.clock.monotonic());
        let offset = shared.calendar(now, monotonic);
        let date = |at: Monotonic| {
            Timestamp(i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX).saturating_add(offset))
        };
        let mut troubles = Vec::new();
        let mut messages = std::collections::BTreeMap::new();
        let stuck =
            shared.system.index.all().into_iter().filter(|info| !info.has_left()).filter_map(|info| {
                let (message, since) = info.held_up()?;
                let number = info.cell().get_id().pid();
                messages.insert(number, message);
                is_overdue(since, STUCK_AFTER, monotonic).then(|| ((number, info.path(), info.kind), since))
            });
        let stuck: Vec<_> = stuck.collect();
        let Changes { began, over } = self.stuck.look(stuck);
        for ((number, path, kind), since) in began {
            let message = messages.get(&number).copied().flatten();
            troubles.push(Trouble::Stuck { path, kind, message, since: date(since) });
        }
        for ((_, path, kind), since) in over {
            let after = monotonic.since(since);
            troubles.push(Trouble::Answers { path, kind, after });
        }
        self.look_at_runs(shared, silent_after, now, &mut troubles);
        troubles
    }

    fn look_at_runs(
        &mut self,
        shared: &Shared,
        silent_after: Duration,
        now: Timestamp,
        troubles: &mut Vec<Trouble>,
    ) {
        let silent: Vec<_> = shared
            .runs
            .iter()
            .filter_map(|cell| {
                let heard =
                    cell.update(|progress| progress.heard.filter(|_| progress.phase == Phase::Running))?;
                let name = (cell.id, cell.session.clone());
                (now - heard > silent_after).then_some((name, heard))
            })
            .collect();
        let Changes { began, over } = self.silent.look(silent);
        for ((run, session), since) in began {
            troubles.push(Trouble::Silent { session, run, since });
        }
        for ((run, session), since) in over {
            let after = now - since;
            troubles.push(Trouble::Heard { session, run, after });
        }
    }
}
