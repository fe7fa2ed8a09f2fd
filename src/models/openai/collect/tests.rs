use std::sync::Mutex;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl ModelSink for Heard {
    fn text(&self, piece: &str) {
        self.0.lock().unwrap().push(piece.to_owned());
    }
}

fn collect(chunks: &[Value]) -> Result<Answer, Malformed> {
    let mut collector = Collector::default();
    for chunk in chunks {
        collector.add(serde_json::from_value(chunk.clone()).unwrap(), &Heard::default())?;
    }
    collector.into_answer(3)
}

fn delta(delta: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn end(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

#[test]
fn text_is_told_piece_by_piece_and_usage_counts_the_cached_part() {
    let heard = Heard::default();
    let mut collector = Collector::default();
    for chunk in [
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"content": "Hel"})),
        delta(json!({"content": [{"type": "text", "text": "lo"}, {"type": "image"}]})),
        json!({"choices": [{"index": 1, "delta": {"content": "another answer"}}]}),
        end("stop"),
        json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11,
               "prompt_tokens_details": {"cached_tokens": 4}}}),
    ] {
        collector.add(serde_json::from_value(chunk).unwrap(), &heard).unwrap();
    }
    let answer = collector.into_answer(1).unwrap();
    assert_eq!(*heard.0.lock().unwrap(), ["Hel", "lo"]);
    assert_eq!((answer.text.as_str(), answer.stop), ("Hello", StopReason::End));
    assert_eq!(answer.usage, Usage { input: 9, output: 2, cached: 4 });
}

#[test]
fn calls_come_together_from_their_pieces() {
    let piece = |call: Value| delta(json!({"tool_calls": [call]}));
    let answer = collect(&[
        piece(
            json!({"index": 0, "id": "a", "type": "function", "function": {"name": "read", "arguments": ""}}),
        ),
        piece(json!({"index": 1, "id": "b", "function": {"name": "wri", "arguments": "{\"y\""}})),
        piece(json!({"index": 0, "function": {"arguments": "{\"x\":"}})),
        piece(json!({"index": 0, "id": "a", "function": {"name": "read", "arguments": "1}"}})),
        piece(json!({"index": 1, "id": "", "function": {"name": "te", "arguments": ":2}"}})),
        end("tool_calls"),
    ])
    .unwrap();
    assert_eq!(answer.tool_calls, [call("a", "read", "{\"x\":1}"), call("b", "write", "{\"y\":2}")]);
    assert_eq!(answer.stop, StopReason::Tools);
}

#[test]
fn calls_without_ids_numbers_or_text_arguments_are_told_apart() {
    let answer = collect(&[
        delta(json!({"tool_calls": [{"index": 0, "function": {"name": "a", "arguments": {"x": 1}}}]})),
        delta(json!({"tool_calls": [{"index": 1, "function": {"name": "b"}}]})),
        end("stop"),
    ])
    .unwrap();
    assert_eq!(answer.tool_calls, [call("call_3_0", "a", "{\"x\":1}"), call("call_3_1", "b", "{}")]);
    assert_eq!(answer.stop, StopReason::Tools);

    let alike = collect(&[delta(json!({"tool_calls": [
        {"index": 0, "id": "p", "function": {"name": "a", "arguments": "{}"}},
        {"index": 0, "id": "q", "function": {"name": "b", "arguments": "{}"}},
        {"id": "r", "function": {"name": "c", "arguments": "{"}},
        {"function": {"arguments": "}"}},
    ]}))])
    .unwrap();
    assert_eq!(alike.tool_calls, [call("p", "a", "{}"), call("q", "b", "{}"), call("r", "c", "{}")]);

    let repeated = collect(&[delta(json!({"tool_calls": [
        {"index": 0, "id": "p", "function": {"name": "a"}}, {"index": 1, "id": "p", "function": {"name": "b"}},
    ]}))])
    .unwrap();
    assert_eq!(repeated.tool_calls, [call("p", "a", "{}"), call("call_3_1", "b", "{}")]);
}

#[test]
fn the_older_single_call_is_understood() {
    let answer = collect(&[
        delta(json!({"function_call": {"name": "read", "arguments": "{\"x\""}})),
        delta(json!({"function_call": {"arguments": ":1}"}})),
        end("function_call"),
    ])
    .unwrap();
    assert_eq!(answer.tool_calls, [call("call_3_0", "read", "{\"x\":1}")]);
    assert_eq!(answer.stop, StopReason::Tools);
}

#[test]
fn reasons_to_stop() {
    for (reason, stop) in [
        ("stop", StopReason::End),
        ("tool_calls", StopReason::End),
        ("length", StopReason::Length),
        ("content_filter", StopReason::Filtered),
        ("something new", StopReason::End),
    ] {
        assert_eq!(collect(&[delta(json!({"content": "x"})), end(reason)]).unwrap().stop, stop, "{reason}");
    }
}

#[test]
fn half_a_call_at_the_token_limit_is_not_carried_out() {
    let answer = collect(&[
        delta(json!({"tool_calls": [
            {"index": 0, "id": "a", "function": {"name": "t", "arguments": "{\"x\":1}"}},
            {"index": 1, "id": "b", "function": {"name": "t", "arguments": "{\"x\":"}},
        ]})),
        end("length"),
    ])
    .unwrap();
    assert_eq!(answer.stop, StopReason::Length);
    assert_eq!(answer.tool_calls, [call("a", "t", "{\"x\":1}")]);
}

#[test]
fn what_is_too_much_or_nameless_is_refused() {
    let calls: Vec<Value> = (0..=MAX_CALLS).map(|n| json!({"index": n, "function": {"name": "t"}})).collect();
    assert!(collect(&[delta(json!({"tool_calls": calls}))]).unwrap_err().0.contains("256 tool calls"));
    let nameless = delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}));
    assert!(collect(&[nameless]).unwrap_err().0.contains("without a name"));
    let long = delta(json!({"content": "x".repeat(MAX_CONTENT / 2 + 1)}));
    assert!(collect(&[long.clone(), long]).unwrap_err().0.contains("16 MiB"));
}

proptest! {
    #[test]
    fn ids_differ_whatever_the_provider_sends(
        ids in prop::collection::vec(prop::option::of("[a]|call_3_[0-3]_?"), 1..8),
    ) {
        let calls: Vec<Value> = ids
            .iter()
            .enumerate()
            .map(|(n, id)| json!({"index": n, "id": id, "function": {"name": "t"}}))
            .collect();
        let answer = collect(&[delta(json!({"tool_calls": calls}))]).unwrap();
        let distinct: BTreeSet<&str> = answer.tool_calls.iter().map(|call| &*call.id).collect();
        prop_assert_eq!(distinct.len(), ids.len());
        prop_assert!(!distinct.contains(""));
    }
}
