//! What the registry is asked and what it answers, as its callers see it.

use std::collections::BTreeSet;
use std::fmt;

use uuid::Uuid;

use crate::policy::pairing::{Full, MAX_BOOTSTRAP_TTL};
use crate::ports::{BootstrapRow, DeviceRow, DeviceTokenRow, PairRequestRow, Refused};
use crate::types::{
    ClientInfo, DeviceId, MAX_REMOTE, PairReason, PublicKey, Role, Scope, Scopes, Secret, TextError,
    Timestamp, Vouched,
};

/// A device that connects. Whoever asks has checked its signature.
#[derive(Debug, Clone)]
pub struct ConnectRequest {
    /// The key that the signature was checked with.
    pub key: PublicKey,
    /// The role that it wants.
    pub role: Role,
    /// The scopes that it wants; a node gets none.
    pub scopes: Scopes,
    /// What it says of itself.
    pub client: ClientInfo,
    /// Where it connects from: an address without a port.
    pub remote: Option<String>,
    /// Who stands behind it.
    pub vouched: Vouched,
    /// Whether it proved itself with its device token: then it need not be given one, and without somebody who vouches
    /// for it gets no more than that token is good for.
    pub has_token: bool,
}

impl ConnectRequest {
    /// Whether every text is short and plain enough to be kept.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), TextError> {
        self.client.check()?;
        TextError::check("the remote address", self.remote.as_deref().unwrap_or_default(), MAX_REMOTE)
    }
}

/// What becomes of a device that connects.
#[derive(Debug)]
pub enum Connected {
    /// It is in.
    Admitted(Grant),
    /// Somebody must approve it first.
    Pending(Box<Pending>),
}

/// What a device may do on its connection.
#[derive(Debug)]
pub struct Grant {
    /// The device.
    pub device: DeviceId,
    /// Its role.
    pub role: Role,
    /// The scopes that it asked for, which are no more than was approved.
    pub scopes: Scopes,
    /// Its token, if that is new: it is shown now and never again.
    pub token: Option<Secret>,
    /// The most that its token is good for.
    pub token_scopes: Scopes,
    /// When its token was made.
    pub issued_at: Timestamp,
    /// Why it was approved just now; none if it was before.
    pub approved: Option<PairReason>,
}

/// A device that must be approved first.
#[derive(Debug)]
pub struct Pending {
    /// Its request, with the reason and all that it asked for.
    pub request: PairRequestRow,
    /// The roles that it has been approved for.
    pub approved_roles: BTreeSet<Role>,
    /// The scopes that it has been approved for.
    pub approved_scopes: Scopes,
}

/// What a device's token is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenCheck {
    /// It is good for what was asked.
    Valid,
    /// It is not the device's token for this role.
    Mismatch,
    /// It is the device's token, and not good for all scopes that were asked for.
    ScopeMismatch,
    /// It was the device's token until it was revoked.
    Revoked,
}

/// On whose behalf devices are managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The caller's own device, if it has one.
    pub device: Option<DeviceId>,
    /// The scopes that it holds.
    pub scopes: Scopes,
}

impl Caller {
    /// The person at the command line.
    pub const OPERATOR: Self = Self { device: None, scopes: Scopes::ALL };

    pub(super) fn check(&self, required: Scopes) -> Result<(), PairingError> {
        self.scopes.missing(required).map_or(Ok(()), |scope| Err(PairingError::MissingScope(scope)))
    }

    /// Whether it may change this device: its own, or any with the scope admin.
    pub(super) fn check_owner(&self, device: DeviceId) -> Result<(), PairingError> {
        self.check(Scopes::NONE.with(Scope::Pairing))?;
        if self.device == Some(device) || self.scopes.contains(Scope::Admin) {
            Ok(())
        } else {
            Err(PairingError::NotOwn)
        }
    }
}

/// A token as people may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// The role.
    pub role: Role,
    /// The most that it is good for.
    pub scopes: Scopes,
    /// When the device got its first one for this role.
    pub created_at: Timestamp,
    /// When this one took the place of another.
    pub rotated_at: Option<Timestamp>,
    /// Since when it is good for nothing.
    pub revoked_at: Option<Timestamp>,
}

impl From<&DeviceTokenRow> for TokenInfo {
    fn from(row: &DeviceTokenRow) -> Self {
        let DeviceTokenRow { role, scopes, created_at, rotated_at, revoked_at, .. } = *row;
        Self { role, scopes, created_at, rotated_at, revoked_at }
    }
}

