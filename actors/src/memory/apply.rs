//! Changes, each checked before it is made.

use std::sync::Arc;

use super::state::{Announced, Place, Request, Run, Session, State, Tool, places};
use crate::ports::{Announce, Host, Op, Refused, RunEnd, RunRow, RunState, SessionRow, Steer, ToolMark};
use crate::types::{Cleanup, RunId, SessionKey, StoredEntry, Timestamp, ToolStatus};

impl State {
    /// Makes all changes or none.
    pub(super) fn transact(&mut self, ops: Vec<Op>) -> Result<(), Refused> {
        let result = ops.into_iter().try_for_each(|op| self.apply(op));
        match result {
            Ok(()) => self.keep(),
            Err(_) => self.undo(),
        }
        result
    }

    fn apply(&mut self, op: Op) -> Result<(), Refused> {
        match op {
            Op::CreateSession(row) => self.create_session(*row),
            Op::InsertRun(row) => self.insert_run(*row),
            Op::NameRequest { key, digest, run } => {
                if self.requests.contains(&key) {
                    return Err(Refused::Repeated);
                }
                let at = self.stored_run(run)?.row.accepted_at;
                self.requests.insert(key, Request { digest, run, at });
                Ok(())
            }
            Op::Append { session, open_run, entries } => self.append(&session, open_run, entries),
            Op::StartRun { run, at } => self.start_run(run, at),
            Op::RecordStep { run, steps, usage, model } => {
                self.running(run)?;
                self.runs.change(&run, |stored| {
                    if stored.row.state == RunState::Accepted {
                        stored.row.state = RunState::Running;
                    }
                    stored.row.steps = steps;
                    stored.row.usage = usage;
                    stored.row.model_used = Some(model);
                });
                Ok(())
            }
            Op::RecordTime { run, used } => {
                self.running(run)?;
                self.runs.change(&run, |stored| stored.row.used = used);
                Ok(())
            }
            Op::ResumeRuns { runs } => {
                runs.into_iter().try_for_each(|run| self.running(run).map(drop))?;
                self.change_died(|died| died + 1);
                Ok(())
            }
            Op::CountAttempts { run, attempts } => {
                self.running(run)?;
                self.runs.change(&run, |stored| stored.row.attempts = attempts);
                self.at_work(run);
                Ok(())
            }
            Op::ForgetAttempts { host } => {
                let open: Vec<RunId> = self.open.iter().map(|(_, run)| *run).collect();
                for run in open {
                    if self.runs.get(&run).is_some_and(|run| run.row.host == host && run.row.attempts > 0) {
                        self.runs.change(&run, |stored| stored.row.attempts = 0);
                    }
                }
                if host == Host::Daemon {
                    self.change_died(|_| 0);
                }
                Ok(())
            }
            Op::StartTools { run, step, calls, at } => self.start_tools(run, step, calls, at),
            Op::FinishTool { run, step, call, status, at } => self.finish_tool(run, step, call, status, at),
            Op::YieldRun { run } => self.yield_run(run),
            Op::EndRun(end) => self.end_run(*end),
            Op::QueueAnnounce(announce) => self.queue_announce(*announce),
            Op::TakeAnnounces { session, runs, by } => {
                runs.into_iter().try_for_each(|run| self.take_announce(&session, run, by))
            }
            Op::QueueSteer(steer) => self.queue_steer(*steer),
            Op::TakeSteers { session, ids } => ids.into_iter().try_for_each(|id| {
                let waits = self.steer_places.get(&id).filter(|(owner, _)| *owner == session).cloned();
                let place = waits.ok_or_else(|| Refused::no_steer(&session, id))?;
                self.steer_places.remove(&id);
                self.steers.remove(&place);
                Ok(())
            }),
            Op::DeleteSession { session, with_parents } => {
                self.delete_session(&session, with_parents);
                Ok(())
            }
            Op::RetireSession { session, written_at, entries } => {
                self.retire_session(&session, written_at, entries)
            }
            Op::ForgetRequests { before, limit } => {
                self.forget_requests(before, limit);
                Ok(())
            }
            Op::ForgetSessions { before, limit } => {
                self.forget_sessions(before, limit);
                Ok(())
            }
            Op::ResetSession { session, at } => self.reset_session(&session, at),
            Op::PatchSession { session, label, model } => {
                self.stored_session(&session)?;
                self.sessions.change(&session, |stored| {
                    if let Some(label) = label {
                        stored.row.label = label;
                    }
                    if let Some(model) = model {
                        stored.row.model = model;
                    }
                });
                Ok(())
            }
            Op::MoveSession { session, from, to } => self.move_session(&session, &from, to.as_ref()),
            Op::ExpectParent { session, parent } => self.expect_parent(session, parent.as_ref()),
            Op::AbandonAnnounce { run } => self.abandon_announce(run),
            Op::PutDevice(_)
            | Op::RemoveDevice { .. }
            | Op::PutDeviceToken(_)
            | Op::PutPairRequest(_)
            | Op::TakePairRequest { .. }
            | Op::AddBootstrap(_)
            | Op::TakeBootstrap { .. } => self.devices.apply(&op),
            Op::PutCallback(row) => self.put_callback(*row),
            Op::MarkCallback { callback, mark } => self.mark_callback(&callback, mark),
            Op::RetryCallback { run } => self.retry_callback(run),
            Op::DismissCallback { run, at } => self.dismiss_callback(run, at),
            Op::DismissAnnounce { run } => self.dismiss_announce(run),
            Op::Audit(record) => {
                self.audit.push(*record);
                Ok(())
            }
        }
    }

