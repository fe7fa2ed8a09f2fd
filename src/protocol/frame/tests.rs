use proptest::prelude::*;
use serde_json::json;

use super::{
    FrameError, MAX_DEPTH, MAX_ID, Request, ServerFrame, answer_to, refusal, request, response,
    write_response,
};
use crate::protocol::error::ErrorShape;

fn problem(text: &str) -> (Option<String>, String) {
    match Request::parse(text).unwrap_err() {
        FrameError::Invalid { id, problem } => (id, problem.into_owned()),
        FrameError::NotJson => (None, "not JSON".to_owned()),
    }
}

#[test]
fn a_request_is_read_with_its_parameters_as_they_were_sent() {
    let text =
        r#"{"type":"req","id":"r1","method":"agent","params":{"a": 1.50,  "é":"\u00e9"},"traceparent":"00"}"#;
    let read = Request::parse(text).unwrap();
    assert_eq!((&*read.id, &*read.method), ("r1", "agent"));
    assert_eq!(read.params.unwrap().get(), r#"{"a": 1.50,  "é":"\u00e9"}"#);
    assert_eq!(read.unknown, [""; 0]);
}

#[test]
fn parameters_may_be_left_out_or_null() {
    for text in
        [r#"{"id":"1","type":"req","method":"m"}"#, r#"{"id":"1","type":"req","method":"m","params":null}"#]
    {
        assert!(Request::parse(text).unwrap().params.is_none());
    }
}

#[test]
fn unknown_members_are_named_and_bounded() {
    let long = "x".repeat(100);
    let many: String = (0..20).map(|i| format!(r#","u{i}":[{i}]"#)).collect();
    let text = format!(r#"{{"{long}":{{}},"type":"req","id":"1","method":"m"{many}}}"#);
    let read = Request::parse(&text).unwrap();
    assert_eq!(read.unknown.len(), 8);
    assert_eq!(read.unknown[0], "x".repeat(64));
    assert_eq!(read.unknown[1], "u0");
}

#[test]
fn what_is_no_json_is_told_from_what_is_no_request() {
    for text in ["", "hello", "{", "{\"type\":\"req\"", "{}{}", "[1,]", "{'type':'req'}", "\u{0}"] {
        assert_eq!(Request::parse(text).unwrap_err(), FrameError::NotJson, "{text}");
    }
    let table: &[(&str, Option<&str>, &str)] = &[
        ("[]", None, "must be an object"),
        ("5", None, "must be an object"),
        ("null", None, "must be an object"),
        ("\"req\"", None, "must be an object"),
        ("{}", None, "type must be \"req\""),
        (r#"{"type":"event","id":"a","method":"m"}"#, Some("a"), "type must be \"req\""),
        (r#"{"type":5,"id":"a","method":"m"}"#, Some("a"), "type must be \"req\""),
        (r#"{"type":"req","id":"dup"}"#, Some("dup"), "method is missing"),
        (r#"{"type":"req","id":"a","method":""}"#, Some("a"), "method must be a string of 1 to 256 bytes"),
        (r#"{"type":"req","method":[],"id":"a"}"#, Some("a"), "method must be a string of 1 to 256 bytes"),
        (r#"{"type":"req","method":"m"}"#, None, "id is missing"),
        (r#"{"type":"req","method":"m","id":""}"#, None, "id must be a string of 1 to 512 bytes"),
        (r#"{"type":"req","method":"m","id":7}"#, None, "id must be a string of 1 to 512 bytes"),
        (
            r#"{"type":"req","method":"m","id":"a","expectedProfileId":"p"}"#,
            Some("a"),
            "expectedProfileId: this gateway has no profiles to check; leave it out",
        ),
        (
            r#"{"type":"req","method":"m","id":"a","expectedProfileId":"p","expectedProfileId":null}"#,
            Some("a"),
            "expectedProfileId: this gateway has no profiles to check; leave it out",
        ),
    ];
    for (text, id, expected) in table {
        assert_eq!(problem(text), (id.map(str::to_owned), (*expected).to_owned()), "{text}");
    }
}

#[test]
fn an_invalid_frame_with_an_id_is_answered() {
    let error = Request::parse(r#"{"type":"req","id":"dup"}"#).unwrap_err();
    let (id, shape) = answer_to(&error).unwrap();
    assert_eq!((id, shape.message.as_str()), ("dup", "invalid request frame: method is missing"));
    assert_eq!(answer_to(&Request::parse("{}").unwrap_err()), None);
    assert_eq!(answer_to(&FrameError::NotJson), None);
}

#[test]
fn an_id_has_a_bound() {
    let frame = |id: &str| format!(r#"{{"type":"req","id":"{id}","method":"m"}}"#);
    assert!(Request::parse(&frame(&"i".repeat(MAX_ID))).is_ok());
    assert_eq!(problem(&frame(&"i".repeat(MAX_ID + 1))).0, None);
}

#[test]
fn nesting_has_a_bound_and_brackets_in_strings_do_not_count() {
    let frame = |params: &str| format!(r#"{{"type":"req","id":"1","method":"m","params":{params}}}"#);
    let nested = |levels: usize| frame(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    let deep = nested(MAX_DEPTH - 1);
    let read = Request::parse(&deep).unwrap();
    serde_json::from_str::<serde_json::Value>(read.params.unwrap().get()).unwrap();
    assert_eq!(problem(&nested(MAX_DEPTH)).1, "nested deeper than 128 levels");
    assert!(Request::parse(&nested(1_000_000)).is_err());
    let text = serde_json::to_string(&format!("\\\"{}", "[".repeat(1_000))).unwrap();
    assert!(Request::parse(&frame(&text)).is_ok());
}

#[test]
fn responses_are_written_as_the_real_gateway_writes_them() {
    assert_eq!(
        response("r1", &json!({"ok": true})).unwrap(),
        r#"{"type":"res","id":"r1","ok":true,"payload":{"ok":true}}"#
    );
    assert_eq!(
        refusal("1", &ErrorShape::invalid("invalid handshake: first request must be connect")).unwrap(),
        r#"{"type":"res","id":"1","ok":false,"error":{"code":"INVALID_REQUEST","message":"invalid handshake: first request must be connect"}}"#
    );
}

#[test]
fn a_response_around_a_payload_that_is_json_is_the_same() {
    for id in ["r1", "quoted \"\\\n", "ä"] {
        let mut text = Vec::new();
        write_response(id, r#"{"ok":true}"#, &mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), response(id, &json!({"ok": true})).unwrap());
    }
}

#[test]
fn a_client_reads_what_the_gateway_writes() {
    let text = refusal("1", &ErrorShape::unavailable("busy")).unwrap();
    let ServerFrame::Response { id, ok, payload, error } = serde_json::from_str(&text).unwrap() else {
        panic!("{text}");
    };
    assert_eq!((id.as_str(), ok, payload, error), ("1", false, None, Some(ErrorShape::unavailable("busy"))));
    let text =
        r#"{"type":"event","event":"health","payload":{},"seq":3,"stateVersion":{"presence":1,"health":2}}"#;
    let ServerFrame::Event { event, seq, state_version, .. } = serde_json::from_str(text).unwrap() else {
        panic!("{text}");
    };
    assert_eq!((event.as_str(), seq), ("health", Some(3)));
    assert_eq!(state_version.unwrap().health, 2);
}

proptest! {
    #[test]
    fn parsing_never_panics(text in any::<String>()) {
        let _ = Request::parse(&text);
    }

    #[test]
    fn parsing_a_damaged_frame_never_panics(
        id in any::<String>(), method in any::<String>(), cut in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(), inserted in any::<char>(),
    ) {
        let mut text = request(&id, &method, &json!({"a": [1, {"b": "c"}]})).unwrap();
        let end = text.floor_char_boundary(cut.index(text.len() + 1));
        let _ = Request::parse(&text[..end]);
        text.insert(text.floor_char_boundary(at.index(text.len() + 1)), inserted);
        let _ = Request::parse(&text);
    }

    #[test]
    fn a_request_that_is_written_is_read_again(id in ".{1,40}", method in ".{1,40}", number in any::<i64>()) {
        let text = request(&id, &method, &json!({"n": number})).unwrap();
        let read = Request::parse(&text).unwrap();
        prop_assert_eq!((&*read.id, &*read.method), (&*id, &*method));
        let params: serde_json::Value = serde_json::from_str(read.params.unwrap().get()).unwrap();
        prop_assert_eq!(params, json!({"n": number}));
    }

    #[test]
    fn whatever_json_it_is_it_is_no_broken_json(value in prop_oneof![
        Just(json!(null)), any::<i32>().prop_map(|n| json!(n)), any::<String>().prop_map(|s| json!([s])),
        any::<String>().prop_map(|s| json!({"type": s})), any::<bool>().prop_map(|b| json!({"id": b})),
    ]) {
        let invalid = matches!(Request::parse(&value.to_string()).unwrap_err(), FrameError::Invalid { .. });
        prop_assert!(invalid, "{}", value);
    }
}
