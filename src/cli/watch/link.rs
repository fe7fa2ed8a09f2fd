//! The connection of a command that watches: it asks what it is told to, passes on what it hears, and comes back by
//! itself when the gateway does.

use std::convert::Infallible;
use std::time::Duration;

use offshoot_actors::types::Scope;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::super::Global;
use super::super::args::ReachArgs;
use super::super::daemon::Reach;
use super::super::exit::{Exit, Failure};
use crate::client::{Client, ClientError, Event};

/// Between two attempts to come back.
const AGAIN: Duration = Duration::from_millis(500);
/// Words of the gateway that may wait for the command to take them; the gateway waits then.
const ROOM: usize = 256;

/// What a command wants to hear, from the beginning and after each time that it came back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wants {
    pub(crate) scopes: Vec<Scope>,
    /// The parameters of `tree.subscribe`.
    pub(crate) tree: Option<Value>,
    /// Whether what happens in all sessions is wanted.
    pub(crate) sessions: bool,
}

/// A request of the command.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The command's own number for it.
    pub(crate) id: u64,
    pub(crate) method: &'static str,
    pub(crate) params: Value,
    /// A right that the connection was not made with: one of its own is made for this request.
    pub(crate) scope: Option<Scope>,
}

/// What the command is told.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The gateway is there, for the first time or again. The tree as it is, if it was wanted.
    Here(Value),
    Event(Event),
    Answer(u64, Result<Value, Failure>),
    /// The gateway went away, or is not back yet.
    Lost(Failure),
}

/// The connection.
pub(crate) struct Link<'a> {
    reach: &'a ReachArgs,
    global: &'a Global,
    wants: Wants,
    heard: Sender<Heard>,
    asks: Receiver<Ask>,
}

impl<'a> Link<'a> {
    /// The connection, where its requests go in, and where its words come out.
    pub(crate) fn new(
        reach: &'a ReachArgs,
        wants: Wants,
        global: &'a Global,
    ) -> (Self, Sender<Ask>, Receiver<Heard>) {
        let ((heard, words), (tell, asks)) = (channel(ROOM), channel(ROOM));
        (Self { reach, global, wants, heard, asks }, tell, words)
    }

    /// Connects and serves the command for as long as it wants.
    ///
    /// # Errors
    /// There is no gateway to begin with.
    pub(crate) async fn run(mut self) -> Result<Infallible, Failure> {
        let mut client = self.connect().await?;
        loop {
            let lost = match self.serve(&mut client).await {
                Ok(never) => match never {},
                Err(error) => Failure::from(error),
            };
            self.tell(Heard::Lost(lost)).await;
            client = loop {
                tokio::time::sleep(AGAIN).await;
                match self.connect().await {
                    Ok(client) => break client,
                    Err(failure) => self.tell(Heard::Lost(failure)).await,
                }
                self.refuse_all().await;
            };
        }
    }

    async fn connect(&mut self) -> Result<Client, Failure> {
        // Another start of the gateway may be at another port, with another token.
        let mut client = Reach::of(self.reach, self.global)?.connect(&self.wants.scopes).await?;
        client.keep_events();
        if self.wants.sessions {
            client.call("sessions.subscribe", &json!({})).await?;
        }
        let tree = match &self.wants.tree {
            Some(params) => client.call("tree.subscribe", params).await?.payload["snapshot"].take(),
            None => Value::Null,
        };
        self.tell(Heard::Here(tree)).await;
        Ok(client)
    }

    async fn serve(&mut self, client: &mut Client) -> Result<Infallible, ClientError> {
        loop {
            tokio::select! {
                event = client.event() => {
                    let event = event?;
                    self.tell(Heard::Event(event)).await;
                }
                Some(ask) = self.asks.recv() => {
                    match self.ask(client, &ask).await {
                        Ok(answer) => self.tell(Heard::Answer(ask.id, answer)).await,
                        Err(error) => {
                            // Whoever asked waits for an answer, and would ask for nothing else before it has one.
                            self.tell(Heard::Answer(ask.id, Err(in_hand()))).await;
                            return Err(error);
                        }
                    }
                }
            }
        }
    }

    /// An error is one of the connection; what the gateway refuses is an answer.
    async fn ask(&self, client: &mut Client, ask: &Ask) -> Result<Result<Value, Failure>, ClientError> {
        if let Some(scope) = ask.scope {
            return Ok(self.apart(scope, ask).await);
        }
        match client.call(ask.method, &ask.params).await {
            Ok(answered) => Ok(Ok(answered.payload)),
            Err(
                error @ (ClientError::Refused { .. }
                | ClientError::NoMethod { .. }
                | ClientError::Overdue { .. }),
            ) => Ok(Err(error.into())),
            Err(error) => Err(error),
        }
    }

    async fn apart(&self, scope: Scope, ask: &Ask) -> Result<Value, Failure> {
        let mut client = Reach::of(self.reach, self.global)?.connect(&[scope]).await?;
        let answered = client.call(ask.method, &ask.params).await?;
        client.close().await;
        Ok(answered.payload)
    }

    /// Nothing that was asked while nobody was there is done later.
    async fn refuse_all(&mut self) {
        while let Ok(ask) = self.asks.try_recv() {
            let failure = Failure::from(ClientError::Closed(String::new()));
            self.tell(Heard::Answer(ask.id, Err(failure))).await;
        }
    }

    async fn tell(&self, heard: Heard) {
        // A command that does not listen any more is about to end.
        _ = self.heard.send(heard).await;
    }
}

/// What is said of a request that the connection was lost with.
fn in_hand() -> Failure {
    let text = "the connection broke before the answer: it may have been done";
    Failure::new(Exit::Unavailable, "gateway", text)
}
