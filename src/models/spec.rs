//! What a provider and its models are, as plain values. Reading them from a file is somebody else's work.

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;

/// The provider kind of a specification that names none.
pub const DEFAULT_API: &str = "openai-completions";
/// Long enough for a slow TLS handshake across the world, short enough for a fallback to be worth it.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Two minutes: a local server that loads its weights, or a long prompt before its first token, is silent
/// for more than one; hosted services send a keep-alive at least every half a minute.
pub const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// One provider of models.
#[derive(Debug, Clone)]
pub struct ProviderSpec {
    /// Its name, the part of a model reference before the slash. Case does not matter.
    pub id: String,
    /// Its kind: the protocol that it speaks, such as `openai-completions`.
    pub api: String,
    /// The address that the protocol's paths are added to, `http` or `https`; a query stays.
    pub base_url: String,
    /// The key, sent as a bearer token.
    pub api_key: Option<SecretString>,
    /// Further headers of every request; they win over the ones that the protocol sets.
    pub headers: Vec<(String, SecretString)>,
    /// Longest time for name look-up, connection and TLS together.
    pub connect_timeout: Duration,
    /// Longest time without a single byte from the provider, before and during the answer.
    pub stall_timeout: Duration,
    /// Longest time of a whole call; none leaves that to the run's deadline.
    pub request_timeout: Option<Duration>,
    /// Models that need other than the usual settings. A model that is not listed may be called too.
    pub models: Vec<ModelSpec>,
}

impl ProviderSpec {
    /// A provider with the usual settings and no key.
    #[must_use]
    pub fn new(id: impl Into<String>, base_url: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            api: DEFAULT_API.to_owned(),
            base_url: base_url.into(),
            api_key: None,
            headers: Vec::new(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            request_timeout: None,
            models: Vec::new(),
        }
    }
}

/// One model of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// The model's name as the provider knows it.
    pub id: String,
    /// Its kind, where that is not its provider's.
    pub api: Option<String>,
    /// Most tokens of one answer; none leaves that to the provider.
    pub max_tokens: Option<u32>,
    /// The field that says so; none takes the one that the provider is known to want.
    pub max_tokens_field: Option<MaxTokensField>,
    /// Whether the provider tells the usage of a streamed answer when asked to.
    pub streams_usage: bool,
    /// Whether the model takes tools.
    pub takes_tools: bool,
}

impl ModelSpec {
    /// A model with the usual settings.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            api: None,
            max_tokens: None,
            max_tokens_field: None,
            streams_usage: true,
            takes_tools: true,
        }
    }
}

/// The request field that bounds an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxTokensField {
    /// `max_tokens`, which most servers know.
    MaxTokens,
    /// `max_completion_tokens`, which newer models of OpenAI ask for.
    MaxCompletionTokens,
}

/// A specification that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct SpecError {
    /// The setting, such as `models.providers.local.baseUrl`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl SpecError {
    /// A problem with one field of a provider.
    pub(crate) fn provider(id: &str, field: &str, problem: impl fmt::Display) -> Self {
        Self { path: format!("models.providers.{id}.{field}"), problem: problem.to_string() }
    }
}
