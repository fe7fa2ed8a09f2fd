//! An ordered map that can take back its latest changes.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

/// Rows by key, with what the transaction at work has replaced.
#[derive(Debug, Clone)]
pub(crate) struct Table<K, V> {
    rows: BTreeMap<K, V>,
    replaced: Vec<(K, Option<V>)>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), replaced: Vec::new() }
    }
}

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.rows.contains_key(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn insert(&mut self, key: K, row: V) {
        let old = self.rows.insert(key.clone(), row);
        self.replaced.push((key, old));
    }

    /// Changes a row in place; does nothing if it is not there.
    pub(crate) fn change(&mut self, key: &K, change: impl FnOnce(&mut V)) {
        if let Some(row) = self.rows.get_mut(key) {
            self.replaced.push((key.clone(), Some(row.clone())));
            change(row);
        }
    }

    /// Removes a row; says whether it was there.
    pub(crate) fn remove(&mut self, key: &K) -> bool {
        match self.rows.remove(key) {
            Some(row) => {
                self.replaced.push((key.clone(), Some(row)));
                true
            }
            None => false,
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    pub(crate) fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.range(range)
    }

    /// Makes the changes since the last call final.
    pub(crate) fn keep(&mut self) {
        self.replaced.clear();
    }

    /// Takes back the changes since the last `keep`.
    pub(crate) fn undo(&mut self) {
        while let Some((key, old)) = self.replaced.pop() {
            match old {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn undo_restores_what_was_kept(
            kept in prop::collection::vec((0u8..8, 0u32..8), 0..16),
            lost in prop::collection::vec((0u8..8, 0u8..3), 0..32),
        ) {
            let mut table = Table::default();
            for (key, row) in kept {
                table.insert(key, row);
            }
            table.keep();
            let before: Vec<_> = table.iter().map(|(k, v)| (*k, *v)).collect();
            for (key, action) in lost {
                match action {
                    0 => table.insert(key, 99),
                    1 => table.change(&key, |row| *row += 1),
                    _ => {
                        table.remove(&key);
                    }
                }
            }
            table.undo();
            let after: Vec<_> = table.iter().map(|(k, v)| (*k, *v)).collect();
            prop_assert_eq!(before, after);
        }
    }
}
