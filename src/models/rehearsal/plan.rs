//! What the rehearsal model does next, from the transcript alone: it keeps nothing between calls, so a retry,
//! a restart or another process goes on where the journal ends.
//!
//! How far a run has come is written in the ids of its tool calls (`rehearsal_<done>_<n>`: the first `done`
//! directives are carried out with this answer). An answer without tool calls means that all of them are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::ports::ModelErrorKind;
use offshoot_actors::types::{AnnounceItem, Entry, RunId, StoredEntry, Terminal, ToolCall, ToolStatus};
use serde::Deserialize;

use super::directive::{Directive, SPAWN, Script};

/// The tool that waits for children.
pub(super) const YIELD: &str = "sessions_yield";

/// What the model says to a prompt without directives.
pub const PLAIN_ANSWER: &str = "This is builtin/rehearsal, the built-in model without intelligence: it only \
    follows directives in the prompt, such as \"Reply with exactly: hello\" (see docs/rehearsal.md). For real \
    answers add a provider under models.providers and name one of its models in agents.defaults.model (see \
    docs/configuration.md).";

/// What one model call does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// To wait before that.
    pub wait: Duration,
    /// What to do.
    pub action: Action,
}

/// How a model call ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It asks for tools.
    Call(Vec<ToolCall>),
    /// It gives its final answer.
    Reply {
        /// The answer.
        text: String,
        /// In how many pieces to stream it, at least 1.
        pieces: u32,
    },
    /// It fails.
    Fail {
        /// The kind of failure.
        kind: ModelErrorKind,
        /// What to say about it.
        reason: String,
    },
    /// It panics.
    Panic(String),
    /// Bring the process down.
    #[cfg(feature = "faults")]
    Abort,
}

/// The next step of `run`, out of the entries of its session. `may_yield` says whether the tool
/// `sessions_yield` is offered.
#[must_use]
pub fn plan(entries: &[Arc<StoredEntry>], run: RunId, may_yield: bool) -> Plan {
    let mut progress = Progress::default();
    for stored in entries.iter().filter(|stored| stored.run == Some(run)) {
        progress.add(&stored.entry);
    }
    progress.next(may_yield)
}

/// What happened in the run so far.
#[derive(Debug, Default)]
struct Progress<'a> {
    script: Script,
    /// Directives that are carried out.
    done: usize,
    /// A person or a parent said something, so that this is no run for results of children only.
    prompted: bool,
    /// Children that were accepted and whose results are not here.
    pending: BTreeSet<RunId>,
    /// Something happened since the last yield for which another one is worth it.
    may_wait: bool,
    /// Results of children and refusals, in the order in which they came.
    lines: Vec<String>,
    /// Results of the latest step's tools.
    results: Vec<&'a str>,
}

impl<'a> Progress<'a> {
    fn add(&mut self, entry: &'a Entry) {
        match entry {
            Entry::User { text, .. } => {
                self.script.add(text);
                self.prompted = true;
                self.may_wait = true;
            }
            Entry::Assistant { tool_calls, .. } => self.answered(tool_calls),
            Entry::ToolResult { name, text, status, .. } => self.result(name, text, *status),
            Entry::Announce { items } => {
                for item in items {
                    self.pending.remove(&item.run);
                    self.lines.extend(line(item));
                }
            }
            Entry::Notice { .. } => {}
        }
    }

    fn answered(&mut self, calls: &[ToolCall]) {
        if calls.is_empty() {
            self.done = self.script.directives.len();
        } else if let Some(done) = calls.iter().find_map(|call| directives_done(&call.id)) {
            self.done = done;
        }
        if calls.iter().any(|call| &*call.name == YIELD) {
            self.may_wait = false;
        }
        if calls.iter().any(|call| &*call.name != YIELD) {
            self.results.clear();
        }
    }

