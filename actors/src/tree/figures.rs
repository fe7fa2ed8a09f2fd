//! What the tree tells of itself in figures and in lines of a log, without asking one of its actors.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::TreeHandle;
use crate::kit::{ActorInfo, Behaviour, KindFigures};
use crate::policy::watch::{STUCK_AFTER, is_loop, is_overdue};
use crate::run::Run;
use crate::session::Session;
use crate::types::SessionKey;

/// Where an actor is, for a line that it logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorPlace {
    /// Its path from the root, names joined by `/`.
    pub path: String,
    /// The session that it is, or works for.
    pub session: Option<Arc<str>>,
    /// The run that it is, or works for.
    pub run: Option<Arc<str>>,
}

impl TreeHandle {
    /// The actors of each kind, counted.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<&'static str, KindFigures> {
        let system = &self.shared.system;
        let (now, date) = (system.clock.monotonic(), system.clock.now());
        system.index.figures(
            |since| is_overdue(since, STUCK_AFTER, now),
            |restarts, last| is_loop(restarts, last, date),
        )
    }

    /// How many runs of sessions that are awake are in each state: `queued`, `running`, `yielded`, `ending`.
    #[must_use]
    pub fn open_runs(&self) -> BTreeMap<&'static str, u64> {
        let mut states = BTreeMap::new();
        for cell in &self.shared.runs {
            *states.entry(cell.update(|progress| progress.phase).as_str()).or_default() += 1;
        }
        states
    }

    /// Where the actor of this number is, if it lives.
    #[must_use]
    pub fn place(&self, actor: u64) -> Option<ActorPlace> {
        let lineage = self.shared.system.index.lineage(actor)?;
        let last = |kind: &str| lineage.iter().rev().find(|actor| actor.kind == kind);
        let name = |actor: &Arc<ActorInfo>| Arc::clone(&actor.name);
        let run = last(Run::KIND).map(|run| run.name.strip_prefix("run ").unwrap_or(&run.name).into());
        let names: Vec<&str> = lineage.iter().map(|actor| &*actor.name).collect();
        Some(ActorPlace { path: names.join("/"), session: last(Session::KIND).map(name), run })
    }

    /// Where the actor of this session is, if it is awake.
    #[must_use]
    pub fn place_of_session(&self, key: &SessionKey) -> Option<ActorPlace> {
        let actor = self.shared.live.get(key)?.handle.cell().get_id().pid();
        self.place(actor)
    }
}
