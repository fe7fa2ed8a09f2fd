//! Reads a history and the store that it left, and says which rules were broken.

mod delivery;
mod limits;
mod rows;
mod runs;
mod stops;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{Event, RunRow, SessionRow, Transaction};
use offshoot_actors::types::{RunId, SessionKey};

use super::history::{Record, What};
use super::process::Played;

/// What the rules are checked against.
pub struct Facts<'a> {
    pub played: &'a Played,
    pub records: &'a [Record],
    pub rows: BTreeMap<RunId, RunRow>,
    /// The deleted ones too.
    pub sessions: BTreeMap<SessionKey, SessionRow>,
    pub log: Vec<Transaction>,
}

impl Facts<'_> {
    pub fn events(&self) -> impl Iterator<Item = (usize, &Record, &Event)> {
        self.records.iter().enumerate().filter_map(|(index, record)| match &record.what {
            What::Event(event) => Some((index, record, event)),
            _ => None,
        })
    }

    /// The session and all below it.
    pub fn subtree(&self, root: &SessionKey) -> BTreeSet<SessionKey> {
        let mut found = BTreeSet::from([root.clone()]);
        loop {
            let more: Vec<_> = self
                .sessions
                .values()
                .filter(|row| row.parent.as_ref().is_some_and(|parent| found.contains(parent)))
                .map(|row| row.key.clone())
                .filter(|key| !found.contains(key))
                .collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    /// Whether the last process saw it from beginning to end.
    pub fn last_life(&self) -> usize {
        self.played.lives.len() - 1
    }
}

/// Everything that a store shows, as text.
pub fn store_text(store: &MemoryStorage) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "{:#?}{:#?}{:#?}{:#?}{:#?}{:#?}{:#?}{:#?}{:#?}",
        store.all_sessions(),
        store.deleted_sessions(),
        store.all_runs(),
        store.transcripts(),
        store.outbox(),
        store.tool_rows(),
        store.steers(),
        store.requests(),
        store.audit()
    );
    text
}

pub fn check(played: &Played) -> Vec<String> {
    let store = &played.store;
    let all = store.all_sessions().into_iter().chain(store.deleted_sessions());
    let facts = Facts {
        played,
        records: &played.records,
        rows: store.all_runs().into_iter().map(|row| (row.id, row)).collect(),
        sessions: all.map(|row| (row.key.clone(), row)).collect(),
        log: store.log(),
    };
    let mut broken: Vec<String> = played
        .records
        .iter()
        .filter_map(|record| match &record.what {
            What::Broken(text) => Some(text.clone()),
            _ => None,
        })
        .collect();
    runs::check(&facts, &mut broken);
    delivery::check(&facts, &mut broken);
    limits::check(&facts, &mut broken);
    stops::check(&facts, &mut broken);
    rows::check(&facts, &mut broken);
    text::check(&facts, &mut broken);
    broken
}
