//! The nodes of a snapshot and what becomes of them by deltas, and the order in which they are shown.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};

use offshoot_actors::types::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::words;
use crate::protocol::tree::{Delta, Lane, Node, Totals, Tree};

/// The tree as it was told last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forest {
    /// When that was, by the daemon's clock.
    pub(crate) ts: Timestamp,
    pub(crate) started_at: Timestamp,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) totals: Totals,
    /// Nodes that there are, told or not.
    total: usize,
    rev: u64,
    nodes: HashMap<String, Node>,
}

/// Why a change could not be taken.
#[derive(Debug)]
pub(crate) enum Missed {
    /// It is of another state than the one that is here: only a whole snapshot helps.
    Stale,
    /// It is written in another way than this version reads.
    Unreadable(serde_json::Error),
}

impl From<serde_json::Error> for Missed {
    fn from(error: serde_json::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// By what siblings are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    #[default]
    Name,
    State,
    Elapsed,
    Tokens,
    Cost,
    Mailbox,
}

impl Sort {
    pub(crate) const ALL: [Self; 6] =
        [Self::Name, Self::State, Self::Elapsed, Self::Tokens, Self::Cost, Self::Mailbox];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::State => "state",
            Self::Elapsed => "elapsed",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Mailbox => "mailbox",
        }
    }

    /// The one that comes after it.
    pub(crate) fn next(self) -> Self {
        let place = Self::ALL.iter().position(|sort| *sort == self).unwrap_or_default();
        Self::ALL[(place + 1) % Self::ALL.len()]
    }

    /// Names go up, figures go down: whoever sorts by them looks for the largest.
    fn compare(self, one: &Node, other: &Node) -> Ordering {
        let down = |one: f64, other: f64| other.total_cmp(&one);
        let by_figure = match self {
            Self::Name => Ordering::Equal,
            Self::State => words::state(one).0.cmp(words::state(other).0),
            Self::Elapsed => begun(one).cmp(&begun(other)),
            Self::Tokens => tokens(other).cmp(&tokens(one)),
            Self::Cost => down(cost(one), cost(other)),
            Self::Mailbox => mailbox(other).cmp(&mailbox(one)),
        };
        by_figure.then_with(|| one.name.cmp(&other.name)).then_with(|| one.id.cmp(&other.id))
    }
}

/// What began first has taken longest; what has not begun comes last.
fn begun(node: &Node) -> i64 {
    let run = node.run.as_ref().map(|run| run.started_at.unwrap_or(run.accepted_at));
    run.or(node.actor.as_ref().map(|actor| actor.since)).unwrap_or(i64::MAX)
}

/// Of a session with what is below it.
fn tokens(node: &Node) -> u64 {
    words::spent(node).map_or(0, |(usage, _)| usage.total())
}

fn cost(node: &Node) -> f64 {
    words::spent(node).and_then(|(_, cost)| cost).unwrap_or_default()
}

fn mailbox(node: &Node) -> u32 {
    node.actor.as_ref().map_or(0, |actor| actor.mailbox)
}

/// How the tree is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) sort: Sort,
    /// Nodes below which nothing is shown.
    pub(crate) collapsed: &'a BTreeSet<String>,
    /// Only nodes with this text, and those above them; empty for all.
    pub(crate) filter: &'a str,
    /// The daemon's time, which what is wrong is said by.
    pub(crate) now: Timestamp,
}

/// One node in its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) node: &'a Node,
    /// The lines that lead to it, of which the last one is its own: whether each goes on below.
    rails: u64,
    pub(crate) depth: usize,
    pub(crate) collapsed: bool,
    pub(crate) has_children: bool,
    /// Nodes below it that are not shown because it is collapsed.
    pub(crate) hidden: usize,
}

/// Levels whose lines are drawn; deeper ones are drawn at this one.
const MAX_RAILS: usize = 60;

impl Row<'_> {
    /// The box lines before the node.
    pub(crate) fn rails(&self) -> String {
        let mut text = String::new();
        for level in 1..=self.depth.min(MAX_RAILS) {
            let goes_on = self.rails & (1 << level) != 0;
            text.push_str(match (level == self.depth, goes_on) {
                (true, true) => "├─ ",
                (true, false) => "└─ ",
                (false, true) => "│  ",
                (false, false) => "   ",
            });
        }
        text
    }
}

