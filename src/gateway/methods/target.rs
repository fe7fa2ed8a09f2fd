//! Which session and which run a request is about.

use offshoot_actors::TreeHandle;
use offshoot_actors::ports::{RequestKey, RunRow, StoreError};
use offshoot_actors::types::{AgentId, Origin, Refusal, RunId, SessionKey, Settings};

use super::Call;
use super::call::refused;
use crate::gateway::daemon::Daemon;
use crate::gateway::rows::session_id;
use crate::protocol::error::ErrorShape;

/// The session of a request: `key` in full, or a name within the agent, or the agent's main session.
///
/// # Errors
/// The agent is not configured, the key is not valid, or it is another agent's.
pub(crate) fn session(
    method: &str,
    settings: &Settings,
    agent: Option<&str>,
    key: Option<&str>,
) -> Result<SessionKey, ErrorShape> {
    let session = any_session(method, settings, agent, key)?;
    known_agent(method, settings, session.agent().as_str())?;
    Ok(session)
}

/// The session of a request, also if its agent is not configured any more.
///
/// # Errors
/// The agent's id or the key is not valid, or it is another agent's.
pub(crate) fn any_session(
    method: &str,
    settings: &Settings,
    agent: Option<&str>,
    key: Option<&str>,
) -> Result<SessionKey, ErrorShape> {
    let invalid = |problem: String| ErrorShape::invalid(format!("invalid {method} params: {problem}"));
    let named = agent.map(str::trim).filter(|agent| !agent.is_empty());
    let named = named.map(|agent| agent.parse::<AgentId>().map_err(|_| unknown_agent(method, agent)));
    let named = named.transpose()?;
    let owner = named.as_ref().unwrap_or(&settings.default_agent);
    let key = key.map(str::trim).filter(|key| !key.is_empty());
    let Some(key) = key.filter(|key| !key.eq_ignore_ascii_case("main")) else {
        return Ok(SessionKey::main(owner));
    };
    let full = key.get(..6).is_some_and(|prefix| prefix.eq_ignore_ascii_case("agent:"));
    let full = if full { key.to_owned() } else { format!("agent:{owner}:{key}") };
    let session: SessionKey =
        full.parse().map_err(|error: offshoot_actors::types::NameError| invalid(error.to_string()))?;
    let owner = session.agent();
    if let Some(named) = named
        && named != owner
    {
        return Err(invalid(format!("session {session} belongs to agent \"{owner}\", not to \"{named}\"")));
    }
    Ok(session)
}

/// A configured agent.
///
/// # Errors
/// There is none of this id.
pub(crate) fn known_agent(method: &str, settings: &Settings, id: &str) -> Result<AgentId, ErrorShape> {
    let agent: AgentId = id.parse().map_err(|_| unknown_agent(method, id))?;
    if settings.agents.contains_key(&agent) {
        return Ok(agent);
    }
    Err(unknown_agent(method, id).refusing(&settings.no_agent(&agent)))
}

fn unknown_agent(method: &str, id: &str) -> ErrorShape {
    let id: String = id.chars().take(80).collect();
    ErrorShape::invalid(format!("invalid {method} params: unknown agent id {id:?}"))
}

/// Refuses a request that is about another conversation than the one that the session has now: the client has missed that
/// it was reset.
///
/// # Errors
/// The session's id is another one, or the store cannot be read.
pub(crate) async fn same_transcript(
    call: &Call,
    tree: &TreeHandle,
    session: &SessionKey,
    id: Option<&str>,
) -> Result<(), ErrorShape> {
    let Some(id) = id.map(str::trim).filter(|id| !id.is_empty()) else { return Ok(()) };
    let row = tree.storage().session(session.clone()).await.map_err(unread)?;
    if row.is_some_and(|row| session_id(&row).to_string().eq_ignore_ascii_case(id)) {
        return Ok(());
    }
    Err(ErrorShape::invalid(format!(
        "invalid {} params: sessionId is not that of {session} any more: read the session again, or leave it out",
        call.method
    )))
}

/// The run of that name: the caller's own, or the one that was named so last, or the run of that id.
///
/// # Errors
/// The store cannot be read.
pub(crate) async fn run(
    daemon: &Daemon,
    tree: &TreeHandle,
    origin: &Origin,
    name: &str,
) -> Result<Option<RunRow>, ErrorShape> {
    let storage = tree.storage();
    let key = RequestKey { principal: origin.principal(), method: "prompt", key: name.to_owned() };
    if let Some(earlier) = storage.earlier(key).await.map_err(unread)? {
        return Ok(Some(earlier.run));
    }
    if let Some(id) = daemon.runs.named(name) {
        return storage.run(id).await.map_err(unread);
    }
    let named = storage.runs_named(name.to_owned(), 1).await.map_err(unread)?;
    match (named.into_iter().next(), name.parse::<RunId>()) {
        (None, Ok(id)) => storage.run(id).await.map_err(unread),
        (named, _) => Ok(named),
    }
}

/// The answer where the store cannot be read.
pub(crate) fn unread(error: StoreError) -> ErrorShape {
    refused(&Refusal::error("store", error.to_string()))
}

#[cfg(test)]
mod tests {
    use offshoot_actors::types::ModelRef;

    use super::*;

    fn settings() -> Settings {
        Settings::with_model(AgentId::main(), ModelRef::rehearsal())
    }

    fn found(agent: Option<&str>, key: Option<&str>) -> Result<String, String> {
        let found = session("agent", &settings(), agent, key);
        found.map(|key| key.to_string()).map_err(|error| error.message)
    }

    #[test]
    fn a_session_is_named_in_full_or_within_its_agent() {
        for (agent, key, wanted) in [
            (None, None, "agent:main:main"),
            (Some("main"), None, "agent:main:main"),
            (None, Some("main"), "agent:main:main"),
            (None, Some(" Agent:Main:Desk "), "agent:main:desk"),
            (Some("main"), Some("desk"), "agent:main:desk"),
            (Some(""), Some(""), "agent:main:main"),
        ] {
            assert_eq!(found(agent, key).as_deref(), Ok(wanted), "{agent:?} {key:?}");
        }
    }

    #[test]
    fn what_names_no_session_of_the_agent_is_refused() {
        for (agent, key, text) in [
            (Some("nobody"), None, "invalid agent params: unknown agent id \"nobody\""),
            (None, Some("agent:nobody:main"), "unknown agent id \"nobody\""),
            (Some("main"), Some("agent:nobody:main"), "belongs to agent \"nobody\", not to \"main\""),
            (None, Some("a b"), "invalid session key"),
            (None, Some("agent:main:"), "invalid session key"),
        ] {
            let error = found(agent, key).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
