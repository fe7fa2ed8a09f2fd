//! Questions to the database.

/// What [`open_run`] reads.
macro_rules! open_run_columns {
    () => {
        "r.id, r.session_key, r.announce_to, s.root_key, s.depth, r.cause, r.spawner_id, r.host, s.on_parent_exit"
    };
}

mod consequences;
mod deliveries;
mod devices;
mod open;
mod overviews;
mod retention;
mod tallies;

use std::ops::Range;
use std::sync::Arc;

use offshoot_actors::ports::{
    DAY_MS, DayUsage, Earlier, Host, ListFilter, Page, RequestKey, RunRow, RunState, RunTrace,
    SessionFigures, SessionRow, StoredSession, SubtreeRun, Survivors, Unfinished,
};
use offshoot_actors::types::{RunId, SessionKey, StoredEntry, Timestamp, Usage};
use rusqlite::{Connection, OptionalExtension, Params, Result, ToSql, params};

pub(super) use self::consequences::{consequences, runs_named};
pub(super) use self::deliveries::{callbacks, deliveries, delivery_tally};
pub(super) use self::devices::pairing;
use self::open::open_run;
pub(super) use self::open::{left_runs, open_rows, open_runs};
pub(super) use self::overviews::{overviews, run_uses, tool_uses};
pub(super) use self::retention::quiet_sessions;
pub(super) use self::tallies::tallies;
use super::rows::{Columns, IdText, count, run_columns, session_columns};

/// All parts from one snapshot of the database.
pub(super) fn load_session(connection: &Connection, key: &SessionKey) -> Result<Option<StoredSession>> {
    let snapshot = connection.unchecked_transaction()?;
    let found = snapshot
        .prepare_cached(concat!("SELECT ", session_columns!(), ", s.id FROM sessions s WHERE s.key = ?1"))?
        .query_row([key.as_str()], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.session()?, columns.value::<i64>()?))
        })
        .optional()?;
    let Some((row, id)) = found else { return Ok(None) };
    let transcript = all(
        &snapshot,
        "SELECT seq, run_id, at, content FROM entries WHERE session = ?1 ORDER BY seq",
        [id],
        |mut columns| columns.entry(),
    )?;
    let runs = all(
        &snapshot,
        concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs r WHERE r.session = ?1 AND r.ended_at IS NULL ORDER BY r.number"
        ),
        [id],
        |mut columns| columns.run(),
    )?;
    let announces = all(
        &snapshot,
        "SELECT message FROM outbox WHERE receiver = ?1 AND NOT abandoned ORDER BY number",
        [key.as_str()],
        |mut columns| columns.announce(),
    )?;
    let steers = all(
        &snapshot,
        "SELECT id, session_key, text, origin, at FROM steers WHERE session_key = ?1 ORDER BY number",
        [key.as_str()],
        |mut columns| columns.steer(),
    )?;
    let children = all(
        &snapshot,
        concat!(
            "SELECT ",
            open_run_columns!(),
            " FROM runs r JOIN sessions s ON s.id = r.session \
             WHERE r.announce_to = ?1 AND r.ended_at IS NULL ORDER BY r.number"
        ),
        [key.as_str()],
        open_run,
    )?;
    let at_work = runs.iter().filter(|run| matches!(run.state, RunState::Running | RunState::Yielded));
    let traces = at_work.map(|run| trace(&snapshot, key, run.id)).collect::<Result<_>>()?;
    snapshot.finish()?;
    Ok(Some(StoredSession { row, transcript, runs, announces, steers, children, traces }))
}

fn trace(connection: &Connection, session: &SessionKey, run: RunId) -> Result<RunTrace> {
    let started = all(
        connection,
        "SELECT call_id FROM tool_calls WHERE run_id = ?1 AND finished_at IS NULL ORDER BY step, call_id",
        [IdText::from(run)],
        |mut columns| columns.value(),
    )?;
    let spawned = all(
        connection,
        "SELECT s.key FROM runs r JOIN sessions s ON s.id = r.session \
         WHERE r.spawner_id = ?1 AND s.parent_key = ?2 AND s.on_parent_exit = 'stop' \
         GROUP BY s.id ORDER BY s.id",
        params![IdText::from(run), session.as_str()],
        |mut columns| columns.parsed(),
    )?;
    Ok(RunTrace { run, started, spawned })
}

pub(super) fn session(connection: &Connection, key: &SessionKey) -> Result<Option<SessionRow>> {
    connection
        .prepare_cached(concat!("SELECT ", session_columns!(), " FROM sessions s WHERE s.key = ?1"))?
        .query_row([key.as_str()], |row| Columns::of(row).session())
        .optional()
}

