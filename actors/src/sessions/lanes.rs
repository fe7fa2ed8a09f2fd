//! Lanes: how many runs may execute at once, and who is next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::kit::Reply;
use crate::policy::lanes::{FairQueue, Ticket};
use crate::sessions::SessionsMsg;
use crate::shared::Shared;
use crate::types::{RunId, SessionKey};

/// Which limit counts for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LaneName {
    /// Runs of sessions that nobody spawned.
    Main,
    /// Runs of sub-agents.
    Subagent,
}

impl LaneName {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Subagent => "subagent",
        }
    }

    fn limit(self, shared: &Shared) -> u32 {
        let limits = shared.settings().lanes;
        match self {
            Self::Main => limits.main,
            Self::Subagent => limits.subagent,
        }
    }
}

/// How busy a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneView {
    /// `main` or `subagent`.
    pub name: &'static str,
    /// Runs that execute.
    pub active: u32,
    /// Runs that wait for their turn.
    pub queued: usize,
    /// Runs that may execute at once.
    pub limit: u32,
}

/// The right to execute. Dropping it gives it back, however its holder ended.
#[derive(Debug)]
pub(crate) struct Permit {
    lane: LaneName,
    held: Arc<AtomicU32>,
    shared: Arc<Shared>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::AcqRel);
        // A manager that is being restarted counts anew when it starts.
        drop(self.shared.sessions.send(SessionsMsg::PermitBack { lane: self.lane }));
    }
}

/// A run that waits for its permit.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) run: RunId,
    pub(crate) grant: Reply<Permit>,
}

/// One limit with its queue.
pub(crate) struct Lane {
    name: LaneName,
    /// Permits that are out. Lives outside of the state, so that a rebuild knows it.
    held: Arc<AtomicU32>,
    queue: FairQueue<SessionKey, Waiter>,
    tickets: BTreeMap<RunId, Ticket<SessionKey>>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("name", &self.name).field("waiting", &self.queue.len()).finish()
    }
}

impl Lane {
    pub(crate) fn new(name: LaneName, held: Arc<AtomicU32>) -> Self {
        Self { name, held, queue: FairQueue::default(), tickets: BTreeMap::new() }
    }

    /// Queues a run; `fair` is whose share its turn counts for. A run that asks again keeps one place.
    pub(crate) fn wait(&mut self, fair: SessionKey, resume: bool, waiter: Waiter) {
        let run = waiter.run;
        self.forget(run);
        let ticket = self.queue.push(fair, resume, waiter);
        self.tickets.insert(run, ticket);
    }

    /// How many permits are out.
    pub(crate) fn held(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.held)
    }

    /// How busy it is now.
    pub(crate) fn view(&self, shared: &Shared) -> LaneView {
        LaneView {
            name: self.name.as_str(),
            active: self.held.load(Ordering::Acquire),
            queued: self.queue.len(),
            limit: self.name.limit(shared),
        }
    }

    /// Takes a run out of the queue.
    pub(crate) fn forget(&mut self, run: RunId) {
        if let Some(ticket) = self.tickets.remove(&run) {
            drop(self.queue.take(&ticket));
        }
    }

    /// Gives out what the limit allows.
    pub(crate) fn serve(&mut self, shared: &Arc<Shared>) {
        let limit = self.name.limit(shared);
        while self.held.load(Ordering::Acquire) < limit {
            let Some(waiter) = self.queue.pop() else { return };
            self.tickets.remove(&waiter.run);
            self.held.fetch_add(1, Ordering::AcqRel);
            // A permit for a run that is gone is dropped with the message, and so comes back.
            waiter.grant.send(Permit {
                lane: self.name,
                held: Arc::clone(&self.held),
                shared: Arc::clone(shared),
            });
        }
    }
}
