//! A session as lines of JSON, read from the store piece by piece.

use offshoot_actors::ports::{ListFilter, Page, RunRow, SessionRow, Storage, StoreError};
use offshoot_actors::types::{SessionKey, StoredEntry, Timestamp};
use serde_json::{Value, json};

/// Entries that are read at once.
const ENTRIES: u32 = 500;
/// Runs that are read at once.
const RUNS: u32 = 100;
/// Of the form of the lines.
const VERSION: u32 = 1;

/// Lines that tell a session. The last one says how many there were, so that a file that was cut off is known.
pub struct Lines<'a> {
    storage: &'a dyn Storage,
    row: SessionRow,
    at: Timestamp,
    next: Next,
    runs: u64,
    entries: u64,
}

#[derive(Debug, Clone, Copy)]
enum Next {
    Session,
    Runs(Page),
    Entries { from: u64 },
    End,
    Nothing,
}

impl std::fmt::Debug for Lines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("session", &self.row.key)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl<'a> Lines<'a> {
    /// Of a session that is read at this time.
    #[must_use]
    pub const fn new(storage: &'a dyn Storage, row: SessionRow, at: Timestamp) -> Self {
        Self { storage, row, at, next: Next::Session, runs: 0, entries: 0 }
    }

    /// Entries of the transcript among the lines so far.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// Some lines more; none after the last one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let mut piece = Vec::new();
        match self.next {
            Next::Session => {
                line(&session(&self.row, self.at), &mut piece);
                self.next = Next::Runs(Page { offset: 0, limit: RUNS });
            }
            Next::Runs(page) => {
                let filter = ListFilter { session: Some(self.row.key.clone()), ..ListFilter::default() };
                let rows = self.storage.list_runs(filter, page).await?;
                rows.iter().for_each(|row| line(&run(row), &mut piece));
                self.runs += rows.len() as u64;
                self.next = if rows.len() < RUNS as usize {
                    Next::Entries { from: 0 }
                } else {
                    Next::Runs(Page { offset: page.offset.saturating_add(RUNS), ..page })
                };
            }
            Next::Entries { from } => {
                let found = self.storage.entries(self.row.key.clone(), from, ENTRIES).await?;
                found.iter().for_each(|found| line(&entry(found), &mut piece));
                self.entries += found.len() as u64;
                self.next = match found.last() {
                    Some(last) => Next::Entries { from: last.seq.saturating_add(1) },
                    None => Next::End,
                };
            }
            Next::End => {
                // Read in pieces: one that was deleted or emptied meanwhile would look whole.
                let now = self.storage.session(self.row.key.clone()).await?;
                if now.is_none_or(|now| now.created_at != self.row.created_at) {
                    let text = format!(
                        "session {} was deleted or emptied while it was read: export it again",
                        self.row.key
                    );
                    return Err(StoreError::Other(text));
                }
                line(&json!({"type": "end", "runs": self.runs, "entries": self.entries}), &mut piece);
                self.next = Next::Nothing;
            }
            Next::Nothing => return Ok(None),
        }
        Ok(Some(piece))
    }
}

fn line(document: &Value, into: &mut Vec<u8>) {
    into.extend_from_slice(document.to_string().as_bytes());
    into.push(b'\n');
}

fn session(row: &SessionRow, at: Timestamp) -> Value {
    json!({
        "type": "session",
        "version": VERSION,
        "exportedAt": at,
        "sessionKey": row.key,
        "agentId": row.agent,
        "parent": row.parent,
        "root": row.root,
        "depth": row.depth,
        "label": row.label,
        "mode": row.mode,
        "cleanup": row.cleanup,
        "createdAt": row.created_at,
        "updatedAt": row.updated_at,
    })
}

fn run(row: &RunRow) -> Value {
    let outcome = row.outcome.as_ref();
    json!({
        "type": "run",
        "runId": row.id,
        "cause": row.cause.as_str(),
        "state": row.state.as_str(),
        "reason": outcome.and_then(|outcome| outcome.reason.as_ref()),
        "result": outcome.and_then(|outcome| outcome.text.as_ref()),
        "spawnedBy": row.spawner,
        "announceTo": row.announce_to.as_ref().map(SessionKey::as_str),
        "wireId": row.wire_id,
        "model": row.model_used.as_ref().unwrap_or(&row.model.primary),
        "usage": row.usage,
        "steps": row.steps,
        "acceptedAt": row.accepted_at,
        "startedAt": row.started_at,
        "endedAt": row.ended_at,
    })
}

fn entry(stored: &StoredEntry) -> Value {
    json!({"type": "entry", "seq": stored.seq, "runId": stored.run, "at": stored.at, "entry": stored.entry})
}
