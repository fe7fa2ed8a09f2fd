//! A client of the gateway protocol: it connects, proves itself with a shared secret, asks, and leaves.
//!
//! For the command line, which asks one thing and ends. It has no device: on the gateway's own machine the shared secret
//! is enough, and from elsewhere the gateway gives a client without one no rights.

mod address;
mod error;
mod tls;

use std::collections::VecDeque;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use offshoot_actors::types::Scope;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

pub use self::address::{Address, AddressError};
pub use self::error::ClientError;
pub use self::tls::Fingerprint;
use self::tls::Stream;
use crate::protocol::client::{ClientId, ClientMode};
use crate::protocol::connect::{self, AuthParams, ClientInfo, ConnectParams};
use crate::protocol::error::ErrorShape;
use crate::protocol::frame::{self, ServerFrame};
use crate::protocol::version::Protocol;

/// The largest message that a gateway may send: more than any answer, far less than memory.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// Small answers are the rule.
const READ_BUFFER: usize = 16 * 1024;
/// Events that are kept while an answer is waited for. Older ones are left out, which their numbers show.
const MAX_KEPT: usize = 4_096;

/// What a client proves itself with.
#[derive(Debug, Clone)]
pub enum Secret {
    /// The shared token.
    Token(SecretString),
    /// The shared password.
    Password(SecretString),
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the gateway is.
    pub address: Address,
    /// What to prove; none for a gateway that asks for nothing.
    pub secret: Option<Secret>,
    /// The one certificate that is accepted, whoever signed it.
    pub fingerprint: Option<Fingerprint>,
    /// What the calls need.
    pub scopes: Vec<Scope>,
    /// How long connecting may take, and how long an answer.
    pub within: Duration,
}

/// A connection that the gateway has accepted.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<Box<dyn Stream>>,
    hello: Value,
    within: Duration,
    requests: u64,
    /// Events that came while an answer was waited for; none if nobody wants them.
    kept: Option<VecDeque<Event>>,
}

/// Something that happened in the gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What kind of thing.
    pub name: String,
    /// What there is to know of it.
    pub payload: Value,
    /// Its number on this connection: where one is missing, an event was left out.
    pub seq: Option<u64>,
}

/// What a request was answered with.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The request, for whoever waits for a second answer.
    pub id: String,
    /// What it says.
    pub payload: Value,
}

impl Answered {
    /// Whether the work goes on and a second answer will come.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.payload.get("status").and_then(Value::as_str) == Some("accepted")
    }
}

impl Client {
    /// Connects and proves itself.
    ///
    /// # Errors
    /// Nobody answers there, who answers is no gateway, or the gateway refuses.
    pub async fn connect(options: Options) -> Result<Self, ClientError> {
        let within = options.within;
        let what = "the gateway did not let us in";
        timeout(within, Self::open(options))
            .await
            .map_err(|_| ClientError::Overdue { what: what.to_owned(), within })?
    }

    async fn open(options: Options) -> Result<Self, ClientError> {
        let Options { address, secret, fingerprint, scopes, within } = options;
        let stream = tls::connect(&address, fingerprint, secret.is_some()).await?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let upgraded = tokio_tungstenite::client_async_with_config(address.uri(), stream, Some(config)).await;
        let (socket, _) = upgraded.map_err(|error| ClientError::no_gateway(&address, &error))?;
        let mut client = Self { socket, hello: Value::Null, within, requests: 0, kept: None };
        client.greeted(&address).await?;
        let id = client.send(connect::METHOD, &hello(secret, &scopes)).await?;
        client.hello = match client.response(&id).await? {
            Ok(hello) => hello,
            Err((error, _)) => return Err(ClientError::Rejected(Box::new(error))),
        };
        Ok(client)
    }

    /// Waits for the challenge, which a gateway sends first of all.
    async fn greeted(&mut self, address: &Address) -> Result<(), ClientError> {
        match self.frame().await? {
            ServerFrame::Event { event, .. } if event == "connect.challenge" => Ok(()),
            _ => Err(ClientError::NotAGateway {
                address: address.to_string(),
                problem: "it did not begin with a challenge".to_owned(),
                wants_tls: false,
            }),
        }
    }

    /// What the gateway said of itself.
    #[must_use]
    pub const fn hello(&self) -> &Value {
        &self.hello
    }

    /// Asks, and waits for the answer; of two, for the first.
    ///
    /// # Errors
    /// The gateway refuses, does not answer in time, or goes away.
    pub async fn call(&mut self, method: &str, params: &impl Serialize) -> Result<Answered, ClientError> {
        let within = self.within;
        let asked = async {
            let id = self.send(method, params).await?;
            self.answered(method, id).await
        };
        let what = format!("{method} was not answered");
        timeout(within, asked).await.map_err(|_| ClientError::Overdue { what, within })?
    }

    /// Waits for the second answer to a request, for as long as it takes.
    ///
    /// # Errors
    /// The gateway refuses or goes away.
    pub async fn finally(&mut self, method: &str, first: Answered) -> Result<Answered, ClientError> {
        if first.is_accepted() { self.answered(method, first.id).await } else { Ok(first) }
    }

