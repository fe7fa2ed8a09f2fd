//! A look at a database for what does not fit. Takes no lock, changes nothing.

use std::path::Path;

use offshoot_actors::ports::StoreError;
use rusqlite::{Connection, ToSql};

use super::audit::{self, AuditError};
use super::backup::{Progress, problems};
use super::error::{OpenError, plain, store_error};
use super::rows::Columns;
use super::schema::{DATABASE_FILE, Database, known_version};

/// Runs of one kind that are named.
const MAX_NAMED: usize = 20;

/// Rows that nothing in the program would have written, each kind with what counts them. The tables are those of the
/// newest schema.
const MISFITS: &[(&str, &str)] = &[
    ("runs belong to no session", "runs WHERE session NOT IN (SELECT id FROM all_sessions)"),
    (
        "runs are open in a session that was deleted",
        "runs WHERE ended_at IS NULL AND session NOT IN (SELECT id FROM sessions)",
    ),
    (
        "runs are in a state that does not fit their times",
        "runs WHERE (state IN ('accepted', 'running', 'yielded')) <> (ended_at IS NULL)",
    ),
    (
        "runs have a state that nobody knows",
        "runs WHERE state NOT IN ('accepted', 'running', 'yielded', 'ok', 'partial', 'timeout', 'cancelled', \
         'error', 'crashed', 'interrupted')",
    ),
    ("tool calls belong to no run", "tool_calls WHERE run_id NOT IN (SELECT id FROM runs)"),
    ("steering messages wait for no session", "steers WHERE session_key NOT IN (SELECT key FROM sessions)"),
    (
        "sessions have more entries than they count",
        "sessions s WHERE next_seq <= (SELECT max(seq) FROM entries WHERE session = s.id)",
    ),
    (
        "sessions hang under one that never was",
        "sessions WHERE parent_key IS NOT NULL AND parent_key NOT IN (SELECT key FROM all_sessions)",
    ),
    ("callbacks belong to no run", "callbacks WHERE run_id NOT IN (SELECT id FROM runs)"),
];

/// Reads a column as the program does.
type Decode = fn(Columns<'_>) -> rusqlite::Result<()>;

/// What the program keeps in forms of its own.
const FORMS: &[(&str, &str, Decode)] = &[
    ("entries of transcripts", "SELECT seq, run_id, at, content FROM entries", |mut columns| {
        columns.entry().map(|_| ())
    }),
    ("results on their way", "SELECT message FROM outbox", |mut columns| columns.announce().map(|_| ())),
    ("steering messages", "SELECT id, session_key, text, origin, at FROM steers", |mut columns| {
        columns.steer().map(|_| ())
    }),
];

/// A run, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRun {
    /// Its id.
    pub id: String,
    /// The session that it is told of with: its own, or the one that is to be told.
    pub session: String,
    /// The reason of its end, the kind of process that accepted it, or the agent that is missing.
    pub note: String,
}

/// Some runs of a kind, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedRuns {
    /// How many there are.
    pub count: usize,
    /// The first few.
    pub first: Vec<NamedRun>,
}

/// An open database.
#[derive(Debug)]
pub struct Inspection {
    connection: Connection,
    schema: i64,
}

impl Inspection {
    /// Opens the database of a state directory, also one of an older version.
    ///
    /// # Errors
    /// [`OpenError::Missing`] if there is none; it is damaged or of a newer version, or the system refuses.
    pub fn open(state_dir: &Path) -> Result<Self, OpenError> {
        let (_, connection, schema) = Database::look_at(state_dir.join(DATABASE_FILE))?;
        Ok(Self { connection, schema })
    }

    /// Its version, if that is older than the one that is written now. Its rows are looked at only when it is not.
    #[must_use]
    pub fn older(&self) -> Option<(i64, i64)> {
        (self.schema < known_version()).then(|| (self.schema, known_version()))
    }

