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

/// Something that is drawn on standard error, below the lines that are written there.
pub trait Picture: Send + Sync {
    /// Hides while `write` writes a line.
    fn make_room(&self, write: &mut dyn FnMut());

    /// Goes away, and is not drawn again.
    fn leave(&self);
}

static PICTURE: OnceLock<RwLock<Option<Box<dyn Picture>>>> = OnceLock::new();

/// Sets what is drawn on standard error from now on.
pub fn show(picture: Option<Box<dyn Picture>>) {
    let slot = PICTURE.get_or_init(RwLock::default);
    *slot.write().unwrap_or_else(PoisonError::into_inner) = picture;
}

/// Writes to standard error, beside whatever is drawn there.
pub fn write_stderr(bytes: &[u8]) -> io::Result<()> {
    let mut result = Ok(());
    let mut write = || result = io::stderr().lock().write_all(bytes);
    let slot = PICTURE.get_or_init(RwLock::default);
    match &*slot.read().unwrap_or_else(PoisonError::into_inner) {
        Some(picture) => picture.make_room(&mut write),
        None => write(),
    }
    result
}

/// Writes a last line to standard error and ends the process. Nothing is written or drawn after it.
pub fn leave(line: &str, code: i32) -> ! {
    let slot = PICTURE.get_or_init(RwLock::default);
    // Held until the process has ended: whoever has something to write waits for it.
    let picture = slot.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(picture) = &*picture {
        picture.leave();
    }
    // A line that cannot be written has nobody to read it.
    _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
    std::process::exit(code)
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
