//! `sessions.*`: conversations, and the sub-agents below them.

mod change;
mod create;
mod follow;
mod list;
mod preview;
mod resolve;
mod send;
mod spawn;
mod tree;
mod usage;

use offshoot_actors::ports::StoreError;
use offshoot_actors::types::{Refusal, Scope, SessionKey, Settings};
use serde::{Deserialize, Deserializer};

pub(super) use self::preview::show;
use super::call::refused;
use super::target::{self, unread};
use super::{Call, Method, Need, READ, later, now};
use crate::protocol::error::ErrorShape;

const WRITE: Need = Need::Scope(Scope::Write);
const ADMIN: Need = Need::Scope(Scope::Admin);

pub(super) const METHODS: &[Method] = &[
    later("sessions.list", READ, list::list),
    later("sessions.describe", READ, list::describe),
    later("sessions.resolve", READ, resolve::resolve),
    later("sessions.get", READ, preview::get),
    later("sessions.preview", READ, preview::preview),
    later("sessions.create", WRITE, create::create),
    later("sessions.send", WRITE, send::send),
    later("sessions.steer", WRITE, send::steer),
    later("sessions.abort", WRITE, send::abort),
    later("sessions.patch", WRITE, change::patch),
    later("sessions.reset", ADMIN, change::reset),
    later("sessions.delete", ADMIN, change::delete),
    later("sessions.compact", ADMIN, change::compact),
    later("sessions.compaction.list", READ, change::compactions),
    now("sessions.subscribe", READ, follow::subscribe),
    now("sessions.unsubscribe", READ, follow::unsubscribe),
    now("sessions.messages.subscribe", READ, follow::subscribe_messages),
    now("sessions.messages.unsubscribe", READ, follow::unsubscribe_messages),
    later("sessions.usage", READ, usage::usage),
    later("sessions.usage.timeseries", READ, usage::timeseries),
    later("sessions.usage.logs", READ, usage::logs),
    later("sessions.spawn", WRITE, spawn::spawn),
    later("sessions.tree", READ, tree::tree),
];

/// The session that a request names, which may be one of an agent that is configured no more.
pub(super) fn named(
    method: &str,
    settings: &Settings,
    agent: Option<&str>,
    key: &str,
) -> Result<SessionKey, ErrorShape> {
    if key.trim().is_empty() {
        return Err(ErrorShape::invalid(format!("invalid {method} params: at /key: must not be empty")));
    }
    match key.parse::<SessionKey>() {
        Ok(key) if agent.is_none() => Ok(key),
        _ => target::session(method, settings, agent, Some(key)),
    }
}

fn unknown(key: &SessionKey) -> ErrorShape {
    ErrorShape::invalid(format!("session not found: {key}")).refusing(&Refusal::unknown_session(key))
}

/// A refusal of the tree about this session.
fn refused_for(key: &SessionKey) -> impl FnOnce(Refusal) -> ErrorShape {
    let key = key.clone();
    move |refusal| if refusal.code == "unknown_session" { unknown(&key) } else { refused(&refusal) }
}

/// A number from outside within its bounds.
fn within<T: PartialOrd + std::fmt::Display>(
    call: &Call,
    name: &str,
    value: T,
    bounds: std::ops::RangeInclusive<T>,
) -> Result<T, ErrorShape> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    let (method, least, most) = (call.method, bounds.start(), bounds.end());
    Err(ErrorShape::invalid(format!("invalid {method} params: at /{name}: must be {least} to {most}")))
}

/// A text that says something.
fn filled(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A member that tells null from left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// The answer where the store cannot be read, as a function to map with.
fn store(error: StoreError) -> ErrorShape {
    unread(error)
}
