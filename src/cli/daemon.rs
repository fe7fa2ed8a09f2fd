//! The gateway that commands ask: where it is, what proves that we may, and what its refusals mean here.

use std::path::Path;
use std::time::Duration;

use offshoot_actors::types::{AgentId, ModelRef, RefusalKind, Scope, Settings};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::Global;
use super::args::ReachArgs;
use super::exit::{Exit, Failure};
use crate::client::{Address, Client, ClientError, Fingerprint, Options, Secret};
use crate::config;
use crate::gateway::auth::{AuthMode, AuthSettings};
use crate::gateway::record::{self, Record, Running};
use crate::gateway::shared_token;
use crate::protocol::error::{ErrorCode, ErrorShape};

/// How long an answer may take where nobody says.
const WITHIN: Duration = Duration::from_secs(10);

/// A gateway that can be asked.
#[derive(Debug)]
pub(crate) struct Reach {
    pub(crate) address: Address,
    pub(crate) within: Duration,
    secret: Option<Secret>,
    fingerprint: Option<Fingerprint>,
}

/// Who has the state directory.
pub(crate) fn running(global: &Global) -> Result<Running, Failure> {
    let dir = global.environment.state_dir()?;
    record::running(&dir).map_err(|error| {
        Failure::system(&format!("the state directory {} cannot be read", dir.display()), &error)
    })
}

/// The gateway that has the state directory, if one has.
pub(crate) fn gateway(global: &Global) -> Result<Option<Record>, Failure> {
    Ok(match running(global)? {
        Running::Gateway(record) => Some(record),
        Running::Nobody | Running::Other(_) => None,
    })
}

/// Says that no gateway has the state directory.
pub(crate) fn not_running(running: &Running, global: &Global) -> Failure {
    let dir = global.environment.state_dir().map(|dir| dir.display().to_string()).unwrap_or_default();
    let failure = |text: String| Failure::new(Exit::Unavailable, "not_running", text);
    match running {
        Running::Other(Some(pid)) => failure(format!(
            "no gateway runs: process {pid} has the state directory {dir} and takes no clients"
        ))
        .with_hint("wait until that has ended, or has started if it is a gateway; then start one with `offshoot gateway`"),
        _ => failure(format!("no gateway runs on the state directory {dir}"))
            .with_hint("start one with `offshoot gateway`, or name another one with --url"),
    }
}

impl Reach {
    /// The gateway that the options name, else the one that has the state directory.
    pub(crate) fn of(args: &ReachArgs, global: &Global) -> Result<Self, Failure> {
        let mut reach = match &args.url {
            Some(address) => Self::named(address.clone(), args, global)?,
            None => match running(global)? {
                Running::Gateway(record) => Self::recorded(&record, args.token.as_deref(), global)?,
                other => return Err(not_running(&other, global)),
            },
        };
        if args.tls_fingerprint.is_some() {
            reach.fingerprint = args.tls_fingerprint;
        }
        reach.within = args.timeout.filter(|within| !within.is_zero()).unwrap_or(WITHIN);
        Ok(reach)
    }

    /// The gateway that has the state directory.
    pub(crate) fn recorded(record: &Record, token: Option<&str>, global: &Global) -> Result<Self, Failure> {
        let unusable = || {
            Failure::new(
                Exit::Unavailable,
                "gateway",
                "the gateway listens at no address that this command can use",
            )
            .with_hint("name one with --url")
        };
        let addresses = record.urls.iter().filter_map(|url| local(url).parse::<Address>().ok());
        // Of the two families of this machine the older one is never missing in a container.
        let address = addresses.min_by_key(|address| (!address.is_loopback(), address.host().contains(':')));
        let address = address.ok_or_else(unusable)?;
        let fingerprint = record.fingerprint.as_deref().and_then(|text| text.parse().ok());
        let secret = match (explicit(token, global), record.auth_mode.as_str(), &record.token_file) {
            (_, "none", _) => None,
            (Some(token), ..) => Some(token),
            (None, _, Some(file)) => recorded_in(file, global)?,
            _ => configured(global)?,
        };
        Ok(Self { address, within: WITHIN, secret, fingerprint })
    }

    /// What is kept on this machine proves nothing to another one, and is not shown there.
    fn named(address: Address, args: &ReachArgs, global: &Global) -> Result<Self, Failure> {
        let secret = match explicit(args.token.as_deref(), global) {
            Some(secret) => Some(secret),
            None if !address.is_loopback() => None,
            None => match configured(global)? {
                Some(secret) => Some(secret),
                None => stored(global)?,
            },
        };
        Ok(Self { address, within: WITHIN, secret, fingerprint: None })
    }

    /// Connects with these scopes and no others.
    pub(crate) async fn connect(&self, scopes: &[Scope]) -> Result<Client, Failure> {
        Ok(self.try_connect(scopes).await?)
    }

