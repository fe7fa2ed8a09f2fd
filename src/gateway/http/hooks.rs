//! Webhooks: programs that know nothing but a secret of their own wake an agent or have it work.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use offshoot_actors::Steered;
use offshoot_actors::ports::{CallbackRow, DeliveryStatus};
use offshoot_actors::types::{
    AgentId, Callback, IdempotencyKey, Origin, PromptRequest, Refusal, Secret, SessionKey, Settings,
};
use reqwest::Url;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::body::BodyError;
use super::{Call, Problem, Refused, Response, access, body, either, path, text};
use crate::config::{GatewaySettings, Hooks};
use crate::gateway::callbacks::CallbacksMsg;
use crate::gateway::daemon::Daemon;
use crate::gateway::traces::Asking;

/// Longest name of a request.
const MAX_KEY: usize = 256;
/// Longest address for a result.
const MAX_ADDRESS: usize = 2_048;
/// Most results that are wanted at once.
const MAX_CALLBACKS: usize = 1_000;

pub(super) fn serves(gateway: &GatewaySettings, path: &str) -> bool {
    gateway.hooks.as_ref().is_some_and(|hooks| name(hooks, path).is_some())
}

/// What follows the path of all hooks.
fn name<'a>(hooks: &Hooks, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(hooks.path.as_str())?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_matches('/'))
}

pub(super) async fn answer(call: Call) -> Response {
    either(respond(call).await)
}

async fn respond(call: Call) -> Result<Response, Refused> {
    let Some(hooks) = call.config.gateway.hooks.clone() else { return Ok(super::not_found()) };
    if path::query(call.request.uri().query(), "token").is_some() {
        let hint = "Hook token must be provided via Authorization: Bearer <token> or X-OpenClaw-Token header \
                    (query parameters are not allowed).";
        return Err(text(StatusCode::BAD_REQUEST, hint).into());
    }
    call.only(&Method::POST)?;
    let origin = access::hook_caller(&call, &hooks.token).await?;
    let name = name(&hooks, call.path()).unwrap_or_default().to_owned();
    let header =
        ["idempotency-key", "x-openclaw-idempotency-key"].into_iter().find_map(|name| call.header(name));
    let key = header.map(str::to_owned);
    let Call { daemon, request, asking, .. } = call;
    let bytes = match name.as_str() {
        "wake" | "agent" => body::read(request, hooks.max_body_bytes).await.map_err(unreadable)?,
        _ => {
            let hint = "Not Found: offshoot has the hooks wake and agent; hooks.mappings is not supported\n";
            return Err(text(StatusCode::NOT_FOUND, hint).into());
        }
    };
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    if name == "wake" {
        return wake(&daemon, body::parse(bytes).map_err(unreadable)?, origin, &asking).await;
    }
    let wish: Agent = body::parse(bytes).map_err(unreadable)?;
    agent(&daemon, &hooks, wish, key, origin, &asking).await
}

fn refused(status: StatusCode, message: impl Into<String>) -> Refused {
    super::json(status, &json!({ "ok": false, "error": message.into() })).into()
}

fn invalid(message: impl Into<String>) -> Refused {
    refused(StatusCode::BAD_REQUEST, message)
}

fn unreadable(error: BodyError) -> Refused {
    let response = super::json(error.status(), &json!({ "ok": false, "error": error.to_string() }));
    error.closing(response).into()
}

fn by_tree(refusal: &Refusal) -> Refused {
    let problem = Problem::refused(refusal);
    refused(problem.status, problem.message)
}

#[derive(Debug, Deserialize)]
struct Wake {
    text: Option<String>,
    mode: Option<String>,
}

