//! Who asked. Decided once at the edge, carried as a value from there on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{RunId, SessionKey};

/// Where a message came from, for policy and audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// A tool call of an agent's run.
    Agent {
        /// The session that the run belongs to.
        session: SessionKey,
        /// The run.
        run: RunId,
    },
    /// A client that authenticated at the edge.
    Client {
        /// The connection's number in this process, for logs and the audit record: it names nobody, because the
        /// next process counts from the beginning again.
        connection: u64,
        /// The id of the client's paired device; none for one that authenticated with a shared secret, or by
        /// other means that tell nobody apart.
        device: Option<String>,
        /// The scopes it was granted.
        scopes: Vec<String>,
    },
    /// The person at the command line, in this process.
    Operator,
    /// A program that embeds the tree.
    Embedder,
    /// A timer or a policy of the tree itself.
    Timer,
}

/// What kind of asker an [`Origin`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginKind {
    /// An agent's run.
    Agent,
    /// A client of the gateway.
    Client,
    /// The person at the command line.
    Operator,
    /// A program that embeds the tree.
    Embedder,
    /// A timer or a policy.
    Timer,
}

impl OriginKind {
    const ALL: [Self; 5] = [Self::Agent, Self::Client, Self::Operator, Self::Embedder, Self::Timer];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Client => "client",
            Self::Operator => "operator",
            Self::Embedder => "embedder",
            Self::Timer => "timer",
        }
    }
}

impl FromStr for OriginKind {
    type Err = UnknownOrigin;

    fn from_str(text: &str) -> Result<Self, UnknownOrigin> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownOrigin)
    }
}

/// The name of no kind of asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of: agent, client, operator, embedder, timer")]
pub struct UnknownOrigin;

impl Origin {
    /// What kind of asker it is.
    #[must_use]
    pub const fn kind(&self) -> OriginKind {
        match self {
            Self::Agent { .. } => OriginKind::Agent,
            Self::Client { .. } => OriginKind::Client,
            Self::Operator => OriginKind::Operator,
            Self::Embedder => OriginKind::Embedder,
            Self::Timer => OriginKind::Timer,
        }
    }

    /// The principal under which idempotency keys are unique. Keys outlive the process, so it names somebody who is
    /// the same after a restart: of clients the device, and of those without one whoever holds the shared secret,
    /// who is the operator.
    #[must_use]
    pub fn principal(&self) -> String {
        match self {
            Self::Agent { session, .. } => format!("agent:{session}"),
            Self::Client { device: Some(device), .. } => format!("device:{device}"),
            Self::Client { device: None, .. } | Self::Operator => "operator".to_owned(),
            Self::Embedder => "embedder".to_owned(),
            Self::Timer => "timer".to_owned(),
        }
    }

    /// Who it was, for a sentence that people read.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Agent { session, run } => format!("run {run} of session {session}"),
            Self::Client { device: Some(device), .. } => format!("device {device}"),
            Self::Client { connection, device: None, .. } => format!("a client on connection {connection}"),
            Self::Operator => "the operator".to_owned(),
            Self::Embedder => "the program".to_owned(),
            Self::Timer => "a timer".to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { session, run } => write!(f, "origin=agent session={session} run={run}"),
            Self::Client { connection, device, .. } => {
                write!(f, "origin=client device={} conn={connection}", device.as_deref().unwrap_or("none"))
            }
            Self::Operator => f.write_str("origin=operator"),
            Self::Embedder => f.write_str("origin=embedder"),
            Self::Timer => f.write_str("origin=timer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(connection: u64, device: Option<&str>) -> String {
        let (device, scopes) = (device.map(str::to_owned), vec!["operator.write".to_owned()]);
        Origin::Client { connection, device, scopes }.principal()
    }

    #[test]
    fn a_client_is_the_same_on_every_connection() {
        assert_eq!(client(1, Some("a")), client(2, Some("a")));
        assert_ne!(client(1, Some("a")), client(1, Some("b")));
        assert_eq!(client(1, None), client(2, None));
        assert_eq!(client(1, None), Origin::Operator.principal());
        assert_ne!(client(1, None), client(1, Some("operator")));
    }
}
