//! The task that owns a client's WebSocket: frames in to the connection actor, frames out of the outbox.

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::outbox::{Close, Outbox};
use super::wire::is_overspent;

/// The largest message of a client that is known (`policy.maxPayload`).
pub(crate) const MAX_PAYLOAD: usize = 26_214_400;
/// Small, because thousands of connections are idle; a large message grows the buffer for as long as it takes.
const READ_BUFFER: usize = 4 * 1024;
const WRITE_BUFFER: usize = 16 * 1024;
/// Frames that are written before the socket is flushed and read again.
const BATCH: usize = 64;
/// How long one batch may take to be written. A client that reads nothing for so long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// How long a client may take to answer a close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A message of the client, with its place among those in work: the next one is read when a place is free.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) text: Utf8Bytes,
    pub(crate) place: OwnedSemaphorePermit,
}

/// Takes over a stream on which the upgrade was answered.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin>(stream: S, read: Bytes) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(MAX_PAYLOAD))
        .max_frame_size(Some(MAX_PAYLOAD));
    WebSocketStream::from_partially_read(stream, read.into(), Role::Server, Some(config)).await
}

/// Works until the connection is closed, by whomever. Says why it ended.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    outbox: Arc<Outbox>,
    places: Arc<Semaphore>,
    mut heard: impl FnMut(Incoming) -> bool,
) -> String {
    let mut frames = Vec::new();
    loop {
        let incoming = async {
            // Never closed: the semaphore has no other owner that would.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, socket.next().await)
        };
        tokio::select! {
            biased;
            close = outbox.take(BATCH, &mut frames) => {
                if let Some(close) = close {
                    return finish(socket, close).await;
                }
                match timeout(WRITE_WITHIN, write(&mut socket, &mut frames)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error.to_string(),
                    Err(_) => return format!("it took nothing for {} s", WRITE_WITHIN.as_secs()),
                }
            }
            (place, message) = incoming => {
                let Some(place) = place else { return "closed".to_owned() };
                match message {
                    Some(Ok(Message::Text(text))) => {
                        if !heard(Incoming { text, place }) {
                            return "its actor is gone".to_owned();
                        }
                    }
                    Some(Ok(Message::Binary(_))) => {
                        return finish(socket, Close::new(1003, "only text frames are understood")).await;
                    }
                    // The answer to a ping is written with the next flush.
                    Some(Ok(Message::Ping(_))) => {
                        if let Err(error) = socket.flush().await {
                            return error.to_string();
                        }
                    }
                    Some(Ok(Message::Pong(_) | Message::Frame(_) | Message::Close(_))) => {}
                    Some(Err(error)) => return failed(socket, error).await,
                    None => return "the client closed it".to_owned(),
                }
            }
        }
    }
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    frames: &mut Vec<Utf8Bytes>,
) -> Result<(), Error> {
    for frame in frames.drain(..) {
        socket.feed(Message::Text(frame)).await?;
    }
    socket.flush().await
}

async fn failed<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<S>, error: Error) -> String {
    let text = error.to_string();
    match error {
        Error::Io(error) if is_overspent(&error) => {
            finish(socket, Close::new(1009, "preauth payload too large")).await
        }
        Error::Capacity(_) => finish(socket, Close::new(1009, "payload too large")).await,
        Error::Utf8(_) => finish(socket, Close::new(1007, "invalid utf-8")).await,
        Error::Protocol(_) => finish(socket, Close::new(1002, "protocol error")).await,
        _ => text,
    }
}

/// Sends a close and gives the client a moment to answer it.
async fn finish<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, close: Close) -> String {
    let text =
        if close.reason.is_empty() { format!("closed with {}", close.code) } else { close.reason.clone() };
    let frame = CloseFrame { code: close.code.into(), reason: close.reason.into() };
    let answered = async {
        if socket.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    // Whoever does not answer is cut off.
    let _ = timeout(CLOSE_WITHIN, answered).await;
    text
}