    /// The same, for a command to which a refusal says something.
    pub(crate) async fn try_connect(&self, scopes: &[Scope]) -> Result<Client, ClientError> {
        Client::connect(Options {
            address: self.address.clone(),
            secret: self.secret.clone(),
            fingerprint: self.fingerprint,
            scopes: scopes.to_vec(),
            within: self.within,
        })
        .await
    }
}

/// An address of this machine where the gateway listens at all of them.
fn local(url: &str) -> String {
    url.replace("://0.0.0.0:", "://127.0.0.1:").replace("://[::]:", "://[::1]:")
}

/// The token of the command line, else that of the environment.
fn explicit(token: Option<&str>, global: &Global) -> Option<Secret> {
    let token = token.map(str::trim).filter(|token| !token.is_empty());
    let token = token.or_else(|| global.environment.var("OFFSHOOT_GATEWAY_TOKEN"));
    token.map(|token| Secret::Token(SecretString::from(token)))
}

/// The secret of the configuration.
fn configured(global: &Global) -> Result<Option<Secret>, Failure> {
    let config = config::load(&global.environment, global.config.as_deref())?;
    let AuthSettings { mode, token, password, .. } = config.gateway.auth;
    Ok(match mode {
        AuthMode::Token => token.map(Secret::Token),
        AuthMode::Password => password.map(Secret::Password),
        AuthMode::None | AuthMode::TrustedProxy => {
            token.map(Secret::Token).or(password.map(Secret::Password))
        }
    })
}

/// The token that the gateway made for itself.
fn stored(global: &Global) -> Result<Option<Secret>, Failure> {
    secret_in(&shared_token::file(&global.environment.state_dir()?))
}

/// The secret in the file of the state directory that the gateway names, whatever it calls the directory.
fn recorded_in(file: &Path, global: &Global) -> Result<Option<Secret>, Failure> {
    let dir = global.environment.state_dir()?;
    secret_in(&file.file_name().map_or_else(|| shared_token::file(&dir), |name| dir.join(name)))
}

/// A gateway takes a token also where it asks for a password.
fn secret_in(file: &Path) -> Result<Option<Secret>, Failure> {
    let token = shared_token::read_file(file).map_err(|error| {
        Failure::system(&format!("the gateway's token in {} cannot be read", file.display()), &error)
    })?;
    Ok(token.map(Secret::Token))
}

/// The longest text that is read from standard input for a gateway, which checks it itself.
pub(crate) fn max_text() -> usize {
    Settings::with_model(AgentId::main(), ModelRef::rehearsal()).prompts.max_text
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        let unavailable = |hint: &str| Self::new(Exit::Unavailable, "gateway", text.clone()).with_hint(hint);
        match error {
            ClientError::Rejected(shape) => rejected(&shape, text),
            ClientError::Refused { error, .. } => refused(&error, text),
            ClientError::NoMethod { .. } => Self::new(Exit::Usage, "unknown_method", text)
                .with_hint("`offshoot gateway status` says which version runs"),
            ClientError::Unreachable { .. } => unavailable(
                "`offshoot gateway status` says whether one runs here; start one with `offshoot gateway`",
            ),
            ClientError::Unencrypted { .. } => {
                Self::usage(text).with_hint("use wss://, or a tunnel that ends on this machine")
            }
            ClientError::Tls { .. } => unavailable(
                "a certificate that nobody known has signed is accepted with --tls-fingerprint SHA256; the gateway shows \
                 it when it starts",
            ),
            ClientError::NoTls { .. } => unavailable(
                "write ws:// in place of wss:// if it is a gateway without TLS; else check host and port",
            ),
            ClientError::NotAGateway { wants_tls: true, .. } => unavailable(
                "write wss:// in place of ws:// if it is a gateway with TLS; else something else listens there: check \
                 host and port",
            ),
            ClientError::NotAGateway { .. } => {
                unavailable("something else listens there; check host and port")
            }
            ClientError::Overdue { .. } => unavailable("give it longer with --timeout"),
            ClientError::Stopped => unavailable("start it again with `offshoot gateway`"),
            ClientError::Closed(_) => unavailable("`offshoot gateway status` says whether it runs"),
            ClientError::NotUnderstood(_) | ClientError::Unwritten(_) => {
                Self::new(Exit::Unavailable, "gateway", text)
            }
        }
    }
}

fn detail<'a>(shape: &'a ErrorShape, name: &str) -> Option<&'a str> {
    shape.details.as_ref()?.get(name).and_then(Value::as_str)
}

