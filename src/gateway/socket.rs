//! The task that owns a client's WebSocket: frames in to the connection actor, frames out of the outbox.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::outbox::{Close, Outbox};
use super::wire::{Metered, is_overspent};

/// The largest message of a client that is known (`policy.maxPayload`).
pub(crate) const MAX_PAYLOAD: usize = 26_214_400;
/// Bytes of requests that one client may have in work: one of the largest while another is read.
const ROOM: usize = 2 * MAX_PAYLOAD;
/// Small, because thousands of connections are idle; a large message grows the buffer for as long as it takes.
const READ_BUFFER: usize = 2 * 1024;
/// Bytes that are written together.
const WRITE_BUFFER: usize = 64 * 1024;
/// Frames that are written before the socket is flushed and read again.
const BATCH: usize = 64;
/// How long one batch may take to be written. A client that reads nothing for so long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// How long what waits may take to be written once the connection is to be closed.
const LAST_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take to answer a close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Bytes that are thrown away behind a close of ours, so that it is read: a socket that is closed over unread bytes takes
/// back what it has sent. As many as are under way from a client that stops when it hears of the close.
const LINGER: usize = 1024 * 1024;

/// A message of the client, with its place among those in work: the next one is read when a place is free.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) text: Utf8Bytes,
    pub(crate) place: OwnedSemaphorePermit,
    /// Its bytes among those that one client may have in memory.
    pub(crate) room: OwnedSemaphorePermit,
}

/// What the client's side comes to next.
enum Next {
    /// Messages that were there, with their places, in their order.
    Texts(Vec<Incoming>),
    /// Anything else, or the end of the stream.
    Other(Option<Result<Message, Error>>),
    /// There are no places any more.
    Closed,
}

/// The way in: a message is read when there is a place for it, and handed on when there is room for its bytes.
struct Intake {
    places: Arc<Semaphore>,
    room: Arc<Semaphore>,
    /// Read, and without room yet.
    text: Option<(Utf8Bytes, OwnedSemaphorePermit)>,
    /// Read behind the last text.
    other: Option<Option<Result<Message, Error>>>,
}

impl Intake {
    fn new(places: Arc<Semaphore>) -> Self {
        Self { places, room: Arc::new(Semaphore::new(ROOM)), text: None, other: None }
    }

    /// What comes next: of texts all that are there already and find places. One hand-over of many costs the client's actor
    /// as much as one of a single message. Nothing is lost if this is not waited for to the end.
    async fn next<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut WebSocketStream<Metered<S>>,
    ) -> Next {
        if let Some(other) = self.other.take() {
            return Next::Other(other);
        }
        if self.text.is_none() {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return Next::Closed };
            match socket.next().await {
                Some(Ok(Message::Text(text))) => self.text = Some((text, place)),
                other => return Next::Other(other),
            }
        }
        let bytes = self.text.as_ref().map_or(0, |(text, _)| length(text));
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(bytes).await else { return Next::Closed };
        let mut texts = Vec::new();
        texts.extend(self.text.take().map(|(text, place)| Incoming { text, place, room }));
        while texts.len() < BATCH {
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { break };
            match socket.next().now_or_never() {
                None => break,
                Some(Some(Ok(Message::Text(text)))) => {
                    let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(length(&text)) else {
                        self.text = Some((text, place));
                        break;
                    };
                    texts.push(Incoming { text, place, room });
                }
                Some(other) => {
                    self.other = Some(other);
                    break;
                }
            }
        }
        Next::Texts(texts)
    }
}

fn length(text: &Utf8Bytes) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// How a connection ends.
enum End {
    /// With a close of ours.
    Close(Close),
    /// Nobody is there to be told; this is why.
    Gone(String),
}

/// Takes over a stream on which the upgrade was answered.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: Metered<S>,
    read: Bytes,
) -> WebSocketStream<Metered<S>> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(MAX_PAYLOAD))
        .max_frame_size(Some(MAX_PAYLOAD));
    // A copy: taken over as it is, it would keep the buffer of the HTTP connection, which is larger than ours.
    WebSocketStream::from_partially_read(stream, read.to_vec(), Role::Server, Some(config)).await
}

/// Works until the connection is closed, by whomever. Says why it ended.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<Metered<S>>,
    outbox: Arc<Outbox>,
    places: Arc<Semaphore>,
    heard: impl FnMut(Vec<Incoming>) -> bool,
) -> String {
    match work(&mut socket, &outbox, places, heard).await {
        // Boxed: an idle connection does not carry what its end takes.
        End::Close(close) => Box::pin(finish(socket, close)).await,
        End::Gone(why) => why,
    }
}

async fn work<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<Metered<S>>,
    outbox: &Outbox,
    places: Arc<Semaphore>,
    mut heard: impl FnMut(Vec<Incoming>) -> bool,
) -> End {
    let mut frames = Vec::new();
    let mut intake = Intake::new(places);
    // One for the whole life: what waits when the close is asked for has its time once.
    let over = outbox.over(LAST_WITHIN);
    tokio::pin!(over);
    loop {
        tokio::select! {
            biased;
            close = &mut over => return End::Close(close),
            close = outbox.take(BATCH, &mut frames) => {
                if let Some(close) = close {
                    return End::Close(close);
                }
            }
            next = intake.next(socket) => match next {
                Next::Texts(texts) => {
                    if !heard(texts) {
                        return End::Gone("its actor is gone".to_owned());
                    }
                    continue;
                }
                // Its answer goes out with the flush below.
                Next::Other(Some(Ok(Message::Ping(_)))) => {}
                Next::Other(Some(Ok(Message::Binary(_)))) => {
                    return End::Close(Close::new(1003, "only text frames are understood"));
                }
                Next::Other(Some(Ok(_))) => continue,
                Next::Other(Some(Err(error))) => return failed(error),
                Next::Other(None) => return End::Gone("the client closed it".to_owned()),
                Next::Closed => return End::Gone("closed".to_owned()),
            },
        }
        let written = tokio::select! {
            biased;
            close = &mut over => return End::Close(close),
            written = in_time(write(socket, &mut frames)) => written,
        };
        if let Err(why) = written {
            return End::Gone(why);
        }
    }
}

