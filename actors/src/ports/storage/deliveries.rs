//! What is to reach somebody, and what became of it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

use super::rows::CallbackRow;
use crate::types::{AgentId, RunId, SessionKey, Timestamp};

/// How a result reaches whoever is to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryKind {
    /// Into the transcript of the session that is told.
    Announce,
    /// Posted to an address outside.
    Callback,
}

impl DeliveryKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Announce, Self::Callback];

    /// The name on the wire and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Announce => "announce",
            Self::Callback => "callback",
        }
    }
}

impl fmt::Display for DeliveryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a state in which a delivery may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// It is on its way, or waits for the run to end.
    Open,
    /// The latest attempt failed.
    Failed,
    /// Nobody can take it as things are.
    Undeliverable,
    /// It has arrived.
    Delivered,
    /// Somebody wants it no more.
    Dismissed,
}

impl DeliveryStatus {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Open, Self::Failed, Self::Undeliverable, Self::Delivered, Self::Dismissed];

    /// The name in the store, on the wire and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Failed => "failed",
            Self::Undeliverable => "undeliverable",
            Self::Delivered => "delivered",
            Self::Dismissed => "dismissed",
        }
    }
}

impl fmt::Display for DeliveryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error of a text that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnknownDelivery {
    /// No state has that name.
    #[error("the states of a delivery are open, failed, undeliverable, delivered and dismissed")]
    Status,
    /// No kind has that name.
    #[error("the kinds of deliveries are announce and callback")]
    Kind,
}

impl FromStr for DeliveryStatus {
    type Err = UnknownDelivery;

    fn from_str(text: &str) -> Result<Self, UnknownDelivery> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownDelivery::Status)
    }
}

impl FromStr for DeliveryKind {
    type Err = UnknownDelivery;

    fn from_str(text: &str) -> Result<Self, UnknownDelivery> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownDelivery::Kind)
    }
}

/// Why nobody can take a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undeliverable {
    /// The session that it is for does not exist any more.
    NoSession,
    /// The agent of that session is not configured.
    NoAgent,
}

impl fmt::Display for Undeliverable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSession => "the session that it is for does not exist any more",
            Self::NoAgent => "the agent of the session that it is for is not configured",
        })
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is on its way, or waits for the run to end.
    Open,
    /// The latest attempt failed.
    Failed {
        /// Why.
        reason: String,
        /// Attempts since it was asked for, or since somebody asked for it again.
        attempts: u32,
        /// When the next one is made; none means that nothing more is tried.
        next: Option<Timestamp>,
    },
    /// Nobody can take it as things are.
    Undeliverable(Undeliverable),
    /// It has arrived.
    Delivered,
    /// Somebody wants it no more.
    Dismissed,
}

impl DeliveryState {
    /// Its name.
    #[must_use]
    pub const fn status(&self) -> DeliveryStatus {
        match self {
            Self::Open => DeliveryStatus::Open,
            Self::Failed { .. } => DeliveryStatus::Failed,
            Self::Undeliverable(_) => DeliveryStatus::Undeliverable,
            Self::Delivered => DeliveryStatus::Delivered,
            Self::Dismissed => DeliveryStatus::Dismissed,
        }
    }

    /// Whether nothing is left to do about it.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self, Self::Delivered | Self::Dismissed)
    }
}

/// Who is to have a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiver {
    /// A session.
    Session(SessionKey),
    /// Somebody outside, at this address without its secrets.
    Address(String),
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(key) => f.write_str(key.as_str()),
            Self::Address(address) => f.write_str(address),
        }
    }
}

/// A result and what became of it on its way to somebody. A run has at most one delivery of each kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// How it is delivered.
    pub kind: DeliveryKind,
    /// The run whose result it is.
    pub run: RunId,
    /// The session of that run.
    pub session: SessionKey,
    /// Who is to have it.
    pub receiver: Receiver,
    /// When a callback was asked for; when an announced run ended.
    pub at: Timestamp,
    /// When a callback was delivered or dismissed.
    pub settled_at: Option<Timestamp>,
    /// What became of it.
    pub state: DeliveryState,
}

/// Which deliveries a list holds.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only of this kind.
    pub kind: Option<DeliveryKind>,
    /// Only in this state.
    pub status: Option<DeliveryStatus>,
    /// Only the result of this run.
    pub run: Option<RunId>,
    /// Only what this session is to have, and the results of its own runs.
    pub session: Option<SessionKey>,
    /// The agents that are configured; none means that this is not known, and any will do.
    pub agents: Option<Arc<BTreeSet<AgentId>>>,
}

/// How many deliveries there are that are not settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryTally {
    /// On their way.
    pub open: u64,
    /// Of which the latest attempt failed.
    pub failed: u64,
    /// Those of `failed` for which nothing more is tried.
    pub given_up: u64,
    /// That nobody can take as things are.
    pub undeliverable: u64,
}

/// A callback that is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCallback {
    /// What was asked for.
    pub callback: CallbackRow,
    /// Attempts that failed.
    pub attempts: u32,
    /// Not before this time.
    pub next: Option<Timestamp>,
}

/// What became of an attempt to deliver a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallbackMark {
    /// The receiver took it.
    Delivered {
        /// When.
        at: Timestamp,
    },
    /// It did not.
    Failed {
        /// Why.
        reason: String,
        /// The attempts until now.
        attempts: u32,
        /// When the next one is made; none means that nothing more is tried.
        next: Option<Timestamp>,
    },
}

impl CallbackRow {
    /// The address without anything that may be a secret: its scheme, its host and its port.
    #[must_use]
    pub fn receiver(&self) -> String {
        let Some((scheme, rest)) = self.address.expose().split_once("://") else { return String::new() };
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{scheme}://{host}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Secret;

    #[test]
    fn nothing_secret_of_an_address_is_shown() {
        let shown = |address: &str| {
            let run = RunId(uuid::Uuid::nil());
            CallbackRow { run, address: Secret::presented(address), at: Timestamp(0) }.receiver()
        };
        for (address, expected) in [
            ("http://127.0.0.1:8080/results?token=x", "http://127.0.0.1:8080"),
            ("https://user:pass@example.org/a@b", "https://example.org"),
            ("https://a@b:c@example.org#x", "https://example.org"),
            ("https://example.org?key=x", "https://example.org"),
            ("https://[::1]:9/", "https://[::1]:9"),
            ("secret", ""),
        ] {
            assert_eq!(shown(address), expected, "{address}");
        }
    }

    #[test]
    fn states_and_kinds_are_read_as_they_are_written() {
        for status in DeliveryStatus::ALL {
            assert_eq!(status.to_string().parse(), Ok(status));
        }
        for kind in DeliveryKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("lost".parse::<DeliveryStatus>().is_err() && "".parse::<DeliveryKind>().is_err());
    }
}
