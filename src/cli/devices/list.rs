//! The devices that wait and those that are paired, as the gateway lists them.

use offshoot_actors::ports::{PairRequestRow, Storage, StoreError};
use offshoot_actors::types::Timestamp;
use serde_json::{Value, json};

use super::super::output::{Paint, ago, one_line, table};
use crate::runtime;
use crate::store::SqliteStorage;

/// Characters of an id that are shown; a beginning is enough to name it.
const SHOWN: usize = 12;
/// Longest cell of a table.
const MAX_CELL: usize = 60;

/// The answer to `device.pair.list`.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pending: Vec<Value>,
    paired: Vec<Value>,
}

impl Devices {
    pub(super) fn of(mut answer: Value) -> Self {
        let mut taken = |name: &str| match answer.get_mut(name).map(Value::take) {
            Some(Value::Array(rows)) => rows,
            _ => Vec::new(),
        };
        Self { pending: taken("pending"), paired: taken("paired") }
    }

    /// The same from the store, where no gateway runs. What has lapsed since is left out.
    pub(super) async fn stored(storage: &SqliteStorage) -> Result<Self, StoreError> {
        let stored = storage.pairing().await?;
        let now = runtime::clock().now();
        let requests = stored.requests.iter().filter(|request| request.expires_at > now);
        let pending = requests.map(request).collect();
        let paired = stored.devices.iter().map(|device| {
            let tokens = stored.tokens.iter().filter(|token| token.device == device.id).map(|token| {
                json!({
                    "role": token.role.to_string(),
                    "scopes": names(token.scopes),
                    "createdAtMs": token.created_at,
                    "rotatedAtMs": token.rotated_at,
                    "revokedAtMs": token.revoked_at,
                })
            });
            json!({
                "deviceId": device.id,
                "displayName": device.client.name,
                "platform": device.client.platform,
                "clientId": device.client.id,
                "clientMode": device.client.mode,
                "roles": device.roles.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "scopes": names(device.scopes),
                "remoteIp": device.remote,
                "createdAtMs": device.created_at,
                "approvedAtMs": device.approved_at,
                "tokens": tokens.collect::<Vec<_>>(),
            })
        });
        Ok(Self { pending, paired: paired.collect() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.paired.is_empty()
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = &str> {
        self.pending.iter().filter_map(|row| row["requestId"].as_str())
    }

    pub(super) fn paired(&self) -> impl Iterator<Item = &str> {
        self.paired.iter().filter_map(|row| row["deviceId"].as_str())
    }

    pub(super) fn document(&self) -> Value {
        json!({"pending": self.pending, "paired": self.paired})
    }

    pub(super) fn lines(&self, paint: Paint) -> Vec<String> {
        let now = runtime::clock().now();
        let since = |value: &Value| value.as_i64().map(|at| ago(Timestamp(at), now)).unwrap_or_default();
        let mut lines = Vec::new();
        if !self.pending.is_empty() {
            let rows: Vec<Vec<String>> = self
                .pending
                .iter()
                .map(|row| {
                    vec![
                        text(&row["requestId"]),
                        short(&row["deviceId"]),
                        text(&row["clientId"]),
                        text(&row["platform"]),
                        text(&row["remoteIp"]),
                        since(&row["ts"]),
                        wanted(row),
                    ]
                })
                .collect();
            let head = ["REQUEST", "DEVICE", "CLIENT", "PLATFORM", "FROM", "ASKED", "WANTS"];
            lines.push("waiting for approval:".to_owned());
            lines.extend(table(paint, &head, &rows));
        }
        if !self.paired.is_empty() {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            let rows: Vec<Vec<String>> = self
                .paired
                .iter()
                .map(|row| {
                    vec![
                        short(&row["deviceId"]),
                        text(&row["clientId"]),
                        text(&row["platform"]),
                        since(&row["approvedAtMs"]),
                        tokens(&row["tokens"]),
                        wanted(row),
                    ]
                })
                .collect();
            let head = ["DEVICE", "CLIENT", "PLATFORM", "APPROVED", "TOKENS", "MAY"];
            lines.push("paired:".to_owned());
            lines.extend(table(paint, &head, &rows));
        }
        lines
    }
}

fn request(row: &PairRequestRow) -> Value {
    json!({
        "requestId": row.id,
        "deviceId": row.device,
        "displayName": row.client.name,
        "platform": row.client.platform,
        "clientId": row.client.id,
        "clientMode": row.client.mode,
        "role": row.role.to_string(),
        "roles": row.roles.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "scopes": names(row.scopes),
        "remoteIp": row.remote,
        "ts": row.created_at,
    })
}

fn names(scopes: offshoot_actors::types::Scopes) -> Vec<&'static str> {
    scopes.iter().map(|scope| scope.as_str()).collect()
}

fn text(value: &Value) -> String {
    one_line(value.as_str().unwrap_or_default(), MAX_CELL)
}

fn short(value: &Value) -> String {
    text(value).chars().take(SHOWN).collect()
}

/// Scopes for people, without what all of them begin with.
pub(super) fn scopes(value: &Value) -> String {
    let names = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    let names: Vec<String> =
        names.map(|name| one_line(name.strip_prefix("operator.").unwrap_or(name), MAX_CELL)).collect();
    if names.is_empty() { "no scopes".to_owned() } else { names.join(", ") }
}

/// What a device may do or asks for: a node's role has no scopes.
fn wanted(row: &Value) -> String {
    let roles = row["roles"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let others = roles.filter(|role| *role != "operator").map(|role| one_line(role, MAX_CELL));
    let mut parts: Vec<String> = others.collect();
    if parts.is_empty() || row["scopes"].as_array().is_some_and(|scopes| !scopes.is_empty()) {
        parts.push(scopes(&row["scopes"]));
    }
    parts.join(", ")
}

/// The roles of the tokens that count.
fn tokens(value: &Value) -> String {
    let roles: Vec<String> = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|token| {
            let revoked = if token["revokedAtMs"].is_null() { "" } else { " (revoked)" };
            format!("{}{revoked}", text(&token["role"]))
        })
        .collect();
    if roles.is_empty() { "none".to_owned() } else { roles.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_shows_beginnings_and_rights_and_nothing_that_moves_the_cursor() {
        let devices = Devices::of(json!({
            "pending": [{"requestId": "4f7a", "deviceId": "ab".repeat(32), "clientId": "cli\u{1b}[31m", "platform": "linux",
                "remoteIp": "10.0.0.2", "ts": 1, "roles": ["operator"], "scopes": ["operator.read"]}],
            "paired": [{"deviceId": "cd".repeat(32), "clientId": "node-host", "roles": ["node"], "scopes": [],
                "tokens": [{"role": "node", "revokedAtMs": 5}], "approvedAtMs": 1}],
        }));
        let text = devices.lines(Paint::plain()).join("\n");
        for expected in ["4f7a", "abababababab ", "10.0.0.2", "read", "cdcdcdcdcdcd ", "node (revoked)"] {
            assert!(text.contains(expected), "no {expected:?} in {text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains("ababababababa"), "{text}");
        assert_eq!(devices.requests().collect::<Vec<_>>(), ["4f7a"]);
        assert_eq!(devices.document()["paired"][0]["tokens"][0]["role"], "node");
    }
}
