//! The state directory, the database file and what is in it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use offshoot_actors::contract::{self, View, apply, block_on};
use offshoot_actors::ports::{Refused, Storage, StoreError};
use offshoot_actors::types::Terminal;
use rusqlite::Connection;

use super::store;
use crate::store::schema::{MIGRATIONS, known_version};
use crate::store::{AuditError, Durability, OpenError, SqliteStorage, verify_audit};

pub(super) const DATABASE: &str = "offshoot.db";

fn open(dir: &Path) -> Result<SqliteStorage, OpenError> {
    SqliteStorage::open(dir, Durability::Normal)
}

pub(super) fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A store with something in every table.
pub(super) async fn fill(store: &dyn Storage) {
    let (main, row) = (contract::session("main"), contract::child("child", &contract::session("main")));
    apply(store, vec![contract::create(&main), contract::insert(&contract::run(1, &main.key))]).await;
    apply(store, contract::spawn(2, &row)).await;
    apply(store, contract::spawn(3, &contract::child("other", &main))).await;
    let result = contract::announce(2, &row.key, &main.key);
    let steer = offshoot_actors::ports::Op::QueueSteer(Box::new(contract::steer(1, &main.key)));
    apply(store, vec![contract::end(2, Terminal::Ok), contract::queue(&result), steer]).await;
    apply(store, contract::pair(1)).await;
}

#[test]
fn everything_is_there_after_a_restart() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (first, kept) = (open(dir.path()).unwrap(), contract::session("kept"));
        fill(&first).await;
        let before = View::of(&first).await;
        drop(first);
        let second = open(dir.path()).unwrap();
        assert_eq!(View::of(&second).await, before);
        apply(&second, vec![contract::create(&kept), contract::audit(&kept.key, 3)]).await;
        let before = View::of(&second).await;
        drop(second);
        let third = SqliteStorage::open_read_only(dir.path()).unwrap();
        assert_eq!(View::of(&third).await, before);
        assert_eq!(verify_audit(dir.path()).unwrap(), 3);
    });
}

#[test]
fn an_id_of_a_deleted_session_is_not_used_again() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (main, other) = (contract::session("main"), contract::session("other"));
        let first = open(dir.path()).unwrap();
        let ended = vec![contract::insert(&contract::run(1, &main.key)), contract::end(1, Terminal::Ok)];
        apply(&first, vec![contract::create(&main)]).await;
        apply(&first, ended).await;
        let delete =
            offshoot_actors::ports::Op::DeleteSession { session: main.key.clone(), with_parents: true };
        apply(&first, vec![delete]).await;
        drop(first);
        let second = open(dir.path()).unwrap();
        apply(&second, vec![contract::create(&other)]).await;
        assert_eq!(second.subtree_usage(other.key).await.unwrap().total(), 0);
        assert_eq!(second.subtree_usage(main.key).await.unwrap().total(), 110);
    });
}

#[test]
fn directory_and_files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("deep/state");
    let store = open(&state).unwrap();
    block_on(fill(&store));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state), mode(state.parent().unwrap())), (0o700, 0o700));
    let expected = [DATABASE, "offshoot.db-shm", "offshoot.db-wal", "offshoot.lock"].map(str::to_owned);
    assert_eq!(names(&state), BTreeSet::from(expected));
    for name in names(&state) {
        assert_eq!(mode(&state.join(&name)), 0o600, "{name}");
    }
}

#[test]
fn one_process_writes_and_others_read() {
    block_on(async {
        let store = store();
        fill(&*store).await;
        let error = open(store.dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::InUse { pid: Some(pid), .. } if pid == std::process::id()));
        let reader = SqliteStorage::open_read_only(store.dir.path()).unwrap();
        assert_eq!(View::of(&reader).await, View::of(&*store).await);
        apply(&*store, vec![contract::create(&contract::session("late"))]).await;
        assert_eq!(View::of(&reader).await, View::of(&*store).await);
        let refused = contract::submit(&reader, vec![contract::create(&contract::session("never"))]).await;
        assert!(matches!(refused, Err(Refused::Storage(StoreError::ReadOnly(_)))), "{refused:?}");
        store.close();
        open(store.dir.path()).unwrap();
    });
}

