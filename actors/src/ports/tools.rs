//! Tools as a port.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{BoxFuture, ToolSpec};
use crate::types::{AgentId, RunId, SessionKey, ToolCall, ToolStatus};

/// On whose behalf a tool runs.
#[derive(Debug, Clone)]
pub struct ToolContext {
    /// The agent.
    pub agent: AgentId,
    /// The session.
    pub session: SessionKey,
    /// The run.
    pub run: RunId,
    /// The step that asked for the call.
    pub step: u32,
    /// Whether the call was started before and its outcome is not known.
    pub repeated: bool,
    /// Set when the call is cancelled; the future is dropped as well.
    pub cancelled: CancellationToken,
    /// The tree, for tools that spawn, send or list.
    pub tree: crate::TreeHandle,
}

/// What a tool wants of its run besides giving a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    #[default]
    None,
    /// The run waits until all open children of its session are terminal.
    Yield,
}

/// A tool's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    /// The result as the model reads it.
    pub text: String,
    /// How the call ended.
    pub status: ToolStatus,
    /// What the run does next.
    pub effect: Effect,
}

impl ToolOutput {
    /// A result.
    #[must_use]
    pub fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: ToolStatus::Ok, effect: Effect::None }
    }

    /// A failure that the model is told of.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: ToolStatus::Error, effect: Effect::None }
    }
}

/// The tools that there are.
///
/// A call is cancelled by dropping its future; nothing of it may go on after that.
pub trait Tools: Send + Sync + 'static {
    /// Every tool, in a fixed order. Policies choose among them.
    fn catalog(&self) -> &[Arc<ToolSpec>];

    /// Calls a tool of the catalog. A panic inside ends the run as `crashed`.
    fn call(&self, context: ToolContext, call: ToolCall) -> BoxFuture<ToolOutput>;
}

/// No tools at all.
#[derive(Debug, Clone, Copy)]
pub struct NoTools;

impl Tools for NoTools {
    fn catalog(&self) -> &[Arc<ToolSpec>] {
        &[]
    }

    fn call(&self, _: ToolContext, call: ToolCall) -> BoxFuture<ToolOutput> {
        Box::pin(async move { ToolOutput::error(format!("there is no tool {}", call.name)) })
    }
}
