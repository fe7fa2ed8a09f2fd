//! What somebody must not come to who means harm.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::SinkExt;
use offshoot::config::{Environment, load_text};
use offshoot::gateway::Serving;
use offshoot::runtime;
use offshoot::store::{Durability, SqliteStorage};
use offshoot_actors::ports::{Clock, Storage};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

use crate::rig::{Reader, Writer, halves};

mod devices;
mod http;
mod proofs;

const TOKEN: &str = "the-shared-token";
/// After this long a test has failed. Nothing waits for it otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon with exactly this `gateway` section, but for the port.
struct Door {
    serving: Serving,
    storage: Arc<SqliteStorage>,
    state: TempDir,
}

impl Door {
    async fn open() -> Self {
        Self::with(&format!("auth: {{ mode: 'token', token: '{TOKEN}' }}")).await
    }

    async fn with(gateway: &str) -> Self {
        Self::by(runtime::clock(), gateway).await
    }

    async fn by(clock: Arc<dyn Clock>, gateway: &str) -> Self {
        let config = format!("{{ gateway: {{ {gateway} }} }}");
        let mut config = load_text(&Environment::default(), "offshoot.json", &config).unwrap();
        config.gateway.port = 0;
        let state = tempfile::tempdir().unwrap();
        let storage = Arc::new(SqliteStorage::open(state.path(), Durability::Normal).unwrap());
        let shared = Arc::clone(&storage) as Arc<dyn Storage>;
        let dir = state.path().to_owned();
        let serving = Serving::start(Arc::new(config), clock, shared, dir).await.unwrap();
        Self { serving, storage, state }
    }

    fn address(&self) -> SocketAddr {
        *self.serving.addresses().first().unwrap()
    }

    async fn close(self) {
        self.serving.stop("service restart").await;
        self.storage.close();
        drop(self.state);
    }

    /// A socket with these headers, whose challenge came.
    async fn knock(&self, headers: &[(&str, &str)]) -> Guest {
        let address = self.address();
        let mut request = format!("ws://{address}/").into_client_request().unwrap();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let (writer, reader) = halves(socket);
        let mut guest = Guest { writer, reader, nonce: String::new(), requests: 0 };
        let Heard::Frame(challenge) = guest.heard().await else { panic!("no challenge") };
        guest.nonce = challenge["payload"]["nonce"].as_str().unwrap().to_owned();
        guest
    }

    /// A connect with these parameters beside the usual ones, signed by the device of this name if there is one.
    async fn enter(&self, device: Option<&str>, params: Value) -> Result<(Guest, Value), Value> {
        self.enter_with(&[], device, params).await
    }

    async fn enter_with(
        &self,
        headers: &[(&str, &str)],
        device: Option<&str>,
        params: Value,
    ) -> Result<(Guest, Value), Value> {
        let mut guest = self.knock(headers).await;
        let params = guest.params(device, params);
        let hello = guest.call("connect", params).await?;
        Ok((guest, hello))
    }
}

/// What comes out of a socket.
#[derive(Debug)]
enum Heard {
    Frame(Value),
    Closed(u16, String),
}

/// One end of a socket.
struct Guest {
    writer: Writer,
    reader: Reader,
    nonce: String,
    requests: u32,
}

impl Guest {
    /// The command line's parameters, with others in their place.
    fn params(&self, device: Option<&str>, others: Value) -> Value {
        let mut params = json!({
            "minProtocol": 4, "maxProtocol": 4, "role": "operator", "scopes": ["operator.admin"], "caps": [],
            "client": { "id": "cli", "version": "1", "platform": "linux", "mode": "cli" },
            "auth": { "token": TOKEN },
        });
        let Value::Object(others) = others else { panic!("{others}") };
        params.as_object_mut().unwrap().extend(others);
        if let Some(name) = device {
            sign(&mut params, name, &self.nonce);
        }
        params
    }

    async fn send(&mut self, method: &str, params: Value) -> String {
        self.requests += 1;
        let id = format!("r{}", self.requests);
        let frame = json!({ "type": "req", "id": id, "method": method, "params": params });
        self.writer.send(Message::text(frame.to_string())).await.unwrap();
        id
    }

    /// Sends a request and waits for its answer; other frames are dropped.
    async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.send(method, params).await;
        loop {
            match self.heard().await {
                Heard::Frame(frame) if frame["id"] == id && frame["ok"] == true => {
                    return Ok(frame["payload"].clone());
                }
                Heard::Frame(frame) if frame["id"] == id => return Err(frame["error"].clone()),
                Heard::Frame(_) => {}
                Heard::Closed(code, reason) => panic!("closed before the answer: {code} {reason}"),
            }
        }
    }

    async fn heard(&mut self) -> Heard {
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
                    None | Some(Err(_)) => return Heard::Closed(1006, String::new()),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("something comes")
    }

    /// Waits for the close; frames before it are dropped.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Heard::Closed(code, reason) = self.heard().await {
                return (code, reason);
            }
        }
    }
}

/// Signs as the command lines do.
fn sign(params: &mut Value, name: &str, nonce: &str) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&Sha256::digest(name)).unwrap();
    let key = pair.public_key().as_ref();
    let id: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let auth = &params["auth"];
    let token = ["token", "deviceToken", "bootstrapToken"].map(|name| text(&auth[name]));
    let token = token.into_iter().find(|token| !token.is_empty()).unwrap_or_default();
    let scopes: Vec<String> = params["scopes"].as_array().into_iter().flatten().map(text).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let now = u64::try_from(now).unwrap();
    let payload = format!(
        "v3|{id}|{}|{}|{}|{}|{now}|{token}|{nonce}|linux|",
        text(&params["client"]["id"]),
        text(&params["client"]["mode"]),
        text(&params["role"]),
        scopes.join(","),
    );
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(payload.as_bytes()));
    params["device"] = json!({ "id": id, "publicKey": URL_SAFE_NO_PAD.encode(key), "signature": signature,
                               "signedAt": now, "nonce": nonce });
}