pub(super) fn run(connection: &Connection, run: RunId) -> Result<Option<RunRow>> {
    connection
        .prepare_cached(concat!("SELECT ", run_columns!(), " FROM runs r WHERE r.id = ?1"))?
        .query_row([IdText::from(run)], |row| Columns::of(row).run())
        .optional()
}

pub(super) fn runs_beginning(connection: &Connection, text: &str, limit: u32) -> Result<Vec<RunId>> {
    all(
        connection,
        // No id goes on with a letter after f.
        "SELECT id FROM runs WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id DESC LIMIT ?2",
        params![text, limit],
        |mut columns| columns.parsed(),
    )
}

pub(super) fn entries(
    connection: &Connection,
    key: &SessionKey,
    from: u64,
    limit: u32,
) -> Result<Vec<Arc<StoredEntry>>> {
    all(
        connection,
        "SELECT e.seq, e.run_id, e.at, e.content FROM sessions s JOIN entries e ON e.session = s.id \
         WHERE s.key = ?1 AND e.seq >= ?2 ORDER BY e.seq LIMIT ?3",
        params![key.as_str(), count(from), limit],
        |mut columns| columns.entry(),
    )
}

pub(super) fn latest_entries(
    connection: &Connection,
    key: &SessionKey,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<Arc<StoredEntry>>> {
    let mut found = all(
        connection,
        "SELECT e.seq, e.run_id, e.at, e.content FROM sessions s JOIN entries e ON e.session = s.id \
         WHERE s.key = ?1 AND e.seq < ?2 ORDER BY e.seq DESC LIMIT ?3",
        params![key.as_str(), count(before.unwrap_or(u64::MAX)), limit],
        |mut columns| columns.entry(),
    )?;
    found.reverse();
    Ok(found)
}

pub(super) fn earlier(connection: &Connection, key: &RequestKey) -> Result<Option<Earlier>> {
    connection
        .prepare_cached(concat!(
            "SELECT q.digest, ",
            run_columns!(),
            ", ",
            session_columns!(),
            " FROM requests q JOIN runs r ON r.id = q.run_id JOIN all_sessions s ON s.id = r.session \
             WHERE q.principal = ?1 AND q.method = ?2 AND q.key = ?3"
        ))?
        .query_row(params![key.principal, key.method, key.key], |row| {
            let mut columns = Columns::of(row);
            Ok(Earlier { digest: columns.value()?, run: columns.run()?, session: columns.session()? })
        })
        .optional()
}

pub(super) fn open_in_subtree(connection: &Connection, key: &SessionKey) -> Result<Vec<SubtreeRun>> {
    all(
        connection,
        concat!(
            "WITH RECURSIVE tree (id, key) AS (SELECT id, key FROM sessions WHERE key = ?1 \
             UNION ALL SELECT c.id, c.key FROM tree t JOIN sessions c ON c.parent_key = t.key) \
             SELECT ",
            run_columns!(),
            ", ",
            session_columns!(),
            " FROM tree t CROSS JOIN runs r ON r.session = t.id AND r.ended_at IS NULL \
             CROSS JOIN sessions s ON s.id = t.id ORDER BY s.depth DESC, r.number"
        ),
        [key.as_str()],
        |mut columns| Ok(SubtreeRun { row: columns.run()?, session: columns.session()? }),
    )
}

pub(super) fn survivors(connection: &Connection, key: &SessionKey) -> Result<Survivors> {
    let snapshot = connection.unchecked_transaction()?;
    let ancestors = all(
        &snapshot,
        "WITH RECURSIVE up (key, above) AS (SELECT parent_key, 1 FROM sessions WHERE key = ?1 \
         UNION ALL SELECT s.parent_key, u.above + 1 FROM up u JOIN sessions s ON s.key = u.key) \
         SELECT key FROM up WHERE key IS NOT NULL ORDER BY above",
        [key.as_str()],
        |mut columns| columns.parsed(),
    )?;
    let sessions = all(
        &snapshot,
        concat!(
            "WITH RECURSIVE gone (key) AS (VALUES (?1) \
             UNION ALL SELECT c.key FROM gone g JOIN sessions c ON c.parent_key = g.key \
             WHERE c.on_parent_exit = 'stop') \
             SELECT ",
            session_columns!(),
            " FROM gone g CROSS JOIN sessions s ON s.parent_key = g.key \
             WHERE s.on_parent_exit <> 'stop' ORDER BY s.id"
        ),
        [key.as_str()],
        |mut columns| columns.session(),
    )?;
    snapshot.finish()?;
    Ok(Survivors { ancestors, sessions })
}

pub(super) fn waiting_sessions(connection: &Connection) -> Result<Vec<SessionKey>> {
    all(
        connection,
        "SELECT receiver FROM outbox WHERE NOT abandoned UNION SELECT session_key FROM steers ORDER BY 1",
        [],
        |mut columns| columns.parsed(),
    )
}

/// What is open or waits in the whole store is little beside what is stored, so the root is looked up for each of that.
pub(super) fn unfinished(connection: &Connection, root: &SessionKey, host: Host) -> Result<Unfinished> {
    let snapshot = connection.unchecked_transaction()?;
    let open = snapshot
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM runs r INDEXED BY runs_open \
             CROSS JOIN sessions s ON s.id = r.session \
             WHERE r.ended_at IS NULL AND r.host = ?2 AND s.root_key = ?1)",
        )?
        .query_row(params![root.as_str(), host.as_str()], |row| row.get(0))?;
    let waiting = all(
        &snapshot,
        "SELECT s.key FROM (SELECT receiver AS key FROM outbox WHERE NOT abandoned UNION SELECT session_key FROM steers) w \
         CROSS JOIN sessions s ON s.key = w.key WHERE s.root_key = ?1 ORDER BY 1",
        [root.as_str()],
        |mut columns| columns.parsed(),
    )?;
    snapshot.finish()?;
    Ok(Unfinished { open, waiting })
}

