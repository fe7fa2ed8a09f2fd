//! The order in which waiting runs get a place in their lane.

use std::collections::BTreeMap;

/// Names a waiter of one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket<K> {
    /// None for a resumed waiter.
    key: Option<K>,
    number: u64,
}

/// A queue that serves keys in turn, so that no key starves another.
///
/// Resumed waiters come first, oldest first: their runs have begun, and what they hold in memory is freed
/// soonest by ending them. New waiters come round robin between keys, oldest first within a key.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    resumed: BTreeMap<u64, T>,
    waiting: BTreeMap<K, Line<T>>,
    /// The keys that wait, by turn.
    turns: BTreeMap<u64, K>,
    /// Numbers waiters and turns.
    next: u64,
    len: usize,
}

/// The waiters of one key. Never empty while it is in a queue.
#[derive(Debug)]
struct Line<T> {
    turn: u64,
    items: BTreeMap<u64, T>,
}

impl<K, T> Default for FairQueue<K, T> {
    fn default() -> Self {
        Self { resumed: BTreeMap::new(), waiting: BTreeMap::new(), turns: BTreeMap::new(), next: 0, len: 0 }
    }
}

impl<K: Ord + Clone, T> FairQueue<K, T> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a waiter: a resumed one ahead of all new ones, a new one behind those of its key.
    pub fn push(&mut self, key: K, resume: bool, item: T) -> Ticket<K> {
        let number = self.number();
        self.len += 1;
        if resume {
            self.resumed.insert(number, item);
            return Ticket { key: None, number };
        }
        if let Some(line) = self.waiting.get_mut(&key) {
            line.items.insert(number, item);
        } else {
            self.turns.insert(number, key.clone());
            self.waiting.insert(key.clone(), Line { turn: number, items: BTreeMap::from([(number, item)]) });
        }
        Ticket { key: Some(key), number }
    }

    /// Takes the waiter whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        if let Some((_, item)) = self.resumed.pop_first() {
            self.len -= 1;
            return Some(item);
        }
        let (_, key) = self.turns.pop_first()?;
        let turn = self.number();
        let line = self.waiting.get_mut(&key)?;
        let (_, item) = line.items.pop_first()?;
        self.len -= 1;
        if line.items.is_empty() {
            self.waiting.remove(&key);
        } else {
            line.turn = turn;
            self.turns.insert(turn, key);
        }
        Some(item)
    }

    /// Takes the waiter with this ticket, unless it was served or taken before.
    pub fn take(&mut self, ticket: &Ticket<K>) -> Option<T> {
        match &ticket.key {
            Some(key) => self.take_new(key, ticket.number),
            None => {
                let item = self.resumed.remove(&ticket.number)?;
                self.len -= 1;
                Some(item)
            }
        }
    }

    /// The turn of a key, if anybody waits for it.
    #[must_use]
    pub fn turn(&self, key: &K) -> Option<u64> {
        self.waiting.get(key).map(|line| line.turn)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn take_new(&mut self, key: &K, number: u64) -> Option<T> {
        let line = self.waiting.get_mut(key)?;
        let item = line.items.remove(&number)?;
        self.len -= 1;
        if line.items.is_empty() {
            let turn = line.turn;
            self.turns.remove(&turn);
            self.waiting.remove(key);
        }
        Some(item)
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
}

impl<K> Ticket<K> {
    /// Whose share the turn counts for; none for a resumed waiter.
    pub const fn key(&self) -> Option<&K> {
        self.key.as_ref()
    }
}

/// The order in which a queue serves these waiters if nobody comes or goes: from their tickets and the turns of their keys,
/// so that the queue itself need not be asked.
#[must_use]
pub fn order<K: Ord, T>(waiters: Vec<(Ticket<K>, T)>, turn: impl Fn(&K) -> Option<u64>) -> Vec<T> {
    let (mut resumed, mut lines) = (Vec::new(), BTreeMap::<K, Vec<(u64, T)>>::new());
    for (Ticket { key, number }, waiter) in waiters {
        match key {
            None => resumed.push((number, waiter)),
            Some(key) => lines.entry(key).or_default().push((number, waiter)),
        }
    }
    resumed.sort_unstable_by_key(|(number, _)| *number);
    // In each round every key has one turn, and keeps its place among the others.
    let mut rounds = Vec::new();
    for (key, mut line) in lines {
        let turn = turn(&key).unwrap_or(u64::MAX);
        line.sort_unstable_by_key(|(number, _)| *number);
        rounds.extend(line.into_iter().enumerate().map(|(round, (_, waiter))| (round, turn, waiter)));
    }
    rounds.sort_by_key(|(round, turn, _)| (*round, *turn));
    let resumed = resumed.into_iter().map(|(_, waiter)| waiter);
    resumed.chain(rounds.into_iter().map(|(.., waiter)| waiter)).collect()
}

#[cfg(test)]
mod tests;
