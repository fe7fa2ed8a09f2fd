//! The byte stream under a connection, which bounds how long a client of HTTP reads nothing, and counts what a client of
//! WebSockets sends before it is known.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::Bytes;

/// Bytes that are read ahead of whoever asks for less, while the client sends more than that.
const AHEAD: usize = 16 * 1024;
/// How long a client of HTTP may take nothing of what is written to it.
const WRITE_WITHIN: Duration = Duration::from_secs(30);

/// The stream of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    /// Runs while a write waits for the client; none where somebody else sees to that.
    stalled: Option<Stall>,
}

/// Plain or encrypted.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A write that waits for the client, if one does.
#[derive(Debug, Default)]
struct Stall(Option<Pin<Box<Sleep>>>);

impl Stall {
    /// Ends a write that has waited for too long.
    fn check<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.0 = None;
            return write;
        }
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_WITHIN)));
        sleep.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Wire {
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self { stream: Stream::Plain(stream), stalled: Some(Stall::default()) }
    }

    pub(crate) fn encrypted(stream: TlsStream<TcpStream>) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), stalled: Some(Stall::default()) }
    }

    /// From here on whoever writes sees to it that the client reads.
    pub(crate) fn wait_for_ever(&mut self) {
        self.stalled = None;
    }

    fn check<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut self.stalled {
            Some(stall) => stall.check(cx, write),
            None => write,
        }
    }
}

/// Bytes that a client may still send. Shared with whoever learns that the client is known.
#[derive(Debug, Clone)]
pub(crate) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    pub(crate) fn of(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// No limit from here on but that of a message.
    pub(crate) fn lift(&self) {
        self.0.store(usize::MAX, Ordering::Relaxed);
    }

    /// What is left; none where there is no limit.
    fn left(&self) -> Option<usize> {
        let left = self.0.load(Ordering::Relaxed);
        (left != usize::MAX).then_some(left)
    }

    fn spend(&self, bytes: usize) -> bool {
        // In one step: a limit that is lifted meanwhile stays lifted.
        let less = |left: usize| (left != usize::MAX).then(|| left.saturating_sub(bytes));
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(left) => bytes <= left,
            Err(_) => true,
        }
    }
}

/// The error of a read beyond the allowance.
pub(crate) fn is_overspent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::QuotaExceeded
}

/// A stream that ends with an error when the allowance is spent, or when a frame announces more than is left of it: room is
/// made for a frame as soon as its head is read.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: S,
    allowance: Allowance,
    heads: Heads,
    refused: bool,
    /// Whether the last read filled all of the room that it was given: there is more.
    filled: bool,
    ahead: Option<Box<Ahead>>,
}

/// Bytes that were read ahead. Nobody has them while a client is idle.
#[derive(Debug)]
struct Ahead {
    bytes: [u8; AHEAD],
    /// Those that nobody has taken yet.
    left: Range<usize>,
}

impl Ahead {
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let given = self.left.len().min(buf.remaining());
        buf.put_slice(&self.bytes[self.left.start..][..given]);
        self.left.start += given;
    }
}

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, allowance: Allowance) -> Self {
        Self { stream, allowance, heads: Heads::default(), refused: false, filled: false, ahead: None }
    }

    /// What was read before, if it may be looked at.
    pub(crate) fn after(&mut self, read: Bytes) -> Bytes {
        self.refused = !self.allowance.left().is_none_or(|left| self.heads.announce_at_most(left, &read));
        if self.refused { Bytes::new() } else { read }
    }

    /// The stream itself, to throw away what comes.
    pub(crate) const fn unmetered(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin> Metered<S> {
    /// Reads without a limit: much at once from a client that sends much at once.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.filled && self.ahead.is_none() {
            let before = buf.filled().len();
            let read = Pin::new(&mut self.stream).poll_read(cx, buf);
            self.filled = buf.remaining() == 0 && buf.filled().len() > before;
            return read;
        }
        let mut ahead = match self.ahead.take() {
            Some(ahead) => ahead,
            None => Box::new(Ahead { bytes: [0; AHEAD], left: 0..0 }),
        };
        if ahead.left.is_empty() {
            let mut more = ReadBuf::new(&mut ahead.bytes);
            // Without it there is no more, and the room for it is given back.
            self.filled = false;
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut more))?;
            ahead.left = 0..more.filled().len();
        }
        ahead.give(buf);
        self.ahead = Some(ahead);
        Poll::Ready(Ok(()))
    }
}

/// The heads of the frames in a stream of bytes.
#[derive(Debug, Default)]
struct Heads {
    /// The one that is being read.
    head: Vec<u8>,
    /// Bytes up to the next one.
    until: u64,
}

