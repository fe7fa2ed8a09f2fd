//! A daemon with a store of its own, and clients that speak to it through a socket.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::SinkExt;
use offshoot::config::{Environment, load, load_text};
use offshoot::gateway::Serving;
use offshoot::gateway::restart::BACK_IN;
use offshoot::runtime;
use offshoot::store::{Durability, SqliteStorage};
use offshoot_actors::ports::Storage;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

mod attempt;
mod device;
mod socket;

pub use attempt::{Attempt, Refused};
pub use device::{Device, id_of};
pub use socket::{Heard, Reader, Writer, halves};

/// The shared secret of every daemon here.
pub const TOKEN: &str = "a-token-for-tests";

/// After this long a test has failed. Nothing waits for it otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running daemon.
pub struct Daemon {
    serving: Serving,
    storage: Arc<SqliteStorage>,
    state: TempDir,
    config: String,
    /// Whether the configuration says what clients prove.
    own_auth: bool,
    vars: Vars,
}

/// Environment variables of a daemon.
type Vars = &'static [(&'static str, &'static str)];

impl Daemon {
    /// One that agents of the built-in model live in.
    pub async fn start() -> Self {
        Self::with("{}").await
    }

    /// One with a configuration. What it says of port and token is replaced.
    pub async fn with(config: &str) -> Self {
        Self::on(tempfile::tempdir().unwrap(), config.to_owned(), false, &[]).await
    }

    /// One whose configuration is a file, and taken as it is but for the port.
    pub async fn exactly(config: &str) -> Self {
        Self::on(tempfile::tempdir().unwrap(), config.to_owned(), true, &[]).await
    }

    /// The same, with the shared secret beside it in the environment.
    pub async fn with_file(config: &str) -> Self {
        let vars = &[("OFFSHOOT_GATEWAY_TOKEN", TOKEN)];
        Self::on(tempfile::tempdir().unwrap(), config.to_owned(), true, vars).await
    }

    /// One with these environment variables.
    pub async fn with_vars(vars: Vars) -> Self {
        Self::on(tempfile::tempdir().unwrap(), "{}".to_owned(), false, vars).await
    }

    async fn on(state: TempDir, config: String, own_auth: bool, vars: Vars) -> Self {
        let vars_of = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = Environment { home: None, vars: vars.iter().map(vars_of).collect() };
        let mut parsed = if own_auth {
            let file = state.path().join("offshoot.json");
            if !file.exists() {
                std::fs::write(&file, &config).unwrap();
            }
            load(&environment, Some(&file)).unwrap()
        } else {
            load_text(&environment, "offshoot.json", &config).unwrap()
        };
        if !own_auth {
            let auth = format!("{{ gateway: {{ auth: {{ mode: 'token', token: '{TOKEN}' }} }} }}");
            parsed.gateway.auth = load_text(&environment, "offshoot.json", &auth).unwrap().gateway.auth;
        }
        parsed.gateway.port = 0;
        let storage = Arc::new(SqliteStorage::open(state.path(), Durability::Normal).unwrap());
        let dir = state.path().to_owned();
        let shared = Arc::clone(&storage) as Arc<dyn Storage>;
        let serving = Serving::start(Arc::new(parsed), runtime::clock(), shared, dir).await.unwrap();
        Self { serving, storage, state, config, own_auth, vars }
    }

    /// Stops it, as a restart does, and starts another on the same state.
    pub async fn restart(self) -> Self {
        let config = self.config.clone();
        self.restart_with(&config).await
    }

    /// The same, with another configuration.
    pub async fn restart_with(self, config: &str) -> Self {
        let Self { serving, storage, state, own_auth, vars, .. } = self;
        serving.stop_for_restart("service restart", BACK_IN).await;
        storage.close();
        drop(storage);
        Self::on(state, config.to_owned(), own_auth, vars).await
    }

    pub async fn stop(self) {
        self.serving.stop("service restart").await;
        self.storage.close();
    }

    /// Waits until no result is wanted outside.
    pub async fn forgets_callbacks(&self) {
        let forgotten = async { while !self.storage.callbacks().await.unwrap().is_empty() {} };
        tokio::time::timeout(PATIENCE, forgotten).await.expect("what was delivered is forgotten");
    }

    /// What it keeps.
    pub fn storage(&self) -> &dyn Storage {
        self.storage.as_ref()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        *self.serving.addresses().first().unwrap()
    }

    /// Changes its file as an editor does.
    pub fn configure(&self, config: &str) {
        self.write("offshoot.json", config);
    }

