//! How many sockets one address may have: a stranger must not keep others out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::limits::counted_as;

/// Sockets of this machine's own address: a person's commands all come from there, and one who starts a thousand at
/// once is at work.
const OF_LOOPBACK: usize = 4_096;
/// Sockets of all other addresses together. This machine's own are never refused for what strangers have.
const OF_OTHERS: usize = 8_192;
/// Connections that speak HTTP of one address that is not this machine's own, for as long as they are open: more than a
/// page and its programs have.
pub(super) const MAX_HTTP: usize = 256;

/// Counts sockets of one kind by their addresses: those that have not finished the handshake, or those that speak HTTP.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    others: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// A place among them, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: Places,
    address: IpAddr,
}

impl Places {
    /// A place for a socket of this address, if there is one. `most` bounds those of one address that is not this
    /// machine's own; of IPv6 it is one network, whose addresses cost nothing.
    pub(crate) fn enter(&self, address: IpAddr, most: usize) -> Option<Place> {
        let address = counted_as(address.to_canonical());
        let own = address.is_loopback();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = counts.by_address.get(&address).copied().unwrap_or(0);
        if used >= if own { OF_LOOPBACK } else { most } || (!own && counts.others >= OF_OTHERS) {
            return None;
        }
        counts.by_address.insert(address, used + 1);
        counts.others += usize::from(!own);
        Some(Place { of: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.others = counts.others.saturating_sub(usize::from(!self.address.is_loopback()));
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
        let places = Places::default();
        let stranger: IpAddr = "192.0.2.7".parse().unwrap();
        let mut held: Vec<_> = std::iter::from_fn(|| places.enter(stranger, MOST)).collect();
        assert_eq!(held.len(), MOST);
        assert!(places.enter("192.0.2.8".parse().unwrap(), MOST).is_some());
        assert!(places.enter("127.0.0.1".parse().unwrap(), MOST).is_some());
        held.pop();
        assert!(places.enter(stranger, MOST).is_some());
        drop(held);
        assert_eq!(places.0.lock().unwrap().others, 0);
        assert!(places.0.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn the_addresses_of_one_network_are_one_stranger() {
        let places = Places::default();
        let address = |n: usize| format!("2001:db8:1:2::{n:x}").parse().unwrap();
        let held: Vec<_> = (0..MOST + 1).map_while(|n| places.enter(address(n), MOST)).collect();
        assert_eq!(held.len(), MOST);
        assert!(places.enter("2001:db8:1:3::1".parse().unwrap(), MOST).is_some());
    }

    #[test]
    fn strangers_do_not_keep_this_machine_out_however_many_they_are() {
        let places = Places::default();
        let networks =
            (0_u32..).map(|n| format!("2001:db8:{:x}:{:x}::1", n >> 16, n & 0xffff).parse().unwrap());
        let held: Vec<_> = networks.map_while(|address| places.enter(address, MOST)).collect();
        assert_eq!(held.len(), OF_OTHERS);
        for own in ["127.0.0.1", "::1"] {
            assert!(places.enter(own.parse().unwrap(), MOST).is_some(), "{own}");
        }
    }

    #[test]
    fn loopback_is_the_same_in_both_families() {
        let places = Places::default();
        let held: Vec<_> =
            (0..MOST + 1).map_while(|_| places.enter("::ffff:127.0.0.1".parse().unwrap(), MOST)).collect();
        assert_eq!(held.len(), MOST + 1);
    }
}
