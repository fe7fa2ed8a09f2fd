//! Who sends a request, and what he may do.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use offshoot_actors::types::{Origin, Scope, Scopes};
use secrecy::SecretString;

use super::{Call, Problem, Refused, Response};
use crate::gateway::auth::{self, Decision, Presented, authenticate};
use crate::gateway::limits::{FailureLimits, LockedOut, Proof, Who};
use crate::protocol::hello::AuthMethod;

/// The header that names scopes where no secret stands for all of them.
const SCOPES: &str = "x-openclaw-scopes";

/// One who proved himself.
#[derive(Debug)]
pub(super) struct Caller {
    scopes: Scopes,
    /// As a value for everything behind the gateway.
    pub(super) origin: Origin,
}

impl Caller {
    /// Refuses a caller who does not hold the scope, itself or by one that implies it.
    pub(super) fn needs(&self, scope: Scope) -> Result<(), Refused> {
        if self.scopes.implied().contains(scope) {
            return Ok(());
        }
        Err(Problem::forbidden(format!("missing scope: {scope}")).into())
    }
}

/// Finds out who sends a request, or why nobody is believed.
pub(super) async fn caller(call: &Call) -> Result<Caller, Refused> {
    let settings = &call.config.gateway.auth;
    let presented = Presented::by_http(call.headers());
    let who = Who::of(&call.peer);
    let now = call.daemon.clock.monotonic();
    if presented.has_shared() {
        let checked = lock(&call.daemon.failures).check(Proof::SharedSecret, &who, now);
        checked.map_err(locked_out)?;
    }
    match authenticate(settings, &presented, &call.peer, call.headers()) {
        Decision::Accepted(accepted) => {
            // Behind a proxy it could be anybody. A WebSocket without a secret is refused there, too.
            if accepted.method == AuthMethod::None && !call.peer.direct_local {
                return Err(unauthorized());
            }
            let by_secret = matches!(accepted.method, AuthMethod::Token | AuthMethod::Password);
            if by_secret {
                lock(&call.daemon.failures).succeeded(Proof::SharedSecret, &who);
            }
            let scopes = if by_secret { Scopes::ALL } else { named_scopes(call.headers())? };
            Ok(Caller { scopes, origin: origin(call, scopes) })
        }
        Decision::Refused(failure) => {
            if let Some(proof) = failure.counts_as() {
                call.daemon.tell_failure(proof, call.peer.client);
                let pause = lock(&call.daemon.failures).failed(proof, who, now);
                call.daemon.clock.sleep(pause).await;
            }
            Err(unauthorized())
        }
        // No device signs an HTTP request.
        Decision::AskRegistry(_) => Err(unauthorized()),
    }
}

/// Lets one through who knows the webhooks' own secret.
pub(super) async fn hook_caller(call: &Call, token: &SecretString) -> Result<Origin, Refused> {
    let offered = auth::bearer(call.headers())
        .or_else(|| call.header("x-openclaw-token").map(SecretString::from))
        .or_else(|| call.header("x-offshoot-token").map(SecretString::from));
    let who = Who::of(&call.peer);
    let now = call.daemon.clock.monotonic();
    let limits = &call.daemon.hook_failures;
    lock(limits).check(Proof::HookToken, &who, now).map_err(locked_out_text)?;
    if offered.as_ref().is_some_and(|offered| auth::equals(offered, token)) {
        lock(limits).succeeded(Proof::HookToken, &who);
        return Ok(origin(call, Scopes::NONE.with(Scope::Write)));
    }
    if offered.is_some() {
        call.daemon.tell_failure(Proof::HookToken, call.peer.client);
        let pause = lock(limits).failed(Proof::HookToken, who, now);
        call.daemon.clock.sleep(pause).await;
    }
    Err(super::text(StatusCode::UNAUTHORIZED, "Unauthorized").into())
}

fn origin(call: &Call, scopes: Scopes) -> Origin {
    Origin::Client {
        connection: call.daemon.next_connection(),
        device: None,
        scopes: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
    }
}

/// The scopes that a caller without a secret asks for; all if it does not say.
fn named_scopes(headers: &HeaderMap) -> Result<Scopes, Refused> {
    let Some(value) = headers.get(SCOPES) else { return Ok(Scopes::ALL) };
    let names = value.to_str().unwrap_or("?").split(',').map(str::trim).filter(|name| !name.is_empty());
    Scopes::from_names(names).map_err(|error| Problem::invalid(format!("invalid {SCOPES}: {error}")).into())
}

fn unauthorized() -> Refused {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized").into()
}

fn locked_out(locked: LockedOut) -> Response {
    let text = "Too many failed authentication attempts. Please try again later.";
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", text);
    with_retry_after(problem.response(), locked.retry_after)
}

fn locked_out_text(locked: LockedOut) -> Response {
    let response = super::text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
    with_retry_after(response, locked.retry_after)
}

fn with_retry_after(mut response: Response, after: Duration) -> Response {
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

fn lock(limits: &std::sync::Mutex<FailureLimits>) -> MutexGuard<'_, FailureLimits> {
    limits.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_all_some_none_or_refused() {
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SCOPES, value.parse().unwrap());
            headers
        };
        assert_eq!(named_scopes(&HeaderMap::new()).unwrap(), Scopes::ALL);
        assert_eq!(named_scopes(&headers("")).unwrap(), Scopes::NONE);
        let some = named_scopes(&headers("operator.read, operator.talk")).unwrap();
        assert_eq!(some, Scopes::NONE.with(Scope::Read).with(Scope::Talk));
        assert_eq!(named_scopes(&headers("operator.reed")).unwrap_err().0.status(), StatusCode::BAD_REQUEST);
    }
}
