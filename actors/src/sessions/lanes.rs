//! Lanes: how many runs may execute at once, and who is next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;

use crate::kit::Reply;
use crate::policy::lanes::{self, FairQueue, Ticket};
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
    /// The lane of a session's runs.
    pub(crate) const fn at(depth: u32) -> Self {
        if depth == 0 { Self::Main } else { Self::Subagent }
    }

    pub(crate) const fn as_str(self) -> &'static str {
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

/// What everybody may know of a lane: permits that are out, and who waits. Only the manager writes it.
#[derive(Debug)]
pub(crate) struct LaneBook {
    name: LaneName,
    /// Lives outside of the manager's state, so that a rebuild knows it.
    held: Arc<AtomicU32>,
    tickets: DashMap<RunId, Ticket<SessionKey>>,
    turns: DashMap<SessionKey, u64>,
}

impl LaneBook {
    /// The books of a manager that begins.
    pub(crate) fn both() -> [Arc<Self>; 2] {
        [LaneName::Main, LaneName::Subagent].map(|name| {
            let (held, tickets, turns) = Default::default();
            Arc::new(Self { name, held, tickets, turns })
        })
    }

    /// How busy the lane is now.
    pub(crate) fn view(&self, shared: &Shared) -> LaneView {
        LaneView {
            name: self.name.as_str(),
            active: self.held.load(Ordering::Acquire),
            queued: self.tickets.len(),
            limit: self.name.limit(shared),
        }
    }

    /// The runs that wait, the next one first.
    pub(crate) fn order(&self) -> Vec<RunId> {
        let waiters = self.tickets.iter().map(|entry| (entry.value().clone(), *entry.key())).collect();
        lanes::order(waiters, |key| self.turns.get(key).map(|turn| *turn))
    }
}

/// One limit with its queue.
pub(crate) struct Lane {
    book: Arc<LaneBook>,
    queue: FairQueue<SessionKey, Waiter>,
    tickets: BTreeMap<RunId, Ticket<SessionKey>>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("name", &self.book.name).field("waiting", &self.queue.len()).finish()
    }
}

impl Lane {
    /// An empty lane: who waited in one before asks again.
    pub(crate) fn new(book: &Arc<LaneBook>) -> Self {
        book.tickets.clear();
        book.turns.clear();
        Self { book: Arc::clone(book), queue: FairQueue::default(), tickets: BTreeMap::new() }
    }

    /// Queues a run; `fair` is whose share its turn counts for. A run that asks again keeps one place.
    pub(crate) fn wait(&mut self, fair: SessionKey, resume: bool, waiter: Waiter) {
        let run = waiter.run;
        self.forget(run);
        let ticket = self.queue.push(fair, resume, waiter);
        self.book.tickets.insert(run, ticket.clone());
        self.note_turn(&ticket);
        self.tickets.insert(run, ticket);
    }

    /// How many permits are out.
    pub(crate) fn held(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.book.held)
    }

    /// How busy it is now.
    pub(crate) fn view(&self, shared: &Shared) -> LaneView {
        self.book.view(shared)
    }

    /// Enters the turn of a key after one of its waiters came or went.
    fn note_turn(&self, ticket: &Ticket<SessionKey>) {
        let Some(key) = ticket.key() else { return };
        match self.queue.turn(key) {
            Some(turn) => drop(self.book.turns.insert(key.clone(), turn)),
            None => drop(self.book.turns.remove(key)),
        }
    }

    fn leaves(&mut self, run: RunId) -> Option<Ticket<SessionKey>> {
        self.book.tickets.remove(&run);
        self.tickets.remove(&run)
    }

    /// Takes a run out of the queue.
    pub(crate) fn forget(&mut self, run: RunId) {
        if let Some(ticket) = self.leaves(run) {
            drop(self.queue.take(&ticket));
            self.note_turn(&ticket);
        }
    }

    /// Gives out what the limit allows.
    pub(crate) fn serve(&mut self, shared: &Arc<Shared>) {
        let limit = self.book.name.limit(shared);
        while self.book.held.load(Ordering::Acquire) < limit {
            let Some(waiter) = self.queue.pop() else { return };
            if let Some(ticket) = self.leaves(waiter.run) {
                self.note_turn(&ticket);
            }
            self.book.held.fetch_add(1, Ordering::AcqRel);
            // A permit for a run that is gone is dropped with the message, and so comes back.
            waiter.grant.send(Permit {
                lane: self.book.name,
                held: Arc::clone(&self.book.held),
                shared: Arc::clone(shared),
            });
        }
    }
}
