//! What the gateway says to a client that has connected.

use std::sync::Arc;

use offshoot_actors::types::Role;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::value::RawValue;

use super::client::words;
use super::event::StateVersion;
use super::presence::PresenceEntry;
use super::version::Protocol;

words! {
    /// How a client proved that it may connect.
    AuthMethod {
        /// Not at all: none was asked for.
        None = "none",
        /// With the shared token.
        Token = "token",
        /// With the shared password.
        Password = "password",
        /// A proxy that is trusted vouches for its user.
        TrustedProxy = "trusted-proxy",
        /// With the token of a paired device.
        DeviceToken = "device-token",
        /// With a one-time code.
        BootstrapToken = "bootstrap-token",
    }
}

/// The payload of the answer to `connect`. It never says which build the gateway is: a Control UI that was told would
/// ask for its own.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloOk {
    #[serde(rename = "type")]
    kind: &'static str,
    /// The generation that is spoken from here on.
    pub protocol: Protocol,
    /// Who answers.
    pub server: Server,
    /// What it can do.
    pub features: Features,
    /// How things are.
    pub snapshot: Snapshot,
    /// What was granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<HelloAuth>,
    /// What the client must keep to.
    pub policy: Policy,
}

impl HelloOk {
    /// All of it, in the shape of `protocol`.
    #[must_use]
    pub fn new(
        protocol: Protocol,
        server: Server,
        features: Features,
        mut snapshot: Snapshot,
        granted: &Granted,
        mut policy: Policy,
    ) -> Self {
        if protocol == Protocol::V3 {
            snapshot.session_defaults.newer = None;
            policy.attachments = None;
        }
        let features = features.shaped(protocol);
        let auth = HelloAuth::shaped(protocol, granted);
        Self { kind: "hello-ok", protocol, server, features, snapshot, auth, policy }
    }
}

/// Who answers.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// The daemon's version.
    pub version: String,
    /// The connection, as logs and audit name it.
    pub conn_id: String,
}

/// What the gateway can do. Cheap to clone.
#[derive(Debug, Clone, Serialize)]
pub struct Features {
    /// Methods that exist. Clients ask this list before they call.
    pub methods: Arc<[&'static str]>,
    /// Events that may come.
    pub events: Arc<[&'static str]>,
    /// Agreements beyond those. Generation 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Arc<[&'static str]>>,
}

impl Features {
    fn shaped(self, protocol: Protocol) -> Self {
        let capabilities = match protocol {
            Protocol::V3 => None,
            Protocol::V4 => Some(self.capabilities.unwrap_or_default()),
        };
        Self { capabilities, ..self }
    }
}

/// How things are at this moment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Who is there.
    pub presence: Vec<PresenceEntry>,
    /// The last health snapshot.
    pub health: Arc<RawValue>,
    /// What later presence and health events are compared with.
    pub state_version: StateVersion,
    /// How long the daemon has been running.
    pub uptime_ms: u64,
    /// What a session without a name means.
    pub session_defaults: SessionDefaults,
    /// For a client with `operator.admin` only.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub admin: Option<AdminSnapshot>,
}

/// What only an administrator is told.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdminSnapshot {
    /// The configuration file, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_path: Option<String>,
    /// Where state lives.
    pub state_dir: String,
    /// `gateway.auth.mode`.
    pub auth_mode: &'static str,
}

/// What a session without a name means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionDefaults {
    /// The agent of requests that name none.
    pub default_agent_id: String,
    /// The last part of its main session's key.
    pub main_key: String,
    /// The key itself. The Control UI shows only events of the key that it finds here.
    pub main_session_key: String,
    /// Whose messages share a session.
    pub scope: &'static str,
    /// What generation 4 adds; left out for the older one.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub newer: Option<NewerDefaults>,
}

/// What generation 4 adds to the session defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewerDefaults {
    /// Whether the default agent has a model that answers.
    pub model_configured: bool,
    /// How the roster names the owner of a request: `legacy` is by its default agent.
    pub ownership: &'static str,
    /// Whether a request must name its agent.
    pub selection_required: bool,
}

/// What a connection was granted.
#[derive(Debug, Clone)]
pub struct Granted {
    /// How the client proved itself.
    pub method: AuthMethod,
    /// What the connection is for.
    pub role: Role,
    /// What it may do, in the order in which it asked.
    pub scopes: Vec<String>,
    /// Its paired device, if it has one.
    pub device: Option<GrantedDevice>,
}

/// What a paired device was granted.
#[derive(Debug, Clone)]
pub struct GrantedDevice {
    /// Its token, where it is shown: only the hash of an older one is kept.
    pub token: Option<SecretString>,
    /// What the token allows.
    pub scopes: Vec<String>,
    /// When the token was issued, in milliseconds since 1970.
    pub issued_at_ms: i64,
}

/// What was granted, in the shape of one generation. Its `Debug` shows no token.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloAuth {
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<AuthMethod>,
    role: Role,
    scopes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "super::bounds::expose")]
    device_token: Option<SecretString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_at_ms: Option<i64>,
}

impl HelloAuth {
    /// Generation 3 is told what its device's token allows, and nothing without one; generation 4 what it has now.
    fn shaped(protocol: Protocol, granted: &Granted) -> Option<Self> {
        let device = granted.device.as_ref();
        let device_token = device.and_then(|device| device.token.clone());
        let issued_at_ms = device.map(|device| device.issued_at_ms);
        let role = granted.role;
        match protocol {
            Protocol::V3 => {
                let mut scopes = device?.scopes.clone();
                scopes.sort_unstable();
                Some(Self { method: None, role, scopes, device_token, issued_at_ms })
            }
            Protocol::V4 => {
                let scopes = granted.scopes.clone();
                Some(Self { method: Some(granted.method), role, scopes, device_token, issued_at_ms })
            }
        }
    }

    /// The token that the client is given, if any.
    #[must_use]
    pub fn device_token(&self) -> Option<&str> {
        self.device_token.as_ref().map(ExposeSecret::expose_secret)
    }
}

/// What a client must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Longest frame, in bytes.
    pub max_payload: usize,
    /// Most bytes that wait for a client before it counts as slow.
    pub max_buffered_bytes: usize,
    /// Time between two ticks; after two without a byte the client takes the connection for dead.
    pub tick_interval_ms: u64,
    /// Bounds on what comes with a message. Generation 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachments: Option<AttachmentPolicy>,
}

/// Bounds on what comes with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentPolicy {
    /// Of all attachments, in bytes.
    pub max_bytes: usize,
    /// Of one image, in bytes.
    pub max_image_bytes: usize,
}

impl Default for Policy {
    /// What both real gateways say.
    fn default() -> Self {
        Self {
            max_payload: 25 * 1024 * 1024,
            max_buffered_bytes: 50 * 1024 * 1024,
            tick_interval_ms: 30_000,
            attachments: Some(AttachmentPolicy { max_bytes: 19_464_192, max_image_bytes: 6 * 1024 * 1024 }),
        }
    }
}

#[cfg(test)]
mod tests;
