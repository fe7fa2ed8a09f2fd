//! What lists and statistics show.

use offshoot_actors::ports::{
    Overview, OverviewFilter, Overviews, Page, RunGlance, RunUse, SessionRow, ToolUse, ToolUseFilter,
};
use offshoot_actors::types::SessionKey;
use rusqlite::{Connection, Result, params};

use super::{List, all};
use crate::store::rows::{Columns, session_columns};

/// What [`Columns::glance`] reads, from a table named `r`.
macro_rules! glance_columns {
    () => {
        "r.id, r.wire_id, r.state, coalesce(r.model_used, r.model), r.input_tokens, r.output_tokens, \
         r.cached_tokens, r.accepted_at, r.started_at, r.ended_at"
    };
}

/// A session with its place and the number of its entries.
type Found = (SessionRow, i64, u64);

/// All parts from one snapshot of the database.
pub(in crate::store) fn overviews(
    connection: &Connection,
    filter: &OverviewFilter,
    page: Page,
) -> Result<Overviews> {
    let snapshot = connection.unchecked_transaction()?;
    let list = |select| {
        let mut list = List::new(select);
        list.only_sessions(&filter.list);
        if let Some(key) = &filter.key {
            list.only("s.key = ?", key.as_str().to_owned());
        }
        if let Some(label) = &filter.label {
            list.only("s.label = ?", label.clone());
        }
        if let Some(search) = &filter.search {
            list.only("instr(lower(s.key || ' ' || coalesce(s.label, '')), lower(?)) > 0", search.clone());
        }
        if filter.roots {
            list.when("s.parent_key IS NULL");
        }
        list
    };
    let total = list("SELECT count(*) FROM sessions s").one(&snapshot)?;
    let select = concat!("SELECT ", session_columns!(), ", s.id, s.next_seq FROM sessions s");
    let found = list(select).page(&snapshot, "s.updated_at DESC, s.id", page, |mut columns| {
        let row = columns.session()?;
        Ok((row, columns.value()?, columns.value::<i64>()?.unsigned_abs()))
    })?;
    let sessions = found.into_iter().map(|found| overview(&snapshot, found)).collect::<Result<_>>()?;
    snapshot.finish()?;
    Ok(Overviews { total, sessions })
}

fn overview(connection: &Connection, (row, id, entries): Found) -> Result<Overview> {
    let open = all(
        connection,
        concat!(
            "SELECT ",
            glance_columns!(),
            " FROM runs r WHERE r.session = ?1 AND r.ended_at IS NULL ORDER BY r.number"
        ),
        [id],
        |mut columns| columns.glance(),
    )?;
    let latest = all(
        connection,
        concat!(
            "SELECT ",
            glance_columns!(),
            " FROM runs r WHERE r.number = (SELECT max(number) FROM runs WHERE session = ?1)"
        ),
        [id],
        |mut columns| columns.glance(),
    )?;
    let children = all(
        connection,
        "SELECT key FROM sessions WHERE parent_key = ?1 ORDER BY id DESC LIMIT ?2",
        params![row.key.as_str(), Overview::MAX_CHILDREN],
        |mut columns| columns.parsed(),
    )?;
    let context = all(
        connection,
        "SELECT content ->> '$.usage.input' FROM entries \
         WHERE session = ?1 AND content ->> '$.type' = 'assistant' ORDER BY seq DESC LIMIT 1",
        [id],
        |mut columns| Ok(columns.value::<i64>()?.unsigned_abs()),
    )?;
    Ok(Overview {
        row,
        open,
        latest: latest.into_iter().next(),
        children,
        entries,
        context: context.into_iter().next(),
    })
}

pub(in crate::store) fn tool_uses(connection: &Connection, filter: &ToolUseFilter) -> Result<Vec<ToolUse>> {
    all(
        connection,
        // SQLite divides towards zero; the days before the epoch are made positive first.
        "SELECT r.session_key, t.name, (t.started_at + ?3 + 86400000 * 1000000) / 86400000 - 1000000 AS day, \
         count(*), coalesce(sum(t.status = 'error'), 0) \
         FROM tool_calls t JOIN runs r ON r.id = t.run_id \
         WHERE t.started_at >= ?1 AND (?2 IS NULL OR r.session_key = ?2) \
         GROUP BY r.session_key, t.name, day ORDER BY r.session_key, t.name, day",
        params![filter.since.0, filter.session.as_ref().map(SessionKey::as_str), filter.offset_ms],
        |mut columns| {
            Ok(ToolUse {
                session: columns.parsed()?,
                tool: columns.value()?,
                day: columns.value()?,
                calls: columns.value::<i64>()?.unsigned_abs(),
                failed: columns.value::<i64>()?.unsigned_abs(),
            })
        },
    )
}

pub(in crate::store) fn run_uses(
    connection: &Connection,
    filter: &ToolUseFilter,
    most: u32,
) -> Result<Vec<RunUse>> {
    all(
        connection,
        // A total never fails, whatever a provider claims to have counted.
        "SELECT session_key, coalesce(model_used, model) AS called, \
         (coalesce(ended_at, started_at, accepted_at) + ?3 + 86400000 * 1000000) / 86400000 - 1000000 AS day, \
         count(*), CAST(total(steps) AS INTEGER), \
         coalesce(sum(ended_at IS NOT NULL AND state NOT IN ('ok', 'partial')), 0), \
         CAST(total(input_tokens) AS INTEGER), CAST(total(output_tokens) AS INTEGER), \
         CAST(total(cached_tokens) AS INTEGER), max(coalesce(ended_at, started_at, accepted_at)) AS latest \
         FROM runs WHERE coalesce(ended_at, started_at, accepted_at) >= ?1 AND (?2 IS NULL OR session_key = ?2) \
         GROUP BY session_key, called, day ORDER BY latest DESC, session_key, called, day LIMIT ?4",
        params![filter.since.0, filter.session.as_ref().map(SessionKey::as_str), filter.offset_ms, most],
        |mut columns| {
            Ok(RunUse {
                session: columns.parsed()?,
                model: columns.parsed()?,
                day: columns.value()?,
                runs: columns.value::<i64>()?.unsigned_abs(),
                steps: columns.value::<i64>()?.unsigned_abs(),
                failed: columns.value::<i64>()?.unsigned_abs(),
                usage: columns.usage()?,
                latest: columns.time()?,
            })
        },
    )
}

impl Columns<'_> {
    fn glance(&mut self) -> Result<RunGlance> {
        Ok(RunGlance {
            id: self.parsed()?,
            wire_id: self.value()?,
            state: self.state()?,
            model: self.parsed()?,
            usage: self.usage()?,
            accepted_at: self.time()?,
            started_at: self.time_or_null()?,
            ended_at: self.time_or_null()?,
        })
    }
}
