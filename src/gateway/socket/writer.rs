//! The way out: what was taken from the outbox, as bytes for the socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use offshoot_frames::text::{self as framing, MAX_HEAD};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::gateway::outbox::{Item, SMALL, TOGETHER};
use crate::protocol::event::EventText;

/// Bytes that are written before others have their turn.
const MUCH: usize = 64 * 1024;
/// Pieces that are written together.
const PIECES: usize = 8;
/// Pieces for which there is room while nothing is written.
const IDLE: usize = 4;

/// Bytes that lie together.
#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Text(String),
    /// An event up to its number, shared with other clients.
    Event(EventText),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
            Self::Event(event) => event.head().as_bytes(),
        }
    }
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// Nothing is left.
    All,
    /// As much as one may write at a time.
    Much,
}

/// What is being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    waiting: VecDeque<Item>,
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are written.
    at: usize,
    /// Whether some of the pieces were written.
    begun: bool,
    /// Whether some of them are too large to be copied.
    large: bool,
    /// Whether bytes that were written may still lie in the stream, as those of TLS do.
    unflushed: bool,
}

impl Writer {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && !self.unflushed
    }

    /// Whether something large is among it.
    pub(super) const fn is_large(&self) -> bool {
        self.large
    }

    /// Where to put what is to be prepared.
    pub(super) const fn waiting(&mut self) -> &mut VecDeque<Item> {
        &mut self.waiting
    }

    /// Makes bytes of what was put there. Small texts are copied to lie together, large ones are left where they are.
    pub(super) fn prepare(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut own = Vec::new();
        let mut left: usize = self.waiting.iter().map(copied).sum();
        for item in self.waiting.drain(..) {
            let bytes = copied(&item);
            if !own.is_empty() && own.len() + bytes > TOGETHER {
                self.pieces.push_back(Piece::Own(std::mem::take(&mut own)));
            }
            if own.capacity() == 0 && !matches!(item, Item::Frames(_)) {
                own.reserve_exact(left.min(TOGETHER).max(bytes));
            }
            left -= bytes;
            match item {
                Item::Frames(frames) if own.is_empty() => own = frames,
                Item::Frames(frames) => own.extend_from_slice(&frames),
                Item::Text(text) => {
                    framing::head(text.len(), &mut own);
                    self.pieces.push_back(Piece::Own(std::mem::take(&mut own)));
                    self.pieces.push_back(Piece::Text(text));
                    self.large = true;
                }
                Item::Event(event, seq) => {
                    framing::head(event.bytes_with(seq), &mut own);
                    if event.bytes() > SMALL {
                        self.pieces.push_back(Piece::Own(std::mem::take(&mut own)));
                        self.pieces.push_back(Piece::Event(event.clone()));
                        self.large = true;
                    } else {
                        own.extend_from_slice(event.head().as_bytes());
                    }
                    event.write_tail(seq, &mut own);
                }
            }
        }
        if !own.is_empty() {
            self.pieces.push_back(Piece::Own(own));
        }
        self.waiting.shrink_to(IDLE);
    }

    /// Writes on.
    pub(super) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut W,
    ) -> Poll<io::Result<Wrote>> {
        while !self.pieces.is_empty() {
            let asked = self.asked();
            let written = match self.pieces.front() {
                Some(piece) if self.pieces.len() == 1 => {
                    let bytes = &piece.bytes()[self.at..];
                    ready!(Pin::new(&mut *stream).poll_write(cx, &bytes[..asked]))?
                }
                _ => {
                    let mut slices = [IoSlice::new(&[]); PIECES];
                    let count = self.slices(asked, &mut slices);
                    ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
            self.unflushed = true;
            if written == MUCH && !self.pieces.is_empty() {
                return Poll::Ready(Ok(Wrote::Much));
            }
        }
        ready!(Pin::new(stream).poll_flush(cx))?;
        (self.begun, self.large, self.unflushed) = (false, false, false);
        self.pieces.shrink_to(IDLE);
        Poll::Ready(Ok(Wrote::All))
    }

    /// Bytes of the next write.
    fn asked(&self) -> usize {
        let all: usize = self.pieces.iter().take(PIECES).map(|piece| piece.bytes().len()).sum();
        (all - self.at).min(MUCH)
    }

    /// Fills in the bytes of the next write. Returns how many slices they take.
    fn slices<'a>(&'a self, mut left: usize, into: &mut [IoSlice<'a>; PIECES]) -> usize {
        let mut count = 0;
        let mut at = self.at;
        for (piece, slice) in self.pieces.iter().zip(into) {
            let bytes = &piece.bytes()[at..];
            let bytes = &bytes[..bytes.len().min(left)];
            *slice = IoSlice::new(bytes);
            (count, at, left) = (count + 1, 0, left - bytes.len());
            if left == 0 {
                break;
            }
        }
        count
    }

    fn advance(&mut self, written: usize) {
        self.begun = true;
        self.at += written;
        while let Some(piece) = self.pieces.front()
            && self.at >= piece.bytes().len()
        {
            self.at -= piece.bytes().len();
            self.pieces.pop_front();
        }
    }

    /// Writes what was begun to its end, and nothing that was not.
    pub(super) async fn finish<W: AsyncWrite + Unpin>(&mut self, stream: &mut W) -> io::Result<()> {
        if !self.begun {
            self.pieces.clear();
        }
        while let Some(piece) = self.pieces.pop_front() {
            stream.write_all(&piece.bytes()[self.at..]).await?;
            self.at = 0;
        }
        Ok(())
    }
}

/// Bytes of it that are copied, at most.
fn copied(item: &Item) -> usize {
    match item {
        Item::Frames(frames) => frames.len(),
        Item::Text(_) => MAX_HEAD,
        Item::Event(event, seq) if event.bytes() > SMALL => {
            MAX_HEAD + event.bytes_with(*seq) - event.head().len()
        }
        Item::Event(event, seq) => MAX_HEAD + event.bytes_with(*seq),
    }
}
