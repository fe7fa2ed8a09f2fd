//! Finds the keys that nothing acts on.

use std::collections::BTreeMap;

use strsim::normalized_damerau_levenshtein;

use super::keys::{ACTED_ON, NOT_ACTED_ON};
use super::problem::{Kind, Problems};
use super::read::{Cursor, not_set};
use super::tree::{Node, Place, Value};
use super::variables::Variables;

/// What is known of one place and of those below it.
#[derive(Default)]
pub(super) struct Known {
    pub(super) names: BTreeMap<&'static str, Self>,
    /// Whether something acts on it or on a place below it.
    pub(super) acted_on: bool,
}

impl Known {
    fn add(&mut self, place: &'static str, names: &'static str, acted_on: bool) {
        for name in names.split_ascii_whitespace() {
            self.acted_on |= acted_on;
            let mut at = &mut *self;
            for step in place.split('.').filter(|step| !step.is_empty()).chain([name]) {
                at = at.names.entry(step).or_default();
                at.acted_on |= acted_on;
            }
        }
    }

    pub(super) fn below(&self, name: &str) -> Option<&Self> {
        self.names.get(name).or_else(|| self.names.get("*"))
    }

    /// The known name that `name` was probably meant to be.
    fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.names.keys().copied().filter(|known| !matches!(*known, "*" | "[]")))
    }
}

/// The one of `known` that `name` was probably meant to be.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    const ALIKE: f64 = 0.75;
    /// Longer than any known name, and short enough to be compared with all of them.
    const MAX_NAME: usize = 100;
    if name.len() > MAX_NAME {
        return None;
    }
    let lower = name.to_lowercase();
    let scored = known.map(|known| (normalized_damerau_levenshtein(&lower, &known.to_lowercase()), known));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score >= ALIKE).map(|(_, known)| known)
}

/// Every key, as a tree. It is looked at when a configuration is read, and not kept in between.
pub(super) fn known() -> Known {
    let mut known = Known::default();
    for (place, names) in ACTED_ON {
        known.add(place, names, true);
    }
    for (place, names) in NOT_ACTED_ON {
        known.add(place, names, false);
    }
    known
}

/// Warns of every key that is unknown or that nothing acts on, and of variables there that are not set.
pub(super) fn keys(root: &Node, variables: &Variables<'_>, problems: &mut Problems) {
    Checker { variables, problems }.walk(&Cursor::root(root), root.place, &known(), false);
}

struct Checker<'a> {
    variables: &'a Variables<'a>,
    problems: &'a mut Problems,
}

impl Checker<'_> {
    /// `place` is that of the value's key; `named` tells that a warning already says that nothing acts on it.
    fn walk(&mut self, cursor: &Cursor<'_>, place: Place, known: &Known, named: bool) {
        if !known.acted_on && !named {
            let text = "known to OpenClaw, not acted on by Offshoot";
            self.problems.warning(place, Kind::NotActedOn, cursor.trail, text);
        }
        if known.names.is_empty() {
            if !known.acted_on {
                self.variables_in(cursor);
            }
            return;
        }
        match &cursor.node.value {
            Value::Object(_) => {
                for (member, below) in cursor.members() {
                    match known.below(&member.name) {
                        Some(known_below) => self.walk(&below, member.place, known_below, !known.acted_on),
                        None => {
                            let hint = known.nearest(&member.name);
                            let hint =
                                hint.map_or_else(String::new, |name| format!("; did you mean {name}?"));
                            let text = format!("unknown key, ignored{hint}");
                            self.problems.warning(member.place, Kind::UnknownKey, below.trail, text);
                            self.variables_in(&below);
                        }
                    }
                }
            }
            Value::List(_) => {
                if let Some(known_below) = known.names.get("[]") {
                    for item in cursor.items() {
                        self.walk(&item, item.place(), known_below, !known.acted_on);
                    }
                }
            }
            _ if !known.acted_on => self.variables_in(cursor),
            _ => {}
        }
    }

    fn variables_in(&mut self, cursor: &Cursor<'_>) {
        if let Value::Text(text) = &cursor.node.value
            && let Err(name) = self.variables.substitute(text)
        {
            self.problems.warning(cursor.place(), Kind::Variable, cursor.trail, not_set(&name));
        }
        for (_, below) in cursor.members() {
            self.variables_in(&below);
        }
        for item in cursor.items() {
            self.variables_in(&item);
        }
    }
}
