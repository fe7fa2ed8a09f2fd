//! Sockets by hand: any headers, any text, and the close that ends them.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::sync::Arc;

use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use http::Request;
use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Client, Daemon, PATIENCE};

/// What comes out of a socket.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Frame(Value),
    /// The code and the reason; 1006 where the connection broke off.
    Closed(u16, String),
}

type Socket = WebSocketStream<TcpStream>;
pub type Writer = SplitSink<Socket, Message>;

/// What comes out of a socket: read at once, so that a gateway that closes it does not wait for the answer to that.
pub struct Reader {
    said: UnboundedReceiver<Result<Message, Error>>,
    /// Without its permit nothing is read.
    listening: Arc<Semaphore>,
    _reading: JoinSet<()>,
}

impl Reader {
    pub async fn next(&mut self) -> Option<Result<Message, Error>> {
        self.said.recv().await
    }

    /// Takes nothing more out of the socket, but for what comes next, until [`Self::read_on`].
    pub fn read_nothing(&self) {
        self.listening.forget_permits(1);
    }

    pub fn read_on(&self) {
        self.listening.add_permits(1);
    }
}

/// The two halves of a socket; the reader must go for it to be closed.
pub fn halves(socket: Socket) -> (Writer, Reader) {
    let ours = SockRef::from(socket.get_ref()).try_clone().unwrap();
    let (writer, mut stream) = socket.split();
    let (tell, said) = unbounded_channel();
    let (mut reading, listening) = (JoinSet::new(), Arc::new(Semaphore::new(1)));
    let may = Arc::clone(&listening);
    reading.spawn(async move {
        while let Some(message) = stream.next().await {
            if tell.send(message).is_err() {
                return;
            }
            drop(may.acquire().await);
        }
        // As a client does that was closed.
        drop(ours.shutdown(Shutdown::Both));
    });
    (writer, Reader { said, listening, _reading: reading })
}

impl Daemon {
    /// A socket whose upgrade was asked for with these headers beside the usual ones, and nothing more.
    pub async fn socket(&self, headers: &[(String, String)]) -> Client {
        let address = self.address();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut request = Request::get(format!("ws://{address}/")).body(()).unwrap();
        let usual = [
            (HOST, address.to_string()),
            (CONNECTION, "Upgrade".to_owned()),
            (UPGRADE, "websocket".to_owned()),
            (SEC_WEBSOCKET_VERSION, "13".to_owned()),
            (SEC_WEBSOCKET_KEY, generate_key()),
        ];
        let named = headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.clone()));
        for (name, value) in usual.into_iter().chain(named) {
            request.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
        }
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let (writer, reader) = halves(socket);
        Client { writer, reader, requests: 0, waiting: VecDeque::new(), hello: Value::Null }
    }
}

impl Client {
    /// Sends a message as it is.
    pub async fn send_message(&mut self, message: Message) {
        // A gateway that has heard enough does not take the rest.
        drop(self.writer.send(message).await);
    }

    /// Sends messages in as few pieces as the network takes.
    pub async fn send_at_once(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.writer.feed(message).await.unwrap();
        }
        self.writer.flush().await.unwrap();
    }

    /// Sends a text as it is.
    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.send_message(Message::text(text.into())).await;
    }

    /// The nonce of the challenge, which comes first.
    pub async fn challenged(&mut self) -> String {
        let challenge = self.read().await;
        assert_eq!(challenge["event"], "connect.challenge", "{challenge}");
        assert_eq!(challenge["seq"], Value::Null, "{challenge}");
        challenge["payload"]["nonce"].as_str().unwrap().to_owned()
    }

    /// The next frame, or the end.
    pub async fn heard(&mut self) -> Heard {
        let next = async {
            loop {
                match self.reader.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Heard::Frame(serde_json::from_str(&text).unwrap());
                    }
                    Some(Ok(Message::Close(Some(close)))) => {
                        return Heard::Closed(close.code.into(), close.reason.to_string());
                    }
                    Some(Ok(_)) => {}
                    None | Some(Err(Error::ConnectionClosed | Error::Io(_) | Error::Protocol(_))) => {
                        return Heard::Closed(1006, String::new());
                    }
                    Some(Err(error)) => panic!("{error}"),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, next).await {
            Ok(heard) => heard,
            Err(_) => panic!("nothing came; waiting: {:#?}", self.waiting),
        }
    }

    /// Waits for the close. Frames before it stay.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.heard().await {
                Heard::Frame(frame) => self.waiting.push_back(frame),
                Heard::Closed(code, reason) => return (code, reason),
            }
        }
    }

    /// Every response that came and that nobody asked for.
    pub fn responses(&mut self) -> Vec<Value> {
        let (responses, rest) = self.waiting.drain(..).partition(|frame| frame["type"] == "res");
        self.waiting = rest;
        Vec::from(responses)
    }
}
