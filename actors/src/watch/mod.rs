//! The tree for people who watch: one snapshot of what there is now, made without asking any actor.
//!
//! It is read from ractor's own links, the index of the kit, the cells of the runs, the books of the lanes, and a book of
//! what ended lately. No actor gets a message for it, and no lock is held for longer than it takes to copy one entry, so
//! that it is there also while an actor is stuck, and holds none up.

mod book;
mod build;
mod dog;
mod entry;
mod nodes;
mod tend;
mod view;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use self::book::EndedRun;
pub(crate) use self::book::{AcceptedRun, Book};
pub use self::book::{MAX_ENDED, SHOWN_FOR, SessionFacts};
pub use self::dog::{Trouble as WatchTrouble, Watchdog};
pub use self::view::{
    ActorFigures, ChildCounts, Difference, Node, NodeId, RunNode, SessionNode, Snapshot, Spending, ToolNode,
    Totals,
};
use crate::policy::cost::Prices;
use crate::tree::TreeHandle;
use crate::types::Timestamp;

/// What a snapshot depends on beside the tree.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// What models cost.
    pub prices: &'a Prices,
    /// How long a run may give no sign of life before it counts as silent.
    pub silent_after: Duration,
}

impl TreeHandle {
    /// The tree as of now, with the sleeping sessions and ended runs of the last hour.
    #[must_use]
    pub fn snapshot(&self, look: &Look<'_>) -> Snapshot {
        build::snapshot(self.shared(), look)
    }

    /// Runs that ended since then, oldest first, with what is known of their sessions.
    #[must_use]
    pub fn ended_since(
        &self,
        since: Timestamp,
        prices: &Prices,
    ) -> Vec<(RunNode, Option<Arc<SessionFacts>>)> {
        let book = &self.shared().book;
        let shown = |run: Arc<EndedRun>| {
            let facts = book.facts(&run.accepted.session);
            (RunNode::ended(&run, facts.as_ref().map_or(0, |facts| facts.depth), prices), facts)
        };
        book.ended_since(since).into_iter().map(shown).collect()
    }
}

#[cfg(test)]
mod tests;
