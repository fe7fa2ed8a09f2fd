//! `/metrics`: the daemon's figures, for Prometheus.

use std::collections::BTreeMap;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use offshoot_actors::types::{Role, Scope};

use super::{Call, Refused, Response, access, either, not_allowed};
use crate::gateway::daemon::{Daemon, VERSION};
use crate::metrics::{self, Seen};

pub(super) const PATH: &str = "/metrics";

pub(super) async fn answer(call: Call) -> Response {
    either(respond(&call).await)
}

async fn respond(call: &Call) -> Result<Response, Refused> {
    if ![Method::GET, Method::HEAD].contains(call.method()) {
        return Err(not_allowed("GET, HEAD").into());
    }
    if call.config.gateway.metrics.proof_of_neighbours || !call.peer.direct_local {
        access::caller(call).await?.needs(Scope::Read)?;
    }
    let mut response = super::text(StatusCode::OK, page(&call.daemon));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn page(daemon: &Daemon) -> String {
    let mut connections: BTreeMap<&str, u64> = Role::ALL.map(|role| (role.as_str(), 0)).into();
    for client in daemon.hub.clients() {
        *connections.entry(client.role.as_str()).or_default() += 1;
    }
    daemon.metrics.page(&Seen {
        version: VERSION,
        started_at: daemon.started_at,
        now: daemon.clock.monotonic(),
        tree: daemon.tree().ok(),
        deliveries: daemon.deliveries_seen(),
        connections,
        connected: daemon.connected(),
        store_refuses: daemon.store_health().refuses.is_some(),
        silent_after: daemon.config().gateway.silent_after,
    })
}
