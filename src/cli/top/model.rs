//! What `top` knows and where the person is in it.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use offshoot_actors::types::Timestamp;
use serde_json::Value;

use super::super::output::{elapsed, one_line, printable};
use super::super::watch::{Forest, Look, Row, Sort};
use crate::protocol::tree::Node;

/// Tool calls of the selected run that are kept.
const MAX_CALLS: usize = 50;
/// Characters of the selected run's live text that are kept.
const MAX_TEXT: usize = 64 * 1024;
/// Longest argument or message in a line, in characters.
const MAX_WORDS: usize = 200;
/// Without a word for so long the picture is not trusted: a gateway says at least `tick` every half minute.
const QUIET: Duration = Duration::from_secs(70);

/// What the person is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Looking at the tree.
    #[default]
    Tree,
    /// Typing what to look for.
    Filter,
    /// Typing a message that steers.
    Steer {
        session: String,
        text: String,
    },
    /// Asked whether these are to be cancelled.
    Cancel {
        what: String,
        runs: Vec<Target>,
    },
    /// Reading a log, from this line of the screen on.
    Log {
        title: String,
        lines: Vec<String>,
        scroll: usize,
    },
    Help,
}

/// A run, and the session that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) session: String,
    pub(super) run: String,
}

/// What is heard of the selected run beside the tree.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// The run as events name it.
    run: String,
    /// The text of its step so far.
    pub(super) text: String,
    /// Tool calls, the newest last: id, what is shown, and how it ended.
    calls: VecDeque<(String, String, Option<bool>)>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) forest: Forest,
    /// When the tree was told last.
    pub(super) told: Instant,
    /// When anything was heard last.
    pub(super) heard: Instant,
    /// Why the gateway is not there.
    pub(super) lost: Option<String>,
    pub(super) sort: Sort,
    pub(super) collapsed: BTreeSet<String>,
    pub(super) filter: String,
    /// The selected node.
    pub(super) selected: Option<String>,
    /// Where it was, for when it is gone.
    place: usize,
    /// The first row that is shown.
    pub(super) top: usize,
    /// Rows that there is room for.
    pub(super) room: usize,
    pub(super) mode: Mode,
    pub(super) live: Live,
    /// What became of the last request.
    pub(super) status: Option<Status>,
}

