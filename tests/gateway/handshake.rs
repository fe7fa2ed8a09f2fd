//! Who is let in and who is not, row by row as the protocol's tables have it, in both generations.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::rig::{Attempt, Client, Daemon, Refused};

/// What a connect comes to.
enum Ends {
    /// It is let in with these scopes.
    In(&'static [&'static str]),
    /// It is refused with this code and these details, and closed with 1008. The message begins like this.
    Out(&'static str, Value, &'static str),
    /// It is refused because of its protocol, and closed with 1002.
    Mismatch(Value),
}

use Ends::{In, Mismatch, Out};

/// The scopes that [`Attempt::cli`] asks for.
const ASKED: &[&str] = &["operator.read", "operator.write"];
const NOTHING: &[&str] = &[];

fn cli() -> Attempt {
    Attempt::cli()
}

fn ui() -> Attempt {
    Attempt::ui()
}

fn node() -> Attempt {
    Attempt::node()
}

fn of(id: &str, mode: &str) -> Attempt {
    cli().with(json!({ "client": { "id": id, "mode": mode } }))
}

/// A failure of the proof: its reason and code on the wire, and what the client is told to do.
fn unproved(reason: &'static str, code: &'static str, step: &'static str) -> Ends {
    let retry = step == "retry_with_device_token";
    let details = json!({ "code": code, "authReason": reason, "canRetryWithDeviceToken": retry, "recommendedNextStep": step });
    Out("INVALID_REQUEST", details, "unauthorized: ")
}

fn device(code: &'static str, reason: &'static str, says: &'static str) -> Ends {
    Out("INVALID_REQUEST", json!({ "code": code, "reason": reason }), says)
}

fn origin(reason: &'static str) -> Ends {
    Out("INVALID_REQUEST", json!({ "code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": reason }), reason)
}

fn invalid(says: &'static str) -> Ends {
    Out("INVALID_REQUEST", Value::Null, says)
}

fn no_device() -> Ends {
    Out("NOT_PAIRED", json!({ "code": "DEVICE_IDENTITY_REQUIRED" }), "device identity required")
}

fn ui_without_device() -> Ends {
    let details = json!({ "code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED" });
    Out("INVALID_REQUEST", details, "control ui requires device identity")
}

