//! Logs: to standard error, for people on a terminal, as JSON otherwise; those of the daemon to a file too. The only place
//! that installs a subscriber.
//!
//! `filter` decides what is a line, `level` which filter is in force; `lines` writes it with the actor that says it,
//! `behind` and `rotation` keep it, `tail` has the last ones for clients. What happens in the tree is
//! told by `happened`, from the event.

mod behind;
mod clock;
mod filter;
mod happened;
mod level;
mod lines;
mod rotation;
mod tail;

use std::any::Any;
use std::io::{self, IsTerminal, Write};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub(crate) use self::behind::{console_behind, flush, lines_lost, log_to};
use self::filter::By;
pub use self::filter::FilterError;
pub(crate) use self::filter::check_level;
pub(crate) use self::happened::happened;
pub(crate) use self::level::{Instead, LevelView, configure, expire, set as set_level, view as levels};
use self::lines::Output;
pub(crate) use self::lines::{Whose, find_actors};
pub use self::rotation::LogFile;
pub(crate) use self::tail::{TAIL_NAME, Tail, tail};

/// How long the last lines may take where a second signal ends the process.
const LAST_LINES_WITHIN: Duration = Duration::from_millis(200);

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
    let line = format!("{line}\n");
    if behind::CONSOLE.is_begun() {
        // Whoever does not read it does not keep the process from its end.
        behind::CONSOLE.write(line);
        flush(LAST_LINES_WITHIN);
    } else {
        // A line that cannot be written has nobody to read it.
        _ = io::stderr().lock().write_all(line.as_bytes());
    }
    std::process::exit(code)
}

/// Installs the log and the hook that logs panics. `filter` is a level, or directives such as
/// `warn,offshoot_actors=debug`; it is for standard error.
///
/// # Errors
/// The filter cannot be read.
pub fn install(filter: Option<&str>, colors: bool) -> Result<(), FilterError> {
    level::begin(filter)?;
    let console = if io::stderr().is_terminal() { Output::Human { colors } } else { Output::Json };
    let kept = tracing_subscriber::registry().with(tail::layer());
    // A subscriber that is installed already, as in tests, is kept.
    _ = kept
        .with(Output::File.with_filter(By(&level::FILE)))
        .with(console.with_filter(By(&level::CONSOLE)))
        .try_init();
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
