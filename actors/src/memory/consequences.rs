//! What runs led to.

use std::collections::BTreeMap;

use super::state::{Announced, Run, State};
use crate::ports::{Cause, Consequences};
use crate::types::{RunId, SessionKey};

impl State {
    pub(super) fn consequences(
        &self,
        run: RunId,
        session: Option<&SessionKey>,
        limit: usize,
    ) -> Consequences {
        let Some(first) = self.runs.get(&run) else { return Consequences::default() };
        let led = self.led_to_by(first);
        let waits = |run: &Run| {
            let open = matches!(run.announced, Some(Announced::Open(_)));
            open && !self.abandoned.contains(&run.row.id) && stays_below(run, first)
        };
        let pending = led.values().any(|(run, _)| run.row.state.is_open() || waits(run));
        let asked = |(run, _): &&(&Run, bool)| session.is_none_or(|session| run.row.session == *session);
        let mut found: Vec<_> = led.values().rev().filter(asked).take(limit).collect();
        found.reverse();
        let takers = found.iter().filter(|(_, whole)| !whole).map(|(run, _)| run.row.id).collect();
        Consequences { runs: found.into_iter().map(|(run, _)| run.row.clone()).collect(), takers, pending }
    }

    /// The run and all that it led to, by number, and whether what each spawned belongs to it as well.
    fn led_to_by<'a>(&'a self, first: &'a Run) -> BTreeMap<u64, (&'a Run, bool)> {
        let mut spawned: BTreeMap<RunId, Vec<&Run>> = BTreeMap::new();
        for (_, run) in self.runs.iter() {
            if let Some(spawner) = run.row.spawner {
                spawned.entry(spawner).or_default().push(run);
            }
        }
        let mut led: BTreeMap<u64, (&Run, bool)> = BTreeMap::new();
        let mut todo = vec![(first, true)];
        while let Some((run, whole)) = todo.pop() {
            // One that took a result may turn out to be spawned, too.
            if led.get(&run.number).is_some_and(|(_, known)| *known || !whole) {
                continue;
            }
            led.insert(run.number, (run, whole));
            if whole {
                todo.extend(spawned.get(&run.row.id).into_iter().flatten().map(|next| (*next, true)));
            }
            if let Some(Announced::Delivered(Some(by))) = &run.announced
                && stays_below(run, first)
                && let Some(taker) = self.runs.get(by)
            {
                todo.push((taker, taker.row.cause == Cause::Announce));
            }
        }
        led
    }
}

/// Whether the result of `run` stays below the session of `first`: what leaves that goes up, to a parent whose affair
/// it is.
fn stays_below(run: &Run, first: &Run) -> bool {
    run.session != first.session
}
