//! Devices that sign, as clients of both generations do.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A device with its key.
pub struct Device {
    pair: Ed25519KeyPair,
    pub id: String,
}

impl Device {
    /// The one of this name: always the same.
    pub fn named(name: &str) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&Sha256::digest(name)).unwrap();
        let id = id_of(pair.public_key().as_ref());
        Self { pair, id }
    }

    /// Its key as it is sent.
    pub fn public_key(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.public_key())
    }

    /// Its key without what a sender wraps it in.
    pub fn key_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// Signs the parameters of a `connect`: `version` is 2 or 3.
    pub fn sign(&self, params: &mut Value, version: u8, nonce: &str, signed_at: u64) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let auth = &params["auth"];
        let token = ["token", "deviceToken", "bootstrapToken"].map(|name| text(&auth[name]));
        let token = token.into_iter().find(|token| !token.is_empty()).unwrap_or_default();
        let scopes: Vec<String> = params["scopes"].as_array().into_iter().flatten().map(text).collect();
        let client = &params["client"];
        let role = params["role"].as_str().unwrap_or("operator");
        let mut payload = format!(
            "v{version}|{}|{}|{}|{role}|{}|{signed_at}|{token}|{nonce}",
            self.id,
            text(&client["id"]),
            text(&client["mode"]),
            scopes.join(","),
        );
        if version == 3 {
            for field in ["platform", "deviceFamily"] {
                payload.push('|');
                payload.push_str(&text(&client[field]).trim().to_ascii_lowercase());
            }
        }
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(payload.as_bytes()));
        params["device"] = json!({
            "id": self.id,
            "publicKey": self.public_key(),
            "signature": signature,
            "signedAt": signed_at,
            "nonce": nonce,
        });
    }
}

/// The id of the device with this key.
pub fn id_of(key: &[u8]) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}
