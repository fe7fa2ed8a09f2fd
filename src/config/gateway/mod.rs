//! `gateway.*` and `hooks.*`: where the daemon listens, whom it lets in, and what it serves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use offshoot_actors::types::{AgentId, ToolRules};
use secrecy::SecretString;

use crate::gateway::auth::{AuthMode, AuthSettings};
use crate::gateway::identity::DevicePolicy;
use crate::gateway::origin::OriginPolicy;

mod auth;
mod hooks;
mod read;

pub(super) use read::read;

/// The port that clients try first.
pub const DEFAULT_PORT: u16 = 18_789;

/// What the daemon's door is set to. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// The port of HTTP and WebSocket.
    pub port: u16,
    /// Where it is open.
    pub bind: Bind,
    /// Whom it lets in.
    pub auth: AuthSettings,
    /// The Control UI and what pages may do.
    pub control_ui: ControlUi,
    /// Encryption; none if it is off.
    pub tls: Option<Tls>,
    /// `/v1/chat/completions`.
    pub chat_completions: Endpoint,
    /// `/v1/responses`.
    pub responses: Endpoint,
    /// What `/tools/invoke` allows (`allow`) and forbids (`deny`) beyond its own list.
    pub tools: ToolRules,
    /// The webhooks; none if they are off.
    pub hooks: Option<Hooks>,
    /// `/metrics`.
    pub metrics: MetricsEndpoint,
    /// What becomes of a change of the configuration file.
    pub reload: Reload,
    /// How long a run may give no sign of life before watchers are told that it is silent
    /// (`gateway.watch.silentAfterSeconds`).
    pub silent_after: Duration,
    /// How long a client has from the opened socket to its `connect`.
    pub handshake_timeout: Duration,
    /// Most sockets of one address that have not finished their handshake.
    pub unfinished_per_address: usize,
}

impl GatewaySettings {
    /// Whether others than this machine would get in without proving anything.
    #[must_use]
    pub fn is_open_to_others(&self) -> bool {
        self.auth.mode == AuthMode::None && !self.bind.is_loopback()
    }
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            port: DEFAULT_PORT,
            bind: Bind::Loopback,
            auth: AuthSettings::default(),
            control_ui: ControlUi::default(),
            tls: None,
            chat_completions: Endpoint::default(),
            responses: Endpoint::default(),
            tools: ToolRules::default(),
            hooks: None,
            metrics: MetricsEndpoint::default(),
            reload: Reload::default(),
            silent_after: Duration::from_secs(120),
            handshake_timeout: Duration::from_secs(15),
            unfinished_per_address: 32,
        }
    }
}

/// Where the door is open (`gateway.bind`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bind {
    /// To processes of this machine.
    #[default]
    Loopback,
    /// On every address of this machine.
    Lan,
    /// On one address (`gateway.customBindHost`), and to processes of this machine: a command beside the daemon that
    /// comes from an address of the network could be anybody's.
    Address(IpAddr),
}

impl Bind {
    /// The addresses to listen on. Where a machine lacks one of the two kinds, the other is enough; see
    /// [`Bind::needs`].
    #[must_use]
    pub fn addresses(self) -> Vec<IpAddr> {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        match self {
            Self::Loopback => loopback.to_vec(),
            Self::Lan => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            Self::Address(address) if address.to_canonical().is_loopback() || address.is_unspecified() => {
                vec![address]
            }
            Self::Address(address) => [address].into_iter().chain(loopback).collect(),
        }
    }

    /// Whether the daemon must not start without this address.
    #[must_use]
    pub fn needs(self, address: IpAddr) -> bool {
        self == Self::Address(address)
    }

    /// Whether only processes of this machine reach it.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        self.addresses().iter().all(|address| address.to_canonical().is_loopback())
    }
}

/// `gateway.controlUi`.
#[derive(Debug, Clone)]
pub struct ControlUi {
    /// Whether it is served, if [`ControlUi::root`] says where it is.
    pub enabled: bool,
    /// What its path begins with: empty, or a slash and more without one at the end.
    pub base_path: String,
    /// The folder with its files.
    pub root: Option<PathBuf>,
    /// Which pages may talk to the gateway.
    pub origins: OriginPolicy,
    /// What it may do without a device.
    pub device: DevicePolicy,
    /// How far it trusts what it embeds.
    pub embed_sandbox: &'static str,
    /// Whether it embeds what is elsewhere.
    pub allow_external_embed_urls: bool,
}

impl Default for ControlUi {
    fn default() -> Self {
        Self {
            enabled: true,
            base_path: String::new(),
            root: None,
            origins: OriginPolicy::default(),
            device: DevicePolicy::default(),
            embed_sandbox: "scripts",
            allow_external_embed_urls: false,
        }
    }
}

/// `gateway.tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// With a certificate and a key in PEM.
    Files {
        /// The certificate, with those between it and a known one.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// With a certificate that the daemon makes for itself and keeps.
    SelfSigned,
}

/// An endpoint for other programs (`gateway.http.endpoints.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is served.
    pub enabled: bool,
    /// Longest request, in bytes.
    pub max_body_bytes: usize,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self { enabled: false, max_body_bytes: 20 * 1024 * 1024 }
    }
}

/// `hooks`, when they are on.
#[derive(Debug, Clone)]
pub struct Hooks {
    /// What the path of each begins with: a slash and more without one at the end.
    pub path: String,
    /// What a caller must send.
    pub token: SecretString,
    /// Longest request, in bytes.
    pub max_body_bytes: usize,
    /// The session of a run that names none; a new one if there is none.
    pub default_session_key: Option<String>,
    /// Whether a caller may name the session.
    pub allow_request_session_key: bool,
    /// What a named session's key must begin with; empty for anything.
    pub allowed_session_key_prefixes: Vec<String>,
    /// The agents that may be named; none for all.
    pub allowed_agents: Option<Vec<AgentId>>,
}

/// `/metrics` (`gateway.metrics`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsEndpoint {
    /// Whether it is served.
    pub enabled: bool,
    /// Whether programs of this machine must prove themselves too. All others must in any case.
    pub proof_of_neighbours: bool,
}

impl Default for MetricsEndpoint {
    fn default() -> Self {
        Self { enabled: true, proof_of_neighbours: true }
    }
}

/// What becomes of a change of the configuration file (`gateway.reload`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// Whether it is looked for.
    pub enabled: bool,
    /// How long the file must be quiet before it is read.
    pub debounce: Duration,
}

impl Default for Reload {
    fn default() -> Self {
        Self { enabled: true, debounce: Duration::from_millis(300) }
    }
}