impl Forest {
    pub(crate) fn of(snapshot: Tree) -> Self {
        Self {
            ts: Timestamp(snapshot.ts),
            started_at: Timestamp(snapshot.started_at),
            lanes: snapshot.lanes,
            totals: snapshot.totals,
            total: snapshot.total,
            rev: snapshot.rev,
            nodes: snapshot.nodes.into_iter().map(|node| (node.id.clone(), node)).collect(),
        }
    }

    /// The tree of a snapshot as it came.
    pub(crate) fn read(snapshot: Value) -> Result<Self, serde_json::Error> {
        Tree::deserialize(snapshot).map(Self::of)
    }

    /// Takes what the event `tree` says.
    pub(crate) fn take(&mut self, event: Value) -> Result<(), Missed> {
        if event["full"] == true {
            *self = Self::read(event)?;
            return Ok(());
        }
        self.apply(Delta::deserialize(event)?)
    }

    fn apply(&mut self, delta: Delta) -> Result<(), Missed> {
        if delta.base != self.rev {
            return Err(Missed::Stale);
        }
        self.rev = delta.rev;
        self.ts = Timestamp(delta.ts);
        self.total = delta.total;
        self.totals = delta.totals;
        self.lanes = delta.lanes;
        for id in &delta.gone {
            self.nodes.remove(id);
        }
        self.nodes.extend(delta.changed.into_iter().map(|node| (node.id.clone(), node)));
        Ok(())
    }

    pub(crate) fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// Nodes that were left out.
    pub(crate) fn missing(&self) -> usize {
        self.total.saturating_sub(self.nodes.len())
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A node and all below it, the upper ones first.
    pub(crate) fn below<'a>(&'a self, node: &'a Node) -> Vec<&'a Node> {
        let children = self.children();
        let mut found = vec![node];
        let mut next = 0;
        while let Some(node) = found.get(next) {
            next += 1;
            found.extend(children.get(node.id.as_str()).into_iter().flatten());
        }
        found
    }

    fn children(&self) -> HashMap<&str, Vec<&Node>> {
        let mut children: HashMap<&str, Vec<&Node>> = HashMap::new();
        for node in self.nodes.values() {
            children.entry(self.above(node).unwrap_or_default()).or_default().push(node);
        }
        children
    }

    /// What a node hangs below, if that is here.
    fn above(&self, node: &Node) -> Option<&str> {
        let (id, _) = self.nodes.get_key_value(node.parent.as_deref()?)?;
        (*id != node.id).then_some(id.as_str())
    }

    /// The nodes that are shown, from the top down.
    pub(crate) fn rows(&self, look: Look<'_>) -> Vec<Row<'_>> {
        let mut children = self.children();
        let wanted = self.wanted(look.filter, look.now);
        for siblings in children.values_mut() {
            siblings.retain(|node| wanted.as_ref().is_none_or(|wanted| wanted.contains(node.id.as_str())));
            siblings.sort_unstable_by(|one, other| look.sort.compare(one, other));
        }
        let mut rows = Vec::with_capacity(self.nodes.len());
        let mut waiting: Vec<(&Node, u64, usize)> = Vec::new();
        push(&mut waiting, children.get("").map(Vec::as_slice).unwrap_or_default(), 0, 0);
        while let Some((node, rails, depth)) = waiting.pop() {
            let below = children.get(node.id.as_str()).map(Vec::as_slice).unwrap_or_default();
            let collapsed = look.collapsed.contains(&node.id) && !below.is_empty();
            let hidden = if collapsed { count(&children, node) } else { 0 };
            rows.push(Row { node, rails, depth, collapsed, has_children: !below.is_empty(), hidden });
            if !collapsed {
                push(&mut waiting, below, rails, depth + 1);
            }
        }
        rows
    }

    /// The nodes with a text and all above them; none where there is nothing to look for.
    fn wanted(&self, filter: &str, now: Timestamp) -> Option<HashSet<&str>> {
        let filter = filter.trim().to_lowercase();
        if filter.is_empty() {
            return None;
        }
        let mut wanted = HashSet::new();
        for node in self.nodes.values().filter(|node| words::contains(node, &filter, now)) {
            let mut place = Some(node.id.as_str());
            while let Some(id) = place.filter(|id| wanted.insert(*id)) {
                place = self.nodes.get(id).and_then(|node| self.above(node));
            }
        }
        Some(wanted)
    }
}

/// The nodes of one level, so that the first one comes out first.
fn push<'a>(waiting: &mut Vec<(&'a Node, u64, usize)>, level: &[&'a Node], rails: u64, depth: usize) {
    for (place, node) in level.iter().enumerate().rev() {
        let goes_on = u64::from(place + 1 < level.len()) << depth.min(MAX_RAILS);
        let own = 1 << depth.min(MAX_RAILS);
        waiting.push((node, rails & !own | goes_on, depth));
    }
}

fn count(children: &HashMap<&str, Vec<&Node>>, node: &Node) -> usize {
    let mut found = vec![node];
    let mut next = 0;
    while let Some(node) = found.get(next) {
        next += 1;
        found.extend(children.get(node.id.as_str()).into_iter().flatten());
    }
    found.len() - 1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::sample::{self, NOW, node};
    use super::*;

    fn shown(forest: &Forest, look: Look<'_>) -> Vec<String> {
        forest.rows(look).iter().map(|row| format!("{}{}", row.rails(), row.node.name)).collect()
    }

    const fn look(collapsed: &BTreeSet<String>) -> Look<'_> {
        Look { sort: Sort::Name, collapsed, filter: "", now: NOW }
    }

