//! Fault hooks, present with the cargo feature `faults` only.

#[cfg(feature = "faults")]
pub use enabled::{Bug, Faults};

#[cfg(feature = "faults")]
mod enabled {
    /// A mistake that a test puts in on purpose, to see that the simulator catches it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Bug {
        /// A child's result is handed to its parent before its end is committed.
        AnnounceBeforeCommit,
        /// A result is taken off its way in a transaction of its own, before the one with its entry and the run on it.
        AnnounceTakenBeforeCommit,
        /// A run that panics keeps its lane permit.
        PermitForgottenOnPanic,
        /// A started tool is started a second time.
        StartedToolRerun,
        /// Lanes serve waiters in order of arrival, whoever their parents are.
        LaneFairnessOff,
    }

    /// Decides where faults happen.
    pub trait Faults: Send + Sync + 'static {
        /// Whether the actor of this kind panics instead of handling this message.
        fn panics(&self, actor: &'static str, message: &'static str) -> bool;
        /// Whether this bug is in.
        fn has(&self, bug: Bug) -> bool;
        /// How often the others have their turn before this actor handles this message.
        fn yields(&self, _actor: &'static str, _message: &'static str) -> u32 {
            0
        }
    }

    impl crate::kit::System {
        pub(in crate::kit) fn inject(&self, actor: &'static str, message: &'static str) {
            if let Some(faults) = &self.faults
                && faults.panics(actor, message)
            {
                #[expect(clippy::panic, reason = "a fault hook that is compiled in for tests only")]
                {
                    panic!("injected fault in {actor} on {message}");
                }
            }
        }

        /// Lets others go first.
        pub(in crate::kit) async fn stagger(&self, actor: &'static str, message: &'static str) {
            let times = self.faults.as_ref().map_or(0, |faults| faults.yields(actor, message));
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
        }

        /// Whether this bug is in.
        #[must_use]
        pub fn has_bug(&self, bug: Bug) -> bool {
            self.faults.as_ref().is_some_and(|faults| faults.has(bug))
        }
    }
}

#[cfg(not(feature = "faults"))]
impl super::System {
    #[inline]
    #[expect(clippy::unused_self, reason = "the same signature as with the feature `faults`")]
    pub(in crate::kit) const fn inject(&self, _: &'static str, _: &'static str) {}
}
