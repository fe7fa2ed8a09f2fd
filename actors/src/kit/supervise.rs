//! When a child that ended is started again. Pure decisions.

use std::collections::VecDeque;
use std::time::Duration;

use super::Exit;
use crate::types::Monotonic;

/// Which ends of a child lead to a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Every end that was not asked for.
    Permanent,
    /// Abnormal ends: panics, failed starts, kills that nobody asked for.
    Transient,
    /// None.
    Temporary,
}

/// How many restarts are bearable: more than `max` within `within` are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts.
    pub max: u32,
    /// The period.
    pub within: Duration,
}

/// How long to wait before a restart: doubling from `first` up to `most`, of which a random half is taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first restart.
    pub first: Duration,
    /// Never longer.
    pub most: Duration,
}

impl Backoff {
    /// The wait before restart number `restart` (from 1), with `random` choosing the jitter.
    #[must_use]
    pub fn delay(&self, restart: u32, random: u64) -> Duration {
        let doubled =
            self.first.saturating_mul(1_u32.checked_shl(restart.saturating_sub(1)).unwrap_or(u32::MAX));
        let full = u64::try_from(doubled.min(self.most).as_nanos()).unwrap_or(u64::MAX);
        let half = full / 2;
        Duration::from_nanos(full - half + if half == 0 { 0 } else { random % (half + 1) })
    }
}

/// The restarts of late.
#[derive(Debug, Default)]
pub struct Window {
    times: VecDeque<Monotonic>,
}

impl Window {
    /// Counts a restart now. Returns how many there were within the period, or `None` if that is too many.
    pub fn count(&mut self, now: Monotonic, intensity: Intensity) -> Option<u32> {
        while self.times.front().is_some_and(|first| now.since(*first) > intensity.within) {
            self.times.pop_front();
        }
        self.times.push_back(now);
        let restarts = u32::try_from(self.times.len()).unwrap_or(u32::MAX);
        (restarts <= intensity.max).then_some(restarts)
    }
}

/// What a supervisor does about a child that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the end was asked for, or the child was not to stay.
    Leave,
    /// Start it again after this time.
    Restart(Duration),
    /// Too many restarts: fail, so that the own supervisor decides.
    GiveUp,
}

/// Decides about a child that ended, and counts the restart in its window.
pub fn decide(
    restart: Restart,
    exit: &Exit,
    window: &mut Window,
    intensity: Intensity,
    backoff: Backoff,
    now: Monotonic,
    random: u64,
) -> Verdict {
    let again = match (restart, exit) {
        (Restart::Temporary, _) | (_, Exit::Asked) => false,
        (Restart::Transient, Exit::Normal) => false,
        (Restart::Permanent | Restart::Transient, Exit::Normal | Exit::Killed | Exit::Failed(_)) => true,
    };
    if !again {
        return Verdict::Leave;
    }
    window
        .count(now, intensity)
        .map_or(Verdict::GiveUp, |count| Verdict::Restart(backoff.delay(count, random)))
}
