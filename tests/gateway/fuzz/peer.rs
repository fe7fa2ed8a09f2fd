//! The sender of an input: a raw socket that sees everything the gateway says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::identity;
use super::input::{Frame, Input, bytes};

/// In this time the gateway has answered or closed the connection.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long something is waited for that need not come: the input broke off in the middle.
const QUIET: Duration = Duration::from_millis(50);
/// The closes that are documented.
const CODES: [u16; 8] = [1000, 1002, 1003, 1007, 1008, 1009, 1012, 4001];
/// Methods that wait for as long as they are told to.
const WAITING: [&str; 2] = ["agent.wait", "tools.invoke"];

/// What the gateway said.
pub enum Said {
    /// The head of an answer.
    Head(String),
    Text(Value),
    Close(u16, String),
    Other,
}

/// Sends the input and says in a line how it was answered.
///
/// # Errors
/// It was not answered, or not as it is documented.
pub async fn send(address: SocketAddr, input: &Input) -> Result<String, String> {
    match input {
        Input::Port { bytes: pieces, step } => port(address, &bytes(pieces), *step).await,
        Input::Socket { known, frames, step } => socket(address, *known, frames, *step).await,
        Input::Connect { params } => connect(address, params.clone()).await,
        Input::Requests { protocol, role, calls } => {
            let mut peer = Peer::upgraded(address).await?;
            peer.enter(*protocol, role.as_deref().unwrap_or("operator")).await?;
            let mut answer = String::new();
            for called in calls {
                let params = peer.filled(&called.params).await?;
                answer = peer.call(&called.method, &params).await?;
                if answer.starts_with("close") {
                    return peer.end().await.map(|()| answer);
                }
            }
            peer.sentinel(PATIENCE).await?;
            peer.end().await.map(|()| answer)
        }
    }
}

async fn port(address: SocketAddr, bytes: &[u8], step: usize) -> Result<String, String> {
    let mut peer = Peer::open(address).await?;
    peer.write(bytes, step).await;
    // What is answered at once is; a request that is not complete yet waits for its rest.
    let first = timeout(QUIET, peer.said.recv()).await.ok().flatten();
    drop(peer.write.shutdown().await);
    let mut answer = "closed".to_owned();
    let rest = async {
        let mut next = first;
        if next.is_none() {
            next = peer.said.recv().await;
        }
        while let Some(said) = next {
            if let (Said::Head(line), "closed") = (said, answer.as_str()) {
                answer = line.split(' ').nth(1).map_or(line.clone(), |status| format!("http {status}"));
            }
            next = peer.said.recv().await;
        }
    };
    timeout(PATIENCE, rest)
        .await
        .map_err(|_| "the connection stays open after the client has ended it".to_owned())?;
    Ok(answer)
}

async fn socket(address: SocketAddr, known: bool, frames: &[Frame], step: usize) -> Result<String, String> {
    let mut peer = Peer::upgraded(address).await?;
    if known {
        peer.enter(4, "operator").await?;
    }
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.write(&mut bytes));
    peer.closes = frames.iter().any(|frame| frame.first & 0x0f == 0x08);
    peer.write(&bytes, step).await;
    let whole = frames.iter().all(Frame::is_whole);
    let answer = peer.sentinel(if whole { PATIENCE } else { QUIET }).await;
    let answer = if whole { answer? } else { answer.unwrap_or_else(|_| "silence".to_owned()) };
    peer.end().await.map(|()| answer)
}

async fn connect(address: SocketAddr, mut params: Value) -> Result<String, String> {
    let mut peer = Peer::upgraded(address).await?;
    identity::fill(&mut params, &peer.nonce);
    let answer = peer.call("connect", &params).await?;
    if answer == "ok" {
        peer.sentinel(PATIENCE).await?;
    }
    peer.end().await.map(|()| answer)
}

/// A connection.
pub struct Peer {
    write: OwnedWriteHalf,
    said: UnboundedReceiver<Said>,
    /// Without its permit nothing is read.
    listening: Arc<Semaphore>,
    nonce: String,
    calls: u32,
    /// Whether it sends a close, whose code is given back.
    closes: bool,
}

