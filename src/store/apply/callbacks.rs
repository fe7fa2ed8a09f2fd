//! Where results are wanted outside, and results that nobody is to have.

use offshoot_actors::ports::{CallbackMark, CallbackRow, Refused};
use offshoot_actors::types::{RunId, Timestamp};
use rusqlite::params;

use super::{Applied, Apply};
use crate::store::rows::IdText;

impl Apply<'_> {
    pub(super) fn put_callback(&self, row: &CallbackRow) -> Applied {
        let run = self.run(row.run)?;
        self.execute(
            "INSERT OR REPLACE INTO callbacks (run, run_id, receiver, address, state, at) \
             VALUES (?1, ?2, ?3, ?4, 'open', ?5)",
            params![run.number, IdText::from(row.run), row.receiver(), row.address.expose(), row.at.0],
        )?;
        Ok(())
    }

    pub(super) fn mark_callback(&self, row: &CallbackRow, mark: &CallbackMark) -> Applied {
        let (run, address) = (IdText::from(row.run), row.address.expose());
        let marked = match mark {
            CallbackMark::Delivered { at } => self.execute(
                "UPDATE callbacks SET state = 'delivered', address = NULL, next_at = NULL, settled_at = ?4 \
                 WHERE run_id = ?1 AND address = ?2 AND at = ?3",
                params![run, address, row.at.0, at.0],
            )?,
            CallbackMark::Failed { reason, attempts, next } => self.execute(
                "UPDATE callbacks SET state = 'failed', reason = ?4, attempts = ?5, next_at = ?6 \
                 WHERE run_id = ?1 AND address = ?2 AND at = ?3",
                params![run, address, row.at.0, reason, attempts, next.map(|next| next.0)],
            )?,
        };
        one(marked, Refused::no_callback(row.run))
    }

    pub(super) fn retry_callback(&self, run: RunId) -> Applied {
        let open = self.execute(
            "UPDATE callbacks SET state = 'open', attempts = 0, reason = NULL, next_at = NULL \
             WHERE run_id = ?1 AND address IS NOT NULL",
            [IdText::from(run)],
        )?;
        one(open, Refused::no_callback(run))
    }

    pub(super) fn dismiss_callback(&self, run: RunId, at: Timestamp) -> Applied {
        let dismissed = self.execute(
            "UPDATE callbacks SET state = 'dismissed', address = NULL, next_at = NULL, settled_at = ?2 \
             WHERE run_id = ?1 AND address IS NOT NULL",
            params![IdText::from(run), at.0],
        )?;
        one(dismissed, Refused::no_callback(run))
    }

    pub(super) fn dismiss_announce(&self, run: RunId) -> Applied {
        // Of a result that was for nobody any more the outbox alone knows for whom it was.
        self.execute(
            "UPDATE runs SET announced = 2, \
             announce_to = iif(announce_to IS NULL AND ended_at IS NOT NULL, o.receiver, announce_to) \
             FROM outbox o WHERE o.run_id = ?1 AND runs.id = ?1",
            [IdText::from(run)],
        )?;
        let taken = self.execute("DELETE FROM outbox WHERE run_id = ?1", [IdText::from(run)])?;
        one(taken, Refused::not_on_its_way(run))
    }
}

fn one(changed: usize, refused: Refused) -> Applied {
    if changed == 0 { Err(refused.into()) } else { Ok(()) }
}
