//! The chain of the audit record, and what is read of it.

use futures::executor::block_on;
use offshoot_actors::contract::{self, apply};
use offshoot_actors::ports::{AuditRecord, Op};
use offshoot_actors::types::{Origin, Timestamp};
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::Value;

use super::{Store, store};
use crate::store::audit::AuditHead;
use crate::store::backup::Progress;
use crate::store::{AuditError, AuditHash, AuditReader, AuditVerified};

fn record(number: u64, text: &str) -> AuditRecord {
    AuditRecord {
        at: Timestamp(1_000 + i64::try_from(number).unwrap()),
        event: "tool.started",
        origin: Origin::Client {
            connection: number,
            device: None,
            scopes: vec!["operator.admin".to_owned()],
        },
        session: number.is_multiple_of(2).then(|| contract::key("main")),
        run: number.is_multiple_of(3).then(|| contract::run_id(number)),
        facts: vec![("text", text.to_owned())],
    }
}

fn with_rows(texts: &[String]) -> Store {
    let store = store();
    let rows = (1..).zip(texts).map(|(number, text)| Op::Audit(Box::new(record(number, text))));
    block_on(apply(&*store, rows.collect()));
    store
}

/// The store's file, for whoever does what the program never does.
fn forger(store: &Store) -> Connection {
    let connection = Connection::open(store.file()).unwrap();
    connection.execute_batch("DROP TRIGGER audit_is_not_updated; DROP TRIGGER audit_is_not_deleted").unwrap();
    connection
}

fn verify(store: &Store, noted: Option<AuditHash>) -> Result<AuditVerified, AuditError> {
    AuditReader::open(store.dir.path()).unwrap().verify(noted, &Progress::default())
}

const COLUMNS: [&str; 9] =
    ["id", "at", "event", "origin", "session_key", "run_id", "facts", "prev_hash", "hash"];

/// Changes one bit of a column.
fn flip(connection: &Connection, column: &str, row: i64, bit: usize) {
    let read = format!("SELECT CAST({column} AS BLOB) FROM audit WHERE id = ?1");
    let found: Option<Vec<u8>> = connection.query_row(&read, [row], |row| row.get(0)).unwrap();
    let mut bytes = found.unwrap_or_default();
    if bytes.is_empty() {
        bytes.push(b'x');
    } else {
        let at = bit / 8 % bytes.len();
        bytes[at] ^= 1 << (bit % 8);
    }
    let cast = if column.ends_with("hash") { "?2" } else { "CAST(?2 AS TEXT)" };
    connection.execute(&format!("UPDATE audit SET {column} = {cast} WHERE id = ?1"), (row, bytes)).unwrap();
}

fn renumber(connection: &Connection, from: i64, by: i64) {
    connection.execute("UPDATE audit SET id = -id WHERE id >= ?1", [from]).unwrap();
    connection.execute("UPDATE audit SET id = ?1 - id WHERE id < 0", [by]).unwrap();
}

#[derive(Debug, Clone)]
enum Forgery {
    Flip { column: usize, bit: usize },
    Number { by: i64 },
    Time { by: i64 },
    Remove { renumbered: bool },
    PutIn,
}

