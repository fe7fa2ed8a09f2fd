//! From the tree's events to the protocol's. Values in, values out: no clock, no socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::is_silent;
use offshoot_actors::ports::{Cause, Event, RunRow};
use offshoot_actors::types::{
    Accepted, Entry, ModelRef, Monotonic, Outcome, RunId, SessionKey, StoredEntry, Terminal, Timestamp,
    ToolStatus, Usage,
};
use serde_json::{Value, json};

use super::payload::{Audience, Projected};
use crate::gateway::messages;
use crate::gateway::outbox::Lossy;
use crate::gateway::runs::wire_name;
use crate::gateway::states::{self, Ending};

/// Text of one run goes out at most this often.
pub(super) const TEXT_EVERY: Duration = Duration::from_millis(150);
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
struct Spawned {
    parent: SessionKey,
    label: Option<String>,
    depth: u32,
}

/// An open run.
#[derive(Debug)]
struct Run {
    id: RunId,
    /// What it is called on the wire.
    name: Arc<str>,
    session: SessionKey,
    spawned: Option<Spawned>,
    model: Option<ModelRef>,
    /// The number of its last `agent` event.
    seq: u64,
    started: Option<Timestamp>,
    /// What the model said, of all steps.
    text: String,
    /// Where the text of the step begins.
    step: usize,
    /// Whether the step is over: what comes next begins a new one.
    step_over: bool,
    /// How much of the text clients have.
    sent: usize,
    /// Whether clients have text that is void.
    replace: bool,
    text_at: Option<Monotonic>,
    /// The tool calls of the last answer, by their ids: name and arguments.
    calls: BTreeMap<Arc<str>, (Arc<str>, Arc<str>)>,
    usage: Usage,
}

impl Run {
    fn new(id: RunId, name: Arc<str>, session: SessionKey) -> Self {
        Self {
            id,
            name,
            session,
            spawned: None,
            model: None,
            seq: 0,
            started: None,
            text: String::new(),
            step: 0,
            step_over: false,
            sent: 0,
            replace: false,
            text_at: None,
            calls: BTreeMap::new(),
            usage: Usage::default(),
        }
    }

    /// What the newer generation is told with each event of a run.
    fn newer(&self) -> Value {
        json!({
            "agentId": self.session.agent(),
            "spawnedBy": self.spawned.as_ref().map(|spawned| &spawned.parent),
        })
    }

    fn agent(&mut self, stream: &'static str, data: &Value, now: Now) -> Projected {
        self.seq += 1;
        let common = json!({
            "runId": self.name,
            "stream": stream,
            "data": data,
            "sessionKey": self.session,
            "seq": self.seq,
            "ts": now.at.0,
        });
        Projected::new("agent", Audience::Readers, Lossy::Needed, common).with_newer(self.newer())
    }

