//! What waits to be written to one client: bounded, in order, numbered.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use offshoot_frames::text::{self as framing, MAX_HEAD};

use super::methods::Answer;
use crate::metrics::WIRE;
use crate::protocol::event::EventText;
use crate::protocol::frame;

/// Bytes that may wait for one client (`policy.maxBufferedBytes`).
pub(crate) const MAX_BUFFERED: usize = 52_428_800;

/// Bytes that are taken to be written at once. What waits is shared with other clients, what is taken is this one's own:
/// hundreds that do not read must not have a copy of much.
const MAX_TAKEN: usize = 64 * 1024;
/// A text up to here is copied to the others beside it; a longer one is written from where it is.
pub(crate) const SMALL: usize = 4 * 1024;
/// Frames that lie together, in bytes.
pub(crate) const TOGETHER: usize = 32 * 1024;

/// How a connection is to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

impl Close {
    /// A close frame holds 123 bytes of reason; the rest is cut at a character.
    pub(crate) fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(123));
        Self { code, reason }
    }
}

/// What becomes of an event that finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lossy {
    /// It is left out; the gap in the numbers shows it.
    Droppable,
    /// The client is closed: it would go on with less than it must know.
    Needed,
}

/// What waits.
#[derive(Debug)]
pub(crate) enum Item {
    /// Whole frames.
    Frames(Vec<u8>),
    /// A long text, without its frame.
    Text(String),
    /// An event, and its number here.
    Event(EventText, u64),
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Frames(bytes) => bytes.len(),
            Self::Text(text) => text.len(),
            Self::Event(event, _) => event.bytes(),
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// The number of the last event, also of one that was left out.
    seq: u64,
    /// The number of the last event that the socket's task took.
    taken: u64,
    close: Option<Close>,
    /// Whether it is closed at once, whatever is being written.
    cut: bool,
    /// Whether more comes in a moment: answers that are expected, this one included.
    held: usize,
    /// Whether messages of the client are in its actor's hands. No more are read meanwhile.
    heard: bool,
    /// The socket's task, if it waits.
    waits: Option<Waker>,
    /// Whether it waits for the client to take what is being written: only the end is news for it.
    stalled: bool,
}

impl Queue {
    fn cut(&mut self, close: Close) {
        self.close.get_or_insert(close);
        self.cut = true;
        self.items = VecDeque::new();
        self.bytes = 0;
    }

    /// Whether there is room for so many bytes. Without it the client is closed, unless it can do without them.
    fn has_room(&mut self, bytes: usize, lossy: Lossy) -> bool {
        if self.close.is_some() {
            return false;
        }
        let room = self.bytes.saturating_add(bytes) <= MAX_BUFFERED;
        match lossy {
            _ if room => WIRE.frames_out.one(),
            Lossy::Droppable => WIRE.dropped_events.one(),
            Lossy::Needed => {
                WIRE.slow_closed.one();
                self.cut(Close::new(1008, "slow consumer"));
            }
        }
        room
    }

    fn push(&mut self, item: Item) {
        self.bytes += item.len();
        self.items.push_back(item);
    }

    /// Appends frames of about that length to those that wait.
    fn append<T>(&mut self, length: usize, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if !matches!(self.items.back(), Some(Item::Frames(frames)) if frames.len() + length <= TOGETHER) {
            let expected = length.saturating_mul(self.held.max(1)).min(TOGETHER).max(length);
            self.items.push_back(Item::Frames(Vec::with_capacity(expected)));
        }
        let Some(Item::Frames(frames)) = self.items.back_mut() else { return write(&mut Vec::new()) };
        let before = frames.len();
        let written = write(frames);
        self.bytes += frames.len() - before;
        written
    }

    /// Takes frames of a bounded length: one at least, if there is one.
    fn take(&mut self, into: &mut VecDeque<Item>) {
        if self.bytes <= MAX_TAKEN {
            std::mem::swap(&mut self.items, into);
            self.bytes = 0;
            self.taken = self.seq;
            return;
        }
        let mut taken = 0;
        while let Some(item) = self.items.pop_front_if(|item| taken == 0 || taken + item.len() <= MAX_TAKEN) {
            taken += item.len();
            if let Item::Event(_, seq) = &item {
                self.taken = *seq;
            }
            into.push_back(item);
        }
        self.bytes -= taken;
        if self.items.is_empty() {
            self.items.shrink_to(8);
        }
    }
}

/// Whoever queues answers that can be written together.
pub(crate) struct Held<'a>(&'a Outbox);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.held = 0;
        if !queue.items.is_empty() || !queue.heard {
            Outbox::tell(queue);
        }
    }
}

/// What the socket's task finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The connection is to be closed now.
    Close(Close),
    /// It goes on; `heard` messages are in the hands of the client's actor. It is to be closed when all is written, or
    /// that takes too long.
    On { heard: bool, close: Option<Close> },
}

/// The door to a client's socket. Whoever writes never waits; the socket's task takes it from here.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
}

impl Outbox {
    /// Queues a text that is complete: a response, or an event without a number.
    pub(crate) fn text(&self, text: String) {
        self.put(text.len(), Lossy::Needed, |queue| {
            if text.len() > SMALL {
                return queue.push(Item::Text(text));
            }
            queue.append(text.len() + MAX_HEAD, |into| {
                framing::head(text.len(), into);
                into.extend_from_slice(text.as_bytes());
            });
        });
    }

