use http::{HeaderMap, HeaderName};
use serde_json::json;

use super::{
    AuthFailure, AuthMode, AuthReason, AuthSettings, Decision, Guess, Presented, ProxyReason,
    TrustedProxyAuth, authenticate, bearer, equals,
};
use crate::gateway::limits::{LockedOut, Proof};
use crate::gateway::peer::{Peer, TrustedProxies};
use crate::protocol::hello::AuthMethod;
use crate::protocol::version::Protocol;

const SECRET: &str = "hunter2";

fn settings(mode: AuthMode) -> AuthSettings {
    AuthSettings {
        mode,
        token: Some(SECRET.into()),
        password: Some("pass".into()),
        ..AuthSettings::default()
    }
}

/// `token=`, `password=`, `device=` and `boot=` with their values; `signed` for a device.
fn offer(text: &str) -> Presented {
    let mut presented = Presented::default();
    for word in text.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let secret = Some(value.into());
        match name {
            "token" => presented.token = secret,
            "password" => presented.password = secret,
            "device" => presented.device_token = secret,
            "boot" => presented.bootstrap_token = secret,
            "signed" => presented.has_device = true,
            _ => panic!("{name}"),
        }
    }
    presented
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pairs =
        pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
    pairs.collect()
}

fn decide(settings: &AuthSettings, presented: &Presented, remote: &str, headers: &HeaderMap) -> Decision {
    let remote = (remote.parse::<std::net::IpAddr>().unwrap(), 1).into();
    authenticate(settings, presented, &Peer::of(remote, headers, &settings.proxies), headers)
}

/// The decision in a word: the method, the reason, or what the registry is asked.
fn outcome(settings: &AuthSettings, presented: &str) -> String {
    match decide(settings, &offer(presented), "127.0.0.1", &HeaderMap::new()) {
        Decision::Accepted(accepted) => accepted.method.to_string(),
        Decision::Refused(failure) => failure.reason.as_str().into_owned(),
        Decision::AskRegistry(check) => {
            let asked = [(check.bootstrap_token.is_some(), "boot"), (check.device_token.is_some(), "device")];
            let asked: Vec<_> = asked.iter().filter(|(asked, _)| *asked).map(|(_, name)| *name).collect();
            format!("{}? else {}", asked.join(","), check.otherwise.reason.as_str())
        }
    }
}

#[test]
fn each_mode_asks_for_its_secret() {
    for (mode, presented, expected) in [
        (AuthMode::None, "", "none"),
        (AuthMode::None, "token=wrong", "none"),
        (AuthMode::Token, "token=hunter2", "token"),
        (AuthMode::Token, "password=hunter2", "token"),
        (AuthMode::Token, "token=hunter2 password=hunter2", "token"),
        (AuthMode::Token, "", "token_missing"),
        (AuthMode::Token, "password=pass", "token_missing"),
        (AuthMode::Token, "token=hunter", "token_mismatch"),
        (AuthMode::Token, "token=hunter22", "token_mismatch"),
        (AuthMode::Token, "token=pass", "token_mismatch"),
        (AuthMode::Password, "password=pass", "password"),
        (AuthMode::Password, "token=pass", "password"),
        (AuthMode::Password, "", "password_missing"),
        (AuthMode::Password, "token=hunter2", "password_missing"),
        (AuthMode::Password, "password=hunter2", "password_mismatch"),
    ] {
        assert_eq!(outcome(&settings(mode), presented), expected, "{mode:?} {presented}");
    }
}

#[test]
fn a_secret_that_is_not_configured_matches_nothing() {
    let bare = |mode| AuthSettings { mode, ..AuthSettings::default() };
    for (mode, presented, expected) in [
        (AuthMode::Token, "", "token_missing_config"),
        (AuthMode::Token, "token=hunter2", "token_missing_config"),
        (AuthMode::Token, "token=", "token_missing_config"),
        (AuthMode::Password, "password=", "password_missing_config"),
    ] {
        assert_eq!(outcome(&bare(mode), presented), expected);
    }
    assert!(bare(AuthMode::Token).lacks_token());
    assert!(!bare(AuthMode::None).lacks_token() && !settings(AuthMode::Token).lacks_token());
}

