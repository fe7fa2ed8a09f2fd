//! What `gateway` and `hooks` set, and what is wrong with them.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::{environment, problems_with, rendered, rendered_with, valid};
use crate::config::{Bind, Config, Severity, Tls, load_text};
use crate::gateway::auth::AuthMode;
use crate::gateway::limits::RateLimit;

fn with(vars: &[(&str, &str)], text: &str) -> Config {
    load_text(&environment(vars), "offshoot.json", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn shown(secret: Option<&SecretString>) -> Option<&str> {
    secret.map(ExposeSecret::expose_secret)
}

#[test]
fn an_empty_configuration_is_open_to_this_machine_with_a_token() {
    for text in ["{}", "{gateway: {}}", "{gateway: {auth: {}}}"] {
        let gateway = valid(text).gateway;
        assert_eq!(
            (gateway.port, gateway.bind, gateway.auth.mode),
            (18_789, Bind::Loopback, AuthMode::Token)
        );
        assert!(gateway.auth.lacks_token() && gateway.auth.password.is_none());
        assert_eq!(gateway.auth.rate_limit, RateLimit::default());
        assert!(gateway.control_ui.enabled && gateway.control_ui.root.is_none());
        assert_eq!(gateway.control_ui.base_path, "");
        assert!(gateway.tls.is_none() && gateway.hooks.is_none());
        assert!(!gateway.chat_completions.enabled && !gateway.responses.enabled && gateway.reload.enabled);
        assert_eq!(gateway.handshake_timeout, Duration::from_secs(15));
        assert_eq!(gateway.unfinished_per_address, 32);
    }
}

#[test]
fn every_key_reaches_its_setting() {
    let text = "{gateway: {port: 1, bind: 'custom', customBindHost: '[::1]', mode: 'local',
        trustedProxies: ['10.0.0.1', '192.168.0.0/16', '::ffff:10.0.0.2'], allowRealIpFallback: true,
        auth: {mode: 'trusted-proxy', password: ' pass ',
            trustedProxy: {userHeader: 'X-User', requiredHeaders: ['X-A'], allowUsers: [' ada '], allowLoopback: true},
            rateLimit: {maxAttempts: 3, windowMs: 1000, lockoutMs: 2000, exemptLoopback: false}},
        controlUi: {enabled: false, basePath: 'ui/', root: 'www', allowedOrigins: ['HTTPS://A.example:443/'],
            embedSandbox: 'strict', allowExternalEmbedUrls: true, allowInsecureAuth: true,
            dangerouslyDisableDeviceAuth: true, dangerouslyAllowHostHeaderOriginFallback: true},
        tools: {allow: ['exec'], deny: ['read']}, reload: {mode: 'off', debounceMs: 10},
        tls: {enabled: true, certPath: 'c.pem', keyPath: 'k.pem'},
        http: {endpoints: {chatCompletions: {enabled: true, maxBodyBytes: 5}, responses: {enabled: true}}}},
      hooks: {enabled: true, path: '/in/', token: 't', maxBodyBytes: 7, defaultSessionKey: 'hook:a',
        allowRequestSessionKey: true, allowedSessionKeyPrefixes: ['hook:'], allowedAgentIds: ['Main']}}";
    let config = valid(text);
    assert_eq!(config.problems, []);
    let gateway = config.gateway;
    assert_eq!((gateway.port, gateway.bind), (1, Bind::Address("::1".parse().unwrap())));
    assert!(gateway.bind.is_loopback());
    let auth = &gateway.auth;
    assert_eq!((auth.mode, shown(auth.password.as_ref())), (AuthMode::TrustedProxy, Some("pass")));
    let networks: Vec<_> = auth.proxies.networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.1/32", "192.168.0.0/16", "10.0.0.2/32"]);
    assert!(auth.proxies.real_ip_fallback && auth.trusted_proxy.allow_loopback);
    assert_eq!(auth.trusted_proxy.user_header.as_ref().unwrap(), "x-user");
    assert_eq!(auth.trusted_proxy.required_headers, ["x-a"]);
    assert_eq!(auth.trusted_proxy.allow_users, ["ada"]);
    let (window, lockout) = (Duration::from_secs(1), Duration::from_secs(2));
    assert_eq!(auth.rate_limit, RateLimit { max_attempts: 3, window, lockout, exempt_loopback: false });
    let ui = &gateway.control_ui;
    assert_eq!((ui.enabled, ui.base_path.as_str(), ui.embed_sandbox), (false, "/ui", "strict"));
    assert_eq!(ui.root, Some(PathBuf::from("www")));
    assert_eq!(ui.origins.allowed, ["https://a.example"]);
    assert!(ui.origins.host_fallback && !ui.origins.any && ui.allow_external_embed_urls);
    assert!(ui.device.allow_insecure_auth && ui.device.disable_device_auth);
    assert_eq!((gateway.tools.allow, gateway.tools.deny), (vec!["exec".to_owned()], vec!["read".to_owned()]));
    assert!(!gateway.reload.enabled && gateway.reload.debounce == Duration::from_millis(10));
    assert_eq!(gateway.tls, Some(Tls::Files { certificate: "c.pem".into(), key: "k.pem".into() }));
    assert_eq!((gateway.chat_completions.enabled, gateway.chat_completions.max_body_bytes), (true, 5));
    assert_eq!((gateway.responses.enabled, gateway.responses.max_body_bytes), (true, 20 * 1024 * 1024));
    let hooks = gateway.hooks.unwrap();
    assert_eq!((hooks.path.as_str(), hooks.token.expose_secret(), hooks.max_body_bytes), ("/in", "t", 7));
    assert_eq!(hooks.default_session_key.as_deref(), Some("hook:a"));
    assert!(hooks.allow_request_session_key);
    assert_eq!(hooks.allowed_session_key_prefixes, ["hook:"]);
    assert_eq!(hooks.allowed_agents.unwrap(), ["main".parse().unwrap()]);
}

