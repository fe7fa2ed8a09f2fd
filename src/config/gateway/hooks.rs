//! Reads `hooks`.

use offshoot_actors::types::AgentId;

use super::super::agents::normalise;
use super::super::problem::Kind;
use super::super::read::{Cursor, Reader};
use super::Hooks;
use super::read::{bytes_at, path_at};

const DEFAULT_PATH: &str = "/hooks";
const DEFAULT_MAX_BODY: usize = 256 * 1024;

pub(super) fn read(root: &Cursor<'_>, reader: &mut Reader<'_>) -> Option<Hooks> {
    let hooks = reader.section(root, "hooks")?;
    let enabled = reader.bool_at(&hooks, "enabled").unwrap_or(false);
    let path = path_at(&hooks, "path", reader);
    let token = reader.secret_at(&hooks, "token");
    let max_body_bytes = bytes_at(&hooks, "maxBodyBytes", reader).unwrap_or(DEFAULT_MAX_BODY);
    let default_session_key = hooks.get("defaultSessionKey").and_then(|key| reader.filled_text(&key));
    let allow_request_session_key = reader.bool_at(&hooks, "allowRequestSessionKey").unwrap_or(false);
    let allowed_session_key_prefixes =
        reader.texts_at(&hooks, "allowedSessionKeyPrefixes").unwrap_or_default();
    let allowed_agents = agents(&hooks, reader);
    if !enabled {
        return None;
    }
    if path.as_deref() == Some("")
        && let Some(cursor) = hooks.get("path")
    {
        reader.error(&cursor, Kind::Value, "it would take every path: write one such as /hooks");
    }
    if token.is_none() && hooks.get("token").is_none_or(|token| token.node.kind() == "a string") {
        reader.error(
            &hooks,
            Kind::Value,
            "token is missing: add the one that callers send, or set enabled to false",
        );
    }
    Some(Hooks {
        path: path.unwrap_or_else(|| DEFAULT_PATH.to_owned()),
        token: token?,
        max_body_bytes,
        default_session_key,
        allow_request_session_key,
        allowed_session_key_prefixes,
        allowed_agents,
    })
}

/// The agents that may be named; none for all.
fn agents(hooks: &Cursor<'_>, reader: &mut Reader<'_>) -> Option<Vec<AgentId>> {
    let list = reader.list(hooks, "allowedAgentIds")?;
    let mut agents = Vec::new();
    let mut all = false;
    for item in list.items() {
        match reader.filled_text(&item).as_deref().map(str::trim) {
            Some("*") => all = true,
            Some(text) => agents.push(normalise(text)),
            None => {}
        }
    }
    (!all).then_some(agents)
}
