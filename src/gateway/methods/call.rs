//! One request of a client, with everything that answering it needs.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use offshoot_actors::types::{Origin, Refusal, Scope, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::OwnedSemaphorePermit;

use super::missing;
use crate::gateway::audit;
use crate::gateway::client::Client;
use crate::gateway::daemon::Daemon;
use crate::protocol::error::ErrorShape;
use crate::protocol::{frame, params};

/// The payload of a response: of this one alone, or of all that ask for the same.
#[derive(Debug)]
pub(crate) enum Payload {
    Own(Box<RawValue>),
    Shared(Arc<RawValue>),
}

impl Payload {
    /// The JSON.
    pub(crate) fn get(&self) -> &str {
        match self {
            Self::Own(json) => json.get(),
            Self::Shared(json) => json.get(),
        }
    }
}

/// The payload of a response, or why there is none.
pub(crate) type Answer = Result<Payload, ErrorShape>;

/// The members of parameters, none of them looked at.
type Members = BTreeMap<String, Box<RawValue>>;

/// Members that say nothing, as some clients send them.
const NOTHING: [&str; 5] = ["null", "false", "\"\"", "[]", "{}"];

/// A request whose method was found and is allowed.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) client: Arc<Client>,
    pub(crate) id: String,
    pub(crate) method: &'static str,
    pub(crate) params: Option<Box<RawValue>>,
    /// Their bytes among those that one client may have in memory.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl Call {
    /// One that no request has filled yet.
    pub(crate) const fn blank(daemon: Arc<Daemon>, client: Arc<Client>) -> Self {
        Self { daemon, client, id: String::new(), method: "", params: None, room: None }
    }

    /// Fills it with a request.
    pub(crate) fn fill(&mut self, method: &'static str, id: &str, params: Option<&RawValue>) {
        self.method = method;
        self.id.clear();
        self.id.push_str(id);
        self.params = params.map(ToOwned::to_owned);
    }

    /// What it was filled with, to go its own way.
    pub(crate) fn take(&mut self, room: Option<OwnedSemaphorePermit>) -> Self {
        let blank = Self::blank(Arc::clone(&self.daemon), Arc::clone(&self.client));
        Self { room, ..std::mem::replace(self, blank) }
    }

    /// The parameters. Members that nobody knows are passed over, with a line for who debugs.
    pub(crate) fn params<T: DeserializeOwned>(&self) -> Result<T, ErrorShape> {
        let params::Params { value, unknown } = params::parse(self.method, self.params.as_deref())?;
        if !unknown.is_empty() {
            tracing::debug!(
                connection = self.client.number,
                method = self.method,
                ?unknown,
                "parameters that nobody knows"
            );
        }
        Ok(value)
    }

    /// The parameters are read: what waits from here on does so without them.
    pub(crate) fn forget_params(&mut self) {
        self.params = None;
        self.room = None;
    }

    /// Refuses parameters that would change what the request means and that are not implemented here. One that says
    /// nothing, such as `null` or `false`, is as if it were left out.
    pub(crate) fn refuse(&self, names: &[&str]) -> Result<(), ErrorShape> {
        let members: Members = self.params()?;
        let says = |name: &&&str| members.get(**name).is_some_and(|value| !NOTHING.contains(&value.get()));
        match names.iter().find(says) {
            None => Ok(()),
            Some(name) => Err(ErrorShape::invalid(format!(
                "invalid {} params: {name} is not supported by offshoot; leave it out",
                self.method
            ))),
        }
    }

    /// Parameters that are not what they must be.
    pub(super) fn invalid(&self, at: &str, problem: impl std::fmt::Display) -> ErrorShape {
        ErrorShape::invalid(format!("invalid {} params: at /{at}: {problem}", self.method))
    }

    /// A parameter that is a number within bounds, if it is given.
    pub(super) fn within<T: PartialOrd + std::fmt::Display>(
        &self,
        at: &str,
        number: Option<T>,
        bounds: RangeInclusive<T>,
    ) -> Result<Option<T>, ErrorShape> {
        match number {
            Some(number) if !bounds.contains(&number) => {
                let (least, most) = (bounds.start(), bounds.end());
                Err(self.invalid(at, format!("{number} is not a number from {least} to {most}")))
            }
            number => Ok(number),
        }
    }

    /// A parameter that is a name; none where it is empty.
    pub(super) fn read<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        at: &str,
        text: Option<&str>,
    ) -> Result<Option<T>, ErrorShape> {
        let text = text.map(str::trim).filter(|text| !text.is_empty());
        text.map(|text| text.parse().map_err(|error| self.invalid(at, error))).transpose()
    }

    /// The refusal of a caller who needs this scope for what it asks, which is on record.
    pub(super) fn lacks(&self, scope: Scope) -> ErrorShape {
        let error = missing(self.client.protocol, scope);
        audit::refused(&self.daemon, &self.client, self.method, &error);
        error
    }

    /// Who asks.
    pub(crate) fn origin(&self) -> Origin {
        self.client.origin()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.daemon.clock.now()
    }

    /// Answers before the work is done; the result comes later under the same id.
    pub(crate) fn accept(&self, payload: &impl Serialize) -> Result<(), ErrorShape> {
        let text = frame::response(&self.id, payload);
        self.client.outbox.text(text.map_err(|error| unwritten(&error))?);
        Ok(())
    }
}

/// The payload of a response.
pub(crate) fn answer(payload: &impl Serialize) -> Answer {
    to_raw_value(payload).map(Payload::Own).map_err(|error| unwritten(&error))
}

fn unwritten(error: &serde_json::Error) -> ErrorShape {
    ErrorShape::unavailable(format!("the answer could not be written: {error}"))
}

/// A refusal of the tree as an error on the wire: the message with what helps.
pub(crate) fn refused(refusal: &Refusal) -> ErrorShape {
    let text = refusal.to_string();
    let shape = match refusal.code {
        "store" | "gone" => ErrorShape::unavailable(text),
        _ => ErrorShape::invalid(text),
    };
    shape.refusing(refusal)
}
