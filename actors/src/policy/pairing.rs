//! Whether a device is let in: at once, with its approval noted, or only when somebody has approved it.
//!
//! Whoever sits at the machine and holds the shared secret could change the configuration as well, so a device
//! that they vouch for is approved without a question, also for more than it had. Everybody else waits.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ports::{DeviceRow, PairRequestRow};
use crate::types::{ClientInfo, PairReason, Role, Scopes, Timestamp, Vouched};

/// How long a device waits for its approval before it must ask again.
pub const PENDING_TTL: Duration = Duration::from_secs(300);
/// Most devices that are approved. A connect looks them up in memory, and a list holds them all.
pub const MAX_DEVICES: usize = 10_000;
/// Most devices that wait for their approval: more than anybody looks through.
pub const MAX_PENDING: usize = 256;
/// Most devices that wait at one remote address, so that one stranger leaves room for others.
pub const MAX_PENDING_PER_ADDRESS: usize = 16;
/// Most setup codes that were not used.
pub const MAX_BOOTSTRAPS: usize = 64;
/// Longest life of a setup code.
pub const MAX_BOOTSTRAP_TTL: Duration = Duration::from_secs(86_400);

/// What a device asks for when it connects.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The role that it wants.
    pub role: Role,
    /// The scopes that it wants, in their stored form; a node has none.
    pub scopes: Scopes,
    /// What it says of itself.
    pub client: &'a ClientInfo,
    /// Who stands behind it.
    pub vouched: Vouched,
}

/// The answer to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It asks for no more than this row was approved for.
    Admit(&'a DeviceRow),
    /// It is approved as it asks, because somebody at this machine vouches for it.
    Approve(PairReason),
    /// Somebody must approve it first.
    Pend(PairReason),
}

/// Decides on a device that connects; `known` is its row, if it was approved before.
#[must_use]
pub fn decide<'a>(ask: &Ask<'_>, known: Option<&'a DeviceRow>) -> Decision<'a> {
    let reason = match known {
        None => PairReason::NotPaired,
        Some(known) if !known.roles.contains(&ask.role) => PairReason::RoleUpgrade,
        Some(known) if !known.scopes.covers(scopes_for(ask.role, ask.scopes)) => PairReason::ScopeUpgrade,
        Some(known) if !same_machine(&known.client, ask.client) => PairReason::MetadataUpgrade,
        Some(known) => return Decision::Admit(known),
    };
    match ask.vouched {
        Vouched::Local => Decision::Approve(reason),
        Vouched::Stranger => Decision::Pend(reason),
    }
}

/// The scopes of a role, in their stored form: a node has none, whatever it asks for.
#[must_use]
pub fn scopes_for(role: Role, asked: Scopes) -> Scopes {
    match role {
        Role::Node => Scopes::NONE,
        Role::Operator => asked.normalised(),
    }
}

/// Whether two descriptions may be of the same machine. Who says nothing about a point does not differ in it: what
/// was pinned stays in force.
fn same_machine(pinned: &ClientInfo, said: &ClientInfo) -> bool {
    let same = |pinned: &str, said: &str| {
        let (pinned, said) = (pinned.trim(), said.trim());
        pinned.is_empty() || said.is_empty() || pinned.eq_ignore_ascii_case(said)
    };
    let family = |client: &ClientInfo| client.family.clone().unwrap_or_default();
    same(&pinned.platform, &said.platform) && same(&family(pinned), &family(said))
}

/// What was pinned of a device, with what it says now where it says anything.
#[must_use]
pub fn pin(pinned: &ClientInfo, said: &ClientInfo) -> ClientInfo {
    let platform = if said.platform.trim().is_empty() { &pinned.platform } else { &said.platform };
    let family = said.family.as_ref().filter(|family| !family.trim().is_empty()).or(pinned.family.as_ref());
    let name = said.name.as_ref().or(pinned.name.as_ref());
    ClientInfo { platform: platform.clone(), family: family.cloned(), name: name.cloned(), ..said.clone() }
}

/// What becomes of a device's request for approval when it asks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// It stands as it is: it holds what is asked for.
    Same,
    /// It stands for longer, because the device keeps asking.
    Longer,
    /// Another one takes its place, for all that was asked for. It has an id of its own, because whoever has read
    /// the first must not approve more than they read.
    Supersede {
        /// All roles that were asked for.
        roles: BTreeSet<Role>,
        /// All scopes that were asked for.
        scopes: Scopes,
        /// The graver of the reasons.
        reason: PairReason,
    },
}

/// Decides what becomes of a request that stands when its device asks again. Not for one that has lapsed.
#[must_use]
pub fn merge(pending: &PairRequestRow, ask: &Ask<'_>, reason: PairReason, now: Timestamp) -> Merge {
    let scopes = scopes_for(ask.role, ask.scopes);
    // What it says of itself is approved as it stands: another description asks again, with its own reason.
    if !(pending.roles.contains(&ask.role) && pending.scopes.covers(scopes)) {
        let roles = pending.roles.iter().copied().chain([ask.role]).collect();
        let scopes = pending.scopes.union(scopes).normalised();
        return Merge::Supersede { roles, scopes, reason: reason.min(pending.reason) };
    }
    // A commit for every attempt would let a stranger write as often as it connects.
    if pending.expires_at - now < PENDING_TTL / 2 { Merge::Longer } else { Merge::Same }
}

/// Whether a request covers what a device was approved for meanwhile, so that nobody need answer it.
#[must_use]
pub fn is_settled_by(pending: &PairRequestRow, device: &DeviceRow) -> bool {
    pending.roles.is_subset(&device.roles)
        && device.scopes.covers(pending.scopes)
        && same_machine(&device.client, &pending.client)
}

/// A device approved for what it asks, beside what it had.
#[must_use]
pub fn approved(
    known: Option<&DeviceRow>,
    asked: &PairRequestRow,
    reason: PairReason,
    now: Timestamp,
) -> DeviceRow {
    let mut row = match known {
        Some(known) => DeviceRow { client: pin(&known.client, &asked.client), ..known.clone() },
        None => DeviceRow {
            id: asked.device,
            key: asked.key,
            client: asked.client.clone(),
            roles: BTreeSet::new(),
            scopes: Scopes::NONE,
            remote: None,
            created_at: now,
            approved_at: now,
        },
    };
    row.roles.extend(&asked.roles);
    row.scopes = row.scopes.union(asked.scopes).normalised();
    row.remote.clone_from(&asked.remote);
    // Another description alone gives no rights that a token would have to carry.
    if reason != PairReason::MetadataUpgrade {
        row.approved_at = now;
    }
    row
}

/// Whether one more device may wait.
///
/// # Errors
/// The limit that is reached.
pub fn check_room(all: usize, at_address: usize, remote: Option<&str>) -> Result<(), Full> {
    if all >= MAX_PENDING {
        return Err(Full { max: MAX_PENDING, remote: None });
    }
    match remote {
        Some(remote) if at_address >= MAX_PENDING_PER_ADDRESS => {
            Err(Full { max: MAX_PENDING_PER_ADDRESS, remote: Some(remote.to_owned()) })
        }
        _ => Ok(()),
    }
}

/// No further device may wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// The limit.
    pub max: usize,
    /// The address for which it is one; none where it is one for all.
    pub remote: Option<String>,
}

#[cfg(test)]
mod tests;
