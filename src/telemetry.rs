//! Logs: to standard error, for people on a terminal, as JSON otherwise. The only place that installs a
//! subscriber.

mod tail;

use std::any::Any;
use std::io::{self, IsTerminal, Write};
use std::sync::{OnceLock, PoisonError, RwLock};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub(crate) use self::tail::{TAIL_NAME, Tail, tail};

/// What is logged where neither `--log` nor `OFFSHOOT_LOG` says so.
const DEFAULT_FILTER: &str = "warn";
const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace", "off"];
/// The crates whose lines people ask for; others are taken as they are written.
const TARGETS: &[&str] = &["offshoot", "offshoot_actors"];

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
    let parsed = parse(filter.unwrap_or(DEFAULT_FILTER))?;
    let kept = tracing_subscriber::registry().with(tail::layer());
    let lines = tracing_subscriber::fmt::layer().with_writer(Stderr);
    // A subscriber that is installed already, as in tests, is kept.
    _ = if io::stderr().is_terminal() {
        let lines = lines.with_ansi(colors).without_time().with_target(false);
        kept.with(lines.with_filter(parsed)).try_init()
    } else {
        kept.with(lines.json().flatten_event(true).with_filter(parsed)).try_init()
    };
    std::panic::set_hook(Box::new(|info| {
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(at, "panic: {}", payload(info.payload()));
    }));
    Ok(())
}

/// The parser that comes with the filter takes a word that it does not know for the name of a target.
fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    let failed = |problem: String| FilterError { filter: filter.to_owned(), problem };
    let directives: Vec<&str> = filter.split(',').map(str::trim).collect();
    directives.iter().try_for_each(|directive| check(directive)).map_err(failed)?;
    EnvFilter::builder().parse(directives.join(",")).map_err(|error| failed(error.to_string()))
}

fn check(directive: &str) -> Result<(), String> {
    // The empty text is a level for the parser, and a typing error for people.
    let is_level = |text: &str| !text.is_empty() && text.parse::<LevelFilter>().is_ok();
    match directive.split_once('=') {
        // Of spans and their fields the filter's own parser knows enough.
        _ if directive.contains('[') => Ok(()),
        None if directive.is_empty() => Err("a directive is empty".to_owned()),
        None if is_level(directive) => Ok(()),
        None => Err(format!("{directive:?} is not a level{}", meant(directive, LEVELS))),
        Some((target, level)) if !is_level(level) => {
            Err(format!("{level:?} of {target} is not a level{}", meant(level, LEVELS)))
        }
        Some((target, _)) => {
            let root = target.split("::").next().unwrap_or_default();
            match meant(root, TARGETS) {
                hint if hint.is_empty() || TARGETS.contains(&root) => Ok(()),
                hint => Err(format!("no target is called {root:?}{hint}")),
            }
        }
    }
}

/// A hint at the word that was probably meant.
fn meant(word: &str, words: &[&str]) -> String {
    const ALIKE: f64 = 0.6;
    const MAX_WORD: usize = 40;
    let word = word.to_lowercase();
    let scored = words.iter().map(|known| (strsim::normalized_damerau_levenshtein(&word, known), known));
    let best = scored.filter(|(score, _)| *score >= ALIKE && word.len() <= MAX_WORD);
    let best = best.max_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or_else(String::new, |(_, known)| format!("; did you mean {known}?"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_read() {
        for filter in [
            "warn",
            "INFO",
            "off",
            "warn,offshoot_actors=debug",
            "offshoot=info, hyper::client=trace",
            "warn,[actor{kind=run}]=debug,offshoot_actors[actor]=trace",
        ] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for (filter, problem) in [
            ("inof", "\"inof\" is not a level; did you mean info?"),
            ("verbose", "\"verbose\" is not a level"),
            ("warn,offshoot_actors", "\"offshoot_actors\" is not a level"),
            ("warn,offshoot=debgu", "\"debgu\" of offshoot is not a level; did you mean debug?"),
            ("offshoot=", "\"\" of offshoot is not a level"),
            (
                "offshoot-actors=debug",
                "no target is called \"offshoot-actors\"; did you mean offshoot_actors?",
            ),
            ("", "a directive is empty"),
            ("warn,", "a directive is empty"),
            ("[actor{kind=run}]=debug,wran", "\"wran\" is not a level; did you mean warn?"),
        ] {
            assert_eq!(parse(filter).unwrap_err().problem, problem, "{filter}");
        }
    }
}
