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

/// The rows of one accepted spawn, as the store wrote them.
#[derive(Debug, Clone)]
pub struct Rows {
    session: Vec<Value>,
    run: Vec<Value>,
    entry: Vec<Value>,
    audit: Vec<Value>,
}

impl Rows {
    /// Those of the last spawn in a state directory.
    pub fn of_last_spawn(dir: &Path) -> Self {
        let connection = Connection::open(dir.join("offshoot.db")).unwrap();
        let last = |table: &str, by: &str| {
            let sql = format!("SELECT * FROM {table} ORDER BY {by} DESC LIMIT 1");
            let mut statement = connection.prepare(&sql).unwrap();
            let columns = statement.column_count();
            statement.query_row([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap()
        };
        Self {
            session: last("sessions", "id"),
            run: last("runs", "number"),
            entry: last("entries", "session"),
            audit: last("audit", "id"),
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
    add(
        connection,
        "INSERT INTO sessions VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        &rows.session,
        &[(0, Value::Null), (1, key())],
    );
    let session = Value::Integer(connection.last_insert_rowid());
    add(
        connection,
        "INSERT INTO runs VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        &rows.run,
        &[(0, Value::Null), (1, run()), (2, key())],
    );
    add(connection, "INSERT INTO entries VALUES (?,?,?,?,?)", &rows.entry, &[(0, session), (2, run())]);
    add(
        connection,
        "INSERT INTO audit VALUES (?,?,?,?,?,?,?,?,?)",
        &rows.audit,
        &[(0, Value::Null), (4, key()), (5, run())],
    );
}

fn add(connection: &Connection, sql: &str, row: &[Value], changed: &[(usize, Value)]) {
    let new = |column: usize| changed.iter().find(|(at, _)| *at == column).map(|(_, value)| value);
    let values = row.iter().enumerate().map(|(column, old)| new(column).unwrap_or(old));
    connection.prepare_cached(sql).unwrap().execute(params_from_iter(values)).unwrap();
}
