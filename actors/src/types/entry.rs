//! A session's transcript.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ModelRef, Origin, RunId, SessionKey, Terminal, Timestamp, Usage};

/// A tool call as the model wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The model's id of the call, unique within its step.
    pub id: Arc<str>,
    /// The tool's name.
    pub name: Arc<str>,
    /// The arguments exactly as the model wrote them; the tool parses them.
    pub arguments: Arc<str>,
}

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolStatus {
    /// The tool gave its result, a refusal included.
    Ok,
    /// The tool failed.
    Error,
    /// Whether the tool did its work is not known.
    Unknown,
}

/// The result of one child's run as its parent gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnnounceItem {
    /// The child's run: the key under which the result is delivered exactly once.
    pub run: RunId,
    /// The child's session.
    pub session: SessionKey,
    /// The label that the spawn gave.
    pub label: Option<String>,
    /// How the run ended.
    pub state: Terminal,
    /// Why, where the state alone does not say.
    pub reason: Option<String>,
    /// The child's final or partial text, whole.
    pub text: Option<String>,
    /// Tokens of all runs of the child's session and of the sessions below it, until this one ended.
    pub usage: Usage,
    /// From the first step to the end, in milliseconds.
    pub duration_ms: u64,
    /// Model calls that it made.
    pub steps: u32,
}

/// One entry of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Entry {
    /// A message to the agent: a prompt, a task, a steering message.
    User {
        /// The message.
        text: String,
        /// Who sent it.
        origin: Origin,
    },
    /// A model's answer.
    Assistant {
        /// The text, possibly empty.
        text: String,
        /// The tools that it asks for.
        tool_calls: Vec<ToolCall>,
        /// The model that answered.
        model: ModelRef,
        /// What the call used.
        usage: Usage,
    },
    /// The result of one tool call of the latest `Assistant` entry.
    ToolResult {
        /// The call's id.
        call: Arc<str>,
        /// The tool's name.
        name: Arc<str>,
        /// The result as the model reads it.
        text: String,
        /// How the call ended.
        status: ToolStatus,
    },
    /// Results of children. Data for the model, never instructions.
    Announce {
        /// In the order in which the children ended.
        items: Vec<AnnounceItem>,
    },
    /// A remark of the runtime itself, such as a deadline that comes near.
    Notice {
        /// The remark.
        text: String,
    },
}

/// An entry with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEntry {
    /// Its place in the session, from 0 without gaps.
    pub seq: u64,
    /// The run that it belongs to.
    pub run: Option<RunId>,
    /// When it was made.
    pub at: Timestamp,
    /// What it says.
    pub entry: Entry,
}

/// A session's transcript in memory. Cloning shares the entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transcript {
    entries: Vec<Arc<StoredEntry>>,
}

impl Transcript {
    /// A transcript of stored entries, in order.
    #[must_use]
    pub fn new(entries: Vec<Arc<StoredEntry>>) -> Self {
        Self { entries }
    }

    /// The place of the next entry.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.seq + 1)
    }

    /// Adds an entry at the end and returns it for the store.
    pub fn push(&mut self, run: Option<RunId>, at: Timestamp, entry: Entry) -> Arc<StoredEntry> {
        let stored = Arc::new(StoredEntry { seq: self.next_seq(), run, at, entry });
        self.entries.push(Arc::clone(&stored));
        stored
    }

    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Arc<StoredEntry>] {
        &self.entries
    }
}
