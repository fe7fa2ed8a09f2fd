//! `offshoot runs tail`: a run as it goes on, until it ends.
//!
//! What is committed is read from the store, so that nothing is told twice or left out, whoever executes the run. What is
//! not yet, the text of a step that is being written, comes from the gateway, if it is one that executes the run.

use std::time::Duration;

use offshoot_actors::ports::{ListFilter, Page, RunRow, Storage};
use offshoot_actors::types::{Entry, Scope, StoredEntry, Timestamp};
use serde_json::json;

use super::super::abandoned;
use super::super::args::ReachArgs;
use super::super::exit::{Exit, Failure};
use super::super::names::RunName;
use super::super::output::{Output, elapsed, note, one_line, tokens};
use super::super::spawn::say_why;
use super::super::watch::{Heard, Link, Wants};
use super::super::{Global, daemon, transcript, view};
use super::{list, unknown};
use crate::client::Event;
use crate::runtime;
use crate::store::SqliteStorage;

/// Between two looks at the store while nothing is heard.
const LOOK: Duration = Duration::from_millis(250);
/// Entries that are read at once.
const PAGE: u32 = 500;
/// Children that are named at the beginning.
const MAX_CHILDREN: u32 = 1_000;
/// Longest argument, result or reason in a line, in characters.
const MAX_WORDS: usize = 200;