    fn result(&mut self, tool: &str, text: &'a str, status: ToolStatus) {
        if tool == YIELD {
            return;
        }
        self.results.push(text);
        if tool != SPAWN {
            return;
        }
        match SpawnResult::parse(text) {
            Some(SpawnResult { status, run, expects_result, .. }) if status == "accepted" => {
                if expects_result && let Some(run) = run.and_then(|run| run.parse().ok()) {
                    self.pending.insert(run);
                    self.may_wait = true;
                }
            }
            Some(SpawnResult { error: Some(error), hint: Some(hint), .. }) if !error.contains(&hint) => {
                self.lines.push(format!("{error} ({hint})"));
            }
            Some(SpawnResult { error: Some(error), .. }) => self.lines.push(error),
            _ if status == ToolStatus::Ok => {}
            _ => self.lines.push(text.to_owned()),
        }
    }

    fn next(self, may_yield: bool) -> Plan {
        let mut wait = Duration::ZERO;
        let directives = &self.script.directives;
        for (place, directive) in directives.iter().enumerate().skip(self.done) {
            let action = match directive {
                Directive::Wait(duration) => {
                    wait = wait.saturating_add(*duration);
                    continue;
                }
                Directive::Call { .. } => Action::Call(block(directives, place)),
                Directive::Fail { kind, reason } => Action::Fail { kind: *kind, reason: reason.clone() },
                Directive::Panic(reason) => Action::Panic(reason.clone()),
                #[cfg(feature = "faults")]
                Directive::Abort => Action::Abort,
            };
            return Plan { wait, action };
        }
        let action = if may_yield && self.may_wait && !self.pending.is_empty() {
            Action::Call(vec![call(directives.len(), 0, YIELD, "{}")])
        } else {
            let pieces = self.script.pieces.unwrap_or(1);
            Action::Reply { text: self.reply(), pieces }
        };
        Plan { wait, action }
    }

    fn reply(self) -> String {
        match self.script.reply {
            Some(text) => text,
            None if !self.lines.is_empty() => self.lines.join("\n"),
            None if !self.results.is_empty() => self.results.join("\n"),
            None if self.prompted => PLAIN_ANSWER.to_owned(),
            None => String::new(),
        }
    }
}

/// The calls that stand together from `start` on: one step.
fn block(directives: &[Directive], start: usize) -> Vec<ToolCall> {
    let calls: Vec<(&str, &str)> = directives
        .get(start..)
        .unwrap_or_default()
        .iter()
        .map_while(|directive| match directive {
            Directive::Call { tool, arguments } => Some((tool.as_str(), arguments.as_str())),
            _ => None,
        })
        .collect();
    let done = start + calls.len();
    calls.into_iter().enumerate().map(|(n, (tool, arguments))| call(done, n, tool, arguments)).collect()
}

fn call(done: usize, n: usize, tool: &str, arguments: &str) -> ToolCall {
    ToolCall { id: format!("rehearsal_{done}_{n}").into(), name: tool.into(), arguments: arguments.into() }
}

fn directives_done(id: &str) -> Option<usize> {
    id.strip_prefix("rehearsal_")?.split_once('_')?.0.parse().ok()
}

/// What a child's result adds to the reply.
fn line(item: &AnnounceItem) -> Option<String> {
    if item.state == Terminal::Ok {
        return item.text.clone();
    }
    let name = item.label.as_deref().unwrap_or(item.session.as_str());
    Some(match &item.reason {
        Some(reason) => format!("{name}: {}: {reason}", item.state),
        None => format!("{name}: {}", item.state),
    })
}

/// The result of `sessions_spawn`, as far as it matters here.
#[derive(Debug, Deserialize)]
struct SpawnResult {
    status: String,
    #[serde(rename = "runId", default)]
    run: Option<String>,
    #[serde(rename = "expectsCompletionMessage", default = "yes")]
    expects_result: bool,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    hint: Option<String>,
}

const fn yes() -> bool {
    true
}

impl SpawnResult {
    fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests;
