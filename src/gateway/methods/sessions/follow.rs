//! Which sessions a client wants to hear of.

use serde::Deserialize;
use serde_json::json;

use super::super::{Answer, Call, answer};
use super::named;
use crate::protocol::error::ErrorShape;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Params {
    key: String,
    agent_id: Option<String>,
}

pub(super) fn subscribe(call: &Call) -> Answer {
    call.client.follows.set_all(true);
    answer(&json!({ "subscribed": true }))
}

pub(super) fn unsubscribe(call: &Call) -> Answer {
    call.client.follows.set_all(false);
    answer(&json!({ "subscribed": false }))
}

pub(super) fn subscribe_messages(call: &Call) -> Answer {
    let Params { key, agent_id } = call.params()?;
    let key = named(call.method, &call.daemon.tree()?.settings(), agent_id.as_deref(), &key)?;
    if !call.client.follows.session(key.clone()) {
        return Err(ErrorShape::unavailable(
            "this connection follows as many sessions as it may; leave some of them, or call sessions.subscribe",
        ));
    }
    answer(&json!({ "subscribed": true, "key": key }))
}

pub(super) fn unsubscribe_messages(call: &Call) -> Answer {
    let Params { key, agent_id } = call.params()?;
    let key = named(call.method, &call.daemon.tree()?.settings(), agent_id.as_deref(), &key)?;
    call.client.follows.leave_session(&key);
    answer(&json!({ "subscribed": false, "key": key }))
}