pub(super) async fn run(name: RunName, global: &Global) -> Result<Exit, Failure> {
    let storage = global.read_store()?;
    let id = name.find(storage.as_ref()).await?;
    let storage = storage.ok_or_else(|| unknown(id))?;
    let row = storage.run(id).await?.ok_or_else(|| unknown(id))?;
    let by_gateway = row.state.is_open() && daemon::gateway(global)?.is_some();
    let mut tail = Tail::new(row, storage, global);
    if !by_gateway {
        return tokio::select! {
            followed = tail.follow_alone() => followed,
            _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
        };
    }
    let reach = ReachArgs { url: None, token: None, tls_fingerprint: None, timeout: None };
    let wants = Wants { scopes: vec![Scope::Read], tree: None, sessions: true };
    let (link, _asks, mut heard) = Link::new(&reach, wants, global);
    let followed = async {
        // Text that is written meanwhile is heard.
        if let Some(first) = heard.recv().await {
            tail.take(first)?;
        }
        tail.begin().await?;
        loop {
            if let Some(exit) = tail.look().await? {
                return Ok(exit);
            }
            tokio::select! {
                Some(word) = heard.recv() => {
                    tail.take(word)?;
                    while let Ok(word) = heard.try_recv() {
                        tail.take(word)?;
                    }
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    };
    tokio::select! {
        failed = link.run() => failed.map(|never| match never {}),
        followed = followed => followed,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

struct Tail<'a> {
    global: &'a Global,
    output: Output,
    storage: SqliteStorage,
    row: RunRow,
    /// What the run is called in events.
    name: String,
    /// The first entry of the session that was not read.
    next: u64,
    text: Streamed,
    away: bool,
}

impl<'a> Tail<'a> {
    fn new(row: RunRow, storage: SqliteStorage, global: &'a Global) -> Self {
        let name = row.wire_id.as_ref().map_or_else(|| row.id.to_string(), ToString::to_string);
        let output = global.output;
        Self { global, output, storage, row, name, next: 0, text: Streamed::default(), away: false }
    }

    /// Follows a run that no gateway executes: one that has ended, or one of another command.
    async fn follow_alone(&mut self) -> Result<Exit, Failure> {
        self.begin().await?;
        loop {
            if let Some(exit) = self.look().await? {
                return Ok(exit);
            }
            let rows = std::slice::from_mut(&mut self.row);
            let idle = abandoned::among(rows, &self.storage, self.global).await?;
            let state = abandoned::state(&self.row, &idle);
            if self.row.state.is_open() && state != self.row.state.as_str() {
                abandoned::tell(&idle);
                let text = format!("run {} is {state}: nobody executes it", self.row.id);
                return Err(Failure::new(Exit::Unavailable, "not_running", text));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Tells what there was.
    async fn begin(&mut self) -> Result<(), Failure> {
        let now = runtime::clock().now();
        if self.output.json {
            let run = list::document(&self.row, &abandoned::Idle::default(), now);
            self.output.json_line(&json!({"event": "run", "payload": run}))?;
        } else {
            let (run, session) = (self.row.id, &self.row.session);
            let head =
                format!("run {run} in {session}, {}, {}", self.row.state.as_str(), view::model(&self.row));
            self.output.line(self.output.paint.dim(head))?;
        }
        self.read().await?;
        let filter = ListFilter { announce_to: Some(self.row.session.clone()), ..ListFilter::default() };
        let mut children = self.storage.list_runs(filter, Page { offset: 0, limit: MAX_CHILDREN }).await?;
        children.retain(|child| child.spawner == Some(self.row.id));
        for child in children.iter().rev() {
            if self.output.json {
                let run = list::document(child, &abandoned::Idle::default(), now);
                self.output.json_line(&json!({"event": "child", "payload": run}))?;
            } else {
                let session = self.storage.session(child.session.clone()).await?;
                let label = session.and_then(|session| session.label).unwrap_or_default();
                self.child(child.session.as_str(), child.state.as_str(), &label)?;
            }
        }
        Ok(())
    }

    /// Tells what was committed since the last look, and how the run ended if it did.
    async fn look(&mut self) -> Result<Option<Exit>, Failure> {
        let id = self.row.id;
        // The row first: what it ended with is committed before or with its end.
        self.row = self.storage.run(id).await?.ok_or_else(|| unknown(id))?;
        self.read().await?;
        let Some(outcome) = self.row.outcome.clone() else { return Ok(None) };
        self.end_text()?;
        let now = runtime::clock().now();
        if self.output.json {
            let run = list::document(&self.row, &abandoned::Idle::default(), now);
            self.output.json_line(&json!({"event": "ended", "payload": run}))?;
        } else {
            let took = view::duration(&self.row, now).map(|took| format!(" after {}", elapsed(took)));
            let steps =
                if self.row.steps == 1 { "1 step".to_owned() } else { format!("{} steps", self.row.steps) };
            let paint = self.output.paint;
            let (state, took) = (paint.state(outcome.state.as_str()), took.unwrap_or_default());
            self.output.line(format_args!("ended as {state}{took}, {steps}, {}", tokens(self.row.usage)))?;
        }
        say_why(&self.row, &outcome);
        Ok(Some(Exit::of(outcome.state)))
    }

    async fn read(&mut self) -> Result<(), Failure> {
        loop {
            let page = self.storage.entries(self.row.session.clone(), self.next, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            self.next = last.seq.saturating_add(1);
            let now = runtime::clock().now();
            let run = self.row.id;
            for entry in page.iter().filter(|entry| entry.run == Some(run)) {
                self.entry(entry, now)?;
            }
        }
    }

    fn entry(&mut self, entry: &StoredEntry, now: Timestamp) -> Result<(), Failure> {
        if self.output.json {
            return self.output.json_line(&json!({"event": "entry", "payload": transcript::json(entry)}));
        }
        match &entry.entry {
            Entry::Assistant { text, tool_calls, .. } => {
                let rest = self.text.committed(text);
                self.output.piece(&rest)?;
                self.end_text()?;
                for call in tool_calls {
                    let (name, arguments) =
                        (one_line(&call.name, MAX_WORDS), one_line(&call.arguments, MAX_WORDS));
                    self.output.line(format_args!("{} {name} {arguments}", self.output.paint.bold("→")))?;
                }
                Ok(())
            }
            Entry::ToolResult { name, text, status, .. } => {
                let status = format!("{status:?}").to_lowercase();
                let (name, text) = (one_line(name, MAX_WORDS), one_line(text, MAX_WORDS));
                self.output.line(format_args!("{} {name} ({status}) {text}", self.output.paint.bold("←")))
            }
            Entry::User { .. } | Entry::Announce { .. } | Entry::Notice { .. } => {
                self.end_text()?;
                let lines = transcript::lines(entry, now, self.output.paint);
                lines.iter().try_for_each(|line| self.output.line(line))
            }
        }
    }

    fn take(&mut self, heard: Heard) -> Result<(), Failure> {
        match heard {
            Heard::Event(event) => self.event(&event),
            Heard::Lost(failure) if !self.away => {
                self.away = true;
                self.end_text()?;
                note(format_args!("{}; waiting for it to come back", one_line(&failure.message, MAX_WORDS)));
                Ok(())
            }
            Heard::Here(_) if self.away => {
                self.away = false;
                note("the gateway is back");
                Ok(())
            }
            Heard::Lost(_) | Heard::Here(_) | Heard::Answer(..) => Ok(()),
        }
    }

    fn event(&mut self, event: &Event) -> Result<(), Failure> {
        let payload = &event.payload;
        let ours = payload["runId"] == self.name.as_str();
        let childs = payload["parentSessionKey"] == self.row.session.as_str();
        match event.name.as_str() {
            "agent" | "session.tool" if !ours => return Ok(()),
            "subagent.spawned" | "subagent.started" | "subagent.progress" | "subagent.ended"
                if !ours && !childs =>
            {
                return Ok(());
            }
            name if name == "agent" || name == "session.tool" || name.starts_with("subagent.") => {}
            _ => return Ok(()),
        }
        if self.output.json {
            let document = json!({"event": event.name, "payload": payload, "seq": event.seq});
            return self.output.json_line(&document);
        }
        let said = |name: &str| payload[name].as_str().unwrap_or_default();
        match event.name.as_str() {
            "agent" if payload["stream"] == "assistant" => {
                let text = payload["data"]["text"].as_str().unwrap_or_default();
                let (again, fresh) = self.text.streamed(text);
                if again {
                    self.output.line("")?;
                    self.output.line(self.output.paint.dim("(the step began again)"))?;
                }
                self.output.piece(&fresh)
            }
            "subagent.spawned" | "subagent.started" if childs => {
                let what = event.name.trim_start_matches("subagent.");
                self.child(said("sessionKey"), what, said("label"))
            }
            "subagent.ended" if childs => self.child(said("sessionKey"), said("state"), said("label")),
            _ => Ok(()),
        }
    }

    fn child(&mut self, session: &str, what: &str, label: &str) -> Result<(), Failure> {
        self.end_text()?;
        let (session, label) = (one_line(session, MAX_WORDS), one_line(label, MAX_WORDS));
        let label = if label.is_empty() { label } else { format!(" \"{label}\"") };
        let what = self.output.paint.state(&one_line(what, MAX_WORDS));
        self.output.line(format_args!("{} sub-agent {session}{label} {what}", self.output.paint.bold("•")))
    }

    /// What comes next begins a line of its own.
    fn end_text(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.text.open) && !self.output.json {
            self.output.line("")?;
        }
        Ok(())
    }
}

/// How much of the text of a step was told.
#[derive(Debug, Default)]
struct Streamed {
    /// The text of the step in hand, as far as it was told.
    told: String,
    /// The text of the step before, which may still be heard of.
    before: String,
    /// Whether the last line is not at its end.
    open: bool,
}

impl Streamed {
    /// The step's text so far. Returns whether what was told is void, and what is to be told now.
    fn streamed(&mut self, text: &str) -> (bool, String) {
        if self.told.is_empty() && self.before.starts_with(text) {
            return (false, String::new());
        }
        let (again, fresh) = match text.strip_prefix(&*self.told) {
            Some(fresh) => (false, fresh),
            None => (true, text),
        };
        let fresh = fresh.to_owned();
        text.clone_into(&mut self.told);
        self.open |= !fresh.is_empty();
        (again, fresh)
    }

    /// The step is over, and this is its whole text. Returns what is to be told of it.
    fn committed(&mut self, text: &str) -> String {
        // What was told of another text stays where it is; this one begins a new line.
        let rest = match text.strip_prefix(&*std::mem::take(&mut self.told)) {
            Some(rest) => rest.to_owned(),
            None => format!("\n{text}"),
        };
        text.clone_into(&mut self.before);
        self.open |= !text.is_empty();
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_once_however_it_is_heard() {
        let mut text = Streamed::default();
        assert_eq!(text.streamed("one"), (false, "one".to_owned()));
        assert_eq!(text.streamed("one two"), (false, " two".to_owned()));
        assert_eq!(text.committed("one two three"), " three");
        assert_eq!(text.streamed("one two"), (false, String::new()), "the store was faster");
        assert_eq!(text.streamed("next"), (false, "next".to_owned()));
        assert_eq!(text.streamed("other"), (true, "other".to_owned()));
        assert_eq!(text.committed("other"), "");
        assert_eq!(text.committed("never streamed"), "never streamed");
        text.streamed("void");
        assert_eq!(text.committed("valid"), "\nvalid");
    }

    #[test]
    fn an_empty_step_opens_no_line() {
        let mut text = Streamed::default();
        assert_eq!((text.committed(""), text.open), (String::new(), false));
        assert_eq!((text.committed("x"), text.open), ("x".to_owned(), true));
    }
}
