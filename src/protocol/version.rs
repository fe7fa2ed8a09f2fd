//! The generation that a connection speaks.

use serde::Serialize;
use serde_json::{Value, json};

use super::error::{ErrorCode, ErrorShape};

/// A generation of the protocol. The later one is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Spoken by OpenClaw 2026.4.
    V3,
    /// Spoken by OpenClaw 2026.9.
    V4,
}

impl Protocol {
    /// The oldest that is spoken.
    pub const OLDEST: Self = Self::V3;
    /// The newest that is spoken.
    pub const NEWEST: Self = Self::V4;

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.number())
    }
}

/// The newest generation in the range that the client speaks, whatever it is used for.
///
/// # Errors
/// [`Mismatch`] if there is none.
pub const fn negotiate(min: u32, max: u32) -> Result<Protocol, Mismatch> {
    let newest = Protocol::NEWEST.number();
    let highest = if max < newest { max } else { newest };
    match highest {
        4 if min <= 4 => Ok(Protocol::V4),
        3 if min <= 3 => Ok(Protocol::V3),
        _ => Err(Mismatch { client_min: min, client_max: max }),
    }
}

/// No generation is spoken by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("protocol mismatch")]
pub struct Mismatch {
    /// The oldest that the client speaks.
    pub client_min: u32,
    /// The newest that the client speaks.
    pub client_max: u32,
}

impl Mismatch {
    /// What both generations of clients look for: the older one reads `expectedProtocol` alone.
    #[must_use]
    pub fn details(&self) -> Value {
        let nearest =
            if self.client_max < Protocol::OLDEST.number() { Protocol::OLDEST } else { Protocol::NEWEST };
        json!({
            "code": "PROTOCOL_MISMATCH",
            "clientMinProtocol": self.client_min,
            "clientMaxProtocol": self.client_max,
            "expectedProtocol": nearest,
            "minimumProbeProtocol": Protocol::OLDEST,
        })
    }

    /// The answer to the client; the connection is then closed with code 1002.
    #[must_use]
    pub fn error_shape(&self) -> ErrorShape {
        ErrorShape::new(ErrorCode::InvalidRequest, self.to_string()).with_details(self.details())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Mismatch, Protocol, negotiate};

    #[test]
    fn the_newest_common_generation_is_spoken() {
        for (min, max, expected) in [
            (3, 3, Some(Protocol::V3)),
            (3, 4, Some(Protocol::V4)),
            (4, 4, Some(Protocol::V4)),
            (1, 3, Some(Protocol::V3)),
            (1, 99, Some(Protocol::V4)),
            (4, 99, Some(Protocol::V4)),
            (1, 2, None),
            (5, 5, None),
            (99, 99, None),
            (4, 3, None),
            (u32::MAX, 0, None),
        ] {
            assert_eq!(negotiate(min, max).ok(), expected, "{min}..{max}");
        }
    }

    #[test]
    fn a_mismatch_says_what_either_generation_says() {
        let newer = Mismatch { client_min: 99, client_max: 99 };
        let expected = json!({"code": "PROTOCOL_MISMATCH", "clientMinProtocol": 99, "clientMaxProtocol": 99,
            "expectedProtocol": 4, "minimumProbeProtocol": 3});
        assert_eq!(newer.details(), expected);
        let shape = serde_json::to_value(newer.error_shape()).unwrap();
        assert_eq!(
            shape,
            json!({"code": "INVALID_REQUEST", "message": "protocol mismatch", "details": expected})
        );
        let older = Mismatch { client_min: 1, client_max: 2 };
        assert_eq!(older.details()["expectedProtocol"], 3);
    }
}
