//! The live actors in the order of the tree, by ractor's own links.
//!
//! Who lives is taken from the index, where an actor is from before its start until after its end; below whom it hangs
//! is asked of its own cell. So each lock is held for one actor, and none for as long as a parent has children. An actor
//! that is not linked is left out: it has ended and is about to leave the index, or it is about to be linked. So is one
//! whose parent is not there any more, which is about to end with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kit::{ActorIndex, ActorInfo};

/// An actor with its place.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) info: Arc<ActorInfo>,
    pub(super) number: u64,
}

/// The actors, and the places of each one's children among them.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) actors: Vec<Found>,
    pub(super) root: Option<usize>,
    below: BTreeMap<u64, Vec<usize>>,
}

impl Walk {
    pub(super) fn of(index: &ActorIndex) -> Self {
        let mut actors = Vec::with_capacity(index.len());
        let (mut below, mut root) = (BTreeMap::<u64, Vec<usize>>::new(), None);
        for info in index.all() {
            if info.has_left() {
                continue;
            }
            let (number, place) = (info.cell().get_id().pid(), actors.len());
            match info.cell().try_get_supervisor() {
                Some(parent) => below.entry(parent.get_id().pid()).or_default().push(place),
                None if info.is_first() => root = Some(place),
                None => continue,
            }
            actors.push(Found { info, number });
        }
        Self { actors, root, below }
    }

    /// Takes the places of an actor's children.
    pub(super) fn take_below(&mut self, number: u64) -> Vec<usize> {
        self.below.remove(&number).unwrap_or_default()
    }
}
