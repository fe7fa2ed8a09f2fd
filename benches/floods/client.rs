//! A client of the gateway.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::daemon::TOKEN;

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    requests: u64,
}

/// A socket of which the kernel keeps little.
pub async fn open(address: SocketAddr, small: bool) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if small {
        socket.set_recv_buffer_size(4_096)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Client {
    /// One whose upgrade is answered.
    pub async fn upgraded(address: SocketAddr, small: bool) -> Result<Self, Error> {
        let stream = open(address, small).await?;
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/"), stream).await?;
        Ok(Self { socket, requests: 0 })
    }

    /// An operator with these scopes.
    pub async fn connected(address: SocketAddr, small: bool, scopes: &[&str]) -> Result<Self, Error> {
        let mut client = Self::upgraded(address, small).await?;
        client.socket.next().await.transpose()?;
        let params = json!({
            "minProtocol": 4, "maxProtocol": 4,
            "client": { "id": "cli", "version": "bench", "platform": "bench", "mode": "cli" },
            "role": "operator", "scopes": scopes, "auth": { "token": TOKEN },
        });
        client.call("connect", &params).await?;
        Ok(client)
    }

    /// The answer to a request, or to the first of its answers.
    pub async fn call(&mut self, method: &str, params: &Value) -> Result<Value, Error> {
        self.requests += 1;
        let id = format!("r{}", self.requests);
        let frame = json!({"type": "req", "id": id, "method": method, "params": params});
        self.socket.send(Message::text(frame.to_string())).await?;
        loop {
            match self.socket.next().await.ok_or(Error::ConnectionClosed)?? {
                // Events may be long: only what may be the answer is read.
                Message::Text(text) if text.starts_with(r#"{"type":"res""#) => {
                    let mut frame: Value = serde_json::from_str(&text).unwrap();
                    if frame["id"] == *id {
                        assert_eq!(frame["ok"], true, "{method}: {frame}");
                        return Ok(frame["payload"].take());
                    }
                }
                Message::Close(_) => return Err(Error::ConnectionClosed),
                _ => {}
            }
        }
    }
}
