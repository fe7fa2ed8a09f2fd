//! Why a gateway could not be asked.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError::{HandshakeIncomplete, HttparseError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::address::Address;
use crate::protocol::error::ErrorShape;

/// Longest text of somebody else's that an error repeats, in characters.
const MAX_TEXT: usize = 500;

/// Why a gateway could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there, or the way is closed.
    #[error("no gateway can be reached at {address}: {error}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The secret would be readable by everybody on the way.
    #[error(
        "{address} is not on this machine or a private network, and the secret would go there unencrypted"
    )]
    Unencrypted {
        /// Where.
        address: String,
    },
    /// The encryption failed, or the certificate is another one.
    #[error("TLS with {address} failed: {error}")]
    Tls {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// No TLS is spoken there.
    #[error("TLS with {address} failed: what listens there does not speak it")]
    NoTls {
        /// Where.
        address: String,
    },
    /// Somebody else is there.
    #[error("{address} is no gateway: {problem}")]
    NotAGateway {
        /// Where.
        address: String,
        /// What it did.
        problem: String,
        /// Whether a port where only TLS is spoken would have done that.
        wants_tls: bool,
    },
    /// The gateway does not let us in.
    #[error("the gateway refuses the connection: {}", .0.message)]
    Rejected(Box<ErrorShape>),
    /// The gateway refuses a request.
    #[error("{method}: {}", .error.message)]
    Refused {
        /// What was asked.
        method: String,
        /// Why not.
        error: Box<ErrorShape>,
        /// What it says beside the error.
        payload: Option<Value>,
    },
    /// The gateway has no such method.
    #[error("the gateway, version {version}, has no method {method}")]
    NoMethod {
        /// What was asked.
        method: String,
        /// The gateway's version.
        version: String,
    },
    /// It took too long.
    #[error("{what} within {} s", .within.as_secs_f32())]
    Overdue {
        /// What did not happen.
        what: String,
        /// The time that it had.
        within: Duration,
    },
    /// The connection ended with the gateway.
    #[error("the gateway was stopped")]
    Stopped,
    /// The connection ended.
    #[error("the gateway closed the connection{0}")]
    Closed(String),
    /// A frame of the gateway has another form.
    #[error("the gateway sent what this version does not understand: {0}")]
    NotUnderstood(serde_json::Error),
    /// The parameters cannot be written as JSON.
    #[error("the request could not be written: {0}")]
    Unwritten(serde_json::Error),
}

impl ClientError {
    pub(super) fn gone() -> Self {
        Self::Closed(String::new())
    }

    pub(super) fn closed(close: Option<CloseFrame>) -> Self {
        let Some(close) = close else { return Self::gone() };
        if close.code == CloseCode::Restart {
            // What a gateway says at its end, whether it comes again or not.
            return Self::Stopped;
        }
        let code = u16::from(close.code);
        let reason = one_line(&close.reason);
        Self::Closed(if reason.is_empty() { format!(" ({code})") } else { format!(" ({code}: {reason})") })
    }

    pub(super) fn lost(error: &Error) -> Self {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_) => Self::gone(),
            error => Self::Closed(format!(": {}", one_line(&error.to_string()))),
        }
    }

    /// What answered to the upgrade instead of a gateway.
    pub(super) fn no_gateway(address: &Address, error: &Error) -> Self {
        let problem = match error {
            Error::Http(response) => {
                let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                let said =
                    if body.trim().is_empty() { String::new() } else { format!(": {}", one_line(&body)) };
                format!("it answers the upgrade with {}{said}", response.status())
            }
            error => one_line(&error.to_string()),
        };
        // An alert of TLS is read as a broken line of HTTP, or not even as that.
        let unreadable =
            matches!(error, Error::Protocol(HttparseError(_) | HandshakeIncomplete) | Error::Io(_));
        Self::NotAGateway {
            address: address.to_string(),
            problem,
            wants_tls: unreadable && !address.is_encrypted(),
        }
    }
}

fn one_line(text: &str) -> String {
    text.trim().chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
