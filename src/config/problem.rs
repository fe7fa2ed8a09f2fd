//! What is wrong in a configuration, where, and what would be right.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::tree::{Files, Place};

/// Most errors that are kept of one configuration.
const MAX_ERRORS: usize = 200;
/// Most warnings that are kept of one configuration.
const MAX_WARNINGS: usize = 500;

/// Whether a problem stops the daemon from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration is used; something in it has no effect, or not the one that it seems to have.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// What sort of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The text is not JSON5, or an `$include` cannot be followed.
    Syntax,
    /// A value of the wrong type, outside its range, or in conflict with another.
    Value,
    /// An environment variable that is not set.
    Variable,
    /// A name of an agent, a tool, a model or a provider that leads nowhere, or elsewhere than written.
    Reference,
    /// A key that neither OpenClaw nor Offshoot knows.
    UnknownKey,
    /// A key or a tool of OpenClaw that Offshoot does not have.
    NotActedOn,
}

/// One problem of a configuration. Its `Display` is one line:
/// `offshoot.json:12:9: error: agents.defaults.maxConcurrent: "many" is not a whole number from 1 to 1000000`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Its line, from 1.
    pub line: u32,
    /// Its column in characters, from 1.
    pub column: u32,
    /// Whether it stops the daemon from starting.
    pub severity: Severity,
    /// What sort of problem it is.
    pub kind: Kind,
    /// The setting, such as `agents.list[0].model`; empty when the file as a whole is meant.
    pub path: String,
    /// What is wrong, and what would be right. Never quotes a secret.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}: ", self.file, self.line, self.column, self.severity)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named does not exist.
    #[error("{} does not exist; it was named by {named_by}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The option or variable that names it.
        named_by: &'static str,
    },
    /// A file exists and cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither a home directory nor a state directory is known.
    #[error("the home directory is not known: set HOME or OFFSHOOT_STATE_DIR")]
    NoHome,
    /// The file holds errors. One line for each; warnings are in the list only.
    #[error("{}", error_lines(.0))]
    Invalid(Vec<Problem>),
}

impl ConfigError {
    /// Everything that was found, warnings included.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid(problems) => problems,
            Self::Missing { .. } | Self::Unreadable { .. } | Self::NoHome => &[],
        }
    }
}

fn error_lines(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    errors.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A problem whose place is not yet a line and a column.
struct Found {
    place: Place,
    severity: Severity,
    kind: Kind,
    path: String,
    text: String,
}

/// Collects problems while a configuration is read.
#[derive(Default)]
pub(super) struct Problems {
    found: Vec<Found>,
    errors: usize,
    warnings: usize,
}

impl Problems {
    pub(super) fn error(&mut self, place: Place, kind: Kind, path: impl ToString, text: impl Into<String>) {
        self.add(Severity::Error, place, kind, path, text);
    }

    pub(super) fn warning(&mut self, place: Place, kind: Kind, path: impl ToString, text: impl Into<String>) {
        self.add(Severity::Warning, place, kind, path, text);
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        place: Place,
        kind: Kind,
        path: impl ToString,
        text: impl Into<String>,
    ) {
        let (count, max) = match severity {
            Severity::Error => (&mut self.errors, MAX_ERRORS),
            Severity::Warning => (&mut self.warnings, MAX_WARNINGS),
        };
        *count += 1;
        if *count <= max {
            self.found.push(Found { place, severity, kind, path: path.to_string(), text: text.into() });
        }
    }

    pub(super) fn any_error(&self) -> bool {
        self.errors > 0
    }

    /// In the order of the text; what did not fit is counted at the end.
    pub(super) fn finish(mut self, files: &Files) -> Vec<Problem> {
        self.found.sort_by_key(|found| found.place);
        let mut problems: Vec<Problem> = self.found.into_iter().map(|found| files.problem(found)).collect();
        for (count, max, severity) in
            [(self.errors, MAX_ERRORS, Severity::Error), (self.warnings, MAX_WARNINGS, Severity::Warning)]
        {
            if count > max {
                let text = format!("{} more of these are not listed", count - max);
                let path = String::new();
                let place = Place::START;
                problems.push(files.problem(Found { place, severity, kind: Kind::Value, path, text }));
            }
        }
        problems
    }
}

impl Files {
    fn problem(&self, found: Found) -> Problem {
        let (file, line, column) = self.locate(found.place);
        let Found { severity, kind, path, text, .. } = found;
        Problem { file, line, column, severity, kind, path, text }
    }
}
