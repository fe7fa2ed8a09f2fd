//! The actors of each kind, counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ractor::ActorId;

use super::{ActorIndex, ActorInfo};
use crate::types::{Monotonic, Timestamp};

/// Figures of all actors of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindFigures {
    /// Those that live.
    pub live: u64,
    /// Messages that wait.
    pub mailbox: u64,
    /// The most that wait for one of them.
    pub mailbox_max: u32,
    /// Messages handled, those of actors that are gone among them.
    pub handled: u64,
    /// Those that have one message in hand for too long, or take none of those that wait.
    pub stuck: u64,
    /// Those that crash again and again.
    pub looping: u64,
}

impl ActorIndex {
    /// An actor goes, that handled so many messages.
    pub(super) fn retire(&self, kind: &'static str, handled: u64) {
        *self.retired.entry(kind).or_default() += handled;
    }

    /// The actor of this number behind all that it hangs below, the root first; none if it does not live.
    #[must_use]
    pub fn lineage(&self, actor: u64) -> Option<Vec<Arc<ActorInfo>>> {
        let mut lineage = Vec::new();
        let mut next = Some(ActorId::Local(actor));
        while let Some(info) = next.and_then(|id| self.get(id)) {
            next = info.parent();
            lineage.push(info);
        }
        lineage.reverse();
        (!lineage.is_empty()).then_some(lineage)
    }

    /// The figures of each kind that there ever was; `is_stuck` says of an actor that is held up since then whether that is
    /// too long, `is_loop` of one that was restarted so often, and last then, whether it crashes again and again. Asks no
    /// actor, and copies nothing of them. While an actor goes, its messages may count twice or not at all for a moment.
    #[must_use]
    pub fn figures(
        &self,
        is_stuck: impl Fn(Monotonic) -> bool,
        is_loop: impl Fn(u32, Timestamp) -> bool,
    ) -> BTreeMap<&'static str, KindFigures> {
        let mut kinds: BTreeMap<&'static str, KindFigures> = BTreeMap::new();
        for actor in &self.actors {
            let (kind, waiting) = (kinds.entry(actor.kind).or_default(), actor.mailbox());
            kind.live += 1;
            kind.mailbox += u64::from(waiting);
            kind.mailbox_max = kind.mailbox_max.max(waiting);
            kind.handled += actor.handled.load(Ordering::Relaxed);
            kind.stuck += u64::from(actor.held_up().is_some_and(|(_, since)| is_stuck(since)));
            kind.looping += u64::from(actor.last_restart().is_some_and(|(times, last)| is_loop(times, last)));
        }
        for gone in &self.retired {
            kinds.entry(gone.key()).or_default().handled += *gone;
        }
        kinds
    }
}