/// Gives up a client that takes nothing, and says why.
async fn in_time(writing: impl Future<Output = Result<(), Error>>) -> Result<(), String> {
    match timeout(WRITE_WITHIN, writing).await {
        Ok(written) => written.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it took nothing for {} s", WRITE_WITHIN.as_secs())),
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
    mut socket: WebSocketStream<Metered<S>>,
    close: Close,
) -> String {
    let text =
        if close.reason.is_empty() { format!("closed with {}", close.code) } else { close.reason.clone() };
    let frame = CloseFrame { code: close.code.into(), reason: close.reason.into() };
    let answered = async {
        if socket.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
            linger(socket.get_mut().unmetered()).await;
        }
    };
    // Whoever does not answer is cut off.
    let _ = timeout(CLOSE_WITHIN, answered).await;
    text
}

/// Ends our side, and throws away what still comes.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let (mut scratch, mut left) = (vec![0; READ_BUFFER], LINGER);
    while left > 0 {
        match stream.read(&mut scratch).await {
            Ok(0) | Err(_) => return,
            Ok(read) => left = left.saturating_sub(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::wire::Allowance;
    use super::*;

    /// A client that reads nothing, while something is being written to it.
    async fn stuck() -> (Arc<Outbox>, tokio::task::JoinHandle<String>, tokio::io::DuplexStream) {
        let (client, server) = tokio::io::duplex(64);
        let outbox = Arc::new(Outbox::default());
        outbox.text("x".repeat(1_000_000));
        let out = Arc::clone(&outbox);
        let running = tokio::spawn(async move {
            let socket = open(Metered::new(server, Allowance::of(1)), Bytes::new()).await;
            run(socket, out, Arc::new(Semaphore::new(1)), |_| true).await
        });
        // The clock moves on its own only when nothing else does: it is stuck in its write by then.
        tokio::time::sleep(Duration::from_secs(1)).await;
        (outbox, running, client)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_cut_off_goes_at_once_even_if_it_reads_nothing() {
        let (outbox, running, _client) = stuck().await;
        let asked = Instant::now();
        outbox.cut(Close::new(4001, "device removed"));
        assert_eq!(running.await.unwrap(), "device removed");
        assert!(asked.elapsed() <= CLOSE_WITHIN, "{:?}", asked.elapsed());
    }

    #[tokio::test]
    async fn what_is_in_work_is_bounded_in_bytes_and_read_on_as_it_is_done() {
        let (client, server) = tokio::io::duplex(1024 * 1024);
        let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
        let (outbox, places) = (Arc::new(Outbox::default()), Arc::new(Semaphore::new(64)));
        let out = Arc::clone(&outbox);
        let allowance = Allowance::of(1);
        allowance.lift();
        let running = tokio::spawn(async move {
            let socket = open(Metered::new(server, allowance), Bytes::new()).await;
            run(socket, out, places, move |texts| {
                texts.into_iter().all(|incoming| heard.send(incoming).is_ok())
            })
            .await
        });
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let sending = tokio::spawn(async move {
            for length in [MAX_PAYLOAD, MAX_PAYLOAD - 1, 2, 1] {
                client.send(Message::text("x".repeat(length))).await.unwrap();
            }
            client
        });
        let first = hears.recv().await.unwrap();
        let second = hears.recv().await.unwrap();
        let _client = sending.await.unwrap();
        // An event goes out meanwhile; what waits for room keeps nothing else waiting.
        outbox.text("event".to_owned());
        tokio::task::yield_now().await;
        assert!(hears.try_recv().is_err(), "the third waits for room");
        assert_eq!(first.text.len(), MAX_PAYLOAD);
        drop(first);
        assert_eq!(hears.recv().await.unwrap().text.len(), 2);
        assert_eq!(hears.recv().await.unwrap().text.len(), 1);
        drop(second);
        outbox.cut(Close::new(1000, "done"));
        assert_eq!(running.await.unwrap(), "done");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_closed_has_a_bounded_time_for_what_waits() {
        let (outbox, running, _client) = stuck().await;
        let asked = Instant::now();
        outbox.close(Close::new(1012, "service restart"));
        assert_eq!(running.await.unwrap(), "service restart");
        assert!(asked.elapsed() <= LAST_WITHIN + CLOSE_WITHIN, "{:?}", asked.elapsed());
    }

    #[tokio::test]
    async fn whoever_sends_a_little_too_much_can_send_it_and_is_told() {
        let (client, server) = tokio::io::duplex(1024);
        let server = open(Metered::new(server, Allowance::of(64 * 1024)), Bytes::new()).await;
        let places = Arc::new(Semaphore::new(1));
        let served = tokio::spawn(run(server, Arc::new(Outbox::default()), places, |_| true));
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        client.send(Message::text("x".repeat(256 * 1024))).await.unwrap();
        let Some(Ok(Message::Close(Some(close)))) = client.next().await else { panic!("it was not told") };
        assert_eq!((close.code.into(), &*close.reason), (1009_u16, "preauth payload too large"));
        drop(client);
        assert_eq!(served.await.unwrap(), "preauth payload too large");
    }
}
