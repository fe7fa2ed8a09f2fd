//! Looks after the book: reads from the store what nobody has told it.

use super::book::{EndedRun, MAX_ENDED, SHOWN_FOR};
use crate::ports::{ListFilter, Page, StoreError};
use crate::tree::TreeHandle;
use crate::types::Timestamp;

/// Sessions that are read at once, between two looks at what else there is to do.
const AT_ONCE: usize = 256;

impl TreeHandle {
    /// Enters what ended before this process began. Once, at the start.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn seed_book(&self) -> Result<(), StoreError> {
        let shared = self.shared();
        let since = Timestamp(shared.system.clock.now().0.saturating_sub(super::build::millis(SHOWN_FOR)));
        let filter = ListFilter { since: Some(since), ..ListFilter::default() };
        let page = Page { offset: 0, limit: u32::try_from(MAX_ENDED).unwrap_or(u32::MAX) };
        let sessions = shared.storage.list_sessions(filter.clone(), page).await?;
        let mut runs = shared.storage.list_runs(filter, page).await?;
        runs.reverse();
        let mut ended: Vec<EndedRun> = runs.iter().filter_map(EndedRun::of).collect();
        ended.sort_by_key(|run| run.ended_at);
        shared.book.seed(ended, &sessions);
        Ok(())
    }

    /// Reads what the book lacks, a part of it at a time, and has it forget what is not shown any more.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn tend_book(&self) -> Result<(), StoreError> {
        let shared = self.shared();
        for entry in shared.live_sessions() {
            shared.book.want(&entry.meta);
        }
        shared.book.forget(shared.system.clock.now(), |key| shared.live.contains_key(key));
        for key in shared.book.unnamed(AT_ONCE) {
            let row = shared.storage.session(key.clone()).await?;
            shared.book.name(&key, row.as_ref());
        }
        for key in shared.book.unread(AT_ONCE) {
            shared.book.ask(&key);
            if let Some(figures) = shared.storage.session_figures(key.clone()).await? {
                shared.book.learn(&key, figures);
            }
        }
        Ok(())
    }
}