#[test]
fn the_mode_follows_from_what_there_is() {
    let password = &[("OPENCLAW_GATEWAY_PASSWORD", "p")][..];
    let token = &[("OPENCLAW_GATEWAY_TOKEN", "t")][..];
    for (vars, auth, expected) in [
        (&[][..], "{}", AuthMode::Token),
        (&[], "{password: 'p'}", AuthMode::Password),
        (&[], "{password: 'p', token: 't'}", AuthMode::Password),
        (&[], "{password: 'p', mode: 'token'}", AuthMode::Token),
        (&[], "{token: 't', mode: 'none'}", AuthMode::None),
        (password, "{}", AuthMode::Password),
        (token, "{}", AuthMode::Token),
        (password, "{mode: 'password'}", AuthMode::Password),
    ] {
        assert_eq!(
            with(vars, &format!("{{gateway: {{auth: {auth}}}}}")).gateway.auth.mode,
            expected,
            "{auth}"
        );
    }
    assert_eq!(with(password, "{}").gateway.auth.mode, AuthMode::Password);
}

#[test]
fn a_secret_comes_from_the_configuration_else_from_the_environment() {
    let own = ("OFFSHOOT_GATEWAY_TOKEN", "own");
    let openclaw = ("OPENCLAW_GATEWAY_TOKEN", "openclaw");
    for (vars, token, expected) in [
        (&[own, openclaw][..], "'written'", Some("written")),
        (&[own, openclaw], "''", Some("own")),
        (&[own, openclaw], "' '", Some("own")),
        (&[openclaw], "''", Some("openclaw")),
        (&[("OPENCLAW_GATEWAY_TOKEN", "  ")], "''", None),
        (&[], "''", None),
        (&[("T", "t")], "'${T}'", Some("t")),
        (&[("T", "t")], "{source: 'env', provider: 'default', id: 'T'}", Some("t")),
    ] {
        let config = with(vars, &format!("{{gateway: {{auth: {{token: {token}}}}}}}"));
        assert_eq!(shown(config.gateway.auth.token.as_ref()), expected, "{token}");
        assert_eq!(config.problems, []);
    }
}

#[test]
fn where_the_door_is_open() {
    for (gateway, addresses, loopback) in [
        ("bind: 'loopback'", "127.0.0.1 ::1", true),
        ("bind: 'auto'", "127.0.0.1 ::1", true),
        ("bind: 'lan'", "0.0.0.0 ::", false),
        ("bind: 'custom', customBindHost: '192.168.1.5'", "192.168.1.5 127.0.0.1 ::1", false),
        ("bind: 'custom', customBindHost: '0.0.0.0'", "0.0.0.0", false),
        ("bind: 'custom', customBindHost: '127.0.0.2'", "127.0.0.2", true),
        ("customBindHost: '192.168.1.5'", "127.0.0.1 ::1", true),
    ] {
        let bind = valid(&format!("{{gateway: {{{gateway}}}}}")).gateway.bind;
        let listed: Vec<_> = bind.addresses().iter().map(ToString::to_string).collect();
        assert_eq!((listed.join(" ").as_str(), bind.is_loopback()), (addresses, loopback), "{gateway}");
    }
}

#[test]
fn tls_makes_its_own_certificate_unless_told_otherwise() {
    for (tls, expected) in [
        ("{}", None),
        ("{certPath: 'c', keyPath: 'k'}", None),
        ("{enabled: true}", Some(Tls::SelfSigned)),
        ("{enabled: true, autoGenerate: true}", Some(Tls::SelfSigned)),
    ] {
        assert_eq!(valid(&format!("{{gateway: {{tls: {tls}}}}}")).gateway.tls, expected, "{tls}");
    }
}

