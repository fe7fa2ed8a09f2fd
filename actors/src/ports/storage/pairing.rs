//! What is stored of devices.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::types::{ClientInfo, DeviceId, PairReason, PublicKey, Role, Scopes, SecretHash, Timestamp};

/// An approved device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    /// Its name.
    pub id: DeviceId,
    /// The key that proves that it is this one.
    pub key: PublicKey,
    /// What it said of itself when it was approved last.
    pub client: ClientInfo,
    /// The roles that it may take.
    pub roles: BTreeSet<Role>,
    /// The scopes that it may have as an operator.
    pub scopes: Scopes,
    /// Where it connected from when it was approved last.
    pub remote: Option<String>,
    /// When it was approved first.
    pub created_at: Timestamp,
    /// When its roles and scopes were approved last.
    pub approved_at: Timestamp,
}

/// The token with which a device proves that it was approved for a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceTokenRow {
    /// The device.
    pub device: DeviceId,
    /// The role.
    pub role: Role,
    /// What is kept of the token.
    pub hash: SecretHash,
    /// The most that it is good for.
    pub scopes: Scopes,
    /// When the device got its first one for this role.
    pub created_at: Timestamp,
    /// When this one took the place of another.
    pub rotated_at: Option<Timestamp>,
    /// Since when it is good for nothing.
    pub revoked_at: Option<Timestamp>,
}

impl DeviceTokenRow {
    /// When the token that counts was made.
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        self.rotated_at.unwrap_or(self.created_at)
    }
}

/// A device that waits for somebody's approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairRequestRow {
    /// By which it is approved or rejected.
    pub id: Uuid,
    /// The device.
    pub device: DeviceId,
    /// Its key.
    pub key: PublicKey,
    /// What it says of itself.
    pub client: ClientInfo,
    /// The role that it asked for last.
    pub role: Role,
    /// All roles that it asked for.
    pub roles: BTreeSet<Role>,
    /// All scopes that it asked for.
    pub scopes: Scopes,
    /// Where it connects from.
    pub remote: Option<String>,
    /// Why it must ask.
    pub reason: PairReason,
    /// When it asked first.
    pub created_at: Timestamp,
    /// When the request lapses.
    pub expires_at: Timestamp,
}

/// A code that pairs one device, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapRow {
    /// Names the code in the audit record.
    pub id: Uuid,
    /// What is kept of the code.
    pub hash: SecretHash,
    /// The role that it gives.
    pub role: Role,
    /// The most scopes that it gives.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it lapses.
    pub expires_at: Timestamp,
}

/// All that is stored of devices, each list in the order of its ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredPairing {
    /// The approved devices.
    pub devices: Vec<DeviceRow>,
    /// Their tokens, by device and role.
    pub tokens: Vec<DeviceTokenRow>,
    /// The devices that wait, by request.
    pub requests: Vec<PairRequestRow>,
    /// The codes that were not used.
    pub bootstraps: Vec<BootstrapRow>,
}