#[test]
fn reading_makes_no_files() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert!(matches!(SqliteStorage::open_read_only(&state).unwrap_err(), OpenError::Missing { .. }));
        assert!(!state.exists());

        let store = open(&state).unwrap();
        fill(&store).await;
        let view = View::of(&store).await;
        drop(store);
        let before = names(&state);
        assert_eq!(View::of(&SqliteStorage::open_read_only(&state).unwrap()).await, view);
        assert_eq!(names(&state), before);

        let copy = dir.path().join("a copy with 100% ? and #");
        std::fs::create_dir(&copy).unwrap();
        std::fs::copy(state.join(DATABASE), copy.join(DATABASE)).unwrap();
        assert_eq!(View::of(&SqliteStorage::open_read_only(&copy).unwrap()).await, view);
        assert_eq!(names(&copy), BTreeSet::from([DATABASE.to_owned()]));
    });
}

#[test]
fn a_start_has_no_log_to_read_through() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    block_on(fill(&store));
    drop(store);
    assert_eq!(std::fs::metadata(dir.path().join("offshoot.db-wal")).unwrap().len(), 0);
}

#[test]
fn a_newer_schema_is_refused_with_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let connection = Connection::open(dir.path().join(DATABASE)).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    for error in [open(dir.path()).unwrap_err(), SqliteStorage::open_read_only(dir.path()).unwrap_err()] {
        assert!(
            matches!(error, OpenError::Newer { found: 99, known, .. } if known == known_version()),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(
            text.contains("version 99")
                && text.contains(&format!("up to {}", known_version()))
                && text.contains(DATABASE),
            "{text}"
        );
    }
}

#[test]
fn every_earlier_schema_is_brought_up_to_date() {
    let schema = |connection: &Connection| -> Vec<(String, Option<String>)> {
        let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    let mut fresh = Connection::open_in_memory().unwrap();
    MIGRATIONS.to_latest(&mut fresh).unwrap();
    let latest: i64 = fresh.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    for version in 0..=latest {
        let dir = tempfile::tempdir().unwrap();
        let mut earlier = Connection::open(dir.path().join(DATABASE)).unwrap();
        MIGRATIONS.to_version(&mut earlier, usize::try_from(version).unwrap()).unwrap();
        drop(earlier);
        let store = open(dir.path()).unwrap();
        block_on(fill(&store));
        drop(store);
        let now = Connection::open(dir.path().join(DATABASE)).unwrap();
        assert_eq!(schema(&now), schema(&fresh), "from version {version}");
    }
}

#[test]
fn what_was_announced_before_the_outbox_alone_told_stays_announced() {
    let mut earlier = Connection::open_in_memory().unwrap();
    MIGRATIONS.to_version(&mut earlier, 1).unwrap();
    for (id, delivery) in [("a", None), ("b", Some("open")), ("c", Some("delivered"))] {
        let sql = "INSERT INTO runs (id, session, session_key, state, cause, expects_completion, model, fallbacks, steps, \
                   input_tokens, output_tokens, cached_tokens, accepted_at, host, delivery) \
                   VALUES (?1, 1, 's', 'ok', 'spawn', 1, 'm/m', '[]', 0, 0, 0, 0, 0, 'daemon', ?2)";
        earlier.execute(sql, (id, delivery)).unwrap();
    }
    MIGRATIONS.to_latest(&mut earlier).unwrap();
    let mut read = earlier.prepare("SELECT announced FROM runs ORDER BY id").unwrap();
    let announced: Vec<i64> = read.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(announced, [0, 1, 1]);
}

#[test]
fn a_migration_keeps_what_the_first_version_wrote() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Connection::open(dir.path().join(DATABASE)).unwrap();
        MIGRATIONS.to_version(&mut first, 1).unwrap();
        first
            .execute_batch(
                "INSERT INTO sessions VALUES (4, 'agent:main:main', 'main', NULL, 'agent:main:main', 0, NULL, \
                 'session', 'keep', NULL, NULL, NULL, NULL, 1, 1000, 1000); \
                 INSERT INTO entries VALUES (4, 0, NULL, 1000, '{\"type\":\"notice\",\"text\":\"hello\"}');",
            )
            .unwrap();
        drop(first);
        let error = SqliteStorage::open_read_only(dir.path()).unwrap_err();
        assert!(
            matches!(error, OpenError::Older { found: 1, known, .. } if known == known_version()),
            "{error:?}"
        );
        let lines = tempfile::NamedTempFile::new().unwrap();
        let log = tracing_subscriber::fmt().with_writer(Arc::new(lines.reopen().unwrap())).finish();
        let store = tracing::subscriber::with_default(log, || open(dir.path())).unwrap();
        let lines = std::fs::read_to_string(lines.path()).unwrap();
        assert!(lines.contains("brings the store up to date"), "{lines}");
        let main = contract::session("main");
        assert_eq!(store.session(main.key.clone()).await.unwrap(), Some(main.clone()));
        assert_eq!(store.entries(main.key, 0, 9).await.unwrap().len(), 1);
        assert_eq!(store.pairing().await.unwrap(), offshoot_actors::ports::StoredPairing::default());
    });
}

