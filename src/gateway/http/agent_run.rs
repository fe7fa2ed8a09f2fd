//! A run that a request starts and waits for. It is stopped when its client goes away.

use std::sync::Arc;

use http::StatusCode;
use offshoot_actors::TreeHandle;
use offshoot_actors::ports::RequestKey;
use offshoot_actors::types::{
    AgentId, IdempotencyKey, Origin, Outcome, PromptRequest, Refusal, RunId, SessionKey, Settings, Terminal,
    Usage,
};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::conversation::{self, Turn};
use super::models::Target;
use super::{Call, Problem};
use crate::gateway::daemon::Daemon;
use crate::gateway::traces::Asking;
use crate::gateway::watch::{RunWatch, Update};

/// Sessions that a client may not speak in by name: their messages come from elsewhere.
const RESERVED: [&str; 3] = ["subagent:", "cron:", "acp:"];
/// Longest `user` that is a part of a session's name as it is.
const MAX_PLAIN_USER: usize = 128;

/// What the headers of a request choose.
#[derive(Debug, Default)]
pub(super) struct Headers {
    agent: Option<String>,
    model: Option<String>,
    session: Option<String>,
    /// From where in a trace the request comes.
    asking: Option<Arc<Asking>>,
}

impl Headers {
    pub(super) fn of(call: &Call) -> Self {
        let header = |name| call.header(name).map(str::to_owned);
        Self {
            agent: header("x-openclaw-agent-id").or_else(|| header("x-openclaw-agent")),
            model: header("x-openclaw-model"),
            session: header("x-openclaw-session-key"),
            asking: Some(Arc::clone(&call.asking)),
        }
    }
}

/// What a client asks an agent.
#[derive(Debug)]
pub(super) struct Asked {
    /// The name of the answer, and of the run.
    pub(super) id: String,
    /// The agent, as a model.
    pub(super) model: Option<String>,
    /// The client's own user, whose session stays.
    pub(super) user: Option<String>,
    /// The answer that this one follows.
    pub(super) previous: Option<String>,
    /// What names of sessions begin with.
    pub(super) surface: &'static str,
    pub(super) turns: Vec<Turn>,
}

/// A run at work.
pub(super) struct Started {
    pub(super) daemon: Arc<Daemon>,
    watch: RunWatch,
    guard: StopWhenGone,
}

/// The end of a run.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) text: String,
    pub(super) outcome: Outcome,
    pub(super) usage: Usage,
}

impl Started {
    pub(super) async fn next(&mut self) -> Update {
        let update = tokio::select! {
            update = self.watch.next() => update,
            () = self.daemon.ending.due() => {
                let reason = "the gateway stops, and goes on with the run when it starts again";
                Update::Ended(Outcome::ended(Terminal::Interrupted, reason, None), Usage::default())
            }
        };
        if matches!(update, Update::Ended(..)) {
            self.guard.armed = false;
        }
        update
    }

    /// Waits for the end.
    pub(super) async fn whole(mut self) -> Answered {
        let mut text = String::new();
        loop {
            match self.next().await {
                Update::Text(more) => text.push_str(&more),
                Update::Ended(outcome, usage) => return Answered { text, outcome, usage },
            }
        }
    }
}

