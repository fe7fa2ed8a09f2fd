//! The words of a refused change, the same in every store.

use uuid::Uuid;

use super::Refused;
use crate::types::{DeviceId, RunId, SessionKey};

impl Refused {
    /// A session of that name exists.
    #[must_use]
    pub fn session_exists(key: &SessionKey) -> Self {
        Self::Conflict(format!("session {key} exists already"))
    }

    /// No session has that name.
    #[must_use]
    pub fn no_session(key: &SessionKey) -> Self {
        Self::Conflict(format!("there is no session {key}"))
    }

    /// A session has runs that have not ended.
    #[must_use]
    pub fn session_open(key: &SessionKey) -> Self {
        Self::Conflict(format!("session {key} has open runs"))
    }

    /// A session is in use, or was written to since it was read.
    #[must_use]
    pub fn not_quiet(key: &SessionKey) -> Self {
        Self::Conflict(format!("session {key} is in use, or was written to since it was read"))
    }

    /// A run of that id exists.
    #[must_use]
    pub fn run_exists(run: RunId) -> Self {
        Self::Conflict(format!("run {run} exists already"))
    }

    /// No run has that id.
    #[must_use]
    pub fn no_run(run: RunId) -> Self {
        Self::Conflict(format!("there is no run {run}"))
    }

    /// A run to add has a past.
    #[must_use]
    pub fn not_new(run: RunId) -> Self {
        Self::Conflict(format!("run {run} is not new: a run is added as accepted, without start and end"))
    }

    /// An entry is not the next of its session.
    #[must_use]
    pub fn not_next(session: &SessionKey, next: u64, got: u64) -> Self {
        Self::Conflict(format!("the next entry of session {session} is {next}, not {got}"))
    }

    /// A tool call was started before.
    #[must_use]
    pub fn tool_started(run: RunId, step: u32, call: &str) -> Self {
        Self::Conflict(format!("call {call:?} of step {step} of run {run} was started before"))
    }

    /// A tool call was not started, or is over.
    #[must_use]
    pub fn tool_not_open(run: RunId, step: u32, call: &str) -> Self {
        Self::Conflict(format!("call {call:?} of step {step} of run {run} was not started or is over"))
    }

    /// A run's result was put on its way before.
    #[must_use]
    pub fn announced(run: RunId) -> Self {
        Self::Conflict(format!("the result of run {run} was put on its way before"))
    }

    /// A run's result is not on its way.
    #[must_use]
    pub fn not_announced(run: RunId) -> Self {
        Self::Conflict(format!("no result of run {run} is on its way"))
    }

    /// A session hangs below another one, or below none.
    #[must_use]
    pub fn not_below(session: &SessionKey, parent: &SessionKey) -> Self {
        Self::Conflict(format!("session {session} is no child of session {parent}"))
    }

    /// A run's result is not on its way to that session.
    #[must_use]
    pub fn no_announce(session: &SessionKey, run: RunId) -> Self {
        Self::Conflict(format!("no result of run {run} waits for session {session}"))
    }

    /// A steering message of that id waits already.
    #[must_use]
    pub fn steer_exists(id: Uuid) -> Self {
        Self::Conflict(format!("steering message {id} exists already"))
    }

    /// That steering message does not wait in that session.
    #[must_use]
    pub fn no_steer(session: &SessionKey, id: Uuid) -> Self {
        Self::Conflict(format!("no steering message {id} waits in session {session}"))
    }

    /// Nobody outside wants the result of that run.
    #[must_use]
    pub fn no_callback(run: RunId) -> Self {
        Self::Conflict(format!("nobody outside waits for the result of run {run}"))
    }

    /// The result of that run is not on its way to a session.
    #[must_use]
    pub fn not_on_its_way(run: RunId) -> Self {
        Self::Conflict(format!("the result of run {run} is not on its way to a session"))
    }

    /// No device of that id is approved.
    #[must_use]
    pub fn no_device(device: DeviceId) -> Self {
        Self::Conflict(format!("there is no device {device}"))
    }

    /// Another device waits for approval under that id.
    #[must_use]
    pub fn pair_request_exists(request: Uuid) -> Self {
        Self::Conflict(format!("request {request} of another device exists already"))
    }

    /// No device waits for approval under that id.
    #[must_use]
    pub fn no_pair_request(request: Uuid) -> Self {
        Self::Conflict(format!("no device waits for approval under request {request}"))
    }

    /// A setup code of that id or hash exists.
    #[must_use]
    pub fn bootstrap_exists(code: Uuid) -> Self {
        Self::Conflict(format!("setup code {code} exists already"))
    }

    /// No setup code of that id exists.
    #[must_use]
    pub fn no_bootstrap(code: Uuid) -> Self {
        Self::Conflict(format!("there is no setup code {code}"))
    }
}