/// A line about what was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) text: String,
    pub(super) bad: bool,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            forest: Forest::default(),
            told: Instant::now(),
            heard: Instant::now(),
            lost: None,
            sort: Sort::default(),
            collapsed: BTreeSet::new(),
            filter: String::new(),
            selected: None,
            place: 0,
            top: 0,
            room: 1,
            mode: Mode::default(),
            live: Live::default(),
            status: None,
        }
    }

    /// The daemon's time. It stands still while the daemon is not there.
    pub(super) fn now(&self) -> Timestamp {
        if self.lost.is_some() { self.forest.ts } else { self.forest.ts + self.told.elapsed() }
    }

    /// What is wrong with the connection, if anything is.
    pub(super) fn trouble(&self) -> Option<String> {
        let quiet = self.heard.elapsed();
        match &self.lost {
            Some(why) => Some(format!("{why}; waiting for it to come back")),
            None if quiet > QUIET => Some(format!("no word from the gateway for {}", elapsed(quiet))),
            None => None,
        }
    }

    /// The tree is as it was told now.
    pub(super) fn arrived(&mut self) {
        self.told = Instant::now();
        self.settle();
    }

    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        self.forest.rows(Look {
            sort: self.sort,
            collapsed: &self.collapsed,
            filter: &self.filter,
            now: self.now(),
        })
    }

    pub(super) fn node(&self) -> Option<&Node> {
        self.forest.node(self.selected.as_deref()?)
    }

    /// Another tree: what is gone is not selected any more, but what came in its place.
    pub(super) fn settle(&mut self) {
        let rows = self.rows();
        let found = rows.iter().position(|row| Some(&*row.node.id) == self.selected.as_deref());
        let place = found.unwrap_or_else(|| self.place.min(rows.len().saturating_sub(1)));
        let id = rows.get(place).map(|row| row.node.id.clone());
        let last = rows.len().saturating_sub(self.room.max(1));
        (self.selected, self.place) = (id, place);
        let first = self.place.saturating_sub(self.room.saturating_sub(1));
        self.top = self.top.clamp(first, self.place).min(last.max(first));
        self.follow();
        let known = |id: &String| self.forest.node(id).is_some();
        if self.collapsed.len() > self.forest.len() {
            self.collapsed = self.collapsed.iter().filter(|id| known(id)).cloned().collect();
        }
    }

    /// Selects a row that is so many rows further down.
    pub(super) fn go(&mut self, by: isize) {
        let last = self.rows().len().saturating_sub(1);
        self.select(self.place.saturating_add_signed(by).min(last));
    }

    pub(super) fn select(&mut self, place: usize) {
        self.selected = self.rows().get(place).map(|row| row.node.id.clone());
        self.place = place;
        self.settle();
    }

    /// Listens to the selected run.
    fn follow(&mut self) {
        let run = self.node().and_then(|node| node.run.as_ref()).map(|run| run.run_id.clone());
        let run = run.unwrap_or_default();
        if run != self.live.run {
            self.live = Live { run, ..Live::default() };
        }
    }

    /// The session of the selected node.
    pub(super) fn session(&self) -> Option<&str> {
        let node = self.node()?;
        let of_run = node.run.as_ref().map(|run| run.session_key.as_str());
        of_run.or_else(|| node.session.as_ref().map(|session| session.key.as_str()))
    }

    /// The open runs of the selected node and below it, the upper ones first.
    pub(super) fn open_runs(&self) -> Vec<Target> {
        let Some(node) = self.node() else { return Vec::new() };
        let open = |node: &&Node| matches!(open_state(node), Some("queued" | "running" | "yielded"));
        let below = self.forest.below(node);
        let runs = below.into_iter().filter(open).filter_map(|node| node.run.as_ref());
        runs.map(|run| Target { session: run.session_key.clone(), run: run.id.clone() }).collect()
    }
}

fn open_state(node: &Node) -> Option<&str> {
    node.run.as_ref().map(|run| run.state.as_str())
}

impl Live {
    /// Takes an event, if it is one of the selected run.
    pub(super) fn take(&mut self, name: &str, payload: &Value) {
        if self.run.is_empty() || payload["runId"] != self.run.as_str() {
            return;
        }
        let data = &payload["data"];
        match name {
            "agent" if payload["stream"] == "assistant" => {
                let text = data["text"].as_str().unwrap_or_default();
                // Its end is what a person wants to see.
                let from = text.char_indices().rev().nth(MAX_TEXT).map_or(0, |(at, _)| at);
                self.text = printable(&text[from..]);
            }
            "session.tool" => self.call(data),
            _ => {}
        }
    }

    fn call(&mut self, data: &Value) {
        let id = data["toolCallId"].as_str().unwrap_or_default();
        let place = self.calls.iter().position(|(known, ..)| known == id);
        let failed = (data["phase"] == "result").then(|| data["isError"] == true);
        match place.and_then(|place| self.calls.get_mut(place)) {
            Some((.., ended)) => *ended = failed.or(*ended),
            None => {
                let name = one_line(data["name"].as_str().unwrap_or("tool"), MAX_WORDS);
                let args = match &data["args"] {
                    Value::Null => String::new(),
                    args => one_line(&args.to_string(), MAX_WORDS),
                };
                self.calls.push_back((id.to_owned(), format!("{name} {args}"), failed));
                if self.calls.len() > MAX_CALLS {
                    self.calls.pop_front();
                }
            }
        }
    }

    /// The tool calls as lines, the newest first.
    pub(super) fn calls(&self) -> impl Iterator<Item = String> {
        self.calls.iter().rev().map(|(_, said, failed)| {
            let state = match failed {
                None => "running",
                Some(false) => "done",
                Some(true) => "FAILED",
            };
            format!("{state:<8}{said}")
        })
    }
}
