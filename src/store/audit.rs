//! The audit record: rows that are only added, each bound to the one before it by its hash.
//!
//! The chain shows that a row was changed, removed or put in between. That the newest rows were cut off shows only where
//! something else in the store tells of them, or to somebody who noted the hash of an earlier [`AuditReader::verify`].
//! Whoever may write the file may also make a whole new chain, which only such a noted hash does not fit.

mod export;
mod read;
mod verify;

use std::fmt;
use std::str::FromStr;

use offshoot_actors::ports::AuditRecord;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serializer;
use sha2::{Digest, Sha256};

pub use self::export::{AuditExportError, AuditExported};
pub use self::read::AuditReader;
pub(super) use self::read::page;
pub(crate) use self::verify::time;
pub(super) use self::verify::verify;
pub use self::verify::{AuditError, AuditVerified, verify_audit};
use super::error::Failure;
use super::rows::{IdText, json};

/// What a row is bound to the next one by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHash(pub(super) [u8; 32]);

impl AuditHash {
    /// What the first row is bound to.
    const NOTHING: Self = Self([0; 32]);
}

impl fmt::Display for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
        let text: String = self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect();
        f.write_str(&text)
    }
}

/// A text that is no hash of an audit row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 hexadecimal digits, as `offshoot audit verify` prints them")]
pub struct NoAuditHash;

impl FromStr for AuditHash {
    type Err = NoAuditHash;

    fn from_str(text: &str) -> Result<Self, NoAuditHash> {
        let mut hash = [0; 32];
        if text.len() != 2 * hash.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NoAuditHash);
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| NoAuditHash)?;
        }
        Ok(Self(hash))
    }
}

/// The end of the chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct AuditHead {
    pub(super) row: i64,
    pub(super) hash: AuditHash,
}

impl AuditHead {
    pub(super) const EMPTY: Self = Self { row: 0, hash: AuditHash::NOTHING };

    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let last = connection
            .query_row("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1", [], |row| {
                Ok(Self { row: row.get(0)?, hash: AuditHash(row.get(1)?) })
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
            .execute(params![
                row,
                record.at.0,
                record.event,
                origin,
                session,
                run,
                facts,
                self.hash.0,
                hash.0
            ])?;
        *self = Self { row, hash };
        Ok(())
    }
}

/// The hash of a row: the previous hash, then each column with its length, so that no two rows share it.
struct Chain(Sha256);

impl Chain {
    fn after(previous: &AuditHash, row: i64, at: i64) -> Self {
        let mut hash = Sha256::new_with_prefix(previous.0);
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

    fn finish(self) -> AuditHash {
        AuditHash(self.0.finalize().into())
    }
}

fn facts_text(facts: &[(&'static str, String)]) -> Result<String, serde_json::Error> {
    let mut text = Vec::with_capacity(64);
    serde_json::Serializer::new(&mut text).collect_map(facts.iter().map(|(name, fact)| (name, fact)))?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}
