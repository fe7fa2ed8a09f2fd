//! Ids and randomness as a port, so that a seed replays a run.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// Makes ids and random numbers.
pub trait Ids: Send + Sync + 'static {
    /// A new id for a session key, with nothing to guess it from.
    fn session(&self) -> Uuid;
    /// A new id for a run; later ones sort later.
    fn run(&self) -> Uuid;
    /// 32 random bytes, for a token that nobody can guess.
    fn secret(&self) -> [u8; 32];
    /// A uniform number in `0..bound`; 0 when `bound` is 0.
    fn below(&self, bound: u64) -> u64;
}

/// The same ids and numbers for the same seed and the same order of calls.
#[derive(Debug)]
pub struct SeededIds {
    state: AtomicU64,
}

impl SeededIds {
    /// Starts at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014).
    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uuid(&self) -> Uuid {
        let (high, low) = (self.next(), self.next());
        uuid::Builder::from_random_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
            .into_uuid()
    }
}

impl Ids for SeededIds {
    fn session(&self) -> Uuid {
        self.uuid()
    }

    fn run(&self) -> Uuid {
        self.uuid()
    }

    fn secret(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&self.next().to_be_bytes());
        }
        bytes
    }

    fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }
}
