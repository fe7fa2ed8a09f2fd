//! Ids and random numbers of a real process.

use offshoot_actors::ports::Ids;
use uuid::Uuid;

/// Random session ids, run ids that sort by time, randomness of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    fn session(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn run(&self) -> Uuid {
        Uuid::now_v7()
    }

    fn secret(&self) -> [u8; 32] {
        rand::random()
    }

    fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { rand::random_range(0..bound) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_runs_sort_later() {
        let runs: Vec<Uuid> = (0..1_000).map(|_| SystemIds.run()).collect();
        assert!(runs.is_sorted());
        assert!(runs.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn no_secret_comes_twice() {
        let secrets: std::collections::BTreeSet<_> = (0..100).map(|_| SystemIds.secret()).collect();
        assert_eq!(secrets.len(), 100);
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        assert_eq!(SystemIds.below(0), 0);
        assert_eq!(SystemIds.below(1), 0);
        assert!((0..1_000).all(|_| SystemIds.below(7) < 7));
    }
}