#[test]
fn what_only_the_registry_knows_is_handed_on_in_order() {
    let settings = settings(AuthMode::Token);
    for (presented, expected) in [
        ("signed device=d", "device? else device_token_mismatch"),
        ("signed token=d", "device? else token_mismatch"),
        ("signed boot=b", "boot? else bootstrap_token_invalid"),
        ("signed boot=b device=d", "boot,device? else device_token_mismatch"),
        ("signed boot=b token=d", "boot,device? else bootstrap_token_invalid"),
        ("signed token=hunter2 device=d boot=b", "token"),
        ("signed", "token_missing"),
        ("signed password=x", "token_missing"),
        ("device=d", "token_missing"),
        ("boot=b", "token_missing"),
        ("token=d", "token_mismatch"),
    ] {
        assert_eq!(outcome(&settings, presented), expected, "{presented}");
    }
}

/// As what the decision counts before the registry is asked.
fn counted(settings: &AuthSettings, presented: &str) -> Result<Option<Proof>, Guess> {
    match decide(settings, &offer(presented), "127.0.0.1", &HeaderMap::new()) {
        Decision::Accepted(accepted) => panic!("{accepted:?}"),
        Decision::Refused(failure) => Ok(failure.counts_as()),
        Decision::AskRegistry(check) => Err(check.guess),
    }
}

#[test]
fn a_wrong_secret_counts_wherever_it_stands_and_whatever_stands_beside_it() {
    let shared = Ok(Some(Proof::SharedSecret));
    for (mode, presented, expected) in [
        (AuthMode::Token, "", Ok(None)),
        (AuthMode::Token, "token=x", shared),
        (AuthMode::Token, "password=x", shared),
        (AuthMode::Password, "token=x", shared),
        (AuthMode::Token, "signed password=x", shared),
        (AuthMode::Token, "signed device=d", Err(Guess::None)),
        (AuthMode::Token, "signed boot=b", Err(Guess::None)),
        (AuthMode::Token, "signed token=d", Err(Guess::UnlessKnown)),
        (AuthMode::Token, "signed token=d boot=b", Err(Guess::UnlessKnown)),
        (AuthMode::Token, "signed token=d device=d", Err(Guess::UnlessKnown)),
        (AuthMode::Password, "signed token=d device=d", Err(Guess::UnlessKnown)),
        (AuthMode::Token, "signed password=x token=d device=d", Err(Guess::Wrong)),
        (AuthMode::Token, "signed token=x device=d", Err(Guess::Wrong)),
        (AuthMode::Token, "signed password=x device=d", Err(Guess::Wrong)),
        (AuthMode::Password, "signed token=x device=d", Err(Guess::Wrong)),
        (AuthMode::Token, "signed password=x boot=b", Err(Guess::Wrong)),
    ] {
        assert_eq!(counted(&settings(mode), presented), expected, "{mode:?} {presented}");
    }
    let bare = AuthSettings::default();
    assert_eq!(counted(&bare, "token=x"), Ok(None), "there is nothing to guess");
    assert_eq!(counted(&bare, "signed token=x device=d"), Err(Guess::None));
}

#[test]
fn the_device_token_that_is_checked_is_the_explicit_one() {
    use secrecy::ExposeSecret as _;
    let presented = offer("signed token=t device=d");
    let decision = decide(&settings(AuthMode::Token), &presented, "127.0.0.1", &HeaderMap::new());
    let Decision::AskRegistry(check) = decision else { panic!("{decision:?}") };
    assert_eq!(check.device_token.unwrap().expose_secret(), "d");
}

#[test]
fn a_change_of_the_secret_is_a_change_and_others_are_not() {
    let before = settings(AuthMode::Token);
    let mut after = before.clone();
    after.rate_limit.max_attempts += 1;
    assert!(after.asks_the_same_as(&before));
    let changes: [fn(&mut AuthSettings); 4] = [
        |settings| settings.token = Some("other".into()),
        |settings| settings.token = None,
        |settings| settings.password = Some("other".into()),
        |settings| settings.mode = AuthMode::None,
    ];
    for change in changes {
        let mut after = before.clone();
        change(&mut after);
        assert!(!after.asks_the_same_as(&before));
    }
}

fn proxy_settings() -> AuthSettings {
    AuthSettings {
        mode: AuthMode::TrustedProxy,
        trusted_proxy: TrustedProxyAuth {
            user_header: Some(HeaderName::from_static("x-user")),
            required_headers: vec![HeaderName::from_static("x-verified")],
            allow_users: vec!["ada".to_owned()],
            allow_loopback: false,
        },
        proxies: TrustedProxies {
            networks: vec!["10.0.0.0/8".parse().unwrap(), "127.0.0.0/8".parse().unwrap()],
            real_ip_fallback: false,
        },
        ..AuthSettings::default()
    }
}

