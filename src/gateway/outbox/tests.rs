use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use serde_json::value::to_raw_value;

use super::super::methods::Payload;
use super::super::socket::tests::written;
use super::*;

fn event(text: &str) -> EventText {
    EventText::of("chat", &text, None).unwrap()
}

fn look(outbox: &Outbox, items: &mut VecDeque<Item>) -> Look {
    outbox.look(Waker::noop(), !items.is_empty(), items)
}

/// The frames that are taken at once.
fn taken(outbox: &Outbox) -> Vec<String> {
    let mut items = VecDeque::new();
    assert!(matches!(look(outbox, &mut items), Look::On { .. }));
    written(items)
}

fn end(outbox: &Outbox) -> Look {
    let mut items = VecDeque::new();
    let look = look(outbox, &mut items);
    assert!(items.is_empty());
    look
}

#[test]
fn frames_come_in_order_and_events_are_numbered_from_one() {
    let outbox = Outbox::default();
    outbox.event(&event("a"), Lossy::Needed);
    outbox.text("response".to_owned());
    outbox.answer("id", &Ok(Payload::Own(to_raw_value(&1).unwrap())));
    outbox.answer("id", &Ok(Payload::Own(to_raw_value(&"x".repeat(SMALL)).unwrap())));
    outbox.event(&event("b"), Lossy::Droppable);
    let frames = taken(&outbox);
    assert!(frames[0].contains("\"seq\":1"), "{frames:?}");
    assert_eq!(frames[1], "response");
    assert_eq!(frames[2], r#"{"type":"res","id":"id","ok":true,"payload":1}"#);
    assert_eq!(frames[3], frame::response("id", &"x".repeat(SMALL)).unwrap());
    assert!(frames[4].contains("\"seq\":2"), "{frames:?}");
}

#[test]
fn a_droppable_event_without_room_leaves_a_gap() {
    let outbox = Outbox::default();
    outbox.text("x".repeat(MAX_BUFFERED));
    outbox.event(&event("lost"), Lossy::Droppable);
    assert_eq!(taken(&outbox).len(), 1);
    outbox.event(&event("next"), Lossy::Needed);
    let frames = taken(&outbox);
    assert!(frames[0].contains("\"seq\":2"), "{frames:?}");
}

#[test]
fn a_client_that_does_not_read_is_closed_with_the_reason() {
    let outbox = Outbox::default();
    outbox.text("x".repeat(MAX_BUFFERED));
    outbox.event(&event("needed"), Lossy::Needed);
    assert_eq!(end(&outbox), Look::Close(Close::new(1008, "slow consumer")));
}

#[test]
fn what_was_queued_before_a_close_is_written_before_it() {
    let outbox = Outbox::default();
    outbox.text("last".to_owned());
    outbox.close(Close::new(1012, "service restart"));
    outbox.text("too late".to_owned());
    let mut items = VecDeque::new();
    let close = Close::new(1012, "service restart");
    let on = Look::On { heard: false, close: Some(close.clone()) };
    assert_eq!(look(&outbox, &mut items), on);
    assert_eq!(look(&outbox, &mut items), on, "it is being written");
    assert_eq!(written(items), ["last"]);
    assert_eq!(end(&outbox), Look::Close(close));
}

#[test]
fn a_cut_leaves_nothing_to_write_but_the_close() {
    let outbox = Outbox::default();
    outbox.text("secret".to_owned());
    outbox.cut(Close::new(4001, "device removed"));
    assert_eq!(end(&outbox), Look::Close(Close::new(4001, "device removed")));
}

#[test]
fn little_is_taken_at_once_however_much_waits() {
    let outbox = Outbox::default();
    let long = event(&"x".repeat(MAX_TAKEN / 2));
    for _ in 0..3 {
        outbox.event(&long, Lossy::Needed);
    }
    outbox.text("x".repeat(MAX_TAKEN * 2));
    for _ in 0..4 {
        assert_eq!(taken(&outbox).len(), 1);
    }
    outbox.text("a".to_owned());
    outbox.text("b".to_owned());
    assert_eq!(taken(&outbox), ["a", "b"]);
}

/// Counts how often the socket's task is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn whoever_waits_is_woken_once_for_what_is_there() {
    let (outbox, woken) = (Outbox::default(), Arc::new(Woken::default()));
    let waker = Waker::from(Arc::clone(&woken));
    let mut items = VecDeque::new();
    let mut wakes = |has, act: &dyn Fn(&Outbox)| {
        let before = woken.0.load(Ordering::Relaxed);
        outbox.look(&waker, has, &mut items);
        act(&outbox);
        woken.0.load(Ordering::Relaxed) - before
    };
    let text = |outbox: &Outbox| outbox.text("a".to_owned());
    assert_eq!(wakes(false, &|outbox| (0..3).for_each(|_| text(outbox))), 1);
    assert_eq!(wakes(false, &|outbox| drop((outbox.hold(2), text(outbox), text(outbox)))), 1, "together");
    assert_eq!(wakes(false, &|outbox| outbox.hear()), 0);
    assert_eq!(wakes(false, &|outbox| outbox.heard()), 1, "more is to be read");
    assert_eq!(wakes(true, &text), 0, "what is being written comes first");
    assert_eq!(wakes(true, &|outbox| outbox.close(Close::new(1000, ""))), 1);
}

#[test]
fn a_reason_fits_its_frame() {
    let close = Close::new(1008, "ä".repeat(100));
    assert_eq!(close.reason.len(), 122);
}

#[test]
fn whoever_watches_has_taken_an_event_when_the_socket_has_it_and_is_not_stuck_with_it() {
    let outbox = Outbox::default();
    let mut items = VecDeque::new();
    let first = outbox.offer(&event("a")).unwrap();
    assert!(!outbox.has_taken(first));
    look(&outbox, &mut items);
    assert!(outbox.has_taken(first));
    // The client does not take what is in hand: whatever else comes waits.
    look(&outbox, &mut items);
    let second = outbox.offer(&event("b")).unwrap();
    assert!(!outbox.has_taken(first) && !outbox.has_taken(second));
    items.clear();
    look(&outbox, &mut items);
    assert!(outbox.has_taken(second));
    // What finds no room leaves no gap: it is not told at all.
    outbox.text("x".repeat(MAX_BUFFERED));
    assert_eq!(outbox.offer(&event("lost")), None);
    items.clear();
    look(&outbox, &mut items);
    assert_eq!(outbox.offer(&event("c")), Some(second + 1));
}