#[test]
fn a_path_may_begin_at_the_home_directory() {
    let environment = crate::config::Environment { home: Some("/home/ada".into()), ..environment(&[]) };
    let text = "{gateway: {controlUi: {root: '~/ui'}, tls: {enabled: true, certPath: '~/c', keyPath: '/k'}}}";
    let gateway = load_text(&environment, "offshoot.json", text).unwrap().gateway;
    assert_eq!(gateway.control_ui.root, Some("/home/ada/ui".into()));
    assert_eq!(gateway.tls, Some(Tls::Files { certificate: "/home/ada/c".into(), key: "/k".into() }));
}

#[test]
fn each_problem_word_for_word() {
    for (text, expected) in [
        ("{gateway: {port: 0}}", "1:18: error: gateway.port: 0 is not a whole number from 1 to 65535"),
        (
            "{gateway: {bind: 'all'}}",
            "1:18: error: gateway.bind: \"all\" is not one of loopback, lan, custom, auto, tailnet",
        ),
        (
            "{gateway: {bind: 'tailnet'}}",
            "1:18: warning: gateway.bind: tailnet is not supported, loopback is used: for other machines set it to lan, \
             or to custom with gateway.customBindHost",
        ),
        (
            "{gateway: {bind: 'custom'}}",
            "1:18: error: gateway.bind: customBindHost is missing: set gateway.customBindHost to the address to listen on",
        ),
        (
            "{gateway: {bind: 'custom', customBindHost: 'host'}}",
            "1:44: error: gateway.customBindHost: \"host\" is not an IP address",
        ),
        (
            "{gateway: {mode: 'remote'}}",
            "1:18: warning: gateway.mode: remote is not acted on: the gateway is this daemon's own",
        ),
        (
            "{gateway: {bind: 'lan', auth: {mode: 'none'}}}",
            "1:38: error: gateway.auth.mode: none is for loopback only: set gateway.auth.mode to token or password, \
             or gateway.bind to loopback",
        ),
        (
            "{gateway: {bind: 'custom', customBindHost: '192.168.1.5', auth: {mode: 'none'}}}",
            "1:72: error: gateway.auth.mode: none is for loopback only: set gateway.auth.mode to token or password, \
             or gateway.bind to loopback",
        ),
        (
            "{gateway: {auth: {mode: 'tailscale'}}}",
            "1:25: error: gateway.auth.mode: \"tailscale\" is not one of none, token, password, trusted-proxy",
        ),
        (
            "{gateway: {auth: {mode: 'password', password: ' '}}}",
            "1:25: error: gateway.auth.mode: there is no password: set gateway.auth.password, \
             or the environment variable OFFSHOOT_GATEWAY_PASSWORD",
        ),
        (
            "{gateway: {auth: {mode: 'trusted-proxy'}, trustedProxies: ['10.0.0.1']}}",
            "1:25: error: gateway.auth.mode: no header names the user: \
             set gateway.auth.trustedProxy.userHeader to the one that the proxy sends",
        ),
        (
            "{gateway: {auth: {mode: 'trusted-proxy', trustedProxy: {userHeader: 'x-user'}}}}",
            "1:25: error: gateway.auth.mode: no proxy is trusted: set gateway.trustedProxies to the proxy's address",
        ),
        (
            "{gateway: {auth: {token: 5}}}",
            "1:26: error: gateway.auth.token: a number is not a string or {source: \"env\", id: \"NAME\"}",
        ),
        (
            "{gateway: {auth: {token: '${NO}'}}}",
            "1:26: error: gateway.auth.token: ${NO} is not set: set the environment variable NO, \
             or write $${NO} for the text itself",
        ),
        (
            "{gateway: {auth: {token: '__OPENCLAW_REDACTED__'}}}",
            "1:26: error: gateway.auth.token: this is what stands for a secret when one is shown: write the secret",
        ),
        (
            "{gateway: {auth: {token: {source: 'env'}}}}",
            "1:26: error: gateway.auth.token: source or id is missing: write {source: \"env\", id: \"NAME\"}",
        ),
        (
            "{gateway: {auth: {token: {source: 'file', id: 'x'}}}}",
            "1:35: error: gateway.auth.token.source: secrets are read from the environment only: \
             write {source: \"env\", id: \"NAME\"}",
        ),
        (
            "{gateway: {auth: {token: {source: 'env', id: 'NO'}}}}",
            "1:46: error: gateway.auth.token.id: the environment variable that it names is not set",
        ),
        (
            "{gateway: {auth: {rateLimit: {maxAttempts: 0}}}}",
            "1:44: error: gateway.auth.rateLimit.maxAttempts: 0 is not a whole number from 1 to 1000",
        ),
        (
            "{gateway: {trustedProxies: ['proxy']}}",
            "1:29: error: gateway.trustedProxies[0]: \"proxy\" is not an IP address or a network such as 10.0.0.0/8",
        ),
        (
            "{gateway: {controlUi: {allowedOrigins: ['a.example']}}}",
            "1:41: error: gateway.controlUi.allowedOrigins[0]: \"a.example\" is not * or an origin such as https://host:port",
        ),
        (
            "{gateway: {controlUi: {basePath: '/a/../b'}}}",
            "1:34: error: gateway.controlUi.basePath: \"/a/../b\" is not a path such as /openclaw",
        ),
        (
            "{gateway: {tls: {enabled: true, certPath: 'c'}}}",
            "1:17: error: gateway.tls: keyPath is missing: add the key of the certificate",
        ),
        (
            "{gateway: {tls: {enabled: true, keyPath: 'k'}}}",
            "1:17: error: gateway.tls: certPath is missing: add the certificate of the key",
        ),
        (
            "{gateway: {tls: {enabled: true, autoGenerate: false}}}",
            "1:17: error: gateway.tls: certPath and keyPath are missing: add them, or set autoGenerate to true",
        ),
        (
            "{gateway: {tls: {enabled: true, certPath: 5, keyPath: 'k'}}}",
            "1:43: error: gateway.tls.certPath: 5 is not a string",
        ),
        (
            "{gateway: {reload: {mode: 'maybe'}}}",
            "1:27: error: gateway.reload.mode: \"maybe\" is not one of off, hybrid, hot, restart",
        ),
        (
            "{hooks: {enabled: true}}",
            "1:9: error: hooks: token is missing: add the one that callers send, or set enabled to false",
        ),
        (
            "{hooks: {enabled: true, token: 't', path: '/'}}",
            "1:43: error: hooks.path: it would take every path: write one such as /hooks",
        ),
        (
            "{hooks: {mappings: []}}",
            "1:10: warning: hooks.mappings: known to OpenClaw, not acted on by Offshoot",
        ),
    ] {
        let rendered = rendered(text);
        let expected = format!("offshoot.json:{expected}");
        assert_eq!(rendered, [expected], "{text}");
    }
}