#[test]
fn a_trusted_proxy_vouches_for_its_user() {
    let refused = |settings: &AuthSettings, remote: &str, pairs: &[(&str, &str)]| match decide(
        settings,
        &Presented::default(),
        remote,
        &headers(pairs),
    ) {
        Decision::Refused(failure) => failure.reason.as_str().into_owned(),
        other => panic!("{other:?}"),
    };
    let all = [("x-user", " ada "), ("x-verified", "1")];
    let settings = proxy_settings();
    let decision = decide(&settings, &Presented::default(), "10.0.0.1", &headers(&all));
    let Decision::Accepted(accepted) = decision else { panic!("{decision:?}") };
    assert_eq!((accepted.method, accepted.user.as_deref()), (AuthMethod::TrustedProxy, Some("ada")));
    for (remote, pairs, expected) in [
        ("203.0.113.5", &all[..], "trusted_proxy_untrusted_source"),
        ("127.0.0.1", &all, "trusted_proxy_loopback_source"),
        ("10.0.0.1", &all[..1], "trusted_proxy_missing_header_x-verified"),
        ("10.0.0.1", &[("x-user", "ada"), ("x-verified", " ")], "trusted_proxy_missing_header_x-verified"),
        ("10.0.0.1", &all[1..], "trusted_proxy_user_missing"),
        ("10.0.0.1", &[("x-user", "eve"), ("x-verified", "1")], "trusted_proxy_user_not_allowed"),
    ] {
        assert_eq!(refused(&settings, remote, pairs), expected);
    }
    let mut other = proxy_settings();
    other.proxies.networks.clear();
    assert_eq!(refused(&other, "10.0.0.1", &all), "trusted_proxy_no_proxies_configured");
    other.trusted_proxy.user_header = None;
    assert_eq!(refused(&other, "10.0.0.1", &all), "trusted_proxy_config_missing");
    let mut own = proxy_settings();
    own.trusted_proxy.allow_loopback = true;
    own.trusted_proxy.allow_users.clear();
    let eve = headers(&[("x-user", "eve"), ("x-verified", "1")]);
    assert!(matches!(decide(&own, &Presented::default(), "127.0.0.1", &eve), Decision::Accepted(_)));
}

#[test]
fn beside_a_trusted_proxy_only_this_machine_may_use_the_secret() {
    let with = |token: Option<&str>, password: Option<&str>| AuthSettings {
        token: token.map(Into::into),
        password: password.map(Into::into),
        ..proxy_settings()
    };
    for (settings, presented, expected) in [
        (with(None, Some("pass")), "password=pass", "password"),
        (with(None, Some("pass")), "password=x", "password_mismatch"),
        (with(Some(SECRET), None), "token=hunter2", "token"),
        (with(Some(SECRET), None), "", "trusted_proxy_loopback_source"),
        (with(None, None), "token=hunter2", "trusted_proxy_loopback_source"),
    ] {
        assert_eq!(outcome(&settings, presented), expected, "{presented}");
    }
    let settings = with(Some(SECRET), None);
    let behind = headers(&[("x-forwarded-for", "203.0.113.5")]);
    for (remote, headers) in [("203.0.113.5", HeaderMap::new()), ("127.0.0.1", behind)] {
        let decision = decide(&settings, &offer("token=hunter2"), remote, &headers);
        assert!(matches!(decision, Decision::Refused(_)), "{remote} {decision:?}");
    }
}

