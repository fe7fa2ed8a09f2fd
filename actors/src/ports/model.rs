//! Models as a port.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::BoxFuture;
use crate::types::{AgentId, ModelRef, NameError, RunId, SessionKey, ToolCall, Transcript, Usage};

/// A tool as a model is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolSpec {
    /// The name that the model calls.
    pub name: Arc<str>,
    /// What it does, for the model.
    pub description: Arc<str>,
    /// The JSON Schema of its arguments, as text.
    pub parameters: Arc<str>,
    /// Whether it may run beside other calls of the same step.
    pub parallel: bool,
    /// Whether a call with an unknown outcome may be repeated.
    pub idempotent: bool,
    /// Whether its result makes the run wait for the children of its session, as [`Effect::Yield`] says. A run that is
    /// resumed between that result and its wait knows it by this alone.
    ///
    /// [`Effect::Yield`]: super::Effect::Yield
    pub yields: bool,
    /// Groups that policies may name: `sessions`, `fs`, ...
    pub groups: &'static [&'static str],
}

/// One model call.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// The model to call.
    pub model: ModelRef,
    /// The agent on whose behalf.
    pub agent: AgentId,
    /// The session on whose behalf.
    pub session: SessionKey,
    /// The run on whose behalf.
    pub run: RunId,
    /// The number of the call in its run, from 1.
    pub step: u32,
    /// The system prompt.
    pub system: Option<Arc<str>>,
    /// The conversation so far.
    pub transcript: Transcript,
    /// The tools that the model may ask for.
    pub tools: Arc<[Arc<ToolSpec>]>,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// It was done.
    End,
    /// It asks for tools.
    Tools,
    /// It met its token limit.
    Length,
    /// The provider's filter cut it.
    Filtered,
}

/// A model's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The text, possibly empty.
    pub text: String,
    /// The tools that it asks for.
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub stop: StopReason,
    /// What the call used.
    pub usage: Usage,
}

/// What kind of failure a model call met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelErrorKind {
    /// Too many requests (429).
    RateLimited,
    /// The provider is overloaded (503, 529).
    Overloaded,
    /// The provider failed (5xx).
    Server,
    /// No connection, or it broke before the answer began.
    Network,
    /// No byte for longer than the stall time-out.
    Stalled,
    /// The stream ended before the answer did.
    Cut,
    /// The key is missing, wrong or lacks a right (401, 403).
    Auth,
    /// The account has no credit (402).
    Billing,
    /// The provider does not know the model (404), or no such model is configured.
    NotFound,
    /// The conversation is longer than the model takes.
    ContextLength,
    /// The request is wrong (400, 422).
    BadRequest,
    /// The answer does not have the protocol's form.
    Protocol,
    /// The call was told to fail.
    Failed,
}

impl ModelErrorKind {
    /// All of them, those that may pass first.
    pub const ALL: [Self; 13] = [
        Self::RateLimited,
        Self::Overloaded,
        Self::Server,
        Self::Network,
        Self::Stalled,
        Self::Cut,
        Self::Auth,
        Self::Billing,
        Self::NotFound,
        Self::ContextLength,
        Self::BadRequest,
        Self::Protocol,
        Self::Failed,
    ];

    /// Whether the same call may succeed a little later.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::Overloaded | Self::Server | Self::Network | Self::Stalled | Self::Cut
        )
    }

    /// Whether another model is worth a try.
    #[must_use]
    pub const fn allows_fallback(self) -> bool {
        !matches!(self, Self::ContextLength)
    }

    /// A stable name for programs, rows and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limit",
            Self::Overloaded => "overloaded",
            Self::Server => "server_error",
            Self::Network => "network",
            Self::Stalled => "stalled",
            Self::Cut => "cut",
            Self::Auth => "auth",
            Self::Billing => "billing",
            Self::NotFound => "model_not_found",
            Self::ContextLength => "context_length",
            Self::BadRequest => "format",
            Self::Protocol => "protocol",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for ModelErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads the name, in any case.
impl FromStr for ModelErrorKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("unknown kind of model failure {text:?}"))
    }
}

/// A failed model call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// What kind of failure.
    pub kind: ModelErrorKind,
    /// What happened and what to do, without secrets.
    pub message: String,
    /// How long the provider asks to wait.
    pub retry_after: Option<Duration>,
}

impl ModelError {
    /// A failure without a wish of the provider's.
    #[must_use]
    pub fn new(kind: ModelErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

/// Takes what a model says while it says it. Never blocks.
pub trait ModelSink: Send + Sync {
    /// A piece of the answer's text.
    fn text(&self, piece: &str);
}

impl fmt::Debug for dyn ModelSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelSink")
    }
}

/// The models that there are.
///
/// A call is cancelled by dropping its future; nothing of it may go on after that.
pub trait Models: Send + Sync + 'static {
    /// The model that a reference or an alias names, if there is one that can be called.
    ///
    /// # Errors
    /// The name has no valid form, or no such model is configured.
    fn resolve(&self, name: &str) -> Result<ModelRef, ModelError>;

    /// Calls a model.
    fn call(&self, request: ModelRequest, sink: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>>;
}

impl From<NameError> for ModelError {
    fn from(error: NameError) -> Self {
        Self::new(ModelErrorKind::NotFound, error.to_string())
    }
}

/// A closure as the only model, for programs that embed the tree and for tests.
pub struct FnModels<F>(F);

impl<F> fmt::Debug for FnModels<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnModels")
    }
}

impl<F, R> FnModels<F>
where
    F: Fn(ModelRequest, Arc<dyn ModelSink>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Answer, ModelError>> + Send + 'static,
{
    /// Answers every call, whatever the model's name, with what `call` returns.
    pub const fn new(call: F) -> Self {
        Self(call)
    }
}

impl<F, R> Models for FnModels<F>
where
    F: Fn(ModelRequest, Arc<dyn ModelSink>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Answer, ModelError>> + Send + 'static,
{
    fn resolve(&self, name: &str) -> Result<ModelRef, ModelError> {
        Ok(name.parse()?)
    }

    fn call(&self, request: ModelRequest, sink: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>> {
        Box::pin((self.0)(request, sink))
    }
}

impl Answer {
    /// A final answer.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), tool_calls: Vec::new(), stop: StopReason::End, usage: Usage::default() }
    }

    /// An answer that asks for tools.
    #[must_use]
    pub fn tools(tool_calls: Vec<ToolCall>) -> Self {
        Self { text: String::new(), tool_calls, stop: StopReason::Tools, usage: Usage::default() }
    }
}