#[test]
fn hooks_that_are_off_need_nothing() {
    for text in ["{hooks: {}}", "{hooks: {enabled: false, path: '/'}}", "{hooks: {token: 't'}}"] {
        assert!(valid(text).gateway.hooks.is_none());
    }
    let hooks =
        valid("{hooks: {enabled: true, token: 't', allowedAgentIds: ['main', '*']}}").gateway.hooks.unwrap();
    assert_eq!((hooks.path.as_str(), hooks.max_body_bytes), ("/hooks", 262_144));
    assert_eq!(hooks.allowed_agents, None);
}

#[test]
fn a_number_in_the_environment_counts_if_it_is_one() {
    let vars = [("OPENCLAW_HANDSHAKE_TIMEOUT_MS", "2500"), ("OFFSHOOT_MAX_PREAUTH_CONNECTIONS_PER_IP", "7")];
    let gateway = with(&vars, "{}").gateway;
    assert_eq!(gateway.handshake_timeout, Duration::from_millis(2_500));
    assert_eq!(gateway.unfinished_per_address, 7);
    let file = "{gateway: {handshakeTimeoutMs: 700}}";
    assert_eq!(valid(file).gateway.handshake_timeout, Duration::from_millis(700));
    assert_eq!(with(&vars, file).gateway.handshake_timeout, Duration::from_millis(2_500));
    let rendered = rendered_with(&[], "{gateway: {handshakeTimeoutMs: 50}}");
    assert!(rendered[0].contains("100") && rendered[0].contains("600000"), "{rendered:?}");
    let rendered = rendered_with(&[("OFFSHOOT_HANDSHAKE_TIMEOUT_MS", "soon")], "{}");
    assert_eq!(
        rendered,
        ["offshoot.json:1:1: warning: the environment variable OFFSHOOT_HANDSHAKE_TIMEOUT_MS is ignored: \
          it is not a whole number from 100 to 600000"]
    );
}

#[test]
fn one_wrong_value_is_one_problem() {
    let errors = |text: &str| {
        let problems = problems_with(&[], text);
        problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    };
    for text in [
        "{gateway: 5}",
        "{gateway: {auth: 5}}",
        "{gateway: {auth: {mode: 'password', password: 5}}}",
        "{gateway: {auth: {mode: 5, password: 'p'}}}",
        "{gateway: {bind: 'custom', customBindHost: 5}}",
        "{gateway: {tls: 5}}",
        "{gateway: {http: {endpoints: {responses: 5}}}}",
        "{gateway: {controlUi: []}}",
        "{hooks: []}",
        "{hooks: {enabled: true, token: 5}}",
    ] {
        assert_eq!(errors(text), 1, "{text} {:?}", problems_with(&[], text));
    }
}
