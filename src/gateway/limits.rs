//! Holds back whoever keeps failing to prove who he is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use offshoot_actors::types::Monotonic;

use super::origin::Origin;
use super::peer::Peer;

/// The delay of the answer to a first failure; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Most addresses and origins that are remembered; the one that failed longest ago is forgotten for a new one.
const MAX_ENTRIES: usize = 10_000;

/// Largest [`RateLimit::max_attempts`]: each is remembered.
pub const MAX_ATTEMPTS: u32 = 1_000;

/// How many failures, and what then (`gateway.auth.rateLimit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Failures within the window that lock out: 1 to [`MAX_ATTEMPTS`].
    pub max_attempts: u32,
    /// How long a failure counts.
    pub window: Duration,
    /// How long a lock-out lasts.
    pub lockout: Duration,
    /// Whether processes of this machine are never locked out. Pages always may be.
    pub exempt_loopback: bool,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            max_attempts: 10,
            window: Duration::from_secs(60),
            lockout: Duration::from_secs(300),
            exempt_loopback: true,
        }
    }
}

impl RateLimit {
    /// That of the webhooks, whose callers nobody types for.
    pub const HOOKS: Self = Self {
        max_attempts: 20,
        window: Duration::from_secs(60),
        lockout: Duration::from_secs(60),
        exempt_loopback: false,
    };
}

/// What someone tried to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// The shared token or password.
    SharedSecret,
    /// The token of a device.
    DeviceToken,
    /// A one-time code.
    BootstrapToken,
    /// The token of the webhooks.
    HookToken,
}

/// Whose failures are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// A client; of an IPv6 address only the network counts, the rest costs nothing to change.
    Address(IpAddr),
    /// A page that a browser of this machine shows.
    Page(String),
    /// A process of this machine.
    Local(IpAddr),
}

impl Who {
    /// Who sends this request.
    #[must_use]
    pub fn of(peer: &Peer) -> Self {
        match (&peer.origin, peer.client) {
            (Some(origin), client) if client.is_loopback() => Self::Page(page(origin)),
            (None, client) if client.is_loopback() && peer.direct_local => Self::Local(client),
            (_, client) => Self::Address(counted_as(client)),
        }
    }
}

fn page(origin: &Origin) -> String {
    const MAX: usize = 256;
    let page = origin.page().unwrap_or("null");
    page[..page.floor_char_boundary(MAX)].to_owned()
}

/// The address under which a client is counted: of IPv6 the /64 network, whose addresses cost nothing, but for this
/// machine's own.
pub(super) fn counted_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

/// Too many failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many failed attempts: retry in {} s", .retry_after.as_secs_f64().ceil())]
pub struct LockedOut {
    /// When the next attempt is looked at.
    pub retry_after: Duration,
}

/// How often failures are told of at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Failures that nobody was told of yet: a line for each would let a stranger fill the log.
#[derive(Debug, Default)]
pub struct Untold {
    told: Option<Monotonic>,
    count: u64,
}

impl Untold {
    /// Counts one, and tells how many there are if it is time to say so.
    pub fn failed(&mut self, now: Monotonic) -> Option<u64> {
        self.count += 1;
        if self.told.is_some_and(|told| now.since(told) < TELL_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// The failures of the last while. Time comes from the caller.
#[derive(Debug)]
pub struct FailureLimits {
    limit: RateLimit,
    entries: HashMap<(Proof, Who), Failures>,
}

#[derive(Debug)]
struct Failures {
    /// When each happened, oldest first; not more than lock out.
    at: Vec<Monotonic>,
    locked_until: Option<Monotonic>,
}

impl Failures {
    fn last(&self) -> Monotonic {
        self.at.last().copied().unwrap_or_default()
    }

    fn is_over(&self, limit: RateLimit, now: Monotonic) -> bool {
        self.locked_until.is_none_or(|until| until <= now) && now.since(self.last()) >= limit.window
    }
}

impl FailureLimits {
    /// Nobody has failed yet.
    #[must_use]
    pub fn new(limit: RateLimit) -> Self {
        Self { limit, entries: HashMap::new() }
    }

    /// Counts by another limit from here on; what was counted stays.
    pub fn set_limit(&mut self, limit: RateLimit) {
        self.limit = limit;
    }

    /// Whether an attempt is looked at.
    ///
    /// # Errors
    /// [`LockedOut`]: not before the time that it tells.
    pub fn check(&self, proof: Proof, who: &Who, now: Monotonic) -> Result<(), LockedOut> {
        if self.is_exempt(who) {
            return Ok(());
        }
        // A key to look up must be owned; this happens once a connect.
        let entry = self.entries.get(&(proof, who.clone()));
        match entry.and_then(|failures| failures.locked_until) {
            Some(until) if until > now => Err(LockedOut { retry_after: until.since(now) }),
            _ => Ok(()),
        }
    }

    /// Counts a failure and tells how long to hold back the answer to it.
    pub fn failed(&mut self, proof: Proof, who: Who, now: Monotonic) -> Duration {
        let (limit, exempt) = (self.limit, self.is_exempt(&who));
        let key = (proof, who);
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        let failures =
            self.entries.entry(key).or_insert_with(|| Failures { at: Vec::new(), locked_until: None });
        failures.at.retain(|at| now.since(*at) < limit.window);
        let most = usize::try_from(limit.max_attempts.clamp(1, MAX_ATTEMPTS)).unwrap_or(1);
        if failures.at.len() >= most {
            failures.at.remove(0);
        }
        failures.at.push(now);
        let count = failures.at.len();
        if !exempt && count >= most {
            failures.locked_until = Some(later(now, limit.lockout));
        }
        delay(count)
    }

    /// Forgets the failures of someone who proved himself.
    pub fn succeeded(&mut self, proof: Proof, who: &Who) {
        self.entries.remove(&(proof, who.clone()));
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn is_exempt(&self, who: &Who) -> bool {
        self.limit.exempt_loopback && matches!(who, Who::Local(_))
    }

    fn make_room(&mut self, now: Monotonic) {
        let limit = self.limit;
        self.entries.retain(|_, failures| !failures.is_over(limit, now));
        if self.entries.len() >= MAX_ENTRIES {
            let oldest = self.entries.iter().min_by_key(|(_, failures)| failures.last());
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
    }
}

fn delay(failures: usize) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    (FIRST_DELAY * 2_u32.pow(doublings)).min(LONGEST_DELAY)
}

fn later(now: Monotonic, after: Duration) -> Monotonic {
    Monotonic(now.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests;