pub(super) fn undelivered(connection: &Connection, key: &SessionKey) -> Result<Option<SessionKey>> {
    let found = all(
        connection,
        "WITH RECURSIVE tree (key) AS (VALUES (?1) \
         UNION ALL SELECT c.key FROM tree t JOIN sessions c ON c.parent_key = t.key \
         WHERE c.on_parent_exit = 'stop') \
         SELECT receiver FROM outbox WHERE NOT abandoned \
         AND (receiver IN (SELECT key FROM tree) OR session_key IN (SELECT key FROM tree)) \
         UNION SELECT session_key FROM steers WHERE session_key IN (SELECT key FROM tree) \
         ORDER BY 1 LIMIT 1",
        [key.as_str()],
        |mut columns| columns.parsed(),
    )?;
    Ok(found.into_iter().next())
}

pub(super) fn subtree_usage(connection: &Connection, key: &SessionKey) -> Result<Usage> {
    let usages = all(
        connection,
        "WITH RECURSIVE tree (key) AS (VALUES (?1) \
         UNION SELECT c.key FROM tree t JOIN sessions c ON c.parent_key = t.key \
         UNION SELECT d.key FROM tree t JOIN deleted_sessions d ON d.parent_key = t.key) \
         SELECT r.input_tokens, r.output_tokens, r.cached_tokens \
         FROM tree t CROSS JOIN all_sessions s ON s.key = t.key CROSS JOIN runs r ON r.session = s.id",
        [key.as_str()],
        |mut columns| columns.usage(),
    )?;
    Ok(usages.into_iter().sum())
}

/// From one statement, and so of one moment: a session without runs has one row without a run.
pub(super) fn session_figures(connection: &Connection, key: &SessionKey) -> Result<Option<SessionFigures>> {
    let mut figures = None;
    let mut statement = connection.prepare_cached(
        "WITH RECURSIVE tree (key, level) AS (SELECT key, 0 FROM sessions WHERE key = ?1 \
         UNION SELECT c.key, min(t.level + 1, 2) FROM tree t JOIN sessions c ON c.parent_key = t.key \
         UNION SELECT d.key, min(t.level + 1, 2) FROM tree t JOIN deleted_sessions d ON d.parent_key = t.key) \
         SELECT t.level, r.id IS NOT NULL, r.id, r.ended_at, r.cause, r.state, r.accepted_at, \
         coalesce(r.model_used, r.model), r.input_tokens, r.output_tokens, r.cached_tokens \
         FROM tree t CROSS JOIN all_sessions s ON s.key = t.key LEFT JOIN runs r ON r.session = s.id",
    )?;
    let mut rows = statement.query([key.as_str()])?;
    while let Some(row) = rows.next()? {
        let figures = figures.get_or_insert_with(SessionFigures::default);
        let mut columns = Columns::of(row);
        let level = columns.count()?;
        let has_run = columns.value::<i64>()? > 0;
        if !has_run {
            continue;
        }
        let ended = (columns.parsed()?, columns.time_or_null()?);
        let (cause, state, accepted_at) = (columns.cause()?, columns.state()?, columns.time()?);
        let (model, usage) = (columns.parsed()?, columns.usage()?);
        figures.count(level, ended, (cause, state), accepted_at, (&model, usage));
    }
    Ok(figures)
}

