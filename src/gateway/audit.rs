//! The audit record: what the bridge enters into it, and its rows as clients and commands see them.
//!
//! Who comes in, who is sent away and what a client may not do is written without anybody waiting for it. What repeats
//! itself is counted, and entered as one row: a client that asks every second, or a stranger who tries all day, must
//! not fill the disk.

mod repeats;

use http::{Method, StatusCode};
use offshoot_actors::ports::AuditRow;
use offshoot_actors::types::Origin;
use serde_json::{Map, Value, json};

use self::repeats::Kind;
pub(super) use self::repeats::{Entered, Happening, Repeats};
use super::client::Client;
use super::daemon::Daemon;
use super::limits::counted_as;
use super::peer::Peer;
use crate::protocol::connect::ClientInfo;
use crate::protocol::error::{ErrorCode, ErrorShape};

/// Longest text of a stranger in a row.
const MAX_TEXT: usize = 160;

/// A client came in.
pub(super) fn opened(daemon: &Daemon, client: &Client) {
    let origin = client.origin();
    let address = client.address.to_string();
    let described = described(&client.facts);
    let facts = vec![
        ("role", client.role.to_string()),
        ("client", described.clone()),
        ("proof", client.method.as_str().to_owned()),
        ("address", address.clone()),
    ];
    let who = client.device.as_ref().map_or(address, ToString::to_string);
    let key = format!("{who} {} {} {described}", client.role, client.scopes);
    daemon.witness(Happening { kind: Kind::Opened, key, origin, facts });
}

/// A client was sent away before it was let in.
pub(super) fn turned_away(
    daemon: &Daemon,
    number: u64,
    peer: &Peer,
    client: &ClientInfo,
    error: &ErrorShape,
) {
    // That the gateway cannot decide is no decision.
    if error.code == ErrorCode::Unavailable {
        return;
    }
    let facts = vec![
        ("code", code_of(error)),
        ("reason", clipped(&error.message)),
        ("client", described(client)),
        ("address", peer.client.to_string()),
    ];
    let key = format!("{} {}", counted_as(peer.client), code_of(error));
    daemon.witness(Happening { kind: Kind::TurnedAway, key, origin: stranger(number), facts });
}

/// A client asked for what it may not do.
pub(super) fn refused(daemon: &Daemon, client: &Client, method: &str, error: &ErrorShape) {
    let who = client.device.as_ref().map_or_else(|| client.address.to_string(), ToString::to_string);
    // Whatever it makes up is one and the same.
    let known = super::methods::need_of(method) != super::methods::NeedOf::Unknown;
    let key = format!("{who} {} {}", client.scopes, if known { method } else { "" });
    let facts = vec![("method", clipped(method)), ("reason", clipped(&error.message))];
    daemon.witness(Happening { kind: Kind::CallRefused, key, origin: client.origin(), facts });
}

/// A request by HTTP was answered; of those that were refused for who sent them there is a row.
pub(super) fn answered(daemon: &Daemon, peer: &Peer, method: &Method, path: &str, status: StatusCode) {
    if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
        return;
    }
    let facts = vec![
        ("request", clipped(&format!("{method} {path}"))),
        ("status", status.as_u16().to_string()),
        ("address", peer.client.to_string()),
    ];
    let key = format!("{} {}", counted_as(peer.client), status.as_u16());
    daemon.witness(Happening { kind: Kind::RequestRefused, key, origin: stranger(0), facts });
}

/// Somebody who is not known. A request by HTTP has no number.
fn stranger(connection: u64) -> Origin {
    Origin::Client { connection, device: None, scopes: Vec::new() }
}

fn described(client: &ClientInfo) -> String {
    format!("{}/{}", client.id.as_str(), client.mode.as_str())
}

/// What programs tell refusals apart by.
fn code_of(error: &ErrorShape) -> String {
    let code = error.details.as_ref().and_then(|details| details["code"].as_str());
    code.map_or_else(|| error.code.as_str().to_owned(), clipped)
}

fn clipped(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// A row for programs.
pub(crate) fn document(row: &AuditRow) -> Value {
    let facts: Map<String, Value> =
        row.facts.iter().map(|(name, fact)| (name.clone(), fact.as_str().into())).collect();
    json!({
        "row": row.row,
        "at": row.at.0,
        "event": row.event,
        "origin": row.origin.as_ref().map(asker),
        "sessionKey": row.session,
        "runId": row.run,
        "facts": facts,
    })
}

fn asker(origin: &Origin) -> Value {
    let mut asker = match origin {
        Origin::Agent { session, run } => json!({"sessionKey": session, "runId": run}),
        Origin::Client { connection, device, scopes } => {
            json!({"connection": connection, "device": device, "scopes": scopes})
        }
        Origin::Operator | Origin::Embedder | Origin::Timer => json!({}),
    };
    asker["kind"] = origin.kind().as_str().into();
    asker
}
