//! `/v1/models`: agents as the models of clients that know no agents. And what such a client may write for one.

use http::{Method, StatusCode};
use offshoot_actors::types::{AgentId, Scope, Settings};
use serde_json::{Value, json};

use super::{Call, Problem, Refused, Response, access, either, path};
use crate::config::GatewaySettings;

const PATH: &str = "/v1/models";
/// The default agent.
const PLAIN: &str = "openclaw";
const DEFAULT: &str = "openclaw/default";
const PREFIXES: [&str; 3] = ["openclaw/", "openclaw:", "agent:"];

/// What a client writes for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// The agent of those who name none.
    Default,
    /// The agent of this name.
    Named(&'a str),
}

impl<'a> Target<'a> {
    /// Reads a model's id; none if it is no agent's.
    pub(super) fn parse(model: &'a str) -> Option<Self> {
        let model = model.trim();
        if model.eq_ignore_ascii_case(PLAIN) || model.eq_ignore_ascii_case(DEFAULT) {
            return Some(Self::Default);
        }
        let name = PREFIXES.iter().find_map(|prefix| {
            let (start, name) = model.split_at_checked(prefix.len())?;
            start.eq_ignore_ascii_case(prefix).then_some(name)
        })?;
        name.parse::<AgentId>().is_ok().then_some(Self::Named(name))
    }

    /// The agent, if it is configured.
    pub(super) fn agent(self, settings: &Settings) -> Option<AgentId> {
        match self {
            Self::Default => Some(settings.default_agent.clone()),
            Self::Named(name) => {
                let agent = name.parse::<AgentId>().ok()?;
                settings.agents.contains_key(&agent).then_some(agent)
            }
        }
    }
}

pub(super) fn serves(gateway: &GatewaySettings, path: &str) -> bool {
    let here = path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    here && (gateway.chat_completions.enabled || gateway.responses.enabled)
}

pub(super) async fn answer(call: Call) -> Response {
    either(respond(&call).await)
}

async fn respond(call: &Call) -> Result<Response, Refused> {
    call.only(&Method::GET)?;
    access::caller(call).await?.needs(Scope::Read)?;
    let settings = call.daemon.tree().map_err(|_| Problem::starting())?.settings();
    let id = call.path().strip_prefix(PATH).unwrap_or_default().trim_matches('/');
    if id.is_empty() {
        let ids = [PLAIN.to_owned(), DEFAULT.to_owned()];
        let agents = settings.agents.keys().map(|agent| format!("openclaw/{agent}"));
        let data: Vec<Value> = ids.into_iter().chain(agents).map(|id| model(&id)).collect();
        return Ok(super::json(StatusCode::OK, &json!({ "object": "list", "data": data })));
    }
    let id = path::decoded(id).ok_or_else(|| Problem::invalid("Invalid model id."))?;
    let target = Target::parse(&id).ok_or_else(|| Problem::invalid("Invalid model id."))?;
    if target.agent(&settings).is_none() {
        let text = format!("Model '{id}' not found.");
        return Err(Problem::new(StatusCode::NOT_FOUND, "invalid_request_error", text).into());
    }
    Ok(super::json(StatusCode::OK, &model(&id)))
}

fn model(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 0, "owned_by": "openclaw", "permission": [] })
}

#[cfg(test)]
mod tests {
    use offshoot_actors::types::ModelRef;

    use super::*;

    #[test]
    fn agents_are_written_in_several_ways() {
        for (model, expected) in [
            ("openclaw", Some(Target::Default)),
            (" OpenClaw/default ", Some(Target::Default)),
            ("openclaw/main", Some(Target::Named("main"))),
            ("openclaw:main", Some(Target::Named("main"))),
            ("agent:Main", Some(Target::Named("Main"))),
            ("gpt-4o", None),
            ("openclaw/", None),
            ("openclaw/a b", None),
            ("openclaw/a/b", None),
            ("", None),
        ] {
            assert_eq!(Target::parse(model), expected, "{model:?}");
        }
    }

    #[test]
    fn only_configured_agents_are_there() {
        let settings = Settings::with_model(AgentId::main(), ModelRef::rehearsal());
        assert_eq!(Target::Default.agent(&settings), Some(AgentId::main()));
        assert_eq!(Target::Named("MAIN").agent(&settings), Some(AgentId::main()));
        assert_eq!(Target::Named("other").agent(&settings), None);
    }
}
