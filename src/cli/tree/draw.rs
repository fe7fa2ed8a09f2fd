//! The tree as lines.

use std::collections::BTreeSet;

use offshoot_actors::types::Timestamp;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::super::output::{Paint, elapsed, tokens};
use super::super::watch::{Forest, Look, Row, Sort, line, money, state, usage};

/// Nothing is collapsed, all is shown.
const NONE: &BTreeSet<String> = &BTreeSet::new();

fn rows(forest: &Forest) -> Vec<Row<'_>> {
    forest.rows(Look { sort: Sort::Name, collapsed: NONE, filter: "", now: forest.ts })
}

/// One line for each actor, none wider than `width`.
pub(super) fn lines(forest: &Forest, now: Timestamp, paint: Paint, width: Option<usize>) -> Vec<String> {
    rows(forest).iter().map(|row| drawn(row, now, paint, width.unwrap_or(usize::MAX))).collect()
}

fn drawn(row: &Row<'_>, now: Timestamp, paint: Paint, width: usize) -> String {
    let rails = row.rails();
    let mut left = width.saturating_sub(rails.width());
    let mut text = paint.dim(cut(&rails, width));
    for (place, word) in line(row.node, now).iter().enumerate() {
        let space = if place == 0 { 0 } else { 2 };
        if left <= space {
            break;
        }
        let shown = cut(&word.text, left - space);
        left = left.saturating_sub(space + shown.width());
        text.push_str(&"  "[..space]);
        text.push_str(&paint.tone(shown, word.tone));
    }
    text
}

/// The beginning of a text that takes at most `width` columns.
pub(crate) fn cut(text: &str, width: usize) -> &str {
    let mut taken = 0;
    for (at, c) in text.char_indices() {
        taken += c.width().unwrap_or_default();
        if taken > width {
            return &text[..at];
        }
    }
    text
}

/// What one line says of the whole.
pub(super) fn summary(forest: &Forest, now: Timestamp) -> String {
    let totals = &forest.totals;
    let mut parts = vec![
        format!("{} actors", totals.actors),
        format!("{} running", totals.runs.running),
        format!("{} queued", totals.runs.queued),
        format!("{} waiting", totals.runs.yielded),
        tokens(usage(totals.spent.usage)),
    ];
    parts.extend(totals.spent.cost_usd.map(money));
    if forest.started_at.0 > 0 {
        parts.push(format!("up {}", elapsed(now - forest.started_at)));
    }
    parts.join(", ")
}

/// What makes two pictures different to somebody who reads them one after the other: who is there, and in what state.
pub(super) fn essence(forest: &Forest) -> Vec<String> {
    let said = |row: &Row<'_>| {
        let node = row.node;
        let run = node.run.as_ref();
        let tools: Vec<&str> =
            run.map(|run| run.tools.iter().map(|tool| &*tool.name).collect()).unwrap_or_default();
        let doing = run.and_then(|run| run.doing.as_deref()).unwrap_or_default();
        let stuck = node.actor.as_ref().map(|actor| (actor.stuck, actor.restarts));
        let marks = (stuck, run.is_some_and(|run| run.silent));
        format!("{} {} {} {doing} {tools:?} {marks:?}", row.rails(), node.id, state(node).0)
    };
    rows(forest).iter().map(said).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::watch::sample::{self, NOW};
    use super::*;

    #[test]
    fn each_actor_has_a_line_in_its_place() {
        let forest = sample::forest();
        let drawn = lines(&forest, NOW, Paint::plain(), None);
        assert_eq!(
            drawn[..5],
            [
                "offshoot  running  1m00s",
                "├─ gateway  running  1m00s",
                "│  └─ connection 1  running  1m00s",
                "└─ sessions  running  1m00s",
                "   └─ session agent:main:main  running  1m00s  children: 1 live, 2 done  100 tokens $0.25  tree 4000 tokens $0.50",
            ]
        );
        assert_eq!(
            drawn[6],
            "      │  └─ run bbbb  running  exec(ls -l) 4.0s  step 3/50  5.0s  builtin/rehearsal  7 tokens"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let forest = sample::forest();
        for width in 0..90 {
            for line in lines(&forest, NOW, Paint::plain(), Some(width)) {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
        assert_eq!((cut("äöü", 2), cut("日本", 3), cut("x", 0)), ("äö", "日", ""));
    }

    #[test]
    fn time_alone_is_no_news() {
        let mut forest = sample::forest();
        let before = essence(&forest);
        forest.ts = Timestamp(NOW.0 + 60_000);
        assert_eq!(essence(&forest), before);
        let totals = sample::snapshot().totals;
        let delta = json!({"base": 10, "rev": 11, "ts": 0, "total": 8, "truncated": false, "lanes": [], "totals": totals,
            "changed": [], "gone": ["9"]});
        forest.take(delta).unwrap();
        assert_ne!(essence(&forest), before);
    }
}