#[test]
fn what_a_run_led_to_before_that_was_kept_is_read_from_the_transcript() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let mut earlier = Connection::open(dir.path().join(DATABASE)).unwrap();
        MIGRATIONS.to_version(&mut earlier, 4).unwrap();
        earlier
            .execute_batch(
                "INSERT INTO sessions VALUES (4, 'agent:main:main', 'main', NULL, 'agent:main:main', 0, NULL, \
                 'session', 'keep', NULL, NULL, NULL, NULL, 1, 1000, 1000);",
            )
            .unwrap();
        let runs = [(1, 4, "message", None), (2, 5, "spawn", Some(1)), (3, 4, "announce", None)];
        for (number, session, cause, spawner) in runs {
            let id = |number| contract::run_id(number).to_string();
            earlier
                .execute(
                    "INSERT INTO runs (id, session, session_key, state, cause, spawner_id, expects_completion, \
                     model, fallbacks, steps, input_tokens, output_tokens, cached_tokens, accepted_at, ended_at, \
                     host) VALUES (?1, ?2, 'agent:main:main', 'ok', ?3, ?4, 1, 'builtin/rehearsal', '[]', 1, 1, 1, \
                     0, 1000, 1000, 'daemon')",
                    rusqlite::params![id(number), session, cause, spawner.map(id)],
                )
                .unwrap();
        }
        let items = vec![contract::announce(2, &contract::key("child"), &contract::key("main")).item];
        let entry = serde_json::to_string(&offshoot_actors::types::Entry::Announce { items }).unwrap();
        let by = contract::run_id(3).to_string();
        earlier.execute("INSERT INTO entries VALUES (4, 0, ?1, 1000, ?2)", [by, entry]).unwrap();
        drop(earlier);
        let store = open(dir.path()).unwrap();
        let led = store.consequences(contract::run_id(1), None, 9).await.unwrap();
        let ids: Vec<_> = led.runs.iter().map(|row| row.id).collect();
        assert_eq!((ids, led.pending), ([1, 2, 3].map(contract::run_id).to_vec(), false));
    });
}

#[test]
fn a_result_that_is_taken_writes_nothing_to_its_run() {
    block_on(async {
        let store = store();
        fill(&*store).await;
        let other = Connection::open(store.file()).unwrap();
        // The row holds the text of the result.
        let untouched = "CREATE TRIGGER runs_are_not_updated BEFORE UPDATE ON runs \
                         BEGIN SELECT RAISE(ABORT, 'the whole row is written again'); END";
        other.execute_batch(untouched).unwrap();
        apply(&*store, vec![contract::take_for(1, &contract::key("main"), &[2])]).await;
        let taken = other.query_row("SELECT run_id, taker_id FROM taken", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        });
        assert_eq!(taken.unwrap(), (contract::run_id(2).to_string(), contract::run_id(1).to_string()));
    });
}