    pub(super) fn stored_session(&self, key: &SessionKey) -> Result<&Session, Refused> {
        self.sessions.get(key).ok_or_else(|| Refused::no_session(key))
    }

    pub(super) fn stored_run(&self, run: RunId) -> Result<&Run, Refused> {
        self.runs.get(&run).ok_or_else(|| Refused::no_run(run))
    }

    /// The run, if it has not ended.
    fn running(&self, run: RunId) -> Result<&Run, Refused> {
        let stored = self.stored_run(run)?;
        match stored.row.state {
            RunState::Ended(state) => Err(Refused::Ended { run, state }),
            RunState::Accepted | RunState::Running | RunState::Yielded => Ok(stored),
        }
    }

    fn create_session(&mut self, row: SessionRow) -> Result<(), Refused> {
        if self.sessions.contains(&row.key) {
            return Err(Refused::session_exists(&row.key));
        }
        if let Some(parent) = &row.parent {
            self.stored_session(parent)?;
        }
        let number = self.next_number();
        if let Some(parent) = &row.parent {
            self.children.insert((parent.clone(), number), row.key.clone());
        }
        self.session_order.insert(number, row.key.clone());
        self.sessions.insert(row.key.clone(), Session { number, next_seq: 0, row });
        Ok(())
    }

    fn touch(&mut self, key: &SessionKey, at: Timestamp) {
        if self.sessions.get(key).is_some_and(|session| session.row.updated_at < at) {
            self.sessions.change(key, |session| session.row.updated_at = at);
        }
    }

    fn insert_run(&mut self, row: RunRow) -> Result<(), Refused> {
        if row.state != RunState::Accepted || row.outcome.is_some() || row.ended_at.is_some() {
            return Err(Refused::not_new(row.id));
        }
        let session = self.stored_session(&row.session)?.number;
        if self.runs.contains(&row.id) {
            return Err(Refused::run_exists(row.id));
        }
        let (number, id) = (self.next_number(), row.id);
        self.touch(&row.session, row.accepted_at);
        self.run_order.insert(number, id);
        self.runs_of.insert((row.session.clone(), number), id);
        self.open.insert(number, id);
        self.open_of.insert((row.session.clone(), number), id);
        if let Some(to) = &row.announce_to {
            self.open_to.insert((to.clone(), number), id);
        }
        self.runs.insert(id, Run { number, session, row, announced: None });
        Ok(())
    }

