//! Where results are wanted outside, and what became of everything that is to reach somebody.

use std::collections::BTreeSet;

use super::state::{Announced, Place, Run, State};
use crate::ports::{
    CallbackMark, CallbackRow, DeliveryFilter, DeliveryKind, DeliveryRow, DeliveryState, DeliveryStatus,
    DeliveryTally, OpenCallback, Page, Receiver, Refused, Undeliverable,
};
use crate::types::{AgentId, RunId, SessionKey, Timestamp};

/// A callback and what became of it.
#[derive(Debug, Clone)]
pub(super) struct Callback {
    /// What was asked for, until it is settled.
    asked: Option<CallbackRow>,
    receiver: String,
    at: Timestamp,
    settled_at: Option<Timestamp>,
    state: DeliveryState,
}

impl State {
    pub(super) fn put_callback(&mut self, asked: CallbackRow) -> Result<(), Refused> {
        if !self.runs.contains(&asked.run) {
            return Err(Refused::no_run(asked.run));
        }
        let (run, at, receiver) = (asked.run, asked.at, asked.receiver());
        let state = DeliveryState::Open;
        self.callbacks.insert(run, Callback { asked: Some(asked), receiver, at, settled_at: None, state });
        Ok(())
    }

    pub(super) fn mark_callback(&mut self, asked: &CallbackRow, mark: CallbackMark) -> Result<(), Refused> {
        if self.callbacks.get(&asked.run).and_then(|callback| callback.asked.as_ref()) != Some(asked) {
            return Err(Refused::no_callback(asked.run));
        }
        self.callbacks.change(&asked.run, |callback| match mark {
            CallbackMark::Delivered { at } => callback.settle(DeliveryState::Delivered, at),
            CallbackMark::Failed { reason, attempts, next } => {
                callback.state = DeliveryState::Failed { reason, attempts, next };
            }
        });
        Ok(())
    }

    pub(super) fn retry_callback(&mut self, run: RunId) -> Result<(), Refused> {
        self.unsettled(run)?;
        self.callbacks.change(&run, |callback| callback.state = DeliveryState::Open);
        Ok(())
    }

    pub(super) fn dismiss_callback(&mut self, run: RunId, at: Timestamp) -> Result<(), Refused> {
        self.unsettled(run)?;
        self.callbacks.change(&run, |callback| callback.settle(DeliveryState::Dismissed, at));
        Ok(())
    }

    fn unsettled(&self, run: RunId) -> Result<(), Refused> {
        let waits = self.callbacks.get(&run).is_some_and(|callback| callback.asked.is_some());
        if waits { Ok(()) } else { Err(Refused::no_callback(run)) }
    }

    pub(super) fn dismiss_announce(&mut self, run: RunId) -> Result<(), Refused> {
        let place: Option<Place> = match self.runs.get(&run).and_then(|stored| stored.announced.as_ref()) {
            Some(Announced::Open(place)) => Some(place.clone()),
            _ => None,
        };
        let place = place.ok_or_else(|| Refused::not_on_its_way(run))?;
        self.outbox.remove(&place);
        self.runs.change(&run, |stored| {
            stored.announced = Some(Announced::Dismissed);
            // Of a result that was for nobody any more the outbox alone knows for whom it was.
            if !stored.row.state.is_open() {
                stored.row.announce_to.get_or_insert(place.0);
            }
        });
        Ok(())
    }

    pub(super) fn open_callbacks(&self) -> Vec<OpenCallback> {
        let open = |callback: &Callback| {
            let (attempts, next) = match &callback.state {
                DeliveryState::Open => (0, None),
                DeliveryState::Failed { attempts, next: Some(next), .. } => (*attempts, Some(*next)),
                _ => return None,
            };
            Some(OpenCallback { callback: callback.asked.clone()?, attempts, next })
        };
        self.callbacks.iter().filter_map(|(_, callback)| open(callback)).collect()
    }

