use serde_json::{Value, json};

use super::*;
use crate::tools::testing::{Store, key, run_id};

const MAIN: &str = "agent:main:main";

fn asked(arguments: Value) -> Result<Wish, BadArguments> {
    parse(arguments::read(arguments::object(&arguments.to_string())?)?, Timestamp(600_000))
}

#[test]
fn parameters_have_defaults_and_bounds() {
    assert_eq!(asked(json!({})).unwrap(), Wish { kinds: vec![], limit: 50, since: None, messages: 0 });
    let wish = asked(json!({"kinds": ["main", "other"], "limit": 3, "activeMinutes": 2, "messageLimit": 20}))
        .unwrap();
    assert_eq!(wish.kinds, [Kind::Main, Kind::Other]);
    assert_eq!((wish.limit, wish.since, wish.messages), (3, Some(Timestamp(480_000)), 20));
    for wrong in [
        json!({"limit": 0}),
        json!({"limit": 201}),
        json!({"activeMinutes": 0}),
        json!({"messageLimit": 21}),
        json!({"kinds": ["subagent"]}),
        json!({"kinds": "main"}),
        json!({"search": "x"}),
    ] {
        assert!(asked(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn sample_arguments_fit_the_schema() {
    let schema = schema::of::<Parameters>();
    assert!(jsonschema::is_valid(&schema, &json!({})));
    assert!(jsonschema::is_valid(&schema, &json!({"kinds": ["main"], "messageLimit": 0})));
    assert!(!jsonschema::is_valid(&schema, &json!({"kinds": ["subagent"]})));
    assert!(!jsonschema::is_valid(&schema, &json!({"messageLimit": 21})));
}

#[test]
fn kinds_follow_from_the_key() {
    for (name, expected) in [
        ("agent:main:main", Kind::Main),
        ("agent:main:subagent:x", Kind::Other),
        ("agent:main:cron:job", Kind::Cron),
        ("agent:main:hook:x", Kind::Hook),
        ("agent:main:node-7", Kind::Node),
        ("agent:main:chat:group:7", Kind::Group),
        ("agent:main:chat:channel:7", Kind::Group),
        ("agent:main:mainly", Kind::Other),
    ] {
        assert_eq!(kind(&key(name)), expected, "{name}");
    }
}

fn store() -> Store {
    let mut store = Store::default();
    store.add_session(MAIN, None);
    store.add_session("agent:main:subagent:a", Some(MAIN)).label = Some("survey".to_owned());
    store.add_session("agent:helper:subagent:b", Some("agent:main:subagent:a"));
    store.add_session("agent:main:other", None);
    store.add_session("agent:helper:main", None);
    store.add_run("agent:main:subagent:a", 7);
    store.user("agent:main:subagent:a", "Survey the field");
    store
}

async fn keys(visibility: Visibility, caller: &str, wish: Wish) -> Vec<String> {
    let list = list(&store().shared(), visibility, &key(caller), &wish).await.unwrap();
    list.sessions.iter().map(|item| item.key.to_string()).collect()
}

fn all() -> Wish {
    Wish { kinds: Vec::new(), limit: 50, since: None, messages: 0 }
}

#[tokio::test]
async fn each_visibility_sees_its_part() {
    assert_eq!(keys(Visibility::Own, MAIN, all()).await, [MAIN]);
    assert_eq!(
        keys(Visibility::Tree, MAIN, all()).await,
        ["agent:helper:subagent:b", "agent:main:subagent:a", MAIN]
    );
    assert_eq!(
        keys(Visibility::Tree, "agent:main:subagent:a", all()).await,
        ["agent:helper:subagent:b", "agent:main:subagent:a"]
    );
    assert_eq!(
        keys(Visibility::Agent, MAIN, all()).await,
        ["agent:main:other", "agent:helper:subagent:b", "agent:main:subagent:a", MAIN]
    );
    assert_eq!(keys(Visibility::All, MAIN, all()).await.len(), 5);
}

#[tokio::test]
async fn filters_hold() {
    let mains = Wish { kinds: vec![Kind::Main], ..all() };
    assert_eq!(keys(Visibility::All, MAIN, mains).await, ["agent:helper:main", MAIN]);
    let late = Wish { since: Some(Timestamp(4)), ..all() };
    assert_eq!(keys(Visibility::All, MAIN, late).await, ["agent:helper:main"]);
    let two =
        list(&store().shared(), Visibility::All, &key(MAIN), &Wish { limit: 2, ..all() }).await.unwrap();
    assert_eq!((two.count, two.more), (2, true));
    let five =
        list(&store().shared(), Visibility::All, &key(MAIN), &Wish { limit: 5, ..all() }).await.unwrap();
    assert_eq!((five.count, five.more), (5, false));
}

#[tokio::test]
async fn a_session_with_its_run_and_messages() {
    let wish = Wish { messages: 5, ..all() };
    let list = list(&store().shared(), Visibility::Tree, &key(MAIN), &wish).await.unwrap();
    let value = serde_json::to_value(list).unwrap();
    assert_eq!(value["count"], 3);
    assert_eq!(
        value["sessions"][1],
        json!({
            "key": "agent:main:subagent:a",
            "kind": "other",
            "channel": "internal",
            "agentId": "main",
            "label": "survey",
            "displayName": "survey",
            "spawnedBy": MAIN,
            "spawnDepth": 1,
            "createdAt": 1,
            "updatedAt": 1,
            "runId": run_id(7).to_string(),
            "status": "running",
            "model": "p/main",
            "totalTokens": 15,
            "messages": [{
                "seq": 0, "role": "user", "timestamp": 0,
                "content": [{"type": "text", "text": "Survey the field"}],
            }],
        })
    );
    assert_eq!(value["sessions"][2]["messages"], json!([]));
    assert!(value["sessions"][2].get("status").is_none(), "a session without a run");
}

#[tokio::test]
async fn messages_of_all_sessions_share_one_bound() {
    let mut store = Store::default();
    for n in 0..60 {
        let name = format!("agent:main:explicit:{n}");
        store.add_session(&name, None);
        store.user(&name, &"x".repeat(3_900));
    }
    let wish = Wish { messages: 20, ..all() };
    let list = list(&store.shared(), Visibility::All, &key(MAIN), &wish).await.unwrap();
    assert_eq!(list.count, 50);
    assert!(reply::ok(&list).text.len() < 2 * MAX_BYTES);
}

#[tokio::test]
async fn the_search_for_visible_sessions_is_bounded() {
    let mut store = Store::default();
    store.add_session(MAIN, None);
    for n in 0..2_500 {
        store.add_session(&format!("agent:helper:explicit:{n}"), None);
    }
    let list = list(&store.shared(), Visibility::Agent, &key(MAIN), &all()).await.unwrap();
    assert_eq!((list.count, list.more), (0, true));
}