    /// What is wrong with its pages and with what rows refer to.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn problems(&self) -> Result<Vec<String>, StoreError> {
        problems(&self.connection).map_err(plain)
    }

    /// Rows of the audit record.
    ///
    /// # Errors
    /// It is not what was written, or cannot be read.
    pub fn audit(&self) -> Result<u64, AuditError> {
        audit::verify(&self.connection, None, &Progress::default()).map(|verified| verified.rows)
    }

    /// What does not fit, such as `2 runs belong to no session`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn misfits(&self) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        for (what, rows) in MISFITS {
            let sql = format!("SELECT count(*) FROM {rows}");
            let count: i64 = self.connection.query_row(&sql, [], |row| row.get(0)).map_err(store_error)?;
            found.extend((count > 0).then(|| format!("{count} {what}")));
        }
        for (what, sql, decode) in FORMS {
            let mut statement = self.connection.prepare(sql).map_err(store_error)?;
            let mut rows = statement.query([]).map_err(store_error)?;
            let (mut unreadable, mut first) = (0, None);
            while let Some(row) = rows.next().map_err(store_error)? {
                if let Err(error) = decode(Columns::of(row)) {
                    unreadable += 1;
                    first.get_or_insert(error);
                }
            }
            found.extend(first.map(|error| format!("{unreadable} {what} cannot be read ({error})")));
        }
        Ok(found)
    }

    /// Agents that sessions are of, with the number of these.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn agents(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let sql = "SELECT agent, count(*) FROM sessions GROUP BY agent ORDER BY agent";
        let read = || {
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()
        };
        read().map_err(store_error)
    }

    /// Runs whose results are on their way to a session that is not there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn undeliverable(&self) -> Result<NamedRuns, StoreError> {
        self.runs(
            "SELECT run_id, receiver, state FROM outbox WHERE abandoned OR receiver NOT IN (SELECT key FROM sessions) \
             ORDER BY number",
            &[],
        )
    }

    /// Runs whose results are on their way to a session of an agent that is none of these, with that agent.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn without_agent(&self, configured: &[&str]) -> Result<NamedRuns, StoreError> {
        let configured = serde_json::Value::from(configured).to_string();
        self.runs(
            "SELECT o.run_id, o.receiver, s.agent FROM outbox o JOIN sessions s ON s.key = o.receiver \
             WHERE NOT o.abandoned AND s.agent NOT IN (SELECT value FROM json_each(?)) ORDER BY o.number",
            &[&configured],
        )
    }

    /// Runs that were not resumed in the last seven days because the daemon died with them again and again.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn quarantined(&self) -> Result<NamedRuns, StoreError> {
        self.runs(
            "SELECT id, session_key, reason FROM runs WHERE state = 'interrupted' AND reason LIKE 'quarantined%' \
             AND ended_at > (unixepoch() - 7 * 86400) * 1000 ORDER BY number DESC",
            &[],
        )
    }

    /// Runs that have not ended, with the kind of process that accepted them: `daemon` or `oneshot`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open_runs(&self) -> Result<Vec<NamedRun>, StoreError> {
        self.all("SELECT id, session_key, host FROM runs WHERE ended_at IS NULL ORDER BY number", &[])
    }

    fn runs(&self, sql: &str, values: &[&dyn ToSql]) -> Result<NamedRuns, StoreError> {
        let mut first = self.all(sql, values)?;
        let count = first.len();
        first.truncate(MAX_NAMED);
        Ok(NamedRuns { count, first })
    }

    fn all(&self, sql: &str, values: &[&dyn ToSql]) -> Result<Vec<NamedRun>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare(sql)?;
            let run = |row: &rusqlite::Row<'_>| {
                Ok(NamedRun { id: row.get(0)?, session: row.get(1)?, note: row.get(2)? })
            };
            statement.query_map(values, run)?.collect::<rusqlite::Result<_>>()
        };
        read().map_err(store_error)
    }
}
