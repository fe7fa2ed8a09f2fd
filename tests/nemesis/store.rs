//! The store as a reader beside the daemon sees it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, Row};
use serde_json::Value;

/// Everything that the checker looks at.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub runs: BTreeMap<String, Run>,
    pub sessions: BTreeMap<String, Session>,
    /// The parent of each session, also of deleted ones.
    pub parents: BTreeMap<String, String>,
    /// Labels of children, with how many sessions have each; also of deleted ones.
    pub labels: BTreeMap<String, u64>,
    pub tools: Vec<Tool>,
    /// What was decided of calls that a daemon left without a result: the event and the call.
    pub decisions: Vec<(String, String)>,
    /// Results that were not taken: the child's run and the receiver.
    pub outbox: Vec<(String, String)>,
    /// Steering messages that were not taken: the session and the text.
    pub steers: Vec<(String, String)>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    pub session: String,
    pub state: String,
    pub reason: Option<String>,
    /// Whose session gets the result, if it wants it.
    pub announce_to: Option<String>,
    pub wire_id: Option<String>,
    pub accepted_at: i64,
    pub ended_at: Option<i64>,
    /// Tokens.
    pub input: u64,
    pub output: u64,
    /// What it was asked, as long as that is not in the transcript.
    pub asked: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Session {
    /// The run that waits for children.
    pub yielded: Option<String>,
    /// By place, each with its run and what it says.
    pub entries: Vec<(Option<String>, Value)>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tool {
    pub run: String,
    pub call: String,
    pub name: String,
}

/// Whether anything is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub open: u64,
    pub outbox: u64,
    pub steers: u64,
}

impl Left {
    pub const NOTHING: Self = Self { open: 0, outbox: 0, steers: 0 };
}

fn open(dir: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(dir.join("offshoot.db"), flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

/// A number that is never negative.
fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(i64::unsigned_abs)
}

pub fn left(dir: &Path) -> rusqlite::Result<Left> {
    let sql = "SELECT (SELECT count(*) FROM runs WHERE ended_at IS NULL), (SELECT count(*) FROM outbox), \
               (SELECT count(*) FROM steers)";
    open(dir)?.query_row(sql, [], |row| {
        Ok(Left { open: count(row, 0)?, outbox: count(row, 1)?, steers: count(row, 2)? })
    })
}

/// How many sessions were written to within this time.
pub fn sessions_of_late(dir: &Path, within: Duration) -> rusqlite::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().saturating_sub(within);
    let since = i64::try_from(since.as_millis()).unwrap();
    let sql = "SELECT count(*) FROM sessions WHERE updated_at >= ?1";
    open(dir)?.query_row(sql, [since], |row| count(row, 0))
}

/// How many rows all tables have together, for a thousand runs.
pub fn rows_per_thousand_runs(dir: &Path) -> rusqlite::Result<u64> {
    let mut connection = open(dir)?;
    let connection = connection.transaction()?;
    let tables: Vec<String> =
        all(&connection, "SELECT name FROM sqlite_schema WHERE type = 'table'", |row| row.get(0))?;
    let of = |table: &str| {
        connection.query_row(&format!("SELECT count(*) FROM \"{table}\""), [], |row| count(row, 0))
    };
    let rows = tables.iter().map(|table| of(table)).sum::<rusqlite::Result<u64>>()?;
    Ok(rows * 1_000 / of("runs")?.max(1))
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map([], read)?.collect()
}

impl Snapshot {
    /// All of it, of one moment.
    pub fn of(dir: &Path) -> rusqlite::Result<Self> {
        let mut connection = open(dir)?;
        let connection = connection.transaction()?;
        let runs = all(
            &connection,
            "SELECT id, session_key, state, reason, CASE WHEN expects_completion THEN announce_to END, wire_id, \
             accepted_at, ended_at, input_tokens, output_tokens, input ->> '$.text' FROM runs",
            |row| {
                let run = Run {
                    session: row.get(1)?,
                    state: row.get(2)?,
                    reason: row.get(3)?,
                    announce_to: row.get(4)?,
                    wire_id: row.get(5)?,
                    accepted_at: row.get(6)?,
                    ended_at: row.get(7)?,
                    input: count(row, 8)?,
                    output: count(row, 9)?,
                    asked: row.get(10)?,
                };
                Ok((row.get(0)?, run))
            },
        )?;
        let sessions = all(&connection, "SELECT key, yielded_run FROM sessions", |row| {
            let session = Session { yielded: row.get(1)?, entries: Vec::new() };
            Ok((row.get::<_, String>(0)?, session))
        })?;
        let mut sessions: BTreeMap<String, Session> = sessions.into_iter().collect();
        let sql = "SELECT session_key, run_id, content FROM transcripts ORDER BY session_key, seq";
        for (key, run, content) in all(&connection, sql, |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, String>(2)?))
        })? {
            let content = serde_json::from_str(&content).unwrap();
            sessions.get_mut(&key).unwrap().entries.push((run, content));
        }
        let labels = "SELECT label, count(*) FROM all_sessions WHERE label IS NOT NULL GROUP BY label";
        let parents = "SELECT key, parent_key FROM all_sessions WHERE parent_key IS NOT NULL";
        let tools = "SELECT run_id, call_id, name FROM tool_calls";
        let decisions = "SELECT event, facts ->> '$.call' FROM audit WHERE event IN ('tool.unknown', 'tool.repeated') \
                         AND facts ->> '$.tool' = 'subagents'";
        Ok(Self {
            runs: runs.into_iter().collect(),
            sessions,
            parents: all(&connection, parents, |row| Ok((row.get(0)?, row.get(1)?)))?.into_iter().collect(),
            labels: all(&connection, labels, |row| Ok((row.get(0)?, count(row, 1)?)))?.into_iter().collect(),
            tools: all(&connection, tools, |row| {
                Ok(Tool { run: row.get(0)?, call: row.get(1)?, name: row.get(2)? })
            })?,
            decisions: all(&connection, decisions, |row| Ok((row.get(0)?, row.get(1)?)))?,
            outbox: all(&connection, "SELECT run_id, receiver FROM outbox", |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?,
            steers: all(&connection, "SELECT session_key, text FROM steers", |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?,
        })
    }
}
