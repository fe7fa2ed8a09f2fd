//! What runs led to, and the names that clients gave them.

use offshoot_actors::ports::{Consequences, RunRow};
use offshoot_actors::types::{RunId, SessionKey};
use rusqlite::{Connection, Result, params};

use super::all;
use crate::store::rows::{IdText, run_columns};

/// The numbers of the run ?1 and of all that it led to, and whether what each spawned belongs to it as well: not so with
/// a run that is there for something else and took up a result. A result that leaves the run's own session goes up, to a
/// parent whose affair it is.
macro_rules! led_to {
    () => {
        "WITH RECURSIVE led (number, id, whole) AS (SELECT number, id, 1 FROM runs WHERE id = ?1 \
         UNION SELECT n.number, n.id, 1 FROM led l CROSS JOIN runs n ON n.spawner_id = l.id WHERE l.whole \
         UNION SELECT n.number, n.id, n.cause = 'announce' FROM led l CROSS JOIN taken t ON t.run_id = l.id \
         CROSS JOIN runs c ON c.number = l.number CROSS JOIN runs n ON n.id = t.taker_id \
         WHERE c.session <> (SELECT session FROM runs WHERE id = ?1)) "
    };
}

pub(in crate::store) fn consequences(
    connection: &Connection,
    run: RunId,
    session: Option<&SessionKey>,
    limit: u32,
) -> Result<Consequences> {
    let snapshot = connection.unchecked_transaction()?;
    let id = IdText::from(run);
    let rows = concat!(
        led_to!(),
        "SELECT ",
        run_columns!(),
        ", l.whole FROM (SELECT number, max(whole) AS whole FROM led GROUP BY number) l \
         CROSS JOIN runs r ON r.number = l.number \
         WHERE ?2 IS NULL OR r.session_key = ?2 ORDER BY r.number DESC LIMIT ?3"
    );
    // Who waits asks for no rows, again and again.
    let mut found = if limit == 0 {
        Vec::new()
    } else {
        let params = params![id, session.map(SessionKey::as_str), limit];
        all(&snapshot, rows, params, |mut columns| Ok((columns.run()?, columns.value::<bool>()?)))?
    };
    found.reverse();
    let takers = found.iter().filter(|(_, whole)| !whole).map(|(row, _)| row.id).collect();
    let runs = found.into_iter().map(|(row, _)| row).collect();
    let pending = snapshot
        .prepare_cached(concat!(
            led_to!(),
            "SELECT 1 FROM led l CROSS JOIN runs r ON r.number = l.number WHERE r.ended_at IS NULL \
             OR (r.session <> (SELECT session FROM runs WHERE id = ?1) \
             AND EXISTS (SELECT 1 FROM outbox o WHERE o.run_id = r.id AND NOT o.abandoned)) LIMIT 1"
        ))?
        .exists(params![IdText::from(run)])?;
    snapshot.finish()?;
    Ok(Consequences { runs, takers, pending })
}

pub(in crate::store) fn runs_named(
    connection: &Connection,
    wire_id: &str,
    limit: u32,
) -> Result<Vec<RunRow>> {
    all(
        connection,
        concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs r WHERE r.wire_id = ?1 ORDER BY r.number DESC LIMIT ?2"
        ),
        params![wire_id, limit],
        |mut columns| columns.run(),
    )
}
