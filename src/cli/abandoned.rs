//! Open runs that nobody executes, because their process is gone.

use std::collections::BTreeSet;

use offshoot_actors::ports::{RunRow, Storage};
use offshoot_actors::types::RunId;

use super::Global;
use super::exit::Failure;
use super::output::hint;
use crate::store::in_use;

const ABANDONED: &str = "abandoned";

/// A run's state for people.
pub(crate) fn state(row: &RunRow, abandoned: &BTreeSet<RunId>) -> &'static str {
    if abandoned.contains(&row.id) { ABANDONED } else { row.state.as_str() }
}

/// Those of `rows`, which were read before, that nobody executes. Brings the open ones among them up to date.
pub(crate) async fn among(
    rows: &mut [RunRow],
    storage: &dyn Storage,
    global: &Global,
) -> Result<BTreeSet<RunId>, Failure> {
    let mut abandoned = BTreeSet::new();
    let is_open = |row: &RunRow| row.state.is_open();
    if !rows.iter().any(is_open) {
        return Ok(abandoned);
    }
    // A process that accepted one of them has held the directory since, so if nobody has it now, that one is gone. It
    // may have ended its runs in between.
    let dir = global.environment.state_dir()?;
    match in_use(&dir) {
        Ok(false) => {}
        Ok(true) => return Ok(abandoned),
        Err(error) => {
            tracing::info!(dir = %dir.display(), %error, "cannot tell whether the state directory is in use");
            return Ok(abandoned);
        }
    }
    for row in rows.iter_mut().filter(|row| is_open(row)) {
        if let Some(now) = storage.run(row.id).await? {
            *row = now;
        }
        if row.state.is_open() {
            abandoned.insert(row.id);
        }
    }
    Ok(abandoned)
}

/// Says what ends them.
pub(crate) fn tell(abandoned: &BTreeSet<RunId>) {
    let Some(first) = abandoned.first() else { return };
    let (runs, their) = match abandoned.len() {
        1 => ("1 run is".to_owned(), "its"),
        count => (format!("{count} runs are"), "their"),
    };
    hint(&format!(
        "{runs} {ABANDONED}: {their} process is gone. `offshoot runs cancel {first}` ends one with what it spawned; \
         the next `offshoot gateway` on this state directory ends all as interrupted, the next `offshoot spawn` or \
         `offshoot run` those of commands"
    ));
}