/// Why a run has no answer; none if it has one, whole or cut off.
pub(super) fn failure(outcome: &Outcome) -> Option<Problem> {
    if matches!(outcome.state, Terminal::Ok | Terminal::Partial) {
        return None;
    }
    let reason = outcome.reason.as_deref().unwrap_or("no reason is known");
    let text = format!("the run ended as {}: {reason}", outcome.state);
    let status = match outcome.state {
        Terminal::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Some(Problem::new(status, "api_error", text))
}

/// Cancels the run when dropped before its end.
struct StopWhenGone {
    daemon: Arc<Daemon>,
    tree: TreeHandle,
    run: RunId,
    origin: Origin,
    armed: bool,
}

impl Drop for StopWhenGone {
    fn drop(&mut self) {
        // A daemon that stops leaves its runs open: the next one goes on with them.
        if !self.armed || self.daemon.is_stopping() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (tree, run, origin) = (self.tree.clone(), self.run, self.origin.clone());
        runtime.spawn(async move {
            if let Err(refusal) = tree.cancel(run, origin).await {
                tracing::debug!(%run, %refusal, "a run whose client went away could not be stopped");
            }
        });
    }
}

/// Starts the run that answers.
pub(super) async fn start(
    daemon: &Arc<Daemon>,
    headers: Headers,
    asked: Asked,
    origin: Origin,
) -> Result<Started, Problem> {
    let tree = daemon.tree().map_err(|_| Problem::starting())?.clone();
    let agent = agent(&tree.settings(), &headers, asked.model.as_deref())?;
    let session = match &asked.previous {
        Some(previous) => earlier(&tree, previous, &origin, &agent).await?,
        None => session(&agent, &headers, &asked)?,
    };
    let stored = tree.storage().session(session.clone()).await;
    let remembers =
        stored.map_err(|error| Problem::refused(&Refusal::error("store", error.to_string())))?.is_some();
    let mut request = PromptRequest::new(session, conversation::message(&asked.turns, remembers)?);
    request.model = headers.model;
    request.wire_id = Some(asked.id.clone());
    // Under this name an answer that follows finds the session.
    request.idempotency = Some(IdempotencyKey { key: asked.id.clone(), may_repeat: false });
    let watch = daemon.watch_run(&asked.id);
    let (sender, receiver) = oneshot::channel();
    let shared = Arc::clone(daemon);
    let pending = headers.asking.as_ref().map(Asking::begin);
    // In a task of its own: should the client go away now, the run is known and stopped.
    tokio::spawn(async move {
        let started = tree.submit(request, origin.clone()).await.map(|submitted| {
            if let Some(pending) = pending {
                pending.started(submitted.run, &submitted.session, submitted.repeated);
            }
            let guard =
                StopWhenGone { daemon: Arc::clone(&shared), tree, run: submitted.run, origin, armed: true };
            Started { daemon: shared, watch, guard }
        });
        drop(sender.send(started));
    });
    let started = receiver.await.map_err(|_| Problem::starting())?;
    started.map_err(|refusal| Problem::refused(&refusal))
}

fn agent(settings: &Settings, headers: &Headers, model: Option<&str>) -> Result<AgentId, Problem> {
    let written = match model {
        None => Target::Default,
        Some(model) => Target::parse(model)
            .ok_or_else(|| Problem::invalid("Invalid `model`. Use `openclaw` or `openclaw/<agentId>`."))?,
    };
    let target = match &headers.agent {
        Some(name) => Target::Named(name),
        None => written,
    };
    target.agent(settings).ok_or_else(|| {
        let Target::Named(name) = target else { return Problem::invalid("there is no default agent") };
        let name: String = name.chars().take(64).collect();
        Problem::invalid(format!("Unknown agent '{name}'."))
    })
}

/// The session in which the message is answered.
fn session(agent: &AgentId, headers: &Headers, asked: &Asked) -> Result<SessionKey, Problem> {
    let name = match (&headers.session, &asked.user) {
        (Some(key), _) => return named_session(agent, key),
        (None, Some(user)) => format!("{}-user:{}", asked.surface, user_name(user)),
        (None, None) => format!("{}:{}", asked.surface, Daemon::new_id()),
    };
    format!("agent:{agent}:{name}").parse().map_err(|_| Problem::invalid("Invalid `user`."))
}

/// A session by its key, or by its name among those of the agent.
pub(super) fn named_session(agent: &AgentId, key: &str) -> Result<SessionKey, Problem> {
    let lower = key.to_ascii_lowercase();
    let whole = if lower.starts_with("agent:") { lower } else { format!("agent:{agent}:{lower}") };
    let session: SessionKey = whole.parse().map_err(|_| Problem::invalid("Invalid session key."))?;
    if session.agent() != *agent {
        let text = format!("Session '{session}' is not one of agent '{agent}'.");
        return Err(Problem::invalid(text));
    }
    let name = session.as_str().splitn(3, ':').nth(2).unwrap_or_default();
    if let Some(reserved) = RESERVED.iter().find(|reserved| name.starts_with(**reserved)) {
        let text = format!("Session keys that begin with '{reserved}' are reserved: use another.");
        return Err(Problem::invalid(text));
    }
    Ok(session)
}

/// Two users never share a session: what would not keep its form in a key is hashed.
fn user_name(user: &str) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'@')
    };
    if !user.is_empty() && user.len() <= MAX_PLAIN_USER && user.bytes().all(plain) {
        return user.to_owned();
    }
    let digest = Sha256::digest(user.as_bytes());
    digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The session of an earlier answer to the same caller.
