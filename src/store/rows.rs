//! Rows as the port has them, from and to columns.

pub(super) mod devices;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::ports::{Announce, CallbackRow, Cause, Host, RunRow, RunState, SessionRow, Steer};
use offshoot_actors::types::{
    Cleanup, Mode, ModelChoice, ModelRef, OnParentExit, Outcome, RecoveryMode, RunId, Secret, StoredEntry,
    Timestamp, ToolStatus, Usage,
};
use rusqlite::types::{FromSql, FromSqlError, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Error, Result, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// What [`Columns::session`] reads, from a table named `s`.
macro_rules! session_columns {
    () => {
        "s.key, s.agent, s.parent_key, s.root_key, s.depth, s.label, s.mode, s.cleanup, s.model, \
         s.fallbacks, s.tools, s.yielded_run, s.on_parent_exit, s.outlived, s.created_at, s.updated_at"
    };
}

/// What [`Columns::run`] reads, from a table named `r`.
macro_rules! run_columns {
    () => {
        "r.id, r.session_key, r.state, r.cause, r.spawner_id, r.announce_to, r.expects_completion, \
         r.wire_id, r.model, r.fallbacks, r.model_used, r.timeout_ms, r.steps, r.input_tokens, \
         r.output_tokens, r.cached_tokens, r.accepted_at, r.started_at, r.ended_at, r.host, r.used_ms, \
         r.recovery, r.attempts, r.reason, r.input, r.result"
    };
}

/// Whether a session, from a table named `s`, may be deleted: nothing of it is open, on its way, or below it.
macro_rules! quiet {
    () => {
        "NOT EXISTS (SELECT 1 FROM runs WHERE session = s.id AND ended_at IS NULL) \
         AND NOT EXISTS (SELECT 1 FROM sessions WHERE parent_key = s.key) \
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE receiver = s.key AND NOT abandoned) \
         AND NOT EXISTS (SELECT 1 FROM steers WHERE session_key = s.key) \
         AND NOT EXISTS (SELECT 1 FROM runs r JOIN outbox o ON o.run_id = r.id \
         WHERE r.session = s.id AND NOT o.abandoned)"
    };
}

pub(super) use {quiet, run_columns, session_columns};

/// Version of the encoding of [`Announce`] in the outbox.
const ANNOUNCE_V1: u8 = 1;

/// An id as text, bound without an allocation.
pub(super) struct IdText([u8; 36]);

impl IdText {
    pub(super) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Uuid> for IdText {
    fn from(id: Uuid) -> Self {
        let mut text = [0; 36];
        id.hyphenated().encode_lower(&mut text);
        Self(text)
    }
}

impl From<RunId> for IdText {
    fn from(run: RunId) -> Self {
        run.0.into()
    }
}

impl ToSql for IdText {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

/// A number for a column; what does not fit becomes the largest that does.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    serde_json::to_string(value)
}

/// A timeout for its column, in whole milliseconds and never shorter than asked.
pub(super) fn millis(timeout: Duration) -> i64 {
    i64::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

pub(super) fn encode_announce(announce: &Announce) -> postcard::Result<Vec<u8>> {
    postcard::to_extend(announce, vec![ANNOUNCE_V1])
}

pub(super) const fn mode_text(mode: Mode) -> &'static str {
    match mode {
        Mode::Run => "run",
        Mode::Session => "session",
    }
}

pub(super) const fn cleanup_text(cleanup: Cleanup) -> &'static str {
    match cleanup {
        Cleanup::Keep => "keep",
        Cleanup::Delete => "delete",
    }
}

pub(super) const fn status_text(status: ToolStatus) -> &'static str {
    match status {
        ToolStatus::Ok => "ok",
        ToolStatus::Error => "error",
        ToolStatus::Unknown => "unknown",
    }
}

pub(super) fn state_of(text: &str) -> Option<RunState> {
    Some(match text {
        "accepted" => RunState::Accepted,
        "running" => RunState::Running,
        "yielded" => RunState::Yielded,
        ended => RunState::Ended(ended.parse().ok()?),
    })
}

/// The columns of a row, read from left to right.
pub(super) struct Columns<'a> {
    row: &'a Row<'a>,
    next: usize,
}

impl<'a> Columns<'a> {
    pub(super) const fn of(row: &'a Row<'a>) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn value<T: FromSql>(&mut self) -> Result<T> {
        self.next += 1;
        self.row.get(self.next - 1)
    }