    fn chat(&self, state: &'static str, lossy: Lossy, more: Value) -> Projected {
        let common =
            json!({ "runId": self.name, "sessionKey": self.session, "seq": self.seq, "state": state });
        let mut chat = Projected::new("chat", Audience::Readers, lossy, common).with_newer(self.newer());
        if let Value::Object(more) = more {
            chat.common.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
        chat
    }

    /// The session's row as far as this run changes it.
    fn row(&self, status: &'static str, now: Now, ended: bool) -> Value {
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

    fn changed(&self, about: Value, row: Value, now: Now) -> Projected {
        changed(&self.session, about, Some(row), now)
    }

    fn subagent(&self, name: &'static str, more: Value, now: Now) -> Option<Projected> {
        let Spawned { parent, label, depth } = self.spawned.as_ref()?;
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

    fn push(&mut self, piece: &str) {
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
    fn restart_step(&mut self) {
        if self.step_over {
            return;
        }
        self.text.truncate(self.step);
        if self.sent > self.text.len() {
            self.sent = self.text.len();
            self.replace = true;
        }
    }

    fn has_news(&self) -> bool {
        let step = self.text.get(self.step..).unwrap_or_default();
        // What may become the sign of silence is held back until it is clear.
        let step = step.trim();
        let quiet = SILENT.iter().any(|silent| silent.starts_with(step));
        self.replace || self.sent < self.text.len() && !quiet
    }

    /// Gives clients the text that they do not have.
    fn flush(&mut self, now: Now, tell: &mut dyn FnMut(Projected)) {
        if !self.has_news() {
            return;
        }
        let replace = std::mem::take(&mut self.replace);
        let fresh = self.text.get(self.sent..).unwrap_or_default().to_owned();
        let step = self.text.get(self.step..).unwrap_or_default().to_owned();
        let delta = self.text.get(self.sent.max(self.step)..).unwrap_or_default().to_owned();
        self.sent = self.text.len();
        self.text_at = Some(now.monotonic);
        let mut data = json!({ "text": step, "delta": delta });
        if replace && let Value::Object(data) = &mut data {
            data.insert("replace".to_owned(), true.into());
        }
        let assistant = self.agent("assistant", &data, now);
        tell(assistant);
        let mut chat = self.chat("delta", Lossy::Droppable, json!({ "message": said(&self.text, now) }));
        chat.newer.insert("deltaText".to_owned(), if replace { self.text.clone() } else { fresh }.into());
        if replace {
            chat.newer.insert("replace".to_owned(), true.into());
        }
        tell(chat);
    }
}

/// An assistant's message that is on its way.
fn said(text: &str, now: Now) -> Value {
    json!({ "role": "assistant", "content": [{ "type": "text", "text": text }], "timestamp": now.at.0 })
}

/// What an agent says as its final answer; none where it says that it has nothing to say.
fn spoken(text: Option<&String>) -> Option<&String> {
    text.filter(|text| !text.trim().is_empty() && !is_silent(text))
}

fn changed(session: &SessionKey, about: Value, row: Option<Value>, now: Now) -> Projected {
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

/// What is known of the open runs.
#[derive(Debug, Default)]
pub(super) struct Projection {
    runs: BTreeMap<RunId, Run>,
    /// Runs whose text is held back, by the time at which it is due.
    due: BTreeSet<(Monotonic, RunId)>,
}

impl Projection {
    /// A run that was open before this began.
    pub(super) fn resume(&mut self, row: &RunRow) {
        let mut run = Run::new(row.id, wire_name(row).into(), row.session.clone());
        run.started = row.started_at;
        run.model = row.model_used.clone();
        if row.cause == Cause::Spawn
            && let Some(parent) = row.announce_to.clone()
        {
            run.spawned = Some(Spawned { parent, label: None, depth: 1 });
        }
        self.runs.insert(row.id, run);
    }

    /// How many runs it knows.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.runs.len() + self.due.len()
    }

    /// When the next text is due that is held back.
    pub(super) fn next_due(&self) -> Option<Monotonic> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Gives clients the text that is due.
    pub(super) fn flush_due(&mut self, now: Now, tell: &mut dyn FnMut(Projected)) {
        while let Some((due, run)) = self.due.first().copied().filter(|(due, _)| *due <= now.monotonic) {
            self.due.remove(&(due, run));
            if let Some(run) = self.runs.get_mut(&run) {
                run.flush(now, tell);
            }
        }
    }

    /// Takes an event and tells what clients are to hear of it. `name` is what a run is called on the wire.
    pub(super) fn take(
        &mut self,
        event: Event,
        now: Now,
        name: &dyn Fn(RunId) -> Arc<str>,
        tell: &mut dyn FnMut(Projected),
    ) {
        match event {
            Event::Spawned { parent, child, label, .. } => self.spawned(parent, &child, label, now, tell),
            Event::Submitted { session, run, cause, .. } => {
                let run = self.run(run, &session, name);
                if cause == Cause::Message {
                    tell(changed(&session, json!({ "reason": "send", "runId": run.name }), None, now));
                }
            }
            Event::Started { session, run } => {
                let run = self.run(run, &session, name);
                // One that goes on after it waited for its children has started before.
                if run.started.is_none() {
                    run.started = Some(now.at);
                    tell(run.agent("lifecycle", &json!({ "phase": "start", "startedAt": now.at.0 }), now));
                    let about = json!({ "phase": "start", "runId": run.name });
                    tell(run.changed(about, run.row("running", now, false), now));
                    run.subagent("subagent.started", json!({}), now).into_iter().for_each(tell);
                }
            }
            Event::Text { session, run, piece } => {
                let run = self.run(run, &session, name);
                run.push(&piece);
                let (id, last) = (run.id, run.text_at);
                match last.map(|last| last + TEXT_EVERY).filter(|due| *due > now.monotonic) {
                    Some(due) => drop(self.due.insert((due, id))),
                    None => self.flush(id, now, tell),
                }
            }
            Event::StepRestarted { session, run, .. } => self.run(run, &session, name).restart_step(),
            Event::StepFinished { session, run, step, usage } => {
                let id = run;
                let run = self.run(run, &session, name);
                run.step_over = true;
                run.usage = usage;
                let progress = json!({ "step": step, "usage": messages::tokens(usage) });
                let progress = run.subagent("subagent.progress", progress, now);
                self.flush(id, now, tell);
                progress.into_iter().for_each(tell);
            }
            Event::ToolStarted { session, run, call, name: tool } => {
                self.flush(run, now, tell);
                let run = self.run(run, &session, name);
                let known = run.calls.get(&call).map(|(_, arguments)| Arc::clone(arguments));
                let arguments = known.as_deref().unwrap_or("{}");
                let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments));
                let data = json!({ "phase": "start", "name": tool, "toolCallId": call, "args": arguments });
                run.calls.entry(call).or_insert_with(|| (Arc::clone(&tool), "{}".into()));
                tool_event(run, &data, now, tell);
                run.subagent("subagent.progress", json!({ "tool": tool }), now).into_iter().for_each(tell);
            }
            Event::ToolFinished { session, run, call, status } => {
                let run = self.run(run, &session, name);
                let tool = run.calls.remove(&call).map(|(tool, _)| tool);
                let is_error = status != ToolStatus::Ok;
                let data =
                    json!({ "phase": "result", "name": tool, "toolCallId": call, "isError": is_error });
                tool_event(run, &data, now, tell);
            }
            Event::Appended { session, entries } => {
                for entry in entries {
                    self.appended(&session, &entry, now, name, tell);
                }
            }
            Event::Ended { session, run, outcome, usage, steps } => {
                self.run(run, &session, name);
                self.ended(run, &outcome, usage, steps, now, tell);
            }
            Event::Refused { .. } | Event::Yielded { .. } | Event::Announced { .. } | Event::Pairing(_) => {}
        }
    }

    fn run(&mut self, id: RunId, session: &SessionKey, name: &dyn Fn(RunId) -> Arc<str>) -> &mut Run {
        self.runs.entry(id).or_insert_with(|| Run::new(id, name(id), session.clone()))
    }

    fn flush(&mut self, id: RunId, now: Now, tell: &mut dyn FnMut(Projected)) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        if let Some(last) = run.text_at {
            self.due.remove(&(last + TEXT_EVERY, id));
        }
        run.flush(now, tell);
    }

    fn spawned(
        &mut self,
        parent: SessionKey,
        child: &Accepted,
        label: Option<String>,
        now: Now,
        tell: &mut dyn FnMut(Projected),
    ) {
        let Accepted { run, session, model, depth, mode, .. } = child;
        let mut run = Run::new(*run, run.to_string().into(), session.clone());
        run.model = Some(model.primary.clone());
        run.spawned = Some(Spawned { parent, label, depth: *depth });
        let more = json!({ "mode": mode, "model": model.primary });
        run.subagent("subagent.spawned", more, now).into_iter().for_each(&mut *tell);
        tell(run.changed(json!({ "reason": "create" }), run.row("running", now, false), now));
        self.runs.insert(run.id, run);
    }

    fn appended(
        &mut self,
        session: &SessionKey,
        entry: &Arc<StoredEntry>,
        now: Now,
        name: &dyn Fn(RunId) -> Arc<str>,
        tell: &mut dyn FnMut(Projected),
    ) {
        let run = entry.run.and_then(|id| self.runs.get_mut(&id));
        if let (Some(run), Entry::Assistant { tool_calls, model, .. }) = (run, &entry.entry) {
            run.model = Some(model.clone());
            run.calls = tool_calls
                .iter()
                .map(|call| (Arc::clone(&call.id), (Arc::clone(&call.name), Arc::clone(&call.arguments))))
                .collect();
        }
        if entry.seq == 0 && !session.is_subagent() {
            tell(changed(session, json!({ "reason": "create" }), None, now));
        }
        let row = entry.run.and_then(|id| self.runs.get(&id)).map(|run| run.row("running", now, false));
        let (id, seq) = (messages::id(entry), messages::seq(entry));
        let mut message = Projected::new(
            "session.message",
            Audience::Listeners(session.clone()),
            Lossy::Droppable,
            json!({ "sessionKey": session, "messageId": id, "messageSeq": seq }),
        )
        .with_newer(json!({ "agentId": session.agent() }));
        if let Some(Value::Object(row)) = row.clone() {
            let beside = row.iter().filter(|(name, _)| *name != "key").map(|(n, v)| (n.clone(), v.clone()));
            message.common.extend(beside);
            message.common.insert("session".to_owned(), Value::Object(row));
        }
        message.entry = Some((Arc::clone(entry), entry.run.map(name)));
        tell(message);
        if let Entry::Assistant { text, model, .. } = &entry.entry
            && *model == ModelRef::injected()
        {
            let common = json!({
                "runId": format!("inject-{id}"),
                "sessionKey": session,
                "seq": 0,
                "state": "final",
                "message": said(text, now),
            });
            let chat = Projected::new("chat", Audience::Readers, Lossy::Needed, common);
            tell(chat.with_newer(json!({ "agentId": session.agent() })));
        }
        let about = json!({ "phase": "message", "messageId": id, "messageSeq": seq });
        tell(changed(session, about, row, now));
    }

    fn ended(
        &mut self,
        id: RunId,
        outcome: &Outcome,
        usage: Usage,
        steps: u32,
        now: Now,
        tell: &mut dyn FnMut(Projected),
    ) {
        self.flush(id, now, tell);
        let Some(mut run) = self.runs.remove(&id) else { return };
        let Ending { phase, chat, session, error_kind, .. } = Ending::of(outcome.state);
        let (reason, aborted) = (states::reason(outcome), outcome.state == Terminal::Cancelled);
        let started = run.started.map(|started| started.0);
        let data = if phase == "error" {
            json!({ "phase": phase, "error": reason, "startedAt": started, "endedAt": now.at.0 })
        } else {
            json!({ "phase": phase, "startedAt": started, "endedAt": now.at.0, "aborted": aborted,
                "stopReason": outcome.reason })
        };
        let data = match data {
            Value::Object(data) => {
                Value::Object(data.into_iter().filter(|(_, value)| !value.is_null()).collect())
            }
            other => other,
        };
        tell(run.agent("lifecycle", &data, now));
        let message = spoken(outcome.text.as_ref()).map(|text| said(text, now));
        let more = match chat {
            "error" => json!({ "errorMessage": reason, "errorKind": error_kind, "message": message }),
            "aborted" => json!({ "message": message, "stopReason": "rpc" }),
            _ => {
                json!({ "message": message, "stopReason": outcome.reason, "usage": messages::tokens(usage) })
            }
        };
        tell(run.chat(chat, Lossy::Needed, more));
        let (phase, row) = (if phase == "end" { "end" } else { "error" }, run.row(session, now, true));
        tell(run.changed(json!({ "phase": phase, "runId": run.name }), row.clone(), now));
        if aborted {
            tell(run.changed(json!({ "reason": "abort", "runId": run.name }), row.clone(), now));
        }
        if let Some(Spawned { parent, .. }) = &run.spawned {
            let about = json!({ "reason": "subagent-status", "parentSessionKey": parent });
            tell(run.changed(about, row, now));
        }
        let more = json!({
            "state": outcome.state,
            "reason": outcome.reason,
            "text": outcome.text,
            "usage": messages::tokens(usage),
            "steps": steps,
            "startedAt": started,
            "endedAt": now.at.0,
        });
        run.subagent("subagent.ended", more, now).into_iter().for_each(tell);
    }
}

/// A tool event goes to those who started the run, and as one of the session to those who follow all sessions.
fn tool_event(run: &mut Run, data: &Value, now: Now, tell: &mut dyn FnMut(Projected)) {
    let starters = Audience::Starter(Arc::clone(&run.name));
    let event = Projected { audience: starters, ..run.agent("tool", data, now) };
    let mut session = Projected::new("session.tool", Audience::Followers, Lossy::Droppable, Value::Null);
    session.common = event.common.clone();
    session.newer = event.newer.clone();
    tell(event);
    tell(session);
}