async fn earlier(
    tree: &TreeHandle,
    id: &str,
    origin: &Origin,
    agent: &AgentId,
) -> Result<SessionKey, Problem> {
    let key = RequestKey { principal: origin.principal(), method: "prompt", key: id.to_owned() };
    let found = tree.storage().earlier(key).await;
    let found = found.map_err(|error| Problem::refused(&Refusal::error("store", error.to_string())))?;
    match found.filter(|earlier| earlier.session.agent == *agent) {
        Some(earlier) => Ok(earlier.run.session),
        None => {
            let id: String = id.chars().take(128).collect();
            let text = format!("Previous response with id '{id}' not found.");
            Err(Problem::new(StatusCode::NOT_FOUND, "invalid_request_error", text))
        }
    }
}

#[cfg(test)]
mod tests {
    use offshoot_actors::types::ModelRef;

    use super::*;

    fn asked(user: Option<&str>) -> Asked {
        Asked {
            id: "id".to_owned(),
            model: None,
            user: user.map(str::to_owned),
            previous: None,
            surface: "openai",
            turns: Vec::new(),
        }
    }

    #[test]
    fn a_user_has_a_session_of_his_own() {
        let key = |user| session(&AgentId::main(), &Headers::default(), &asked(Some(user))).unwrap();
        assert_eq!(key("bob@example.org").as_str(), "agent:main:openai-user:bob@example.org");
        assert_eq!(key("bob"), key("bob"));
        for other in ["Bob", "bob ", "b ob", "bob:x", ""] {
            assert_ne!(key(other), key("bob"), "{other:?}");
            assert!(key(other).as_str().starts_with("agent:main:openai-user:sha256:"), "{other:?}");
        }
        key(&"x".repeat(100_000));
    }

    #[test]
    fn who_names_no_user_gets_a_new_session_each_time() {
        let key = || session(&AgentId::main(), &Headers::default(), &asked(None)).unwrap();
        assert_ne!(key(), key());
    }

    #[test]
    fn a_named_session_is_one_of_the_agent_and_not_reserved() {
        let named = |key: &str| named_session(&AgentId::main(), key).map(String::from);
        assert_eq!(named("work").unwrap(), "agent:main:work");
        assert_eq!(named("agent:main:Work").unwrap(), "agent:main:work");
        for wrong in ["agent:other:work", "subagent:1", "agent:main:cron:1", "a b", ""] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_header_names_the_agent_before_the_model_does() {
        let settings = Settings::with_model(AgentId::main(), ModelRef::rehearsal());
        let with = |header: Option<&str>, model| {
            let headers = Headers { agent: header.map(str::to_owned), ..Headers::default() };
            agent(&settings, &headers, model).map_err(|problem| problem.message)
        };
        assert_eq!(with(None, None), Ok(AgentId::main()));
        assert_eq!(with(Some("main"), Some("openclaw/other")), Ok(AgentId::main()));
        assert_eq!(with(None, Some("openclaw/other")), Err("Unknown agent 'other'.".to_owned()));
        assert_eq!(with(Some("other"), None), Err("Unknown agent 'other'.".to_owned()));
        assert!(with(Some("main"), Some("gpt-4o")).is_err());
    }
}