/// The gateway does not let us in.
fn rejected(shape: &ErrorShape, text: String) -> Failure {
    let code = detail(shape, "code").unwrap_or_default();
    if let ("PAIRING_REQUIRED", Some(request)) = (code, detail(shape, "requestId")) {
        return Failure::new(Exit::Refused, "pairing_required", text)
            .with_hint(format!("on the gateway's machine run `offshoot devices approve {request}`"));
    }
    if code == "AUTH_RATE_LIMITED" {
        return Failure::new(Exit::Unavailable, "rate_limited", text)
            .with_hint("too many attempts failed; wait a few minutes");
    }
    if code.starts_with("AUTH_") {
        return Failure::new(Exit::Refused, "unauthorized", text).with_hint(
            "give the gateway's token with --token or OFFSHOOT_GATEWAY_TOKEN; the gateway says when it starts where \
             its token is",
        );
    }
    if shape.code == ErrorCode::Unavailable {
        return Failure::new(Exit::Unavailable, "gateway", text).with_hint("try again in a moment");
    }
    Failure::new(Exit::Refused, "unauthorized", text)
}

/// The gateway refuses a request. What its tree refuses has the exit code that the same refusal has in a tree of our own.
fn refused(shape: &ErrorShape, text: String) -> Failure {
    if let Some(missing) = missing_scope(shape) {
        return Failure::new(Exit::Refused, "missing_scope", text).with_hint(format!(
            "the gateway grants this connection no {missing}: connect from its own machine with the shared token"
        ));
    }
    if let Some(refusal) = refusal(shape) {
        return refusal;
    }
    match shape.code {
        ErrorCode::Unavailable | ErrorCode::AgentTimeout => {
            Failure::new(Exit::Unavailable, "gateway_unavailable", text)
        }
        ErrorCode::Forbidden | ErrorCode::NotPaired => Failure::new(Exit::Refused, "forbidden", text),
        _ => Failure::new(Exit::Usage, "invalid_request", text),
    }
}

/// What the gateway's tree refused, as ours would.
fn refusal(shape: &ErrorShape) -> Option<Failure> {
    let kind = RefusalKind::deserialize(shape.details.as_ref()?.get("kind")?).ok()?;
    let (code, reason) = (detail(shape, "code")?, detail(shape, "reason")?);
    Some(Failure {
        exit: Exit::of_refusal(kind, code),
        code: code.to_owned().into(),
        message: reason.to_owned(),
        hint: detail(shape, "hint").map(str::to_owned),
    })
}

/// The scope that a refusal names.
pub(crate) fn missing_scope(shape: &ErrorShape) -> Option<Scope> {
    let named = detail(shape, "missingScope").or_else(|| shape.message.strip_prefix("missing scope: "))?;
    named.parse().ok()
}

#[cfg(test)]
mod tests {
    use offshoot_actors::types::{Refusal, SessionKey};
    use serde_json::json;

    use super::*;

    fn failure(shape: ErrorShape) -> Failure {
        ClientError::Refused { method: "m".to_owned(), error: Box::new(shape), payload: None }.into()
    }

    #[test]
    fn a_refusal_ends_as_it_would_without_a_gateway() {
        for refusal in [
            Refusal::forbidden("depth", "too deep", "raise it"),
            Refusal::unknown_session(&SessionKey::main(&AgentId::main())),
            Refusal::error("store", "full"),
            Refusal::error("model", "there is none"),
        ] {
            let there = failure(ErrorShape::invalid(refusal.to_string()).refusing(&refusal));
            let here = Failure::from(refusal);
            assert_eq!((there.exit, &there.code, there.status()), (here.exit, &here.code, here.status()));
            assert_eq!((there.message, there.hint), (here.message, here.hint));
        }
        let scope = failure(ErrorShape::invalid("missing scope: operator.admin"));
        assert_eq!((scope.exit, &*scope.code), (Exit::Refused, "missing_scope"));
        let unknown = failure(ErrorShape::invalid("unknown method: m"));
        assert_eq!((unknown.exit, &*unknown.code), (Exit::Usage, "invalid_request"));
    }

    #[test]
    fn a_rejection_says_what_to_do() {
        let rejected = |details| {
            let shape = ErrorShape::new(ErrorCode::NotPaired, "no").with_details(details);
            Failure::from(ClientError::Rejected(Box::new(shape)))
        };
        let waits = rejected(json!({"code": "PAIRING_REQUIRED", "requestId": "abcd"}));
        assert!(waits.hint.unwrap().ends_with("`offshoot devices approve abcd`"));
        let wrong = rejected(json!({"code": "AUTH_TOKEN_MISMATCH"}));
        assert_eq!(wrong.exit, Exit::Refused);
        assert!(wrong.hint.unwrap().contains("--token"));
    }

    #[test]
    fn who_listens_everywhere_listens_here() {
        assert_eq!(local("ws://0.0.0.0:1"), "ws://127.0.0.1:1");
        assert_eq!(local("wss://[::]:1"), "wss://[::1]:1");
        assert_eq!(local("ws://10.0.0.1:1"), "ws://10.0.0.1:1");
    }
}
