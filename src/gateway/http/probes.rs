//! `/healthz` and `/readyz`.

use http::header::{ALLOW, CACHE_CONTROL};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::{Response, json as document, text};
use crate::gateway::daemon::Daemon;
use crate::gateway::peer::Peer;
use crate::gateway::vitals::store_json;

pub(super) const HEALTH: &str = "/health";
pub(super) const HEALTHZ: &str = "/healthz";
pub(super) const READY: &str = "/ready";
pub(super) const READYZ: &str = "/readyz";

/// Whether the path is one of these.
pub(super) fn serves(path: &str) -> bool {
    [HEALTH, HEALTHZ, READY, READYZ].contains(&path)
}

/// Whether the process answers.
pub(super) fn live(method: &Method) -> Response {
    probe(method, StatusCode::OK, &json!({ "ok": true, "status": "live" }))
}

/// Whether clients can work. Who is on this machine is told more.
pub(super) fn ready(method: &Method, peer: &Peer, daemon: &Daemon) -> Response {
    let failing = daemon.failing();
    let status = if failing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = if peer.direct_local {
        let store = store_json(&daemon.store_health());
        json!({ "ready": failing.is_empty(), "failing": failing, "uptimeMs": daemon.uptime_ms(), "store": store })
    } else {
        json!({ "ready": failing.is_empty() })
    };
    probe(method, status, &body)
}

fn probe(method: &Method, status: StatusCode, body: &Value) -> Response {
    if method != Method::GET && method != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = document(status, body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
