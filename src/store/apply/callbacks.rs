//! Where results are wanted outside.

use offshoot_actors::ports::{CallbackRow, Refused};
use rusqlite::params;

use super::{Applied, Apply};
use crate::store::rows::IdText;

impl Apply<'_> {
    pub(super) fn put_callback(&self, row: &CallbackRow) -> Applied {
        self.run(row.run)?;
        self.execute(
            "INSERT OR REPLACE INTO callbacks (run_id, address, at) VALUES (?1, ?2, ?3)",
            params![IdText::from(row.run), row.address.expose(), row.at.0],
        )?;
        Ok(())
    }

    pub(super) fn take_callback(&self, row: &CallbackRow) -> Applied {
        let taken = self.execute(
            "DELETE FROM callbacks WHERE run_id = ?1 AND address = ?2 AND at = ?3",
            params![IdText::from(row.run), row.address.expose(), row.at.0],
        )?;
        if taken == 0 {
            return Err(Refused::no_callback(row.run).into());
        }
        Ok(())
    }
}
