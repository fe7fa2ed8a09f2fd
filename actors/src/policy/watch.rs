//! What the watchdog makes of what it sees: who stopped answering, which run went silent, and who is back.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::{Monotonic, Timestamp};

/// How long an actor may have a message in hand, or leave messages waiting, before it counts as not answering.
pub const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Restarts of one actor that make a crash loop, if the last one is not long ago.
pub const LOOP_RESTARTS: u32 = 3;
/// How long ago the last restart of a crash loop is at most.
pub const LOOP_WITHIN: Duration = Duration::from_secs(60);

/// Whether an actor that was restarted so often crashes again and again.
#[must_use]
pub fn is_loop(restarts: u32, last: Timestamp, now: Timestamp) -> bool {
    restarts >= LOOP_RESTARTS && now - last <= LOOP_WITHIN
}

/// Whether somebody who was last heard of then has been quiet for longer than `within`.
#[must_use]
pub fn is_overdue(since: Monotonic, within: Duration, now: Monotonic) -> bool {
    now.since(since) > within
}

/// Who is overdue, and since when. Told once when it begins and once when it is over.
#[derive(Debug)]
pub struct Overdue<K, T = Monotonic>(BTreeMap<K, T>);

impl<K, T> Default for Overdue<K, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// What changed between two looks.
#[derive(Debug, PartialEq, Eq)]
pub struct Changes<K, T = Monotonic> {
    /// Those that were not overdue before, with the time since which they are quiet.
    pub began: Vec<(K, T)>,
    /// Those that are not overdue any more, with the time since which they were quiet.
    pub over: Vec<(K, T)>,
}

impl<K: Ord + Clone, T: Copy> Overdue<K, T> {
    /// Takes a look: everybody who is overdue now.
    pub fn look(&mut self, found: impl IntoIterator<Item = (K, T)>) -> Changes<K, T> {
        let now: BTreeMap<K, T> = found.into_iter().collect();
        let missing = |from: &BTreeMap<K, T>, than: &BTreeMap<K, T>| -> Vec<(K, T)> {
            let only = from.iter().filter(|(who, _)| !than.contains_key(who));
            only.map(|(who, since)| (who.clone(), *since)).collect()
        };
        let changes = Changes { began: missing(&now, &self.0), over: missing(&self.0, &now) };
        self.0 = now;
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    #[test]
    fn exactly_as_long_as_allowed_is_not_overdue() {
        assert!(!is_overdue(at(1), STUCK_AFTER, at(2)));
        assert!(is_overdue(at(1), STUCK_AFTER, Monotonic(at(2).0 + 1)));
        assert!(!is_overdue(at(3), STUCK_AFTER, at(2)));
    }

    #[test]
    fn a_crash_loop_is_over_when_its_last_restart_is_a_while_ago() {
        let (last, minute) = (Timestamp(5_000), 60_000);
        assert!(is_loop(3, last, Timestamp(last.0 + minute)));
        assert!(!is_loop(3, last, Timestamp(last.0 + minute + 1)));
        assert!(!is_loop(2, last, last));
    }

    #[test]
    fn each_begin_and_each_end_is_told_once() {
        let mut overdue = Overdue::default();
        assert_eq!(overdue.look([("a", at(1))]), Changes { began: vec![("a", at(1))], over: vec![] });
        assert_eq!(overdue.look([("a", at(1))]), Changes { began: vec![], over: vec![] });
        let changes = overdue.look([("b", at(5))]);
        assert_eq!(changes, Changes { began: vec![("b", at(5))], over: vec![("a", at(1))] });
        assert_eq!(overdue.look([]), Changes { began: vec![], over: vec![("b", at(5))] });
    }
}