    #[test]
    fn nodes_hang_below_their_parents_by_name() {
        let (forest, none) = (sample::forest(), BTreeSet::new());
        assert_eq!(
            shown(&forest, look(&none)),
            [
                "offshoot",
                "├─ gateway",
                "│  └─ connection 1",
                "└─ sessions",
                "   └─ agent:main:main",
                "      ├─ agent:main:subagent:aa",
                "      │  └─ run bbbb",
                "      ├─ agent:main:subagent:ab",
                "      └─ run aaaa",
            ]
        );
        let collapsed = BTreeSet::from(["4".to_owned()]);
        let rows = forest.rows(look(&collapsed));
        assert_eq!(rows.len(), 5);
        assert_eq!((rows[4].hidden, rows[4].collapsed), (4, true));
    }

    #[test]
    fn siblings_are_sorted_and_stay_below_their_parent() {
        let (forest, none) = (sample::forest(), BTreeSet::new());
        let under = |sort| -> Vec<String> {
            let rows = forest.rows(Look { sort, ..look(&none) });
            let main = rows.iter().filter(|row| row.node.parent.as_deref() == Some("4"));
            main.map(|row| row.node.name.clone()).collect()
        };
        let [aa, ab, run] = ["agent:main:subagent:aa", "agent:main:subagent:ab", "run aaaa"];
        assert_eq!(under(Sort::Tokens), [ab, aa, run]);
        assert_eq!(under(Sort::Mailbox), [aa, ab, run]);
        assert_eq!(under(Sort::Elapsed), [run, aa, ab]);
        assert_eq!(under(Sort::Cost)[0], ab);
        let all: Vec<Sort> =
            std::iter::successors(Some(Sort::Name), |sort| Some(sort.next())).take(7).collect();
        assert_eq!(all[..6], Sort::ALL);
        assert_eq!(all[6], Sort::Name);
    }

    #[test]
    fn a_filter_keeps_what_is_above() {
        let (forest, none) = (sample::forest(), BTreeSet::new());
        let found = shown(&forest, Look { filter: " BBBB", ..look(&none) });
        assert_eq!(
            found,
            [
                "offshoot",
                "└─ sessions",
                "   └─ agent:main:main",
                "      └─ agent:main:subagent:aa",
                "         └─ run bbbb"
            ]
        );
        assert_eq!(shown(&forest, Look { filter: "no such text", ..look(&none) }), [] as [&str; 0]);
    }

