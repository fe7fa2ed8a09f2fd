//! What waits to be written to one client: bounded, in order, numbered.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::methods::Answer;
use crate::protocol::event::EventText;
use crate::protocol::frame;

/// Bytes that may wait for one client (`policy.maxBufferedBytes`).
pub(crate) const MAX_BUFFERED: usize = 52_428_800;

/// Bytes that are taken to be written at once. What waits is shared with other clients, what is taken is this one's own:
/// hundreds that do not read must not have a copy of much.
const MAX_TAKEN: usize = 64 * 1024;

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

#[derive(Debug)]
enum Item {
    Text(Utf8Bytes),
    Event(EventText, u64),
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Event(event, _) => event.bytes(),
        }
    }

    fn into_text(self) -> Utf8Bytes {
        match self {
            Self::Text(text) => text,
            Self::Event(event, seq) => event.with_seq(seq).into(),
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// The number of the last event, also of one that was left out.
    seq: u64,
    close: Option<Close>,
    /// Whether it is closed at once, whatever is being written.
    cut: bool,
    /// Whether more comes in a moment.
    held: bool,
}

impl Queue {
    fn cut(&mut self, close: Close) {
        self.close.get_or_insert(close);
        self.cut = true;
        self.items = VecDeque::new();
        self.bytes = 0;
    }

    /// How many frames are taken next: one at least, if there is one.
    fn batch(&self, most: usize) -> usize {
        let mut bytes = 0;
        let fits = |item: &&Item| {
            bytes += item.len();
            bytes <= MAX_TAKEN
        };
        let fitting = self.items.iter().take(most).take_while(fits).count();
        fitting.max(1).min(self.items.len())
    }
}

/// Whoever queues several frames that can be written together.
pub(crate) struct Held<'a>(&'a Outbox);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.held = false;
        if !queue.items.is_empty() {
            drop(queue);
            self.0.wake.notify_one();
        }
    }
}

/// The door to a client's socket. Whoever writes never waits; the socket's task takes it from here.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    wake: Notify,
    /// A close was asked for.
    ends: Notify,
}

impl Outbox {
    /// Queues a frame that is complete: a response, or an event without a number.
    pub(crate) fn text(&self, text: String) {
        self.push(|_| Item::Text(text.into()), Lossy::Needed);
    }

    /// Queues the answer to a request.
    pub(crate) fn answer(&self, id: &str, answer: &Answer) {
        let text = match answer {
            Ok(payload) => frame::response(id, payload),
            Err(error) => frame::refusal(id, error),
        };
        match text {
            Ok(text) => self.text(text),
            Err(error) => tracing::error!(%error, "an answer could not be written"),
        }
    }

    /// Queues an event under the client's next number.
    pub(crate) fn event(&self, event: &EventText, lossy: Lossy) {
        self.push(
            |queue| {
                queue.seq += 1;
                Item::Event(event.clone(), queue.seq)
            },
            lossy,
        );
    }

    fn push(&self, item: impl FnOnce(&mut Queue) -> Item, lossy: Lossy) {
        let mut queue = self.lock();
        if queue.close.is_some() {
            return;
        }
        let item = item(&mut queue);
        if queue.bytes.saturating_add(item.len()) > MAX_BUFFERED {
            if lossy == Lossy::Needed {
                queue.cut(Close::new(1008, "slow consumer"));
                drop(queue);
                self.wake.notify_one();
                self.ends.notify_one();
            }
            return;
        }
        queue.bytes += item.len();
        queue.items.push_back(item);
        // A task that is at work looks again before it waits.
        let first = queue.items.len() == 1 && !queue.held;
        drop(queue);
        if first {
            self.wake.notify_one();
        }
    }

