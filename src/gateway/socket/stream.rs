//! The WebSocket itself: tungstenite over a stream that does not block.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use offshoot_frames::socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use super::MAX_PAYLOAD;

/// Small, because thousands of connections are idle; a large message grows the buffer for as long as it takes.
const READ_BUFFER: usize = 2 * 1024;

/// A client's WebSocket after the upgrade.
#[derive(Debug)]
pub(crate) struct Stream<S> {
    stream: S,
    context: WebSocketContext,
    /// Whether the end was read, or an error: nothing that comes behind that can be understood.
    ended: bool,
}

/// The stream, as one who is polled now sees it.
struct Polled<'a, 'b, S> {
    stream: &'a mut S,
    cx: &'a mut Context<'b>,
}

fn or_blocks<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: AsyncRead + Unpin> Read for Polled<'_, '_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut bytes = ReadBuf::new(bytes);
        or_blocks(Pin::new(&mut *self.stream).poll_read(self.cx, &mut bytes))?;
        Ok(bytes.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> Write for Polled<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_blocks(Pin::new(&mut *self.stream).poll_write(self.cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        or_blocks(Pin::new(&mut *self.stream).poll_flush(self.cx))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// Takes over a stream on which the upgrade was answered, and what was read behind that.
    pub(crate) fn new(stream: S, read: &Bytes) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(MAX_PAYLOAD))
            .max_frame_size(Some(MAX_PAYLOAD));
        // A copy: taken over as it is, it would keep the buffer of the HTTP connection, which is larger than ours.
        let context = WebSocketContext::from_partially_read(read.to_vec(), Role::Server, Some(config));
        Self { stream, context, ended: false }
    }

    /// Past the WebSocket: for whole frames, while nothing of its own is to be flushed.
    pub(super) const fn inner(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The next message; none at the end and after an error.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match socket::read(&mut self.context, &mut Polled { stream: &mut self.stream, cx }) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Ok(message) => Poll::Ready(Some(Ok(message))),
            Err(error) => {
                self.ended = true;
                let over = matches!(error, Error::ConnectionClosed | Error::AlreadyClosed);
                Poll::Ready((!over).then_some(Err(error)))
            }
        }
    }

    /// Writes the answers of its own: to pings, and to a close.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        written(self.context.flush(&mut Polled { stream: &mut self.stream, cx }))
    }

    /// Queues a close, and begins to write it.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>, close: CloseFrame) -> Poll<Result<(), Error>> {
        written(self.context.close(&mut Polled { stream: &mut self.stream, cx }, Some(close)))
    }
}

/// Whether it is written. Where both sides have said that they close, it is.
fn written(done: Result<(), Error>) -> Poll<Result<(), Error>> {
    match done {
        Err(Error::ConnectionClosed) => Poll::Ready(Ok(())),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        done => Poll::Ready(done),
    }
}