/// A row of a table: its name, the attempt, and what it comes to.
type Row = (&'static str, Attempt, Ends);

/// Tries every row in both generations, and names all that came to something else.
async fn check<const N: usize>(daemon: &Daemon, table: [Row; N]) {
    let rows = table.iter().flat_map(|row| [3, 4].map(|protocol| try_row(daemon, row, protocol)));
    let wrong: Vec<String> = join_all(rows).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with a row.
async fn try_row(daemon: &Daemon, (name, attempt, ends): &Row, protocol: u32) -> Option<String> {
    let attempt = match ends {
        Mismatch(_) => attempt.clone(),
        _ => attempt.clone().speaking(protocol).with_signer(&format!("{name} {protocol}")),
    };
    let (seen, expected) = match (daemon.attempt(&attempt).await, ends) {
        (Ok(mut client), In(scopes)) => (granted(&mut client).await, json!([protocol, scopes])),
        (Err(refused), Out(code, details, says)) => {
            (as_row(&refused, says), json!([code, details, says, 1008, true]))
        }
        (Err(refused), Mismatch(details)) => {
            let says = "protocol mismatch";
            (as_row(&refused, says), json!(["INVALID_REQUEST", details, says, 1002, true]))
        }
        (Ok(client), _) => (client.hello, json!("a refusal")),
        (Err(refused), In(_)) => (refused.error, json!("a hello")),
    };
    (seen != expected).then(|| format!("{name}, protocol {protocol}:\n  {seen} is not\n  {expected}"))
}

/// What a client was given: its protocol, and the scopes by what is said of them and by what it may do.
async fn granted(client: &mut Client) -> Value {
    let protocol = client.hello["protocol"].clone();
    let scopes = match client.hello["auth"]["scopes"].clone() {
        // The older generation is told of scopes with a device only.
        Value::Null if client.call("sessions.list", json!({})).await.is_ok() => json!(ASKED),
        Value::Null => json!(NOTHING),
        told => told,
    };
    let may = client.call("system-presence", json!({})).await.is_ok();
    assert_eq!(may, scopes != json!(NOTHING), "{scopes}");
    json!([protocol, scopes])
}

/// Code, details, beginning of the message, code of the close, and whether its reason is the message as far as it goes.
fn as_row(Refused { error, code, reason }: &Refused, says: &str) -> Value {
    let message = error["message"].as_str().unwrap();
    let begins = if message.starts_with(says) { says } else { message };
    let cut = &message[..message.floor_char_boundary(123)];
    json!([error["code"], error["details"], begins, code, reason == cut])
}

/// One daemon for a table, so that it does not hold back failures longer and longer.
const FORGETFUL: &str = "rateLimit: { windowMs: 1 }";

async fn daemon(gateway: &str) -> Daemon {
    Daemon::exactly(&format!("{{ gateway: {{ {gateway} }} }}")).await
}

async fn with_token(gateway: &str) -> Daemon {
    daemon(&format!("auth: {{ mode: 'token', token: 'a-token-for-tests', {FORGETFUL} }}, {gateway}")).await
}

#[tokio::test]
#[rustfmt::skip]
async fn a_token_that_is_missing_or_wrong() {
    let wrong = || json!({ "token": "wrong" });
    let mismatch = |step| unproved("token_mismatch", "AUTH_TOKEN_MISMATCH", step);
    let missing = || unproved("token_missing", "AUTH_TOKEN_MISSING", "update_auth_configuration");
    let boot = || unproved("bootstrap_token_invalid", "AUTH_BOOTSTRAP_TOKEN_INVALID", "review_auth_configuration");
    let other = || unproved("device_token_mismatch", "AUTH_DEVICE_TOKEN_MISMATCH", "update_auth_credentials");
    let daemon = with_token("").await;
    check(&daemon, [
        ("the token", cli(), In(ASKED)),
        ("the token where the password stands", cli().auth(json!({ "password": "a-token-for-tests" })), In(ASKED)),
        ("no token", cli().auth(json!({})).signed(3), missing()),
        ("an empty token", cli().auth(json!({ "token": "" })).signed(3), missing()),
        ("a wrong token without a device", cli().auth(wrong()), mismatch("update_auth_credentials")),
        ("a wrong token with a device", cli().auth(wrong()).signed(3), mismatch("retry_with_device_token")),
        ("a wrong token and a password with a device", cli().auth(json!({ "token": "wrong", "password": "x" })).signed(3), mismatch("update_auth_credentials")),
        ("a wrong setup code", cli().auth(json!({ "bootstrapToken": "wrong" })).signed(3), boot()),
        ("a wrong device token", cli().auth(json!({ "deviceToken": "wrong" })).signed(3), other()),
        ("a wrong token and a wrong device token", cli().auth(json!({ "token": "wrong", "deviceToken": "wrong" })).signed(3), other()),
    ])
    .await;
    daemon.stop().await;
}

#[tokio::test]
#[rustfmt::skip]
async fn a_password_that_is_missing_or_wrong() {
    let mismatch = || unproved("password_mismatch", "AUTH_PASSWORD_MISMATCH", "update_auth_credentials");
    let missing = || unproved("password_missing", "AUTH_PASSWORD_MISSING", "update_auth_configuration");
    let daemon = daemon(&format!("auth: {{ mode: 'password', password: 'hunter2', {FORGETFUL} }}")).await;
    check(&daemon, [
        ("the password", cli().auth(json!({ "password": "hunter2" })), In(ASKED)),
        ("the password is never signed", cli().auth(json!({ "password": "hunter2" })).signed(3), In(ASKED)),
        ("no password", cli().auth(json!({})).signed(2), missing()),
        ("a wrong password", cli().auth(json!({ "password": "wrong" })), mismatch()),
        ("a wrong password with a device", cli().auth(json!({ "password": "wrong" })).signed(2), mismatch()),
    ])
    .await;
    daemon.stop().await;
}

#[tokio::test]
#[rustfmt::skip]
async fn a_gateway_that_has_no_secret_of_its_own() {
    let daemon = daemon("auth: { mode: 'token' }").await;
    let lacks = unproved("token_missing_config", "AUTH_TOKEN_NOT_CONFIGURED", "update_auth_configuration");
    check(&daemon, [("any token", cli(), lacks)]).await;
    daemon.stop().await;
}

#[tokio::test]
#[rustfmt::skip]
async fn a_proxy_that_does_not_vouch() {
    const RULES: &str = "userHeader: 'x-user', requiredHeaders: ['x-verified'], allowUsers: ['ada']";
    let proxy = |proxies: &str, more: &str| {
        format!("trustedProxies: ['{proxies}'], auth: {{ mode: 'trusted-proxy', trustedProxy: {{ {RULES}, {more} }} }}")
    };
    let review = |reason| unproved(reason, "AUTH_UNAUTHORIZED", "review_auth_configuration");
    let user = |name: &str| cli().auth(json!({})).header("x-user", name);
    let sound = |name| user(name).header("x-verified", "1").proxied();
    let own = daemon(&proxy("127.0.0.1", "allowLoopback: true")).await;
    check(&own, [
        ("a user who may", sound("ada"), In(ASKED)),
        ("a user who may not", sound("eve").signed(3), review("trusted_proxy_user_not_allowed")),
        ("no user", sound("").signed(3), review("trusted_proxy_user_missing")),
        ("a header is missing", user("ada").proxied().signed(3), review("trusted_proxy_missing_header_x-verified")),
        ("a user who may not, without a device", sound("eve"), no_device()),
        ("a node whom the proxy vouches for", node().auth(json!({})).header("x-user", "ada").header("x-verified", "1").proxied(), no_device()),
    ])
    .await;
    own.stop().await;
    let here = daemon(&proxy("127.0.0.1", "")).await;
    check(&here, [("a proxy of this machine", sound("ada").signed(3), review("trusted_proxy_loopback_source"))]).await;
    here.stop().await;
    let elsewhere = daemon(&proxy("10.0.0.0/8", "")).await;
    check(&elsewhere, [("no proxy", sound("ada").signed(3), review("trusted_proxy_untrusted_source"))]).await;
    elsewhere.stop().await;
}

#[tokio::test]
async fn too_many_failures() {
    let config = "auth: { mode: 'token', token: 'a-token-for-tests', rateLimit: { maxAttempts: 1, exemptLoopback: false } }";
    let daemon = daemon(config).await;
    let wrong = cli().auth(json!({ "token": "wrong" }));
    daemon.attempt(&wrong).await.err().unwrap();
    for (protocol, retryable) in [(3, Value::Null), (4, json!(true))] {
        // Also the right one.
        for attempt in [&wrong, &cli()] {
            let refused = daemon.attempt(&attempt.clone().speaking(protocol)).await.err().unwrap();
            let limited = unproved("rate_limited", "AUTH_RATE_LIMITED", "wait_then_retry");
            let Out(code, details, says) = limited else { unreachable!() };
            assert_eq!(as_row(&refused, says), json!([code, details, says, 1008, true]));
            assert_eq!(refused.error["retryable"], retryable, "{refused:?}");
            assert_eq!(refused.error["retryAfterMs"].is_u64(), protocol == 4, "{refused:?}");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
#[rustfmt::skip]
async fn each_check_of_a_device_comes_before_those_below_it() {
    let daemon = with_token("").await;
    let id = || device("DEVICE_AUTH_DEVICE_ID_MISMATCH", "device-id-mismatch", "device identity mismatch");
    let stale = || device("DEVICE_AUTH_SIGNATURE_EXPIRED", "device-signature-stale", "device signature expired");
    let no_nonce = || device("DEVICE_AUTH_NONCE_REQUIRED", "device-nonce-missing", "device nonce required");
    let nonce = || device("DEVICE_AUTH_NONCE_MISMATCH", "device-nonce-mismatch", "device nonce mismatch");
    let signature = || device("DEVICE_AUTH_SIGNATURE_INVALID", "device-signature", "device signature invalid");
    let key = || device("DEVICE_AUTH_PUBLIC_KEY_INVALID", "device-public-key", "device public key invalid");
    check(&daemon, [
        ("another id, and all below", cli().signed(3).forged(|p, _| forge(p, &["id", "signedAt", "nonce", "signature"])), id()),
        ("a key that nobody can read", cli().signed(3).forged(|p, _| forge(p, &["publicKey"])), id()),
        ("too old, and all below", cli().signed(3).forged(|p, _| forge(p, &["signedAt", "nonce", "signature"])), stale()),
        ("of the future", cli().signed(3).ahead(600_000), stale()),
        ("of a clock that goes well enough", cli().signed(3).ahead(100_000), In(ASKED)),
        ("no nonce, and a wrong signature", cli().signed(3).forged(|p, _| { p["device"]["nonce"] = json!(""); forge(p, &["signature"]); }), no_nonce()),
        ("the nonce of another socket", cli().signed(3).forged(|p, _| forge(p, &["nonce", "signature"])), nonce()),
        ("a wrong signature", cli().signed(3).forged(|p, _| forge(p, &["signature"])), signature()),
        ("a key of another length", cli().signed(3).forged(|p, _| forge(p, &["short key"])), key()),
        ("other scopes than were signed", cli().signed(2).forged(|p, _| p["scopes"] = json!(["operator.admin"])), signature()),
        ("scopes in another order", cli().signed(2).forged(|p, _| p["scopes"] = json!(["operator.write", "operator.read"])), signature()),
        ("another role than was signed", cli().signed(2).forged(|p, _| p["role"] = json!("node")), signature()),
        ("another token than was signed", cli().signed(2).forged(|p, _| p["auth"]["token"] = json!("other")), signature()),
        ("another platform than was signed", cli().signed(3).forged(|p, _| p["client"]["platform"] = json!("darwin")), signature()),
        ("another platform, which the older signature leaves out", cli().signed(2).forged(|p, _| p["client"]["platform"] = json!("darwin")), In(ASKED)),
        ("signed as by the command lines", cli().signed(3), In(ASKED)),
        ("signed as by the Control UIs", cli().signed(2), In(ASKED)),
        ("the other base64", cli().signed(3).forged(|p, device| other_base64(p, device.key_bytes())), In(ASKED)),
        ("platform and family as they come", cli().with(json!({ "client": { "platform": " LinuX", "deviceFamily": "Linux" } })).signed(3), In(ASKED)),
    ])
    .await;
    daemon.stop().await;
}

/// Spoils members of the device.
fn forge(params: &mut Value, members: &[&str]) {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let device = &mut params["device"];
    for member in members {
        match *member {
            "id" => device["id"] = json!("0".repeat(64)),
            "publicKey" => device["publicKey"] = json!("no key!"),
            "signedAt" => device["signedAt"] = json!(device["signedAt"].as_u64().unwrap() - 600_000),
            "nonce" => device["nonce"] = json!("194d5847-92c0-44a1-a8be-c474339e8add"),
            "signature" => device["signature"] = json!(URL_SAFE_NO_PAD.encode([7; 64])),
            "short key" => {
                device["publicKey"] = json!(URL_SAFE_NO_PAD.encode([7; 31]));
                device["id"] = json!(crate::rig::id_of(&[7; 31]));
            }
            other => panic!("no member {other}"),
        }
    }
}

fn other_base64(params: &mut Value, key: &[u8]) {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let device = &mut params["device"];
    let signature = URL_SAFE_NO_PAD.decode(device["signature"].as_str().unwrap()).unwrap();
    device["signature"] = json!(STANDARD.encode(signature));
    device["publicKey"] = json!(STANDARD.encode(key));
}

#[tokio::test]
#[rustfmt::skip]
async fn who_may_come_without_a_device() {
    let daemon = with_token("").await;
    check(&daemon, [
        ("cli with the secret", cli(), In(ASKED)),
        ("backend with the secret", of("gateway-client", "backend"), In(ASKED)),
        ("test with the secret", of("test", "test"), In(ASKED)),
        ("probe with the secret", of("cli", "probe"), In(ASKED)),
        ("cli with the secret, from elsewhere", cli().proxied(), In(NOTHING)),
        ("backend with the secret, from elsewhere", of("gateway-client", "backend").proxied(), In(NOTHING)),
        ("cli with the secret, in a page", cli().header("origin", "http://localhost:5173"), In(NOTHING)),
        ("no scopes asked for", cli().scopes(&[]), In(NOTHING)),
        ("no auth, no device", cli().auth(json!({})), no_device()),
        ("control ui", ui(), ui_without_device()),
        ("terminal ui", of("openclaw-tui", "ui"), ui_without_device()),
        ("node", node(), no_device()),
    ])
    .await;
    daemon.stop().await;
    let disabled = with_token("controlUi: { dangerouslyDisableDeviceAuth: true }").await;
    check(&disabled, [
        ("control ui, disabled", ui(), In(ASKED)),
        ("control ui, disabled, a device is not looked at", ui().signed(2).forged(|p, _| forge(p, &["signature"])), In(ASKED)),
        ("node, disabled", node(), no_device()),
    ])
    .await;
    disabled.stop().await;
    let insecure = with_token("controlUi: { allowInsecureAuth: true }").await;
    check(&insecure, [
        ("control ui, insecure", ui(), In(ASKED)),
        ("control ui, insecure, from elsewhere", ui().proxied().header("origin", "http://192.168.1.5").header("host", "192.168.1.5"), ui_without_device()),
    ])
    .await;
    insecure.stop().await;
    let open = Daemon::exactly("{ gateway: { auth: { mode: 'none' } } }").await;
    check(&open, [
        ("cli, none", cli().auth(json!({})), In(ASKED)),
        ("cli with a device, none", cli().auth(json!({})).signed(3), In(ASKED)),
        ("cli in a page, none", cli().auth(json!({})).header("origin", "http://localhost:5173"), no_device()),
        ("cli from elsewhere, none", cli().auth(json!({})).proxied(), no_device()),
        ("control ui, none", ui().auth(json!({})), ui_without_device()),
    ])
    .await;
    open.stop().await;
}

#[tokio::test]
#[rustfmt::skip]
async fn pages_that_may_speak_to_the_gateway() {
    let plain = with_token("").await;
    let page = |origin: &str| ui().header("origin", origin).signed(2);
    let own = |host: &str| page(&format!("http://{host}")).header("host", host);
    let no_page = || origin("origin missing or invalid");
    let forbidden = || origin("origin not allowed");
    check(&plain, [
        ("a page of this machine", page("http://localhost:5173"), In(ASKED)),
        ("a page of this machine by address", page("http://[::1]:1"), In(ASKED)),
        ("the own page at a private address", own("192.168.1.5:18789"), In(ASKED)),
        ("a local name that was pointed here", own("box.local:18789"), forbidden()),
        ("another page", page("https://evil.example"), forbidden()),
        ("a name that was pointed here", own("evil.example:18789"), forbidden()),
        ("a page of another machine of the network", page("http://192.168.1.6:18789").header("host", "192.168.1.5:18789"), forbidden()),
        ("a page of this machine through a proxy", page("http://localhost:5173").proxied(), forbidden()),
        ("no origin", page(""), no_page()),
        ("an opaque origin", page("null"), no_page()),
        ("a web chat without an origin", of("webchat", "webchat").signed(2), no_page()),
        ("another client that names another page", cli().header("origin", "https://evil.example"), forbidden()),
        ("another client that names an opaque page", cli().header("origin", "null"), no_page()),
    ])
    .await;
    plain.stop().await;
    let listed = with_token("controlUi: { allowedOrigins: ['https://UI.example'] }").await;
    check(&listed, [
        ("listed", page("https://ui.EXAMPLE"), In(ASKED)),
        ("listed with another port", page("https://ui.example:444"), forbidden()),
    ])
    .await;
    listed.stop().await;
    let any = with_token("controlUi: { allowedOrigins: ['*'] }").await;
    check(&any, [("any", page("https://any.example"), In(ASKED)), ("any, but there is none", page(""), no_page())]).await;
    any.stop().await;
    let fallback = with_token("controlUi: { dangerouslyAllowHostHeaderOriginFallback: true }").await;
    check(&fallback, [
        ("the host of the request", own("ui.example:18789"), In(ASKED)),
        ("not the host of the request", page("http://ui.example:18789"), forbidden()),
    ])
    .await;
    fallback.stop().await;
}

#[tokio::test]
#[rustfmt::skip]
async fn ranges_of_protocols() {
    let daemon = Daemon::start().await;
    let range = |min: u32, max: u32| cli().with(json!({ "minProtocol": min, "maxProtocol": max }));
    let mismatch = |min: u32, max: u32, expected: u32| {
        Mismatch(json!({ "code": "PROTOCOL_MISMATCH", "clientMinProtocol": min, "clientMaxProtocol": max,
            "expectedProtocol": expected, "minimumProbeProtocol": 3 }))
    };
    check(&daemon, [
        ("older ones", range(1, 2), mismatch(1, 2, 3)),
        ("newer ones", range(5, 9), mismatch(5, 9, 4)),
        ("upside down", range(4, 3), mismatch(4, 3, 4)),
        ("before anything else is looked at", range(99, 99).auth(json!({})).with(json!({ "role": "nobody" })), mismatch(99, 99, 4)),
    ])
    .await;
    for (min, max, spoken) in [(3, 3, 3), (3, 4, 4), (4, 4, 4), (1, 3, 3), (4, 99, 4), (1, 99, 4)] {
        let client = daemon.attempt(&range(min, max)).await.unwrap();
        assert_eq!(client.hello["protocol"], spoken, "{min} to {max}");
    }
    daemon.stop().await;
}

#[tokio::test]
#[rustfmt::skip]
async fn parameters_of_a_connect() {
    let daemon = Daemon::start().await;
    let at = |says: &'static str| invalid(says);
    check(&daemon, [
        ("no client", cli().with(json!({ "client": null })), at("invalid connect params: ")),
        ("a client that nobody knows", of("ios-node", "node"), at("invalid connect params: at /client/id: must be one of ")),
        ("a mode that nobody knows", of("cli", "operator"), at("invalid connect params: at /client/mode: must be one of ")),
        ("an empty version", cli().with(json!({ "client": { "version": "" } })), at("invalid connect params: at /client/version: ")),
        ("scopes that are no list", cli().with(json!({ "scopes": "operator.read" })), at("invalid connect params: at /scopes: ")),
        ("a scope that nobody knows", cli().scopes(&["operator.everything"]), at("invalid connect params: at /scopes: ")),
        ("a device without a signature", cli().with(json!({ "device": { "id": "x" } })), at("invalid connect params: at /device")),
        ("a role that nobody knows", cli().with(json!({ "role": "admin" })), at("invalid role")),
        ("what would guard and is not there", cli().auth(json!({ "token": "a-token-for-tests", "agentRuntimeIdentityToken": "x" })), at("invalid connect params: at /auth/agentRuntimeIdentityToken: ")),
        ("no role", cli().with(json!({ "role": null })), In(ASKED)),
        ("no scopes", cli().with(json!({ "scopes": null })), In(NOTHING)),
        ("members that nobody knows", cli().with(json!({ "x": 1, "client": { "x": [1] }, "auth": { "x": {} }, "modelCatalog": { "agentId": "main" } })), In(ASKED)),
    ])
    .await;
    daemon.stop().await;
}
