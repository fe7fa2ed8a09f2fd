//! `offshoot config`

use std::path::Path;

use serde_json::json;

use super::Global;
use super::args::ConfigCommand;
use super::exit::{Exit, Failure};
use super::output::{hint, note};
use crate::config::{self, ConfigError, Problem, Severity, Source};

pub(super) fn run(command: ConfigCommand, global: &Global) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check { path } => check(path.as_deref(), global),
        ConfigCommand::Path => path(global),
    }
}

fn check(path: Option<&Path>, global: &Global) -> Result<Exit, Failure> {
    let explicit = path.or(global.config.as_deref());
    let (source, problems) = match config::load(&global.environment, explicit) {
        Ok(config) => (config.source, config.problems),
        Err(ConfigError::Invalid(problems)) => (Source::locate(&global.environment, explicit)?, problems),
        Err(ConfigError::Missing { path: missing, .. }) if path.is_some() => {
            let text = format!("there is no file {} to check", missing.display());
            return Err(Failure::new(Exit::Usage, "config", text)
                .with_hint("`offshoot config path` prints the one that would be used"));
        }
        Err(error) => return Err(error.into()),
    };
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    if global.output.json {
        let document = json!({
            "status": if errors == 0 { "ok" } else { "error" },
            "path": source.path(),
            "problems": problems,
        });
        global.output.document(&document)?;
    } else {
        tell(&source, &problems, errors, global)?;
    }
    Ok(if errors == 0 { Exit::Ok } else { Exit::Usage })
}

fn tell(source: &Source, problems: &[Problem], errors: usize, global: &Global) -> Result<(), Failure> {
    for problem in problems {
        global.output.text(&problem.to_string())?;
    }
    match source.path() {
        Some(path) => {
            let verdict = if errors == 0 { "can be used" } else { "cannot be used" };
            let (errors, warnings) = (count(errors, "error"), count(problems.len() - errors, "warning"));
            note(format_args!("{} {verdict}: {errors}, {warnings}", path.display()));
        }
        None => note("there is no configuration file, so the defaults are used"),
    }
    if let Some(text) = source.hint() {
        hint(&text);
    }
    Ok(())
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn path(global: &Global) -> Result<Exit, Failure> {
    let source = Source::locate(&global.environment, global.config.as_deref())?;
    let (path, exists) = match &source {
        Source::Defaults { expected, .. } => (expected.as_deref(), false),
        other => (other.path(), true),
    };
    if global.output.json {
        global.output.document(&json!({"path": path, "exists": exists}))?;
        return Ok(Exit::Ok);
    }
    let Some(path) = path else { return Err(ConfigError::NoHome.into()) };
    global.output.line(path.display())?;
    if !exists {
        note("it does not exist, so the defaults are used");
    }
    if let Some(text) = source.hint() {
        hint(&text);
    }
    Ok(Exit::Ok)
}
