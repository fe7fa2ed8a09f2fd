use std::collections::VecDeque;

use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Bytes;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::super::outbox::{Item, Lossy, SMALL};
use super::super::wire::Allowance;
use super::*;
use crate::protocol::event::EventText;

/// The texts of whole frames.
fn texts(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((&[first, second], rest)) = bytes.split_first_chunk() {
        assert_eq!(first, 0x81, "final, and a text");
        let (length, rest) = match second {
            126 => {
                let (length, rest) = rest.split_first_chunk().unwrap();
                (usize::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk().unwrap();
                (usize::try_from(u64::from_be_bytes(*length)).unwrap(), rest)
            }
            short => (usize::from(short), rest),
        };
        texts.push(String::from_utf8(rest[..length].to_vec()).unwrap());
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty());
    texts
}

/// The texts that are written of what was taken.
pub(crate) fn written(items: VecDeque<Item>) -> Vec<String> {
    let (mut writer, mut bytes) = (Writer::default(), Vec::new());
    *writer.waiting() = items;
    writer.prepare();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    while !writer.is_empty() {
        assert!(writer.poll_write(&mut cx, &mut bytes).is_ready());
    }
    texts(&bytes)
}

#[tokio::test]
async fn however_little_is_taken_at_once_all_of_it_comes_in_its_order() {
    let event = |length: usize| EventText::of("chat", &"e".repeat(length), None).unwrap();
    let items = || -> VecDeque<Item> {
        [
            Item::Event(event(1), 1),
            Item::Frames(b"\x81\x01a\x81\x01b".to_vec()),
            Item::Text("t".repeat(SMALL + 1)),
            Item::Event(event(300_000), 22),
            Item::Event(event(20), 333),
            Item::Text("u".repeat(70_000)),
        ]
        .into()
    };
    let expected = written(items());
    assert_eq!(expected.len(), 7);
    assert_eq!(&expected[1..3], ["a", "b"]);
    assert!(expected[4].ends_with("e\",\"seq\":22}"));
    for room in [1, 7, 4096, 1_000_000] {
        let (mut client, mut server) = tokio::io::duplex(room);
        let mut writer = Writer::default();
        *writer.waiting() = items();
        writer.prepare();
        let writing = async move {
            while poll_fn(|cx| writer.poll_write(cx, &mut server)).await.unwrap() == Wrote::Much {}
        };
        let mut bytes = Vec::new();
        let (_, read) = futures::join!(writing, client.read_to_end(&mut bytes));
        read.unwrap();
        assert_eq!(texts(&bytes), expected, "{room}");
    }
}

#[tokio::test]
async fn a_close_waits_for_the_end_of_a_frame_that_is_begun() {
    let (client, server) = tokio::io::duplex(64);
    let outbox = Arc::new(Outbox::default());
    let text = "x".repeat(10_000);
    outbox.text(text.clone());
    let out = Arc::clone(&outbox);
    let running = tokio::spawn(async move {
        let socket = Stream::new(Metered::new(server, Allowance::of(1)), &Bytes::new());
        run(socket, out, Turns::default(), |_| true).await
    });
    tokio::task::yield_now().await;
    outbox.cut(Close::new(4001, "device removed"));
    let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text(text));
    let Some(Ok(Message::Close(Some(close)))) = client.next().await else { panic!("it was not told") };
    assert_eq!(u16::from(close.code), 4001);
    drop(client);
    assert_eq!(running.await.unwrap(), "device removed");
}

#[tokio::test]
async fn those_who_read_nothing_keep_nobody_waiting_for_a_turn() {
    let turns = Turns::default();
    let text = "x".repeat(1_000_000);
    let mut clients = Vec::new();
    for reads in [false, false, false, false, false, true] {
        let (client, server) = tokio::io::duplex(4096);
        let outbox = Arc::new(Outbox::default());
        let socket = Stream::new(Metered::new(server, Allowance::of(1)), &Bytes::new());
        tokio::spawn(run(socket, Arc::clone(&outbox), turns.clone(), |_| true));
        outbox.text(text.clone());
        tokio::task::yield_now().await;
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        if reads {
            assert_eq!(client.next().await.unwrap().unwrap(), Message::text(text.clone()));
        }
        clients.push((client, outbox));
    }
}

