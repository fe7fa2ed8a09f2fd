//! What is given up after a while.

use super::deliveries::Callback;
use super::state::{Announced, Session, State, places};
use crate::ports::{QuietFilter, QuietSession, Refused, RequestKey};
use crate::types::{Mode, RunId, SessionKey, Timestamp};

impl State {
    pub(super) fn quiet_sessions(&self, filter: &QuietFilter, limit: u32) -> Vec<QuietSession> {
        let begins = *filter.written.start();
        let is_wanted = |session: &&Session| {
            let row = &session.row;
            row.mode == Mode::Run
                && filter.written.contains(&row.updated_at)
                && (row.updated_at > begins || filter.after.as_ref().is_none_or(|after| row.key > *after))
                && row.cleanup == filter.cleanup
                && !self.is_in_use(session)
        };
        let rows = self.sessions.iter().map(|(_, session)| session).filter(is_wanted);
        let mut found: Vec<_> = rows
            .map(|session| QuietSession { row: session.row.clone(), entries: session.next_seq })
            .collect();
        found.sort_by(|a, b| (a.row.updated_at, &a.row.key).cmp(&(b.row.updated_at, &b.row.key)));
        found.truncate(limit as usize);
        found
    }

    pub(super) fn retire_session(
        &mut self,
        key: &SessionKey,
        written_at: Timestamp,
        entries: u64,
    ) -> Result<(), Refused> {
        let as_read = |session: &Session| session.row.updated_at == written_at && session.next_seq == entries;
        if self.sessions.get(key).is_some_and(as_read) && self.delete_one(key) {
            Ok(())
        } else {
            Err(Refused::not_quiet(key))
        }
    }

    pub(super) fn forget_requests(&mut self, before: Timestamp, limit: u32) {
        let is_open = |run: RunId| self.runs.get(&run).is_some_and(|run| run.row.state.is_open());
        let may_come_again = |run: RunId| {
            let spawner = self.runs.get(&run).and_then(|run| run.row.spawner);
            is_open(run) || spawner.is_some_and(is_open)
        };
        let mut old: Vec<(Timestamp, RequestKey)> = self
            .requests
            .iter()
            .filter(|(_, request)| request.at < before && !may_come_again(request.run))
            .map(|(key, request)| (request.at, key.clone()))
            .collect();
        old.sort();
        old.truncate(limit as usize);
        old.iter().for_each(|(_, key)| _ = self.requests.remove(key));
    }

    pub(super) fn forget_sessions(&mut self, before: Timestamp, limit: u32) {
        let is_wanted = |number: u64, run: &RunId| {
            self.callbacks.get(run).is_some_and(Callback::is_wanted)
                || self.runs.get(run).is_some_and(|run| {
                    run.session == number && matches!(run.announced, Some(Announced::Open(_)))
                })
        };
        let mut old: Vec<(Timestamp, u64)> = Vec::new();
        for (number, row) in self.deleted.iter() {
            let below = self.children.range(places(&row.key)).next().is_some()
                || self.deleted_children.range(places(&row.key)).any(|((_, child), _)| child != number);
            let mut runs = self.runs_of.range(places(&row.key));
            if row.updated_at < before && !below && !runs.any(|(_, run)| is_wanted(*number, run)) {
                old.push((row.updated_at, *number));
            }
        }
        old.sort_unstable();
        old.truncate(limit as usize);
        for (_, number) in old {
            self.forget_session(number);
        }
    }

    fn forget_session(&mut self, session: u64) {
        let Some(row) = self.deleted.get(&session).cloned() else { return };
        let runs: Vec<(u64, RunId)> = self
            .runs_of
            .range(places(&row.key))
            .filter(|(_, run)| self.runs.get(run).is_some_and(|run| run.session == session))
            .map(|((_, number), run)| (*number, *run))
            .collect();
        for (number, run) in runs {
            let calls = self.tools.range((run, 0, "".into())..).take_while(|((of, ..), _)| *of == run);
            let calls: Vec<_> = calls.map(|(call, _)| call.clone()).collect();
            calls.iter().for_each(|call| _ = self.tools.remove(call));
            self.runs_of.remove(&(row.key.clone(), number));
            self.run_order.remove(&number);
            self.callbacks.remove(&run);
            self.runs.remove(&run);
        }
        if let Some(parent) = row.parent {
            self.deleted_children.remove(&(parent, session));
        }
        self.deleted.remove(&session);
    }
}
