//! A client that takes a gateway's death as a part of life.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::daemon::TOKEN;

/// After this long without an answer a request's fate is unknown. A gateway that is stopped answers later than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// The connection broke, or nothing came.
#[derive(Debug)]
pub struct Gone;

/// The payload of an answer, or the whole frame of a refusal.
pub type Answer = Result<Value, Value>;

pub struct Client {
    socket: WebSocketStream<TcpStream>,
    requests: u64,
    /// Answers that came while another one was waited for.
    early: BTreeMap<String, Value>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Self, Gone> {
        tokio::time::timeout(PATIENCE, Self::handshake(address)).await.map_err(|_| Gone)?
    }

    async fn handshake(address: SocketAddr) -> Result<Self, Gone> {
        let stream = TcpStream::connect(address).await.map_err(|_| Gone)?;
        stream.set_nodelay(true).map_err(|_| Gone)?;
        let upgraded = tokio_tungstenite::client_async(format!("ws://{address}/"), stream).await;
        let (socket, _) = upgraded.map_err(|_| Gone)?;
        let mut client = Self { socket, requests: 0, early: BTreeMap::new() };
        // The challenge, which a command of this machine need not sign.
        client.frame().await?;
        let params = json!({
            "minProtocol": 4, "maxProtocol": 4,
            "client": { "id": "cli", "version": "test", "platform": "test", "mode": "cli" },
            "role": "operator", "scopes": ["operator.admin"], "auth": { "token": TOKEN },
        });
        match client.call("connect", params).await? {
            Ok(_) => Ok(client),
            Err(_) => Err(Gone),
        }
    }

    /// Sends a request and returns its id.
    pub async fn send(&mut self, method: &str, params: Value) -> Result<String, Gone> {
        self.requests += 1;
        let id = format!("r{}", self.requests);
        let frame = json!({ "type": "req", "id": id, "method": method, "params": params });
        self.socket.send(Message::text(frame.to_string())).await.map_err(|_| Gone)?;
        Ok(id)
    }

    /// Sends a request and waits for its first answer.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Answer, Gone> {
        let id = self.send(method, params).await?;
        self.answer(&id).await
    }

    /// The next answer to a request.
    pub async fn answer(&mut self, id: &str) -> Result<Answer, Gone> {
        tokio::time::timeout(PATIENCE, self.find(id)).await.map_err(|_| Gone)?
    }

    async fn find(&mut self, id: &str) -> Result<Answer, Gone> {
        loop {
            if let Some(frame) = self.early.remove(id) {
                return Ok(result(frame));
            }
            self.hear().await?;
        }
    }

    /// Answers that are here already, by the id of their request.
    pub fn heard(&mut self) -> Result<Vec<(String, Answer)>, Gone> {
        while let Some(heard) = self.hear().now_or_never() {
            heard?;
        }
        Ok(std::mem::take(&mut self.early).into_iter().map(|(id, frame)| (id, result(frame))).collect())
    }

    async fn hear(&mut self) -> Result<(), Gone> {
        let frame = self.frame().await?;
        if frame["type"] == "res" {
            self.early.insert(frame["id"].as_str().unwrap_or_default().to_owned(), frame);
        }
        Ok(())
    }

    async fn frame(&mut self) -> Result<Value, Gone> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
                Some(Ok(_)) => {}
            }
        }
    }
}

fn result(mut frame: Value) -> Answer {
    if frame["ok"] == true { Ok(frame["payload"].take()) } else { Err(frame) }
}
