//! What a result says of the tokens that it took: those of the child's session and of all below it.
//!
//! A session that had no children knows the sum. Any other reads it from the store when it has a result: what was
//! used below it is known to sessions that may sleep, have failed or are deleted.

use super::commit::End;
use super::{Session, SessionMsg, Stage};
use crate::kit::Ctx;
use crate::ports::StoreError;
use crate::types::{RunId, SessionKey, Usage};

use crate::shared::Shared;

/// What the tree of a session has used so far, but for this run.
async fn used_beside(shared: &Shared, session: SessionKey, run: RunId) -> Result<Usage, StoreError> {
    // The last step that the run has committed may be on its way.
    shared.barrier().await?;
    let own = shared.storage.run(run).await?.map_or_else(Usage::default, |row| row.usage);
    Ok(shared.storage.subtree_usage(session).await?.without(own))
}

impl Session {
    /// Commits the end of a run once it is known what the tree of this session has used.
    pub(super) fn count(&mut self, end: Box<End>, ctx: &Ctx<Self>) {
        let (shared, session, run) = (self.shared.clone(), self.meta.key.clone(), end.end.run);
        let Some(active) = self.runs.get_mut(&run) else { return self.end_later(end, ctx) };
        active.cell.update(|progress| progress.phase = crate::run::Phase::Ending);
        let work = async move { used_beside(&shared, session, run).await };
        let counted = |used| SessionMsg::Counted { end, used };
        active.stage = Stage::Counting { _task: ctx.task(work, counted) };
    }

    pub(super) fn on_counted(
        &mut self,
        mut end: Box<End>,
        used: Result<Usage, StoreError>,
        ctx: &mut Ctx<Self>,
    ) {
        let run = end.end.run;
        let counting = |stage: &Stage| matches!(stage, Stage::Counting { .. });
        if !self.runs.get(&run).is_some_and(|active| counting(&active.stage)) {
            return;
        }
        match used {
            Ok(used) => {
                end.counted = true;
                if let Some(announce) = &mut end.announce {
                    announce.item.usage = used + end.end.usage;
                }
                // Results may have come meanwhile.
                end.next = self.next_on_results(run, end.taken.as_ref(), ctx);
                self.commit_end(end, ctx);
            }
            Err(error) => {
                tracing::warn!(%run, %error, "the tokens of a result cannot be read, will try again");
                self.end_later(end, ctx);
            }
        }
    }
}
