mod documentation;
mod files;
mod gateway;
mod otel;
mod problems;
mod properties;
mod secrets;
mod values;

use super::{Config, ConfigError, Environment, Problem, Severity, load_text};

fn environment(vars: &[(&str, &str)]) -> Environment {
    let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Environment { home: None, vars: vars.collect() }
}

fn read(text: &str) -> Result<Config, ConfigError> {
    load_text(&environment(&[]), "offshoot.json", text)
}

fn valid(text: &str) -> Config {
    read(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Everything that was found in a text, valid or not.
fn problems_with(vars: &[(&str, &str)], text: &str) -> Vec<Problem> {
    match load_text(&environment(vars), "offshoot.json", text) {
        Ok(config) => {
            assert!(config.problems.iter().all(|problem| problem.severity == Severity::Warning));
            config.problems
        }
        Err(error) => {
            assert!(error.problems().iter().any(|problem| problem.severity == Severity::Error));
            error.problems().to_vec()
        }
    }
}

fn rendered_with(vars: &[(&str, &str)], text: &str) -> Vec<String> {
    problems_with(vars, text).iter().map(ToString::to_string).collect()
}

fn rendered(text: &str) -> Vec<String> {
    rendered_with(&[], text)
}
