//! The tree of a command's sessions and runs, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use offshoot_actors::ports::{Cause, RunRow, Storage, StoreError};
use offshoot_actors::types::{RunId, SessionKey, Timestamp, Usage};
use serde_json::{Value, json};

use super::journal::{Seen, SeenRun};
use super::output::{Paint, elapsed, one_line, tokens};

/// Longest label or reason on a line, in characters.
const MAX_WORDS: usize = 60;

/// One session with its runs and its child sessions.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) key: SessionKey,
    pub(crate) parent: Option<SessionKey>,
    pub(crate) label: Option<String>,
    pub(crate) runs: Vec<RunLine>,
    pub(crate) children: Vec<Node>,
}

/// What is told of one run.
#[derive(Debug)]
pub(crate) struct RunLine {
    pub(crate) id: RunId,
    pub(crate) cause: Option<Cause>,
    pub(crate) state: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) elapsed: Option<Duration>,
    pub(crate) usage: Usage,
    pub(crate) steps: u32,
    pub(crate) model: Option<String>,
}

/// How long a run took, or has taken at `now`.
pub(crate) fn duration(row: &RunRow, now: Timestamp) -> Option<Duration> {
    row.started_at.map(|started| row.ended_at.unwrap_or(now) - started)
}

/// The model that answered, or the one that is to answer.
pub(crate) fn model(row: &RunRow) -> String {
    row.model_used.as_ref().unwrap_or(&row.model.primary).to_string()
}

impl RunLine {
    fn seen(run: &SeenRun, now: Timestamp) -> Self {
        Self {
            id: run.id,
            cause: None,
            state: run.state.as_str(),
            reason: None,
            elapsed: run.elapsed(now),
            usage: run.usage,
            steps: 0,
            model: None,
        }
    }

    pub(crate) fn stored(row: &RunRow, now: Timestamp) -> Self {
        Self {
            id: row.id,
            cause: Some(row.cause),
            state: row.state.as_str(),
            reason: row.outcome.as_ref().and_then(|outcome| outcome.reason.clone()),
            elapsed: duration(row, now),
            usage: row.usage,
            steps: row.steps,
            model: Some(model(row)),
        }
    }

    fn text(&self, paint: Paint) -> String {
        let mut parts = vec![format!("run {}", self.id)];
        parts.extend(self.cause.map(|cause| cause.as_str().to_owned()));
        parts.push(paint.state(self.state));
        parts.extend(self.elapsed.map(elapsed));
        parts.push(tokens(self.usage));
        parts.extend(self.reason.as_deref().map(|reason| paint.dim(one_line(reason, MAX_WORDS))));
        parts.join("  ")
    }

