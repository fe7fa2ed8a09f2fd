//! `node.*`: machines that lend themselves to the daemon. They can be paired and connect; commands are not carried out on
//! them yet, and their answers say so.

use futures::future::BoxFuture;
use offshoot_actors::PairedDevice;
use offshoot_actors::types::Role;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Method, Need, PAIRING, READ, WRITE, answer, later, now};
use crate::gateway::daemon::Daemon;
use crate::gateway::registry;
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

pub(super) const METHODS: &[Method] = &[
    later("node.list", READ, list),
    later("node.describe", READ, describe),
    later("node.invoke", WRITE, invoke),
    later("node.pair.list", PAIRING, pair_list),
    now("node.pair.approve", PAIRING, no_request),
    now("node.pair.reject", PAIRING, no_request),
    now("node.pair.request", PAIRING, pair_request),
    now("node.pair.verify", PAIRING, pair_verify),
    now("node.pair.remove", PAIRING, pair_remove),
    now("node.rename", PAIRING, rename),
    now("node.event", Need::Node, event),
    now("node.invoke.result", Need::Node, invoke_result),
    later("node.pending.enqueue", WRITE, pending_enqueue),
    now("node.pending.drain", Need::Node, pending_drain),
    now("node.pending.pull", Need::Node, pending_pull),
    now("node.pending.ack", Need::Node, pending_ack),
    now("skills.bins", Need::Node, bins),
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Named {
    node_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Event {
    event: String,
}

/// Every device that was approved as a node, with whether it is connected.
async fn nodes(daemon: &Daemon) -> Result<Vec<(String, Value)>, ErrorShape> {
    let list = daemon.tree()?.pairing().list().await.map_err(|error| registry::failed(&error))?;
    let connected = daemon.hub.clients();
    let node = |paired: &PairedDevice| {
        let device = &paired.device;
        let here = connected
            .iter()
            .find(|client| client.role == Role::Node && client.device.as_ref() == Some(&device.id));
        let mut value = json!({
            "nodeId": device.id,
            "platform": device.client.platform,
            "clientId": device.client.id,
            "clientMode": device.client.mode,
            "caps": [],
            "commands": [],
            "approvedAtMs": device.approved_at.0,
            "createdAtMs": device.created_at.0,
            "paired": true,
            "connected": here.is_some(),
        });
        let known = [
            ("displayName", device.client.name.clone()),
            ("deviceFamily", device.client.family.clone()),
            ("remoteIp", device.remote.clone()),
            ("version", here.map(|client| client.facts.version.clone())),
        ];
        for (name, text) in known {
            if let Some(text) = text {
                value[name] = text.into();
            }
        }
        if let Some(client) = here {
            value["connectedAtMs"] = client.since.0.into();
        }
        (device.id.to_string(), value)
    };
    Ok(list.paired.iter().filter(|paired| paired.device.roles.contains(&Role::Node)).map(node).collect())
}

async fn find(call: &Call) -> Result<Value, ErrorShape> {
    let Named { node_id } = call.params()?;
    let mut nodes = nodes(&call.daemon).await?.into_iter();
    let found = nodes.find(|(id, _)| *id == node_id.trim());
    found.map(|(_, node)| node).ok_or_else(unknown_node)
}

fn list(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let nodes: Vec<Value> = nodes(&call.daemon).await?.into_iter().map(|(_, node)| node).collect();
        answer(&json!({ "ts": call.now().0, "nodes": nodes }))
    })
}

fn describe(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let mut node = find(&call).await?;
        node["ts"] = call.now().0.into();
        answer(&node)
    })
}

fn invoke(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        // A node that is not known is not connected either, and clients tell the two apart by node.list.
        match find(&call).await {
            Ok(node) if node["connected"] == true => Err(ErrorShape::invalid(
                "offshoot does not carry out commands on nodes yet; OpenClaw's gateway does",
            )),
            Ok(_) | Err(_) => {
                let Named { .. } = call.params()?;
                Err(not_connected())
            }
        }
    })
}

fn pair_list(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let paired: Vec<Value> = nodes(&call.daemon).await?.into_iter().map(|(_, node)| node).collect();
        // Nodes are devices: those that wait are in device.pair.list.
        answer(&json!({ "pending": [], "paired": paired }))
    })
}

fn no_request(_: &Call) -> Answer {
    Err(ErrorShape::invalid(
        "unknown requestId: a node is approved as a device, see device.pair.list and device.pair.approve",
    ))
}

fn pair_request(_: &Call) -> Answer {
    Err(ErrorShape::invalid(
        "a node asks by connecting as a device with the role node, which waits for approval",
    ))
}

fn pair_verify(_: &Call) -> Answer {
    // There are no tokens of nodes beside those of devices.
    answer(&json!({ "ok": false }))
}

fn pair_remove(_: &Call) -> Answer {
    Err(ErrorShape::invalid("a node is removed as a device: device.pair.remove with its nodeId as deviceId"))
}

fn rename(_: &Call) -> Answer {
    Err(ErrorShape::invalid("a node's name is what it calls itself; offshoot keeps no other"))
}

fn event(call: &Call) -> Answer {
    let Event { event } = call.params()?;
    match call.client.protocol {
        Protocol::V3 => answer(&json!({ "ok": true })),
        Protocol::V4 => {
            let reason = "offshoot acts on no events of nodes";
            answer(&json!({ "ok": true, "event": event, "handled": false, "reason": reason }))
        }
    }
}

fn invoke_result(_: &Call) -> Answer {
    answer(&json!({ "ok": true, "ignored": true }))
}

fn pending_enqueue(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        find(&call).await?;
        Err(ErrorShape::invalid("offshoot does not ask nodes for anything yet; OpenClaw's gateway does"))
    })
}

fn pending_drain(call: &Call) -> Answer {
    answer(&json!({ "nodeId": own(call), "revision": 0, "items": [], "hasMore": false }))
}

fn pending_pull(call: &Call) -> Answer {
    answer(&json!({ "nodeId": own(call), "actions": [] }))
}

fn pending_ack(call: &Call) -> Answer {
    answer(&json!({ "nodeId": own(call), "ackedIds": [], "remainingCount": 0 }))
}

fn bins(_: &Call) -> Answer {
    answer(&json!({ "bins": [] }))
}

fn own(call: &Call) -> String {
    call.client.device.map_or_else(|| call.client.connection.clone(), |device| device.to_string())
}

fn unknown_node() -> ErrorShape {
    ErrorShape::invalid("unknown nodeId: see node.list")
}

fn not_connected() -> ErrorShape {
    ErrorShape::unavailable("node not connected").with_details(json!({ "code": "NOT_CONNECTED" }))
}
