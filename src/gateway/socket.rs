//! The task that owns a client's WebSocket: messages in to the connection actor, frames out of the outbox.
//!
//! What comes in is read by tungstenite. What goes out is written past it, as it lies in the outbox: a text that many
//! clients get is not copied for each of them. Only the answers of its own, to pings and to a close, go out by tungstenite,
//! and never while a frame of ours is under way.

mod intake;
mod stream;
mod turns;
mod writer;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Sleep, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

pub(crate) use self::intake::{Heard, Incoming};
use self::intake::{Intake, Next};
pub(crate) use self::stream::Stream;
use self::turns::Turn;
pub(crate) use self::turns::Turns;
use self::writer::{Writer, Wrote};
use super::outbox::{Close, Look, Outbox};
use super::wire::{Metered, is_overspent};
use crate::metrics::WIRE;

/// The largest message of a client that is known (`policy.maxPayload`).
pub(crate) const MAX_PAYLOAD: usize = 26_214_400;
/// How long what was taken together may take to be written. A client that reads nothing for so long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// How long what waits may take to be written once the connection is to be closed.
const LAST_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take to answer a close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Bytes that are thrown away behind a close of ours, so that it is read: a socket that is closed over unread bytes takes
/// back what it has sent. As many as are under way from a client that stops when it hears of the close.
const LINGER: usize = 1024 * 1024;
/// Bytes of them that are read at once.
const SCRATCH: usize = 2 * 1024;

/// How a connection ends.
enum End {
    /// With a close of ours.
    Close(Close),
    /// Nobody is there to be told; this is why.
    Gone(String),
}

/// Works until the connection is closed, by whomever. Says why it ended. `heard` gets the client's messages, and whoever
/// has worked them off says so to the outbox.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    socket: Stream<Metered<S>>,
    outbox: Arc<Outbox>,
    turns: Turns,
    mut heard: impl FnMut(Heard) -> bool,
) -> String {
    let mut work = Work::new(socket, outbox, turns);
    match poll_fn(|cx| work.poll(cx, &mut heard)).await {
        // Boxed: an idle connection does not carry what its end takes.
        End::Close(close) => Box::pin(finish(work.socket, work.writer, close)).await,
        End::Gone(why) => why,
    }
}

