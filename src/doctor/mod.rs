//! Looks for what is wrong with a state directory and its configuration, and says what helps.
//!
//! Each check is a function in a file of its own and a line in `CHECKS`. A check reads; what it would mend, it hands over
//! as a `Remedy`, which is applied only where that was asked for. All of it works beside a running daemon.

mod agents;
mod configuration;
mod database;
mod deliveries;
mod directory;
mod disk;
mod leftovers;
mod rows;
mod runs;

use std::io;
use std::path::{Path, PathBuf};

use offshoot_actors::ports::StoreError;
use serde::Serialize;

use crate::config::{Config, ConfigError};
use crate::gateway::record::{self, Running};
use crate::store::{Holder, Inspection, OpenError, holder, make_private, while_unused};

/// What a check found, or why it could not look.
type Found = Result<Vec<Finding>, Problem>;

/// A check, by the name that it has in the report.
struct Check {
    name: &'static str,
    look: fn(&Patient) -> Found,
}

const DATABASE: &str = "database";

const CHECKS: &[Check] = &[
    Check { name: "directory", look: directory::look },
    Check { name: "disk", look: disk::look },
    Check { name: "leftovers", look: leftovers::look },
    Check { name: "configuration", look: configuration::look },
    Check { name: DATABASE, look: database::look },
    Check { name: "rows", look: rows::look },
    Check { name: "agents", look: agents::look },
    Check { name: "deliveries", look: deliveries::look },
    Check { name: "quarantine", look: runs::quarantined },
    Check { name: "abandoned", look: runs::abandoned },
];

/// The names of all checks.
pub fn checks() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|check| check.name)
}

/// Something that is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The check that found it.
    pub check: &'static str,
    /// What it is.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// What helps: a command, or what to do.
    pub help: String,
    /// Whether `--fix` would mend it.
    pub fixable: bool,
    /// Whether it was mended.
    pub fixed: bool,
    #[serde(skip)]
    remedy: Option<Remedy>,
}

impl Finding {
    fn new(what: impl Into<String>, why: impl Into<String>, help: impl Into<String>) -> Self {
        let (what, why, help) = (what.into(), why.into(), help.into());
        Self { check: "", what, why, help, fixable: false, fixed: false, remedy: None }
    }

    fn with_remedy(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self.fixable = true;
        self
    }
}

/// What mends a finding without a loss.
#[derive(Debug, Clone)]
enum Remedy {
    /// Take others' access away.
    MakePrivate { path: PathBuf, mode: u32 },
    /// Remove a file that nobody needs.
    Remove(PathBuf),
    /// Remove a file of the daemon, which must not run.
    RemoveUnused(PathBuf),
    /// Take a dead process's name out of the lock file.
    ClearLock,
}

/// Why a check could not look.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl Problem {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), error }
    }
}

/// What is looked at.
#[derive(Debug)]
pub struct Patient {
    /// The state directory.
    pub dir: PathBuf,
    /// Whether the directory is the program's own, not one that somebody named.
    pub own: bool,
    /// The configuration.
    pub config: Result<Config, ConfigError>,
    holder: Option<Holder>,
    store: Result<Inspection, OpenError>,
}

impl Patient {
    /// Opens what is to be looked at.
    #[must_use]
    pub fn new(dir: PathBuf, own: bool, config: Result<Config, ConfigError>) -> Self {
        let store = Inspection::open(&dir);
        let holder = holder(&dir).ok();
        Self { dir, own, config, holder, store }
    }

    /// The database, if its rows can be looked at. Why not is what [`database`] says.
    fn rows(&self) -> Option<&Inspection> {
        self.store.as_ref().ok().filter(|store| store.older().is_none())
    }

    /// Whether the process that has the directory is a gateway.
    fn has_gateway(&self) -> bool {
        matches!(record::running(&self.dir), Ok(Running::Gateway(_)))
    }

    /// Looks at everything.
    #[must_use]
    pub fn examine(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for Check { name, look } in CHECKS {
            let told = |findings: &[Finding]| findings.iter().any(|finding| finding.check == DATABASE);
            let found = match look(self) {
                Ok(found) => found,
                // What cannot be read is damaged, as was said before.
                Err(Problem::Store(StoreError::Damaged(_))) if told(&findings) => Vec::new(),
                Err(problem) => vec![Finding::new(
                    format!("this could not be checked: {problem}"),
                    "what it looks for may be there",
                    "mend what the other findings name, then run `offshoot doctor` again",
                )],
            };
            findings.extend(found.into_iter().map(|finding| Finding { check: name, ..finding }));
        }
        findings
    }

    /// Mends what can be mended without a loss, and notes what was.
    pub fn mend(&self, findings: &mut [Finding]) {
        for finding in findings {
            let Some(remedy) = &finding.remedy else { continue };
            match self.apply(remedy) {
                Ok(()) => finding.fixed = true,
                Err(problem) => {
                    finding.help = format!("it could not be mended ({problem}): {}", finding.help)
                }
            }
        }
    }

    fn apply(&self, remedy: &Remedy) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        match remedy {
            Remedy::MakePrivate { path, mode } => make_private(path, *mode).map_err(text),
            Remedy::Remove(path) => std::fs::remove_file(path).map_err(text),
            Remedy::RemoveUnused(path) => {
                let removed = while_unused(&self.dir, || std::fs::remove_file(path));
                removed.map_err(|error| error.to_string())?.map_err(text)
            }
            Remedy::ClearLock => while_unused(&self.dir, || ()).map_err(|error| error.to_string()),
        }
    }
}

/// `1 run`, `2 runs`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
