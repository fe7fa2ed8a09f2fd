//! Rows that do not fit together.

use super::{Finding, Found, Patient};

pub(super) fn look(patient: &Patient) -> Found {
    let Some(store) = patient.rows() else { return Ok(Vec::new()) };
    let finding = |what: String| {
        Finding::new(
            what,
            "nothing in the program writes such rows: something else has changed the database, or lost a part of it",
            "keep a copy with `offshoot backup create`, look at the rows with `sqlite3 -readonly`, and if they matter put an earlier copy back with `offshoot backup restore FILE`",
        )
    };
    Ok(store.misfits()?.into_iter().map(finding).collect())
}
