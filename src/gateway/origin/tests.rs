use proptest::prelude::*;
use serde_json::json;

use super::{AllowedBy, Host, Origin, OriginError, OriginPolicy};
use crate::gateway::peer::tests::{behind, peer};
use crate::protocol::client::{ClientId, ClientMode};
use crate::protocol::connect::ClientInfo;

fn client(id: ClientId, mode: ClientMode) -> ClientInfo {
    serde_json::from_value(json!({"id": id, "mode": mode, "version": "1", "platform": "linux"})).unwrap()
}

fn policy(allowed: &[&str]) -> OriginPolicy {
    let allowed = allowed.iter().map(|&origin| origin.to_owned()).collect();
    OriginPolicy { allowed, ..OriginPolicy::default() }
}

#[test]
fn an_origin_is_read_as_its_parts() {
    for (text, expected) in [
        ("http://LocalHost:5173", Some("http://localhost:5173")),
        ("https://a.example:443", Some("https://a.example")),
        ("http://a.example:80", Some("http://a.example")),
        (" http://[::1]:18789 ", Some("http://[::1]:18789")),
        (
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            Some("chrome-extension://abcdefghijklmnopabcdefghijklmnop"),
        ),
        ("tauri://localhost", Some("tauri://localhost")),
        ("null", None),
        ("", None),
        ("file://", None),
        ("nonsense", None),
    ] {
        assert_eq!(Origin::parse(text).page(), expected, "{text}");
    }
}

