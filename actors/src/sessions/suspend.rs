//! The orderly end of the process: runs come to the end of their step, and the next start goes on with them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{LaneName, Sessions, SessionsMsg};
use crate::kit::{Ctx, Reply};
use crate::ports::{Host, Op};
use crate::shared::Shared;

/// A daemon that has been up for so long does not die of the runs that it resumed.
const STABLE_AFTER: Duration = Duration::from_secs(600);
/// From then on runs that have begun since are forgiven as often as this.
const STABLE_EVERY: Duration = Duration::from_secs(60);

/// How often it is looked whether the last run has stopped.
const LOOK: Duration = Duration::from_millis(5);

/// What died with them at work before counts against runs no more.
fn forgive(shared: &Shared) {
    shared.runs.iter().for_each(|cell| cell.forgive());
}

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
            let times: Vec<Op> = shared.runs.iter().filter_map(|cell| cell.time(now)).collect();
            for time in times {
                // Each for itself: a run may be ending, and then its time is of no use.
                shared.commit(vec![time], |_| {});
            }
            forgive(&shared);
            if let Err(refused) = shared.committed(vec![Op::ForgetAttempts { host: shared.host }]).await {
                tracing::warn!(%refused, "the next start counts this end of the process as one that was not asked for");
            }
            reply.send(());
        });
    }

    /// Sets the next time at which no run counts as what may bring this process down.
    pub(super) fn await_stability(&mut self, ctx: &Ctx<Self>) {
        let pause = STABLE_AFTER.saturating_sub(self.shared.uptime()).max(STABLE_EVERY);
        self.stable = (self.shared.host == Host::Daemon).then(|| ctx.after(pause, SessionsMsg::Stable));
    }

    /// This process has been up for a while with the runs that it has.
    pub(super) fn on_stable(&mut self, ctx: &Ctx<Self>) {
        self.await_stability(ctx);
        forgive(&self.shared);
        self.shared.commit(vec![Op::ForgetAttempts { host: self.shared.host }], |result| {
            if let Err(refused) = result {
                tracing::warn!(%refused, "runs that were resumed still count as attempts");
            }
        });
    }
}
