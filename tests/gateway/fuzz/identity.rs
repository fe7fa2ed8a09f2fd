//! What only the moment of a connect knows, in the place of its placeholders.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::rig::TOKEN;

static PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());

/// The id of the device that signs.
pub fn device_id() -> String {
    Sha256::digest(PAIR.public_key()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A connect that is let in.
pub fn connect(protocol: u32, role: &str) -> Value {
    if role == "node" {
        // None comes in without a device.
        let mut params = signed("$sign3");
        params["role"] = role.into();
        params["client"]["id"] = "node-host".into();
        params["client"]["mode"] = role.into();
        return params;
    }
    json!({
        "minProtocol": protocol, "maxProtocol": protocol,
        "client": { "id": "cli", "version": "test", "platform": "test", "mode": "cli" },
        "role": role, "scopes": ["operator.admin"], "auth": { "token": "$token" },
    })
}

/// The same with a device under it.
pub fn signed(signature: &str) -> Value {
    json!({
        "minProtocol": 3, "maxProtocol": 4,
        "client": { "id": "gateway-client", "version": "1", "platform": "Linux", "deviceFamily": "Linux",
            "mode": "ui", "displayName": "UI", "modelIdentifier": "m", "instanceId": "i", "buildId": "b",
            "timeZone": "Europe/Berlin" },
        "role": "operator", "scopes": ["operator.read", "operator.write"], "caps": ["tool-events"],
        "commands": ["x"], "permissions": { "camera": true }, "pathEnv": "/bin", "locale": "en", "userAgent": "test",
        "auth": { "token": "$token" },
        "device": { "id": "$device", "publicKey": "$key", "signature": signature, "signedAt": "$now", "nonce": "$nonce" },
    })
}

/// Puts the facts of a connection in the place of what stands for them, the signature last.
pub fn fill(params: &mut Value, nonce: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    replace(params, &|text| match text {
        "$token" => Some(TOKEN.into()),
        "$nonce" => Some(nonce.into()),
        "$now" => Some(now.into()),
        "$device" => Some(device_id().into()),
        "$key" => Some(URL_SAFE_NO_PAD.encode(PAIR.public_key()).into()),
        _ => None,
    });
    let [second, third] = ["v2", "v3"].map(|version| sign(params, version));
    replace(params, &|text| match text {
        "$sign2" => Some(second.as_str().into()),
        "$sign3" => Some(third.as_str().into()),
        _ => None,
    });
}

fn sign(params: &Value, version: &str) -> String {
    let text = |at: &str| params.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let scopes: Vec<&str> =
        params["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut signed = format!(
        "{version}|{}|{}|{}|{}|{}|{}|{}|{}",
        text("/device/id"),
        text("/client/id"),
        text("/client/mode"),
        text("/role"),
        scopes.join(","),
        params["device"]["signedAt"],
        text("/auth/token"),
        text("/device/nonce"),
    );
    if version == "v3" {
        for field in ["/client/platform", "/client/deviceFamily"] {
            signed.push('|');
            signed.push_str(&text(field).trim().to_ascii_lowercase());
        }
    }
    URL_SAFE_NO_PAD.encode(PAIR.sign(signed.as_bytes()))
}

/// Puts what `by` gives in the place of texts.
pub fn replace(value: &mut Value, by: &dyn Fn(&str) -> Option<Value>) {
    match value {
        Value::String(text) => {
            if let Some(new) = by(text) {
                *value = new;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, by)),
        Value::Object(members) => members.values_mut().for_each(|member| replace(member, by)),
        _ => {}
    }
}
