//! Changes of runs and of their tool calls.

use std::time::Duration;

use offshoot_actors::ports::{Host, Refused, RunEnd, RunRow, RunState, ToolMark};
use offshoot_actors::types::{ModelRef, RecoveryMode, RunId, SessionKey, Timestamp, ToolStatus, Usage};
use rusqlite::params;

use super::{Applied, Apply};
use crate::store::rows::{IdText, count, json, millis, status_text};

impl Apply<'_> {
    pub(super) fn insert_run(&self, row: &RunRow) -> Applied {
        let id = IdText::from(row.id);
        if row.state != RunState::Accepted || row.outcome.is_some() || row.ended_at.is_some() {
            return Err(Refused::not_new(row.id).into());
        }
        let session = self.session(&row.session)?;
        self.touch(&session, row.accepted_at)?;
        let added = self.execute(
            "INSERT INTO runs (id, session, session_key, state, cause, spawner_id, announce_to, expects_completion, \
             wire_id, model, fallbacks, model_used, timeout_ms, steps, input_tokens, output_tokens, \
             cached_tokens, accepted_at, started_at, host, input, used_ms, recovery, attempts) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, \
             ?21, ?22, ?23, ?24) \
             ON CONFLICT (id) DO NOTHING",
            params![
                id,
                session.id,
                row.session.as_str(),
                row.state.as_str(),
                row.cause.as_str(),
                row.spawner.map(IdText::from),
                row.announce_to.as_ref().map(SessionKey::as_str),
                row.expects_completion,
                row.wire_id,
                row.model.primary.as_str(),
                json(&row.model.fallbacks)?,
                row.model_used.as_ref().map(ModelRef::as_str),
                row.timeout.map(millis),
                row.steps,
                count(row.usage.input),
                count(row.usage.output),
                count(row.usage.cached),
                row.accepted_at.0,
                row.started_at.map(|at| at.0),
                row.host.as_str(),
                row.input.as_ref().map(json).transpose()?,
                millis(row.used),
                row.recovery.map(RecoveryMode::as_str),
                row.attempts,
            ],
        )?;
        if added == 0 {
            return Err(Refused::run_exists(row.id).into());
        }
        Ok(())
    }

    pub(super) fn start_run(&self, id: RunId, at: Timestamp) -> Applied {
        let run = self.open_run(id)?;
        self.execute(
            "UPDATE runs SET state = ?1, input = NULL, started_at = coalesce(started_at, ?2), \
             attempts = iif(state = 'yielded', attempts, max(attempts, 1)) WHERE number = ?3",
            params![RunState::Running.as_str(), at.0, run.number],
        )?;
        self.at_work(run.number)?;
        self.execute(
            "UPDATE sessions SET yielded_run = NULL WHERE id = ?1 AND yielded_run = ?2",
            params![run.session, IdText::from(id)],
        )?;
        Ok(())
    }

    pub(super) fn record_step(&self, run: RunId, steps: u32, usage: &Usage, model: &ModelRef) -> Applied {
        let run = self.open_run(run)?;
        self.execute(
            "UPDATE runs SET steps = ?1, input_tokens = ?2, output_tokens = ?3, cached_tokens = ?4, \
             model_used = ?5, state = iif(state = 'accepted', 'running', state) WHERE number = ?6",
            params![
                steps,
                count(usage.input),
                count(usage.output),
                count(usage.cached),
                model.as_str(),
                run.number
            ],
        )?;
        Ok(())
    }

    pub(super) fn record_time(&self, run: RunId, used: Duration) -> Applied {
        let run = self.open_run(run)?;
        self.execute("UPDATE runs SET used_ms = ?1 WHERE number = ?2", [millis(used), run.number])?;
        Ok(())
    }

    pub(super) fn resume_runs(&self, runs: &[RunId]) -> Applied {
        for id in runs {
            self.open_run(*id)?;
        }
        self.execute("UPDATE starts SET died = died + 1", [])?;
        Ok(())
    }

    /// A run of a daemon is at work: what this start may die of from here on is counted with the runs.
    fn at_work(&self, number: i64) -> Applied {
        self.execute(
            "UPDATE starts SET died = 0 WHERE died > 0 AND (SELECT host FROM runs WHERE number = ?1) = ?2",
            params![number, Host::Daemon.as_str()],
        )?;
        Ok(())
    }

    pub(super) fn count_attempts(&self, run: RunId, attempts: u32) -> Applied {
        let run = self.open_run(run)?;
        self.execute("UPDATE runs SET attempts = ?1 WHERE number = ?2", params![attempts, run.number])?;
        self.at_work(run.number)
    }

    pub(super) fn forget_attempts(&self, host: Host) -> Applied {
        self.execute(
            "UPDATE runs INDEXED BY runs_open SET attempts = 0 \
             WHERE ended_at IS NULL AND attempts > 0 AND host = ?1",
            [host.as_str()],
        )?;
        if host == Host::Daemon {
            self.execute("UPDATE starts SET died = 0 WHERE died > 0", [])?;
        }
        Ok(())
    }

    pub(super) fn yield_run(&self, id: RunId) -> Applied {
        let run = self.open_run(id)?;
        self.execute(
            "UPDATE runs SET state = ?1 WHERE number = ?2",
            params![RunState::Yielded.as_str(), run.number],
        )?;
        self.execute(
            "UPDATE sessions SET yielded_run = ?1 WHERE id = ?2",
            params![IdText::from(id), run.session],
        )?;
        Ok(())
    }

    pub(super) fn end_run(&self, end: &RunEnd) -> Applied {
        let run = self.open_run(end.run)?;
        self.execute(
            "UPDATE runs SET state = ?1, reason = ?2, result = ?3, steps = ?4, input_tokens = ?5, \
             output_tokens = ?6, cached_tokens = ?7, ended_at = ?8 WHERE number = ?9",
            params![
                end.outcome.state.as_str(),
                end.outcome.reason,
                end.outcome.text,
                end.steps,
                count(end.usage.input),
                count(end.usage.output),
                count(end.usage.cached),
                end.at.0,
                run.number,
            ],
        )?;
        self.execute(
            "UPDATE sessions SET updated_at = max(updated_at, ?1), yielded_run = nullif(yielded_run, ?2) \
             WHERE id = ?3 AND (updated_at < ?1 OR yielded_run = ?2)",
            params![end.at.0, IdText::from(end.run), run.session],
        )?;
        Ok(())
    }

    pub(super) fn start_tools(&self, run: RunId, step: u32, calls: &[ToolMark], at: Timestamp) -> Applied {
        self.open_run(run)?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO tool_calls (run_id, step, call_id, name, started_at) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO NOTHING",
        )?;
        for mark in calls {
            if insert.execute(params![IdText::from(run), step, mark.call, mark.name, at.0])? == 0 {
                return Err(Refused::tool_started(run, step, &mark.call).into());
            }
        }
        Ok(())
    }

    pub(super) fn finish_tool(
        &self,
        run: RunId,
        step: u32,
        call: &str,
        status: ToolStatus,
        at: Timestamp,
    ) -> Applied {
        self.open_run(run)?;
        let mut finish = self.connection.prepare_cached(
            "UPDATE tool_calls SET finished_at = ?1, status = ?2 \
             WHERE run_id = ?3 AND step = ?4 AND call_id = ?5 AND finished_at IS NULL",
        )?;
        if finish.execute(params![at.0, status_text(status), IdText::from(run), step, call])? == 0 {
            return Err(Refused::tool_not_open(run, step, call).into());
        }
        Ok(())
    }
}
