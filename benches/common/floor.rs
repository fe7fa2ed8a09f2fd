//! The least that durable work costs: a thread that writes the same rows into the same tables, and nothing else.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use offshoot::store::{Durability, SqliteStorage};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Most requests of one commit, as in the store.
const BATCH: usize = 512;

/// One row as the store wrote it, to be written again with some columns changed.
#[derive(Debug, Clone)]
struct Row {
    insert: String,
    columns: Vec<String>,
    values: Vec<Value>,
}

impl Row {
    fn last(connection: &Connection, table: &str, by: &str) -> Self {
        let mut statement =
            connection.prepare(&format!("SELECT * FROM {table} ORDER BY {by} DESC LIMIT 1")).unwrap();
        let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let values = statement
            .query_row([], |row| (0..columns.len()).map(|column| row.get(column)).collect())
            .unwrap();
        let places = vec!["?"; columns.len()].join(",");
        Self { insert: format!("INSERT INTO {table} VALUES ({places})"), columns, values }
    }

    fn insert(&self, connection: &Connection, changed: &[(&str, Value)]) {
        let mut values = self.values.clone();
        for (name, value) in changed {
            let column = self.columns.iter().position(|column| column == name).unwrap();
            values[column] = value.clone();
        }
        connection.prepare_cached(&self.insert).unwrap().execute(params_from_iter(values)).unwrap();
    }
}

/// The rows of one accepted spawn.
#[derive(Debug, Clone)]
pub struct Rows {
    session: Row,
    run: Row,
    entry: Row,
    audit: Row,
}

impl Rows {
    /// Those of the last spawn in a state directory.
    pub fn of_last_spawn(dir: &Path) -> Self {
        let connection = Connection::open(dir.join("offshoot.db")).unwrap();
        Self {
            session: Row::last(&connection, "sessions", "id"),
            run: Row::last(&connection, "runs", "number"),
            entry: Row::last(&connection, "entries", "session"),
            audit: Row::last(&connection, "audit", "id"),
        }
    }
}

struct Request {
    id: Uuid,
    done: oneshot::Sender<()>,
}

/// A thread with a connection that is set up like the store's.
pub struct BareWriter {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    pub pragmas: Vec<(&'static str, String)>,
}

impl BareWriter {
    /// Starts it in an empty directory.
    pub fn start(dir: &Path, rows: Rows) -> Self {
        // Makes the tables, and says how the store sets its connection up.
        let store = SqliteStorage::open(dir, Durability::Full).unwrap();
        let pragmas = store.pragmas();
        store.close();
        let connection = Connection::open(dir.join("offshoot.db")).unwrap();
        for (name, value) in &pragmas {
            connection.pragma_update_and_check(None, name, value, |_| Ok(())).ok();
        }
        let (requests, received) = channel();
        let thread = std::thread::spawn(move || write(&connection, &rows, &received));
        Self { requests: Some(requests), thread: Some(thread), pragmas }
    }

    /// Writes the rows of one spawn under new ids and waits until they are durable.
    pub async fn commit(&self) {
        let (done, answered) = oneshot::channel();
        let request = Request { id: Uuid::now_v7(), done };
        self.requests.as_ref().unwrap().send(request).unwrap();
        answered.await.unwrap();
    }
}

impl Drop for BareWriter {
    fn drop(&mut self) {
        self.requests = None;
        self.thread.take().map(JoinHandle::join);
    }
}

fn write(connection: &Connection, rows: &Rows, received: &Receiver<Request>) {
    while let Ok(first) = received.recv() {
        let batch: Vec<Request> = std::iter::once(first).chain(received.try_iter().take(BATCH - 1)).collect();
        connection.prepare_cached("BEGIN IMMEDIATE").unwrap().execute([]).unwrap();
        for request in &batch {
            insert(connection, rows, request.id);
        }
        connection.prepare_cached("COMMIT").unwrap().execute([]).unwrap();
        for request in batch {
            let _ = request.done.send(());
        }
    }
}

fn insert(connection: &Connection, rows: &Rows, id: Uuid) {
    let text = |text: String| Value::Text(text);
    let key = || text(format!("agent:main:subagent:{id}"));
    let run = || text(id.to_string());
    rows.session.insert(connection, &[("id", Value::Null), ("key", key())]);
    let session = Value::Integer(connection.last_insert_rowid());
    rows.run.insert(
        connection,
        &[("number", Value::Null), ("id", run()), ("session", session.clone()), ("session_key", key())],
    );
    rows.entry.insert(connection, &[("session", session), ("run_id", run())]);
    rows.audit.insert(connection, &[("id", Value::Null), ("session_key", key()), ("run_id", run())]);
}