    fn append(
        &mut self,
        key: &SessionKey,
        open_run: Option<RunId>,
        entries: Vec<Arc<StoredEntry>>,
    ) -> Result<(), Refused> {
        let session = self.stored_session(key)?;
        if let Some(run) = open_run {
            self.running(run)?;
        }
        let (number, mut next) = (session.number, session.next_seq);
        for entry in entries {
            if entry.seq != next {
                return Err(Refused::not_next(key, next, entry.seq));
            }
            next += 1;
            self.touch(key, entry.at);
            self.entries.insert((number, entry.seq), entry);
        }
        self.sessions.change(key, |session| session.next_seq = next);
        Ok(())
    }

    fn clear_yielded(&mut self, key: &SessionKey, run: RunId) {
        if self.sessions.get(key).is_some_and(|session| session.row.yielded == Some(run)) {
            self.sessions.change(key, |session| session.row.yielded = None);
        }
    }

    fn start_run(&mut self, run: RunId, at: Timestamp) -> Result<(), Refused> {
        let session = self.running(run)?.row.session.clone();
        self.clear_yielded(&session, run);
        self.runs.change(&run, |stored| {
            if stored.row.state != RunState::Yielded {
                stored.row.attempts = stored.row.attempts.max(1);
            }
            stored.row.state = RunState::Running;
            stored.row.input = None;
            stored.row.started_at.get_or_insert(at);
        });
        self.at_work(run);
        Ok(())
    }

    fn at_work(&mut self, run: RunId) {
        if self.runs.get(&run).is_some_and(|stored| stored.row.host == Host::Daemon) {
            self.change_died(|_| 0);
        }
    }

    fn change_died(&mut self, change: impl FnOnce(u32) -> u32) {
        let died = change(self.died());
        self.died.insert((), died);
    }

    fn yield_run(&mut self, run: RunId) -> Result<(), Refused> {
        let session = self.running(run)?.row.session.clone();
        self.runs.change(&run, |stored| stored.row.state = RunState::Yielded);
        self.sessions.change(&session, |session| session.row.yielded = Some(run));
        Ok(())
    }

    fn end_run(&mut self, end: RunEnd) -> Result<(), Refused> {
        let stored = self.running(end.run)?;
        let (number, session) = (stored.number, stored.row.session.clone());
        let announce_to = stored.row.announce_to.clone();
        self.clear_yielded(&session, end.run);
        self.touch(&session, end.at);
        self.open.remove(&number);
        if let Some(to) = announce_to {
            self.open_to.remove(&(to, number));
        }
        self.open_of.remove(&(session, number));
        self.runs.change(&end.run, |stored| {
            stored.row.state = RunState::Ended(end.outcome.state);
            stored.row.usage = end.usage;
            stored.row.steps = end.steps;
            stored.row.ended_at = Some(end.at);
            stored.row.outcome = Some(end.outcome);
        });
        Ok(())
    }

    fn start_tools(
        &mut self,
        run: RunId,
        step: u32,
        calls: Vec<ToolMark>,
        at: Timestamp,
    ) -> Result<(), Refused> {
        self.running(run)?;
        for mark in calls {
            let key = (run, step, mark.call);
            if self.tools.contains(&key) {
                return Err(Refused::tool_started(run, step, &key.2));
            }
            self.tools.insert(key, Tool { name: mark.name, started_at: at, finished: None });
        }
        Ok(())
    }

    fn finish_tool(
        &mut self,
        run: RunId,
        step: u32,
        call: Arc<str>,
        status: ToolStatus,
        at: Timestamp,
    ) -> Result<(), Refused> {
        self.running(run)?;
        let key = (run, step, call);
        if self.tools.get(&key).is_none_or(|tool| tool.finished.is_some()) {
            return Err(Refused::tool_not_open(run, step, &key.2));
        }
        self.tools.change(&key, |tool| tool.finished = Some((status, at)));
        Ok(())
    }

