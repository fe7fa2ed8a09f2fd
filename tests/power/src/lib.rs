//! A disk whose power can be cut.
//!
//! [`Disk::new`] makes SQLite keep apart, for the files of one directory, what was synced from what was only written. At a
//! chosen write or sync the power goes: that operation and everything after it fails, and [`Disk::lose`] makes a
//! directory of what a machine would find when it starts again. That is what was synced, and of the rest as much as chance
//! kept: a disk may write sectors in any order, or not at all.
//!
//! It is a VFS around SQLite's own (`vfs`), which stays in use for every other directory. The directory itself is what the
//! operating system shows; only the loss is made up.

#![allow(clippy::unwrap_used, clippy::panic)]

mod file;
mod vfs;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use file::{Change, Stored};

/// Every disk that is in use.
static DISKS: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// A directory whose power can be cut.
pub struct Disk(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Stored>,
    operations: u64,
    cut_at: Option<u64>,
    off: bool,
}

/// The power is off.
struct Off;

impl Disk {
    /// The disk that `dir` is on from now on. It must be there; no database in it may be open.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        vfs::install();
        let inner = Arc::new(Inner { dir: dir.canonicalize().unwrap(), state: Mutex::default() });
        let mut disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
        disks.retain(|disk| disk.strong_count() > 0);
        disks.push(Arc::downgrade(&inner));
        Self(inner)
    }

    /// Cuts the power at the operation of this number, from 1: a write, a sync, a truncation, or a deletion.
    pub fn cut_at(&self, operation: u64) {
        self.0.state().cut_at = Some(operation);
    }

    /// Cuts the power now.
    pub fn cut(&self) {
        self.0.state().off = true;
    }

    /// Operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.state().operations
    }

    /// Writes to the directory `to` what is left: what was synced, and each unsynced sector with a chance of
    /// `keeps` in a hundred, by a generator with this seed.
    pub fn lose(&self, to: &Path, keeps: u64, seed: u64) {
        let state = self.0.state();
        let mut seed = seed;
        let mut chance = move || {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (seed >> 33) % 100 < keeps
        };
        for (name, stored) in &state.files {
            if let Some(bytes) = stored.left(&mut chance) {
                fs::write(to.join(name), bytes).unwrap();
            }
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file is opened. What is there already was synced by whoever made it.
    fn open(&self, name: &str, existed: bool) {
        let read = || existed.then(|| fs::read(self.dir.join(name)).unwrap());
        let mut state = self.state();
        state.files.entry(name.to_owned()).or_insert_with(|| Stored::new(read())).open();
    }

    fn change(&self, name: &str, change: Change) -> Result<(), Off> {
        let mut state = self.state();
        let on = state.step();
        // The disk may have been at it when the power went, so it is among what chance keeps.
        if (on.is_ok() || state.cut_at == Some(state.operations))
            && let Some(stored) = state.files.get_mut(name)
        {
            stored.change(change);
        }
        on
    }

    fn sync(&self, name: &str) -> Result<(), Off> {
        let mut state = self.state();
        state.step()?;
        if state.files.get_mut(name).is_some_and(Stored::sync) {
            state.files.retain(|_, stored| !stored.is_deleted());
        }
        Ok(())
    }

    /// The file is deleted; for good if its directory is synced with it.
    fn delete(&self, name: &str, for_good: bool) -> Result<(), Off> {
        let mut state = self.state();
        state.step()?;
        if for_good {
            state.files.remove(name);
        } else if let Some(stored) = state.files.get_mut(name) {
            stored.delete();
        }
        Ok(())
    }

    fn read(&self) -> Result<(), Off> {
        if self.state().off { Err(Off) } else { Ok(()) }
    }
}

impl State {
    fn step(&mut self) -> Result<(), Off> {
        if self.off {
            return Err(Off);
        }
        self.operations += 1;
        self.off = self.cut_at == Some(self.operations);
        if self.off { Err(Off) } else { Ok(()) }
    }
}

/// The disk that a file is on, and the file's name there.
fn disk_of(path: &Path) -> Option<(Arc<Inner>, String)> {
    let (dir, name) = (path.parent()?, path.file_name()?.to_str()?);
    let disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
    let disk = disks.iter().filter_map(Weak::upgrade).find(|disk| disk.dir == dir)?;
    Some((disk, name.to_owned()))
}
