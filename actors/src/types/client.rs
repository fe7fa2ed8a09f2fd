//! Who connects from outside: devices, their roles, what they say about themselves.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::NameError;
use super::ids::clipped;

/// Longest name that a client gives of itself, in bytes.
pub const MAX_CLIENT_NAME: usize = 256;
/// Longest text of a remote address, in bytes: an IPv6 address with its zone.
pub const MAX_REMOTE: usize = 64;

/// What a client is to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Lends the daemon a machine. Has no scopes.
    Node,
    /// Works with agents, as far as its scopes reach.
    Operator,
}

impl Role {
    /// All roles, sorted by name.
    pub const ALL: [Self; 2] = [Self::Node, Self::Operator];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| NameError::Role(clipped(text)))
    }
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to check a signature with.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The device that holds the private key: the SHA-256 of this one.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        DeviceId(Sha256::digest(self.0).into())
    }
}

/// Base64url without padding, as on the wire.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let invalid = || NameError::PublicKey(clipped(text));
        if text.len() != 43 {
            return Err(invalid());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        bytes.try_into().map(Self).map_err(|_| invalid())
    }
}

/// The name of a device: the SHA-256 of its public key, 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId([u8; 32]);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DeviceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut id = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let filled = rest.is_empty()
            && pairs.len() == id.len()
            && id.iter_mut().zip(pairs).all(|(byte, [high, low])| match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    *byte = high << 4 | low;
                    true
                }
                _ => false,
            });
        if filled { Ok(Self(id)) } else { Err(NameError::Device(clipped(text))) }
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for DeviceId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

/// What a client says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// The program: `cli`, `openclaw-control-ui`, ...
    pub id: String,
    /// How it is used: `cli`, `webchat`, `node`, ...
    pub mode: String,
    /// A name for people.
    pub name: Option<String>,
    /// The system that it runs on. Pinned when its device is approved.
    pub platform: String,
    /// The kind of machine that it runs on. Pinned when its device is approved.
    pub family: Option<String>,
}

/// A text of a client that is too long or would disturb whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must have at most {max} bytes and no control characters")]
pub struct TextError {
    /// Which text.
    pub what: &'static str,
    /// The most bytes that it may have.
    pub max: usize,
}

impl TextError {
    /// Whether a text is short and plain enough to be kept.
    ///
    /// # Errors
    /// It is not. The error does not repeat it.
    pub fn check(what: &'static str, text: &str, max: usize) -> Result<(), Self> {
        if text.len() <= max && !text.chars().any(char::is_control) {
            Ok(())
        } else {
            Err(Self { what, max })
        }
    }
}

impl ClientInfo {
    /// Whether every text is short and plain enough to be kept.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), TextError> {
        let texts = [
            ("client.id", Some(&self.id)),
            ("client.mode", Some(&self.mode)),
            ("client.displayName", self.name.as_ref()),
            ("client.platform", Some(&self.platform)),
            ("client.deviceFamily", self.family.as_ref()),
        ];
        texts.into_iter().try_for_each(|(what, text)| {
            TextError::check(what, text.map_or("", String::as_str), MAX_CLIENT_NAME)
        })
    }
}

/// Who stands behind a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// Somebody at this machine: a direct connection over loopback that showed the shared secret, or needs none.
    /// Whoever is there could change the configuration as well.
    Local,
    /// Anybody else, also one that showed the shared secret.
    Stranger,
}

/// Why a device is asked about, or was approved. The first that applies counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairReason {
    /// Nobody has approved the device yet.
    NotPaired,
    /// It wants a role for which it is not approved.
    RoleUpgrade,
    /// It wants more scopes than were approved.
    ScopeUpgrade,
    /// It names another platform or device family than was approved.
    MetadataUpgrade,
}

impl PairReason {
    /// All reasons, the gravest first.
    pub const ALL: [Self; 4] =
        [Self::NotPaired, Self::RoleUpgrade, Self::ScopeUpgrade, Self::MetadataUpgrade];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotPaired => "not-paired",
            Self::RoleUpgrade => "role-upgrade",
            Self::ScopeUpgrade => "scope-upgrade",
            Self::MetadataUpgrade => "metadata-upgrade",
        }
    }
}

impl fmt::Display for PairReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_and_ids_come_back_from_their_texts(bytes: [u8; 32]) {
            let key = PublicKey::from_bytes(bytes);
            prop_assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
            let id = key.device();
            prop_assert_eq!(id.to_string().parse::<DeviceId>(), Ok(id));
            prop_assert!(id.to_string().to_uppercase().parse::<DeviceId>().is_err());
        }

        #[test]
        fn no_other_text_is_an_id_or_a_key(text in ".{0,80}") {
            if let Ok(id) = text.parse::<DeviceId>() {
                prop_assert_eq!(id.to_string(), text.clone());
            }
            if let Ok(key) = text.parse::<PublicKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }

    #[test]
    fn the_id_of_a_device_is_the_hash_of_its_key() {
        let key: PublicKey = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
        assert_eq!(
            key.device().to_string(),
            "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
        );
        let long = "a".repeat(1_000_000).parse::<DeviceId>().unwrap_err().to_string();
        assert!(long.len() < 300, "{long}");
    }

    #[test]
    fn texts_that_are_too_long_or_not_plain_are_named() {
        let mut client = ClientInfo {
            id: "cli".to_owned(),
            mode: "cli".to_owned(),
            name: Some("ä".repeat(128)),
            platform: "linux".to_owned(),
            family: None,
        };
        assert_eq!(client.check(), Ok(()));
        client.name = Some("ä".repeat(129));
        assert_eq!(client.check().unwrap_err().what, "client.displayName");
        client.name = None;
        client.family = Some("a\u{1b}[2Jb".to_owned());
        assert_eq!(client.check().unwrap_err().what, "client.deviceFamily");
    }
}
