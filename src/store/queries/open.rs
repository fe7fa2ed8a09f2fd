//! Runs that are open.

use offshoot_actors::ports::{Cause, LeftRun, OpenRow, OpenRun, RunState};
use rusqlite::{Connection, Result};

use super::super::rows::{Columns, run_columns, session_columns};
use super::all;

pub(in crate::store) fn open_runs(connection: &Connection) -> Result<Vec<OpenRun>> {
    all(
        connection,
        concat!(
            "SELECT ",
            open_run_columns!(),
            " FROM runs r INDEXED BY runs_open JOIN sessions s ON s.id = r.session \
             WHERE r.ended_at IS NULL ORDER BY r.number"
        ),
        [],
        open_run,
    )
}

pub(in crate::store) fn open_rows(connection: &Connection) -> Result<Vec<OpenRow>> {
    all(
        connection,
        concat!(
            "SELECT ",
            run_columns!(),
            ", ",
            session_columns!(),
            ", e.content FROM runs r INDEXED BY runs_open JOIN sessions s ON s.id = r.session \
             LEFT JOIN entries e ON r.cause = ?1 AND e.session = s.id \
             AND e.seq = (SELECT min(f.seq) FROM entries f WHERE f.session = s.id) \
             WHERE r.ended_at IS NULL ORDER BY r.number"
        ),
        [Cause::Spawn.as_str()],
        |mut columns| {
            Ok(OpenRow { row: columns.run()?, session: columns.session()?, first: columns.json_or_null()? })
        },
    )
}

pub(in crate::store) fn left_runs(connection: &Connection) -> Result<Vec<LeftRun>> {
    all(
        connection,
        concat!(
            "SELECT ",
            open_run_columns!(),
            ", r.state, r.recovery, r.attempts, (SELECT died FROM starts), p.state, s.updated_at \
             FROM runs r INDEXED BY runs_open JOIN sessions s ON s.id = r.session \
             LEFT JOIN runs p ON p.id = r.spawner_id AND p.ended_at IS NOT NULL WHERE r.ended_at IS NULL ORDER BY r.number"
        ),
        [],
        |mut columns| {
            Ok(LeftRun {
                open: open_run_of(&mut columns)?,
                state: columns.state()?,
                recovery: columns.recovery()?,
                attempts: columns.value()?,
                died: columns.value()?,
                spawner_ended: columns.state_or_null()?.and_then(RunState::terminal),
                written_at: columns.time()?,
            })
        },
    )
}

pub(super) fn open_run(mut columns: Columns<'_>) -> Result<OpenRun> {
    open_run_of(&mut columns)
}

fn open_run_of(columns: &mut Columns<'_>) -> Result<OpenRun> {
    Ok(OpenRun {
        run: columns.parsed()?,
        session: columns.parsed()?,
        announce_to: columns.parsed_or_null()?,
        root: columns.parsed()?,
        depth: columns.value()?,
        cause: columns.cause()?,
        spawner: columns.parsed_or_null()?,
        host: columns.host()?,
        on_parent_exit: columns.on_parent_exit()?,
    })
}
