//! What is logged now: what was configured, or for a while something else.

use std::sync::{Mutex, MutexGuard, PoisonError};

use offshoot_actors::types::Timestamp;

use super::filter::{self, FilterError, Switch};

/// What is logged on standard error where nothing says so.
pub(super) const DEFAULT_CONSOLE: &str = "warn";

pub(super) static CONSOLE: Switch = Switch::off();
pub(super) static FILE: Switch = Switch::off();

static LEVELS: Mutex<Levels> =
    Mutex::new(Levels { console: String::new(), by_command: false, file: None, instead: None });

#[derive(Debug)]
struct Levels {
    console: String,
    /// Whether the command line or the environment says what the console gets: the configuration does not change it.
    by_command: bool,
    /// None where there is no file.
    file: Option<String>,
    instead: Option<Instead>,
}

/// What is logged everywhere instead of what was configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instead {
    pub(crate) filter: String,
    /// When that ends; none means never.
    pub(crate) until: Option<Timestamp>,
}

/// What is logged where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LevelView {
    /// On standard error.
    pub(crate) console: String,
    /// To the file; none without one.
    pub(crate) file: Option<String>,
    pub(crate) instead: Option<Instead>,
}

impl Levels {
    /// Puts in force what is to be. All of it was read before.
    fn apply(&self) -> Result<(), FilterError> {
        let instead = self.instead.as_ref().map(|instead| instead.filter.as_str());
        CONSOLE.set(filter::parse(instead.unwrap_or(&self.console))?);
        if let Some(file) = &self.file {
            FILE.set(filter::parse(instead.unwrap_or(file))?);
        }
        Ok(())
    }
}

fn levels() -> MutexGuard<'static, Levels> {
    LEVELS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the console gets from the start on.
pub(super) fn begin(console: Option<&str>) -> Result<(), FilterError> {
    let mut levels = levels();
    console.unwrap_or(DEFAULT_CONSOLE).clone_into(&mut levels.console);
    levels.by_command = console.is_some();
    filter::parse(&levels.console)?;
    levels.apply()
}

/// What the configuration says, from now on. `file` is for the file, where there is one.
///
/// # Errors
/// A filter cannot be read; the others stay in force.
pub(crate) fn configure(console: Option<&str>, file: Option<&str>) -> Result<(), FilterError> {
    for filter in [console, file].into_iter().flatten() {
        filter::parse(filter)?;
    }
    let mut levels = levels();
    if !levels.by_command {
        console.unwrap_or(DEFAULT_CONSOLE).clone_into(&mut levels.console);
    }
    levels.file = file.map(str::to_owned);
    levels.apply()
}

/// Logs something else everywhere, until `until` or for good; with none, what was configured again.
///
/// # Errors
/// The filter cannot be read.
pub(crate) fn set(instead: Option<Instead>) -> Result<(), FilterError> {
    if let Some(instead) = &instead {
        filter::parse(&instead.filter)?;
    }
    let mut levels = levels();
    levels.instead = instead;
    levels.apply()
}

/// Goes back to what was configured if the time for something else is over. Whether it was.
pub(crate) fn expire(now: Timestamp) -> bool {
    let mut levels = levels();
    let over = |instead: &mut Instead| instead.until.is_some_and(|until| until <= now);
    let is_over = levels.instead.take_if(over).is_some();
    if is_over && let Err(error) = levels.apply() {
        drop(levels);
        tracing::error!(%error, "what was configured to be logged cannot be put in force again");
    }
    is_over
}

/// What is logged now.
pub(crate) fn view() -> LevelView {
    let levels = levels();
    let in_force = |configured: &String| match &levels.instead {
        Some(instead) => instead.filter.clone(),
        None => configured.clone(),
    };
    LevelView {
        console: in_force(&levels.console),
        file: levels.file.as_ref().map(in_force),
        instead: levels.instead.clone(),
    }
}