    /// Queues the answer to a request.
    pub(crate) fn answer(&self, id: &str, answer: &Answer) {
        let text = match answer {
            Ok(payload) if payload.get().len() <= SMALL => return self.small_answer(id, payload.get()),
            Ok(payload) => {
                let payload = payload.get();
                let mut text = Vec::with_capacity(payload.len() + 2 * frame::MAX_ID);
                frame::write_response(id, payload, &mut text)
                    .map(|()| String::from_utf8(text).unwrap_or_default())
            }
            Err(error) => frame::refusal(id, error),
        };
        match text {
            Ok(text) => self.text(text),
            Err(error) => tracing::error!(%error, "an answer could not be written"),
        }
    }

    /// Writes it where it lies until it goes out.
    fn small_answer(&self, id: &str, payload: &str) {
        let length = payload.len() + id.len() + 2 * MAX_HEAD + frame::RESPONSE.len();
        self.put(length, Lossy::Needed, |queue| {
            let written = queue.append(length, |into| frame::append_response(id, payload, into));
            if let Err(error) = written {
                tracing::error!(%error, "an answer could not be written");
            }
        });
    }

    /// Queues an event under the client's next number.
    pub(crate) fn event(&self, event: &EventText, lossy: Lossy) {
        let mut queue = self.lock();
        if queue.close.is_none() {
            queue.seq += 1;
        }
        let seq = queue.seq;
        Self::put_into(queue, event.bytes(), lossy, |queue| queue.push(Item::Event(event.clone(), seq)));
    }

    /// Queues an event that the client can do without. Returns its number, if there was room.
    pub(crate) fn offer(&self, event: &EventText) -> Option<u64> {
        let mut queue = self.lock();
        let room = queue.has_room(event.bytes(), Lossy::Droppable);
        if room {
            queue.seq += 1;
            let seq = queue.seq;
            Self::put_into(queue, event.bytes(), Lossy::Droppable, |queue| {
                queue.push(Item::Event(event.clone(), seq));
            });
            return Some(seq);
        }
        None
    }

    /// Whether the client has taken the event of that number, as far as the socket tells.
    pub(crate) fn has_taken(&self, seq: u64) -> bool {
        let queue = self.lock();
        queue.taken >= seq && !queue.stalled
    }

    fn put(&self, bytes: usize, lossy: Lossy, put: impl FnOnce(&mut Queue)) {
        Self::put_into(self.lock(), bytes, lossy, put);
    }

    fn put_into(mut queue: MutexGuard<'_, Queue>, bytes: usize, lossy: Lossy, put: impl FnOnce(&mut Queue)) {
        if queue.has_room(bytes, lossy) {
            put(&mut queue);
            if queue.held == 0 {
                Self::tell(queue);
            }
        } else if queue.cut {
            Self::end(queue);
        }
    }

    /// Wakes nobody for what is queued until the guard is dropped; so many answers are expected.
    pub(crate) fn hold(&self, expected: usize) -> Held<'_> {
        self.lock().held = expected.max(1);
        Held(self)
    }

    /// The client's actor gets messages: no more are read until it has worked them off.
    pub(crate) fn hear(&self) {
        self.lock().heard = true;
    }

    /// The client's actor has worked off what it got.
    pub(crate) fn heard(&self) {
        let mut queue = self.lock();
        queue.heard = false;
        if queue.held == 0 {
            Self::tell(queue);
        }
    }

    /// Closes the connection after what waits is written. The first close counts.
    pub(crate) fn close(&self, close: Close) {
        let mut queue = self.lock();
        queue.close.get_or_insert(close);
        Self::end(queue);
    }

    /// Closes the connection at once: nothing that waits is written, and what is being written is broken off.
    pub(crate) fn cut(&self, close: Close) {
        let mut queue = self.lock();
        queue.cut(close);
        Self::end(queue);
    }

    /// Looks for the socket's task what there is to do, and takes frames of a bounded length `into` it unless it has some
    /// in hand. It is woken when that changes.
    pub(crate) fn look(&self, waker: &Waker, has: bool, into: &mut VecDeque<Item>) -> Look {
        let mut queue = self.lock();
        if queue.cut {
            return Look::Close(queue.close.clone().unwrap_or_else(|| Close::new(1000, "")));
        }
        if !has {
            queue.take(into);
        }
        if let Some(close) = &queue.close
            && !has
            && into.is_empty()
        {
            return Look::Close(close.clone());
        }
        queue.stalled = has;
        if !queue.waits.as_ref().is_some_and(|known| known.will_wake(waker)) {
            queue.waits = Some(waker.clone());
        }
        Look::On { heard: queue.heard, close: queue.close.clone() }
    }

    /// Tells the socket's task that there is something to do, if it waits for that.
    fn tell(queue: MutexGuard<'_, Queue>) {
        if !queue.stalled {
            Self::end(queue);
        }
    }

    fn end(mut queue: MutexGuard<'_, Queue>) {
        if let Some(task) = queue.waits.take() {
            drop(queue);
            task.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
