//! From the tree's events to the protocol's. Values in, values out: no clock, no socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use offshoot_actors::ports::{Cause, Event, RunRow, SessionRow};
use offshoot_actors::types::{
    Accepted, Entry, ModelRef, Monotonic, Outcome, RunId, SessionKey, StoredEntry, Terminal, ToolStatus,
    Usage,
};
use serde_json::{Value, json};

use super::payload::{Audience, Projected};
use super::run::{Now, Run, Spawned, changed, said, spoken, tool_event};
use super::told::Told;
use crate::gateway::messages;
use crate::gateway::outbox::Lossy;
use crate::gateway::runs::wire_name;
use crate::gateway::states::{self, Ending};
use crate::gateway::tasks::title;

/// Text of one run goes out at most this often.
pub(super) const TEXT_EVERY: Duration = Duration::from_millis(150);

/// What is known of the open runs.
#[derive(Debug, Default)]
pub(super) struct Projection {
    runs: BTreeMap<RunId, Run>,
    /// Runs whose text is held back, by the time at which it is due.
    due: BTreeSet<(Monotonic, RunId)>,
    told: Arc<Told>,
    /// Runs whose end was told from the store: what still comes of them is old.
    over: BTreeSet<RunId>,
}

impl Projection {
    pub(super) fn new(told: Arc<Told>) -> Self {
        Self { told, ..Self::default() }
    }

    /// Tells the end of a run that ended while nobody told of it.
    pub(super) fn tell_missed_end(&mut self, row: &RunRow, now: Now, tell: &mut dyn FnMut(Projected)) {
        let Some(outcome) = &row.outcome else { return };
        self.over.insert(row.id);
        let now = Now { at: row.ended_at.unwrap_or(now.at), ..now };
        self.ended(row.id, outcome, row.usage, row.steps, now, tell);
    }

    /// A run that was open before this began. `session` is a sub-agent's, `task` what it was asked.
    pub(super) fn resume(&mut self, row: &RunRow, session: Option<&SessionRow>, task: Option<&str>) {
        let mut run = Run::new(row.id, wire_name(row).into(), row.session.clone(), self.told.number(row.id));
        run.started = row.started_at;
        run.model = row.model_used.clone();
        // Nothing was told of it here: what clients have of its text is from before a restart.
        run.resumed = row.started_at.is_some() && run.seq.load(Ordering::Relaxed) == 0;
        if row.cause == Cause::Spawn
            && let Some(session) = session
            && let Some(parent) = session.parent.clone()
        {
            run.spawned = Some(Spawned {
                parent,
                label: session.label.clone(),
                depth: session.depth,
                accepted: row.accepted_at,
                expected: row.expects_completion,
                task: task.map(str::to_owned),
            });
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

    /// Takes an event and tells what clients are to hear of it. `name` is what a run is called on the wire. What a run
    /// does is told from its beginning to its end: on several threads a tool may begin or end in the moment in which
    /// its run is cancelled, and be told of afterwards.
    pub(super) fn take(
        &mut self,
        event: Event,
        now: Now,
        name: &dyn Fn(RunId) -> Arc<str>,
        tell: &mut dyn FnMut(Projected),
    ) {
        if let Some(run) = event.run()
            && self.over.contains(&run)
        {
            if matches!(event, Event::Ended { .. }) {
                self.over.remove(&run);
            }
            return;
        }
        match event {
            Event::Spawned { parent, child, label, task, .. } => {
                self.spawned(parent, &child, label, &task, now, tell);
            }
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
                    run.subagent("subagent.started", json!({}), now).into_iter().for_each(&mut *tell);
                    run.task(None, now).into_iter().for_each(tell);
                }
            }
            Event::Text { run, piece, .. } => {
                let Some(run) = self.runs.get_mut(&run) else { return };
                run.push(&piece);
                let (id, last) = (run.id, run.text_at);
                match last.map(|last| last + TEXT_EVERY).filter(|due| *due > now.monotonic) {
                    Some(due) => drop(self.due.insert((due, id))),
                    None => self.flush(id, now, tell),
                }
            }
            Event::StepRestarted { run, .. } => {
                let Some(run) = self.runs.get_mut(&run) else { return };
                run.restart_step();
            }
            Event::StepFinished { run, step, usage, .. } => {
                let id = run;
                let Some(run) = self.runs.get_mut(&run) else { return };
                run.finish_step();
                run.usage = usage;
                let progress = json!({ "step": step, "usage": messages::tokens(usage) });
                let progress = run.subagent("subagent.progress", progress, now);
                self.flush(id, now, tell);
                progress.into_iter().for_each(tell);
            }
            Event::ToolStarted { run, call, name: tool, .. } => {
                self.flush(run, now, tell);
                let Some(run) = self.runs.get_mut(&run) else { return };
                let known = run.calls.get(&call).map(|(_, arguments)| Arc::clone(arguments));
                let arguments = known.as_deref().unwrap_or("{}");
                let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments));
                let data = json!({ "phase": "start", "name": tool, "toolCallId": call, "args": arguments });
                run.calls.entry(call).or_insert_with(|| (Arc::clone(&tool), "{}".into()));
                tool_event(run, &data, now, tell);
                run.subagent("subagent.progress", json!({ "tool": tool }), now).into_iter().for_each(tell);
            }
            Event::ToolFinished { run, call, status, .. } => {
                let Some(run) = self.runs.get_mut(&run) else { return };
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
            Event::Moved { session, to, .. } => {
                let waited_for = self.runs.values_mut().filter(|run| run.session == session);
                if let Some(to) = &to {
                    waited_for.for_each(|run| run.hand_over(to));
                }
                let about = json!({ "reason": "moved", "parentSessionKey": to });
                tell(changed(&session, about, None, now));
            }
            Event::Refused { .. }
            | Event::StepStarted { .. }
            | Event::Yielded { .. }
            | Event::Announced { .. }
            | Event::Noted(_)
            | Event::Pairing(_)
            | Event::Watched(_) => {}
        }
    }

    fn run(&mut self, id: RunId, session: &SessionKey, name: &dyn Fn(RunId) -> Arc<str>) -> &mut Run {
        let told = &self.told;
        self.runs.entry(id).or_insert_with(|| Run::new(id, name(id), session.clone(), told.number(id)))
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
        task: &StoredEntry,
        now: Now,
        tell: &mut dyn FnMut(Projected),
    ) {
        let Accepted { run, session, model, depth, mode, expects_completion, .. } = child;
        let mut run = Run::new(*run, run.to_string().into(), session.clone(), self.told.number(*run));
        run.model = Some(model.primary.clone());
        let (accepted, expected) = (now.at, *expects_completion);
        let task = match &task.entry {
            Entry::User { text, .. } => title(None, Some(text)).map(str::to_owned),
            _ => None,
        };
        run.spawned = Some(Spawned { parent, label, depth: *depth, accepted, expected, task });
        let more = json!({ "mode": mode, "model": model.primary });
        run.subagent("subagent.spawned", more, now).into_iter().for_each(&mut *tell);
        run.task(None, now).into_iter().for_each(&mut *tell);
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
        run.subagent("subagent.ended", more, now).into_iter().for_each(&mut *tell);
        run.task(Some(outcome), now).into_iter().for_each(tell);
        self.told.end(id);
    }
}
