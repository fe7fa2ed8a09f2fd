//! How a command ends: its exit code, and what it says when it fails.

use std::borrow::Cow;
use std::io;
use std::process::ExitCode;

use offshoot_actors::kit::StartError;
use offshoot_actors::ports::StoreError;
use offshoot_actors::types::{Refusal, RefusalKind, Terminal};
use rustix::io::Errno;

use crate::config::ConfigError;
use crate::models::SpecError;
use crate::store::OpenError;
use crate::telemetry::FilterError;

/// The exit codes. A number never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; every run that was waited for ended `ok`.
    Ok = 0,
    /// A run ended as `partial`, `error`, `crashed`, `interrupted` or `cancelled`, or had ended before.
    Ended = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// A policy or a limit refused the request.
    Refused = 3,
    /// The state directory is in use, or the store or the gateway is not available.
    Unavailable = 4,
    /// There is no such run, session or device.
    NotFound = 5,
    /// The doctor found something, or a backup is not whole.
    Found = 6,
    /// A run met its deadline.
    Timeout = 124,
    /// Stopped by Ctrl-C.
    Interrupted = 130,
    /// Stopped by SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// The code for a run's end.
    #[must_use]
    pub const fn of(state: Terminal) -> Self {
        match state {
            Terminal::Ok => Self::Ok,
            Terminal::Timeout => Self::Timeout,
            Terminal::Partial
            | Terminal::Cancelled
            | Terminal::Error
            | Terminal::Crashed
            | Terminal::Interrupted => Self::Ended,
        }
    }

    /// The code for a refusal of the tree, of our own as of a gateway's.
    pub(crate) fn of_refusal(kind: RefusalKind, code: &str) -> Self {
        match (kind, code) {
            (RefusalKind::Forbidden, _) => Self::Refused,
            (RefusalKind::Error, "store" | "start") => Self::Unavailable,
            (RefusalKind::Error, "unknown_run" | "unknown_session" | "unknown_delivery") => Self::NotFound,
            (RefusalKind::Error, "gone" | "settled") => Self::Ended,
            (RefusalKind::Error, _) => Self::Usage,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

const BROKEN_PIPE: &str = "broken_pipe";

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// A stable name for programs.
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { exit, code: code.into(), message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// The system did not give the process what it needs to work at all.
    pub(crate) fn system(what: &str, error: &io::Error) -> Self {
        let failure = Self::new(Exit::Unavailable, "system", format!("{what}: {error}"));
        let is_limit = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOMEM]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
        if is_limit {
            return failure
                .with_hint("the limits on threads and open files of this process are shown by `ulimit -a`");
        }
        match error.kind() {
            io::ErrorKind::PermissionDenied => failure.with_hint("look at whose it is, and who may use it"),
            _ => failure,
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether whoever read the output has left.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.code == BROKEN_PIPE
    }

    /// The `status` of the JSON document.
    pub(crate) const fn status(&self) -> &'static str {
        match self.exit {
            Exit::Refused => "forbidden",
            _ => "error",
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Self::new(Exit::Usage, "config", error.to_string());
        match error {
            ConfigError::Invalid(_) => failure.with_hint(
                "`config check` with the same options lists the warnings as well; docs/configuration.md has every key",
            ),
            ConfigError::Missing { .. } => failure
                .with_hint("without a configuration the defaults are used: leave the option or variable out"),
            ConfigError::Unreadable { .. } | ConfigError::NoHome => failure,
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match &error {
            OpenError::InUse { dir, pid } => {
                let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                Self::new(
                    Exit::Unavailable,
                    "in_use",
                    format!("the state directory {} is in use by {who}", dir.display()),
                )
                .with_hint("wait until that has ended, or use another directory with --state-dir")
            }
            OpenError::Missing { .. } => Self::new(Exit::NotFound, "no_store", error.to_string()),
            _ => Self::new(Exit::Unavailable, "store", error.to_string()),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let exit = Exit::of_refusal(refusal.kind, refusal.code);
        Self { exit, code: refusal.code.into(), message: refusal.message, hint: refusal.hint }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(Exit::Unavailable, "store", error.to_string())
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        Self::new(Exit::Usage, "config", error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(Exit::Unavailable, "start", format!("the tree could not be started: {error}"))
    }
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        Self::usage(error.to_string()).with_hint(
            "write a level (error, warn, info, debug, trace) or directives such as warn,offshoot=debug",
        )
    }
}

/// Of writing the output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::BrokenPipe { BROKEN_PIPE } else { "output" };
        Self::new(Exit::Ended, code, format!("the output cannot be written: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ok_is_success() {
        for state in Terminal::ALL {
            assert_eq!(Exit::of(state) == Exit::Ok, state == Terminal::Ok, "{state}");
        }
        assert_eq!(Exit::of(Terminal::Timeout) as u8, 124);
    }

    #[test]
    fn refusals_have_the_code_of_their_kind() {
        let exit = |refusal: Refusal| Failure::from(refusal).exit;
        assert_eq!(exit(Refusal::forbidden("depth", "too deep", "raise it")), Exit::Refused);
        assert_eq!(exit(Refusal::error("unknown_run", "there is none")), Exit::NotFound);
        assert_eq!(exit(Refusal::error("store", "full")), Exit::Unavailable);
        assert_eq!(exit(Refusal::error("start", "no memory")), Exit::Unavailable);
        assert_eq!(exit(Refusal::error("model", "unknown")), Exit::Usage);
    }

    #[test]
    fn only_a_write_that_failed_is_called_one() {
        let error = || io::Error::from(io::ErrorKind::OutOfMemory);
        let failure = Failure::system("the program's threads cannot be started", &error());
        assert_eq!((failure.exit, &*failure.code), (Exit::Unavailable, "system"));
        assert!(failure.message.starts_with("the program's threads cannot be started: "), "{failure:?}");
        assert!(Failure::from(error()).message.starts_with("the output cannot be written: "));
    }
}
