//! Changes as SQL, each checked before it is made. This file: sessions, transcripts, requests, deliveries.

mod callbacks;
mod devices;
mod moves;
mod retention;
mod runs;

use std::collections::BTreeSet;
use std::sync::Arc;

use offshoot_actors::ports::{Announce, Op, Refused, RunState, SessionRow, Steer};
use offshoot_actors::types::{ModelChoice, RunId, SessionKey, StoredEntry, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::error::Failure;
use super::heads::Heads;
use super::rows::{IdText, cleanup_text, count, encode_announce, json, mode_text, quiet, state_of};

type Applied = Result<(), Failure>;

/// One transaction at work.
pub(super) struct Apply<'a> {
    pub(super) connection: &'a Connection,
    pub(super) heads: &'a mut Heads,
}

/// What changes of a session's row depend on.
struct Session {
    id: i64,
    next_seq: i64,
    updated_at: i64,
}

/// What changes of a run's row depend on.
struct Run {
    number: i64,
    state: RunState,
    session: i64,
}

impl Apply<'_> {
    pub(super) fn all(&mut self, ops: &[Op]) -> Applied {
        ops.iter().try_for_each(|op| self.one(op))
    }

    fn one(&mut self, op: &Op) -> Applied {
        match op {
            Op::CreateSession(row) => self.create_session(row),
            Op::InsertRun(row) => self.insert_run(row),
            Op::NameRequest { key, digest, run } => {
                let added = self.execute(
                    "INSERT INTO requests (principal, method, key, digest, run_id, at) VALUES (?1, ?2, ?3, ?4, ?5, \
                     coalesce((SELECT accepted_at FROM runs WHERE id = ?5), 0)) ON CONFLICT DO NOTHING",
                    params![key.principal, key.method, key.key, digest, IdText::from(*run)],
                )?;
                if added == 0 {
                    return Err(Refused::Repeated.into());
                }
                self.run(*run).map(|_| ())
            }
            Op::Append { session, open_run, entries } => self.append(session, *open_run, entries),
            Op::StartRun { run, at } => self.start_run(*run, *at),
            Op::RecordStep { run, steps, usage, model } => self.record_step(*run, *steps, usage, model),
            Op::RecordTime { run, used } => self.record_time(*run, *used),
            Op::ResumeRuns { runs } => self.resume_runs(runs),
            Op::CountAttempts { run, attempts } => self.count_attempts(*run, *attempts),
            Op::ForgetAttempts { host } => self.forget_attempts(*host),
            Op::StartTools { run, step, calls, at } => self.start_tools(*run, *step, calls, *at),
            Op::FinishTool { run, step, call, status, at } => {
                self.finish_tool(*run, *step, call, *status, *at)
            }
            Op::YieldRun { run } => self.yield_run(*run),
            Op::EndRun(end) => self.end_run(end),
            Op::QueueAnnounce(announce) => self.queue_announce(announce),
            Op::TakeAnnounces { session, runs, by } => self.take_announces(session, runs, *by),
            Op::QueueSteer(steer) => self.queue_steer(steer),
            Op::TakeSteers { session, ids } => ids.iter().try_for_each(|id| self.take_steer(session, *id)),
            Op::DeleteSession { session, with_parents } => self.delete_session(session, *with_parents),
            Op::RetireSession { session, written_at, entries } => {
                self.retire_session(session, *written_at, *entries)
            }
            Op::ForgetRequests { before, limit } => self.forget_requests(*before, *limit),
            Op::ForgetSessions { before, limit } => self.forget_sessions(*before, *limit),
            Op::ResetSession { session, at } => self.reset_session(session, *at),
            Op::PatchSession { session, label, model } => {
                self.patch_session(session, label.as_ref(), model.as_ref())
            }
            Op::MoveSession { session, from, to } => self.move_session(session, from, to.as_ref()),
            Op::ExpectParent { session, parent } => self.expect_parent(session, parent.as_ref()),
            Op::AbandonAnnounce { run } => self.abandon_announce(*run),
            Op::PutDevice(_)
            | Op::RemoveDevice { .. }
            | Op::PutDeviceToken(_)
            | Op::PutPairRequest(_)
            | Op::TakePairRequest { .. }
            | Op::AddBootstrap(_)
            | Op::TakeBootstrap { .. } => self.device_change(op),
            Op::PutCallback(row) => self.put_callback(row),
            Op::MarkCallback { callback, mark } => self.mark_callback(callback, mark),
            Op::RetryCallback { run } => self.retry_callback(*run),
            Op::DismissCallback { run, at } => self.dismiss_callback(*run, *at),
            Op::DismissAnnounce { run } => self.dismiss_announce(*run),
            Op::Audit(record) => self.heads.audit.append(self.connection, record),
        }
    }

    /// How many rows it changed.
    fn execute(&self, sql: &'static str, params: impl rusqlite::Params) -> Result<usize, Failure> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    fn exists(&self, sql: &'static str, params: impl rusqlite::Params) -> Result<bool, Failure> {
        Ok(self.connection.prepare_cached(sql)?.exists(params)?)
    }

    fn session(&self, key: &SessionKey) -> Result<Session, Failure> {
        let mut statement =
            self.connection.prepare_cached("SELECT id, next_seq, updated_at FROM sessions WHERE key = ?1")?;
        let found = statement.query_row([key.as_str()], |row| {
            Ok(Session { id: row.get(0)?, next_seq: row.get(1)?, updated_at: row.get(2)? })
        });
        found.optional()?.ok_or_else(|| Refused::no_session(key).into())
    }

    /// The run, in whatever state.
    fn run(&self, run: RunId) -> Result<Run, Failure> {
        let mut statement =
            self.connection.prepare_cached("SELECT number, state, session FROM runs WHERE id = ?1")?;
        let found = statement.query_row([IdText::from(run)], |row| {
            let state = row.get_ref(1)?.as_str()?;
            let state = state_of(state).ok_or_else(|| {
                let problem = format!("run {run} has the unknown state {state:?}").into();
                rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, problem)
            })?;
            Ok(Run { number: row.get(0)?, state, session: row.get(2)? })
        });
        found.optional()?.ok_or_else(|| Refused::no_run(run).into())
    }

    /// The run, if it has not ended.
    fn open_run(&self, id: RunId) -> Result<Run, Failure> {
        let run = self.run(id)?;
        match run.state {
            RunState::Ended(state) => Err(Refused::Ended { run: id, state }.into()),
            RunState::Accepted | RunState::Running | RunState::Yielded => Ok(run),
        }
    }

    fn create_session(&mut self, row: &SessionRow) -> Applied {
        // Asked before the row is there, for one that would be its own parent.
        let parent = row.parent.as_ref().map_or(Ok(()), |parent| self.session(parent).map(|_| ()));
        let id = self.heads.next_session();
        let added = self.execute(
            "INSERT INTO sessions (id, key, agent, parent_key, root_key, depth, label, mode, cleanup, model, \
             fallbacks, tools, yielded_run, next_seq, created_at, updated_at, on_parent_exit, outlived) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, ?14, ?15, ?16, ?17) \
             ON CONFLICT (key) DO NOTHING",
            params![
                id,
                row.key.as_str(),
                row.agent.as_str(),
                row.parent.as_ref().map(SessionKey::as_str),
                row.root.as_str(),
                row.depth,
                row.label,
                mode_text(row.mode),
                cleanup_text(row.cleanup),
                row.model.as_ref().map(|model| model.primary.as_str()),
                row.model.as_ref().map(|model| json(&model.fallbacks)).transpose()?,
                row.tools.as_ref().map(|tools| json(tools.as_ref())).transpose()?,
                row.yielded.map(IdText::from),
                row.created_at.0,
                row.updated_at.0,
                row.on_parent_exit.as_str(),
                row.outlived.as_ref().map(SessionKey::as_str),
            ],
        )?;
        if added == 0 {
            return Err(Refused::session_exists(&row.key).into());
        }
        parent
    }

    fn touch(&self, session: &Session, at: Timestamp) -> Applied {
        if session.updated_at >= at.0 {
            return Ok(());
        }
        self.execute("UPDATE sessions SET updated_at = ?1 WHERE id = ?2", [at.0, session.id])?;
        Ok(())
    }

    fn append(&self, key: &SessionKey, open_run: Option<RunId>, entries: &[Arc<StoredEntry>]) -> Applied {
        let session = self.session(key)?;
        if let Some(run) = open_run {
            self.open_run(run)?;
        }
        let (mut next_seq, mut updated_at) = (session.next_seq, session.updated_at);
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO entries (session, seq, run_id, at, content) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for entry in entries {
            if count(entry.seq) != next_seq {
                return Err(Refused::not_next(key, next_seq.unsigned_abs(), entry.seq).into());
            }
            let run = entry.run.map(IdText::from);
            insert.execute(params![session.id, next_seq, run, entry.at.0, json(&entry.entry)?])?;
            next_seq += 1;
            updated_at = updated_at.max(entry.at.0);
        }
        self.execute(
            "UPDATE sessions SET next_seq = ?1, updated_at = ?2 WHERE id = ?3",
            [next_seq, updated_at, session.id],
        )?;
        Ok(())
    }

    fn queue_announce(&self, announce: &Announce) -> Applied {
        let item = &announce.item;
        let run = self.run(item.run)?;
        let first =
            self.execute("UPDATE runs SET announced = 1 WHERE number = ?1 AND announced = 0", [run.number])?;
        if first == 0 {
            return Err(Refused::announced(item.run).into());
        }
        self.execute(
            "INSERT INTO outbox (run_id, receiver, session_key, state, at, message) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                IdText::from(item.run),
                announce.to.as_str(),
                item.session.as_str(),
                item.state.as_str(),
                announce.at.0,
                encode_announce(announce)?,
            ],
        )?;
        Ok(())
    }

    /// In one statement however many they are: a parent that stops takes the results of thousands at once.
    fn take_announces(&self, session: &SessionKey, runs: &[RunId], by: Option<RunId>) -> Applied {
        let mut take = self.connection.prepare_cached(
            "DELETE FROM outbox WHERE run_id IN (SELECT value FROM json_each(?1)) AND receiver = ?2 \
             AND NOT abandoned RETURNING run_id",
        )?;
        let ids = json(runs)?;
        let taken = take.query_map(params![ids, session.as_str()], |row| row.get(0))?;
        let taken = taken.collect::<rusqlite::Result<Vec<String>>>()?;
        if taken.len() == runs.len() {
            if let Some(by) = by {
                self.execute(
                    "INSERT INTO taken (run_id, taker_id) SELECT value, ?1 FROM json_each(?2)",
                    params![IdText::from(by), ids],
                )?;
            }
            return Ok(());
        }
        let mut taken: BTreeSet<String> = taken.into_iter().collect();
        let missing = runs.iter().find(|run| !taken.remove(&run.to_string()));
        let refused = |run: &RunId| Err(Refused::no_announce(session, *run).into());
        missing.map_or(Ok(()), refused)
    }

    fn queue_steer(&self, steer: &Steer) -> Applied {
        let added = self.execute(
            "INSERT INTO steers (id, session_key, text, origin, at) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (id) DO NOTHING",
            params![
                IdText::from(steer.id),
                steer.session.as_str(),
                steer.text,
                json(&steer.origin)?,
                steer.at.0,
            ],
        )?;
        if added == 0 {
            return Err(Refused::steer_exists(steer.id).into());
        }
        self.session(&steer.session).map(|_| ())
    }

    fn take_steer(&self, session: &SessionKey, id: Uuid) -> Applied {
        let taken = self.execute(
            "DELETE FROM steers WHERE id = ?1 AND session_key = ?2",
            params![IdText::from(id), session.as_str()],
        )?;
        if taken == 0 {
            return Err(Refused::no_steer(session, id).into());
        }
        Ok(())
    }

    fn reset_session(&self, key: &SessionKey, at: Timestamp) -> Applied {
        let session = self.session(key)?;
        let open = "SELECT 1 FROM runs WHERE session = ?1 AND ended_at IS NULL";
        if self.exists(open, [session.id])? {
            return Err(Refused::session_open(key).into());
        }
        self.execute("DELETE FROM entries WHERE session = ?1", [session.id])?;
        self.execute(
            "UPDATE sessions SET next_seq = 0, created_at = ?1, updated_at = max(updated_at, ?1) WHERE id = ?2",
            [at.0, session.id],
        )?;
        Ok(())
    }

    fn patch_session(
        &self,
        key: &SessionKey,
        label: Option<&Option<String>>,
        model: Option<&Option<ModelChoice>>,
    ) -> Applied {
        let session = self.session(key)?;
        if let Some(label) = label {
            self.execute("UPDATE sessions SET label = ?1 WHERE id = ?2", params![label, session.id])?;
        }
        if let Some(model) = model {
            let primary = model.as_ref().map(|model| model.primary.as_str());
            let fallbacks = model.as_ref().map(|model| json(&model.fallbacks)).transpose()?;
            self.execute(
                "UPDATE sessions SET model = ?1, fallbacks = ?2 WHERE id = ?3",
                params![primary, fallbacks, session.id],
            )?;
        }
        Ok(())
    }

    /// Deletes the session, then its parents that were to be deleted and that it kept.
    fn delete_session(&self, key: &SessionKey, with_parents: bool) -> Applied {
        let mut next = Some(key.as_str().to_owned());
        while let Some(key) = next {
            let mut waits = self.connection.prepare_cached(
                "SELECT p.key FROM sessions s JOIN sessions p ON p.key = s.parent_key \
                 WHERE s.key = ?1 AND p.cleanup = 'delete'",
            )?;
            let parent = waits.query_row([&key], |row| row.get(0)).optional()?;
            if !self.delete_one(&key)? || !with_parents {
                return Ok(());
            }
            next = parent;
        }
        Ok(())
    }

    /// Whether it deleted the session: not one that is in use or does not exist.
    fn delete_one(&self, key: &str) -> Result<bool, Failure> {
        let deletable =
            self.exists(concat!("SELECT 1 FROM sessions s WHERE s.key = ?1 AND ", quiet!()), [key])?;
        if !deletable {
            return Ok(false);
        }
        self.execute(
            "INSERT INTO deleted_sessions (id, key, agent, parent_key, root_key, depth, label, mode, \
             cleanup, model, fallbacks, tools, yielded_run, created_at, updated_at, on_parent_exit, outlived) \
             SELECT id, key, agent, parent_key, root_key, depth, label, mode, cleanup, model, fallbacks, tools, \
             yielded_run, created_at, updated_at, on_parent_exit, outlived FROM sessions WHERE key = ?1",
            [key],
        )?;
        self.execute("DELETE FROM sessions WHERE key = ?1", [key])?;
        Ok(true)
    }
}