    /// Puts a file into its state directory, whole.
    pub fn write(&self, name: &str, text: &str) {
        let new = self.state.path().join("unfinished");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.state.path().join(name)).unwrap();
    }

    /// Takes a file of its state directory away.
    pub fn hide(&self, name: &str) {
        let state = self.state.path();
        std::fs::rename(state.join(name), state.join(format!("{name}.hidden"))).unwrap();
    }

    /// Puts it back.
    pub fn show(&self, name: &str) {
        let state = self.state.path();
        std::fs::rename(state.join(format!("{name}.hidden")), state.join(name)).unwrap();
    }

    /// What its file holds.
    pub fn configuration(&self) -> String {
        std::fs::read_to_string(self.state.path().join("offshoot.json")).unwrap()
    }

    /// An operator with every right, of the newer protocol.
    pub async fn client(&self) -> Client {
        self.connect(Connect::default()).await
    }

    /// An operator with these scopes, of the newer protocol.
    pub async fn client_with(&self, scopes: &[&str]) -> Client {
        self.connect(Connect { scopes: scopes.to_vec(), ..Connect::default() }).await
    }

    pub async fn connect(&self, connect: Connect<'_>) -> Client {
        let mut client = self.socket(&[]).await;
        client.hello = client.handshake(connect).await;
        client
    }
}

/// How a client connects.
pub struct Connect<'a> {
    pub protocol: u32,
    pub scopes: Vec<&'a str>,
    pub caps: Vec<&'a str>,
}

impl Default for Connect<'_> {
    fn default() -> Self {
        Self { protocol: 4, scopes: vec!["operator.admin"], caps: Vec::new() }
    }
}

/// A client that is connected.
pub struct Client {
    writer: socket::Writer,
    pub reader: socket::Reader,
    requests: u64,
    /// Frames that came while something else was waited for, the oldest first.
    waiting: VecDeque<Value>,
    /// The payload of `hello-ok`.
    pub hello: Value,
}

impl Client {
    async fn handshake(&mut self, connect: Connect<'_>) -> Value {
        let challenge = self.read().await;
        assert_eq!(challenge["event"], "connect.challenge");
        let params = json!({
            "minProtocol": connect.protocol,
            "maxProtocol": connect.protocol,
            "client": { "id": "cli", "version": "test", "platform": "test", "mode": "cli" },
            "role": "operator",
            "scopes": connect.scopes,
            "caps": connect.caps,
            "auth": { "token": TOKEN },
        });
        self.call("connect", params).await.unwrap()
    }

    /// Sends a request and returns its id.
    pub async fn send(&mut self, method: &str, params: Value) -> String {
        self.requests += 1;
        let id = format!("r{}", self.requests);
        let frame = json!({ "type": "req", "id": id, "method": method, "params": params });
        self.writer.send(Message::text(frame.to_string())).await.unwrap();
        id
    }

    /// Sends a request and waits for its answer, or its first one; what comes meanwhile is kept.
    ///
    /// # Errors
    /// The error that it was refused with.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.send(method, params).await;
        self.answer(&id).await
    }

    /// The next answer to a request.
    ///
    /// # Errors
    /// The error that it was refused with.
    pub async fn answer(&mut self, id: &str) -> Result<Value, Value> {
        let frame = self.response(id).await;
        if frame["ok"] == true { Ok(frame["payload"].clone()) } else { Err(frame["error"].clone()) }
    }

    /// The next answer to a request, as its whole frame.
    pub async fn response(&mut self, id: &str) -> Value {
        self.find(|frame| frame["type"] == "res" && frame["id"] == id).await
    }

    /// The payload of the next event of this name for which `wanted` holds. Others before it stay.
    pub async fn event(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let is = |frame: &Value| frame["event"] == name && wanted(&frame["payload"]);
        self.find(is).await["payload"].take()
    }

    /// Every event that is waiting, as whole frames, the oldest first. What was sent to this client before the answer
    /// that it awaited last is among them.
    pub fn events(&mut self) -> Vec<Value> {
        let (events, rest) = self.waiting.drain(..).partition(|frame| frame["type"] == "event");
        self.waiting = rest;
        Vec::from(events)
    }

    /// Every event until one for which `last` holds, that one included, as whole frames.
    pub async fn events_until(&mut self, last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        let is_event = |frame: &Value| frame["type"] == "event";
        loop {
            let event = self.find(is_event).await;
            let end = last(&event);
            events.push(event);
            if end {
                return events;
            }
        }
    }

    async fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.waiting.iter().position(&wanted) {
            return self.waiting.remove(at).unwrap();
        }
        loop {
            let frame = self.read().await;
            if wanted(&frame) {
                return frame;
            }
            self.waiting.push_back(frame);
        }
    }

    async fn read(&mut self) -> Value {
        match self.heard().await {
            Heard::Frame(frame) => frame,
            Heard::Closed(code, reason) => panic!("the gateway closed the connection: {code} {reason}"),
        }
    }
}
