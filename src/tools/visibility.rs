//! Which sessions an agent's tools may see.

use std::collections::BTreeMap;
use std::sync::Arc;

use offshoot_actors::ports::{SessionRow, Storage, StoreError};
use offshoot_actors::types::{Refusal, SessionKey, Visibility};

/// Sessions between a root and the deepest one: more is a loop in damaged rows.
const MAX_CHAIN: usize = 128;

/// What a session is to the one that looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relation {
    Own,
    Descendant,
    SameAgent,
    Other,
}

/// Whether a session of that relation may be seen. Each setting sees all that the narrower ones see.
pub(super) fn sees(visibility: Visibility, relation: Relation) -> bool {
    let widest = match visibility {
        Visibility::Own => Relation::Own,
        Visibility::Tree => Relation::Descendant,
        Visibility::Agent => Relation::SameAgent,
        Visibility::All => Relation::Other,
    };
    relation <= widest
}

/// Refuses a look at a session that may not be seen.
pub(super) fn check(visibility: Visibility, relation: Relation, what: &str) -> Result<(), Refusal> {
    if sees(visibility, relation) {
        return Ok(());
    }
    let (setting, limit, enough) = match visibility {
        Visibility::Own => ("self", "the own session", needed(relation)),
        Visibility::Tree => ("tree", "the own session and its sub-agents", needed(relation)),
        Visibility::Agent | Visibility::All => ("agent", "sessions of the same agent", "all"),
    };
    Err(Refusal::forbidden(
        "visibility",
        format!("{what} visibility is restricted to {limit} (tools.sessions.visibility={setting})."),
        format!("set tools.sessions.visibility={enough}"),
    ))
}

fn needed(relation: Relation) -> &'static str {
    match relation {
        Relation::Own => "self",
        Relation::Descendant => "tree",
        Relation::SameAgent => "agent",
        Relation::Other => "all",
    }
}

/// Session rows, each read once.
pub(super) struct Rows<'a> {
    storage: &'a Arc<dyn Storage>,
    known: BTreeMap<SessionKey, Option<SessionRow>>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(storage: &'a Arc<dyn Storage>) -> Self {
        Self { storage, known: BTreeMap::new() }
    }

    /// Adds a row that was read elsewhere.
    pub(super) fn add(&mut self, row: SessionRow) {
        self.known.insert(row.key.clone(), Some(row));
    }

    pub(super) async fn get(&mut self, key: &SessionKey) -> Result<Option<&SessionRow>, StoreError> {
        if !self.known.contains_key(key) {
            let row = self.storage.session(key.clone()).await?;
            self.known.insert(key.clone(), row);
        }
        Ok(self.known.get(key).and_then(Option::as_ref))
    }

    /// The sessions above a session, its parent first, up to its root.
    pub(super) async fn above(&mut self, key: &SessionKey) -> Result<Vec<SessionKey>, StoreError> {
        let mut above = Vec::new();
        let mut at = key.clone();
        while above.len() < MAX_CHAIN {
            let Some(parent) = self.get(&at).await?.and_then(|row| row.parent.clone()) else { break };
            at = parent.clone();
            above.push(parent);
        }
        Ok(above)
    }

    /// What `target` is to `caller`.
    pub(super) async fn relation(
        &mut self,
        caller: &SessionKey,
        target: &SessionKey,
    ) -> Result<Relation, StoreError> {
        if caller == target {
            Ok(Relation::Own)
        } else if self.above(target).await?.contains(caller) {
            Ok(Relation::Descendant)
        } else if caller.agent() == target.agent() {
            Ok(Relation::SameAgent)
        } else {
            Ok(Relation::Other)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::testing::{Store, key};

    const LEVELS: [Visibility; 4] = [Visibility::Own, Visibility::Tree, Visibility::Agent, Visibility::All];
    const RELATIONS: [Relation; 4] =
        [Relation::Own, Relation::Descendant, Relation::SameAgent, Relation::Other];

    #[test]
    fn each_setting_sees_one_relation_more() {
        for (level, visibility) in LEVELS.into_iter().enumerate() {
            for (distance, relation) in RELATIONS.into_iter().enumerate() {
                assert_eq!(sees(visibility, relation), distance <= level, "{visibility:?} {relation:?}");
                assert_eq!(check(visibility, relation, "History").is_ok(), distance <= level);
            }
        }
    }

    #[test]
    fn the_refusal_names_the_setting_that_is_enough() {
        let refusal = check(Visibility::Own, Relation::Descendant, "Session history").unwrap_err();
        assert_eq!(refusal.hint.as_deref(), Some("set tools.sessions.visibility=tree"));
        let refusal = check(Visibility::Tree, Relation::Other, "Session history").unwrap_err();
        assert!(refusal.message.contains("tools.sessions.visibility=tree"));
        assert_eq!(refusal.hint.as_deref(), Some("set tools.sessions.visibility=all"));
    }

    #[tokio::test]
    async fn relations_follow_the_parents() {
        let mut store = Store::default();
        store.add_session("agent:main:main", None);
        store.add_session("agent:main:subagent:a", Some("agent:main:main"));
        store.add_session("agent:helper:subagent:b", Some("agent:main:subagent:a"));
        store.add_session("agent:main:subagent:c", Some("agent:main:main"));
        store.add_session("agent:helper:main", None);
        let storage = store.shared();
        let mut rows = Rows::new(&storage);
        let mut relation = async |a: &str, b: &str| rows.relation(&key(a), &key(b)).await.unwrap();
        assert_eq!(relation("agent:main:main", "agent:main:main").await, Relation::Own);
        assert_eq!(relation("agent:main:main", "agent:helper:subagent:b").await, Relation::Descendant);
        assert_eq!(relation("agent:main:subagent:a", "agent:main:subagent:c").await, Relation::SameAgent);
        assert_eq!(relation("agent:main:subagent:a", "agent:main:main").await, Relation::SameAgent);
        assert_eq!(relation("agent:main:main", "agent:helper:main").await, Relation::Other);
        assert_eq!(relation("agent:main:main", "agent:helper:gone").await, Relation::Other);
    }

    #[tokio::test]
    async fn a_loop_in_damaged_rows_ends() {
        let mut store = Store::default();
        store.add_session("agent:main:a", Some("agent:main:b"));
        store.add_session("agent:main:b", Some("agent:main:a"));
        let storage = store.shared();
        let above = Rows::new(&storage).above(&key("agent:main:a")).await.unwrap();
        assert_eq!(above.len(), MAX_CHAIN);
    }
}
