//! An open run as clients are told of it: what they have of its text, and the events that say so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use offshoot_actors::is_silent;
use offshoot_actors::ports::RunState;
use offshoot_actors::types::{ModelRef, Monotonic, Outcome, RunId, SessionKey, Timestamp, Usage};
use serde_json::{Value, json};

use super::payload::{Audience, Projected};
use crate::gateway::outbox::Lossy;
use crate::gateway::tasks::{Task, title};

/// Text of an open run that is kept to be shown as it comes, in bytes. What is beyond comes with the last event.
const MAX_TEXT: usize = 1024 * 1024;
/// Answers with which an agent says that it has nothing to say.
const SILENT: [&str; 2] = ["NO_REPLY", "ANNOUNCE_SKIP"];

/// The time of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) at: Timestamp,
    pub(super) monotonic: Monotonic,
}

/// A child's first run, which its parent waits for.
#[derive(Debug, Clone)]
pub(super) struct Spawned {
    pub(super) parent: SessionKey,
    pub(super) label: Option<String>,
    pub(super) depth: u32,
    pub(super) accepted: Timestamp,
    /// Whether the parent gets the result.
    pub(super) expected: bool,
    /// The first line of what it was asked.
    pub(super) task: Option<String>,
}

/// An open run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: RunId,
    /// What it is called on the wire.
    pub(super) name: Arc<str>,
    pub(super) session: SessionKey,
    pub(super) spawned: Option<Spawned>,
    pub(super) model: Option<ModelRef>,
    /// The number of its last `agent` event.
    pub(super) seq: Arc<AtomicU64>,
    pub(super) started: Option<Timestamp>,
    /// What the model said, of all steps.
    pub(super) text: String,
    /// Where the text of the step begins.
    pub(super) step: usize,
    /// Whether the step is over: what comes next begins a new one.
    pub(super) step_over: bool,
    /// How much of the text clients have.
    pub(super) sent: usize,
    /// Whether clients have text that is void.
    pub(super) replace: bool,
    /// Whether clients may have text of a daemon that is gone: what comes next replaces it.
    pub(super) resumed: bool,
    pub(super) text_at: Option<Monotonic>,
    /// The tool calls of the last answer, by their ids: name and arguments.
    pub(super) calls: BTreeMap<Arc<str>, (Arc<str>, Arc<str>)>,
    pub(super) usage: Usage,
}

impl Run {
    pub(super) fn new(id: RunId, name: Arc<str>, session: SessionKey, seq: Arc<AtomicU64>) -> Self {
        Self {
            id,
            name,
            session,
            spawned: None,
            model: None,
            seq,
            started: None,
            text: String::new(),
            step: 0,
            step_over: false,
            sent: 0,
            replace: false,
            resumed: false,
            text_at: None,
            calls: BTreeMap::new(),
            usage: Usage::default(),
        }
    }

    /// Another session comes in the place of its parent.
    pub(super) fn hand_over(&mut self, to: &SessionKey) {
        if let Some(spawned) = &mut self.spawned {
            spawned.parent.clone_from(to);
        }
    }

    /// What the newer generation is told with each event of a run.
    pub(super) fn newer(&self) -> Value {
        json!({
            "agentId": self.session.agent(),
            "spawnedBy": self.spawned.as_ref().map(|spawned| &spawned.parent),
        })
    }

    pub(super) fn agent(&mut self, stream: &'static str, data: &Value, now: Now) -> Projected {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed) + 1;
        let common = json!({
            "runId": self.name,
            "stream": stream,
            "data": data,
            "sessionKey": self.session,
            "seq": seq,
            "ts": now.at.0,
        });
        Projected::new("agent", Audience::Readers, Lossy::Needed, common).with_newer(self.newer())
    }

