//! `sessions_history`: the latest messages of a session.

use std::sync::Arc;

use offshoot_actors::ports::{Storage, ToolOutput};
use offshoot_actors::types::{SessionKey, Visibility};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arguments::{self, BadArguments, filled};
use super::lookup::{self, session_key};
use super::messages::{MAX_BYTES, Message, fit, tail};
use super::reply::{self, Failure};
use super::{Call, Tool, schema};

const DEFAULT_LIMIT: u32 = 200;
const MAX_LIMIT: u32 = 1_000;

pub(super) const TOOL: Tool = Tool {
    name: "sessions_history",
    description: "Read the latest messages of a session, for example of a sub-agent. Long texts are cut.",
    parameters: schema::of::<Parameters>,
    parallel: true,
    idempotent: true,
    yields: false,
    groups: &["sessions", "openclaw"],
    run: |call| Box::pin(run(call)),
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Parameters {
    /// The session's key, as sessions_spawn, subagents and sessions_list name it.
    #[schemars(required)]
    session_key: Option<String>,
    /// At most this many messages; 200 if left out.
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<u32>,
    /// Whether tool calls and their results are shown.
    include_tools: Option<bool>,
}

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
struct Wish {
    session: SessionKey,
    limit: u32,
    tools: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct History {
    session_key: SessionKey,
    messages: Vec<Message>,
    truncated: bool,
    dropped_messages: bool,
    content_truncated: bool,
    content_redacted: bool,
    bytes: usize,
}

async fn run(call: Call) -> Result<ToolOutput, Failure> {
    let wish = parse(arguments::read(call.arguments)?)?;
    let tree = &call.context.tree;
    let history = history(tree.storage(), tree.settings().visibility, &call.context.session, wish).await?;
    Ok(reply::ok(&history))
}

fn parse(parameters: Parameters) -> Result<Wish, BadArguments> {
    let key = filled(parameters.session_key)
        .ok_or_else(|| BadArguments("parameter \"sessionKey\" must name a session".to_owned()))?;
    Ok(Wish {
        session: session_key(&key)?,
        limit: arguments::within("limit", parameters.limit.unwrap_or(DEFAULT_LIMIT), 1..=MAX_LIMIT)?,
        tools: parameters.include_tools.unwrap_or(false),
    })
}

async fn history(
    storage: &Arc<dyn Storage>,
    visibility: Visibility,
    caller: &SessionKey,
    wish: Wish,
) -> Result<History, Failure> {
    lookup::session(storage, visibility, caller, &wish.session, "Session history").await?;
    let limit = usize::try_from(wish.limit).unwrap_or(usize::MAX);
    let tail = tail(storage, &wish.session, limit, wish.tools).await?;
    let mut messages = tail.messages;
    let found = messages.len();
    let bytes = fit(&mut messages, MAX_BYTES);
    let dropped = messages.len() < found;
    let cut = messages.iter().any(|message| message.cut);
    Ok(History {
        session_key: wish.session,
        truncated: dropped || cut || tail.older,
        dropped_messages: dropped,
        content_truncated: cut,
        content_redacted: false,
        bytes,
        messages,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tools::testing::{Store, key};

    fn asked(arguments: Value) -> Result<Wish, BadArguments> {
        parse(arguments::read(arguments::object(&arguments.to_string())?)?)
    }

    #[test]
    fn parameters_have_defaults_and_bounds() {
        let wish = asked(json!({"sessionKey": " Agent:Main:main "})).unwrap();
        assert_eq!(wish, Wish { session: key("agent:main:main"), limit: 200, tools: false });
        for wrong in [
            json!({}),
            json!({"sessionKey": "main"}),
            json!({"sessionKey": "agent:main:main", "limit": 0}),
            json!({"sessionKey": "agent:main:main", "limit": 1_001}),
            json!({"sessionKey": "agent:main:main", "sessionId": "x"}),
        ] {
            assert!(asked(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sample_arguments_fit_the_schema() {
        let schema = schema::of::<Parameters>();
        assert!(jsonschema::is_valid(
            &schema,
            &json!({"sessionKey": "agent:main:main", "limit": 5, "includeTools": true})
        ));
        assert!(!jsonschema::is_valid(&schema, &json!({"limit": 5})));
        assert!(!jsonschema::is_valid(&schema, &json!({"sessionKey": "agent:main:main", "limit": 0})));
    }

    fn store(messages: usize, length: usize) -> Arc<dyn Storage> {
        let mut store = Store::default();
        store.add_session("agent:main:main", None);
        store.add_session("agent:main:subagent:a", Some("agent:main:main"));
        store.add_session("agent:helper:main", None);
        for _ in 0..messages {
            store.user("agent:main:subagent:a", &"x".repeat(length));
        }
        store.shared()
    }

    async fn read(storage: &Arc<dyn Storage>, visibility: Visibility, of: &str) -> Result<Value, Failure> {
        let wish = Wish { session: key(of), limit: 200, tools: false };
        let history = history(storage, visibility, &key("agent:main:main"), wish).await?;
        Ok(serde_json::to_value(history).unwrap())
    }

    #[tokio::test]
    async fn a_short_history_is_whole() {
        let value = read(&store(2, 3), Visibility::Tree, "agent:main:subagent:a").await.unwrap();
        assert_eq!(value["sessionKey"], "agent:main:subagent:a");
        assert_eq!(value["messages"].as_array().unwrap().len(), 2);
        for flag in ["truncated", "droppedMessages", "contentTruncated", "contentRedacted"] {
            assert_eq!(value[flag], false, "{flag}");
        }
    }

    #[tokio::test]
    async fn a_long_history_stays_within_its_bytes() {
        let storage = store(100, 5_000);
        let wish = Wish { session: key("agent:main:subagent:a"), limit: 200, tools: false };
        let history = history(&storage, Visibility::All, &key("agent:main:main"), wish).await.unwrap();
        assert!(history.bytes <= MAX_BYTES && history.bytes > MAX_BYTES / 2);
        assert!(history.truncated && history.dropped_messages && history.content_truncated);
        assert_eq!(history.messages.last().map(|message| message.seq), Some(99));
        assert!(reply::ok(&history).text.len() < MAX_BYTES + 500);
    }

    #[tokio::test]
    async fn what_may_not_be_seen_is_refused() {
        let storage = store(1, 1);
        let error = read(&storage, Visibility::Agent, "agent:helper:main").await.unwrap_err();
        assert!(error.to_string().contains("tools.sessions.visibility=all"));
        assert!(read(&storage, Visibility::Own, "agent:main:subagent:a").await.is_err());
        let error = read(&storage, Visibility::All, "agent:main:gone").await.unwrap_err();
        assert!(error.to_string().contains("there is no session agent:main:gone"));
    }
}
