//! Whether a client proved that it may connect: the shared token or password, a trusted proxy, or nothing asked for.
//!
//! Device tokens and bootstrap codes are known to the pairing registry alone. Where a client offers one, the answer is
//! what to ask the registry, and what to say if that fails too.

mod failure;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

pub use failure::{AuthFailure, AuthReason, ProxyReason};

use super::limits::{Proof, RateLimit};
use super::peer::{Peer, TrustedProxies};
use crate::protocol::connect::AuthParams;
use crate::protocol::hello::AuthMethod;

/// What clients must prove (`gateway.auth.mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// That they know the shared token.
    #[default]
    Token,
    /// That they know the shared password.
    Password,
    /// Nothing.
    None,
    /// That a proxy vouches for them.
    TrustedProxy,
}

impl AuthMode {
    /// As the configuration writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Password => "password",
            Self::None => "none",
            Self::TrustedProxy => "trusted-proxy",
        }
    }
}

/// `gateway.auth`. Its `Debug` shows no secret.
#[derive(Debug, Clone, Default)]
pub struct AuthSettings {
    /// What clients must prove.
    pub mode: AuthMode,
    /// The shared token, not empty.
    pub token: Option<SecretString>,
    /// The shared password, not empty.
    pub password: Option<SecretString>,
    /// How a proxy vouches.
    pub trusted_proxy: TrustedProxyAuth,
    /// The proxies whose headers are believed.
    pub proxies: TrustedProxies,
    /// What becomes of those who keep failing.
    pub rate_limit: RateLimit,
}

impl AuthSettings {
    /// Whether clients prove the same as under `other`. Where not, those that proved it by a shared secret are closed.
    #[must_use]
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        let same = |one: &Option<SecretString>, other: &Option<SecretString>| match (one, other) {
            (None, None) => true,
            (Some(one), Some(other)) => equals(one, other),
            _ => false,
        };
        self.mode == other.mode && same(&self.token, &other.token) && same(&self.password, &other.password)
    }

    /// Whether a token is needed and there is none: one is made at the first start.
    #[must_use]
    pub const fn lacks_token(&self) -> bool {
        matches!(self.mode, AuthMode::Token) && self.token.is_none()
    }
}

/// How a proxy vouches for its user (`gateway.auth.trustedProxy`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxyAuth {
    /// The header with the user's name.
    pub user_header: Option<HeaderName>,
    /// Headers that must be there too.
    pub required_headers: Vec<HeaderName>,
    /// The users who may; empty for all.
    pub allow_users: Vec<String>,
    /// Whether a proxy on this machine counts.
    pub allow_loopback: bool,
}

/// What a client offers.
#[derive(Debug, Clone, Default)]
pub struct Presented {
    /// The shared token, or the token of its device.
    pub token: Option<SecretString>,
    /// The shared password.
    pub password: Option<SecretString>,
    /// The token of its device.
    pub device_token: Option<SecretString>,
    /// A one-time code.
    pub bootstrap_token: Option<SecretString>,
    /// Whether it has a device whose signature was checked.
    pub has_device: bool,
}

impl Presented {
    /// What a connect offers.
    #[must_use]
    pub fn by_connect(auth: &AuthParams, has_device: bool) -> Self {
        Self {
            token: auth.token.clone(),
            password: auth.password.clone(),
            device_token: auth.device_token.clone(),
            bootstrap_token: auth.bootstrap_token.clone(),
            has_device,
        }
    }

    /// What an HTTP request offers: `Authorization: Bearer`, which stands for whichever secret is asked for.
    #[must_use]
    pub fn by_http(headers: &HeaderMap) -> Self {
        let bearer = bearer(headers);
        Self { token: bearer.clone(), password: bearer, ..Self::default() }
    }

    /// Whether it offers what could be the shared secret.
    #[must_use]
    pub const fn has_shared(&self) -> bool {
        self.token.is_some() || self.password.is_some()
    }

    /// What it tries to prove. A token that may be the device's own is an attempt at the shared secret.
    pub fn proofs(&self) -> impl Iterator<Item = Proof> {
        let device = self.has_device;
        [
            (Proof::SharedSecret, self.has_shared()),
            (Proof::BootstrapToken, device && self.bootstrap_token.is_some()),
            (Proof::DeviceToken, device && self.device_token.is_some()),
        ]
        .into_iter()
        .filter_map(|(proof, tried)| tried.then_some(proof))
    }
}

/// The secret of an `Authorization: Bearer` header.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let (scheme, secret) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then(|| secret.into())
}

/// What is known without the pairing registry.
#[derive(Debug, Clone)]
pub enum Decision {
    /// The client may connect.
    Accepted(Accepted),
    /// It may if the registry knows what it offers.
    AskRegistry(RegistryCheck),
    /// It may not.
    Refused(AuthFailure),
}

/// How a client proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// With what.
    pub method: AuthMethod,
    /// For whom a proxy vouches.
    pub user: Option<String>,
}

/// Whether an attempt at the shared secret failed: one that counts, whatever else the client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    /// Nothing was compared with it.
    None,
    /// A token that may be the device's own was; it is an attempt unless the registry knows it.
    UnlessKnown,
    /// Something was that can be nothing else.
    Wrong,
}

