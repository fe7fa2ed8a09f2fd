use std::time::Duration;

use offshoot_actors::types::Monotonic;
use proptest::prelude::*;

use super::{FailureLimits, LockedOut, MAX_ENTRIES, Proof, RateLimit, Untold, Who};
use crate::gateway::peer::tests::{behind, peer};

fn at(millis: u64) -> Monotonic {
    Monotonic(millis * 1_000_000)
}

fn remote(index: u32) -> Who {
    Who::Address(std::net::Ipv4Addr::from_bits(0x0a00_0000 + index).into())
}

const SECRET: Proof = Proof::SharedSecret;

#[test]
fn ten_failures_in_a_minute_lock_out_for_five() {
    let mut limits = FailureLimits::new(RateLimit::default());
    for attempt in 0..10 {
        assert_eq!(limits.check(SECRET, &remote(1), at(attempt)), Ok(()));
        limits.failed(SECRET, remote(1), at(attempt));
    }
    let locked = |retry_after| Err(LockedOut { retry_after });
    assert_eq!(limits.check(SECRET, &remote(1), at(9)), locked(Duration::from_secs(300)));
    assert_eq!(limits.check(SECRET, &remote(1), at(300_008)), locked(Duration::from_millis(1)));
    assert_eq!(limits.check(SECRET, &remote(1), at(300_009)), Ok(()));
    assert_eq!(limits.check(SECRET, &remote(2), at(9)), Ok(()), "another address is not held back");
    assert_eq!(limits.check(Proof::DeviceToken, &remote(1), at(9)), Ok(()), "another proof is not held back");
}

#[test]
fn after_a_lock_out_one_counts_from_the_start() {
    let mut limits = FailureLimits::new(RateLimit::default());
    for _ in 0..10 {
        limits.failed(SECRET, remote(1), at(0));
    }
    assert_eq!(limits.failed(SECRET, remote(1), at(300_000)), Duration::from_millis(250));
    assert_eq!(limits.check(SECRET, &remote(1), at(300_000)), Ok(()));
}

#[test]
fn failures_that_are_old_or_made_good_do_not_count() {
    let mut limits = FailureLimits::new(RateLimit::default());
    for attempt in 0..100 {
        limits.failed(SECRET, remote(1), at(attempt * 7_000));
        assert_eq!(limits.check(SECRET, &remote(1), at(attempt * 7_000)), Ok(()));
    }
    for _ in 0..9 {
        limits.failed(SECRET, remote(2), at(0));
    }
    limits.succeeded(SECRET, &remote(2));
    limits.failed(SECRET, remote(2), at(0));
    assert_eq!(limits.check(SECRET, &remote(2), at(0)), Ok(()));
}

#[test]
fn answers_are_held_back_longer_and_longer() {
    let mut limits = FailureLimits::new(RateLimit::default());
    let delays: Vec<_> = (0..7).map(|_| limits.failed(SECRET, remote(1), at(0)).as_millis()).collect();
    assert_eq!(delays, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
}

#[test]
fn a_process_of_this_machine_is_never_locked_out_and_a_page_is() {
    let local = Who::of(&peer("127.0.0.1", &[]));
    let page = Who::of(&peer("127.0.0.1", &[("origin", "http://localhost:5173")]));
    let other = Who::of(&peer("127.0.0.1", &[("origin", "http://localhost:5174")]));
    let mut limits = FailureLimits::new(RateLimit::default());
    for _ in 0..100 {
        limits.failed(SECRET, local.clone(), at(0));
        limits.failed(SECRET, page.clone(), at(0));
    }
    assert_eq!(limits.check(SECRET, &local, at(0)), Ok(()));
    assert!(limits.check(SECRET, &page, at(0)).is_err());
    assert_eq!(limits.check(SECRET, &other, at(0)), Ok(()));
    limits.set_limit(RateLimit { exempt_loopback: false, ..RateLimit::default() });
    limits.failed(SECRET, local.clone(), at(0));
    limits.failed(SECRET, local.clone(), at(0));
    assert!(limits.check(SECRET, &local, at(0)).is_err());
}

#[test]
fn who_someone_is_depends_on_where_he_comes_from() {
    let address = |text: &str| Who::Address(text.parse().unwrap());
    let through = [("x-forwarded-for", "203.0.113.5")];
    let page = ("origin", "http://a.example");
    assert_eq!(Who::of(&peer("203.0.113.5", &[])), address("203.0.113.5"));
    assert_eq!(Who::of(&peer("203.0.113.5", &[page])), address("203.0.113.5"));
    assert_eq!(Who::of(&peer("2001:db8::1:2:3:4", &[])), address("2001:db8::"));
    assert_eq!(Who::of(&peer("2001:db8::ffff:2", &[])), address("2001:db8::"));
    assert_eq!(Who::of(&behind("127.0.0.1", &through, &["127.0.0.1/32"], false)), address("203.0.113.5"));
    assert_eq!(Who::of(&peer("127.0.0.1", &through)), address("127.0.0.1"), "not exempt behind a proxy");
    assert_eq!(Who::of(&peer("127.0.0.1", &[page])), Who::Page("http://a.example".to_owned()));
    assert_eq!(Who::of(&peer("127.0.0.1", &[("origin", "null")])), Who::Page("null".to_owned()));
}

#[test]
fn the_memory_is_bounded_and_forgets_the_oldest() {
    let mut limits = FailureLimits::new(RateLimit::default());
    let count = u32::try_from(MAX_ENTRIES).unwrap();
    for index in 0..count {
        limits.failed(SECRET, remote(index), at(u64::from(index) / 1_000));
    }
    assert_eq!(limits.len(), MAX_ENTRIES);
    for _ in 0..10 {
        limits.failed(SECRET, remote(count - 1), at(20));
    }
    limits.failed(SECRET, remote(count), at(30));
    assert_eq!(limits.len(), MAX_ENTRIES);
    assert!(limits.check(SECRET, &remote(count - 1), at(30)).is_err());
    limits.failed(SECRET, remote(count + 1), at(100_000));
    assert_eq!(limits.len(), 2, "what no longer counts goes first; a lock-out still does");
}

proptest! {
    #[test]
    fn nobody_is_looked_at_more_often_than_the_limit_allows(
        steps in prop::collection::vec(0_u64..2_000, 1..300), max_attempts in 1_u32..120,
    ) {
        let limit = RateLimit { max_attempts, ..RateLimit::default() };
        let mut limits = FailureLimits::new(limit);
        let (mut now, mut looked_at) = (0, Vec::new());
        for step in steps {
            now += step;
            if limits.check(SECRET, &remote(1), at(now)).is_ok() {
                limits.failed(SECRET, remote(1), at(now));
                looked_at.push(now);
            }
        }
        let most = usize::try_from(max_attempts).unwrap();
        for window in looked_at.windows(most + 1) {
            prop_assert!(window[most] - window[0] >= 60_000, "{window:?}");
        }
    }
}

#[test]
fn failures_are_told_of_now_and_then_with_their_number() {
    let mut untold = Untold::default();
    let at = |seconds| Monotonic(0) + Duration::from_secs(seconds);
    assert_eq!(untold.failed(at(1)), Some(1));
    assert_eq!((2..11).map(|second| untold.failed(at(second))).collect::<Vec<_>>(), [None; 9]);
    assert_eq!(untold.failed(at(11)), Some(10));
}
