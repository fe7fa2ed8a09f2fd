//! What happens to devices.

use std::sync::Arc;

use uuid::Uuid;

use crate::ports::PairRequestRow;
use crate::types::{DeviceId, Origin, Role, Timestamp};

/// How a request for approval came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairVerdict {
    /// The device was approved.
    Approved,
    /// Somebody said no, or removed the device.
    Rejected,
    /// Nobody said anything in time.
    Expired,
    /// The device asked for more, in a request of its own.
    Superseded,
}

impl PairVerdict {
    /// The name in logs and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }
}

/// One happening, told by its commit. Who keeps connections of a device closes them on the last three; as a
/// change may be committed between a device's check and the first look at these events, it listens first.
#[derive(Debug, Clone)]
pub enum PairingEvent {
    /// A device waits for approval.
    Requested(Arc<PairRequestRow>),
    /// A device was approved, or a request came to its end.
    Resolved {
        /// The request; none where the device was approved without one.
        request: Option<Uuid>,
        /// The device.
        device: DeviceId,
        /// How it ended.
        verdict: PairVerdict,
        /// When.
        at: Timestamp,
    },
    /// A device is known no longer.
    Removed {
        /// The device.
        device: DeviceId,
        /// Who asked: if that is one of its own connections, it has its answer to come.
        origin: Origin,
    },
    /// A token was replaced on demand: what was authenticated with the old one ends.
    TokenRotated {
        /// The device.
        device: DeviceId,
        /// The role that the token is for.
        role: Role,
        /// Who asked.
        origin: Origin,
    },
    /// A role was taken from a device, and its token with it.
    TokenRevoked {
        /// The device.
        device: DeviceId,
        /// The role.
        role: Role,
        /// Who asked.
        origin: Origin,
    },
}
