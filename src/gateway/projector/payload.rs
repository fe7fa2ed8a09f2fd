//! One event as it goes out.

use std::fmt;
use std::sync::Arc;

use offshoot_actors::types::{SessionKey, StoredEntry};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::gateway::events::raw;
use crate::gateway::messages::{self, Shape};
use crate::gateway::outbox::Lossy;
use crate::protocol::version::Protocol;

/// Who gets an event, of those that may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Audience {
    Readers,
    /// Those who started this run and asked for its tool events.
    Starter(Arc<str>),
    /// Those who follow all sessions.
    Followers,
    /// Those who follow all sessions or this one.
    Listeners(SessionKey),
}

/// An event of the protocol.
pub(super) struct Projected {
    pub(super) name: &'static str,
    pub(super) audience: Audience,
    pub(super) lossy: Lossy,
    /// What both generations are told.
    pub(super) common: Map<String, Value>,
    /// What the newer one is told beside it.
    pub(super) newer: Map<String, Value>,
    /// An entry of a transcript, whose shape depends on the generation.
    pub(super) entry: Option<(Arc<StoredEntry>, Option<Arc<str>>)>,
}

impl Projected {
    pub(super) fn new(name: &'static str, audience: Audience, lossy: Lossy, common: Value) -> Self {
        Self { name, audience, lossy, common: object(common), newer: Map::new(), entry: None }
    }

    /// The same with what the newer generation is told beside it.
    pub(super) fn with_newer(mut self, newer: Value) -> Self {
        self.newer = object(newer);
        self
    }

    /// The payload for clients of this generation.
    pub(super) fn payload(&self, protocol: Protocol) -> Box<RawValue> {
        let mut payload = self.common.clone();
        if protocol == Protocol::V4 {
            payload.extend(self.newer.clone());
        }
        if let Some((entry, run)) = &self.entry {
            let shape = Shape { run: run.as_deref(), ..Shape::whole(protocol) };
            payload.insert("message".to_owned(), json!(messages::message(entry, &shape)));
        }
        raw(&payload)
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

impl fmt::Debug for Projected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projected").field("name", &self.name).finish_non_exhaustive()
    }
}
