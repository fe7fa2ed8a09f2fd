//! What runs led to.

use std::collections::BTreeSet;

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
        // What leaves the run's own session goes up, to a parent whose affair it is.
        let stays_below = |run: &Run| run.session != first.session;
        let mut led = BTreeSet::from([first.number]);
        let mut todo = vec![first];
        while let Some(cause) = todo.pop() {
            let taken_by = match &cause.announced {
                Some(Announced::Delivered(by)) if stays_below(cause) => *by,
                _ => None,
            };
            let answers = |run: &Run| run.row.cause == Cause::Announce && taken_by == Some(run.row.id);
            let all = self.run_order.iter().filter_map(|(_, run)| self.runs.get(run));
            for next in all.filter(|run| run.row.spawner == Some(cause.row.id) || answers(run)) {
                if led.insert(next.number) {
                    todo.push(next);
                }
            }
        }
        let led: Vec<&Run> = led
            .iter()
            .filter_map(|number| self.run_order.get(number).and_then(|run| self.runs.get(run)))
            .collect();
        let waits = |run: &Run| stays_below(run) && matches!(run.announced, Some(Announced::Open(_)));
        let pending = led.iter().any(|run| run.row.state.is_open() || waits(run));
        let asked = |run: &&&Run| session.is_none_or(|session| run.row.session == *session);
        let mut runs: Vec<_> =
            led.iter().rev().filter(asked).take(limit).map(|run| run.row.clone()).collect();
        runs.reverse();
        Consequences { runs, pending }
    }
}
