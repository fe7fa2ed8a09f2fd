//! `offshoot devices`: what the gateway's pairing registry holds, and its decisions.
//!
//! The registry is an actor of the gateway, which closes the connections of a device that loses its rights. So changes
//! are asked of a running gateway; the list can be read from the store without one.

mod list;
mod names;

use std::time::Duration;

use offshoot_actors::types::{Role, Scope, Timestamp};
use serde_json::{Value, json};

use self::list::{Devices, scopes};
use self::names::beginning;
use super::Global;
use super::args::{DevicesCommand, ReachArgs};
use super::daemon::{self, Reach};
use super::exit::{Exit, Failure};
use super::output::{elapsed, note, printable};
use crate::client::Client;
use crate::gateway::record::Running;
use crate::runtime;

pub(super) async fn run(command: DevicesCommand, global: &Global) -> Result<Exit, Failure> {
    match command {
        DevicesCommand::List(reach) => list(&reach, global).await,
        DevicesCommand::Approve { id, reach } => {
            let mut asked = Asked::holding(Scope::Admin, &reach, global).await?;
            let request = beginning(&id, asked.devices.requests(), "request")?;
            let done = asked.call("device.pair.approve", json!({"requestId": request})).await?;
            let device = &done["device"];
            let name = device["deviceId"].as_str().unwrap_or("?");
            asked.say(
                &done,
                &format!("approved {} with {}", printable(name), scopes(&device["scopes"])),
                global,
            )
        }
        DevicesCommand::Reject { id, reach } => {
            let mut asked = Asked::holding(Scope::Pairing, &reach, global).await?;
            let request = beginning(&id, asked.devices.requests(), "request")?;
            let done = asked.call("device.pair.reject", json!({"requestId": request})).await?;
            asked.say(&done, &format!("rejected request {request}"), global)
        }
        DevicesCommand::Remove { id, reach } => {
            let mut asked = Asked::holding(Scope::Admin, &reach, global).await?;
            let device = beginning(&id, asked.devices.paired(), "device")?;
            let done = asked.call("device.pair.remove", json!({"deviceId": device})).await?;
            asked.say(&done, &format!("removed device {device}"), global)
        }
        DevicesCommand::Rotate { id, role, scopes, reach } => {
            rotate(&id, role, &scopes, &reach, global).await
        }
        DevicesCommand::Code { role, scopes, expires, reach } => {
            code(role, scopes, expires, &reach, global).await
        }
        DevicesCommand::Revoke { id, role, reach } => {
            let mut asked = Asked::holding(Scope::Admin, &reach, global).await?;
            let device = beginning(&id, asked.devices.paired(), "device")?;
            let params = json!({"deviceId": device, "role": role.to_string()});
            let done = asked.call("device.token.revoke", params).await?;
            asked.say(&done, &format!("revoked the {role} token of device {device}"), global)
        }
    }
}

async fn list(args: &ReachArgs, global: &Global) -> Result<Exit, Failure> {
    let here = args.url.is_none();
    let devices = match daemon::running(global)? {
        Running::Gateway(_) => None,
        _ if !here => None,
        Running::Nobody | Running::Other(_) => Some(match global.read_store()? {
            Some(storage) => Devices::stored(&storage).await?,
            None => Devices::default(),
        }),
    };
    let devices = match devices {
        Some(devices) => devices,
        None => {
            let asked = Asked::holding(Scope::Pairing, args, global).await?;
            asked.client.close().await;
            asked.devices
        }
    };
    if global.output.json {
        global.output.document(&devices.document())?;
    } else if devices.is_empty() {
        note("no devices");
    } else {
        for line in devices.lines(global.output.paint) {
            global.output.line(line)?;
        }
    }
    Ok(Exit::Ok)
}

async fn rotate(
    id: &str,
    role: Role,
    scopes: &[Scope],
    reach: &ReachArgs,
    global: &Global,
) -> Result<Exit, Failure> {
    let mut asked = Asked::holding(Scope::Admin, reach, global).await?;
    let device = beginning(id, asked.devices.paired(), "device")?;
    let mut params = json!({"deviceId": device, "role": role.to_string()});
    if !scopes.is_empty() {
        params["scopes"] = scopes.iter().map(|scope| scope.as_str()).collect();
    }
    let done = asked.call("device.token.rotate", params).await?;
    let Some(token) = done["token"].as_str() else {
        return asked.say(
            &done,
            &format!("rotated the {role} token of device {device}, which alone is told it"),
            global,
        );
    };
    note(format_args!("the new {role} token of device {device}, which is not shown again:"));
    let token = token.to_owned();
    asked.say(&done, &token, global)
}

async fn code(
    role: Role,
    mut scopes: Vec<Scope>,
    expires: Duration,
    reach: &ReachArgs,
    global: &Global,
) -> Result<Exit, Failure> {
    if role == Role::Operator && scopes.is_empty() {
        scopes = vec![Scope::Read, Scope::Write];
    }
    // Nobody gives what he does not hold.
    let held: Vec<Scope> = scopes.iter().copied().chain([Scope::Pairing]).collect();
    let mut client = Reach::of(reach, global)?.connect(&held).await?;
    let params = json!({
        "role": role.to_string(),
        "scopes": scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "expiresInMs": u64::try_from(expires.as_millis()).unwrap_or(u64::MAX),
    });
    let done = client.call("device.code.issue", &params).await?.payload;
    if global.output.json {
        global.output.document(&done)?;
        return Ok(Exit::Ok);
    }
    let Some(code) = done["code"].as_str() else {
        return Err(Failure::new(Exit::Unavailable, "gateway", "the gateway answered without a code"));
    };
    let gives = if role == Role::Operator {
        format!(" with {}", self::list::scopes(&done["scopes"]))
    } else {
        String::new()
    };
    let until = done["expiresAtMs"].as_i64().map(Timestamp);
    let lives = until.map(|until| format!(", good for {}", elapsed(until - runtime::clock().now())));
    note(format_args!(
        "a setup code for one {role} device{gives}{}, which is not shown again:",
        lives.unwrap_or_default()
    ));
    global.output.line(code)?;
    Ok(Exit::Ok)
}

/// A gateway that was asked for its devices and is asked for more.
struct Asked {
    client: Client,
    devices: Devices,
}

impl Asked {
    /// Whoever gives rights to a device, or decides on one that is not its own, must be an administrator.
    async fn holding(scope: Scope, args: &ReachArgs, global: &Global) -> Result<Self, Failure> {
        let mut client = Reach::of(args, global)?.connect(&[scope]).await?;
        let list = client.call("device.pair.list", &json!({})).await?.payload;
        Ok(Self { client, devices: Devices::of(list) })
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        Ok(self.client.call(method, &params).await?.payload)
    }

    fn say(self, done: &Value, text: &str, global: &Global) -> Result<Exit, Failure> {
        if global.output.json {
            global.output.document(done)?;
        } else {
            global.output.line(text)?;
        }
        Ok(Exit::Ok)
    }
}
