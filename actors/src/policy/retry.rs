//! What follows a failed model call.

use std::time::Duration;

use crate::ports::ModelErrorKind;
use crate::types::RunLimits;

/// The longest wait that a provider may ask for. Past it another model is the better answer.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The back-off stops growing here.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Spread on top of a provider's wish, so that runs it sent away together do not come back together.
const SPREAD: Duration = Duration::from_secs(1);

/// What a run does after a failed model call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Calls the same model again after this time.
    Retry(Duration),
    /// Calls the next model of the fallbacks; without one the run has failed.
    Fallback,
    /// Fails: no model would do better.
    GiveUp,
}

/// Decides what follows the `attempt`th failed call in a row of the same model, counted from 1.
///
/// Waits grow exponentially with full jitter; `random` is uniform over all of `u64`. The provider's
/// `retry_after` is never undercut.
#[must_use]
pub fn next(
    kind: ModelErrorKind,
    attempt: u32,
    retry_after: Option<Duration>,
    random: u64,
    limits: &RunLimits,
) -> Next {
    if !kind.allows_fallback() {
        return Next::GiveUp;
    }
    if !kind.is_transient() || attempt > limits.max_retries {
        return Next::Fallback;
    }
    match retry_after {
        Some(wish) if wish > MAX_RETRY_AFTER => Next::Fallback,
        Some(wish) => Next::Retry(wish + jitter(SPREAD, random)),
        None => Next::Retry(jitter(backoff(kind, attempt), random)),
    }
}

/// The longest wait before the next attempt.
fn backoff(kind: ModelErrorKind, attempt: u32) -> Duration {
    let first = match kind {
        // A crowded provider needs longer to recover than a broken connection.
        ModelErrorKind::RateLimited | ModelErrorKind::Overloaded => Duration::from_secs(2),
        _ => Duration::from_millis(500),
    };
    let factor = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(MAX_BACKOFF)
}

/// A time in `0..=most`, as far along as `random` is in its range.
fn jitter(most: Duration, random: u64) -> Duration {
    let nanos = (most.as_nanos() * u128::from(random)) / u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(max_retries: u32) -> RunLimits {
        RunLimits { max_steps: 10, max_retries, timeout: None }
    }

    #[test]
    fn a_wrong_key_goes_to_the_fallback_at_once() {
        assert_eq!(next(ModelErrorKind::Auth, 1, None, 0, &limits(3)), Next::Fallback);
        assert_eq!(next(ModelErrorKind::NotFound, 1, None, 0, &limits(3)), Next::Fallback);
    }

    #[test]
    fn a_conversation_that_is_too_long_fails_on_every_model() {
        assert_eq!(next(ModelErrorKind::ContextLength, 1, None, 0, &limits(3)), Next::GiveUp);
    }

    #[test]
    fn retries_are_counted_per_model() {
        let at = |attempt| next(ModelErrorKind::Server, attempt, None, u64::MAX, &limits(2));
        assert_eq!(at(1), Next::Retry(Duration::from_millis(500)));
        assert_eq!(at(2), Next::Retry(Duration::from_secs(1)));
        assert_eq!(at(3), Next::Fallback);
        assert_eq!(next(ModelErrorKind::Server, 1, None, 0, &limits(0)), Next::Fallback);
    }

    #[test]
    fn a_long_retry_after_goes_to_the_fallback() {
        let at =
            |seconds| next(ModelErrorKind::RateLimited, 1, Some(Duration::from_secs(seconds)), 0, &limits(3));
        assert_eq!(at(60), Next::Retry(Duration::from_secs(60)));
        assert_eq!(at(61), Next::Fallback);
    }

    #[test]
    fn the_wait_stops_growing() {
        for attempt in [7, 33, u32::MAX - 1] {
            let wait = next(ModelErrorKind::Network, attempt, None, u64::MAX, &limits(u32::MAX));
            assert_eq!(wait, Next::Retry(MAX_BACKOFF));
        }
    }

    proptest! {
        #[test]
        fn waits_are_bounded_and_honour_the_provider(
            kind in prop::sample::select(&ModelErrorKind::ALL[..]),
            attempt in 1_u32..200,
            wish in prop::option::of(0_u64..200_000),
            random: u64,
            max_retries in 0_u32..100,
        ) {
            let wish = wish.map(Duration::from_millis);
            match next(kind, attempt, wish, random, &limits(max_retries)) {
                Next::Retry(wait) => {
                    prop_assert!(kind.is_transient());
                    prop_assert!(attempt <= max_retries);
                    prop_assert!(wait >= wish.unwrap_or_default());
                    prop_assert!(wait <= MAX_RETRY_AFTER + SPREAD);
                }
                Next::Fallback => prop_assert!(
                    !kind.is_transient() || attempt > max_retries || wish > Some(MAX_RETRY_AFTER)
                ),
                Next::GiveUp => prop_assert!(!kind.allows_fallback()),
            }
        }

        #[test]
        fn more_luck_never_waits_longer(random: u64, other: u64, attempt in 1_u32..20) {
            let wait = |random| next(ModelErrorKind::Server, attempt, None, random, &limits(u32::MAX));
            let (Next::Retry(a), Next::Retry(b)) = (wait(random.min(other)), wait(random.max(other)))
            else { return Err(TestCaseError::fail("a server error is retried")) };
            prop_assert!(a <= b);
        }
    }
}
