use std::ops::Deref;

use tempfile::TempDir;

use super::{Durability, SqliteStorage};

mod audit;
mod deliveries;
mod failing;
mod files;
mod power;
mod random;
mod space;
mod writing;

/// A store in a directory of its own, which goes with it.
struct Store {
    storage: SqliteStorage,
    dir: TempDir,
}

impl Deref for Store {
    type Target = SqliteStorage;

    fn deref(&self) -> &SqliteStorage {
        &self.storage
    }
}

/// Without syncs, which would only slow the tests down.
fn store() -> Store {
    let dir = tempfile::tempdir().unwrap();
    Store { storage: SqliteStorage::open(dir.path(), Durability::Normal).unwrap(), dir }
}

offshoot_actors::storage_contract!(store());
