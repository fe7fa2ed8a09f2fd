//! Logs: to standard error, for people on a terminal, as JSON otherwise. The only place that installs a
//! subscriber.

use std::any::Any;
use std::io::{self, IsTerminal, Write};
use std::sync::{OnceLock, PoisonError, RwLock};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What is logged where neither `--log` nor `OFFSHOOT_LOG` says so.
const DEFAULT_FILTER: &str = "warn";

/// A log filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the log filter {filter:?} cannot be read: {problem}")]
pub struct FilterError {
    /// As it was given.
    pub filter: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Something on the terminal that must make room while a line is written.
type MakeRoom = Box<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

static MAKE_ROOM: OnceLock<RwLock<Option<MakeRoom>>> = OnceLock::new();

/// Sets what every line from now on is written within, such as a progress display that hides meanwhile.
pub fn make_room_with(make_room: Option<MakeRoom>) {
    let slot = MAKE_ROOM.get_or_init(RwLock::default);
    *slot.write().unwrap_or_else(PoisonError::into_inner) = make_room;
}

/// Writes to standard error, beside whatever is displayed there.
pub fn write_stderr(bytes: &[u8]) -> io::Result<()> {
    let mut result = Ok(());
    let mut write = || result = io::stderr().lock().write_all(bytes);
    let slot = MAKE_ROOM.get_or_init(RwLock::default);
    match &*slot.read().unwrap_or_else(PoisonError::into_inner) {
        Some(make_room) => make_room(&mut write),
        None => write(),
    }
    result
}

/// Installs the log and the hook that logs panics. `filter` is a level, or directives such as
/// `warn,offshoot_actors=debug`.
///
/// # Errors
/// The filter cannot be read.
pub fn install(filter: Option<&str>, colors: bool) -> Result<(), FilterError> {
    let filter = filter.unwrap_or(DEFAULT_FILTER);
    let parsed = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| FilterError { filter: filter.to_owned(), problem: error.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(Stderr);
    // A subscriber that is installed already, as in tests, is kept.
    _ = if io::stderr().is_terminal() {
        builder.with_ansi(colors).without_time().with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    std::panic::set_hook(Box::new(|info| {
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(at, "panic: {}", payload(info.payload()));
    }));
    Ok(())
}

fn payload(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("of unknown kind")
}

struct Stderr;

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A line that has no reader is lost. An error would be reported on the same stream by a macro that panics.
        _ = write_stderr(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