    /// Wakes nobody for what is queued until the guard is dropped.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.lock().held = true;
        Held(self)
    }

    /// Closes the connection after what waits is written. The first close counts.
    pub(crate) fn close(&self, close: Close) {
        self.lock().close.get_or_insert(close);
        self.wake.notify_one();
        self.ends.notify_one();
    }

    /// Closes the connection at once: nothing that waits is written, and what is being written is broken off.
    pub(crate) fn cut(&self, close: Close) {
        self.lock().cut(close);
        self.wake.notify_one();
        self.ends.notify_one();
    }

    /// Resolves when writing is over, whatever waits: at once where the connection is cut, else so long after its close was
    /// asked for.
    pub(crate) async fn over(&self, within: Duration) -> Close {
        loop {
            let ends = self.ends.notified();
            let asked = {
                let queue = self.lock();
                queue.close.clone().map(|close| (close, queue.cut))
            };
            match asked {
                None => ends.await,
                Some((close, true)) => return close,
                Some((close, false)) => {
                    if timeout(within, ends).await.is_err() {
                        return close;
                    }
                }
            }
        }
    }

    /// Takes up to `most` frames of a bounded length together, and waits for the first. The close, once all is taken and
    /// the connection is to be closed.
    pub(crate) async fn take(&self, most: usize, into: &mut Vec<Utf8Bytes>) -> Option<Close> {
        loop {
            let wake = self.wake.notified();
            {
                let mut queue = self.lock();
                let count = queue.batch(most);
                if count > 0 {
                    let taken: Vec<Item> = queue.items.drain(..count).collect();
                    queue.bytes -= taken.iter().map(Item::len).sum::<usize>();
                    if queue.items.is_empty() {
                        queue.items.shrink_to(8);
                    }
                    let more = !queue.items.is_empty() || queue.close.is_some();
                    drop(queue);
                    if more {
                        self.wake.notify_one();
                    }
                    into.extend(taken.into_iter().map(Item::into_text));
                    return None;
                }
                if let Some(close) = &queue.close {
                    return Some(close.clone());
                }
            }
            wake.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> EventText {
        EventText::of("chat", &text, None).unwrap()
    }

    async fn taken(outbox: &Outbox) -> Vec<String> {
        let mut frames = Vec::new();
        assert_eq!(outbox.take(usize::MAX, &mut frames).await, None);
        frames.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn frames_come_in_order_and_events_are_numbered_from_one() {
        let outbox = Outbox::default();
        outbox.event(&event("a"), Lossy::Needed);
        outbox.text("response".to_owned());
        outbox.event(&event("b"), Lossy::Droppable);
        let frames = taken(&outbox).await;
        assert!(frames[0].contains("\"seq\":1"), "{frames:?}");
        assert_eq!(frames[1], "response");
        assert!(frames[2].contains("\"seq\":2"), "{frames:?}");
    }

    #[tokio::test]
    async fn a_droppable_event_without_room_leaves_a_gap() {
        let outbox = Outbox::default();
        outbox.text("x".repeat(MAX_BUFFERED));
        outbox.event(&event("lost"), Lossy::Droppable);
        assert_eq!(taken(&outbox).await.len(), 1);
        outbox.event(&event("next"), Lossy::Needed);
        let frames = taken(&outbox).await;
        assert!(frames[0].contains("\"seq\":2"), "{frames:?}");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_closed_with_the_reason() {
        let outbox = Outbox::default();
        outbox.text("x".repeat(MAX_BUFFERED));
        outbox.event(&event("needed"), Lossy::Needed);
        let mut frames = Vec::new();
        let close = outbox.take(usize::MAX, &mut frames).await;
        assert_eq!(close, Some(Close::new(1008, "slow consumer")));
        assert!(frames.is_empty());
    }

    #[tokio::test]
    async fn what_was_queued_before_a_close_is_written_before_it() {
        let outbox = Outbox::default();
        outbox.text("last".to_owned());
        outbox.close(Close::new(1012, "service restart"));
        outbox.text("too late".to_owned());
        assert_eq!(taken(&outbox).await, ["last"]);
        let close = outbox.take(usize::MAX, &mut Vec::new()).await;
        assert_eq!(close, Some(Close::new(1012, "service restart")));
    }

    #[tokio::test]
    async fn a_cut_leaves_nothing_to_write_but_the_close() {
        let outbox = Outbox::default();
        outbox.text("secret".to_owned());
        outbox.cut(Close::new(4001, "device removed"));
        assert_eq!(outbox.over(Duration::MAX).await, Close::new(4001, "device removed"));
        let mut frames = Vec::new();
        assert_eq!(outbox.take(1, &mut frames).await, Some(Close::new(4001, "device removed")));
        assert!(frames.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_when_the_close_is_asked_for_has_so_long() {
        let outbox = Outbox::default();
        outbox.text("last".to_owned());
        outbox.close(Close::new(1012, "service restart"));
        let asked = tokio::time::Instant::now();
        assert_eq!(outbox.over(Duration::from_secs(5)).await, Close::new(1012, "service restart"));
        assert_eq!(asked.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn little_is_taken_at_once_however_much_waits() {
        let outbox = Outbox::default();
        let long = event(&"x".repeat(MAX_TAKEN / 2));
        for _ in 0..3 {
            outbox.event(&long, Lossy::Needed);
        }
        outbox.text("x".repeat(MAX_TAKEN * 2));
        for _ in 0..4 {
            assert_eq!(taken(&outbox).await.len(), 1);
        }
        outbox.text("a".to_owned());
        outbox.text("b".to_owned());
        assert_eq!(taken(&outbox).await, ["a", "b"]);
    }

    #[test]
    fn a_reason_fits_its_frame() {
        let close = Close::new(1008, "ä".repeat(100));
        assert_eq!(close.reason.len(), 122);
    }
}
