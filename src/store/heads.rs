//! Where the writer goes on.

use rusqlite::Connection;

use super::audit::AuditHead;

/// What the writer knows without asking the database. Restored when a transaction is taken back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) audit: AuditHead,
    last_session: i64,
}

impl Heads {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let last_session = connection.query_row(
            "SELECT max(coalesce((SELECT max(id) FROM sessions), 0), \
             coalesce((SELECT max(id) FROM deleted_sessions), 0))",
            [],
            |row| row.get(0),
        )?;
        Ok(Self { audit: AuditHead::load(connection)?, last_session })
    }

    /// An id that no session has or had whose runs are still there: they refer to it also when it is gone.
    pub(super) const fn next_session(&mut self) -> i64 {
        self.last_session += 1;
        self.last_session
    }
}