    #[test]
    fn a_filter_finds_what_is_wrong_by_the_words_that_say_so() {
        let (mut tree, none) = (sample::snapshot(), BTreeSet::new());
        for (place, restarts, ago) in [(1, 5, 2_000), (2, 5, 120_000), (3, 0, 0)] {
            let actor = tree.nodes[place].actor.as_mut().unwrap();
            (actor.restarts, actor.stuck) = (restarts, restarts == 0);
            actor.restarted_at = Some(NOW.0 - ago).filter(|_| restarts > 0);
            actor.last_failure = (restarts > 0).then(|| format!("{}the Disk is full", "x".repeat(100)));
        }
        tree.nodes[5].run.as_mut().unwrap().silent = true;
        let forest = Forest::of(tree);
        let found = |filter: &str| {
            let rows = forest.rows(Look { filter, ..look(&none) });
            rows.last().map(|row| (rows.len(), row.node.name.clone()))
        };
        let last = |rows, name: &str| Some((rows, name.to_owned()));
        assert_eq!(found("crash loop"), last(2, "gateway"));
        assert_eq!(found("Restarted 5"), last(3, "connection 1"));
        assert_eq!(found("disk is full"), last(3, "connection 1"));
        assert_eq!(found("not answering"), last(2, "sessions"));
        assert_eq!(found("stuck"), last(2, "sessions"));
        assert_eq!(found("silent"), last(4, "run aaaa"));
    }

    #[test]
    fn a_change_of_another_state_is_refused_and_changes_nothing() {
        let mut forest = sample::forest();
        let (rev, none) = (forest.rev, BTreeSet::new());
        let before = shown(&forest, look(&none));
        let delta = |base: u64, changed: Vec<Node>, gone: &[&str]| {
            json!({"base": base, "rev": base + 1, "ts": NOW.0, "total": 8, "truncated": false, "lanes": [],
                "totals": sample::snapshot().totals, "changed": changed, "gone": gone})
        };
        let wrong = delta(rev + 1, Vec::new(), &["1"]);
        assert!(matches!(forest.take(wrong), Err(Missed::Stale)));
        assert!(matches!(forest.take(json!({"rev": "x"})), Err(Missed::Unreadable(_))));
        assert_eq!(shown(&forest, look(&none)), before);
        forest.take(delta(rev, vec![node("99", Some("1"), "store", "store")], &["2", "8"])).unwrap();
        let after = shown(&forest, look(&none));
        assert_eq!(after.len(), before.len() - 1);
        assert_eq!(after.last().unwrap(), "└─ store");
        let mut whole = serde_json::to_value(sample::snapshot()).unwrap();
        whole["full"] = json!(true);
        whole["rev"] = json!(3);
        whole["nodes"] = json!([{"id": "1", "name": "new", "member": "of a later version"}]);
        forest.take(whole).unwrap();
        assert_eq!((shown(&forest, look(&none)), forest.rev), (vec!["new".to_owned()], 3));
    }

    #[test]
    fn nodes_that_hang_below_each_other_are_no_endless_tree() {
        let nodes = vec![
            node("1", Some("2"), "a", "x"),
            node("2", Some("1"), "b", "x"),
            node("3", Some("3"), "c", "x"),
        ];
        let forest = Forest::of(Tree { nodes, ..sample::snapshot() });
        let none = BTreeSet::new();
        assert_eq!(shown(&forest, look(&none)), ["c"]);
        assert_eq!(forest.rows(Look { filter: "a", ..look(&none) }).len(), 0);
    }

    #[test]
    fn a_tree_deeper_than_a_screen_is_drawn() {
        let nodes = (0..200_u32)
            .map(|n| node(&n.to_string(), n.checked_sub(1).map(|n| n.to_string()).as_deref(), "x", "x"))
            .collect();
        let forest = Forest::of(Tree { nodes, ..sample::snapshot() });
        let none = BTreeSet::new();
        let rows = forest.rows(look(&none));
        assert_eq!((rows.len(), rows[199].rails().chars().count()), (200, MAX_RAILS * 3));
    }
}
