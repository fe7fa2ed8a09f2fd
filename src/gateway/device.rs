//! Device identities: an ed25519 key whose hash is the device's id, and the signature under a connect.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use offshoot_actors::types::{PublicKey, Role};
use ring::signature::{ED25519, UnparsedPublicKey};
use secrecy::ExposeSecret;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::protocol::connect::{ConnectParams, DeviceParams};
use crate::protocol::error::ErrorShape;

/// Largest difference between the client's clock and ours, in milliseconds.
pub const MAX_SKEW_MS: u64 = 120_000;
/// What precedes the 32 bytes of an ed25519 key in its DER form.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Base64 with the letters of URLs, with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether `signature` (base64 of either alphabet) is that of `payload` by this key.
fn verifies(key: &PublicKey, payload: &str, signature: &str) -> bool {
    decode(signature).is_some_and(|signature| {
        UnparsedPublicKey::new(&ED25519, key.as_bytes()).verify(payload.as_bytes(), &signature).is_ok()
    })
}

/// The text that a device signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureVersion {
    /// Without the platform: signed by the Control UIs.
    V2,
    /// With the platform and the kind of machine: signed by the command lines.
    V3,
}

/// A device that signed this connect for this connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedDevice {
    /// Its id.
    pub id: String,
    /// Its key.
    pub public_key: PublicKey,
    /// Whether platform and kind of machine are covered by the signature.
    pub version: SignatureVersion,
}

/// Why a device is not believed. In the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The id is not that of the key.
    #[error("device identity mismatch")]
    IdMismatch,
    /// It was signed too long ago, or in the future.
    #[error("device signature expired")]
    SignatureExpired,
    /// It names no challenge.
    #[error("device nonce required")]
    NonceRequired,
    /// It names another connection's challenge.
    #[error("device nonce mismatch")]
    NonceMismatch,
    /// The signature is not that of the key over this connect.
    #[error("device signature invalid")]
    SignatureInvalid,
    /// The key is none of ed25519.
    #[error("device public key invalid")]
    PublicKeyInvalid,
}

impl DeviceError {
    /// The `code` of the details.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::IdMismatch => "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            Self::SignatureExpired => "DEVICE_AUTH_SIGNATURE_EXPIRED",
            Self::NonceRequired => "DEVICE_AUTH_NONCE_REQUIRED",
            Self::NonceMismatch => "DEVICE_AUTH_NONCE_MISMATCH",
            Self::SignatureInvalid => "DEVICE_AUTH_SIGNATURE_INVALID",
            Self::PublicKeyInvalid => "DEVICE_AUTH_PUBLIC_KEY_INVALID",
        }
    }

    /// The `reason` of the details.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::IdMismatch => "device-id-mismatch",
            Self::SignatureExpired => "device-signature-stale",
            Self::NonceRequired => "device-nonce-missing",
            Self::NonceMismatch => "device-nonce-mismatch",
            Self::SignatureInvalid => "device-signature",
            Self::PublicKeyInvalid => "device-public-key",
        }
    }

    /// The answer to the client; the connection is then closed with code 1008.
    #[must_use]
    pub fn error_shape(self) -> ErrorShape {
        ErrorShape::invalid(self.to_string())
            .with_details(json!({"code": self.code(), "reason": self.reason()}))
    }
}

/// Checks that `device` signed `params` for the challenge `nonce`. `now_ms` is milliseconds since 1970.
///
/// # Errors
/// The first check that fails.
pub fn verify(
    params: &ConnectParams,
    device: &DeviceParams,
    role: Role,
    nonce: &str,
    now_ms: i64,
) -> Result<VerifiedDevice, DeviceError> {
    let bytes = key_bytes(&device.public_key).ok_or(DeviceError::IdMismatch)?;
    if hash(&bytes) != device.id {
        return Err(DeviceError::IdMismatch);
    }
    if u64::try_from(now_ms).unwrap_or_default().abs_diff(device.signed_at) > MAX_SKEW_MS {
        return Err(DeviceError::SignatureExpired);
    }
    let named = device.nonce.trim();
    if named.is_empty() {
        return Err(DeviceError::NonceRequired);
    }
    if named != nonce {
        return Err(DeviceError::NonceMismatch);
    }
    let key = bytes.try_into().map(PublicKey::from_bytes).map_err(|_| DeviceError::PublicKeyInvalid)?;
    let signed = Signed { params, device, role, nonce };
    let version = [SignatureVersion::V3, SignatureVersion::V2]
        .into_iter()
        .find(|version| verifies(&key, &signed.payload(*version), &device.signature))
        .ok_or(DeviceError::SignatureInvalid)?;
    Ok(VerifiedDevice { id: device.id.clone(), public_key: key, version })
}

/// What a signature is made over.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The connect.
    pub params: &'a ConnectParams,
    /// Its device; the signature and the key in it play no part.
    pub device: &'a DeviceParams,
    /// What the connection is for.
    pub role: Role,
    /// That of the challenge.
    pub nonce: &'a str,
}

impl Signed<'_> {
    /// The text under the signature. It holds a secret: never show it.
    #[must_use]
    pub fn payload(&self, version: SignatureVersion) -> String {
        let Self { params, device, role, nonce } = self;
        let (client, auth) = (&params.client, &params.auth);
        let token = auth.token.as_ref().or(auth.device_token.as_ref()).or(auth.bootstrap_token.as_ref());
        let token = token.map_or("", |token| token.expose_secret());
        let name = match version {
            SignatureVersion::V2 => "v2",
            SignatureVersion::V3 => "v3",
        };
        let mut text = format!(
            "{name}|{}|{}|{}|{role}|{}|{}|{token}|{nonce}",
            device.id,
            client.id,
            client.mode,
            params.scopes.join(","),
            device.signed_at,
        );
        if version == SignatureVersion::V3 {
            for field in [Some(&client.platform), client.device_family.as_ref()] {
                let field = field.map_or_else(String::new, |field| field.trim().to_ascii_lowercase());
                text.push('|');
                text.push_str(&field);
            }
        }
        text
    }
}

/// The bytes of a key in any of its forms, of any length.
fn key_bytes(text: &str) -> Option<Vec<u8>> {
    let Some(pem) = text.trim().strip_prefix("-----BEGIN PUBLIC KEY-----") else { return decode(text) };
    let body = pem.strip_suffix("-----END PUBLIC KEY-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(body).ok()?.strip_prefix(&SPKI_PREFIX).map(<[u8]>::to_vec)
}

/// Base64 of either alphabet.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if text.contains(['+', '/']) {
        LENIENT.decode(text.replace('+', "-").replace('/', "_")).ok()
    } else {
        LENIENT.decode(text).ok()
    }
}

/// SHA-256 in lower-case hexadecimal digits.
fn hash(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
