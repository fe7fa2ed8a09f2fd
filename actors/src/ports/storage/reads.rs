//! What the storage is asked for, beside plain rows.

use std::sync::Arc;

use super::rows::{Announce, Cause, Host, RunRow, SessionRow, Steer};
use crate::types::{AgentId, RunId, SessionKey, StoredEntry, Timestamp};

/// A request that was carried out before.
#[derive(Debug, Clone)]
pub struct Earlier {
    /// SHA-256 of its parameters.
    pub digest: [u8; 32],
    /// The run that it started.
    pub run: RunRow,
    /// That run's session, as it was last if it is deleted.
    pub session: SessionRow,
}

/// A session with all that its actor needs.
#[derive(Debug, Clone)]
pub struct StoredSession {
    /// Its row.
    pub row: SessionRow,
    /// Its transcript.
    pub transcript: Vec<Arc<StoredEntry>>,
    /// Its open runs, oldest first.
    pub runs: Vec<RunRow>,
    /// Results that wait for it, oldest first.
    pub announces: Vec<Announce>,
    /// Steering messages that wait in it, oldest first.
    pub steers: Vec<Steer>,
    /// Open runs that announce to it, with their sessions and the runs that spawned them.
    pub children: Vec<OpenRun>,
}

impl RunRow {
    /// What others know of it while it is open.
    #[must_use]
    pub fn open(&self, root: &SessionKey, depth: u32) -> OpenRun {
        OpenRun {
            run: self.id,
            session: self.session.clone(),
            announce_to: self.announce_to.clone(),
            root: root.clone(),
            depth,
            cause: self.cause,
            spawner: self.spawner,
            host: self.host,
        }
    }
}

/// A run that has not ended, with its place in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// The run.
    pub run: RunId,
    /// Its session.
    pub session: SessionKey,
    /// The session that gets its result.
    pub announce_to: Option<SessionKey>,
    /// The first session of its tree.
    pub root: SessionKey,
    /// Its session's depth.
    pub depth: u32,
    /// Why it exists.
    pub cause: Cause,
    /// The run whose tool call spawned it.
    pub spawner: Option<RunId>,
    /// What kind of process accepted it.
    pub host: Host,
}

/// An open run of a subtree with its whole row.
#[derive(Debug, Clone)]
pub struct SubtreeRun {
    /// The run.
    pub row: RunRow,
    /// Its session.
    pub session: SessionRow,
}

/// Which rows a list holds.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only of this agent.
    pub agent: Option<AgentId>,
    /// Only of this session (runs), or children of it (sessions).
    pub session: Option<SessionKey>,
    /// Only in the tree of this root session.
    pub root: Option<SessionKey>,
    /// Only open runs (runs), or sessions that have one (sessions).
    pub open: bool,
    /// Only rows written at or after this time: a run's end, else start, else acceptance; a session's
    /// `updated_at`.
    pub since: Option<Timestamp>,
}

/// At most `limit` rows, the last one added first, after skipping `offset`.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Rows to skip.
    pub offset: u32,
    /// Most rows to return.
    pub limit: u32,
}
