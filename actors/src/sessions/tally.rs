//! What is open: the counters behind the caps.

use std::collections::BTreeMap;

use crate::policy::admission::Counters;
use crate::types::{RunId, SessionKey};

/// Open spawns by run, so that adding or taking one twice changes nothing.
#[derive(Debug, Default)]
pub(super) struct Tally {
    open: BTreeMap<RunId, Spawned>,
    children: BTreeMap<SessionKey, u32>,
    descendants: BTreeMap<SessionKey, u32>,
}

#[derive(Debug)]
struct Spawned {
    session: SessionKey,
    /// None if it has outlived its parent.
    parent: Option<SessionKey>,
    root: SessionKey,
}

impl Tally {
    /// Counts a spawn that is reserved or open.
    pub(super) fn add(
        &mut self,
        run: RunId,
        session: &SessionKey,
        parent: Option<&SessionKey>,
        root: &SessionKey,
    ) {
        let spawned = Spawned { session: session.clone(), parent: parent.cloned(), root: root.clone() };
        if self.open.insert(run, spawned).is_none() {
            if let Some(parent) = parent {
                *self.children.entry(parent.clone()).or_default() += 1;
            }
            *self.descendants.entry(root.clone()).or_default() += 1;
        }
    }

    /// A spawn was not committed, or its run is terminal.
    pub(super) fn remove(&mut self, run: RunId) {
        if let Some(Spawned { parent, root, .. }) = self.open.remove(&run) {
            if let Some(parent) = parent {
                decrement(&mut self.children, &parent);
            }
            decrement(&mut self.descendants, &root);
        }
    }

    /// A session hangs below another one from now on, or below none; it stays in its tree.
    pub(super) fn hand_over(&mut self, session: &SessionKey, to: Option<&SessionKey>) {
        for spawned in self.open.values_mut().filter(|spawned| spawned.session == *session) {
            if let Some(parent) = std::mem::replace(&mut spawned.parent, to.cloned()) {
                decrement(&mut self.children, &parent);
            }
            if let Some(to) = to {
                *self.children.entry(to.clone()).or_default() += 1;
            }
        }
    }

    /// What counts for a spawn by `parent` in the tree of `root`.
    pub(super) fn counters(&self, parent: &SessionKey, root: &SessionKey) -> Counters {
        Counters {
            children: self.children.get(parent).copied().unwrap_or(0),
            descendants: self.descendants.get(root).copied().unwrap_or(0),
        }
    }

    /// Whether a session has open or reserved children.
    pub(super) fn has_children(&self, parent: &SessionKey) -> bool {
        self.children.contains_key(parent)
    }
}

fn decrement(counts: &mut BTreeMap<SessionKey, u32>, key: &SessionKey) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_once_however_often_it_is_told() {
        let key = |text: &str| text.parse::<SessionKey>().unwrap();
        let run = RunId(uuid::Uuid::from_u128(1));
        let (parent, root) = (key("agent:main:subagent:a"), key("agent:main:main"));
        let child = key("agent:main:subagent:b");
        let mut tally = Tally::default();
        tally.add(run, &child, Some(&parent), &root);
        tally.add(run, &child, Some(&parent), &root);
        assert_eq!(tally.counters(&parent, &root), Counters { children: 1, descendants: 1 });
        tally.remove(run);
        tally.remove(run);
        assert_eq!(tally.counters(&parent, &root), Counters::default());
        assert!(!tally.has_children(&parent));
    }

    #[test]
    fn a_session_that_is_handed_over_counts_below_the_other_and_stays_in_its_tree() {
        let key = |text: &str| text.parse::<SessionKey>().unwrap();
        let run = RunId(uuid::Uuid::from_u128(1));
        let (parent, root) = (key("agent:main:subagent:a"), key("agent:main:main"));
        let child = key("agent:main:subagent:b");
        let mut tally = Tally::default();
        tally.add(run, &child, Some(&parent), &root);
        tally.hand_over(&child, Some(&root));
        assert!(!tally.has_children(&parent));
        assert_eq!(tally.counters(&root, &root), Counters { children: 1, descendants: 1 });
        tally.hand_over(&child, None);
        assert_eq!(tally.counters(&root, &root), Counters { children: 0, descendants: 1 });
        tally.remove(run);
        assert_eq!(tally.counters(&root, &root), Counters::default());
    }
}
