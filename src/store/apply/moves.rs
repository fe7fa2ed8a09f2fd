//! Sessions that outlive their parents.

use offshoot_actors::ports::{Announce, Refused};
use offshoot_actors::types::{RunId, SessionKey};
use rusqlite::{OptionalExtension, params};

use super::{Applied, Apply};
use crate::store::error::Failure;
use crate::store::rows::{Columns, IdText, encode_announce};

impl Apply<'_> {
    pub(super) fn move_session(
        &self,
        key: &SessionKey,
        from: &SessionKey,
        to: Option<&SessionKey>,
    ) -> Applied {
        let session = self.session(key)?.id;
        if !self.exists(
            "SELECT 1 FROM sessions WHERE id = ?1 AND parent_key = ?2",
            params![session, from.as_str()],
        )? {
            return Err(Refused::not_below(key, from).into());
        }
        if let Some(to) = to {
            self.session(to)?;
            let below = "WITH RECURSIVE up (key) AS (VALUES (?1) \
                         UNION SELECT s.parent_key FROM up u JOIN sessions s ON s.key = u.key) \
                         SELECT 1 FROM up WHERE key = ?2";
            if self.exists(below, params![to.as_str(), key.as_str()])? {
                return Err(Refused::not_below(key, to).into());
            }
        }
        self.execute(
            "UPDATE sessions SET parent_key = ?1, outlived = iif(?1 IS NULL, ?2, NULL) WHERE id = ?3",
            params![to.map(SessionKey::as_str), from.as_str(), session],
        )?;
        for (run, announce) in self.results_for(session, from)? {
            self.move_result(run, announce, to)?;
        }
        Ok(())
    }

    /// The runs of a session of which the result is for `from`, with the results that nobody has taken yet.
    fn results_for(&self, session: i64, from: &SessionKey) -> Result<Vec<(i64, Option<Announce>)>, Failure> {
        let mut found = self.connection.prepare_cached(
            "SELECT r.number, o.message FROM runs r LEFT JOIN outbox o ON o.run_id = r.id AND o.receiver = ?2 \
             WHERE r.session = ?1 AND r.announce_to = ?2 \
             AND (o.run_id IS NOT NULL OR (r.ended_at IS NULL AND r.announced = 0))",
        )?;
        let rows = found.query_map(params![session, from.as_str()], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.value()?, columns.announce_or_null()?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn move_result(&self, run: i64, announce: Option<Announce>, to: Option<&SessionKey>) -> Applied {
        let receiver = to.map(SessionKey::as_str);
        self.execute("UPDATE runs SET announce_to = ?1 WHERE number = ?2", params![receiver, run])?;
        match (announce, to) {
            (None, _) => Ok(()),
            (Some(announce), None) => self.abandon_announce(announce.item.run),
            (Some(announce), Some(to)) => {
                let announce = Announce { to: to.clone(), ..announce };
                self.execute(
                    "UPDATE outbox SET receiver = ?1, message = ?2 WHERE run_id = ?3",
                    params![to.as_str(), encode_announce(&announce)?, IdText::from(announce.item.run)],
                )?;
                Ok(())
            }
        }
    }

    pub(super) fn expect_parent(&self, session: &SessionKey, parent: Option<&SessionKey>) -> Applied {
        let mut found = self.connection.prepare_cached("SELECT parent_key FROM sessions WHERE key = ?1")?;
        let now = found.query_row([session.as_str()], |row| Columns::of(row).parsed_or_null::<SessionKey>());
        let to = now.optional()?.ok_or_else(|| Refused::no_session(session))?;
        if to.as_ref() == parent {
            Ok(())
        } else {
            Err(Refused::Moved { session: session.clone(), to }.into())
        }
    }

    pub(super) fn abandon_announce(&self, run: RunId) -> Applied {
        let changed =
            self.execute("UPDATE outbox SET abandoned = 1 WHERE run_id = ?1", [IdText::from(run)])?;
        if changed == 0 { Err(Refused::not_announced(run).into()) } else { Ok(()) }
    }
}
