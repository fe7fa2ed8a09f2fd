//! Open runs that nobody executes, because their process is gone.

use std::collections::BTreeSet;

use offshoot_actors::ports::{Host, RunRow, Storage};
use offshoot_actors::types::RunId;

use super::Global;
use super::exit::Failure;
use super::output::hint;
use crate::store::in_use;

/// One of a command, which nobody goes on with.
const ABANDONED: &str = "abandoned";
/// One of a daemon, which the next one goes on with.
const SUSPENDED: &str = "suspended";

/// Open runs that nobody executes now.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    abandoned: BTreeSet<RunId>,
    suspended: BTreeSet<RunId>,
}

impl Idle {
    pub(crate) fn is_abandoned(&self, run: RunId) -> bool {
        self.abandoned.contains(&run)
    }

    pub(crate) fn is_suspended(&self, run: RunId) -> bool {
        self.suspended.contains(&run)
    }
}

/// A run's state for people.
pub(crate) fn state(row: &RunRow, idle: &Idle) -> &'static str {
    if idle.is_abandoned(row.id) {
        ABANDONED
    } else if idle.is_suspended(row.id) {
        SUSPENDED
    } else {
        row.state.as_str()
    }
}

/// Those of `rows`, which were read before, that nobody executes. Brings the open ones among them up to date.
pub(crate) async fn among(
    rows: &mut [RunRow],
    storage: &dyn Storage,
    global: &Global,
) -> Result<Idle, Failure> {
    let mut idle = Idle::default();
    let is_open = |row: &RunRow| row.state.is_open();
    if !rows.iter().any(is_open) {
        return Ok(idle);
    }
    // A process that accepted one of them has held the directory since, so if nobody has it now, that one is gone. It
    // may have ended its runs in between.
    let dir = global.environment.state_dir()?;
    match in_use(&dir) {
        Ok(false) => {}
        Ok(true) => return Ok(idle),
        Err(error) => {
            tracing::info!(dir = %dir.display(), %error, "cannot tell whether the state directory is in use");
            return Ok(idle);
        }
    }
    for row in rows.iter_mut().filter(|row| is_open(row)) {
        if let Some(now) = storage.run(row.id).await? {
            *row = now;
        }
        if row.state.is_open() {
            let of_its_kind =
                if row.host == Host::Daemon { &mut idle.suspended } else { &mut idle.abandoned };
            of_its_kind.insert(row.id);
        }
    }
    Ok(idle)
}

/// Says what becomes of them.
pub(crate) fn tell(idle: &Idle) {
    if let Some(first) = idle.abandoned.first() {
        let (runs, their) = match idle.abandoned.len() {
            1 => ("1 run is".to_owned(), "its"),
            count => (format!("{count} runs are"), "their"),
        };
        hint(&format!(
            "{runs} {ABANDONED}: {their} process is gone. `offshoot runs cancel {first}` ends one with what it spawned; \
             the next `offshoot gateway`, `offshoot spawn` or `offshoot run` on this state directory ends all"
        ));
    }
    if let Some(first) = idle.suspended.first() {
        let (runs, them) = match idle.suspended.len() {
            1 => ("1 run is".to_owned(), "it"),
            count => (format!("{count} runs are"), "them"),
        };
        hint(&format!(
            "{runs} {SUSPENDED}: no gateway runs. The next `offshoot gateway` on this state directory goes on with \
             {them}; `offshoot runs cancel {first}` ends one with what it spawned"
        ));
    }
}
