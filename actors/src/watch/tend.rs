//! Looks after the book: reads from the store what nobody has told it.

use std::sync::Arc;

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

    /// Has the book know who is awake, and forget what is not shown any more. Goes over all of it, without waiting.
    pub fn sweep_book(&self) {
        let shared = self.shared();
        // Whoever is told of something in the book may be held up there, and never by who is awake.
        let awake: Vec<_> = shared.live.iter().map(|entry| Arc::clone(&entry.meta)).collect();
        for meta in awake {
            shared.book.want(&meta);
        }
        shared.book.forget(shared.system.clock.now(), |key| shared.live.contains_key(key));
    }

    /// Reads what the book lacks, a part of it at a time.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn tend_book(&self) -> Result<(), StoreError> {
        let shared = self.shared();
        for key in shared.book.unnamed(AT_ONCE) {
            let row = shared.storage.session(key.clone()).await?;
            shared.book.name(&key, row.as_ref());
        }
        for key in shared.book.unread(AT_ONCE) {
            shared.book.ask(&key);
            match shared.storage.session_figures(key.clone()).await? {
                Some(figures) => shared.book.learn(&key, figures),
                None if shared.live.contains_key(&key) => {}
                None => shared.book.remove(&key),
            }
        }
        Ok(())
    }
}