    pub(super) fn chat(&self, state: &'static str, lossy: Lossy, more: Value) -> Projected {
        let seq = self.seq.load(Ordering::Relaxed);
        let common = json!({ "runId": self.name, "sessionKey": self.session, "seq": seq, "state": state });
        let mut chat = Projected::new("chat", Audience::Readers, lossy, common).with_newer(self.newer());
        if let Value::Object(more) = more {
            chat.common.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
        chat
    }

    /// The session's row as far as this run changes it.
    pub(super) fn row(&self, status: &'static str, now: Now, ended: bool) -> Value {
        let mut row = json!({
            "key": self.session,
            "kind": "direct",
            "updatedAt": now.at.0,
            "status": status,
            "abortedLastRun": status == "killed",
        });
        let ran = self.started.filter(|_| ended).map(|started| (now.at - started).as_millis());
        let more = [
            ("startedAt", self.started.map(|started| json!(started.0))),
            ("endedAt", ended.then(|| json!(now.at.0))),
            ("runtimeMs", ran.map(|ran| json!(u64::try_from(ran).unwrap_or(u64::MAX)))),
            ("modelProvider", self.model.as_ref().map(|model| json!(model.provider()))),
            ("model", self.model.as_ref().map(|model| json!(model.model()))),
            ("spawnedBy", self.spawned.as_ref().map(|spawned| json!(spawned.parent))),
            ("spawnDepth", self.spawned.as_ref().map(|spawned| json!(spawned.depth))),
            ("label", self.spawned.as_ref().and_then(|spawned| Some(json!(spawned.label.as_ref()?)))),
        ];
        if let Value::Object(row) = &mut row {
            row.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        row
    }

    pub(super) fn changed(&self, about: Value, row: Value, now: Now) -> Projected {
        changed(&self.session, about, Some(row), now)
    }

    pub(super) fn subagent(&self, name: &'static str, more: Value, now: Now) -> Option<Projected> {
        let Spawned { parent, label, depth, .. } = self.spawned.as_ref()?;
        let common = json!({
            "runId": self.name,
            "sessionKey": self.session,
            "parentSessionKey": parent,
            "agentId": self.session.agent(),
            "label": label,
            "depth": depth,
            "ts": now.at.0,
        });
        let lossy = if name == "subagent.progress" { Lossy::Droppable } else { Lossy::Needed };
        let mut told = Projected::new(name, Audience::Readers, lossy, common);
        if let Value::Object(more) = more {
            told.common.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
        Some(told)
    }

    /// The task that a sub-agent's run is.
    pub(super) fn task(&self, outcome: Option<&Outcome>, now: Now) -> Option<Projected> {
        let Spawned { parent, label, accepted, expected, task, .. } = self.spawned.as_ref()?;
        let state = match outcome {
            Some(outcome) => RunState::Ended(outcome.state),
            None if self.started.is_some() => RunState::Running,
            None => RunState::Accepted,
        };
        let task = Task {
            run: self.id,
            name: &self.name,
            session: &self.session,
            owner: Some(parent),
            expects_completion: *expected,
            title: title(label.as_deref(), task.as_deref()),
            state,
            outcome,
            accepted_at: *accepted,
            started_at: self.started,
            ended_at: outcome.map(|_| now.at),
            stored: true,
        };
        let told = json!({ "action": "upserted", "task": task.summary() });
        Some(Projected::new("task", Audience::Readers, Lossy::Needed, told))
    }

    pub(super) fn push(&mut self, piece: &str) {
        if std::mem::take(&mut self.step_over) {
            if !self.text.is_empty() {
                self.text.push_str("\n\n");
            }
            self.step = self.text.len();
        }
        if self.text.len() + piece.len() <= MAX_TEXT {
            self.text.push_str(piece);
        }
    }

    /// The text since the step's beginning is void.
    pub(super) fn restart_step(&mut self) {
        if self.step_over {
            return;
        }
        self.text.truncate(self.step);
        if self.sent > self.text.len() {
            self.sent = self.text.len();
            self.replace = true;
        }
    }

    /// What clients have of a resumed run's step is void, also where the step said nothing the second time.
    pub(super) fn finish_step(&mut self) {
        self.step_over = true;
        self.replace |= std::mem::take(&mut self.resumed);
    }

    /// Up to where clients may have the text: what may become the sign of silence is held back until it is clear.
    fn clear(&self) -> usize {
        let step = self.text.get(self.step..).unwrap_or_default().trim();
        let quiet = SILENT.iter().any(|silent| silent.starts_with(step));
        if quiet { self.sent } else { self.text.len() }
    }

    /// Gives clients the text that they do not have.
    pub(super) fn flush(&mut self, now: Now, tell: &mut dyn FnMut(Projected)) {
        let clear = self.clear();
        if !self.replace && self.sent >= clear {
            return;
        }
        let replace = std::mem::take(&mut self.replace) | std::mem::take(&mut self.resumed);
        let from = |begin: usize| self.text.get(begin..clear).unwrap_or_default().to_owned();
        let (whole, fresh) = (from(0), from(self.sent));
        let (step, delta) = (from(self.step), from(self.sent.max(self.step)));
        self.sent = clear;
        self.text_at = Some(now.monotonic);
        let mut data = json!({ "text": step, "delta": delta });
        if replace && let Value::Object(data) = &mut data {
            data.insert("replace".to_owned(), true.into());
        }
        let assistant = self.agent("assistant", &data, now);
        tell(assistant);
        let mut chat = self.chat("delta", Lossy::Droppable, json!({ "message": said(&whole, now) }));
        chat.newer.insert("deltaText".to_owned(), if replace { whole } else { fresh }.into());
        if replace {
            chat.newer.insert("replace".to_owned(), true.into());
        }
        tell(chat);
    }
}

/// An assistant's message that is on its way.
pub(super) fn said(text: &str, now: Now) -> Value {
    json!({ "role": "assistant", "content": [{ "type": "text", "text": text }], "timestamp": now.at.0 })
}

/// What an agent says as its final answer; none where it says that it has nothing to say.
pub(super) fn spoken(text: Option<&String>) -> Option<&String> {
    text.filter(|text| !text.trim().is_empty() && !is_silent(text))
}

pub(super) fn changed(session: &SessionKey, about: Value, row: Option<Value>, now: Now) -> Projected {
    let mut told = Projected::new(
        "sessions.changed",
        Audience::Followers,
        Lossy::Droppable,
        json!({ "sessionKey": session, "ts": now.at.0 }),
    )
    .with_newer(json!({ "agentId": session.agent() }));
    if let Some(Value::Object(row)) = row {
        // Clients of the first generation read the members beside the row, later ones the row.
        told.common
            .extend(row.iter().filter(|(name, _)| *name != "key").map(|(n, v)| (n.clone(), v.clone())));
        told.common.insert("session".to_owned(), Value::Object(row));
    }
    if let Value::Object(about) = about {
        told.common.extend(about.into_iter().filter(|(_, value)| !value.is_null()));
    }
    told
}

/// A tool event goes to those who started the run, and as one of the session to those who follow all sessions.
pub(super) fn tool_event(run: &mut Run, data: &Value, now: Now, tell: &mut dyn FnMut(Projected)) {
    let starters = Audience::Starter(Arc::clone(&run.name));
    let event = Projected { audience: starters, ..run.agent("tool", data, now) };
    let mut session = Projected::new("session.tool", Audience::Followers, Lossy::Droppable, Value::Null);
    session.common = event.common.clone();
    session.newer = event.newer.clone();
    tell(event);
    tell(session);
}
