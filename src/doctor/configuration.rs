//! Whether the configuration can be used, and means what it seems to.

use super::{Finding, Found, Patient};
use crate::config::{ConfigError, Kind, Problem, Severity};

const CHECK: &str = "`offshoot config check` lists everything, docs/configuration.md has every key";

pub(super) fn look(patient: &Patient) -> Found {
    let problems = match &patient.config {
        Ok(config) => &config.problems,
        Err(ConfigError::Invalid(problems)) => problems,
        Err(error) => {
            let why = "no command that needs the configuration can be run";
            return Ok(vec![Finding::new(error.to_string(), why, CHECK)]);
        }
    };
    // What another program's configuration has beside ours is no fault of it.
    let matters = problems.iter().filter(|problem| problem.kind != Kind::NotActedOn);
    let finding = |problem: &Problem| {
        let why = match problem.severity {
            Severity::Error => "no gateway starts with it, and no run",
            Severity::Warning => "it has no effect, or not the one that it seems to have",
        };
        Finding::new(problem.to_string(), why, CHECK)
    };
    Ok(matters.map(finding).collect())
}