impl Guess {
    fn of(reason: &AuthReason, presented: &Presented) -> Self {
        if !reason.is_of_the_secret() || !presented.has_shared() {
            return Self::None;
        }
        // Clients that come back send the token of their device in both places.
        let may_be_the_devices = match (&presented.token, &presented.device_token) {
            (Some(token), Some(device)) => equals(token, device),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if presented.password.is_none() && may_be_the_devices { Self::UnlessKnown } else { Self::Wrong }
    }
}

/// What the registry is asked, in this order: the code, then the token.
#[derive(Debug, Clone)]
pub struct RegistryCheck {
    /// A one-time code.
    pub bootstrap_token: Option<SecretString>,
    /// What may be the token of the device.
    pub device_token: Option<SecretString>,
    /// Whether the shared secret was guessed at beside it.
    pub guess: Guess,
    /// The answer if the registry knows neither.
    pub otherwise: AuthFailure,
}

/// Looks at what a client offers. `headers` are those of the request, for a proxy that vouches.
///
/// Ask [`FailureLimits`](super::limits::FailureLimits) first, and count [`AuthFailure::counts_as`] afterwards.
#[must_use]
pub fn authenticate(
    settings: &AuthSettings,
    presented: &Presented,
    peer: &Peer,
    headers: &HeaderMap,
) -> Decision {
    let reason = match shared(settings, presented, peer, headers) {
        Ok(accepted) => return Decision::Accepted(accepted),
        Err(reason) => reason,
    };
    let failure = |reason| AuthFailure::new(reason, presented);
    if !presented.has_device {
        return Decision::Refused(failure(reason));
    }
    let bootstrap_token = presented.bootstrap_token.clone();
    let device_token = presented.device_token.clone().or_else(|| presented.token.clone());
    let otherwise = match (&presented.device_token, &bootstrap_token) {
        (Some(_), _) => AuthReason::DeviceTokenMismatch,
        (None, Some(_)) => AuthReason::BootstrapTokenInvalid,
        (None, None) => reason.clone(),
    };
    if bootstrap_token.is_none() && device_token.is_none() {
        return Decision::Refused(failure(reason));
    }
    let guess = Guess::of(&reason, presented);
    Decision::AskRegistry(RegistryCheck {
        bootstrap_token,
        device_token,
        guess,
        otherwise: failure(otherwise),
    })
}

fn shared(
    settings: &AuthSettings,
    presented: &Presented,
    peer: &Peer,
    headers: &HeaderMap,
) -> Result<Accepted, AuthReason> {
    let by = |method| Accepted { method, user: None };
    match settings.mode {
        AuthMode::None => Ok(by(AuthMethod::None)),
        AuthMode::Token => token(settings, presented).map(|()| by(AuthMethod::Token)),
        AuthMode::Password => password(settings, presented).map(|()| by(AuthMethod::Password)),
        AuthMode::TrustedProxy => {
            let reason = match vouched_for(settings, peer, headers) {
                Ok(user) => return Ok(Accepted { method: AuthMethod::TrustedProxy, user: Some(user) }),
                Err(reason) => AuthReason::TrustedProxy(reason),
            };
            // Whoever operates the machine itself does not come through the proxy.
            if peer.direct_local && presented.has_shared() {
                if settings.password.is_some() {
                    return password(settings, presented).map(|()| by(AuthMethod::Password));
                }
                if settings.token.is_some() {
                    return token(settings, presented).map(|()| by(AuthMethod::Token));
                }
            }
            Err(reason)
        }
    }
}

/// The token is accepted where the password stands, too: newer Control UIs send the one secret in both.
fn token(settings: &AuthSettings, presented: &Presented) -> Result<(), AuthReason> {
    let Some(secret) = &settings.token else { return Err(AuthReason::TokenMissingConfig) };
    if any_equals([&presented.token, &presented.password], secret) {
        return Ok(());
    }
    Err(if presented.token.is_some() { AuthReason::TokenMismatch } else { AuthReason::TokenMissing })
}

fn password(settings: &AuthSettings, presented: &Presented) -> Result<(), AuthReason> {
    let Some(secret) = &settings.password else { return Err(AuthReason::PasswordMissingConfig) };
    if any_equals([&presented.password, &presented.token], secret) {
        return Ok(());
    }
    Err(if presented.password.is_some() { AuthReason::PasswordMismatch } else { AuthReason::PasswordMissing })
}

fn any_equals(offered: [&Option<SecretString>; 2], secret: &SecretString) -> bool {
    offered.into_iter().flatten().any(|offered| equals(offered, secret))
}

/// Whether two secrets are the same, in a time that tells neither where they differ nor how long they are.
#[must_use]
pub fn equals(one: &SecretString, other: &SecretString) -> bool {
    let [one, other] = [one, other].map(|secret| Sha256::digest(secret.expose_secret()));
    one.ct_eq(&other).into()
}

fn vouched_for(settings: &AuthSettings, peer: &Peer, headers: &HeaderMap) -> Result<String, ProxyReason> {
    let rules = &settings.trusted_proxy;
    let Some(user_header) = &rules.user_header else { return Err(ProxyReason::ConfigMissing) };
    if settings.proxies.networks.is_empty() {
        return Err(ProxyReason::NoProxiesConfigured);
    }
    if !peer.via_trusted_proxy {
        return Err(ProxyReason::UntrustedSource);
    }
    if peer.remote.is_loopback() && !rules.allow_loopback {
        return Err(ProxyReason::LoopbackSource);
    }
    let value = |name: &HeaderName| {
        let text = headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        text.filter(|text| !text.is_empty())
    };
    if let Some(missing) = rules.required_headers.iter().find(|name| value(name).is_none()) {
        return Err(ProxyReason::MissingHeader(missing.clone()));
    }
    let user = value(user_header).ok_or(ProxyReason::UserMissing)?;
    if !rules.allow_users.is_empty() && !rules.allow_users.iter().any(|allowed| allowed == user) {
        return Err(ProxyReason::UserNotAllowed);
    }
    Ok(user.to_owned())
}

#[cfg(test)]
mod tests;
