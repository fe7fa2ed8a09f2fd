//! What is given up after a while.

use offshoot_actors::ports::Refused;
use offshoot_actors::types::{SessionKey, Timestamp};
use rusqlite::params;

use super::{Applied, Apply};
use crate::store::error::Failure;
use crate::store::rows::count;

impl Apply<'_> {
    pub(super) fn retire_session(&self, key: &SessionKey, written_at: Timestamp, entries: u64) -> Applied {
        let as_read = self.exists(
            "SELECT 1 FROM sessions WHERE key = ?1 AND updated_at = ?2 AND next_seq = ?3",
            params![key.as_str(), written_at.0, count(entries)],
        )?;
        if as_read && self.delete_one(key.as_str())? { Ok(()) } else { Err(Refused::not_quiet(key).into()) }
    }

    pub(super) fn forget_requests(&self, before: Timestamp, limit: u32) -> Applied {
        self.execute(
            "DELETE FROM requests WHERE (principal, method, key) IN (\
             SELECT q.principal, q.method, q.key FROM requests q \
             LEFT JOIN runs r ON r.id = q.run_id LEFT JOIN runs p ON p.id = r.spawner_id \
             WHERE q.at < ?1 AND (r.id IS NULL OR r.ended_at IS NOT NULL) \
             AND (p.id IS NULL OR p.ended_at IS NOT NULL) \
             ORDER BY q.at, q.principal, q.method, q.key LIMIT ?2)",
            params![before.0, limit],
        )?;
        Ok(())
    }

    pub(super) fn forget_sessions(&self, before: Timestamp, limit: u32) -> Applied {
        let old: Vec<i64> = {
            let mut statement = self.connection.prepare_cached(
                "SELECT d.id FROM deleted_sessions d WHERE d.updated_at < ?1 \
                 AND NOT EXISTS (SELECT 1 FROM sessions WHERE parent_key = d.key) \
                 AND NOT EXISTS (SELECT 1 FROM deleted_sessions c WHERE c.parent_key = d.key AND c.id <> d.id) \
                 AND NOT EXISTS (SELECT 1 FROM runs r JOIN outbox o ON o.run_id = r.id WHERE r.session = d.id) \
                 AND NOT EXISTS (SELECT 1 FROM runs r JOIN callbacks c ON c.run_id = r.id \
                 WHERE r.session = d.id AND c.address IS NOT NULL) \
                 ORDER BY d.updated_at, d.id LIMIT ?2",
            )?;
            let found = statement.query_map(params![before.0, limit], |row| row.get(0))?;
            found.collect::<Result<_, _>>()?
        };
        old.into_iter().try_for_each(|session| self.forget_session(session))
    }

    fn forget_session(&self, session: i64) -> Result<(), Failure> {
        for sql in [
            "DELETE FROM tool_calls WHERE run_id IN (SELECT id FROM runs WHERE session = ?1)",
            "DELETE FROM callbacks WHERE run_id IN (SELECT id FROM runs WHERE session = ?1)",
            "DELETE FROM taken WHERE run_id IN (SELECT id FROM runs WHERE session = ?1)",
            "DELETE FROM runs WHERE session = ?1",
            "DELETE FROM deleted_sessions WHERE id = ?1",
        ] {
            self.execute(sql, [session])?;
        }
        Ok(())
    }
}
