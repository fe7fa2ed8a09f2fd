//! `/sessions/<key>/history` and `/sessions/<key>/kill`.

use http::header::ACCEPT;
use http::{Method, StatusCode};
use offshoot_actors::TreeHandle;
use offshoot_actors::ports::StoreError;
use offshoot_actors::types::{Refusal, Scope, SessionKey};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::{Call, Problem, Refused, Response, access, either, path};
use crate::gateway::messages::{self, Shape};
use crate::gateway::recent::recent;
use crate::protocol::version::Protocol;
use crate::tools::messages::length;

const PREFIX: &str = "/sessions/";
const DEFAULT_LIMIT: u32 = 200;
const MAX_LIMIT: u32 = 1_000;

/// What is asked of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked<'a> {
    History(&'a str),
    Kill(&'a str),
}

impl<'a> Asked<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let (key, what) = path.strip_prefix(PREFIX)?.rsplit_once('/')?;
        match what {
            "history" if !key.is_empty() => Some(Self::History(key)),
            "kill" if !key.is_empty() => Some(Self::Kill(key)),
            _ => None,
        }
    }
}

pub(super) fn serves(path: &str) -> bool {
    Asked::of(path).is_some()
}

pub(super) async fn answer(call: Call) -> Response {
    either(respond(&call).await)
}

async fn respond(call: &Call) -> Result<Response, Refused> {
    match Asked::of(call.path()) {
        Some(Asked::History(key)) => history(call, key).await,
        Some(Asked::Kill(key)) => kill(call, key).await,
        None => Ok(super::not_found()),
    }
}

/// The session of that name, if there is one.
async fn session(tree: &TreeHandle, written: &str) -> Result<SessionKey, Refused> {
    let name = path::decoded(written).ok_or_else(|| unknown(written))?;
    let key = name.parse().or_else(|_| {
        let agent = &tree.settings().default_agent;
        format!("agent:{agent}:{name}").parse::<SessionKey>()
    });
    let key = key.map_err(|_| unknown(&name))?;
    match tree.storage().session(key.clone()).await {
        Ok(Some(_)) => Ok(key),
        Ok(None) => Err(unknown(&name)),
        Err(error) => Err(unread(error)),
    }
}

fn unknown(name: &str) -> Refused {
    let name: String = name.chars().take(128).collect();
    let error = json!({ "type": "not_found", "message": format!("Session not found: {name}") });
    super::json(StatusCode::NOT_FOUND, &json!({ "ok": false, "error": error })).into()
}

fn unread(error: StoreError) -> Refused {
    Problem::refused(&Refusal::error("store", error.to_string())).into()
}

async fn history(call: &Call, key: &str) -> Result<Response, Refused> {
    call.only(&Method::GET)?;
    access::caller(call).await?.needs(Scope::Read)?;
    let accept = call.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/event-stream") {
        let text = "a stream of messages is not supported by offshoot: ask for application/json, or follow the \
                    session by WebSocket (sessions.messages.subscribe)";
        return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "invalid_request_error", text).into());
    }
    let page = Page::of(call.request.uri().query())?;
    let tree = call.daemon.tree().map_err(|_| Problem::starting())?;
    let key = session(tree, key).await?;
    let storage = tree.storage();
    let end = match page.before {
        // A message's number is its entry's and one.
        Some(before) => before.saturating_sub(1),
        None => length(storage, &key).await.map_err(unread)?,
    };
    let room = (messages::MAX_BYTES, usize::MAX);
    let entries = recent(storage, &key, Some(end), page.limit, room).await.map_err(unread)?;
    let written = entries
        .iter()
        .rev()
        .filter_map(|entry| to_raw_value(&messages::message(entry, &Shape::whole(Protocol::V4))).ok());
    let shown: Vec<Box<RawValue>> = messages::fit(written, messages::MAX_BYTES);
    // What did not fit is on the next page.
    let first = end.saturating_sub(shown.len().max(usize::from(!entries.is_empty())) as u64);
    let mut answer = json!({ "sessionKey": key, "items": shown, "messages": shown, "hasMore": first > 0 });
    if first > 0 {
        answer["nextCursor"] = Value::from(format!("seq:{}", first + 1));
    }
    Ok(super::json(StatusCode::OK, &answer))
}

/// Which messages are asked for.
#[derive(Debug, PartialEq)]
struct Page {
    limit: u32,
    /// Only messages with lower numbers.
    before: Option<u64>,
}

impl Page {
    fn of(query: Option<&str>) -> Result<Self, Problem> {
        let limit = match path::query(query, "limit") {
            None => DEFAULT_LIMIT,
            Some(text) => {
                let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                limit.ok_or_else(|| Problem::invalid(format!("limit must be 1 to {MAX_LIMIT}")))?
            }
        };
        let before = match path::query(query, "cursor") {
            None => None,
            Some(text) => {
                let seq = text.strip_prefix("seq:").unwrap_or(&text).parse().ok();
                Some(seq.ok_or_else(|| Problem::invalid("cursor must be the nextCursor of an answer"))?)
            }
        };
        Ok(Self { limit, before })
    }
}

async fn kill(call: &Call, key: &str) -> Result<Response, Refused> {
    call.only(&Method::POST)?;
    let caller = access::caller(call).await?;
    caller.needs(Scope::Admin)?;
    let tree = call.daemon.tree().map_err(|_| Problem::starting())?;
    let key = session(tree, key).await?;
    let stopped = tree.stop(key, caller.origin).await.map_err(|refusal| Problem::refused(&refusal))?;
    Ok(super::json(StatusCode::OK, &json!({ "ok": true, "killed": !stopped.ended.is_empty() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_session_and_what_is_asked_of_it() {
        for (path, expected) in [
            ("/sessions/agent%3Amain%3Amain/history", Some(Asked::History("agent%3Amain%3Amain"))),
            ("/sessions/agent:main:a/b/kill", Some(Asked::Kill("agent:main:a/b"))),
            ("/sessions//history", None),
            ("/sessions/history", None),
            ("/sessions/a/other", None),
            ("/session/a/kill", None),
        ] {
            assert_eq!(Asked::of(path), expected, "{path}");
        }
    }

    #[test]
    fn pages_have_bounds() {
        let page = |query| Page::of(Some(query)).map_err(|problem| problem.message);
        assert_eq!(page(""), Ok(Page { limit: 200, before: None }));
        assert_eq!(page("limit=5&cursor=seq%3A7"), Ok(Page { limit: 5, before: Some(7) }));
        for wrong in ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=seq:"] {
            assert!(page(wrong).is_err(), "{wrong}");
        }
    }
}