    fn json(&self) -> Value {
        json!({
            "runId": self.id,
            "cause": self.cause.map(Cause::as_str),
            "state": self.state,
            "reason": self.reason,
            "durationMs": self.elapsed.map(millis),
            "usage": self.usage,
            "steps": self.steps,
            "model": self.model,
        })
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Everything that a command saw, with the rows of its runs as they are stored.
pub(crate) async fn of_seen(
    seen: &Seen,
    storage: &dyn Storage,
    now: Timestamp,
) -> Result<Vec<Node>, StoreError> {
    let mut runs: BTreeMap<SessionKey, Vec<RunLine>> = BTreeMap::new();
    let mut order = Vec::new();
    for run in &seen.runs {
        let line = match storage.run(run.id).await? {
            Some(row) => RunLine::stored(&row, now),
            None => RunLine::seen(run, now),
        };
        let lines = runs.entry(run.session.clone()).or_default();
        if lines.is_empty() {
            order.push(run.session.clone());
        }
        lines.push(line);
    }
    let mut parents = BTreeMap::new();
    for key in &order {
        let spawned = seen.spawned.get(key);
        let (parent, label) = match spawned {
            Some(spawned) => (Some(spawned.parent.clone()), spawned.label.clone()),
            None => storage.session(key.clone()).await?.map_or((None, None), |row| (row.parent, row.label)),
        };
        parents.insert(key.clone(), (parent, label));
    }
    // A parent that has not run itself still holds its children together.
    let silent: BTreeSet<SessionKey> = parents
        .values()
        .filter_map(|(parent, _)| parent.clone())
        .filter(|key| !parents.contains_key(key))
        .collect();
    for key in silent {
        parents.insert(key.clone(), (None, None));
        order.insert(0, key);
    }
    Ok(nest(order.into_iter().map(|key| {
        let (parent, label) = parents.get(&key).cloned().unwrap_or_default();
        let runs = runs.remove(&key).unwrap_or_default();
        Node { key, parent, label, runs, children: Vec::new() }
    })))
}

/// Puts each session under its parent; those whose parent is not among them are the roots.
pub(crate) fn nest(nodes: impl IntoIterator<Item = Node>) -> Vec<Node> {
    let nodes: Vec<Node> = nodes.into_iter().collect();
    let known: BTreeSet<SessionKey> = nodes.iter().map(|node| node.key.clone()).collect();
    let mut roots = Vec::new();
    let mut below: BTreeMap<SessionKey, Vec<Node>> = BTreeMap::new();
    for node in nodes {
        match &node.parent {
            Some(parent) if known.contains(parent) && *parent != node.key => {
                below.entry(parent.clone()).or_default().push(node);
            }
            _ => roots.push(node),
        }
    }
    for root in &mut roots {
        adopt(root, &mut below);
    }
    roots
}

fn adopt(node: &mut Node, below: &mut BTreeMap<SessionKey, Vec<Node>>) {
    node.children = below.remove(&node.key).unwrap_or_default();
    for child in &mut node.children {
        adopt(child, below);
    }
}

/// The trees as lines with box characters, at most `max` of them and one that counts the rest.
pub(crate) fn lines(roots: &[Node], paint: Paint, max: usize) -> Vec<String> {
    let mut all = Vec::new();
    for root in roots {
        draw(root, "", "", paint, &mut all);
    }
    if all.len() > max {
        let more = all.len() - max;
        all.truncate(max);
        all.push(paint.dim(format!(
            "… {more} more lines: `offshoot runs list` and `offshoot sessions list` show them"
        )));
    }
    all
}

fn draw(node: &Node, first: &str, rest: &str, paint: Paint, lines: &mut Vec<String>) {
    let label = node.label.as_deref().map(|label| format!("  {}", paint.dim(one_line(label, MAX_WORDS))));
    lines.push(format!("{first}{}{}", paint.bold(&node.key), label.unwrap_or_default()));
    let last = node.runs.len() + node.children.len();
    let branch = |index: usize| if index == last { "└─ " } else { "├─ " };
    for (index, run) in node.runs.iter().enumerate() {
        lines.push(format!("{rest}{}{}", branch(index + 1), run.text(paint)));
    }
    for (index, child) in node.children.iter().enumerate() {
        let place = node.runs.len() + index + 1;
        let below = if place == last { "   " } else { "│  " };
        draw(child, &format!("{rest}{}", branch(place)), &format!("{rest}{below}"), paint, lines);
    }
}

/// The trees as a list of sessions, parents before children.
pub(crate) fn json(roots: &[Node]) -> Vec<Value> {
    let mut all = Vec::new();
    for root in roots {
        collect(root, 0, &mut all);
    }
    all
}

fn collect(node: &Node, level: u32, all: &mut Vec<Value>) {
    all.push(json!({
        "sessionKey": node.key,
        "parent": node.parent,
        "label": node.label,
        "level": level,
        "runs": node.runs.iter().map(RunLine::json).collect::<Vec<_>>(),
    }));
    for child in &node.children {
        collect(child, level + 1, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(key: &str, parent: Option<&str>) -> Node {
        let run = RunLine {
            id: RunId(uuid::Uuid::nil()),
            cause: Some(Cause::Spawn),
            state: "ok",
            reason: None,
            elapsed: Some(Duration::from_millis(5)),
            usage: Usage::default(),
            steps: 1,
            model: None,
        };
        let key: SessionKey = key.parse().unwrap();
        let parent = parent.map(|parent| parent.parse().unwrap());
        Node { key, parent, label: None, runs: vec![run], children: Vec::new() }
    }

    fn family() -> Vec<Node> {
        nest([
            node("agent:a:leaf", Some("agent:a:child")),
            node("agent:a:child", Some("agent:a:root")),
            node("agent:a:root", None),
            node("agent:a:second", Some("agent:a:root")),
            node("agent:b:orphan", Some("agent:b:gone")),
        ])
    }

    #[test]
    fn sessions_hang_under_their_parents() {
        let run = "run 00000000-0000-0000-0000-000000000000  spawn  ok  5ms  0 tokens";
        let drawn = lines(&family(), Paint::plain(), 100).join("\n");
        let expected = format!(
            "agent:a:root\n├─ {run}\n├─ agent:a:child\n│  ├─ {run}\n│  └─ agent:a:leaf\n│     └─ {run}\n\
             └─ agent:a:second\n   └─ {run}\nagent:b:orphan\n└─ {run}"
        );
        assert_eq!(drawn, expected);
    }

    #[test]
    fn a_long_tree_is_cut() {
        let drawn = lines(&family(), Paint::plain(), 3);
        assert_eq!(drawn.len(), 4);
        assert!(drawn[3].contains("7 more lines"), "{drawn:?}");
    }

    #[test]
    fn the_list_has_parents_before_children() {
        let list = json(&family());
        let levels: Vec<_> = list.iter().map(|node| node["level"].as_u64().unwrap()).collect();
        assert_eq!(levels, [0, 1, 2, 1, 0]);
    }
}
