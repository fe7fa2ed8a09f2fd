//! The least that a door costs: a process with tokio and tungstenite that knows no frame, and one that only writes bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use futures::{SinkExt, StreamExt};
use rusqlite::Connection;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::common::{Args, Samples, machine};
use crate::daemon::free_address;

/// With it this program is a floor's server.
pub const CHILD: &str = "--floor";

/// A server in a process of its own.
pub struct Floor {
    child: Child,
    pub address: SocketAddr,
}

impl Floor {
    /// It greets with `greeting` bytes, and answers each text with `answer` bytes.
    pub fn echo(greeting: usize, answer: usize) -> Self {
        Self::start(&["echo", &greeting.to_string(), &answer.to_string()])
    }

    /// It takes WebSockets until `subscribers` are there; each text of the last one makes it write a text of `bytes`
    /// to all of them, without a WebSocket's code and one after the other.
    pub fn fan_out(subscribers: usize, bytes: usize) -> Self {
        Self::start(&["fan-out", &subscribers.to_string(), &bytes.to_string()])
    }

    fn start(arguments: &[&str]) -> Self {
        let address = free_address();
        let child = Command::new(std::env::current_exe().unwrap())
            .arg(CHILD)
            .arg(address.port().to_string())
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    /// Time that it has spent on all cores, in microseconds.
    pub fn spent(&self) -> f64 {
        machine::spent_by(self.child.id())
    }

    /// Connects as soon as it listens.
    pub async fn connect(&self) -> TcpStream {
        loop {
            match TcpStream::connect(self.address).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(std::time::Duration::from_micros(200)).await,
            }
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The server's process.
pub fn child(arguments: &[String]) {
    let number = |at: usize| arguments[at].parse::<usize>().unwrap();
    let port = u16::try_from(number(0)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        match arguments[1].as_str() {
            "echo" => echo(listener, number(2), number(3)).await,
            _ => fan_out(listener, number(2), number(3)).await,
        }
    });
}

async fn echo(listener: TcpListener, greeting: usize, answer: usize) {
    let text = |bytes| Message::text("x".repeat(bytes));
    let (greeting, answer) = (text(greeting), text(answer));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (greeting, answer) = (greeting.clone(), answer.clone());
        tokio::spawn(async move {
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
            if socket.send(greeting).await.is_err() {
                return;
            }
            while let Some(Ok(Message::Text(_))) = socket.next().await {
                // What has been read already is answered in one write.
                if socket.feed(answer.clone()).await.is_err() {
                    return;
                }
                loop {
                    match futures::poll!(socket.next()) {
                        std::task::Poll::Ready(Some(Ok(Message::Text(_)))) => {
                            if socket.feed(answer.clone()).await.is_err() {
                                return;
                            }
                        }
                        std::task::Poll::Ready(_) => return,
                        std::task::Poll::Pending => break,
                    }
                }
                if socket.flush().await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn fan_out(listener: TcpListener, subscribers: usize, bytes: usize) {
    let mut streams = Vec::new();
    let mut trigger = None;
    while streams.len() < subscribers {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        if streams.len() + 1 == subscribers && trigger.is_none() {
            trigger = Some(socket);
            continue;
        }
        streams.push(socket.into_inner());
    }
    let mut trigger = trigger.unwrap();
    // The head of an unmasked text frame of this length (RFC 6455, 5.2).
    let length = u16::try_from(bytes).unwrap();
    let mut frame = vec![0x81, 126];
    frame.extend(length.to_be_bytes());
    frame.resize(4 + bytes, b'x');
    while let Some(Ok(Message::Text(_))) = trigger.next().await {
        for stream in &mut streams {
            stream.write_all(&frame).await.unwrap();
        }
    }
}

/// What one commit takes on the disk of `dir`: a row in a table of its own, as durable as the store's.
pub fn commits(dir: &Path, args: &Args) -> Samples {
    let connection = Connection::open(dir.join("floor.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.pragma_update(None, "synchronous", "full").unwrap();
    connection.execute_batch("CREATE TABLE rows (id INTEGER PRIMARY KEY, bytes BLOB)").unwrap();
    let commit = || {
        let begun = Instant::now();
        connection.execute("INSERT INTO rows (bytes) VALUES (zeroblob(300))", []).unwrap();
        begun.elapsed()
    };
    (0..10).for_each(|_| _ = commit());
    (0..args.samples(500, 20)).map(|_| commit()).collect()
}