/// An approved device with its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairedDevice {
    /// The device.
    pub device: DeviceRow,
    /// Its tokens, by role.
    pub tokens: Vec<TokenInfo>,
}

/// All devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairingList {
    /// Those that wait, oldest first.
    pub pending: Vec<PairRequestRow>,
    /// Those that are approved, by id.
    pub paired: Vec<PairedDevice>,
    /// The setup codes that were not used, oldest first.
    pub codes: Vec<CodeInfo>,
}

/// A setup code as people may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeInfo {
    /// Names it in the audit record.
    pub id: Uuid,
    /// The role that it gives.
    pub role: Role,
    /// The most scopes that it gives.
    pub scopes: Scopes,
    /// When it lapses.
    pub expires_at: Timestamp,
}

impl From<&BootstrapRow> for CodeInfo {
    fn from(row: &BootstrapRow) -> Self {
        Self { id: row.id, role: row.role, scopes: row.scopes, expires_at: row.expires_at }
    }
}

/// A setup code, shown now and never again.
#[derive(Debug)]
pub struct SetupCode {
    /// The code.
    pub code: Secret,
    /// What it is good for.
    pub info: CodeInfo,
}

/// A token that took the place of another, shown now and never again.
#[derive(Debug)]
pub struct Rotated {
    /// The token.
    pub token: Secret,
    /// The most that it is good for.
    pub scopes: Scopes,
    /// When it was made.
    pub rotated_at: Timestamp,
}

/// Why the registry did not do as it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairingError {
    /// A text of the client is too long or not plain.
    #[error(transparent)]
    Text(#[from] TextError),
    /// No further device can be approved.
    #[error("{max} devices are paired, the most there can be: remove some, see `offshoot devices list`")]
    TooManyDevices {
        /// The limit.
        max: usize,
    },
    /// No further device may wait for approval.
    #[error("{0}")]
    TooManyPending(FullText),
    /// No further setup code can be made.
    #[error("{max} setup codes were not used yet, the most there can be: use them, or wait until they lapse")]
    TooManyCodes {
        /// The limit.
        max: usize,
    },
    /// No such request waits, or not any more.
    #[error("no device waits for approval under request {0}: see `offshoot devices list`")]
    UnknownRequest(Uuid),
    /// No such device is approved.
    #[error("there is no paired device {0}: see `offshoot devices list`")]
    UnknownDevice(DeviceId),
    /// The device was not approved for that role, or the role was revoked.
    #[error("device {device} does not have the role {role}")]
    UnknownRole {
        /// The device.
        device: DeviceId,
        /// The role.
        role: Role,
    },
    /// The caller may not give what it does not hold itself.
    #[error("missing scope: {0}")]
    MissingScope(Scope),
    /// The caller may change its own device only.
    #[error("only a caller with the scope operator.admin may change another device than its own")]
    NotOwn,
    /// More was asked for a token than its device was approved for.
    #[error("the device is approved for [{approved}] only: let it ask for more and approve that")]
    BeyondApproved {
        /// What it is approved for.
        approved: Scopes,
    },
    /// No such setup code exists, or it has lapsed or was used.
    #[error("the setup code is wrong, has lapsed, or was used: make another one")]
    CodeInvalid,
    /// The setup code is not for what was asked with it.
    #[error("the setup code is for the role {role} with the scopes [{scopes}]: ask for no more")]
    CodeScope {
        /// The role that it gives.
        role: Role,
        /// The most scopes that it gives.
        scopes: Scopes,
    },
    /// A setup code cannot live that long, or not at all.
    #[error("a setup code lives for 1 to {} seconds", MAX_BOOTSTRAP_TTL.as_secs())]
    CodeTtl,
    /// Too many requests about one device wait for each other.
    #[error("too many requests about this device at once: try again")]
    Busy,
    /// The change could not be stored.
    #[error(transparent)]
    Store(#[from] Refused),
    /// The registry was restarted with the request in hand. It may have been carried out.
    #[error("the registry of devices went away before it answered: try again")]
    Gone,
}

/// The limit on waiting devices in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullText(pub Full);

impl fmt::Display for FullText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} devices", self.0.max)?;
        if let Some(remote) = &self.0.remote {
            write!(f, " from {remote}")?;
        }
        f.write_str(
            " wait for approval, the most there can be: answer some with `offshoot devices approve` or `reject`, \
             or wait five minutes",
        )
    }
}