#[tokio::test]
async fn nothing_is_read_as_frames_behind_an_error() {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let allowance = Allowance::of(1);
    allowance.lift();
    let socket = Stream::new(Metered::new(server, allowance), &Bytes::new());
    let running = tokio::spawn(run(socket, Arc::new(Outbox::default()), Turns::default(), |_| true));
    let too_long = (MAX_PAYLOAD as u64 + 1).to_be_bytes();
    client.write_all(&[&[0x81, 0xff][..], &too_long, &[0; 8_000]].concat()).await.unwrap();
    let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    let Some(Ok(Message::Close(Some(close)))) = client.next().await else { panic!("it was not told") };
    assert_eq!(u16::from(close.code), 1009);
    drop(client);
    assert_eq!(running.await.unwrap(), "payload too large");
}

#[tokio::test]
async fn pings_are_answered_between_frames() {
    let (client, server) = tokio::io::duplex(4096);
    let outbox = Arc::new(Outbox::default());
    let out = Arc::clone(&outbox);
    let running = tokio::spawn(async move {
        let socket = Stream::new(Metered::new(server, Allowance::of(10_000)), &Bytes::new());
        run(socket, out, Turns::default(), |_| true).await
    });
    let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    let event = EventText::of("chat", &"e".repeat(10_000), None).unwrap();
    for round in 0..20_u8 {
        outbox.event(&event, Lossy::Needed);
        client.send(Message::Ping(vec![round; 100].into())).await.unwrap();
        let (mut pongs, mut events) = (0, 0);
        while pongs + events < 2 {
            match client.next().await.unwrap().unwrap() {
                Message::Pong(bytes) => pongs += usize::from(*bytes == [round; 100]),
                Message::Text(text) => events += usize::from(text.len() > 10_000),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((pongs, events), (1, 1));
    }
    client.close(None).await.unwrap();
    while let Some(Ok(_)) = client.next().await {}
    drop(client);
    assert_eq!(running.await.unwrap(), "the client closed it");
}

/// A client that reads nothing, while something is being written to it.
async fn stuck() -> (Arc<Outbox>, tokio::task::JoinHandle<String>, tokio::io::DuplexStream) {
    let (client, server) = tokio::io::duplex(64);
    let outbox = Arc::new(Outbox::default());
    outbox.text("x".repeat(1_000_000));
    let out = Arc::clone(&outbox);
    let running = tokio::spawn(async move {
        let socket = Stream::new(Metered::new(server, Allowance::of(1)), &Bytes::new());
        run(socket, out, Turns::default(), |_| true).await
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

#[tokio::test(start_paused = true)]
async fn what_is_in_work_is_bounded_in_bytes_and_read_on_as_it_is_done() {
    let (client, server) = tokio::io::duplex(1024 * 1024);
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let outbox = Arc::new(Outbox::default());
    let out = Arc::clone(&outbox);
    let allowance = Allowance::of(1);
    allowance.lift();
    let running = tokio::spawn(async move {
        let socket = Stream::new(Metered::new(server, allowance), &Bytes::new());
        run(socket, out, Turns::default(), move |messages| heard.send(messages).is_ok()).await
    });
    let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    let sending = tokio::spawn(async move {
        for length in [MAX_PAYLOAD, MAX_PAYLOAD - 1, 2, 1] {
            client.send(Message::text("x".repeat(length))).await.unwrap();
        }
        client
    });
    let next = async |hears: &mut UnboundedReceiver<Heard>| {
        let mut messages = timeout(Duration::from_secs(1), hears.recv()).await.ok()??;
        let (mut lengths, mut rooms) = (Vec::new(), Vec::new());
        while let Some(Incoming { text, room }) = messages.next() {
            lengths.push(text.len());
            rooms.push(room.keep().unwrap());
        }
        Some((lengths, rooms))
    };
    let (lengths, first) = next(&mut hears).await.unwrap();
    assert_eq!(lengths, [MAX_PAYLOAD]);
    assert!(next(&mut hears).await.is_none(), "the first is in the actor's hands");
    outbox.heard();
    let (lengths, second) = next(&mut hears).await.unwrap();
    assert_eq!(lengths, [MAX_PAYLOAD - 1]);
    outbox.heard();
    assert!(next(&mut hears).await.is_none(), "the rest waits for room");
    let _client = sending.await.unwrap();
    drop(first);
    assert_eq!(next(&mut hears).await.unwrap().0, [2, 1]);
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
    let server = Stream::new(Metered::new(server, Allowance::of(64 * 1024)), &Bytes::new());
    let served = tokio::spawn(run(server, Arc::new(Outbox::default()), Turns::default(), |_| true));
    let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    client.send(Message::text("x".repeat(256 * 1024))).await.unwrap();
    let Some(Ok(Message::Close(Some(close)))) = client.next().await else { panic!("it was not told") };
    assert_eq!((close.code.into(), &*close.reason), (1009_u16, "preauth payload too large"));
    drop(client);
    assert_eq!(served.await.unwrap(), "preauth payload too large");
}