    fn queue_announce(&mut self, announce: Announce) -> Result<(), Refused> {
        let run = announce.item.run;
        if self.stored_run(run)?.announced.is_some() {
            return Err(Refused::announced(run));
        }
        let place = (announce.to.clone(), self.next_number());
        self.runs.change(&run, |stored| stored.announced = Some(Announced::Open(place.clone())));
        self.outbox.insert(place, announce);
        Ok(())
    }

    fn take_announce(&mut self, session: &SessionKey, run: RunId, by: Option<RunId>) -> Result<(), Refused> {
        let place: Option<Place> = match self.runs.get(&run).and_then(|stored| stored.announced.as_ref()) {
            Some(Announced::Open(place)) if place.0 == *session && !self.abandoned.contains(&run) => {
                Some(place.clone())
            }
            _ => None,
        };
        let place = place.ok_or_else(|| Refused::no_announce(session, run))?;
        self.outbox.remove(&place);
        self.runs.change(&run, |stored| stored.announced = Some(Announced::Delivered(by)));
        Ok(())
    }

    fn queue_steer(&mut self, steer: Steer) -> Result<(), Refused> {
        if self.steer_places.contains(&steer.id) {
            return Err(Refused::steer_exists(steer.id));
        }
        self.stored_session(&steer.session)?;
        let place = (steer.session.clone(), self.next_number());
        self.steer_places.insert(steer.id, place.clone());
        self.steers.insert(place, steer);
        Ok(())
    }

    fn reset_session(&mut self, key: &SessionKey, at: Timestamp) -> Result<(), Refused> {
        let number = self.stored_session(key)?.number;
        if self.open_of.range(places(key)).next().is_some() {
            return Err(Refused::session_open(key));
        }
        self.forget_entries(number);
        self.sessions.change(key, |stored| {
            stored.next_seq = 0;
            stored.row.created_at = at;
            stored.row.updated_at = stored.row.updated_at.max(at);
        });
        Ok(())
    }

    fn forget_entries(&mut self, session: u64) {
        let entries = self.entries.range((session, 0)..=(session, u64::MAX));
        let entries: Vec<_> = entries.map(|(place, _)| *place).collect();
        entries.iter().for_each(|place| _ = self.entries.remove(place));
    }

    /// Deletes the session, then its parents that were to be deleted and that it kept.
    fn delete_session(&mut self, key: &SessionKey, with_parents: bool) {
        let mut next = Some(key.clone());
        while let Some(key) = next {
            let parent = self.sessions.get(&key).and_then(|session| session.row.parent.clone());
            if !self.delete_one(&key) {
                return;
            }
            let waits = |parent: &SessionKey| {
                self.sessions.get(parent).is_some_and(|session| session.row.cleanup == Cleanup::Delete)
            };
            next = parent.filter(|parent| with_parents && waits(parent));
        }
    }

    /// Whether something of the session is open, on its way, or below it.
    pub(super) fn is_in_use(&self, session: &Session) -> bool {
        let key = &session.row.key;
        let on_its_way = |run: &RunId| {
            self.runs.get(run).is_some_and(|run| {
                run.session == session.number
                    && matches!(run.announced, Some(Announced::Open(_)))
                    && !self.abandoned.contains(&run.row.id)
            })
        };
        self.open_of.range(places(key)).next().is_some()
            || self.children.range(places(key)).next().is_some()
            || self.waiting_for(key).next().is_some()
            || self.steers.range(places(key)).next().is_some()
            || self.runs_of.range(places(key)).any(|(_, run)| on_its_way(run))
    }

    /// Whether it deleted the session: not one that is in use or does not exist.
    pub(super) fn delete_one(&mut self, key: &SessionKey) -> bool {
        let Some(session) = self.sessions.get(key).cloned() else { return false };
        if self.is_in_use(&session) {
            return false;
        }
        self.forget_entries(session.number);
        self.session_order.remove(&session.number);
        if let Some(parent) = session.row.parent.clone() {
            self.children.remove(&(parent, session.number));
        }
        self.sessions.remove(key);
        if let Some(parent) = session.row.parent.clone() {
            self.deleted_children.insert((parent, session.number), key.clone());
        }
        self.deleted.insert(session.number, session.row);
        true
    }
}
