//! The daemon itself and the machine it runs on; what wakes an agent from outside.

use futures::future::BoxFuture;
use offshoot_actors::types::PromptRequest;
use serde::Deserialize;
use serde_json::json;

use super::target;
use super::{ADMIN, Answer, Call, Method, READ, WRITE, answer, call, later, now};
use crate::gateway::daemon::VERSION;
use crate::gateway::{key, presence};
use crate::protocol::error::{ErrorCode, ErrorShape};
use crate::protocol::presence::PresenceEntry;

pub(super) const METHODS: &[Method] = &[
    now("system-event", ADMIN, event),
    now("last-heartbeat", READ, last_heartbeat),
    now("set-heartbeats", ADMIN, set_heartbeats),
    later("wake", WRITE, wake),
    later("gateway.identity.get", READ, identity),
    now("system.info", READ, info),
    now("update.status", ADMIN, update_status),
    now("users.self", READ, own_user),
];

/// Longest text about a machine.
const MAX_EVENT: usize = 1_000;
const MAX_WAKE: usize = 64 * 1_024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Event {
    text: String,
    device_id: Option<String>,
    instance_id: Option<String>,
    host: Option<String>,
    ip: Option<String>,
    mode: Option<String>,
    version: Option<String>,
    platform: Option<String>,
    device_family: Option<String>,
    model_identifier: Option<String>,
    last_input_seconds: Option<u64>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Heartbeats {
    enabled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Wake {
    mode: Mode,
    text: String,
    session_key: Option<String>,
    agent_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Now,
    NextHeartbeat,
}

/// Notes what a program says of its machine.
fn event(call: &Call) -> Answer {
    let event: Event = call.params()?;
    if event.text.trim().is_empty() {
        return Err(ErrorShape::invalid("text required"));
    }
    let short = |text: Option<String>| text.map(|text| text.chars().take(200).collect::<String>());
    let own = presence::key_of(&call.client);
    let entry = PresenceEntry {
        host: short(event.host),
        ip: short(event.ip),
        version: short(event.version),
        platform: short(event.platform),
        device_family: short(event.device_family),
        model_identifier: short(event.model_identifier),
        mode: short(event.mode),
        last_input_seconds: event.last_input_seconds,
        reason: short(event.reason),
        text: event.text.chars().take(MAX_EVENT).collect(),
        ts: call.now().0,
        device_id: short(event.device_id),
        instance_id: short(event.instance_id),
        ..PresenceEntry::default()
    };
    let key = entry.device_id.clone().or_else(|| entry.instance_id.clone()).unwrap_or(own);
    call.daemon.presence.note(key, entry);
    answer(&json!({ "ok": true }))
}

fn last_heartbeat(_: &Call) -> Answer {
    // There are none: no agent is woken by the time.
    answer(&json!(null))
}

fn set_heartbeats(call: &Call) -> Answer {
    let Heartbeats { enabled } = call.params()?;
    if enabled {
        return Err(ErrorShape::invalid("offshoot has no heartbeats, so there is nothing to switch on"));
    }
    answer(&json!({ "ok": true, "enabled": false }))
}

/// Gives an agent a text, as a message to its main session.
fn wake(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let Wake { mode, text, session_key, agent_id } = call.params()?;
        if text.trim().is_empty() || text.len() > MAX_WAKE {
            let problem = format!("invalid wake params: at /text: must have 1 to {MAX_WAKE} bytes");
            return Err(ErrorShape::invalid(problem));
        }
        if mode == Mode::NextHeartbeat {
            return Err(ErrorShape::invalid(
                "offshoot has no heartbeats, so the text would wait forever: send it with mode now",
            ));
        }
        let tree = call.daemon.tree()?;
        let (agent, key) = (agent_id.as_deref(), session_key.as_deref());
        let session = target::session(call.method, &tree.settings(), agent, key)?;
        let submitted = tree.submit(PromptRequest::new(session, text), call.origin()).await;
        let submitted = submitted.map_err(|refusal| call::refused(&refusal))?;
        answer(&json!({ "ok": true, "runId": submitted.run, "sessionKey": submitted.session }))
    })
}

fn identity(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let dir = call.daemon.state_dir.clone();
        // The key is made by the first who asks, which writes a file.
        let key = tokio::task::spawn_blocking(move || key::of_gateway(&dir)).await;
        let key = key.map_err(|error| ErrorShape::unavailable(error.to_string()))?;
        let key = key.map_err(|error| {
            ErrorShape::unavailable(format!(
                "the gateway's key cannot be kept in the state directory: {error}"
            ))
        })?;
        answer(&json!({ "deviceId": key.device(), "publicKey": key.to_string() }))
    })
}

fn info(call: &Call) -> Answer {
    let system = rustix::system::uname();
    let load = load_average();
    let memory = memory();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let hostname = text(system.nodename());
    let port = call.daemon.bound().borrow().iter().next().map(std::net::SocketAddr::port);
    answer(&json!({
        "machineName": &hostname,
        "hostname": hostname,
        "platform": std::env::consts::OS,
        "release": text(system.release()),
        "arch": std::env::consts::ARCH,
        "port": port,
        "version": VERSION,
        "nodeVersion": "",
        "pid": std::process::id(),
        "processInstanceId": call.daemon.instance,
        "uptimeMs": call.daemon.uptime_ms(),
        "cpuCount": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "loadAverage": load,
        "memoryTotalBytes": memory.map(|(total, _)| total),
        "memoryFreeBytes": memory.map(|(_, free)| free),
    }))
}

/// Runnable processes in the last 1, 5 and 15 minutes, where the system tells.
fn load_average() -> Vec<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).filter_map(|number| number.parse().ok()).collect()
}

/// All memory and what of it could be used, where the system tells.
fn memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some((kib("MemTotal")? * 1_024, kib("MemAvailable")? * 1_024))
}

fn update_status(_: &Call) -> Answer {
    // Offshoot never looks for updates, and installs none.
    answer(&json!({ "sentinel": null, "updateAvailable": null, "effectiveChannel": null, "schedule": null }))
}

fn own_user(_: &Call) -> Answer {
    Err(ErrorShape::new(ErrorCode::Forbidden, "requires an authenticated user"))
}
