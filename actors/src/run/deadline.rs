//! A run's deadline: counts from its first step, and not while the run waits in a lane.

use std::time::Duration;

use crate::types::Monotonic;

/// The part of the time after which the model is told to come to an end, in percent. A fifth is left for one
/// more model call and its answer.
const SOFT_PERCENT: u32 = 80;

/// How much of its time a run has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Deadline {
    limit: Option<Duration>,
    used: Duration,
    since: Option<Monotonic>,
}

impl Deadline {
    /// A clock that does not run yet, of a run that has used so much of its time.
    pub(crate) const fn new(limit: Option<Duration>, used: Duration) -> Self {
        Self { limit, used, since: None }
    }

    /// The clock runs from now.
    pub(crate) fn run(&mut self, now: Monotonic) {
        self.since.get_or_insert(now);
    }

    /// The clock stands.
    pub(crate) fn pause(&mut self, now: Monotonic) {
        if let Some(since) = self.since.take() {
            self.used += now.since(since);
        }
    }

    /// The time used so far.
    pub(crate) fn used(&self, now: Monotonic) -> Duration {
        self.used + self.since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Whether the clock runs.
    pub(crate) const fn runs(&self) -> bool {
        self.since.is_some()
    }

    /// Time until the hard deadline.
    pub(crate) fn left(&self, now: Monotonic) -> Option<Duration> {
        Some(self.limit?.saturating_sub(self.used(now)))
    }

    /// When the model is told, if the clock runs on without a pause.
    pub(crate) fn soft_at(&self, now: Monotonic) -> Option<Monotonic> {
        // Divided first: no limit is too long for it.
        let soft = self.limit? / 100 * SOFT_PERCENT;
        Some(now + soft.saturating_sub(self.used(now)))
    }

    /// When the hard deadline passes, if the clock runs on without a pause.
    pub(crate) fn passes_at(&self) -> Option<Monotonic> {
        Some(self.since? + self.limit?.saturating_sub(self.used))
    }

    /// The hard deadline's length.
    pub(crate) const fn limit(&self) -> Option<Duration> {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    #[test]
    fn a_pause_does_not_count() {
        let mut deadline = Deadline::new(Some(Duration::from_secs(20)), Duration::ZERO);
        deadline.run(at(100));
        deadline.pause(at(105));
        assert_eq!(deadline.left(at(500)), Some(Duration::from_secs(15)));
        deadline.run(at(500));
        assert_eq!(deadline.left(at(510)), Some(Duration::from_secs(5)));
        assert_eq!(deadline.soft_at(at(510)), Some(at(511)));
        assert_eq!(deadline.left(at(900)), Some(Duration::ZERO));
    }

    #[test]
    fn what_an_earlier_process_used_counts() {
        let mut deadline = Deadline::new(Some(Duration::from_secs(20)), Duration::from_secs(15));
        deadline.run(at(3));
        assert_eq!(deadline.left(at(4)), Some(Duration::from_secs(4)));
        assert_eq!(deadline.used(at(4)), Duration::from_secs(16));
    }

    #[test]
    fn no_limit_is_too_long() {
        let mut deadline = Deadline::new(Some(Duration::MAX), Duration::ZERO);
        deadline.run(at(0));
        assert_eq!(deadline.left(at(1)), Some(Duration::MAX - Duration::from_secs(1)));
        assert_eq!(deadline.soft_at(at(0)), Some(Monotonic(u64::MAX)));
    }

    #[test]
    fn without_a_limit_there_is_no_deadline() {
        let mut deadline = Deadline::new(None, Duration::ZERO);
        deadline.run(at(0));
        assert_eq!(deadline.left(at(1_000_000)), None);
        assert_eq!(deadline.soft_at(at(0)), None);
    }
}