    pub(super) fn deliveries(&self, filter: &DeliveryFilter, page: Page) -> Vec<DeliveryRow> {
        let newest = self.run_order.iter().rev().filter_map(|(_, run)| self.runs.get(run));
        let rows = newest.flat_map(|run| self.deliveries_of(run, filter.agents.as_deref()));
        let rows = rows.filter(|row| is_wanted(row, filter));
        rows.skip(page.offset as usize).take(page.limit as usize).collect()
    }

    pub(super) fn delivery_tally(&self, agents: Option<&BTreeSet<AgentId>>) -> DeliveryTally {
        let mut tally = DeliveryTally::default();
        for row in self.runs.iter().flat_map(|(_, run)| self.deliveries_of(run, agents)) {
            match row.state {
                DeliveryState::Open => tally.open += 1,
                DeliveryState::Failed { next, .. } => {
                    tally.failed += 1;
                    tally.given_up += u64::from(next.is_none());
                }
                DeliveryState::Undeliverable(_) => tally.undeliverable += 1,
                DeliveryState::Delivered | DeliveryState::Dismissed => {}
            }
        }
        tally
    }

    fn deliveries_of(&self, run: &Run, agents: Option<&BTreeSet<AgentId>>) -> Vec<DeliveryRow> {
        let announce = run.announced.as_ref().and_then(|announced| self.announce_of(run, announced, agents));
        let callback = self.callbacks.get(&run.row.id).map(|callback| DeliveryRow {
            kind: DeliveryKind::Callback,
            run: run.row.id,
            session: run.row.session.clone(),
            receiver: Receiver::Address(callback.receiver.clone()),
            at: callback.at,
            settled_at: callback.settled_at,
            state: callback.state.clone(),
        });
        announce.into_iter().chain(callback).collect()
    }

    fn announce_of(
        &self,
        run: &Run,
        announced: &Announced,
        agents: Option<&BTreeSet<AgentId>>,
    ) -> Option<DeliveryRow> {
        let row = &run.row;
        let ended = || row.ended_at.unwrap_or(row.accepted_at);
        let (receiver, at, state) = match announced {
            Announced::Open(place) => {
                let left = self.abandoned.contains(&row.id).then_some(Undeliverable::NoSession);
                let obstacle = left.or_else(|| self.obstacle(&place.0, agents));
                let state = obstacle.map_or(DeliveryState::Open, DeliveryState::Undeliverable);
                (place.0.clone(), self.outbox.get(place)?.at, state)
            }
            Announced::Delivered(_) => (row.announce_to.clone()?, ended(), DeliveryState::Delivered),
            Announced::Dismissed => (row.announce_to.clone()?, ended(), DeliveryState::Dismissed),
        };
        Some(DeliveryRow {
            kind: DeliveryKind::Announce,
            run: row.id,
            session: row.session.clone(),
            receiver: Receiver::Session(receiver),
            at,
            settled_at: None,
            state,
        })
    }

    fn obstacle(&self, receiver: &SessionKey, agents: Option<&BTreeSet<AgentId>>) -> Option<Undeliverable> {
        match self.sessions.get(receiver) {
            None => Some(Undeliverable::NoSession),
            Some(session) if agents.is_some_and(|agents| !agents.contains(&session.row.agent)) => {
                Some(Undeliverable::NoAgent)
            }
            Some(_) => None,
        }
    }
}

impl Callback {
    /// Whether somebody is still to have the result.
    pub(super) const fn is_wanted(&self) -> bool {
        self.asked.is_some()
    }

    fn settle(&mut self, state: DeliveryState, at: Timestamp) {
        self.asked = None;
        self.settled_at = Some(at);
        self.state = state;
    }
}

fn is_wanted(row: &DeliveryRow, filter: &DeliveryFilter) -> bool {
    let concerns = |session: &SessionKey| {
        row.session == *session || matches!(&row.receiver, Receiver::Session(receiver) if receiver == session)
    };
    filter.kind.is_none_or(|kind| row.kind == kind)
        && filter.status.is_none_or(|status: DeliveryStatus| row.state.status() == status)
        && filter.run.is_none_or(|run| row.run == run)
        && filter.session.as_ref().is_none_or(concerns)
}
