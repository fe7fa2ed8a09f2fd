//! The way in: what is there is read together, and handed on when there is room for its bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::{MAX_PAYLOAD, Stream};

/// Bytes of requests that one client may have in work: one of the largest while another is read.
const ROOM: usize = 2 * MAX_PAYLOAD;
/// Messages that are handed on together. One hand-over of many costs the client's actor as much as one of a single one.
const BATCH: usize = 256;
/// Bytes of messages that are handed on together, but for the last of them.
const BATCH_BYTES: usize = 64 * 1024;

/// Messages of the client, in their order.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    texts: VecDeque<Utf8Bytes>,
    /// Their bytes among those that one client may have in memory.
    room: Option<OwnedSemaphorePermit>,
}

/// A message, and its place in memory.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) text: Utf8Bytes,
    pub(crate) room: Room<'a>,
}

/// The place of a message in memory.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    of: &'a mut Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Room<'_> {
    /// Keeps it for longer than the messages that came together with it.
    pub(crate) fn keep(self) -> Option<OwnedSemaphorePermit> {
        self.of.as_mut()?.split(self.bytes)
    }
}

impl Heard {
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> Option<Incoming<'_>> {
        let text = self.texts.pop_front()?;
        let bytes = text.len();
        Some(Incoming { text, room: Room { of: &mut self.room, bytes } })
    }
}

/// What the client's side comes to next.
pub(super) enum Next {
    /// Messages that were there.
    Heard(Heard),
    /// Anything else, or the end of the stream.
    Other(Option<Result<Message, Error>>),
}

/// Wakes the socket's task because there is something to read. Most of the time it is woken because there is something to
/// write, and need not ask.
#[derive(Default)]
struct Readable {
    is: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Readable {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// What is read, and not handed on yet.
pub(super) struct Intake {
    readable: Arc<Readable>,
    waker: Waker,
    /// Whether there was nothing to read when it was last asked.
    dry: bool,
    room: Arc<Semaphore>,
    texts: VecDeque<Utf8Bytes>,
    bytes: usize,
    /// Until there is room for them.
    waits: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
    /// Read behind the last text.
    other: Option<Option<Result<Message, Error>>>,
}

impl Default for Intake {
    fn default() -> Self {
        let readable = Arc::new(Readable::default());
        Self {
            waker: Waker::from(Arc::clone(&readable)),
            readable,
            dry: false,
            room: Arc::new(Semaphore::new(ROOM)),
            texts: VecDeque::new(),
            bytes: 0,
            waits: None,
            other: None,
        }
    }
}

impl Intake {
    /// What comes next: of texts all that are there already.
    pub(super) fn poll_next<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Stream<S>,
    ) -> Poll<Next> {
        if self.texts.is_empty() {
            if let Some(other) = self.other.take() {
                return Poll::Ready(Next::Other(other));
            }
            self.readable.task.register(cx.waker());
            if self.dry && !self.readable.is.swap(false, Ordering::Acquire) {
                return Poll::Pending;
            }
            self.read(socket);
            if self.texts.is_empty() {
                return match self.other.take() {
                    Some(other) => Poll::Ready(Next::Other(other)),
                    None => Poll::Pending,
                };
            }
        }
        let room = ready!(self.poll_room(cx));
        self.bytes = 0;
        Poll::Ready(Next::Heard(Heard { texts: std::mem::take(&mut self.texts), room }))
    }

    fn read<S: AsyncRead + AsyncWrite + Unpin>(&mut self, socket: &mut Stream<S>) {
        let mut cx = Context::from_waker(&self.waker);
        self.dry = false;
        while self.texts.len() < BATCH && self.bytes < BATCH_BYTES {
            match socket.poll_next(&mut cx) {
                Poll::Pending => {
                    self.dry = true;
                    return;
                }
                Poll::Ready(Some(Ok(Message::Text(text)))) => {
                    self.bytes += text.len();
                    self.texts.push_back(text);
                }
                Poll::Ready(other) => {
                    self.other = Some(other);
                    return;
                }
            }
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Option<OwnedSemaphorePermit>> {
        let bytes = u32::try_from(self.bytes).unwrap_or(u32::MAX);
        let room = &self.room;
        if self.waits.is_none()
            && let Ok(room) = Arc::clone(room).try_acquire_many_owned(bytes)
        {
            return Poll::Ready(Some(room));
        }
        let waits = self.waits.get_or_insert_with(|| {
            // It is never closed.
            Arc::clone(room).acquire_many_owned(bytes).map(Result::ok).boxed()
        });
        let room = ready!(waits.as_mut().poll(cx));
        self.waits = None;
        Poll::Ready(room)
    }
}