impl Heads {
    /// Whether no frame that begins in these bytes is longer than that.
    fn announce_at_most(&mut self, most: usize, mut bytes: &[u8]) -> bool {
        while let Some((first, rest)) = bytes.split_first() {
            if self.until > 0 {
                let skipped = usize::try_from(self.until).unwrap_or(usize::MAX).min(bytes.len());
                self.until -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head.push(*first);
            bytes = rest;
            if let Some(length) = self.announced() {
                if length > most as u64 {
                    return false;
                }
                self.until = length;
                self.head.clear();
            }
        }
        true
    }

    /// The length that the head announces, once it is whole.
    fn announced(&self) -> Option<u64> {
        let second = *self.head.get(1)?;
        let more = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let length = self.head.get(2..2 + more + mask)?.get(..more)?;
        let wide = length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        Some(if more == 0 { u64::from(second & 0x7f) } else { wide })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let refused = || Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        if self.refused {
            return refused();
        }
        let Some(left) = self.allowance.left() else { return self.poll_read_ahead(cx, buf) };
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let new = &buf.filled()[before..];
        if matches!(read, Poll::Ready(Ok(())))
            && !(self.heads.announce_at_most(left, new) && self.allowance.spend(new.len()))
        {
            return refused();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        let written = match &mut wire.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        wire.check(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        let written = match &mut wire.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        wire.check(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let flushed = match &mut wire.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        wire.check(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let shut = match &mut wire.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        wire.check(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_a_stranger_sends_is_counted_until_the_limit_is_lifted() {
        let (mut client, server) = tokio::io::duplex(1024);
        let allowance = Allowance::of(10);
        let mut server = Metered::new(server, allowance.clone());
        client.write_all(&[0; 10]).await.unwrap();
        server.read_exact(&mut [0; 10]).await.unwrap();
        client.write_all(&[0; 1]).await.unwrap();
        let error = server.read_exact(&mut [0; 1]).await.unwrap_err();
        assert!(is_overspent(&error), "{error}");
        allowance.lift();
        client.write_all(&[0; 1000]).await.unwrap();
        server.read_exact(&mut [0; 1000]).await.unwrap();
    }

    #[test]
    fn a_limit_that_is_lifted_while_something_is_counted_stays_lifted() {
        for _ in 0..200 {
            let allowance = Allowance::of(usize::MAX - 1);
            let begun = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    begun.wait();
                    for _ in 0..20_000 {
                        assert!(allowance.spend(1));
                    }
                });
                begun.wait();
                allowance.lift();
            });
            assert_eq!(allowance.left(), None);
        }
    }

    #[test]
    fn a_frame_that_announces_more_than_is_left_is_refused_by_its_head_alone() {
        let short = [0x81, 0x80 | 3, 1, 2, 3, 4, b'a', b'b', b'c'];
        let middle = |length: u16| [&[0x81, 0x80 | 126][..], &length.to_be_bytes(), &[0; 4]].concat();
        let long = |length: u64| [&[0x81, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
        for (bytes, expected) in [
            (short.to_vec(), true),
            (middle(1000), true),
            (middle(1001), false),
            (long(1000), true),
            (long(25 << 20), false),
            (long(u64::MAX), false),
            ([&short[..], &long(25 << 20)].concat(), false),
            ([&short[..], &short[..]].concat(), true),
        ] {
            assert_eq!(Heads::default().announce_at_most(1000, &bytes), expected, "{bytes:?}");
            let mut heads = Heads::default();
            let by_bytes = bytes.iter().all(|byte| heads.announce_at_most(1000, &[*byte]));
            assert_eq!(by_bytes, expected, "however it is cut: {bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_gets_no_further_ends_and_one_that_goes_on_slowly_does_not() {
        let pending = || Poll::<io::Result<usize>>::Pending;
        let mut stall = Stall::default();
        let waited = |stall: &mut Stall, write| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            stall.check(&mut cx, write)
        };
        for _ in 0..10 {
            assert!(waited(&mut stall, pending()).is_pending());
            tokio::time::advance(WRITE_WITHIN / 2).await;
            assert!(waited(&mut stall, pending()).is_pending());
            assert!(matches!(waited(&mut stall, Poll::Ready(Ok(1))), Poll::Ready(Ok(1))));
        }
        assert!(waited(&mut stall, pending()).is_pending());
        tokio::time::advance(WRITE_WITHIN).await;
        let Poll::Ready(Err(error)) = waited(&mut stall, pending()) else { panic!("it waits on") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
