//! A client: a bare WebSocket and the frames of the handshake.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{SinkExt, StreamExt};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::daemon::TOKEN;

const SCOPES: [&str; 1] = ["operator.admin"];

/// Who connects.
pub enum Identity {
    /// A command on the same machine, without a device.
    Command,
    /// The same, which may manage devices and hears of nothing else.
    Deaf,
    /// A device that signs.
    Device(Box<Device>),
}

/// A key and the id that comes from it.
pub struct Device {
    key: Ed25519KeyPair,
    id: String,
}

impl Device {
    pub fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let digest = Sha256::digest(key.public_key().as_ref());
        let id = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { key, id }
    }

    fn sign(&self, nonce: &str) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let scopes = SCOPES.join(",");
        let text = format!("v3|{}|cli|cli|operator|{scopes}|{now}|{TOKEN}|{nonce}|bench|", self.id);
        json!({
            "id": self.id,
            "publicKey": URL_SAFE_NO_PAD.encode(self.key.public_key()),
            "signature": URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes())),
            "signedAt": u64::try_from(now).unwrap(),
            "nonce": nonce,
        })
    }
}

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    requests: u64,
}

impl Client {
    /// Connects, and returns with the answer.
    pub async fn connect(address: SocketAddr, identity: &Identity) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self::over(stream, address, identity).await
    }

    /// Connects as soon as somebody listens.
    pub async fn connect_soon(address: SocketAddr, identity: &Identity) -> Self {
        loop {
            match TcpStream::connect(address).await {
                Ok(stream) => return Self::over(stream, address, identity).await,
                Err(_) => tokio::time::sleep(Duration::from_micros(200)).await,
            }
        }
    }

    async fn over(stream: TcpStream, address: SocketAddr, identity: &Identity) -> Self {
        let mut client = Self { socket: upgrade(stream, address).await, requests: 0 };
        let challenge = client.frame().await;
        let nonce = challenge["payload"]["nonce"].as_str().unwrap();
        let scopes = match identity {
            Identity::Deaf => ["operator.pairing"],
            Identity::Command | Identity::Device(_) => SCOPES,
        };
        let mut params = json!({
            "minProtocol": 4, "maxProtocol": 4,
            "client": { "id": "cli", "version": "bench", "platform": "bench", "mode": "cli" },
            "role": "operator", "scopes": scopes, "auth": { "token": TOKEN },
        });
        if let Identity::Device(device) = identity {
            params["device"] = device.sign(nonce);
        }
        client.call("connect", params).await;
        client
    }

    /// Sends a request, and returns its answer's payload.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.requests += 1;
        let id = self.requests.to_string();
        let request = json!({ "type": "req", "id": id, "method": method, "params": params });
        self.socket.send(Message::text(request.to_string())).await.unwrap();
        loop {
            let mut frame = self.frame().await;
            if frame["id"] == id.as_str() {
                assert_eq!(frame["ok"], true, "{frame}");
                return frame["payload"].take();
            }
        }
    }

    async fn frame(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// The next text that comes.
    pub async fn text(&mut self) -> Utf8Bytes {
        text(&mut self.socket).await
    }
}

pub async fn upgrade(stream: TcpStream, address: SocketAddr) -> WebSocketStream<TcpStream> {
    stream.set_nodelay(true).unwrap();
    tokio_tungstenite::client_async(format!("ws://{address}/"), stream).await.unwrap().0
}

pub async fn text(socket: &mut WebSocketStream<TcpStream>) -> Utf8Bytes {
    loop {
        if let Message::Text(text) = socket.next().await.expect("the connection is open").unwrap() {
            return text;
        }
    }
}

/// The next text that is no event.
pub async fn answer(socket: &mut WebSocketStream<TcpStream>) -> Utf8Bytes {
    loop {
        let text = text(socket).await;
        if !is_event(&text) {
            return text;
        }
    }
}

pub fn is_event(text: &str) -> bool {
    text.starts_with("{\"type\":\"event\"")
}