#[test]
fn the_tables_of_devices_are_for_people_and_hold_no_token() {
    let store = store();
    block_on(apply(&*store, contract::pair(1)));
    let other = Connection::open(store.file()).unwrap();
    let sql = "SELECT d.id || ' ' || d.scopes || ' ' || d.platform || ' ' || d.roles || ' ' || r.reason \
               FROM devices d JOIN pairing_requests r ON r.device_id = d.id";
    let text: String = other.query_row(sql, [], |row| row.get(0)).unwrap();
    let wanted = format!(
        "{} [\"operator.read\",\"operator.write\"] linux [\"operator\"] role-upgrade",
        contract::device_id(1)
    );
    assert_eq!(text, wanted);
    let hash = "SELECT count(*) FROM device_tokens WHERE typeof(hash) = 'blob' AND length(hash) = 32";
    assert_eq!(other.query_row(hash, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(DATABASE), "this is not a database".repeat(1_000)).unwrap();
    for error in [open(dir.path()).unwrap_err(), SqliteStorage::open_read_only(dir.path()).unwrap_err()] {
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        let file = dir.path().join(DATABASE);
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }
    let text = std::fs::read_to_string(dir.path().join(DATABASE)).unwrap();
    assert!(text.starts_with("this is not a database"));
}

/// The first page of a table.
pub(super) fn root_of(file: &Path, table: &str) -> usize {
    let connection = Connection::open(file).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: i64 = connection.query_row(sql, [table], |row| row.get(0)).unwrap();
    usize::try_from(root).unwrap()
}

/// The first pages of all tables and indices. The schema has pages of its own, without which nothing opens.
fn roots(file: &Path) -> Vec<usize> {
    let connection = Connection::open(file).unwrap();
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    assert_eq!(page, 4_096);
    let sql = "SELECT rootpage FROM sqlite_schema WHERE rootpage > 0";
    let mut statement = connection.prepare(sql).unwrap();
    let roots = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    roots.map(|root| usize::try_from(root.unwrap()).unwrap()).collect()
}

#[test]
fn a_damaged_page_is_reported_as_damage() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        fill(&store).await;
        drop(store);
        let file = dir.path().join(DATABASE);
        let mut bytes = std::fs::read(&file).unwrap();
        for root in roots(&file) {
            bytes[(root - 1) * 4_096..][..4_096].fill(0xff);
        }
        std::fs::write(&file, bytes).unwrap();
        let store = SqliteStorage::open_read_only(dir.path()).unwrap();
        let found = store.session(contract::key("main")).await;
        assert!(matches!(found, Err(StoreError::Damaged(_))), "{found:?}");
    });
}

#[test]
fn an_unknown_version_of_a_message_is_reported_as_damage() {
    block_on(async {
        let store = store();
        fill(&*store).await;
        let other = Connection::open(store.file()).unwrap();
        other.execute("UPDATE outbox SET message = CAST(x'02' || substr(message, 2) AS BLOB)", []).unwrap();
        let loaded = store.load_session(contract::key("main")).await;
        assert!(matches!(loaded, Err(StoreError::Damaged(text)) if text.contains("version 2")));
    });
}

#[test]
fn the_audit_record_is_append_only() {
    let store = store();
    block_on(fill(&*store));
    let other = Connection::open(store.file()).unwrap();
    for sql in ["UPDATE audit SET event = 'nothing'", "DELETE FROM audit"] {
        let error = other.execute(sql, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{error}");
    }
    assert_eq!(verify_audit(store.dir.path()).unwrap(), 2);
}

#[test]
fn a_changed_audit_row_is_found() {
    let changes = [
        ("UPDATE audit SET at = at + 1 WHERE id = 2", 2),
        ("UPDATE audit SET event = 'spawn.accepteD' WHERE id = 2", 2),
        ("UPDATE audit SET origin = replace(origin, 'main', 'mein') WHERE id = 1", 1),
        ("UPDATE audit SET session_key = run_id, run_id = session_key WHERE id = 2", 2),
        ("UPDATE audit SET run_id = NULL WHERE id = 1", 1),
        ("UPDATE audit SET facts = replace(facts, '1', '2') WHERE id = 2", 2),
        ("UPDATE audit SET prev_hash = hash WHERE id = 1", 1),
        ("UPDATE audit SET hash = zeroblob(32) WHERE id = 2", 2),
        ("UPDATE audit SET id = 7 WHERE id = 2", 2),
        ("DELETE FROM audit WHERE id = 1", 1),
    ];
    for (sql, broken) in changes {
        let store = store();
        block_on(fill(&*store));
        let other = Connection::open(store.file()).unwrap();
        other.execute_batch("DROP TRIGGER audit_is_not_updated; DROP TRIGGER audit_is_not_deleted").unwrap();
        other.execute(sql, []).unwrap();
        let found = verify_audit(store.dir.path());
        assert!(matches!(found, Err(AuditError::Broken { row, .. }) if row == broken), "{sql}: {found:?}");
    }
}
