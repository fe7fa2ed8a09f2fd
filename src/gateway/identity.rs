//! What a connection is worth: whether it may do without a device, which scopes it keeps, and whether its device is
//! paired without a question.

use offshoot_actors::types::Role;
use serde_json::json;

use super::peer::Peer;
use crate::protocol::client::{ClientId, ClientMode};
use crate::protocol::connect::ClientInfo;
use crate::protocol::error::{ErrorCode, ErrorShape};
use crate::protocol::hello::AuthMethod;

/// What the Control UI may do without (`gateway.controlUi.*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DevicePolicy {
    /// Without a device on this machine (`allowInsecureAuth`).
    pub allow_insecure_auth: bool,
    /// Without a device anywhere (`dangerouslyDisableDeviceAuth`).
    pub disable_device_auth: bool,
}

impl DevicePolicy {
    /// Whether a device that this client sends is not looked at.
    #[must_use]
    pub fn ignores_device_of(&self, client: &ClientInfo) -> bool {
        self.disable_device_auth && is_operator_ui(client)
    }
}

/// A connect that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The program.
    pub client: &'a ClientInfo,
    /// What the connection is for.
    pub role: Role,
    /// Where it comes from.
    pub peer: &'a Peer,
    /// What it proved itself with, if it did.
    pub method: Option<AuthMethod>,
    /// Whether it offered a shared secret, right or wrong.
    pub offered_secret: bool,
}

/// Why a connect without a device goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoDevice {
    /// The secret that it offered is wrong: say so instead.
    #[error("unauthorized")]
    Unauthorized,
    /// A Control UI needs one.
    #[error("control ui requires device identity (open it over HTTPS or from localhost)")]
    ControlUi,
    /// Everyone needs one who does not know the shared secret.
    #[error("device identity required")]
    Required,
}

impl NoDevice {
    /// The answer to the client, but for [`NoDevice::Unauthorized`], whose answer the failure itself has. The connection
    /// is then closed with code 1008.
    #[must_use]
    pub fn error_shape(self) -> ErrorShape {
        let (code, detail) = match self {
            Self::Unauthorized => return ErrorShape::invalid(self.to_string()),
            Self::ControlUi => (ErrorCode::InvalidRequest, "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"),
            Self::Required => (ErrorCode::NotPaired, "DEVICE_IDENTITY_REQUIRED"),
        };
        ErrorShape::new(code, self.to_string()).with_details(json!({"code": detail}))
    }
}

/// Whether a connect without a device may go on. What it proved is checked all the same.
///
/// # Errors
/// [`NoDevice`].
pub fn without_device(candidate: &Candidate<'_>, policy: DevicePolicy) -> Result<(), NoDevice> {
    let Candidate { client, role, peer, method, offered_secret } = *candidate;
    if role == Role::Operator {
        if method == Some(AuthMethod::TrustedProxy) || policy.ignores_device_of(client) {
            return Ok(());
        }
        if is_operator_ui(client) && !(policy.allow_insecure_auth && peer.direct_local) {
            return Err(NoDevice::ControlUi);
        }
        match method {
            Some(AuthMethod::Token | AuthMethod::Password) => return Ok(()),
            Some(AuthMethod::None) if peer.direct_local && !is_of_the_web(client, peer) => return Ok(()),
            _ => {}
        }
    }
    Err(if method.is_none() && offered_secret { NoDevice::Unauthorized } else { NoDevice::Required })
}

/// The scopes of a connection, in the order in which they were asked for.
///
/// `has_device`: what was asked for is what its pairing allows, or the pairing registry has refused it before.
#[must_use]
pub fn effective_scopes(
    asked: &[String],
    candidate: &Candidate<'_>,
    policy: DevicePolicy,
    has_device: bool,
) -> Vec<String> {
    let Candidate { client, role, peer, method, .. } = *candidate;
    let kept = role == Role::Operator
        && method.is_some_and(|method| {
            has_device
                || policy.ignores_device_of(client)
                || (is_operator_ui(client) && policy.allow_insecure_auth && peer.direct_local)
                || match method {
                    AuthMethod::TrustedProxy => true,
                    AuthMethod::Token | AuthMethod::Password | AuthMethod::None => {
                        peer.direct_local && !is_of_the_web(client, peer)
                    }
                    AuthMethod::DeviceToken | AuthMethod::BootstrapToken => false,
                }
        });
    if kept { asked.to_vec() } else { Vec::new() }
}

/// Whether a new device, a further role or further scopes of one are approved without a question: whoever connects from
/// this machine and knows its secret could read the store itself.
#[must_use]
pub fn approves_silently(candidate: &Candidate<'_>) -> bool {
    let Candidate { client, peer, method, .. } = *candidate;
    let may = matches!(method, Some(AuthMethod::Token | AuthMethod::Password | AuthMethod::None));
    let ui = client.id == ClientId::ControlUi
        || client.id == ClientId::Webchat
        || client.mode == ClientMode::Webchat;
    may && peer.direct_local && (peer.origin.is_none() || ui)
}

/// Whether the device of this connect is not paired at all: a service of this machine that knows the secret. The token of
/// a device is not enough: it is good for what its device was approved for, and only the registry knows that.
#[must_use]
pub fn skips_pairing(candidate: &Candidate<'_>) -> bool {
    let Candidate { client, peer, method, role, .. } = *candidate;
    let service = client.id == ClientId::GatewayClient && client.mode == ClientMode::Backend;
    let proved = matches!(method, Some(AuthMethod::Token | AuthMethod::Password));
    let vouched_for =
        role == Role::Operator && method == Some(AuthMethod::TrustedProxy) && is_operator_ui(client);
    vouched_for || (service && proved && peer.direct_local && peer.origin.is_none())
}

const fn is_operator_ui(client: &ClientInfo) -> bool {
    matches!(client.id, ClientId::ControlUi | ClientId::Tui)
}

/// Whether a page is behind it, or may be.
fn is_of_the_web(client: &ClientInfo, peer: &Peer) -> bool {
    peer.browser
        || matches!(client.id, ClientId::ControlUi | ClientId::Webchat | ClientId::WebchatUi)
        || client.mode == ClientMode::Webchat
}

#[cfg(test)]
mod tests;