pub(super) fn usage_by_day(
    connection: &Connection,
    when: Range<Timestamp>,
    offset_ms: i64,
) -> Result<Vec<DayUsage>> {
    all(
        connection,
        // A total never fails, whatever a provider claims to have counted.
        "SELECT (coalesce(ended_at, accepted_at) + ?3) / ?4 AS day, coalesce(model_used, model) AS used, count(*), \
         CAST(total(input_tokens) AS INTEGER), CAST(total(output_tokens) AS INTEGER), \
         CAST(total(cached_tokens) AS INTEGER) FROM runs \
         WHERE coalesce(ended_at, accepted_at) >= ?1 AND coalesce(ended_at, accepted_at) < ?2 \
         AND (input_tokens > 0 OR output_tokens > 0) GROUP BY day, used ORDER BY day, used",
        params![when.start.0, when.end.0, offset_ms, DAY_MS],
        |mut columns| {
            let (day, model) = (columns.value()?, columns.parsed()?);
            Ok(DayUsage { day, model, runs: columns.count()?, usage: columns.usage()? })
        },
    )
}

pub(super) fn list_sessions(
    connection: &Connection,
    filter: &ListFilter,
    page: Page,
) -> Result<Vec<SessionRow>> {
    let mut list = List::new(concat!("SELECT ", session_columns!(), " FROM sessions s"));
    list.only_sessions(filter);
    list.page(connection, "s.id", page, |mut columns| columns.session())
}

pub(super) fn list_runs(connection: &Connection, filter: &ListFilter, page: Page) -> Result<Vec<RunRow>> {
    let mut list = List::new(concat!("SELECT ", run_columns!(), " FROM runs r"));
    if let Some(agent) = &filter.agent {
        // Every key of this agent, and no other, lies between these two.
        list.only("r.session_key >= ?", format!("agent:{agent}:"));
        list.only("r.session_key < ?", format!("agent:{agent};"));
    }
    if let Some(session) = &filter.session {
        list.only(
            "r.session IN (SELECT s.id FROM all_sessions s WHERE s.key = ?)",
            session.as_str().to_owned(),
        );
    }
    if let Some(root) = &filter.root {
        list.only(
            "r.session IN (SELECT s.id FROM all_sessions s WHERE s.root_key = ?)",
            root.as_str().to_owned(),
        );
    }
    if let Some(cause) = filter.cause {
        list.only("r.cause = ?", cause.as_str());
    }
    if let Some(to) = &filter.announce_to {
        list.only("r.announce_to = ?", to.as_str().to_owned());
    }
    if filter.open {
        list.when("r.ended_at IS NULL");
    }
    if let Some(since) = filter.since {
        list.only("coalesce(r.ended_at, r.started_at, r.accepted_at) >= ?", since.0);
    }
    list.page(connection, "r.number", page, |mut columns| columns.run())
}

/// A list whose conditions are put together.
struct List {
    sql: String,
    separator: &'static str,
    values: Vec<Box<dyn ToSql>>,
}

impl List {
    fn new(select: &str) -> Self {
        Self { sql: select.to_owned(), separator: " WHERE ", values: Vec::new() }
    }

    fn when(&mut self, condition: &str) {
        self.sql.push_str(self.separator);
        self.sql.push_str(condition);
        self.separator = " AND ";
    }

    /// A condition with one `?`.
    fn only(&mut self, condition: &str, value: impl ToSql + 'static) {
        self.when(condition);
        self.values.push(Box::new(value));
    }

    /// The conditions of a list of sessions.
    fn only_sessions(&mut self, filter: &ListFilter) {
        if let Some(agent) = &filter.agent {
            self.only("s.agent = ?", agent.as_str().to_owned());
        }
        if let Some(parent) = &filter.session {
            self.only("s.parent_key = ?", parent.as_str().to_owned());
        }
        if let Some(root) = &filter.root {
            self.only("s.root_key = ?", root.as_str().to_owned());
        }
        if filter.open {
            self.when("EXISTS (SELECT 1 FROM runs r WHERE r.session = s.id AND r.ended_at IS NULL)");
        }
        if let Some(since) = filter.since {
            self.only("s.updated_at >= ?", since.0);
        }
    }

    /// The number that it counts.
    fn one(self, connection: &Connection) -> Result<u64> {
        let mut statement = connection.prepare_cached(&self.sql)?;
        let number = statement.query_row(rusqlite::params_from_iter(self.values), |row| row.get::<_, i64>(0));
        Ok(number?.unsigned_abs())
    }

    fn page<T>(
        mut self,
        connection: &Connection,
        newest: &str,
        page: Page,
        row: impl FnMut(Columns<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.sql.push_str(&format!(" ORDER BY {newest} DESC LIMIT {} OFFSET {}", page.limit, page.offset));
        all(connection, &self.sql, rusqlite::params_from_iter(self.values), row)
    }
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    mut row: impl FnMut(Columns<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map(params, |columns| row(Columns::of(columns)))?.collect()
}
