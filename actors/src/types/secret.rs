//! Tokens: shown once, stored as hashes.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Longest token that is looked at, in bytes. Those made here have 43.
pub const MAX_SECRET: usize = 512;

/// A token in the clear. No log, error or `Debug` shows it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A new token of these random bytes, in base64url.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// A token as somebody presents it.
    #[must_use]
    pub fn presented(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The token, for the one to whom it belongs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// A hash as it was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash, for the store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this is the hash of `secret`, in a time that does not tell how much of it is right.
    #[must_use]
    pub fn matches(&self, secret: &Secret) -> bool {
        secret.0.len() <= MAX_SECRET && bool::from(self.0.ct_eq(&secret.hash().0))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_matches_and_nothing_shows_it() {
        let secret = Secret::from_bytes(&[0xa5; 32]);
        assert_eq!(secret.expose().len(), 43);
        assert!(secret.expose().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert!(secret.hash().matches(&Secret::presented(secret.expose())));
        for wrong in [&secret.expose()[1..], "", &format!("{} ", secret.expose())] {
            assert!(!secret.hash().matches(&Secret::presented(wrong)));
        }
        let long = Secret::presented("x".repeat(MAX_SECRET + 1));
        assert!(!long.hash().matches(&long));
        assert_eq!(format!("{secret:?} {:?}", secret.hash()), "Secret(..) SecretHash(..)");
    }
}
