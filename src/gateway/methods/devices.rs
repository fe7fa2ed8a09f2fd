//! `device.*`: which devices may connect, and who waits for that.

use std::time::Duration;

use futures::future::BoxFuture;
use offshoot_actors::types::{DeviceId, Role, Scopes, Timestamp};
use offshoot_actors::{Caller, PairedDevice, PairingError, SetupCode, TokenInfo};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Call, Method, PAIRING, answer, later};
use crate::gateway::audit;
use crate::gateway::registry;
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

pub(super) const METHODS: &[Method] = &[
    later("device.pair.list", PAIRING, list),
    later("device.pair.approve", PAIRING, approve),
    later("device.pair.reject", PAIRING, reject),
    later("device.pair.remove", PAIRING, remove),
    later("device.token.rotate", PAIRING, rotate),
    later("device.token.revoke", PAIRING, revoke),
    later("device.code.issue", PAIRING, issue),
];

/// How long a setup code is good for where the caller does not say: long enough to type it in.
const CODE_LIVES: Duration = Duration::from_secs(600);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Request {
    request_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Device {
    device_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Token {
    device_id: String,
    role: String,
    scopes: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Code {
    role: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    expires_in_ms: Option<u64>,
}

impl Call {
    /// What the caller may do to devices.
    fn caller(&self) -> Caller {
        Caller { device: self.client.device, scopes: self.client.scopes }
    }

    fn scopes(&self, names: &[String]) -> Result<Scopes, ErrorShape> {
        Scopes::from_names(names).map_err(|error| {
            ErrorShape::invalid(format!("invalid {} params: at /scopes: {error}", self.method))
        })
    }

    fn request(&self) -> Result<Uuid, ErrorShape> {
        let params: Request = self.params()?;
        // What is no id names no request.
        params.request_id.trim().parse().map_err(|_| unknown_request())
    }
}

fn list(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let list = call.daemon.tree()?.pairing().list().await.map_err(|error| failed(&call, &error))?;
        answer(&json!({
            "pending": list.pending.iter().map(registry::pending).collect::<Vec<_>>(),
            "paired": list.paired.iter().map(paired).collect::<Vec<_>>(),
        }))
    })
}

fn approve(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let request = call.request()?;
        let pairing = call.daemon.tree()?.pairing();
        let device = pairing.approve(request, call.caller(), call.origin()).await;
        let device = device.map_err(|error| failed(&call, &error))?;
        answer(&json!({ "requestId": request, "device": paired(&device) }))
    })
}

fn reject(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let request = call.request()?;
        let pairing = call.daemon.tree()?.pairing();
        let device = pairing.reject(request, call.caller(), call.origin()).await;
        let device = device.map_err(|error| failed(&call, &error))?;
        answer(&json!({ "requestId": request, "deviceId": device }))
    })
}

fn remove(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let params: Device = call.params()?;
        let device = device(&params.device_id)?;
        let pairing = call.daemon.tree()?.pairing();
        pairing.remove(device, call.caller(), call.origin()).await.map_err(|error| failed(&call, &error))?;
        answer(&json!({ "deviceId": device }))
    })
}

fn rotate(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let params: Token = call.params()?;
        let (device, role) = (device(&params.device_id)?, role(&params.role)?);
        let scopes = params.scopes.map(|names| call.scopes(&names)).transpose()?;
        let pairing = call.daemon.tree()?.pairing();
        let rotated = pairing.rotate(device, role, scopes, call.caller(), call.origin()).await;
        let rotated = rotated.map_err(|error| failed(&call, &error))?;
        let mut payload = json!({
            "deviceId": device,
            "role": role,
            "scopes": rotated.scopes,
            "rotatedAtMs": rotated.rotated_at.0,
        });
        // Generation 4 tells a token to nobody but its device.
        if call.client.protocol == Protocol::V3 || call.client.device == Some(device) {
            payload["token"] = rotated.token.expose().into();
        }
        answer(&payload)
    })
}

fn revoke(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let params: Token = call.params()?;
        let (device, role) = (device(&params.device_id)?, role(&params.role)?);
        let pairing = call.daemon.tree()?.pairing();
        let at = pairing.revoke(device, role, call.caller(), call.origin()).await;
        let Timestamp(at) = at.map_err(|error| failed(&call, &error))?;
        answer(&json!({ "deviceId": device, "role": role, "revokedAtMs": at }))
    })
}

/// A setup code, which lets one device in, once, without anybody being asked again. It is shown here and nowhere else.
fn issue(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let params: Code = call.params()?;
        let role = params.role.as_deref().map_or(Ok(Role::Operator), role)?;
        let scopes = call.scopes(&params.scopes)?;
        let within = params.expires_in_ms.map_or(CODE_LIVES, Duration::from_millis);
        let pairing = call.daemon.tree()?.pairing();
        let issued = pairing.issue_code(role, scopes, within, call.caller(), call.origin()).await;
        let SetupCode { code, info } = issued.map_err(|error| failed(&call, &error))?;
        answer(&json!({
            "code": code.expose(),
            "codeId": info.id,
            "role": info.role,
            "scopes": info.scopes,
            "expiresAtMs": info.expires_at.0,
        }))
    })
}

fn device(text: &str) -> Result<DeviceId, ErrorShape> {
    text.trim().parse().map_err(|_| ErrorShape::invalid("unknown deviceId: see device.pair.list"))
}

fn role(text: &str) -> Result<Role, ErrorShape> {
    text.trim().parse().map_err(|error| ErrorShape::invalid(format!("{error}")))
}

fn unknown_request() -> ErrorShape {
    ErrorShape::invalid("unknown requestId: it may have lapsed; see device.pair.list")
}

fn failed(call: &Call, error: &PairingError) -> ErrorShape {
    match error {
        PairingError::UnknownRequest(_) => unknown_request(),
        PairingError::UnknownDevice(_) => ErrorShape::invalid("unknown deviceId: see device.pair.list"),
        error => {
            let shape = registry::failed(error);
            if matches!(error, PairingError::MissingScope(_) | PairingError::NotOwn) {
                audit::refused(&call.daemon, &call.client, call.method, &shape);
            }
            shape
        }
    }
}

fn paired(paired: &PairedDevice) -> Value {
    let PairedDevice { device, tokens } = paired;
    let mut value = json!({
        "deviceId": device.id,
        "publicKey": device.key.to_string(),
        "platform": device.client.platform,
        "clientId": device.client.id,
        "clientMode": device.client.mode,
        "role": device.roles.iter().next_back(),
        "roles": device.roles,
        "scopes": device.scopes,
        "createdAtMs": device.created_at.0,
        "approvedAtMs": device.approved_at.0,
        "tokens": tokens.iter().map(token).collect::<Vec<_>>(),
    });
    let known = [
        ("displayName", &device.client.name),
        ("deviceFamily", &device.client.family),
        ("remoteIp", &device.remote),
    ];
    for (name, text) in known {
        if let Some(text) = text {
            value[name] = text.as_str().into();
        }
    }
    value
}

fn token(token: &TokenInfo) -> Value {
    let mut value = json!({ "role": token.role, "scopes": token.scopes, "createdAtMs": token.created_at.0 });
    for (name, at) in [("rotatedAtMs", token.rotated_at), ("revokedAtMs", token.revoked_at)] {
        if let Some(at) = at {
            value[name] = at.0.into();
        }
    }
    value
}
