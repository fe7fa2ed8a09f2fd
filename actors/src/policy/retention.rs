//! What is given up, and when the next look is due.

use std::time::Duration;

use crate::types::{RetentionSettings, Timestamp};

/// Between two looks when nothing is due before.
pub const LOOK: Duration = Duration::from_secs(60);
/// Before the next look when one left something over.
const SOON: Duration = Duration::from_secs(1);
/// How long the name of a request is known: longer than any client repeats one.
pub const KEEP_REQUESTS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What a look at this time gives up. None means that it is kept for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Sessions that are kept and were last written to at this time or before are archived.
    pub archive: Option<Timestamp>,
    /// Deleted sessions that were last written to before this time are forgotten, with their runs.
    pub sessions: Option<Timestamp>,
    /// Names of requests that were carried out before this time are forgotten.
    pub requests: Timestamp,
}

/// What is due now.
#[must_use]
pub fn due(settings: &RetentionSettings, now: Timestamp) -> Due {
    let before = |time: Duration| {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Timestamp(now.0.saturating_sub(millis))
    };
    Due {
        archive: settings.archive_after.map(before),
        sessions: settings.keep_runs.map(before),
        requests: before(KEEP_REQUESTS),
    }
}

/// What a look found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether it left something over that is due.
    pub more: bool,
    /// When the session that is due next was last written to.
    pub next: Option<Timestamp>,
}

/// How long to wait until the next look.
#[must_use]
pub fn pause(settings: &RetentionSettings, seen: Seen, now: Timestamp) -> Duration {
    if seen.more {
        return SOON;
    }
    match (settings.archive_after, seen.next) {
        (Some(after), Some(written)) => (written + after - now).clamp(SOON, LOOK),
        _ => LOOK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000_000);

    #[test]
    fn what_is_due_is_told_by_the_calendar_and_zero_is_never() {
        let mut settings = RetentionSettings { archive_after: Some(LOOK), ..RetentionSettings::default() };
        assert_eq!(due(&settings, NOW).archive, Some(Timestamp(NOW.0 - 60_000)));
        (settings.archive_after, settings.keep_runs) = (None, None);
        let Due { archive, sessions, requests } = due(&settings, NOW);
        assert_eq!((archive, sessions), (None, None));
        assert_eq!(NOW - requests, KEEP_REQUESTS);
        settings.keep_runs = Some(Duration::MAX);
        assert!(due(&settings, NOW).sessions < Some(Timestamp(0)), "nothing is that old");
    }

    #[test]
    fn the_next_look_comes_when_something_is_due() {
        let settings = RetentionSettings::default();
        let after = settings.archive_after.unwrap();
        let pause = |more, next| pause(&settings, Seen { more, next }, NOW);
        assert_eq!(pause(true, None), SOON);
        assert_eq!(pause(false, None), LOOK);
        assert_eq!(pause(false, Some(NOW)), LOOK);
        let in_ten_seconds = Timestamp(NOW.0 - i64::try_from(after.as_millis()).unwrap() + 10_000);
        assert_eq!(pause(false, Some(in_ten_seconds)), Duration::from_secs(10));
        // The clock went forward meanwhile.
        assert_eq!(pause(false, Some(Timestamp(0))), SOON);
    }
}
