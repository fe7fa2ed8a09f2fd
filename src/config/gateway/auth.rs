//! Reads `gateway.auth` and `gateway.trustedProxies`.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use secrecy::SecretString;

use super::super::problem::Kind;
use super::super::read::{Cursor, Reader};
use crate::gateway::auth::{AuthMode, AuthSettings, TrustedProxyAuth};
use crate::gateway::limits::{MAX_ATTEMPTS, RateLimit};
use crate::gateway::peer::TrustedProxies;

const MODES: &[(&str, AuthMode)] = &[
    ("none", AuthMode::None),
    ("token", AuthMode::Token),
    ("password", AuthMode::Password),
    ("trusted-proxy", AuthMode::TrustedProxy),
];
/// Longest time of a limit: a day.
const MAX_MILLIS: u32 = 24 * 60 * 60 * 1_000;

pub(super) fn read(gateway: &Cursor<'_>, reader: &mut Reader<'_>) -> AuthSettings {
    let proxies = proxies(gateway, reader);
    let Some(auth) = reader.section(gateway, "auth") else {
        return with_defaults(AuthSettings { proxies, ..AuthSettings::default() }, None, reader);
    };
    let mode = reader.word_at(&auth, "mode", MODES);
    let settings = AuthSettings {
        token: reader.secret_at(&auth, "token"),
        password: reader.secret_at(&auth, "password"),
        trusted_proxy: trusted_proxy(&auth, reader),
        rate_limit: rate_limit(&auth, reader),
        proxies,
        ..AuthSettings::default()
    };
    // A mode that is wrong has its own problem, and what it would need is not known.
    let known = mode.is_some() || auth.get("mode").is_none();
    let settings = with_defaults(settings, mode, reader);
    if known {
        check(&auth, &settings, reader);
    }
    settings
}

/// Adds the secrets of the environment, then the mode that they stand for.
fn with_defaults(settings: AuthSettings, mode: Option<AuthMode>, reader: &Reader<'_>) -> AuthSettings {
    let from_environment = |name: &str| -> Option<SecretString> {
        let (_, value) = reader.own_variable(name)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.into())
    };
    let token = settings.token.or_else(|| from_environment("GATEWAY_TOKEN"));
    let password = settings.password.or_else(|| from_environment("GATEWAY_PASSWORD"));
    let guessed = if password.is_some() { AuthMode::Password } else { AuthMode::Token };
    AuthSettings { mode: mode.unwrap_or(guessed), token, password, ..settings }
}

/// A mode must have what it needs. A token is not checked for: one is made at the first start.
fn check(auth: &Cursor<'_>, settings: &AuthSettings, reader: &mut Reader<'_>) {
    let place = auth.get("mode");
    let place = place.as_ref().unwrap_or(auth);
    match settings.mode {
        AuthMode::Password if settings.password.is_none() && auth.get("password").is_none_or(is_text) => {
            let text = "there is no password: set gateway.auth.password, \
                 or the environment variable OFFSHOOT_GATEWAY_PASSWORD";
            reader.error(place, Kind::Value, text);
        }
        AuthMode::TrustedProxy => {
            let header = auth.get("trustedProxy").is_none_or(|section| section.get("userHeader").is_none());
            if header {
                let text = "no header names the user: set gateway.auth.trustedProxy.userHeader to the one that the proxy sends";
                reader.error(place, Kind::Value, text);
            } else if settings.proxies.networks.is_empty() {
                let text = "no proxy is trusted: set gateway.trustedProxies to the proxy's address";
                reader.error(place, Kind::Value, text);
            }
        }
        AuthMode::Password | AuthMode::Token | AuthMode::None => {}
    }
}

/// An empty text is a missing secret; what is no text has its own problem.
fn is_text(cursor: Cursor<'_>) -> bool {
    cursor.node.kind() == "a string"
}

fn trusted_proxy(auth: &Cursor<'_>, reader: &mut Reader<'_>) -> TrustedProxyAuth {
    let Some(section) = reader.section(auth, "trustedProxy") else { return TrustedProxyAuth::default() };
    let user_header = section.get("userHeader").and_then(|cursor| header(&cursor, reader));
    let mut required_headers = Vec::new();
    if let Some(list) = reader.list(&section, "requiredHeaders") {
        for item in list.items() {
            required_headers.extend(header(&item, reader));
        }
    }
    TrustedProxyAuth {
        user_header,
        required_headers,
        allow_users: trimmed(reader.texts_at(&section, "allowUsers")),
        allow_loopback: reader.bool_at(&section, "allowLoopback").unwrap_or(false),
    }
}

fn trimmed(texts: Option<Vec<String>>) -> Vec<String> {
    texts.unwrap_or_default().iter().map(|text| text.trim().to_owned()).collect()
}

fn header(cursor: &Cursor<'_>, reader: &mut Reader<'_>) -> Option<HeaderName> {
    let text = reader.filled_text(cursor)?;
    let name = HeaderName::from_bytes(text.trim().as_bytes()).ok();
    if name.is_none() {
        reader.wrong(cursor, "a name that an HTTP header can have");
    }
    name
}

fn rate_limit(auth: &Cursor<'_>, reader: &mut Reader<'_>) -> RateLimit {
    let usual = RateLimit::default();
    let Some(section) = reader.section(auth, "rateLimit") else { return usual };
    let mut millis = |name: &str, usual: Duration| {
        let read = reader.whole_at(&section, name, 1..=MAX_MILLIS);
        read.map_or(usual, |millis| Duration::from_millis(millis.into()))
    };
    let (window, lockout) = (millis("windowMs", usual.window), millis("lockoutMs", usual.lockout));
    RateLimit {
        max_attempts: reader
            .whole_at(&section, "maxAttempts", 1..=MAX_ATTEMPTS)
            .unwrap_or(usual.max_attempts),
        window,
        lockout,
        exempt_loopback: reader.bool_at(&section, "exemptLoopback").unwrap_or(usual.exempt_loopback),
    }
}

fn proxies(gateway: &Cursor<'_>, reader: &mut Reader<'_>) -> TrustedProxies {
    let real_ip_fallback = reader.bool_at(gateway, "allowRealIpFallback").unwrap_or(false);
    let mut networks = Vec::new();
    if let Some(list) = reader.list(gateway, "trustedProxies") {
        for item in list.items() {
            let Some(text) = reader.filled_text(&item) else { continue };
            match network(text.trim()) {
                Some(network) => networks.push(network),
                None => reader.wrong(&item, "an IP address or a network such as 10.0.0.0/8"),
            }
        }
    }
    TrustedProxies { networks, real_ip_fallback }
}

fn network(text: &str) -> Option<IpNet> {
    let address = |text: &str| text.parse::<IpAddr>().ok().map(|address| address.to_canonical().into());
    text.parse().ok().or_else(|| address(text))
}
