//! A client of the gateway's protocol that asks several things at a time, each from a thread that waits.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::daemon::Gateway;

/// After this long a test has failed. Nothing waits for it otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Client(WebSocket<TcpStream>);

impl Client {
    /// A command of this machine with the shared secret.
    pub fn connect(gateway: &Gateway, token: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = tungstenite::client(gateway.url(), stream).unwrap();
        let mut client = Self(socket);
        // The challenge, which a command of this machine need not sign.
        client.frame();
        let params = json!({
            "minProtocol": 4, "maxProtocol": 4,
            "client": { "id": "cli", "version": "test", "platform": "test", "mode": "cli" },
            "role": "operator", "scopes": ["operator.admin"], "auth": { "token": token },
        });
        client.send("connect", "connect", &params);
        client.answer().1.unwrap();
        client
    }

    pub fn send(&mut self, id: &str, method: &str, params: &Value) {
        let frame = json!({ "type": "req", "id": id, "method": method, "params": params });
        self.0.send(Message::text(frame.to_string())).unwrap();
    }

    /// The next answer: the id of its request, and the payload or the error.
    pub fn answer(&mut self) -> (String, Result<Value, Value>) {
        loop {
            let mut frame = self.frame();
            if frame["type"] == "res" {
                let id = frame["id"].as_str().unwrap().to_owned();
                let ok = frame["ok"] == true;
                return (id, if ok { Ok(frame["payload"].take()) } else { Err(frame["error"].take()) });
            }
        }
    }

    fn frame(&mut self) -> Value {
        serde_json::from_str(self.0.read().unwrap().to_text().unwrap()).unwrap()
    }
}