    /// Waits until the gateway says anything that is no answer to a call.
    ///
    /// # Errors
    /// The gateway goes away.
    pub async fn heard(&mut self) -> Result<(), ClientError> {
        self.frame().await.map(drop)
    }

    /// Keeps the events that come while an answer is waited for, from now on.
    pub fn keep_events(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// Waits for the next event. Nothing is lost where this is given up and asked again.
    ///
    /// # Errors
    /// The gateway goes away.
    pub async fn event(&mut self) -> Result<Event, ClientError> {
        if let Some(event) = self.kept.as_mut().and_then(VecDeque::pop_front) {
            return Ok(event);
        }
        loop {
            if let ServerFrame::Event { event: name, payload, seq, .. } = self.frame().await? {
                return Ok(Event { name, payload: payload.unwrap_or_default(), seq });
            }
        }
    }

    fn keep(&mut self, event: Event) {
        if let Some(kept) = &mut self.kept {
            if kept.len() >= MAX_KEPT {
                kept.pop_front();
            }
            kept.push_back(event);
        }
    }

    /// Leaves.
    pub async fn close(mut self) {
        // The gateway finds out by itself if it cannot be told.
        let _ = timeout(self.within, self.socket.close(None)).await;
    }

    async fn answered(&mut self, method: &str, id: String) -> Result<Answered, ClientError> {
        match self.response(&id).await? {
            Ok(payload) => Ok(Answered { id, payload }),
            Err((error, payload)) => {
                let method = method.to_owned();
                if self.lacks(&method) && says_unknown(&error) {
                    return Err(ClientError::NoMethod { method, version: self.version().to_owned() });
                }
                Err(ClientError::Refused { method, error: Box::new(error), payload })
            }
        }
    }

    /// Whether the gateway's list of methods is without this one. It may have more than it lists.
    fn lacks(&self, method: &str) -> bool {
        let listed = self.hello["features"]["methods"].as_array();
        listed.is_some_and(|listed| !listed.iter().any(|name| name == method))
    }

    /// The gateway's version, as it says.
    #[must_use]
    pub fn version(&self) -> &str {
        self.hello["server"]["version"].as_str().unwrap_or("unknown")
    }

    async fn send(&mut self, method: &str, params: &impl Serialize) -> Result<String, ClientError> {
        self.requests += 1;
        let id = self.requests.to_string();
        let text = frame::request(&id, method, params).map_err(ClientError::Unwritten)?;
        self.socket.send(Message::text(text)).await.map_err(|error| ClientError::lost(&error))?;
        Ok(id)
    }

    async fn response(
        &mut self,
        wanted: &str,
    ) -> Result<Result<Value, (ErrorShape, Option<Value>)>, ClientError> {
        loop {
            match self.frame().await? {
                ServerFrame::Response { id, ok, payload, error } if id == wanted => {
                    return Ok(match (ok, error) {
                        (true, _) => Ok(payload.unwrap_or_default()),
                        (false, Some(error)) => Err((error, payload)),
                        (false, None) => Err((
                            ErrorShape::unavailable("the gateway refuses and does not say why"),
                            payload,
                        )),
                    });
                }
                ServerFrame::Response { .. } => {}
                ServerFrame::Event { event: name, payload, seq, .. } => {
                    self.keep(Event { name, payload: payload.unwrap_or_default(), seq });
                }
            }
        }
    }

    async fn frame(&mut self) -> Result<ServerFrame, ClientError> {
        loop {
            let Some(message) = self.socket.next().await else { return Err(ClientError::gone()) };
            match message.map_err(|error| ClientError::lost(&error))? {
                Message::Text(text) => {
                    return serde_json::from_str(&text).map_err(ClientError::NotUnderstood);
                }
                Message::Close(close) => return Err(ClientError::closed(close)),
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

/// Whether this is what is said of a method that there is not: a scope is asked for first.
fn says_unknown(error: &ErrorShape) -> bool {
    error.message.starts_with("unknown method") || error.message == "missing scope: operator.admin"
}

/// What we say of ourselves.
fn hello(secret: Option<Secret>, scopes: &[Scope]) -> ConnectParams {
    let mut auth = AuthParams::default();
    match secret {
        Some(Secret::Token(token)) => auth.token = Some(token),
        Some(Secret::Password(password)) => auth.password = Some(password),
        None => {}
    }
    ConnectParams {
        min_protocol: Protocol::OLDEST.number(),
        max_protocol: Protocol::NEWEST.number(),
        client: ClientInfo {
            id: ClientId::Cli,
            display_name: Some("offshoot".to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: std::env::consts::OS.to_owned(),
            device_family: None,
            model_identifier: None,
            mode: ClientMode::Cli,
            instance_id: None,
            build_id: None,
            time_zone: None,
        },
        caps: Vec::new(),
        commands: Vec::new(),
        permissions: Default::default(),
        path_env: None,
        role: Some("operator".to_owned()),
        scopes: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        device: None,
        auth,
        locale: None,
        user_agent: None,
    }
}

#[cfg(test)]
mod tests;