/// Tells the default agent's main session something: its open run, or one that is started for it.
async fn wake(
    daemon: &Daemon,
    wake: Wake,
    origin: Origin,
    asking: &Arc<Asking>,
) -> Result<Response, Refused> {
    let said = wake.text.filter(|text| !text.trim().is_empty()).ok_or_else(|| invalid("text required"))?;
    match wake.mode.as_deref() {
        None | Some("now") => {}
        Some("next-heartbeat") => {
            return Err(invalid(
                "mode next-heartbeat is not supported by offshoot, which has no heartbeats: use now",
            ));
        }
        Some(_) => return Err(invalid("mode must be now")),
    }
    let tree = daemon.tree().map_err(|_| Problem::starting())?;
    let session = SessionKey::main(&tree.settings().default_agent);
    let pending = asking.begin();
    match tree.steer(session.clone(), said, origin).await.map_err(|refusal| by_tree(&refusal))? {
        Steered::Started(run) => pending.started(run, &session, false),
        Steered::Queued(run) => pending.started(run, &session, true),
    }
    Ok(super::json(StatusCode::OK, &json!({ "ok": true, "mode": "now" })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Agent {
    message: Option<String>,
    agent_id: Option<String>,
    session_key: Option<String>,
    channel: Option<String>,
    to: Option<String>,
    model: Option<String>,
    timeout_seconds: Option<f64>,
    idempotency_key: Option<String>,
    /// Where the result is wanted. Offshoot's own.
    callback_url: Option<String>,
}

/// Starts a run and answers at once. Its result goes where the caller wants it, once all of it is there.
async fn agent(
    daemon: &Daemon,
    hooks: &Hooks,
    wish: Agent,
    header_key: Option<String>,
    origin: Origin,
    asking: &Arc<Asking>,
) -> Result<Response, Refused> {
    let message = wish.message.clone().filter(|text| !text.trim().is_empty());
    let message = message.ok_or_else(|| invalid("message required"))?;
    if wish.to.is_some() || wish.channel.as_deref().is_some_and(|channel| channel != "last") {
        return Err(invalid(
            "channel and to are not supported by offshoot: leave them out, and use callbackUrl for the result",
        ));
    }
    let tree = daemon.tree().map_err(|_| Problem::starting())?;
    let agent = choose(hooks, &tree.settings(), wish.agent_id.as_deref())?;
    let key = header_key.or_else(|| wish.idempotency_key.clone()).filter(|key| !key.is_empty());
    if key.as_ref().is_some_and(|key| key.len() > MAX_KEY) {
        return Err(invalid(format!("the idempotency key must have at most {MAX_KEY} characters")));
    }
    let session = session(hooks, &agent, wish.session_key.as_deref(), key.as_deref())?;
    let address = wish.callback_url.as_deref().map(address).transpose()?;
    let wanted = address.map(|address| Callback { address, at: daemon.clock.now() });
    if wanted.is_some() {
        let waiting = tree.storage().callbacks().await;
        let waiting = waiting.map_err(|error| by_tree(&Refusal::error("store", error.to_string())))?;
        if waiting.len() >= MAX_CALLBACKS {
            let text = format!(
                "{MAX_CALLBACKS} results wait to be delivered already: try again later; `offshoot deliveries list --kind \
                 callback` shows them"
            );
            return Err(refused(StatusCode::TOO_MANY_REQUESTS, text));
        }
    }
    let mut request = PromptRequest::new(session.clone(), message);
    request.model = wish.model.clone().filter(|model| !model.trim().is_empty());
    request.timeout = wish.timeout_seconds.map(timeout).transpose()?;
    request.idempotency = key.map(|key| IdempotencyKey { key: format!("hook:{key}"), may_repeat: true });
    request.callback = wanted.clone();
    let pending = asking.begin();
    let submitted = tree.submit(request, origin).await.map_err(|refusal| by_tree(&refusal))?;
    pending.started(submitted.run, &submitted.session, submitted.repeated);
    let mut answer = json!({ "ok": true, "runId": submitted.run, "sessionKey": submitted.session });
    if let Some(traceparent) = asking.traceparent() {
        answer["traceparent"] = traceparent.into();
    }
    if let Some(Callback { address, at }) = wanted {
        let callback = CallbackRow { run: submitted.run, address, at };
        // The run of an earlier request was accepted with the address that that one named.
        if submitted.repeated {
            tree.keep_callback(callback.clone()).await.map_err(|refusal| by_tree(&refusal))?;
        }
        answer["delivery"] = json!({ "receiver": callback.receiver(), "state": DeliveryStatus::Open });
        daemon.tell_callbacks(CallbacksMsg::Kept(callback));
    }
    Ok(super::json(StatusCode::OK, &answer))
}

fn choose(hooks: &Hooks, settings: &Settings, id: Option<&str>) -> Result<AgentId, Refused> {
    let Some(id) = id.map(str::trim).filter(|id| !id.is_empty()) else {
        return Ok(settings.default_agent.clone());
    };
    let shown: String = id.chars().take(64).collect();
    let agent = id.parse::<AgentId>().ok().filter(|agent| settings.agents.contains_key(agent));
    let agent = agent.ok_or_else(|| invalid(format!("unknown agentId {shown:?}")))?;
    if hooks.allowed_agents.as_ref().is_some_and(|allowed| !allowed.contains(&agent)) {
        return Err(invalid(format!("agentId {shown:?} is not allowed by hooks.allowedAgentIds")));
    }
    Ok(agent)
}

/// The session of the run. A repeated request finds the one of the first.
fn session(
    hooks: &Hooks,
    agent: &AgentId,
    asked: Option<&str>,
    key: Option<&str>,
) -> Result<SessionKey, Refused> {
    let asked = asked.map(str::trim).filter(|name| !name.is_empty());
    if asked.is_some() && !hooks.allow_request_session_key {
        return Err(invalid(
            "sessionKey is disabled for external /hooks/agent payloads; set hooks.allowRequestSessionKey=true to \
             enable",
        ));
    }
    let prefixes = &hooks.allowed_session_key_prefixes;
    let named = asked.or(hooks.default_session_key.as_deref());
    let name = match (named, key) {
        (Some(name), _) => name.to_ascii_lowercase(),
        (None, Some(key)) => format!("hook:{}", hex(&Sha256::digest(key.as_bytes())[..16])),
        (None, None) => format!("hook:{}", Daemon::new_id()),
    };
    let own = format!("agent:{agent}:");
    let bare = name.strip_prefix(&own).unwrap_or(&name);
    let begins = |prefix: &String| bare.starts_with(&prefix.to_ascii_lowercase());
    if asked.is_some() && !prefixes.is_empty() && !prefixes.iter().any(begins) {
        return Err(invalid(format!("sessionKey must begin with one of {}", prefixes.join(", "))));
    }
    super::agent_run::named_session(agent, &name).map_err(|problem| invalid(problem.message))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn timeout(seconds: f64) -> Result<Duration, Refused> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| invalid("timeoutSeconds must be a number of seconds, 0 for no limit"))
}

/// An address that can be posted to.
fn address(text: &str) -> Result<Secret, Refused> {
    let url = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    match url.filter(|url| url.has_host() && text.len() <= MAX_ADDRESS) {
        Some(url) => Ok(Secret::presented(url.as_str())),
        None => {
            let hint =
                format!("callbackUrl must be an http or https URL of at most {MAX_ADDRESS} characters");
            Err(invalid(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks() -> Hooks {
        Hooks {
            path: "/hooks".to_owned(),
            token: "secret".into(),
            max_body_bytes: 1_000,
            default_session_key: None,
            allow_request_session_key: false,
            allowed_session_key_prefixes: Vec::new(),
            allowed_agents: None,
        }
    }

    fn key(hooks: &Hooks, asked: Option<&str>, key: Option<&str>) -> Result<String, StatusCode> {
        let session = session(hooks, &AgentId::main(), asked, key);
        session.map(String::from).map_err(|refused| refused.0.status())
    }

    #[test]
    fn hooks_have_a_path_of_their_own() {
        let hooks = hooks();
        assert_eq!(name(&hooks, "/hooks/wake"), Some("wake"));
        assert_eq!(name(&hooks, "/hooks/agent/"), Some("agent"));
        assert_eq!(name(&hooks, "/hooks"), Some(""));
        assert_eq!(name(&hooks, "/hooksagent"), None);
        assert_eq!(name(&hooks, "/other"), None);
    }

    #[test]
    fn a_session_is_new_or_that_of_the_first_request() {
        let hooks = hooks();
        assert_ne!(key(&hooks, None, None), key(&hooks, None, None));
        let first = key(&hooks, None, Some("k")).unwrap();
        assert_eq!(Ok(&first), key(&hooks, None, Some("k")).as_ref());
        assert!(first.starts_with("agent:main:hook:"));
        assert_ne!(Ok(first), key(&hooks, None, Some("l")));
    }

    #[test]
    fn a_caller_names_a_session_only_where_that_is_allowed() {
        assert_eq!(key(&hooks(), Some("hook:a"), None), Err(StatusCode::BAD_REQUEST));
        let open = Hooks { allow_request_session_key: true, ..hooks() };
        assert_eq!(key(&open, Some("hook:A"), None).unwrap(), "agent:main:hook:a");
        assert!(key(&open, Some("agent:other:main"), None).is_err());
        let prefixes = vec!["hook:".to_owned()];
        let some = Hooks { allowed_session_key_prefixes: prefixes, ..open };
        assert_eq!(key(&some, Some("agent:main:hook:a"), None).unwrap(), "agent:main:hook:a");
        assert!(key(&some, Some("main"), None).is_err());
        let usual = Hooks { default_session_key: Some("inbox".to_owned()), ..hooks() };
        assert_eq!(key(&usual, None, Some("k")).unwrap(), "agent:main:inbox");
    }

    #[test]
    fn results_go_to_addresses_that_can_be_posted_to() {
        assert_eq!(address("http://127.0.0.1:8/x?t=1").unwrap().expose(), "http://127.0.0.1:8/x?t=1");
        for wrong in ["", "ftp://a/", "file:///etc/passwd", "http://", "/path"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
        assert!(address(&format!("http://a/{}", "x".repeat(3_000))).is_err());
        assert!(timeout(-1.0).is_err() && timeout(f64::NAN).is_err());
        assert_eq!(timeout(1.5).unwrap(), Duration::from_millis(1_500));
    }
}
