use std::sync::Arc;

use offshoot_actors::types::{
    AnnounceItem, Entry, ModelRef, Origin, RunId, StoredEntry, Terminal, Timestamp, ToolCall, ToolStatus,
    Usage,
};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::{Shape, fit, message};
use crate::protocol::version::Protocol;

const USAGE: Usage = Usage { input: 10, output: 5, cached: 4 };

fn stored(seq: u64, entry: Entry) -> StoredEntry {
    StoredEntry { seq, run: Some(RunId(uuid::Uuid::nil())), at: Timestamp(1_700), entry }
}

fn shown(entry: Entry, protocol: Protocol) -> Value {
    let shape = Shape { run: Some("chat-1"), ..Shape::whole(protocol) };
    serde_json::to_value(message(&stored(26, entry), &shape)).unwrap()
}

fn client() -> Origin {
    Origin::Client { connection: 1, device: None, scopes: Vec::new() }
}

#[test]
fn what_a_user_said_has_the_shape_of_each_generation() {
    let entry = || Entry::User { text: "hello".to_owned(), origin: client() };
    assert_eq!(
        shown(entry(), Protocol::V3),
        json!({"role": "user", "content": [{"type": "text", "text": "hello"}], "timestamp": 1_700,
            "__openclaw": {"id": "0000001a", "seq": 27}})
    );
    assert_eq!(
        shown(entry(), Protocol::V4),
        json!({"role": "user", "content": "hello", "timestamp": 1_700, "idempotencyKey": "chat-1:user",
            "__openclaw": {"id": "0000001a", "seq": 27, "runId": "chat-1"}})
    );
}

#[test]
fn an_answer_tells_its_model_and_tokens() {
    let call = |arguments: &str| ToolCall {
        id: "call_1".into(),
        name: "sessions_spawn".into(),
        arguments: arguments.into(),
    };
    let entry = Entry::Assistant {
        text: String::new(),
        tool_calls: vec![call(r#"{"task":"x"}"#), call("{broken")],
        model: "mock/mock-1".parse::<ModelRef>().unwrap(),
        usage: USAGE,
    };
    let shown = shown(entry, Protocol::V3);
    assert_eq!(
        shown["content"],
        json!([{"type": "toolCall", "id": "call_1", "name": "sessions_spawn", "arguments": {"task": "x"}},
            {"type": "toolCall", "id": "call_1", "name": "sessions_spawn", "arguments": "{broken"}])
    );
    assert_eq!((&shown["provider"], &shown["model"]), (&json!("mock"), &json!("mock-1")));
    assert_eq!(shown["stopReason"], "toolUse");
    assert_eq!(
        shown["usage"],
        json!({"input": 6, "output": 5, "cacheRead": 4, "cacheWrite": 0, "totalTokens": 15})
    );
}

#[test]
fn a_result_whose_tool_may_have_failed_is_an_error() {
    for (status, is_error) in
        [(ToolStatus::Ok, false), (ToolStatus::Error, true), (ToolStatus::Unknown, true)]
    {
        let (call, name) = (Arc::from("call_1"), Arc::from("read"));
        let shown = shown(Entry::ToolResult { call, name, text: "x".to_owned(), status }, Protocol::V4);
        assert_eq!((&shown["role"], &shown["isError"]), (&json!("toolResult"), &json!(is_error)));
        assert_eq!((&shown["toolCallId"], &shown["toolName"]), (&json!("call_1"), &json!("read")));
    }
}

#[test]
fn the_results_of_children_say_that_nobody_wrote_them() {
    let item = AnnounceItem {
        run: RunId(uuid::Uuid::nil()),
        session: "agent:main:subagent:1".parse().unwrap(),
        label: Some("child".to_owned()),
        state: Terminal::Timeout,
        reason: None,
        text: Some("half".to_owned()),
        usage: USAGE,
        duration_ms: 1,
        steps: 1,
    };
    let shown = shown(Entry::Announce { items: vec![item] }, Protocol::V3);
    assert_eq!(
        shown["provenance"],
        json!({"kind": "inter_session", "sourceSessionKey": "agent:main:subagent:1",
            "sourceTool": "subagent_announce"})
    );
    let text = shown["content"][0]["text"].as_str().unwrap();
    assert_eq!(text, "Result of sub-agent agent:main:subagent:1 (child): timeout\nhalf");
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let entry = stored(0, Entry::Notice { text: "äöü".to_owned() });
    let cut = |max_chars| {
        let shape = Shape { max_chars, ..Shape::whole(Protocol::V3) };
        serde_json::to_value(message(&entry, &shape)).unwrap()["content"][0]["text"].clone()
    };
    assert_eq!(cut(3), "äöü");
    assert_eq!(cut(2), "äö\n...(truncated)...");
}

#[test]
fn the_newest_messages_that_fit_are_kept_in_order() {
    let messages = || (0..10).map(|n| to_raw_value(&n).unwrap());
    let kept = |most| fit(messages(), most).iter().map(|raw| raw.get().to_owned()).collect::<Vec<_>>();
    assert_eq!(kept(6), ["2", "1", "0"]);
    assert_eq!(kept(100).len(), 10);
    assert!(kept(1)[0].contains("too large"));
}
