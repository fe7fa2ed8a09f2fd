//! One file: what is on the disk for certain, and what may be.

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A change of a file that is not synced.
pub(crate) enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

pub(crate) struct Stored {
    /// What was synced. None where the file's name is not on the disk either.
    synced: Option<Vec<u8>>,
    /// In order.
    changes: Vec<Change>,
    /// Deleted, which its directory does not know for certain yet.
    deleted: bool,
    /// Opened and not synced since.
    opened: bool,
}

impl Stored {
    pub(crate) const fn new(synced: Option<Vec<u8>>) -> Self {
        Self { synced, changes: Vec::new(), deleted: false, opened: false }
    }

    /// It is opened, and made if it had been deleted.
    pub(crate) fn open(&mut self) {
        self.opened = true;
        if std::mem::take(&mut self.deleted) {
            self.changes.push(Change::Truncate { len: 0 });
        }
    }

    pub(crate) const fn delete(&mut self) {
        self.deleted = true;
    }

    pub(crate) const fn is_deleted(&self) -> bool {
        self.deleted
    }

    pub(crate) fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Says whether the directory was synced with it: SQLite's own VFS does that at the first sync of a log.
    pub(crate) fn sync(&mut self) -> bool {
        let mut bytes = self.synced.take().unwrap_or_default();
        self.changes.drain(..).for_each(|change| change.apply(&mut bytes, &mut || true));
        self.synced = Some(bytes);
        std::mem::take(&mut self.opened)
    }

    /// The content after the loss, if the file is there at all.
    pub(crate) fn left(&self, chance: &mut impl FnMut() -> bool) -> Option<Vec<u8>> {
        let mut bytes = match &self.synced {
            Some(bytes) => bytes.clone(),
            None if chance() => Vec::new(),
            None => return None,
        };
        if self.deleted && chance() {
            return None;
        }
        self.changes.iter().for_each(|change| change.apply(&mut bytes, chance));
        Some(bytes)
    }
}

impl Change {
    /// Makes of the change what chance lets happen.
    fn apply(&self, to: &mut Vec<u8>, chance: &mut impl FnMut() -> bool) {
        match self {
            Self::Truncate { len } => {
                if chance() {
                    to.resize(*len, 0);
                }
            }
            Self::Write { at, bytes } => {
                let (mut at, mut rest) = (*at, bytes.as_slice());
                while !rest.is_empty() {
                    let (sector, more) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                    if chance() {
                        to.resize(to.len().max(at + sector.len()), 0);
                        to[at..at + sector.len()].copy_from_slice(sector);
                    }
                    at += sector.len();
                    rest = more;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: usize, byte: u8, len: usize) -> Change {
        Change::Write { at, bytes: vec![byte; len] }
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_goes() {
        let mut stored = Stored::new(None);
        stored.change(write(0, 1, 4));
        assert_eq!(stored.left(&mut || false), None);
        stored.sync();
        stored.change(write(2, 2, 4));
        stored.change(Change::Truncate { len: 3 });
        assert_eq!(stored.left(&mut || false), Some(vec![1; 4]));
        assert_eq!(stored.left(&mut || true), Some(vec![1, 1, 2]));
    }

    #[test]
    fn a_write_is_torn_between_sectors_only() {
        let mut stored = Stored::new(Some(vec![0; 2 * SECTOR]));
        stored.change(write(10, 1, SECTOR));
        let mut first = true;
        let left = stored.left(&mut || std::mem::take(&mut first)).unwrap();
        assert!(
            left[10..SECTOR].iter().all(|byte| *byte == 1) && left[SECTOR..].iter().all(|byte| *byte == 0)
        );
    }
}
