//! The live actors in the order of the tree, by ractor's own links.
//!
//! Who lives is taken from the index, where an actor is from before its start until after its end; below whom it hangs
//! is asked of its own cell. So each lock is held for one actor, and none for as long as a parent has children. An actor
//! that is not linked is left out: it has ended and is about to leave the index, or it is about to be linked. So is one
//! whose parent is not there any more, which is about to end with it.

use std::ops::Range;
use std::sync::Arc;

use crate::kit::{ActorIndex, ActorInfo};

/// An actor with its place.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) info: Arc<ActorInfo>,
    pub(super) number: u64,
    /// The number of its parent; none of the root.
    above: Option<u64>,
}

/// The actors, those with one parent beside each other.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) actors: Vec<Found>,
    pub(super) root: Option<usize>,
}

impl Walk {
    pub(super) fn of(index: &ActorIndex) -> Self {
        // Nothing is looked up on the way: what is read of one actor does not wait for what is read of another.
        let found = index.all().into_iter().filter(|info| !info.has_left()).map(|info| {
            let above = info.cell().try_get_supervisor().map(|parent| parent.get_id().pid());
            Found { number: info.cell().get_id().pid(), above, info }
        });
        let mut actors: Vec<Found> =
            found.filter(|found| found.above.is_some() || found.info.is_first()).collect();
        actors.sort_unstable_by_key(|found| (found.above, found.number));
        let root = actors.first().filter(|first| first.above.is_none()).map(|_| 0);
        Self { actors, root }
    }

    /// The places of an actor's children.
    pub(super) fn below(&self, number: u64) -> Range<usize> {
        let first = self.actors.partition_point(|found| found.above < Some(number));
        let count = self.actors[first..].iter().take_while(|found| found.above == Some(number)).count();
        first..first + count
    }
}
