//! Names of sessions, agents, runs and models. All are cheap to clone.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest agent id, in bytes.
pub const MAX_AGENT_ID: usize = 64;
/// Longest session key, in bytes.
pub const MAX_SESSION_KEY: usize = 512;

/// A name that does not have the form its kind asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// An agent id outside `[a-z0-9][a-z0-9_-]{0,63}`.
    #[error("invalid agent id {0:?}: agent ids match [a-z0-9][a-z0-9_-]{{0,63}}")]
    Agent(String),
    /// A session key that is not `agent:<agentId>:<rest>`.
    #[error("invalid session key {0:?}: session keys have the form agent:<agentId>:<name>")]
    Session(String),
    /// A model reference that is not `provider/model`.
    #[error("invalid model {0:?}: models are written provider/model")]
    Model(String),
    /// A run id that is not a UUID.
    #[error("invalid run id {0:?}: run ids are UUIDs")]
    Run(String),
    /// A device id that is not the SHA-256 of a public key.
    #[error("invalid device id {0:?}: device ids are 64 lower-case hexadecimal digits")]
    Device(String),
    /// A public key that is not 32 bytes.
    #[error("invalid public key {0:?}: public keys are 32 bytes in base64url without padding")]
    PublicKey(String),
    /// A role that clients cannot have.
    #[error("invalid role {0:?}: roles are operator and node")]
    Role(String),
}

/// The beginning of a text that an error repeats.
pub(super) fn clipped(text: &str) -> String {
    const MAX: usize = 80;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

macro_rules! shared_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
    };
}

shared_name! {
    /// The id of a configured agent, lower case.
    AgentId
}

shared_name! {
    /// The name of a session: `agent:<agentId>:<rest>`, lower case.
    SessionKey
}

shared_name! {
    /// A model as `provider/model`; the model part may hold more slashes.
    ModelRef
}

impl FromStr for AgentId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower = text.trim().to_ascii_lowercase();
        let mut bytes = lower.bytes();
        let first_ok = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest_ok = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if first_ok && rest_ok && lower.len() <= MAX_AGENT_ID {
            Ok(Self(lower.into()))
        } else {
            Err(NameError::Agent(clipped(text)))
        }
    }
}

impl AgentId {
    /// The agent of a configuration that names none.
    #[must_use]
    pub fn main() -> Self {
        Self("main".into())
    }
}

impl FromStr for SessionKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower = text.trim().to_ascii_lowercase();
        let invalid = || NameError::Session(text.chars().take(MAX_SESSION_KEY).collect());
        if lower.len() > MAX_SESSION_KEY || lower.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(invalid());
        }
        let mut parts = lower.splitn(3, ':');
        let (prefix, agent, rest) = (parts.next(), parts.next(), parts.next());
        match (prefix, agent, rest) {
            (Some("agent"), Some(agent), Some(rest))
                if !rest.is_empty() && !rest.starts_with(':') && agent.parse::<AgentId>().is_ok() =>
            {
                Ok(Self(lower.into()))
            }
            _ => Err(invalid()),
        }
    }
}

impl SessionKey {
    /// The main session of an agent: `agent:<id>:main`.
    #[must_use]
    pub fn main(agent: &AgentId) -> Self {
        Self(format!("agent:{agent}:main").into())
    }

    /// The session of a new sub-agent: `agent:<id>:subagent:<uuid>`.
    #[must_use]
    pub fn subagent(agent: &AgentId, id: Uuid) -> Self {
        Self(format!("agent:{agent}:subagent:{id}").into())
    }

    /// The agent that the session belongs to.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        AgentId(self.0.split(':').nth(1).unwrap_or_default().into())
    }

    /// Whether the key names a sub-agent's session.
    #[must_use]
    pub fn is_subagent(&self) -> bool {
        self.0.split(':').nth(2) == Some("subagent")
    }
}

impl FromStr for ModelRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        match text.split_once('/') {
            Some((provider, model)) if !provider.is_empty() && !model.is_empty() => {
                Ok(Self(format!("{}/{model}", provider.to_ascii_lowercase()).into()))
            }
            _ => Err(NameError::Model(clipped(text))),
        }
    }
}

impl ModelRef {
    /// The model that is part of Offshoot and needs no provider: `builtin/rehearsal`.
    #[must_use]
    pub fn rehearsal() -> Self {
        Self("builtin/rehearsal".into())
    }

    /// What stands for the model of a message that no model wrote.
    #[must_use]
    pub fn injected() -> Self {
        Self("offshoot/injected".into())
    }

    /// The part before the first slash.
    #[must_use]
    pub fn provider(&self) -> &str {
        self.0.split_once('/').map_or("", |(provider, _)| provider)
    }

    /// The part after the first slash.
    #[must_use]
    pub fn model(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, model)| model)
    }
}

/// The id of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Uuid::parse_str(text.trim()).map(Self).map_err(|_| NameError::Run(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_repeats_the_beginning_of_a_long_name() {
        let long = "ä".repeat(1_000_000);
        let errors = [long.parse::<AgentId>().unwrap_err(), long.parse::<ModelRef>().unwrap_err()];
        for error in errors {
            let text = error.to_string();
            assert!(text.len() < 300 && text.contains("ää") && text.contains("..."), "{text}");
        }
        assert_eq!("short".parse::<ModelRef>(), Err(NameError::Model("short".to_owned())));
    }
}
