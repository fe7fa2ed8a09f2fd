//! How many clients may be on their way in: a stranger must not keep others out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Sockets of this machine's own address that have not finished the handshake: a person's commands all come from there, and one who starts a thousand at
/// once is at work.
const UNFINISHED_OF_LOOPBACK: usize = 4_096;
/// Sockets that have not finished the handshake, whoever has them.
const UNFINISHED: usize = 8_192;

/// Counts the sockets that have not finished the handshake.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unfinished(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// A place among the unfinished, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: Unfinished,
    address: IpAddr,
}

impl Unfinished {
    /// A place for a socket of this address, if there is one. `most` bounds those of one address that is not this
    /// machine's own.
    pub(crate) fn enter(&self, address: IpAddr, most: usize) -> Option<Place> {
        let address = address.to_canonical();
        let limit = if address.is_loopback() { UNFINISHED_OF_LOOPBACK } else { most };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = counts.by_address.get(&address).copied().unwrap_or(0);
        if used >= limit || counts.all >= UNFINISHED {
            return None;
        }
        counts.by_address.insert(address, used + 1);
        counts.all += 1;
        Some(Place { of: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        if let Some(used) = counts.by_address.get_mut(&self.address) {
            *used = used.saturating_sub(1);
            if *used == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 32;

    #[test]
    fn a_stranger_fills_only_his_own_places() {
        let unfinished = Unfinished::default();
        let stranger: IpAddr = "192.0.2.7".parse().unwrap();
        let mut held: Vec<_> = std::iter::from_fn(|| unfinished.enter(stranger, MOST)).collect();
        assert_eq!(held.len(), MOST);
        assert!(unfinished.enter("192.0.2.8".parse().unwrap(), MOST).is_some());
        assert!(unfinished.enter("127.0.0.1".parse().unwrap(), MOST).is_some());
        held.pop();
        assert!(unfinished.enter(stranger, MOST).is_some());
        drop(held);
        assert_eq!(unfinished.0.lock().unwrap().all, 0);
        assert!(unfinished.0.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn loopback_is_the_same_in_both_families() {
        let unfinished = Unfinished::default();
        let held: Vec<_> = (0..MOST + 1)
            .map_while(|_| unfinished.enter("::ffff:127.0.0.1".parse().unwrap(), MOST))
            .collect();
        assert_eq!(held.len(), MOST + 1);
    }
}
