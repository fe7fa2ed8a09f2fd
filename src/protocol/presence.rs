//! Who is there: one entry for the gateway and for each client that is tracked.

use serde::{Deserialize, Serialize};

use super::client::words;

/// How long the entry of a client that left stays, in milliseconds.
pub const TTL_MS: i64 = 5 * 60 * 1_000;
/// Most entries of the list.
pub const MAX_ENTRIES: usize = 200;

words! {
    /// Why an entry was written last.
    PresenceReason {
        /// It is the gateway's own.
        Own = "self",
        /// The client connected.
        Connect = "connect",
        /// The client left.
        Disconnect = "disconnect",
        /// The client said so, by the clock.
        Periodic = "periodic",
        /// A node connected.
        NodeConnected = "node-connected",
        /// A node left.
        NodeDisconnected = "node-disconnected",
    }
}

/// An entry of the presence list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
pub struct PresenceEntry {
    /// Name of the machine, or what the client calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The client's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Its kind of machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    /// Its model of machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_identifier: Option<String>,
    /// `gateway`, or the client's mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Seconds since someone typed there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_input_seconds: Option<u64>,
    /// A [`PresenceReason`], or what the client says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Free words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// All of it in a sentence.
    pub text: String,
    /// When it was written, in milliseconds since 1970.
    pub ts: i64,
    /// The client's device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// What its connection is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// What it may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Which of several instances of the client it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{PresenceEntry, PresenceReason};

    #[test]
    fn an_entry_has_the_members_of_the_real_gateways() {
        let value = json!({"host": "host", "ip": "host", "version": "2026.4.15", "platform": "linux 6.18",
            "deviceFamily": "Linux", "modelIdentifier": "x64", "mode": "gateway", "reason": "self",
            "text": "Gateway: host (host)", "ts": 1_795_255_353_810_i64});
        let entry: PresenceEntry = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(entry.reason.as_deref(), Some(PresenceReason::Own.as_str()));
        assert_eq!(serde_json::to_value(&entry).unwrap(), value);
        let value = json!({"text": "", "ts": 0, "lastInputSeconds": 3, "tags": ["a"], "deviceId": "d",
            "roles": ["operator"], "scopes": [], "instanceId": "i"});
        let entry: PresenceEntry = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&entry).unwrap(), value);
    }
}
