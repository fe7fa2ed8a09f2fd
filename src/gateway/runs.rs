//! The names that clients gave to runs: on the wire a run is called by its name, inside by its id.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use offshoot_actors::ports::RunRow;
use offshoot_actors::types::RunId;
use tokio::sync::watch;

/// Runs that have ended whose names are still known; what is older is found in the store by whoever named it.
const MAX_ENDED: usize = 1_024;

/// Every open run that has a name, and those that ended last.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    open: DashMap<RunId, Arc<str>>,
    /// The last run of each name.
    by_name: DashMap<Arc<str>, RunId>,
    ended: Mutex<VecDeque<(RunId, Arc<str>)>>,
    /// Changes with every name.
    named: watch::Sender<u64>,
}

/// What a run is called on the wire.
pub(crate) fn wire_name(row: &RunRow) -> String {
    row.wire_id.clone().unwrap_or_else(|| row.id.to_string())
}

impl Runs {
    /// A run was accepted under a name.
    pub(crate) fn accepted(&self, run: RunId, name: &str) {
        let name: Arc<str> = name.into();
        self.open.insert(run, Arc::clone(&name));
        self.by_name.insert(name, run);
        self.named.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// The run has ended.
    pub(crate) fn ended(&self, run: RunId) {
        let Some((_, name)) = self.open.remove(&run) else { return };
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push_back((run, name));
        if ended.len() > MAX_ENDED
            && let Some((oldest, name)) = ended.pop_front()
        {
            // Another run may have the name by now.
            self.by_name.remove_if(&name, |_, run| *run == oldest);
        }
    }

    /// What the run is called on the wire.
    pub(crate) fn name(&self, run: RunId) -> Arc<str> {
        if let Some(name) = self.open.get(&run) {
            return Arc::clone(&name);
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match ended.iter().rev().find(|(known, _)| *known == run) {
            Some((_, name)) => Arc::clone(name),
            None => run.to_string().into(),
        }
    }

    /// The last run that somebody called so.
    pub(crate) fn named(&self, name: &str) -> Option<RunId> {
        self.by_name.get(name).map(|run| *run)
    }

    /// Changes when a run gets a name.
    pub(crate) fn names(&self) -> watch::Receiver<u64> {
        self.named.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn run(number: u128) -> RunId {
        RunId(Uuid::from_u128(number))
    }

    #[test]
    fn a_name_leads_to_its_last_run_and_outlives_it_for_a_while() {
        let runs = Runs::default();
        runs.accepted(run(1), "key");
        assert_eq!((runs.named("key"), &*runs.name(run(1))), (Some(run(1)), "key"));
        runs.ended(run(1));
        assert_eq!((runs.named("key"), &*runs.name(run(1))), (Some(run(1)), "key"));
        runs.accepted(run(2), "key");
        assert_eq!(runs.named("key"), Some(run(2)));
        assert_eq!(&*runs.name(run(3)), run(3).to_string());
    }

    #[test]
    fn the_oldest_names_are_forgotten() {
        let runs = Runs::default();
        for number in 0..=MAX_ENDED as u128 {
            runs.accepted(run(number), &format!("key {number}"));
            runs.ended(run(number));
        }
        assert_eq!(runs.named("key 0"), None);
        assert_eq!(runs.named("key 1"), Some(run(1)));
        assert_eq!(runs.by_name.len(), MAX_ENDED);
        assert!(runs.open.is_empty());
    }

    #[test]
    fn a_name_that_was_given_again_is_not_forgotten_with_its_first_run() {
        let runs = Runs::default();
        runs.accepted(run(0), "key");
        runs.ended(run(0));
        runs.accepted(run(5_000), "key");
        for number in 1..=MAX_ENDED as u128 {
            runs.accepted(run(number), "other");
            runs.ended(run(number));
        }
        assert_eq!(runs.named("key"), Some(run(5_000)));
    }
}
