//! What happens again and again, as one row of the audit record now and then.
//!
//! The first time is entered at once. What is like it within the next minutes is counted, and entered as one row when
//! they are over. Of each kind only so many are told apart; the others are counted together.

use std::collections::HashMap;
use std::time::Duration;

use offshoot_actors::types::{Monotonic, Origin};

/// How long what is like the first is counted: a stranger who tries all day makes 288 rows.
pub(super) const WINDOW: Duration = Duration::from_secs(300);

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::gateway) enum Kind {
    /// A client came in.
    Opened,
    /// A client was sent away.
    TurnedAway,
    /// A client may not call a method.
    CallRefused,
    /// A request by HTTP was refused for who sent it.
    RequestRefused,
}

impl Kind {
    const fn event(self) -> &'static str {
        match self {
            Self::Opened => "connection.opened",
            Self::TurnedAway => "connection.refused",
            Self::CallRefused => "call.refused",
            Self::RequestRefused => "request.refused",
        }
    }

    /// How many are told apart within the window: those who are known are few, strangers may be any number.
    pub(super) const fn most(self) -> usize {
        match self {
            Self::Opened => 4_096,
            Self::CallRefused => 1_024,
            Self::TurnedAway | Self::RequestRefused => 64,
        }
    }
}

/// Something that happened. What has the same key is the same again.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct Happening {
    pub(super) kind: Kind,
    pub(super) key: String,
    pub(super) origin: Origin,
    pub(super) facts: Vec<(&'static str, String)>,
}

/// A row that is to be entered.
pub(in crate::gateway) type Entered = (&'static str, Origin, Vec<(&'static str, String)>);

/// What was entered in the last minutes, and how often it happened since.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Repeats {
    seen: HashMap<Kind, HashMap<String, Seen>>,
    /// Those that are not told apart any more.
    others: HashMap<Kind, Others>,
}

#[derive(Debug)]
struct Seen {
    since: Monotonic,
    times: u64,
    origin: Origin,
    facts: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Others {
    since: Monotonic,
    times: u64,
}

impl Repeats {
    /// The row to enter at once, if this is the first of its like.
    pub(in crate::gateway) fn happened(&mut self, what: Happening, now: Monotonic) -> Option<Entered> {
        let Happening { kind, key, origin, facts } = what;
        let of_kind = self.seen.entry(kind).or_default();
        if let Some(seen) = of_kind.get_mut(&key) {
            seen.times += 1;
            // The last one is as good as the first, and its connection may still be there.
            seen.origin = origin;
            return None;
        }
        if of_kind.len() >= kind.most() {
            self.others.entry(kind).or_insert(Others { since: now, times: 0 }).times += 1;
            return None;
        }
        of_kind.insert(key, Seen { since: now, times: 0, origin: origin.clone(), facts: facts.clone() });
        Some((kind.event(), origin, facts))
    }

    /// The rows of what was counted for long enough.
    pub(in crate::gateway) fn due(&mut self, now: Monotonic) -> Vec<Entered> {
        self.take(|since| now.since(since) >= WINDOW, now)
    }

    /// The rows of all that was counted.
    pub(in crate::gateway) fn all(&mut self, now: Monotonic) -> Vec<Entered> {
        self.take(|_| true, now)
    }

    fn take(&mut self, is_due: impl Fn(Monotonic) -> bool, now: Monotonic) -> Vec<Entered> {
        let mut rows = Vec::new();
        for (kind, of_kind) in &mut self.seen {
            of_kind.retain(|_, seen| {
                if !is_due(seen.since) {
                    return true;
                }
                let times = std::mem::take(&mut seen.times);
                seen.since = now;
                if times > 0 {
                    let mut facts = seen.facts.clone();
                    facts.push(("times", times.to_string()));
                    rows.push((kind.event(), seen.origin.clone(), facts));
                }
                // One that goes on is counted on; one that is over is forgotten.
                times > 0
            });
        }
        self.others.retain(|kind, others| {
            let due = is_due(others.since);
            if due {
                let facts = vec![("others", others.times.to_string())];
                rows.push((kind.event(), Origin::Timer, facts));
            }
            !due
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(kind: Kind, key: usize) -> Happening {
        let origin = Origin::Client { connection: 1, device: None, scopes: Vec::new() };
        Happening { kind, key: key.to_string(), origin, facts: vec![("code", "WRONG".to_owned())] }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    #[test]
    fn what_repeats_itself_is_one_row_a_window() {
        let mut repeats = Repeats::default();
        let mut rows = 0;
        for second in 0..3_000 {
            rows += usize::from(repeats.happened(happening(Kind::TurnedAway, 1), at(second)).is_some());
            rows += repeats.due(at(second)).len();
        }
        assert!((2..=11).contains(&rows), "{rows}");
        let rest = repeats.all(at(3_000));
        let (event, _, facts) = &rest[0];
        assert_eq!((*event, facts[0].1.as_str(), facts[1].0), ("connection.refused", "WRONG", "times"));
    }

    #[test]
    fn nothing_that_happened_is_left_uncounted() {
        let mut repeats = Repeats::default();
        let mut counted = 0;
        for n in 0..1_000 {
            counted += u64::from(repeats.happened(happening(Kind::TurnedAway, n % 100), at(1)).is_some());
        }
        assert_eq!(counted, Kind::TurnedAway.most() as u64);
        for (_, _, facts) in repeats.all(at(1)) {
            counted += facts.last().unwrap().1.parse::<u64>().unwrap();
        }
        assert_eq!(counted, 1_000);
    }

    #[test]
    fn strangers_do_not_hide_who_comes_in() {
        let mut repeats = Repeats::default();
        (0..1_000).for_each(|n| drop(repeats.happened(happening(Kind::TurnedAway, n), at(1))));
        assert!(repeats.happened(happening(Kind::Opened, 1), at(1)).is_some());
        assert!(repeats.happened(happening(Kind::CallRefused, 1), at(1)).is_some());
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut repeats = Repeats::default();
        repeats.happened(happening(Kind::Opened, 1), at(0));
        assert!(repeats.due(at(299)).is_empty() && repeats.due(at(300)).is_empty());
        assert!(repeats.seen[&Kind::Opened].is_empty());
        assert!(repeats.happened(happening(Kind::Opened, 1), at(301)).is_some());
    }
}
