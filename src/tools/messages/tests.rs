use offshoot_actors::types::{Terminal, Timestamp, ToolCall, Usage};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tools::testing::{Store, key, run_id};

const SESSION: &str = "agent:main:main";

fn shown(entry: Entry, tools: bool) -> Option<Value> {
    let stored = StoredEntry { seq: 7, run: None, at: Timestamp(9), entry };
    message(&stored, tools).map(|message| serde_json::to_value(message).unwrap())
}

fn assistant(text: &str, calls: &[&str]) -> Entry {
    let tool_calls = calls
        .iter()
        .map(|arguments| ToolCall { id: "c1".into(), name: "read".into(), arguments: (*arguments).into() })
        .collect();
    Entry::Assistant {
        text: text.to_owned(),
        tool_calls,
        model: "p/m".parse().unwrap(),
        usage: Usage::default(),
    }
}

fn tool_result(text: &str) -> Entry {
    Entry::ToolResult {
        call: "c1".into(),
        name: "read".into(),
        text: text.to_owned(),
        status: ToolStatus::Error,
    }
}

#[test]
fn an_answer_with_its_tool_calls() {
    assert_eq!(
        shown(assistant("Look", &[r#"{"path":"a"}"#, "{broken"]), true).unwrap(),
        json!({
            "seq": 7, "role": "assistant", "timestamp": 9, "model": "p/m",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "toolCall", "id": "c1", "name": "read", "arguments": {"path": "a"}},
                {"type": "toolCall", "id": "c1", "name": "read", "arguments": "{broken"},
            ],
        })
    );
    assert_eq!(
        shown(tool_result("gone"), true).unwrap(),
        json!({
            "seq": 7, "role": "toolResult", "timestamp": 9, "toolCallId": "c1", "toolName": "read",
            "isError": true, "content": [{"type": "text", "text": "gone"}],
        })
    );
}

#[test]
fn without_tools_only_words_are_shown() {
    let text_only = shown(assistant("Look", &["{}"]), false).unwrap();
    assert_eq!(text_only["content"], json!([{"type": "text", "text": "Look"}]));
    assert_eq!(shown(assistant("", &["{}"]), false), None);
    assert_eq!(shown(tool_result("gone"), false), None);
}

#[test]
fn what_another_session_sent_says_so() {
    let origin = Origin::Agent { session: key("agent:main:main"), run: run_id(1) };
    let value = shown(Entry::User { text: "Task".to_owned(), origin }, false).unwrap();
    assert_eq!(value["provenance"], json!({"kind": "inter_session", "sourceSessionKey": "agent:main:main"}));

    let item = AnnounceItem {
        run: run_id(2),
        session: key("agent:main:subagent:a"),
        label: Some("survey".to_owned()),
        state: Terminal::Partial,
        reason: Some("max_tokens".to_owned()),
        text: Some("half".to_owned()),
        usage: Usage::default(),
        duration_ms: 1,
        steps: 1,
    };
    let value = shown(Entry::Announce { items: vec![item] }, false).unwrap();
    assert_eq!(value["provenance"]["sourceTool"], "subagent_announce");
    assert_eq!(
        value["content"][0]["text"],
        "Result of sub-agent agent:main:subagent:a (survey): partial, max_tokens\nhalf"
    );
}

#[test]
fn long_texts_are_cut_and_marked() {
    let stored = StoredEntry {
        seq: 0,
        run: None,
        at: Timestamp(0),
        entry: Entry::Notice { text: "ä".repeat(MAX_TEXT + 1) },
    };
    let message = message(&stored, false).unwrap();
    assert!(message.cut);
    let Part::Text { text } = &message.content[0] else { panic!("a text") };
    assert_eq!(text.chars().count(), MAX_TEXT + 1, "the text and the mark of the cut");
}

#[test]
fn one_message_that_is_too_large_is_named() {
    let calls = vec![r#"{"a":"b"}"#; 3_000];
    let stored = StoredEntry { seq: 0, run: None, at: Timestamp(0), entry: assistant("", &calls) };
    let mut messages = vec![message(&stored, true).unwrap()];
    assert!(fit(&mut messages, MAX_BYTES) < 1_000);
    assert_eq!(messages.len(), 1);
    assert!(messages[0].cut);
}

async fn seqs(entries: u64, most: usize) -> (Vec<u64>, bool) {
    let mut store = Store::default();
    for n in 0..entries {
        store.user(SESSION, &n.to_string());
    }
    let tail = tail(&store.shared(), &key(SESSION), most, false).await.unwrap();
    (tail.messages.iter().map(|message| message.seq).collect(), tail.older)
}

#[tokio::test]
async fn the_tail_is_the_latest_in_order() {
    assert_eq!(seqs(0, 5).await, (vec![], false));
    assert_eq!(seqs(1, 5).await, (vec![0], false));
    assert_eq!(seqs(5, 5).await, (vec![0, 1, 2, 3, 4], false));
    assert_eq!(seqs(6, 5).await, (vec![1, 2, 3, 4, 5], true));
    let (many, older) = seqs(1_000, 300).await;
    assert_eq!((many.first(), many.last(), many.len(), older), (Some(&700), Some(&999), 300, true));
}

#[tokio::test]
async fn tool_results_do_not_count_as_messages() {
    let mut store = Store::default();
    store.user(SESSION, "first");
    for _ in 0..600 {
        store.push(SESSION, tool_result("x"));
    }
    let storage = store.shared();
    let tail = tail(&storage, &key(SESSION), 1, false).await.unwrap();
    assert_eq!(tail.messages[0].seq, 0);
    assert!(!tail.older);
}

#[tokio::test]
async fn lengths_are_found() {
    for entries in (0..40).chain([63, 64, 65, 1_000]) {
        let mut store = Store::default();
        for _ in 0..entries {
            store.user(SESSION, "x");
        }
        assert_eq!(length(&store.shared(), &key(SESSION)).await.unwrap(), entries);
    }
}

proptest! {
    #[test]
    fn what_fits_is_within_the_bound_and_the_latest(
        sizes in prop::collection::vec(0_usize..200, 0..30),
        most in 300_usize..3_000,
    ) {
        let mut messages: Vec<Message> = (0..)
            .zip(&sizes)
            .filter_map(|(seq, size)| {
                let entry = Entry::Notice { text: "x".repeat(*size) };
                message(&StoredEntry { seq, run: None, at: Timestamp(0), entry }, false)
            })
            .collect();
        let all = messages.clone();
        let bytes = fit(&mut messages, most);
        prop_assert!(bytes <= most);
        prop_assert!(all.ends_with(&messages) || messages.iter().any(|message| message.cut));
        prop_assert!(all.is_empty() || !messages.is_empty());
        let shown = serde_json::to_string_pretty(&json!({"messages": messages})).unwrap();
        prop_assert!(shown.len() <= bytes + 100);
    }
}