#[test]
fn a_host_is_read_as_its_parts() {
    let host = |name: &str, port| Some(Host { name: name.to_owned(), port });
    for (text, expected) in [
        ("LOCALHOST:18789", host("localhost", Some(18_789))),
        ("127.0.0.1", host("127.0.0.1", None)),
        ("[::1]:1", host("[::1]", Some(1))),
        ("", None),
        ("a/b", None),
        ("user@a", None),
        ("a:99999", None),
    ] {
        assert_eq!(Host::parse(text), expected, "{text}");
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let list = policy(&["https://ui.example"]);
    let any = OriginPolicy { any: true, ..OriginPolicy::default() };
    let fallback = OriginPolicy { host_fallback: true, ..OriginPolicy::default() };
    let none = OriginPolicy::default();
    let (local, lan) = ("127.0.0.1", "192.168.1.9");
    for (policy, remote, origin, host, expected) in [
        (&list, lan, "https://UI.example", "a", Ok(AllowedBy::List)),
        (&list, lan, "https://ui.example:8443", "a", Err(OriginError::NotAllowed)),
        (&any, lan, "https://evil.example", "a", Ok(AllowedBy::List)),
        (&any, lan, "null", "a", Err(OriginError::Missing)),
        (&fallback, lan, "https://gw.example", "gw.example", Ok(AllowedBy::HostFallback)),
        (&fallback, lan, "https://gw.example", "gw.example:1", Err(OriginError::NotAllowed)),
        (&none, lan, "https://gw.example", "gw.example", Err(OriginError::NotAllowed)),
        (&none, local, "http://localhost:5173", "localhost:18789", Ok(AllowedBy::Loopback)),
        (&none, local, "http://127.0.0.1:18789", "127.0.0.1:18789", Ok(AllowedBy::PrivateSameOrigin)),
        (&none, local, "http://[::1]:1", "a", Ok(AllowedBy::Loopback)),
        (&none, lan, "http://localhost:5173", "192.168.1.5:18789", Err(OriginError::NotAllowed)),
        (&none, lan, "http://localhost:18789", "localhost:18789", Err(OriginError::NotAllowed)),
        (&none, lan, "http://192.168.1.5:18789", "192.168.1.5:18789", Ok(AllowedBy::PrivateSameOrigin)),
        (&none, lan, "http://gw.local:18789", "gw.local:18789", Ok(AllowedBy::PrivateSameOrigin)),
        (&none, lan, "https://gw.tail1.ts.net", "gw.tail1.ts.net", Ok(AllowedBy::PrivateSameOrigin)),
        (&none, local, "http://gw.local:18789", "gw.local:18789", Err(OriginError::NotAllowed)),
        (&none, local, "https://gw.tail1.ts.net", "gw.tail1.ts.net", Err(OriginError::NotAllowed)),
        (&none, local, "http://192.168.1.5:18789", "192.168.1.5:18789", Ok(AllowedBy::PrivateSameOrigin)),
        (&none, lan, "http://100.64.0.1:1", "100.64.0.1:1", Ok(AllowedBy::PrivateSameOrigin)),
        (&none, lan, "http://100.128.0.1:1", "100.128.0.1:1", Err(OriginError::NotAllowed)),
        (&none, lan, "http://203.0.113.5:1", "203.0.113.5:1", Err(OriginError::NotAllowed)),
        (&none, local, "http://evil.example", "localhost:18789", Err(OriginError::NotAllowed)),
        (&none, local, "http://localhost.evil.example", "a", Err(OriginError::NotAllowed)),
        (&none, local, "null", "localhost", Err(OriginError::Missing)),
    ] {
        let peer = peer(remote, &[("origin", origin), ("host", host)]);
        assert_eq!(policy.check(&peer), expected, "{origin} to {host} from {remote}");
    }
}

#[test]
fn a_page_behind_a_proxy_is_not_of_this_machine() {
    let peer = peer("127.0.0.1", &[("origin", "http://localhost:1"), ("x-forwarded-for", "203.0.113.5")]);
    assert_eq!(OriginPolicy::default().check(&peer), Err(OriginError::NotAllowed));
}

#[test]
fn a_client_of_the_web_needs_an_origin_and_others_only_answer_for_theirs() {
    let none = OriginPolicy::default();
    let bare = peer("127.0.0.1", &[]);
    let evil = peer("127.0.0.1", &[("origin", "http://evil.example")]);
    for (id, mode, expected) in [
        (ClientId::ControlUi, ClientMode::Webchat, Err(OriginError::Missing)),
        (ClientId::ControlUi, ClientMode::Ui, Err(OriginError::Missing)),
        (ClientId::Webchat, ClientMode::Ui, Err(OriginError::Missing)),
        (ClientId::WebchatUi, ClientMode::Ui, Err(OriginError::Missing)),
        (ClientId::Test, ClientMode::Webchat, Err(OriginError::Missing)),
        (ClientId::Cli, ClientMode::Cli, Ok(AllowedBy::NotApplied)),
        (ClientId::Tui, ClientMode::Ui, Ok(AllowedBy::NotApplied)),
    ] {
        let client = client(id, mode);
        assert_eq!(none.check_connect(&bare, &client), expected, "{id}/{mode}");
        assert_eq!(none.check_connect(&evil, &client), Err(OriginError::NotAllowed), "{id}/{mode}");
    }
}

#[test]
fn a_connect_may_not_come_by_a_name_that_anyone_may_have_pointed_here() {
    let (none, browser) = (OriginPolicy::default(), ("user-agent", "Mozilla/5.0"));
    let cli = client(ClientId::Cli, ClientMode::Cli);
    for (remote, host, expected) in [
        ("127.0.0.1", "evil.example:18789", Err(OriginError::HostNotAllowed)),
        ("127.0.0.1", "gw.local", Err(OriginError::HostNotAllowed)),
        ("127.0.0.1", "localhost:18789", Ok(AllowedBy::NotApplied)),
        ("192.168.1.9", "gw.local", Ok(AllowedBy::NotApplied)),
    ] {
        let peer = peer(remote, &[browser, ("host", host)]);
        assert_eq!(none.check_connect(&peer, &cli), expected, "{host} from {remote}");
    }
}

#[test]
fn the_answer_has_the_code_and_the_reason() {
    for (error, reason) in [
        (OriginError::NotAllowed, "origin not allowed"),
        (OriginError::Missing, "origin missing or invalid"),
        (OriginError::HostNotAllowed, "host not allowed"),
    ] {
        let shape = error.error_shape();
        assert!(
            shape.message.starts_with(reason) && shape.message.contains("gateway.controlUi.allowedOrigins")
        );
        assert_eq!(shape.details, Some(json!({"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": reason})));
    }
}

#[test]
fn a_browser_may_not_reach_loopback_by_a_public_name() {
    let none = OriginPolicy::default();
    let list = policy(&["https://gw.example", "http://ui.example"]);
    let browser = ("user-agent", "Mozilla/5.0");
    for (policy, remote, pairs, expected) in [
        (&none, "127.0.0.1", &[browser, ("host", "evil.example:18789")][..], false),
        (&none, "127.0.0.1", &[("sec-fetch-site", "none"), ("host", "evil.example")], false),
        (&none, "127.0.0.1", &[("origin", "http://evil.example"), ("host", "evil.example")], false),
        (&none, "127.0.0.1", &[browser, ("host", "gw.local")], false),
        (&none, "127.0.0.1", &[browser], false),
        (&none, "127.0.0.1", &[browser, ("host", "evil.example"), ("x-forwarded-for", "203.0.113.5")], false),
        (&none, "127.0.0.1", &[browser, ("host", "localhost:18789")], true),
        (&none, "127.0.0.1", &[browser, ("host", "ui.localhost")], true),
        (&none, "127.0.0.1", &[browser, ("host", "127.0.0.1:18789")], true),
        (&none, "::1", &[browser, ("host", "[::1]:18789")], true),
        (&none, "127.0.0.1", &[("host", "public.example")], true),
        (&none, "127.0.0.1", &[("host", "public.example"), ("user-agent", "curl/8")], true),
        (&none, "192.168.1.9", &[browser, ("host", "evil.example")], true),
        (&list, "127.0.0.1", &[browser, ("host", "gw.example")], true),
        (&list, "127.0.0.1", &[("origin", "http://ui.example"), ("host", "other.example")], true),
        (&list, "127.0.0.1", &[("origin", "http://evil.example"), ("host", "gw.example")], false),
    ] {
        let peer = peer(remote, pairs);
        assert_eq!(policy.check_host(&peer).is_ok(), expected, "{remote} {pairs:?}");
    }
    let proxied = behind("127.0.0.1", &[browser, ("host", "gw.example")], &["127.0.0.1/32"], false);
    assert_eq!(none.check_host(&proxied), Ok(()));
}

proptest! {
    #[test]
    fn no_header_makes_it_panic(origin in "\\PC*", host in "\\PC*") {
        let _ = Origin::parse(&origin);
        let _ = Host::parse(&host);
    }

    #[test]
    fn a_foreign_page_is_never_let_in_without_a_setting(name in "[a-z]{1,10}\\.(example|test|localhost\\.example)", port in 1_u16..) {
        let origin = format!("http://{name}:{port}");
        let peer = peer("127.0.0.1", &[("origin", &origin), ("host", &format!("{name}:{port}"))]);
        prop_assert_eq!(OriginPolicy::default().check(&peer), Err(OriginError::NotAllowed));
        prop_assert_eq!(OriginPolicy::default().check_host(&peer), Err(OriginError::HostNotAllowed));
    }
}