fn forgery() -> impl Strategy<Value = Forgery> {
    prop_oneof![
        (2..9_usize, 0..4_096_usize).prop_map(|(column, bit)| Forgery::Flip { column, bit }),
        (1_000..i64::MAX / 2).prop_map(|by| Forgery::Number { by }),
        (1..i64::MAX / 2).prop_map(|by| Forgery::Time { by }),
        any::<bool>().prop_map(|renumbered| Forgery::Remove { renumbered }),
        Just(Forgery::PutIn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_forgery_before_the_last_row_is_named(
        texts in prop::collection::vec(".{0,40}", 2..12),
        at in any::<prop::sample::Index>(),
        forgery in forgery(),
    ) {
        let store = with_rows(&texts);
        let count = i64::try_from(texts.len()).unwrap();
        prop_assert_eq!(verify(&store, None).unwrap().rows, texts.len() as u64);
        let row = 1 + i64::try_from(at.index(texts.len() - 1)).unwrap();
        let connection = forger(&store);
        let named = match forgery {
            Forgery::Flip { column, bit } => {
                flip(&connection, COLUMNS[column], row, bit);
                row
            }
            Forgery::Number { by } => {
                connection.execute("UPDATE audit SET id = id + ?2 WHERE id = ?1", (row, by)).unwrap();
                row
            }
            Forgery::Time { by } => {
                connection.execute("UPDATE audit SET at = at + ?2 WHERE id = ?1", (row, by)).unwrap();
                row
            }
            Forgery::Remove { renumbered } => {
                connection.execute("DELETE FROM audit WHERE id = ?1", [row]).unwrap();
                if renumbered {
                    renumber(&connection, row + 1, -1);
                }
                row
            }
            Forgery::PutIn => {
                // With hashes as they ought to be; what comes after it was bound to another row.
                let before = connection
                    .query_row("SELECT id, hash FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT 1", [row], |found| {
                        Ok(AuditHead { row: found.get(0)?, hash: AuditHash(found.get(1)?) })
                    });
                let mut before = before.unwrap_or(AuditHead::EMPTY);
                renumber(&connection, row, 1);
                prop_assert!(before.append(&connection, &record(99, "forged")).is_ok());
                row + 1
            }
        };
        match verify(&store, None) {
            Err(AuditError::Broken { row: found, .. }) => prop_assert_eq!(found, named),
            other => prop_assert!(false, "{:?} of {} rows: {:?}", forgery, count, other),
        }
    }
}

#[test]
fn a_broken_row_is_named_with_its_time_and_event() {
    let store = with_rows(&["a".to_owned(), "b".to_owned(), "c".to_owned()]);
    forger(&store).execute("UPDATE audit SET facts = '{}' WHERE id = 2", []).unwrap();
    let error = verify(&store, None).unwrap_err().to_string();
    assert_eq!(error, "audit row 2 (1970-01-01T00:00:01.002Z, tool.started) was changed");
    forger_again(&store).execute("DELETE FROM audit WHERE id = 2", []).unwrap();
    let error = verify(&store, None).unwrap_err().to_string();
    assert_eq!(error, "audit row 2 is missing: the next one is row 3");
    forger_again(&store).execute("UPDATE audit SET id = -1 WHERE id = 1", []).unwrap();
    let error = verify(&store, None).unwrap_err().to_string();
    assert_eq!(error, "audit row -1 (1970-01-01T00:00:01.001Z, tool.started) was put in");
}

fn forger_again(store: &Store) -> Connection {
    Connection::open(store.file()).unwrap()
}

#[test]
fn a_row_that_replaces_another_with_a_hash_of_its_own_is_found_by_the_next_one() {
    let store = with_rows(&["a".to_owned(), "b".to_owned(), "c".to_owned()]);
    let connection = forger(&store);
    let first = connection.query_row("SELECT hash FROM audit WHERE id = 1", [], |row| row.get(0)).unwrap();
    connection.execute("DELETE FROM audit WHERE id = 2", []).unwrap();
    let mut head = AuditHead { row: 1, hash: AuditHash(first) };
    assert!(head.append(&connection, &record(2, "forged")).is_ok());
    let error = verify(&store, None).unwrap_err().to_string();
    assert!(
        error.starts_with("audit row 3 (") && error.contains("does not follow the row before it"),
        "{error}"
    );
}

#[test]
fn rows_that_were_cut_off_are_missed_by_a_run_or_by_a_noted_hash() {
    let store = with_rows(&["a".to_owned(), "b".to_owned()]);
    let noted = verify(&store, None).unwrap().head;
    let main = contract::session("main");
    let child = contract::child("child", &main);
    block_on(async {
        apply(&*store, vec![contract::create(&main)]).await;
        apply(&*store, contract::spawn(7, &child)).await;
    });
    assert_eq!(verify(&store, noted).unwrap().noted, Some(2));
    let connection = forger(&store);
    connection.execute("DELETE FROM audit WHERE id = 3", []).unwrap();
    let error = verify(&store, noted).unwrap_err();
    let run = contract::run_id(7).to_string();
    assert!(matches!(&error, AuditError::Cut { last: 2, run: of, .. } if *of == run), "{error}");
    connection.execute("UPDATE runs SET cause = 'message'", []).unwrap();
    connection.execute("DELETE FROM audit WHERE id = 2", []).unwrap();
    assert_eq!(verify(&store, None).unwrap().rows, 1);
    let error = verify(&store, noted).unwrap_err();
    assert!(matches!(error, AuditError::HeadMissing { head } if Some(head) == noted), "{error}");
}

#[test]
fn a_record_of_many_pages_is_verified_listed_and_exported() {
    let rows = 3_500;
    let store = with_rows(&(0..rows).map(|n| format!("row \"{n}\"\n")).collect::<Vec<_>>());
    let reader = AuditReader::open(store.dir.path()).unwrap();
    let progress = Progress::default();
    let verified = reader.verify(None, &progress).unwrap();
    assert_eq!(verified.rows, rows);
    assert_eq!(progress.text(), "reading the audit record: 3500 of 3500 rows");
    let mut text = Vec::new();
    let exported = reader.export::<()>(None, &progress, |lines| {
        assert!(lines.iter().filter(|byte| **byte == b'\n').count() <= 1_000);
        text.extend_from_slice(lines);
        Ok(())
    });
    let exported = exported.unwrap();
    assert_eq!((exported.rows, exported.first, exported.last), (rows, Some(1), Some(3_500)));
    assert_eq!(exported.head, verified.head.map(|head| head.to_string()));
    let numbers = String::from_utf8(text).unwrap();
    let lines: Vec<Value> = numbers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!((1..).zip(&lines).all(|(number, line)| line["row"] == number));
    assert!(lines.windows(2).all(|pair| pair[0]["hash"] == pair[1]["prevHash"]));
    let part = reader.export::<()>(Some(Timestamp(1_000 + 3_000)), &progress, |_| Ok(())).unwrap();
    assert_eq!((part.first, part.last), (Some(3_000), Some(3_500)));
    let none = reader.export::<()>(Some(Timestamp(1_000_000)), &progress, |_| Ok(())).unwrap();
    assert_eq!(none.rows, 0);
}