#[test]
fn each_reason_has_its_code_its_next_step_and_its_count() {
    use AuthReason::{
        BootstrapTokenInvalid, DeviceTokenMismatch, PasswordMismatch, PasswordMissing, PasswordMissingConfig,
        RateLimited, ScopeMismatch, TokenMismatch, TokenMissing, TokenMissingConfig, TrustedProxy,
    };
    let (configuration, credentials, review) =
        ("update_auth_configuration", "update_auth_credentials", "review_auth_configuration");
    for (reason, word, code, step, counts) in [
        (TokenMissing, "token_missing", "AUTH_TOKEN_MISSING", configuration, None),
        (TokenMismatch, "token_mismatch", "AUTH_TOKEN_MISMATCH", credentials, Some(Proof::SharedSecret)),
        (TokenMissingConfig, "token_missing_config", "AUTH_TOKEN_NOT_CONFIGURED", configuration, None),
        (PasswordMissing, "password_missing", "AUTH_PASSWORD_MISSING", configuration, None),
        (
            PasswordMismatch,
            "password_mismatch",
            "AUTH_PASSWORD_MISMATCH",
            credentials,
            Some(Proof::SharedSecret),
        ),
        (
            PasswordMissingConfig,
            "password_missing_config",
            "AUTH_PASSWORD_NOT_CONFIGURED",
            configuration,
            None,
        ),
        (
            BootstrapTokenInvalid,
            "bootstrap_token_invalid",
            "AUTH_BOOTSTRAP_TOKEN_INVALID",
            review,
            Some(Proof::BootstrapToken),
        ),
        (
            DeviceTokenMismatch,
            "device_token_mismatch",
            "AUTH_DEVICE_TOKEN_MISMATCH",
            credentials,
            Some(Proof::DeviceToken),
        ),
        (ScopeMismatch, "scope_mismatch", "AUTH_SCOPE_MISMATCH", review, None),
        (RateLimited, "rate_limited", "AUTH_RATE_LIMITED", "wait_then_retry", None),
        (
            TrustedProxy(ProxyReason::UserMissing),
            "trusted_proxy_user_missing",
            "AUTH_UNAUTHORIZED",
            review,
            None,
        ),
    ] {
        let failure = AuthFailure::new(reason, &Presented::default());
        assert_eq!(failure.counts_as(), counts, "{word}");
        let shape = failure.error_shape(Protocol::V4);
        assert!(
            shape.message.starts_with("unauthorized: ") && shape.close_reason() == shape.message,
            "{word}"
        );
        assert_eq!(
            shape.details.unwrap(),
            json!({"code": code, "authReason": word, "canRetryWithDeviceToken": false, "recommendedNextStep": step})
        );
    }
    let message = AuthFailure::new(DeviceTokenMismatch, &Presented::default()).to_string();
    assert!(message.contains("device token mismatch"), "clients look for it: {message}");
}

#[test]
fn only_a_signed_client_with_one_wrong_token_is_told_to_retry_with_its_own() {
    for (presented, expected) in [
        ("signed token=x", true),
        ("token=x", false),
        ("signed token=x password=x", false),
        ("signed token=x device=d", false),
    ] {
        let failure = AuthFailure::new(AuthReason::TokenMismatch, &offer(presented));
        assert_eq!(failure.can_retry_with_device_token, expected, "{presented}");
        let step = if expected { "retry_with_device_token" } else { "update_auth_credentials" };
        assert_eq!(failure.next_step(), step);
    }
    assert!(!AuthFailure::new(AuthReason::TokenMissing, &offer("signed")).can_retry_with_device_token);
}

#[test]
fn a_lock_out_says_when_to_retry_where_the_client_reads_it() {
    let locked = LockedOut { retry_after: std::time::Duration::from_millis(1_500) };
    let failure = AuthFailure::locked_out(locked);
    let newer = failure.error_shape(Protocol::V4);
    assert_eq!((newer.retryable, newer.retry_after_ms), (Some(true), Some(1_500)));
    let older = failure.error_shape(Protocol::V3);
    assert_eq!((older.retryable, older.retry_after_ms), (None, None));
    assert_eq!(older.details.unwrap()["authReason"], "rate_limited");
}

#[test]
fn a_bearer_token_stands_for_whichever_secret_is_asked_for() {
    use secrecy::ExposeSecret as _;
    for (value, expected) in [
        ("Bearer hunter2", Some(SECRET)),
        ("bearer   hunter2 ", Some(SECRET)),
        ("Basic hunter2", None),
        ("Bearer ", None),
        ("hunter2", None),
    ] {
        let secret = bearer(&headers(&[("authorization", value)]));
        assert_eq!(secret.as_ref().map(|secret| secret.expose_secret()), expected, "{value}");
    }
    for (mode, secret) in [(AuthMode::Token, SECRET), (AuthMode::Password, "pass")] {
        let headers = headers(&[("authorization", &format!("Bearer {secret}"))]);
        let presented = Presented::by_http(&headers);
        assert!(matches!(decide(&settings(mode), &presented, "127.0.0.1", &headers), Decision::Accepted(_)));
    }
}

#[test]
fn secrets_are_compared_whole_and_never_shown() {
    for (one, other, expected) in [("a", "a", true), ("a", "b", false), ("a", "aa", false), ("", "a", false)]
    {
        assert_eq!(equals(&one.into(), &other.into()), expected);
    }
    let presented = offer("signed token=hunter2x device=hunter2 boot=hunter2 password=hunter2x");
    let settings = settings(AuthMode::Token);
    let decision = decide(&settings, &presented, "127.0.0.1", &HeaderMap::new());
    assert!(!format!("{settings:?} {presented:?} {decision:?}").contains(SECRET));
}
