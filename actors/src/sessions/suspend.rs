//! The orderly end of the process: runs come to the end of their step, and the next start goes on with them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::recover::commit;
use super::{LaneName, Sessions};
use crate::kit::{Ctx, Reply};
use crate::ports::{Op, Transaction};

/// How often it is looked whether the last run has stopped.
const LOOK: Duration = Duration::from_millis(5);

impl Sessions {
    /// A run that has no permit makes no step: once all are back nothing is at work.
    pub(super) fn on_suspend(&mut self, within: Duration, reply: Reply<()>, ctx: &Ctx<Self>) {
        self.shared.suspend();
        let held = [LaneName::Main, LaneName::Subagent].map(|name| self.lane(name).held());
        let (shared, clock) = (Arc::clone(&self.shared), Arc::clone(&ctx.system().clock));
        // Detached: whoever asked goes on however this actor fares.
        tokio::spawn(async move {
            let until = clock.monotonic() + within;
            while held.iter().any(|held| held.load(Ordering::Acquire) > 0) && clock.monotonic() < until {
                clock.sleep(LOOK).await;
            }
            let now = clock.monotonic();
            let times = shared.runs.iter().filter(|cell| cell.fate.get().is_none());
            let mut transaction: Transaction = times.filter_map(|cell| cell.time(now)).collect();
            transaction.push(Op::ForgetAttempts { host: shared.host });
            if let Err(refused) = commit(&shared, transaction).await {
                tracing::warn!(%refused, "the next start counts this end of the process as one that was not asked for");
            }
            reply.send(());
        });
    }

    /// None of the runs that were resumed has brought this process down.
    pub(super) fn on_stable(&mut self) {
        self.stable = None;
        self.shared.commit(vec![Op::ForgetAttempts { host: self.shared.host }], |result| {
            if let Err(refused) = result {
                tracing::warn!(%refused, "runs that were resumed still count as attempts");
            }
        });
    }
}
