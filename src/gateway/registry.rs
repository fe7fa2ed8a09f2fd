//! What the bridge asks the registry of devices, in the words of the wire.

use std::net::IpAddr;

use offshoot_actors::ports::PairRequestRow;
use offshoot_actors::types::{
    ClientInfo as Described, DeviceId, Origin, PairReason, PublicKey, Role, Scopes, Secret, Vouched,
};
use offshoot_actors::{ConnectRequest, Connected, Grant, PairingError, Pending, TokenCheck};
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::device::VerifiedDevice;
use crate::protocol::connect::ClientInfo;
use crate::protocol::error::{ErrorCode, ErrorShape};
use crate::protocol::hello::GrantedDevice;

/// A device at the door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// The connection's number.
    pub(crate) number: u64,
    /// The device, whose signature was checked.
    pub(crate) verified: &'a VerifiedDevice,
    pub(crate) role: Role,
    pub(crate) scopes: Scopes,
    pub(crate) client: &'a ClientInfo,
    pub(crate) remote: IpAddr,
    pub(crate) vouched: Vouched,
    /// Whether it proved itself with its own token.
    pub(crate) has_token: bool,
}

impl Entry<'_> {
    fn request(&self) -> ConnectRequest {
        ConnectRequest {
            key: self.key(),
            role: self.role,
            scopes: self.scopes,
            client: Described {
                id: self.client.id.as_str().to_owned(),
                mode: self.client.mode.as_str().to_owned(),
                name: self.client.display_name.clone(),
                platform: self.client.platform.clone(),
                family: self.client.device_family.clone(),
            },
            remote: Some(self.remote.to_string()),
            vouched: self.vouched,
            has_token: self.has_token,
        }
    }

    fn key(&self) -> PublicKey {
        self.verified.public_key
    }

    /// Who asks, as the audit record names it.
    fn origin(&self) -> Origin {
        let device = Some(self.key().device().to_string());
        Origin::Client { connection: self.number, device, scopes: Vec::new() }
    }
}

/// Whether the registry lets the device in with what it asks for.
///
/// # Errors
/// It must be approved first, or the registry cannot say.
pub(crate) async fn connect(
    daemon: &Daemon,
    entry: &Entry<'_>,
) -> Result<(DeviceId, GrantedDevice), ErrorShape> {
    match daemon.tree()?.pairing().connect(entry.request(), entry.origin()).await {
        Ok(Connected::Admitted(grant)) => Ok(granted(grant)),
        Ok(Connected::Pending(pending)) => Err(must_be_approved(&pending)),
        Err(error) => Err(failed(&error)),
    }
}

/// Whether this is the device's token, good for what it asks for.
pub(crate) async fn verify(daemon: &Daemon, entry: &Entry<'_>, token: &str) -> Result<bool, ErrorShape> {
    let (device, token) = (entry.key().device(), Secret::presented(token));
    let checked = daemon.tree()?.pairing().verify_token(device, token, entry.role, entry.scopes).await;
    // One that is good for less is asked about as any device that wants more.
    checked
        .map(|check| matches!(check, TokenCheck::Valid | TokenCheck::ScopeMismatch))
        .map_err(|error| failed(&error))
}

/// What a setup code gives the device; none if it is no code.
pub(crate) async fn redeem(
    daemon: &Daemon,
    entry: &Entry<'_>,
    code: &str,
) -> Result<Option<Grant>, ErrorShape> {
    let redeemed =
        daemon.tree()?.pairing().redeem_code(Secret::presented(code), entry.request(), entry.origin()).await;
    match redeemed {
        Ok(grant) => Ok(Some(grant)),
        Err(PairingError::CodeInvalid) => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

/// What the device is told of what it has.
pub(crate) fn granted(grant: Grant) -> (DeviceId, GrantedDevice) {
    let Grant { device, token, token_scopes, issued_at, .. } = grant;
    let scopes = token_scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
    let token = token.map(|token| token.expose().into());
    (device, GrantedDevice { token, scopes, issued_at_ms: issued_at.0 })
}

/// A failure of the registry on the wire.
pub(crate) fn failed(error: &PairingError) -> ErrorShape {
    match error {
        PairingError::Gone | PairingError::Busy | PairingError::Store(_) => {
            ErrorShape::unavailable(error.to_string())
        }
        error => ErrorShape::invalid(error.to_string()),
    }
}

/// A device that waits for approval, as lists and events show it.
pub(crate) fn pending(request: &PairRequestRow) -> Value {
    json!({
        "requestId": request.id,
        "deviceId": request.device,
        "publicKey": request.key.to_string(),
        "displayName": request.client.name,
        "platform": request.client.platform,
        "deviceFamily": request.client.family,
        "clientId": request.client.id,
        "clientMode": request.client.mode,
        "role": request.role,
        "roles": request.roles,
        "scopes": request.scopes,
        "remoteIp": request.remote,
        "silent": false,
        "isRepair": request.reason != PairReason::NotPaired,
        "ts": request.created_at.0,
    })
}

fn must_be_approved(pending: &Pending) -> ErrorShape {
    let request = &pending.request;
    let reason = request.reason.as_str();
    let names = |scopes: Scopes| scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>();
    let command = format!("offshoot devices approve {}", request.id);
    let text = format!("pairing required: {reason} (requestId: {}); approve it with `{command}`", request.id);
    ErrorShape::new(ErrorCode::NotPaired, text).with_details(json!({
        "code": "PAIRING_REQUIRED",
        "requestId": request.id,
        "reason": reason,
        "deviceId": request.device,
        "requestedRole": request.role,
        "requestedScopes": names(request.scopes),
        "approvedRoles": pending.approved_roles,
        "approvedScopes": names(pending.approved_scopes),
        "remediationHint": command,
        "recommendedNextStep": "wait_then_retry",
        "retryable": false,
        "pauseReconnect": true,
    }))
}