/// The socket and what is under way on it.
struct Work<S> {
    socket: Stream<Metered<S>>,
    outbox: Arc<Outbox>,
    writer: Writer,
    /// To write something large.
    turn: Turn,
    intake: Intake,
    /// A ping or a close came, whose answer is to go out.
    answers: bool,
    /// The client closes: nothing is written any more but the answer to that.
    closing: bool,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Runs since the close was asked for.
    last: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Work<S> {
    fn new(socket: Stream<Metered<S>>, outbox: Arc<Outbox>, turns: Turns) -> Self {
        Self {
            socket,
            outbox,
            writer: Writer::default(),
            turn: Turn::new(turns),
            intake: Intake::default(),
            answers: false,
            closing: false,
            stalled: None,
            last: None,
        }
    }

    /// Writes what there is to write, and reads on only when all of it is written.
    fn poll(&mut self, cx: &mut Context<'_>, hear: &mut impl FnMut(Heard) -> bool) -> Poll<End> {
        loop {
            let heard = match self.look(cx) {
                Ok(heard) => heard,
                Err(end) => return Poll::Ready(end),
            };
            if self.answers || !self.writer.is_empty() {
                match self.poll_write(cx) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(why)) => return Poll::Ready(End::Gone(why)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if heard {
                return Poll::Pending;
            }
            match self.intake.poll_next(cx, &mut self.socket) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => {
                    if let Some(end) = self.on_next(next, hear) {
                        return Poll::Ready(end);
                    }
                }
            }
        }
    }

    /// Takes what is to be written. Whether messages are in the actor's hands, or how the connection ends.
    fn look(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let has = !self.writer.is_empty() || self.closing;
        let (heard, close) = match self.outbox.look(cx.waker(), has, self.writer.waiting()) {
            Look::Close(close) => return Err(End::Close(close)),
            Look::On { heard, close } => (heard, close),
        };
        self.writer.prepare();
        if let Some(close) = close {
            // One for the whole life: what waits when the close is asked for has its time once.
            let last = self.last.get_or_insert_with(|| Box::pin(sleep(LAST_WITHIN)));
            if last.as_mut().poll(cx).is_ready() {
                return Err(End::Close(close));
            }
        }
        Ok(heard)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        let wrote = if self.answers {
            self.socket.poll_flush(cx).map_ok(|()| {
                self.answers = false;
                Wrote::All
            })
        } else {
            if self.writer.is_large() {
                ready!(self.turn.poll(cx));
            }
            let wrote = self.writer.poll_write(cx, self.socket.inner()).map_err(Error::Io);
            self.turn.over();
            wrote
        };
        match wrote {
            Poll::Ready(Ok(Wrote::All)) => {
                self.stalled = None;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(Wrote::Much)) => {
                // Others have their turn before the rest.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.to_string())),
            Poll::Pending => {
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_WITHIN)));
                let why = || Err(format!("it took nothing for {} s", WRITE_WITHIN.as_secs()));
                stalled.as_mut().poll(cx).map(|()| why())
            }
        }
    }

    fn on_next(&mut self, next: Next, hear: &mut impl FnMut(Heard) -> bool) -> Option<End> {
        match next {
            Next::Heard(heard) => {
                WIRE.frames_in.add(heard.len() as u64);
                self.outbox.hear();
                (!hear(heard)).then(|| End::Gone("its actor is gone".to_owned()))
            }
            Next::Other(Some(Ok(Message::Ping(_)))) => {
                self.answers = true;
                None
            }
            Next::Other(Some(Ok(Message::Binary(_)))) => {
                Some(End::Close(Close::new(1003, "only text frames are understood")))
            }
            Next::Other(Some(Ok(Message::Close(_)))) => {
                (self.answers, self.closing) = (true, true);
                None
            }
            Next::Other(Some(Ok(_))) => None,
            Next::Other(Some(Err(error))) => Some(failed(error)),
            Next::Other(None) => Some(End::Gone("the client closed it".to_owned())),
        }
    }
}

fn failed(error: Error) -> End {
    let close = match error {
        Error::Io(error) if is_overspent(&error) => Close::new(1009, "preauth payload too large"),
        Error::Capacity(_) => Close::new(1009, "payload too large"),
        Error::Utf8(_) => Close::new(1007, "invalid utf-8"),
        Error::Protocol(_) => Close::new(1002, "protocol error"),
        other => return End::Gone(other.to_string()),
    };
    End::Close(close)
}

/// Sends a close and gives the client a moment to answer it.
async fn finish<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: Stream<Metered<S>>,
    mut writer: Writer,
    close: Close,
) -> String {
    let text =
        if close.reason.is_empty() { format!("closed with {}", close.code) } else { close.reason.clone() };
    let frame = CloseFrame { code: close.code.into(), reason: close.reason.into() };
    let answered = async {
        // A frame that is begun comes to its end: the close is one of its own.
        if writer.finish(socket.inner()).await.is_ok() && send_close(&mut socket, frame).await {
            while let Some(Ok(_)) = poll_fn(|cx| socket.poll_next(cx)).await {}
            linger(socket.inner().unmetered()).await;
        }
    };
    // Whoever does not answer is cut off.
    let _ = timeout(CLOSE_WITHIN, answered).await;
    text
}

/// Whether the client can get it.
async fn send_close<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Stream<Metered<S>>,
    frame: CloseFrame,
) -> bool {
    let mut frame = Some(frame);
    let sent = poll_fn(|cx| match frame.take() {
        Some(frame) => socket.poll_close(cx, frame),
        // It is queued.
        None => socket.poll_flush(cx),
    });
    sent.await.is_ok()
}

/// Ends our side, and throws away what still comes.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let (mut scratch, mut left) = (vec![0; SCRATCH], LINGER);
    while left > 0 {
        match stream.read(&mut scratch).await {
            Ok(0) | Err(_) => return,
            Ok(read) => left = left.saturating_sub(read),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
