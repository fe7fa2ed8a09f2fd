//! Restart decisions.

use proptest::prelude::*;

use super::*;

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(10) };
const INTENSITY: Intensity = Intensity { max: 3, within: Duration::from_secs(60) };

fn verdict(restart: Restart, exit: &Exit) -> Verdict {
    decide(restart, exit, &mut Window::default(), INTENSITY, BACKOFF, Monotonic(0), 0)
}

#[test]
fn which_ends_lead_to_a_restart() {
    use Restart::{Permanent, Temporary, Transient};
    let failed = Exit::Failed("boom".to_owned());
    let table = [
        (Permanent, Exit::Normal, true),
        (Permanent, Exit::Asked, false),
        (Permanent, Exit::Killed, true),
        (Permanent, failed.clone(), true),
        (Transient, Exit::Normal, false),
        (Transient, Exit::Asked, false),
        (Transient, Exit::Killed, true),
        (Transient, failed.clone(), true),
        (Temporary, Exit::Normal, false),
        (Temporary, Exit::Asked, false),
        (Temporary, Exit::Killed, false),
        (Temporary, failed, false),
    ];
    for (restart, exit, again) in table {
        let restarts = matches!(verdict(restart, &exit), Verdict::Restart(_));
        assert_eq!(restarts, again, "{restart:?} after {exit:?}");
    }
}

#[test]
fn too_many_restarts_give_up_and_time_forgives() {
    let mut window = Window::default();
    let mut at = |seconds: u64| {
        let now = Monotonic(seconds * 1_000_000_000);
        decide(Restart::Permanent, &Exit::Killed, &mut window, INTENSITY, BACKOFF, now, u64::MAX)
    };
    assert!(matches!(at(0), Verdict::Restart(_)));
    assert!(matches!(at(1), Verdict::Restart(_)));
    assert!(matches!(at(2), Verdict::Restart(_)));
    assert_eq!(at(3), Verdict::GiveUp);
    assert!(matches!(at(62), Verdict::Restart(_)));
}

#[test]
fn an_end_that_was_asked_for_is_not_counted() {
    let mut window = Window::default();
    for _ in 0..10 {
        let left = decide(Restart::Permanent, &Exit::Asked, &mut window, INTENSITY, BACKOFF, Monotonic(0), 0);
        assert_eq!(left, Verdict::Leave);
    }
    assert_eq!(window.count(Monotonic(0), INTENSITY), Some(1));
}

#[test]
fn the_wait_doubles_up_to_the_most() {
    let longest = |restart| BACKOFF.delay(restart, longest_jitter(restart));
    let waits: Vec<_> = (1..=9).map(|restart| longest(restart).as_millis()).collect();
    assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    assert_eq!(BACKOFF.delay(1, 0), Duration::from_millis(50));
}

/// The random number that takes nothing off.
fn longest_jitter(restart: u32) -> u64 {
    let full = BACKOFF.first.saturating_mul(1 << (restart - 1)).min(BACKOFF.most);
    u64::try_from(full.as_nanos()).unwrap() / 2
}

fn backoffs() -> impl Strategy<Value = Backoff> {
    (any::<u64>(), any::<u64>()).prop_map(|(first, most)| Backoff {
        first: Duration::from_nanos(first),
        most: Duration::from_nanos(most),
    })
}

proptest! {
    #[test]
    fn a_wait_is_between_half_and_the_whole(backoff in backoffs(), restart in 0_u32..100, random: u64) {
        // The factor stops growing where 32 bits end.
        let factor = (1_u128 << restart.saturating_sub(1)).min(u128::from(u32::MAX));
        let full = (backoff.first.as_nanos() * factor).min(backoff.most.as_nanos());
        let wait = backoff.delay(restart, random).as_nanos();
        prop_assert!(wait <= full);
        prop_assert!(wait >= full / 2);
    }

    #[test]
    fn a_later_wait_may_be_as_long_as_any_before(backoff in backoffs(), restart in 0..u32::MAX, random: u64) {
        // The shortest of the next is at least the shortest of this one.
        prop_assert!(backoff.delay(restart + 1, 0) >= backoff.delay(restart, 0));
        prop_assert!(backoff.delay(restart, random) <= backoff.most);
    }

    #[test]
    fn a_window_counts_what_is_within_the_period(
        mut times in prop::collection::vec(0_u64..200, 1..50),
        max in 0_u32..10,
        within in 0_u64..100,
    ) {
        times.sort_unstable();
        let intensity = Intensity { max, within: Duration::from_nanos(within) };
        let mut window = Window::default();
        for (index, now) in times.iter().enumerate() {
            let recent = times[..=index].iter().filter(|time| now - **time <= within).count();
            let expected = u32::try_from(recent).ok().filter(|count| *count <= max);
            prop_assert_eq!(window.count(Monotonic(*now), intensity), expected);
        }
    }
}