    fn text(&mut self) -> Result<Option<&'a str>> {
        let column = self.next;
        self.next += 1;
        let value = self.row.get_ref(column)?.as_str_or_null();
        value.map_err(|error: FromSqlError| {
            Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
        })
    }

    /// A column whose content has another form than this program writes.
    fn unreadable(&self, problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::FromSqlConversionFailure(self.next - 1, Type::Text, problem.into())
    }

    fn required<T>(&self, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.unreadable("unexpected value"))
    }

    pub(super) fn parsed_or_null<T: FromStr>(&mut self) -> Result<Option<T>> {
        let parsed = self.text()?.map(str::parse).transpose();
        parsed.map_err(|_| self.unreadable("unexpected value"))
    }

    pub(super) fn parsed<T: FromStr>(&mut self) -> Result<T> {
        let value = self.parsed_or_null()?;
        self.required(value)
    }

    fn named<T>(&mut self, name: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        let value = self.text()?.and_then(name);
        self.required(value)
    }

    pub(super) fn json_or_null<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let value = self.text()?.map(serde_json::from_str).transpose();
        value.map_err(|error| self.unreadable(error))
    }

    fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let value = self.json_or_null()?;
        self.required(value)
    }

    pub(super) fn state(&mut self) -> Result<RunState> {
        self.named(state_of)
    }

    pub(super) fn state_or_null(&mut self) -> Result<Option<RunState>> {
        let name = self.text()?;
        name.map(|name| self.required(state_of(name))).transpose()
    }

    pub(super) fn count(&mut self) -> Result<u64> {
        let number: i64 = self.value()?;
        u64::try_from(number).map_err(|error| self.unreadable(error))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp> {
        self.value().map(Timestamp)
    }

    pub(super) fn time_or_null(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.value::<Option<i64>>()?.map(Timestamp))
    }

    pub(super) fn callback(&mut self) -> Result<CallbackRow> {
        let run = self.parsed()?;
        Ok(CallbackRow { run, address: Secret::presented(self.value::<String>()?), at: self.time()? })
    }

    pub(super) fn usage(&mut self) -> Result<Usage> {
        Ok(Usage { input: self.count()?, output: self.count()?, cached: self.count()? })
    }

    pub(super) fn cause(&mut self) -> Result<Cause> {
        self.named(|name| {
            [Cause::Spawn, Cause::Message, Cause::Announce].into_iter().find(|c| c.as_str() == name)
        })
    }

    pub(super) fn host(&mut self) -> Result<Host> {
        self.named(|name| [Host::OneShot, Host::Daemon].into_iter().find(|host| host.as_str() == name))
    }

    pub(super) fn on_parent_exit(&mut self) -> Result<OnParentExit> {
        self.named(|name| OnParentExit::ALL.into_iter().find(|exit| exit.as_str() == name))
    }

    pub(super) fn recovery(&mut self) -> Result<Option<RecoveryMode>> {
        let name = self.value::<Option<String>>()?;
        let mode = name.as_deref().map(|name| {
            RecoveryMode::ALL
                .into_iter()
                .find(|mode| mode.as_str() == name)
                .ok_or_else(|| self.unreadable(format!("{name:?} is not known")))
        });
        mode.transpose()
    }

    /// The columns of `session_columns!`.
    pub(super) fn session(&mut self) -> Result<SessionRow> {
        Ok(SessionRow {
            key: self.parsed()?,
            agent: self.parsed()?,
            parent: self.parsed_or_null()?,
            root: self.parsed()?,
            depth: self.value()?,
            label: self.value()?,
            mode: self
                .named(|name| [Mode::Run, Mode::Session].into_iter().find(|m| mode_text(*m) == name))?,
            cleanup: self.named(|name| {
                [Cleanup::Keep, Cleanup::Delete].into_iter().find(|c| cleanup_text(*c) == name)
            })?,
            model: {
                let primary: Option<ModelRef> = self.parsed_or_null()?;
                let fallbacks: Option<Vec<ModelRef>> = self.json_or_null()?;
                primary.map(|primary| ModelChoice { primary, fallbacks: fallbacks.unwrap_or_default() })
            },
            tools: self.json_or_null::<Vec<Arc<str>>>()?.map(Arc::from),
            yielded: self.parsed_or_null()?,
            on_parent_exit: self.on_parent_exit()?,
            outlived: self.parsed_or_null()?,
            created_at: self.time()?,
            updated_at: self.time()?,
        })
    }

    /// The columns of `run_columns!`.
    pub(super) fn run(&mut self) -> Result<RunRow> {
        let mut row = RunRow {
            id: self.parsed()?,
            session: self.parsed()?,
            state: self.state()?,
            cause: self.cause()?,
            spawner: self.parsed_or_null()?,
            announce_to: self.parsed_or_null()?,
            expects_completion: self.value()?,
            wire_id: self.value()?,
            model: ModelChoice { primary: self.parsed()?, fallbacks: self.json()? },
            model_used: self.parsed_or_null()?,
            timeout: self.value::<Option<i64>>()?.map(|ms| Duration::from_millis(ms.unsigned_abs())),
            steps: self.value()?,
            usage: self.usage()?,
            accepted_at: self.time()?,
            started_at: self.time_or_null()?,
            ended_at: self.time_or_null()?,
            host: self.host()?,
            used: Duration::from_millis(self.count()?),
            recovery: self.recovery()?,
            attempts: self.value()?,
            outcome: None,
            input: None,
        };
        let reason = self.value()?;
        row.input = self.json_or_null()?;
        let text = self.value()?;
        row.outcome = row.state.terminal().map(|state| Outcome { state, reason, text });
        Ok(row)
    }

    /// `seq, run_id, at, content` of an entry.
    pub(super) fn entry(&mut self) -> Result<Arc<StoredEntry>> {
        Ok(Arc::new(StoredEntry {
            seq: self.count()?,
            run: self.parsed_or_null()?,
            at: self.time()?,
            entry: self.json()?,
        }))
    }

    /// `message` of the outbox.
    pub(super) fn announce(&mut self) -> Result<Announce> {
        let announce = self.announce_or_null()?;
        self.required(announce)
    }

    pub(super) fn announce_or_null(&mut self) -> Result<Option<Announce>> {
        self.next += 1;
        let Some(message) = self.row.get_ref(self.next - 1)?.as_blob_or_null()? else { return Ok(None) };
        match message.split_first() {
            Some((&ANNOUNCE_V1, body)) => {
                postcard::from_bytes(body).map(Some).map_err(|error| self.unreadable(error))
            }
            Some((version, _)) => Err(self.unreadable(format!("message version {version} is not known"))),
            None => Err(self.unreadable("the message is empty")),
        }
    }

    /// `id, session_key, text, origin, at` of a steering message.
    pub(super) fn steer(&mut self) -> Result<Steer> {
        Ok(Steer {
            id: self.parsed()?,
            session: self.parsed()?,
            text: self.value()?,
            origin: self.json()?,
            at: self.time()?,
        })
    }
}
