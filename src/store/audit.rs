//! The audit record: rows that are only added, each bound to the one before it by its hash.
//!
//! The chain shows that a row was changed, removed or put in between. That the newest rows were cut off shows
//! only to somebody who noted an earlier [`verify_audit`].

use std::path::Path;

use offshoot_actors::ports::AuditRecord;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serializer;
use sha2::{Digest, Sha256};

use super::error::{Failure, OpenError, store_error};
use super::rows::{IdText, json};
use super::schema::Database;

type Hash = [u8; 32];

/// Why the audit record cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A row is not what was written, or does not follow the one before it.
    #[error("audit row {row} was changed, or rows before it were removed or added")]
    Broken {
        /// The first such row.
        row: i64,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] offshoot_actors::ports::StoreError),
}

/// Checks the whole audit record of a state directory. Returns how many rows it has.
///
/// # Errors
/// The first row that is not what was written, or why the store cannot be read.
pub fn verify_audit(dir: &Path) -> Result<u64, AuditError> {
    let (_, connection) = Database::for_reading(dir)?;
    verify(&connection)
}

/// The end of the chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct AuditHead {
    row: i64,
    hash: Hash,
}

impl AuditHead {
    const EMPTY: Self = Self { row: 0, hash: [0; 32] };

    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let last = connection
            .query_row("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1", [], |row| {
                Ok(Self { row: row.get(0)?, hash: row.get(1)? })
            })
            .optional()?;
        Ok(last.unwrap_or(Self::EMPTY))
    }

    pub(super) fn append(&mut self, connection: &Connection, record: &AuditRecord) -> Result<(), Failure> {
        let row = self.row + 1;
        let origin = json(&record.origin)?;
        let facts = facts_text(&record.facts)?;
        let run = record.run.map(IdText::from);
        let session = record.session.as_ref().map(AsRef::as_ref);
        let hash = {
            let mut chain = Chain::after(&self.hash, row, record.at.0);
            chain.text(Some(record.event.as_bytes()));
            chain.text(Some(origin.as_bytes()));
            chain.text(session.map(str::as_bytes));
            chain.text(run.as_ref().map(IdText::as_bytes));
            chain.text(Some(facts.as_bytes()));
            chain.finish()
        };
        connection
            .prepare_cached(
                "INSERT INTO audit (id, at, event, origin, session_key, run_id, facts, prev_hash, hash) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![row, record.at.0, record.event, origin, session, run, facts, self.hash, hash])?;
        *self = Self { row, hash };
        Ok(())
    }
}

pub(super) fn verify(connection: &Connection) -> Result<u64, AuditError> {
    let read = |error| AuditError::Store(store_error(error));
    let mut statement = connection
        .prepare(
            "SELECT id, at, event, origin, session_key, run_id, facts, prev_hash, hash FROM audit ORDER BY id",
        )
        .map_err(read)?;
    let mut rows = statement.query([]).map_err(read)?;
    let (mut head, mut count) = (AuditHead::EMPTY, 0);
    while let Some(row) = rows.next().map_err(read)? {
        head = follow(&head, row).map_err(read)?.ok_or(AuditError::Broken { row: head.row + 1 })?;
        count += 1;
    }
    Ok(count)
}

/// The row as the new end of the chain, if it is what was written there.
fn follow(head: &AuditHead, row: &Row<'_>) -> rusqlite::Result<Option<AuditHead>> {
    let (ValueRef::Integer(id), ValueRef::Integer(at)) = (row.get_ref(0)?, row.get_ref(1)?) else {
        return Ok(None);
    };
    let mut chain = Chain::after(&head.hash, id, at);
    for column in 2..7 {
        match row.get_ref(column)? {
            ValueRef::Text(text) => chain.text(Some(text)),
            ValueRef::Null => chain.text(None),
            ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_) => return Ok(None),
        }
    }
    let hash = chain.finish();
    let stored = |column, hash: &Hash| {
        Ok::<_, rusqlite::Error>(matches!(row.get_ref(column)?, ValueRef::Blob(stored) if stored == hash))
    };
    let follows = id == head.row + 1 && stored(7, &head.hash)? && stored(8, &hash)?;
    Ok(follows.then_some(AuditHead { row: id, hash }))
}

/// The hash of a row: the previous hash, then each column with its length, so that no two rows share it.
struct Chain(Sha256);

impl Chain {
    fn after(previous: &Hash, row: i64, at: i64) -> Self {
        let mut hash = Sha256::new_with_prefix(previous);
        hash.update(row.to_be_bytes());
        hash.update(at.to_be_bytes());
        Self(hash)
    }

    fn text(&mut self, text: Option<&[u8]>) {
        match text {
            Some(text) => {
                self.0.update([1]);
                self.0.update((text.len() as u64).to_be_bytes());
                self.0.update(text);
            }
            None => self.0.update([0]),
        }
    }

    fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

fn facts_text(facts: &[(&'static str, String)]) -> Result<String, serde_json::Error> {
    let mut text = Vec::with_capacity(64);
    serde_json::Serializer::new(&mut text).collect_map(facts.iter().map(|(name, fact)| (name, fact)))?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}
