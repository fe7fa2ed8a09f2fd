//! `health` and who is there: what is in memory, for those who look every second.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{Answer, Call, Method, Need, Payload, READ, answer, now};
use crate::gateway::daemon::Daemon;

pub(super) const METHODS: &[Method] =
    &[now("health", Need::Nothing, health), now("system-presence", READ, system_presence)];

fn health(call: &Call) -> Answer {
    Ok(Payload::Shared(snapshot(&call.daemon)))
}

fn system_presence(call: &Call) -> Answer {
    answer(&call.daemon.presence_list())
}

/// The health snapshot, as the method, the event and `hello-ok` have it.
pub(crate) fn snapshot(daemon: &Daemon) -> Arc<RawValue> {
    // Clients are told of the store within half a second; whoever asks is not told less.
    daemon.vitals.text_with(&daemon.store_health()).unwrap_or_else(|| {
        daemon.write_vitals();
        daemon.vitals.text().unwrap_or_else(|| Box::<RawValue>::default().into())
    })
}
