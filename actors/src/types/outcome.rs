//! How a run ended.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The seven terminal states of a run. They follow from what happened, never from the model's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Terminal {
    /// The model gave its final answer.
    Ok,
    /// Cut off by a token limit or a budget; what there is stands in the result.
    Partial,
    /// The hard deadline passed.
    Timeout,
    /// Somebody with the right to do so stopped it.
    Cancelled,
    /// The model or a tool failed for good.
    Error,
    /// The run's actor panicked.
    Crashed,
    /// The process that ran it went away and policy says not to resume.
    Interrupted,
}

impl Terminal {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Partial,
        Self::Timeout,
        Self::Cancelled,
        Self::Error,
        Self::Crashed,
        Self::Interrupted,
    ];

    /// The state's name in the store, in events and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
            Self::Crashed => "crashed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether what a run spawned is stopped where the run ends like this.
    #[must_use]
    pub const fn stops_children(self) -> bool {
        matches!(self, Self::Cancelled | Self::Timeout)
    }
}

impl fmt::Display for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Terminal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("unknown terminal state {text:?}"))
    }
}

/// A run's end: its state, why, and what it produced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The terminal state.
    pub state: Terminal,
    /// Why, where the state alone does not say: `budget`, `max_tokens`, the text of an error or a panic.
    pub reason: Option<String>,
    /// The final answer, or for any other end than `ok` the text there was until then.
    pub text: Option<String>,
}

impl Outcome {
    /// A final answer.
    #[must_use]
    pub fn ok(text: impl Into<String>) -> Self {
        Self { state: Terminal::Ok, reason: None, text: Some(text.into()) }
    }

    /// Any other end, with the text there was until then.
    #[must_use]
    pub fn ended(state: Terminal, reason: impl Into<String>, partial: Option<String>) -> Self {
        Self { state, reason: Some(reason.into()), text: partial }
    }
}
