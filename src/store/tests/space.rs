//! Space that is given back.

use std::path::Path;
use std::time::{Duration, Instant};

use offshoot_actors::contract::{self, apply, block_on};
use offshoot_actors::ports::{Op, Storage, Transaction};
use offshoot_actors::types::SessionKey;
use rusqlite::Connection;

use super::store;
use crate::store::schema::MIGRATIONS;
use crate::store::{Durability, OpenError, SqliteStorage, compact};

const DATABASE: &str = "offshoot.db";
const SESSIONS: usize = 200;

fn key(number: usize) -> SessionKey {
    contract::key(&format!("session-{number}"))
}

/// About 25 MB of transcripts.
async fn fill(store: &dyn Storage) {
    let text = "x".repeat(4_000);
    for number in 0..SESSIONS {
        let row = contract::session(&format!("session-{number}"));
        let entries = (0..32).map(|seq| contract::append(&row.key, seq, &text));
        let transaction: Transaction = std::iter::once(contract::create(&row)).chain(entries).collect();
        apply(store, transaction).await;
    }
}

async fn delete(store: &dyn Storage) {
    for number in 0..SESSIONS {
        apply(store, vec![Op::DeleteSession { session: key(number), with_parents: false }]).await;
    }
}

fn size(dir: &Path, file: &str) -> u64 {
    std::fs::metadata(dir.join(file)).unwrap().len()
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures of docs/retention.md")]
fn a_big_deletion_shrinks_the_file_while_the_store_works_on() {
    let store = store();
    block_on(fill(&*store));
    block_on(delete(&*store));
    let full = size(store.dir.path(), DATABASE);
    let begin = Instant::now();
    let (mut longest, mut writes) = (Duration::ZERO, 0);
    // The writer is quiet in between, and gives back space.
    while size(store.dir.path(), DATABASE) > full / 3 || size(store.dir.path(), "offshoot.db-wal") > 1 << 20 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{full} bytes stayed");
        std::thread::sleep(Duration::from_millis(2_200));
        let asked = Instant::now();
        block_on(apply(&*store, vec![contract::audit(&key(0), writes)]));
        longest = longest.max(asked.elapsed());
        writes += 1;
    }
    let after = size(store.dir.path(), DATABASE);
    println!(
        "{full} bytes became {after} in {:?}; the longest of {writes} writes meanwhile took {longest:?}",
        begin.elapsed()
    );
    assert!(full > 20_000_000, "{full}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[test]
fn a_store_without_the_means_gets_them_at_its_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut earlier = Connection::open(dir.path().join(DATABASE)).unwrap();
    MIGRATIONS.to_version(&mut earlier, 1).unwrap();
    drop(earlier);
    let means = |store: &SqliteStorage| {
        store.pragmas().into_iter().find(|(name, _)| *name == "auto_vacuum").map(|(_, value)| value)
    };
    for _ in 0..2 {
        let store = SqliteStorage::open(dir.path(), Durability::Normal).unwrap();
        assert_eq!(means(&store).as_deref(), Some("2"));
    }
    assert_eq!(means(&store().storage).as_deref(), Some("2"));
}

#[test]
fn a_store_is_written_anew_when_nobody_else_writes() {
    let store = store();
    block_on(fill(&*store));
    block_on(delete(&*store));
    assert!(matches!(compact(store.dir.path()), Err(OpenError::InUse { .. })));
    store.close();
    let (before, after) = compact(store.dir.path()).unwrap();
    assert!(before > 20_000_000 && after < 1_000_000, "{before} {after}");
    assert_eq!(size(store.dir.path(), DATABASE), after);
    assert_eq!(size(store.dir.path(), "offshoot.db-wal"), 0);

    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(compact(empty.path()), Err(OpenError::Missing { .. })));
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
}