impl Peer {
    pub async fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))?;
        stream.set_nodelay(true).unwrap();
        let (read, write) = stream.into_split();
        let (tell, said) = unbounded_channel();
        let listening = Arc::new(Semaphore::new(1));
        tokio::spawn(listen(read, tell, Arc::clone(&listening)));
        Ok(Self { write, listening, said, nonce: String::new(), calls: 0, closes: false })
    }

    pub async fn upgraded(address: SocketAddr) -> Result<Self, String> {
        let mut peer = Self::open(address).await?;
        peer.write(super::make::UPGRADE.as_bytes(), 0).await;
        match peer.next(PATIENCE).await? {
            Some(Said::Head(line)) if line.starts_with("HTTP/1.1 101") => {}
            Some(Said::Head(line)) => return Err(format!("no upgrade: {line}")),
            _ => return Err("no upgrade".to_owned()),
        }
        match peer.next(PATIENCE).await? {
            Some(Said::Text(frame)) if frame["event"] == "connect.challenge" => {
                peer.nonce = frame["payload"]["nonce"].as_str().unwrap().to_owned();
                Ok(peer)
            }
            _ => Err("no challenge".to_owned()),
        }
    }

    /// One that has connected, as an operator.
    pub async fn known(address: SocketAddr) -> Result<Self, String> {
        let mut peer = Self::upgraded(address).await?;
        peer.enter(4, "operator").await?;
        Ok(peer)
    }

    /// Reads nothing more, but for what comes next, until [`Self::read_on`].
    pub fn read_nothing(&self) {
        self.listening.forget_permits(1);
    }

    pub fn read_on(&self) {
        self.listening.add_permits(1);
    }

    pub fn socket(&self) -> &TcpStream {
        self.write.as_ref()
    }

    /// Whether all of it was taken in time.
    pub async fn try_write(&mut self, bytes: &[u8], patience: Duration) -> bool {
        matches!(timeout(patience, self.write.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Whether the gateway has ended it.
    pub fn has_ended(&self) -> bool {
        self.said.is_closed()
    }

    /// The next close.
    pub async fn closed(&mut self) -> Result<(u16, String), String> {
        loop {
            match self.next(PATIENCE).await? {
                Some(Said::Close(code, reason)) => return Ok((code, reason)),
                Some(_) => {}
                None => return Err("it ends without a close".to_owned()),
            }
        }
    }

    /// The first line of the next answer.
    pub async fn head(&mut self) -> Result<String, String> {
        match self.next(PATIENCE).await? {
            Some(Said::Head(line)) => Ok(line),
            _ => Err("it ends without an answer".to_owned()),
        }
    }

    async fn enter(&mut self, protocol: u32, role: &str) -> Result<(), String> {
        let mut params = identity::connect(protocol, role);
        identity::fill(&mut params, &self.nonce);
        match self.call("connect", &params).await?.as_str() {
            "ok" => Ok(()),
            refused => Err(format!("a good client is not let in: {refused}")),
        }
    }

    /// Parameters with the facts of the moment in them.
    async fn filled(&mut self, params: &Value) -> Result<Value, String> {
        let mut params = params.clone();
        identity::fill(&mut params, "");
        if params["baseHash"] == "$hash" {
            self.send("config.get", &Value::Null).await;
            let id = format!("call-{}", self.calls);
            while let Some(said) = self.next(PATIENCE).await? {
                if let Said::Text(frame) = said
                    && frame["id"] == *id
                {
                    params["baseHash"] = frame["payload"]["hash"].clone();
                    break;
                }
            }
        }
        Ok(params)
    }

    /// What is not taken is not written: the gateway may have closed the connection.
    pub async fn write(&mut self, bytes: &[u8], step: usize) {
        let step = if step == 0 { bytes.len().max(1) } else { step };
        for part in bytes.chunks(step) {
            match timeout(PATIENCE, self.write.write_all(part)).await {
                Ok(Ok(())) => tokio::task::yield_now().await,
                _ => return,
            }
        }
    }

    async fn next(&mut self, patience: Duration) -> Result<Option<Said>, String> {
        timeout(patience, self.said.recv()).await.map_err(|_| "no answer".to_owned())
    }

    async fn send(&mut self, method: &str, params: &Value) {
        self.calls += 1;
        let id = format!("call-{}", self.calls);
        let mut bytes = Vec::new();
        let frame = json!({"type": "req", "id": id, "method": method, "params": params});
        Frame::text(frame.to_string()).write(&mut bytes);
        self.write(&bytes, 0).await;
    }

    /// A request and its first answer.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn call(&mut self, method: &str, params: &Value) -> Result<String, String> {
        self.send(method, params).await;
        let id = format!("call-{}", self.calls);
        let patience = if WAITING.contains(&method) { QUIET } else { PATIENCE };
        match self.answer(patience, |frame| frame["id"] == *id).await {
            Err(_) if WAITING.contains(&method) => Ok("waits".to_owned()),
            Err(problem) => Err(format!("{method}: {problem}")),
            Ok(answer) if answer == "closed" => Err(format!("{method}: the connection ends without a word")),
            Ok(answer) => Ok(answer),
        }
    }

    /// Asks for something that every client may ask for. A stranger's answer is that to anything else it sent.
    async fn sentinel(&mut self, patience: Duration) -> Result<String, String> {
        let known = self.calls > 0;
        let mut bytes = Vec::new();
        Frame::text(r#"{"type":"req","id":"sentinel","method":"health"}"#).write(&mut bytes);
        self.write(&bytes, 0).await;
        let answer = self.answer(patience, |frame| !known || frame["id"] == "sentinel").await?;
        Ok(if answer == "ok" { "answered".to_owned() } else { answer })
    }

    pub async fn answer(
        &mut self,
        patience: Duration,
        is: impl Fn(&Value) -> bool,
    ) -> Result<String, String> {
        loop {
            match self.next(patience).await? {
                Some(Said::Text(frame)) if frame["type"] == "res" && is(&frame) => {
                    let error = &frame["error"];
                    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
                    let ok = frame["ok"] == true;
                    return Ok(if ok {
                        "ok".to_owned()
                    } else {
                        format!("error {} {}", text("code"), text("message"))
                    });
                }
                Some(Said::Close(code, reason)) if self.closes || CODES.contains(&code) => {
                    return Ok(format!("close {code} {reason}"));
                }
                Some(Said::Close(code, reason)) => return Err(format!("closed with {code} {reason:?}")),
                Some(_) => {}
                None => return Ok("closed".to_owned()),
            }
        }
    }

    /// Ends the connection and waits until the gateway has ended it too.
    pub async fn end(mut self) -> Result<(), String> {
        drop(self.write.shutdown().await);
        let rest = async { while self.said.recv().await.is_some() {} };
        timeout(PATIENCE, rest)
            .await
            .map_err(|_| "the connection stays open after the client has ended it".to_owned())
    }
}

/// Reads until the end: heads of HTTP answers, and frames behind an upgrade.
async fn listen(mut read: OwnedReadHalf, tell: UnboundedSender<Said>, may: Arc<Semaphore>) {
    let mut buffer = Vec::new();
    let mut upgraded = false;
    loop {
        while let Some((said, length)) = if upgraded { frame(&buffer) } else { head(&buffer) } {
            upgraded |= matches!(&said, Said::Head(line) if line.starts_with("HTTP/1.1 101"));
            buffer.drain(..length);
            if tell.send(said).is_err() {
                return;
            }
        }
        drop(may.acquire().await);
        match read.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The first line of an answer. Of its body nobody wants to know.
fn head(buffer: &[u8]) -> Option<(Said, usize)> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let line = buffer.split(|byte| *byte == b'\r').next()?;
    Some((Said::Head(String::from_utf8_lossy(line).into_owned()), end + 4))
}

fn frame(buffer: &[u8]) -> Option<(Said, usize)> {
    let (start, length) = match *buffer.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    let payload = buffer.get(start..start + length)?;
    let said = match buffer[0] {
        0x81 => serde_json::from_slice(payload).map_or(Said::Other, Said::Text),
        0x88 => match payload.split_at_checked(2) {
            Some((code, reason)) => Said::Close(
                u16::from_be_bytes(code.try_into().ok()?),
                String::from_utf8_lossy(reason).into_owned(),
            ),
            None => Said::Close(1000, String::new()),
        },
        _ => Said::Other,
    };
    Some((said, start + length))
}
