//! Runs and sessions as people type them.

use std::str::FromStr;

use offshoot_actors::ports::Storage;
use offshoot_actors::types::{AgentId, NameError, RunId, SessionKey};

use super::Global;
use super::args::ReachArgs;
use super::exit::{Exit, Failure};
use crate::config;
use crate::store::SqliteStorage;

/// Fewer characters than these are a typing error rather than a choice.
const MIN_BEGINNING: usize = 4;
/// Hexadecimal digits of a whole id.
const DIGITS: usize = 32;
/// Runs that are named where several are meant.
const MAX_CANDIDATES: u32 = 10;

/// A run, by its id or by the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunName {
    Whole(RunId),
    /// As an id is written, with its dashes.
    Beginning(String),
}

impl FromStr for RunName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid =
            |error: &NameError| format!("{error}, or at least {MIN_BEGINNING} characters of their beginning");
        match text.parse() {
            Ok(run) => Ok(Self::Whole(run)),
            Err(error) => beginning(text.trim()).map(Self::Beginning).ok_or_else(|| invalid(&error)),
        }
    }
}

fn beginning(text: &str) -> Option<String> {
    let digits = text.bytes().filter(|byte| *byte != b'-').count();
    let is_id = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    if !is_id || text.len() < MIN_BEGINNING || !(1..DIGITS).contains(&digits) {
        return None;
    }
    let mut written = String::new();
    for (index, digit) in text.chars().filter(|digit| *digit != '-').enumerate() {
        if matches!(index, 8 | 12 | 16 | 20) {
            written.push('-');
        }
        written.push(digit.to_ascii_lowercase());
    }
    Some(written)
}

impl RunName {
    /// The run that is meant.
    pub(crate) async fn find(self, storage: Option<&SqliteStorage>) -> Result<RunId, Failure> {
        let text = match self {
            Self::Whole(run) => return Ok(run),
            Self::Beginning(text) => text,
        };
        let found = match storage {
            Some(storage) => storage.runs_beginning(text.clone(), MAX_CANDIDATES + 1).await?,
            None => Vec::new(),
        };
        match (found.as_slice(), storage) {
            ([run], _) => Ok(*run),
            ([_, _, ..], Some(storage)) => Err(ambiguous(&text, &found, storage).await?),
            _ => Err(Failure::new(Exit::NotFound, "unknown_run", format!("no run begins with {text}"))
                .with_hint("list the runs with `offshoot runs list`")),
        }
    }
}

/// What of the tree is meant: the beginning of a run's id stands for that run, where the store is at hand.
pub(super) async fn place(
    path: Option<String>,
    reach: &ReachArgs,
    global: &Global,
) -> Result<Option<String>, Failure> {
    match path.as_deref().map(str::parse) {
        Some(Ok(name @ RunName::Beginning(_))) if reach.url.is_none() => {
            Ok(Some(name.find(global.read_store()?.as_ref()).await?.to_string()))
        }
        _ => Ok(path),
    }
}

async fn ambiguous(text: &str, found: &[RunId], storage: &SqliteStorage) -> Result<Failure, Failure> {
    let max = MAX_CANDIDATES as usize;
    let count = if found.len() > max { format!("more than {max}") } else { found.len().to_string() };
    let mut message = format!("{count} runs begin with {text}:");
    for run in found.iter().take(max) {
        if let Some(row) = storage.run(*run).await? {
            message.push_str(&format!("\n  {run}  {}  {}", row.state.as_str(), row.session));
        }
    }
    Ok(Failure::new(Exit::Usage, "ambiguous_run", message).with_hint("type more of the one that is meant"))
}

/// A session that exists, by its key or by what is left of the key without what can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionName {
    Whole(SessionKey),
    /// A session of the default agent.
    OfDefault(String),
}

impl FromStr for SessionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = match text.parse() {
            Ok(key) => return Ok(Self::Whole(key)),
            Err(error) => error,
        };
        let name = text.trim().to_ascii_lowercase();
        match name.strip_prefix("agent:") {
            Some(agent) => match agent.parse::<AgentId>() {
                Ok(agent) => Ok(Self::Whole(SessionKey::main(&agent))),
                Err(_) => Err(error),
            },
            None => of_agent(&AgentId::main(), &name).map(|_| Self::OfDefault(name)).map_err(|_| error),
        }
    }
}

fn of_agent(agent: &AgentId, name: &str) -> Result<SessionKey, NameError> {
    format!("agent:{agent}:{name}").parse()
}

impl SessionName {
    /// The whole key.
    pub(super) fn key(self, global: &Global) -> Result<SessionKey, Failure> {
        let name = match self {
            Self::Whole(key) => return Ok(key),
            Self::OfDefault(name) => name,
        };
        let config = config::load(&global.environment, global.config.as_deref()).map_err(|error| {
            Failure::from(error)
                .with_hint(format!("agent:<agentId>:{name} can be read without a configuration"))
        })?;
        of_agent(&config.settings.default_agent, &name).map_err(|error| Failure::usage(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_read_as_ids_are_written() {
        let whole = "01a1fee1-e611-7426-b75f-91a227d7e20c";
        assert_eq!(whole.parse(), Ok(RunName::Whole(whole.parse().unwrap())));
        for (text, written) in [
            ("01a1", "01a1"),
            ("01A1FEE1E6", "01a1fee1-e6"),
            ("01a1fee1-", "01a1fee1"),
            ("01a1fee1-e611-7426-b75f-91a227d7e20", "01a1fee1-e611-7426-b75f-91a227d7e20"),
        ] {
            assert_eq!(text.parse(), Ok(RunName::Beginning(written.to_owned())), "{text}");
        }
        for wrong in ["", "01a", "----", "main", "01a1_", &"0".repeat(33)] {
            assert!(
                wrong.parse::<RunName>().is_err_and(|error| error.contains("run ids are UUIDs")),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_session_is_named_with_or_without_its_agent() {
        let whole = |key: &str| Ok(SessionName::Whole(key.parse().unwrap()));
        let of_default = |name: &str| Ok(SessionName::OfDefault(name.to_owned()));
        for (text, expected) in [
            ("agent:Research:Notes", whole("agent:research:notes")),
            ("agent:research", whole("agent:research:main")),
            ("Main", of_default("main")),
            ("subagent:0123", of_default("subagent:0123")),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for wrong in ["", " ", ":", ":x", "a b", "agent:", "agent::x", "agent:a:", "agent:-"] {
            assert!(wrong.parse::<SessionName>().is_err(), "{wrong}");
        }
    }
}
