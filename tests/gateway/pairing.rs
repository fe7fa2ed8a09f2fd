//! Devices that come from elsewhere: asked about, approved, asked about again, and sent away.

use serde_json::{Value, json};

use crate::rig::{Attempt, Client, Daemon, Device, Refused, TOKEN};

const PLAIN: &str = "{ gateway: { auth: { token: 'a-token-for-tests' } } }";
/// With a proxy whose headers are believed, on this machine.
const TRUSTED: &str = "{ gateway: { auth: { token: 'a-token-for-tests' }, trustedProxies: ['127.0.0.1'] } }";
const ALL: &[&str] = &["operator.admin", "operator.pairing", "operator.read", "operator.write"];
const READ: &[&str] = &["operator.read"];
const MORE: &[&str] = &["operator.read", "operator.write"];

/// A stranger's device with the shared secret.
fn stranger(name: &str, protocol: u32) -> Attempt {
    Attempt::cli().scopes(READ).proxied().signed_by(name, 3).speaking(protocol)
}

/// The details of a refusal that asks for approval, which says all that there is to say.
#[track_caller]
fn pending(refused: &Refused, reason: &str) -> (String, Value) {
    let Refused { error, code, reason: closed } = refused;
    assert_eq!((&error["code"], code), (&json!("NOT_PAIRED"), &1008), "{refused:?}");
    let details = error["details"].clone();
    assert_eq!((&details["code"], &details["reason"]), (&json!("PAIRING_REQUIRED"), &json!(reason)));
    let request = details["requestId"].as_str().unwrap().to_owned();
    let command = format!("offshoot devices approve {request}");
    assert_eq!(details["remediationHint"], command);
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("pairing required: ") && message.contains(&command), "{message}");
    assert!(closed.contains(&format!("(requestId: {request})")), "{closed}");
    (request, details)
}

/// Tries to connect and is asked to wait.
async fn asks(daemon: &Daemon, attempt: &Attempt, reason: &str) -> (String, Value) {
    pending(&daemon.attempt(attempt).await.err().unwrap(), reason)
}

async fn approve(operator: &mut Client, request: &str) -> Value {
    operator.call("device.pair.approve", json!({ "requestId": request })).await.unwrap()
}

/// That it may do this and no more.
async fn may(client: &mut Client, scopes: &[&str]) {
    assert_eq!(client.hello["auth"]["scopes"], json!(scopes));
    for (method, needs) in [("system-presence", "operator.read"), ("device.pair.list", "operator.pairing")] {
        assert_eq!(client.call(method, json!({})).await.is_ok(), scopes.contains(&needs), "{method}");
    }
    // It has no key, which is noticed after the rights.
    let error = client.call("chat.send", json!({})).await.unwrap_err();
    let missing = error["message"] == "missing scope: operator.write";
    assert_eq!(!missing, scopes.contains(&"operator.write"), "{error}");
}

#[tokio::test]
async fn whoever_comes_by_a_proxy_waits_for_approval() {
    for (config, header, value, remote) in [
        (PLAIN, "x-forwarded-for", "203.0.113.5", "127.0.0.1"),
        (PLAIN, "x-real-ip", "203.0.113.5", "127.0.0.1"),
        (PLAIN, "forwarded", "for=203.0.113.5", "127.0.0.1"),
        (PLAIN, "x-forwarded-proto", "https", "127.0.0.1"),
        (TRUSTED, "x-forwarded-for", "203.0.113.5", "203.0.113.5"),
        (TRUSTED, "x-forwarded-for", "198.51.100.1, 203.0.113.5", "203.0.113.5"),
        (TRUSTED, "x-forwarded-for", "127.0.0.1", "127.0.0.1"),
    ] {
        let daemon = Daemon::exactly(config).await;
        let mut operator = daemon.client_with(ALL).await;
        let attempt = Attempt::cli().scopes(READ).signed(3).header(header, value);
        let (request, _) = asks(&daemon, &attempt, "not-paired").await;
        let heard = operator.event("device.pair.requested", |_| true).await;
        assert_eq!((&heard["requestId"], &heard["remoteIp"]), (&json!(request), &json!(remote)), "{header}");
        drop(operator);
        daemon.stop().await;
    }
}

#[tokio::test]
async fn an_approved_device_has_what_was_approved_and_asks_for_more() {
    for protocol in [3, 4] {
        let daemon = Daemon::start().await;
        let mut operator = daemon.client_with(ALL).await;
        let attempt = stranger("laptop", protocol);
        let (request, details) = asks(&daemon, &attempt, "not-paired").await;
        assert_eq!(asks(&daemon, &attempt, "not-paired").await.0, request, "the same request");
        assert_eq!((&details["requestedScopes"], &details["approvedScopes"]), (&json!(READ), &json!([])));
        let list = operator.call("device.pair.list", json!({})).await.unwrap();
        assert_eq!((&list["pending"][0]["requestId"], &list["paired"]), (&json!(request), &json!([])));

        let approved = approve(&mut operator, &request).await;
        let id = Device::named("laptop").id;
        assert_eq!(
            (&approved["device"]["deviceId"], &approved["device"]["scopes"]),
            (&json!(id), &json!(READ))
        );
        let resolved = operator.event("device.pair.resolved", |_| true).await;
        assert_eq!((&resolved["requestId"], &resolved["decision"]), (&json!(request), &json!("approved")));
        let mut first = daemon.attempt(&attempt).await.unwrap();
        may(&mut first, READ).await;
        let token = first.hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
        // With its own token alone it is as good.
        let own = attempt.clone().auth(json!({ "deviceToken": token }));
        may(&mut daemon.attempt(&own).await.unwrap(), READ).await;
        let swapped = attempt.clone().auth(json!({ "token": token }));
        may(&mut daemon.attempt(&swapped).await.unwrap(), READ).await;

        for wider in [&attempt, &own] {
            let (_, details) = asks(&daemon, &wider.clone().scopes(MORE), "scope-upgrade").await;
            let scopes = (&details["requestedScopes"], &details["approvedScopes"]);
            assert_eq!(scopes, (&json!(MORE), &json!(READ)));
        }
        // Asking takes nothing away.
        may(&mut first, READ).await;
        may(&mut daemon.attempt(&attempt).await.unwrap(), READ).await;
        let (upgrade, _) = asks(&daemon, &attempt.clone().scopes(MORE), "scope-upgrade").await;
        assert_ne!(upgrade, request);
        approve(&mut operator, &upgrade).await;
        may(&mut daemon.attempt(&attempt.clone().scopes(MORE)).await.unwrap(), MORE).await;
        may(&mut first, READ).await;
        drop((first, operator));
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_device_that_loses_its_rights_is_closed_at_once_and_asks_anew() {
    // One that does not hold back failures longer and longer.
    let auth = "auth: { token: 'a-token-for-tests', rateLimit: { windowMs: 1 } }";
    let daemon = Daemon::exactly(&format!("{{ gateway: {{ {auth} }} }}")).await;
    let mut operator = daemon.client_with(ALL).await;
    let role = json!("operator");
    for (method, told, asked) in [
        ("device.token.revoke", "device token revoked", Some("role-upgrade")),
        ("device.pair.remove", "device removed", Some("not-paired")),
        ("device.token.rotate", "device token rotated", None),
    ] {
        for protocol in [3, 4] {
            let name = format!("{method} {protocol}");
            let (attempt, other) = (stranger(&name, protocol), stranger("a bystander", protocol));
            for attempt in [&attempt, &other] {
                if let Err(refused) = daemon.attempt(attempt).await {
                    approve(&mut operator, &pending(&refused, "not-paired").0).await;
                }
            }
            let (mut client, mut bystander) =
                (daemon.attempt(&attempt).await.unwrap(), daemon.attempt(&other).await.unwrap());
            let token = client.hello["auth"]["deviceToken"].clone();
            let params = match method {
                "device.pair.remove" => json!({ "deviceId": Device::named(&name).id }),
                _ => json!({ "deviceId": Device::named(&name).id, "role": role }),
            };
            operator.call(method, params).await.unwrap();
            assert_eq!(client.closed().await, (4001, told.to_owned()), "{name}");
            bystander.call("health", json!({})).await.unwrap();

            let own = attempt.clone().auth(json!({ "deviceToken": token }));
            let refused = daemon.attempt(&own).await.err().unwrap();
            assert_eq!(refused.error["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH", "{name}");
            match asked {
                Some(reason) => _ = asks(&daemon, &attempt, reason).await,
                None => may(&mut daemon.attempt(&attempt).await.unwrap(), READ).await,
            }
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_device_that_is_known_comes_back_without_a_question_also_after_a_restart() {
    let mut daemon = Daemon::start().await;
    let (local, remote) = (Attempt::cli().signed_by("desk", 2), stranger("laptop", 4));
    let hello = daemon.attempt(&local).await.unwrap().hello;
    assert!(hello["auth"]["deviceToken"].is_string(), "it is told once: {hello}");
    let (request, _) = asks(&daemon, &remote, "not-paired").await;
    approve(&mut daemon.client().await, &request).await;
    for _ in 0..2 {
        for attempt in [&local, &remote, &local.clone().scopes(READ), &remote.clone().scopes(&[])] {
            daemon.attempt(attempt).await.unwrap().call("health", json!({})).await.unwrap();
        }
        let list = daemon.client().await.call("device.pair.list", json!({})).await.unwrap();
        assert_eq!(
            (list["pending"].as_array().unwrap().len(), list["paired"].as_array().unwrap().len()),
            (0, 2)
        );
        daemon = daemon.restart().await;
    }
    daemon.stop().await;
}

/// What a device that is known asks for next, and what it is told where nobody vouches for it.
#[tokio::test]
#[rustfmt::skip]
async fn here_everything_is_approved_and_from_elsewhere_it_is_asked_about() {
    let daemon = Daemon::start().await;
    let known = |name: &str| Attempt::cli().scopes(MORE).signed_by(name, 3);
    let backend = json!({ "client": { "id": "gateway-client", "mode": "backend" } });
    let rows = [
        ("the same", json!({}), None),
        ("fewer scopes", json!({ "scopes": READ }), None),
        ("more scopes", json!({ "scopes": ALL }), Some("scope-upgrade")),
        ("another role", json!({ "role": "node", "client": { "id": "node-host", "mode": "node" } }), Some("role-upgrade")),
        ("another platform", json!({ "client": { "platform": "darwin" } }), Some("metadata-upgrade")),
        ("the same platform in capitals", json!({ "client": { "platform": "LINUX" } }), None),
        ("another program of the same device", backend.clone(), None),
    ];
    for (name, patch, reason) in rows {
        for protocol in [3, 4] {
            for near in [true, false] {
                let name = format!("{name} {protocol} {near}");
                let first = known(&name).speaking(protocol);
                daemon.attempt(&first).await.unwrap_or_else(|refused| panic!("{name}: {refused:?}"));
                let next = first.with(patch.clone());
                let next = if near { next } else { next.proxied() };
                match (daemon.attempt(&next).await, reason.filter(|_| !near)) {
                    (Ok(_), None) => {}
                    (Err(refused), Some(reason)) => _ = pending(&refused, reason),
                    (seen, expected) => panic!("{name}: {:?} and not {expected:?}", seen.err()),
                }
            }
        }
    }
    // A page of this machine is nobody who vouches for what is no page's.
    asks(&daemon, &known("in a page").header("origin", "http://localhost:5173"), "not-paired").await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_service_of_this_machine_is_not_paired_at_all() {
    let daemon = Daemon::start().await;
    let service =
        Attempt::cli().with(json!({ "client": { "id": "gateway-client", "mode": "backend" } })).signed(3);
    for (protocol, told) in [(3, Value::Null), (4, json!(MORE))] {
        let mut client = daemon.attempt(&service.clone().speaking(protocol)).await.unwrap();
        assert_eq!(client.hello["auth"]["scopes"], told);
        client.call("system-presence", json!({})).await.unwrap();
    }
    asks(&daemon, &service.clone().proxied(), "not-paired").await;
    let list = daemon.client().await.call("device.pair.list", json!({})).await.unwrap();
    assert_eq!(list["paired"], json!([]));
    daemon.stop().await;
}

#[tokio::test]
async fn nobody_approves_more_than_they_read_or_hold() {
    let daemon = Daemon::start().await;
    let mut operator = daemon.client_with(ALL).await;
    let mut helper = daemon.client_with(&["operator.pairing", "operator.read"]).await;
    let attempt = stranger("laptop", 4);
    let (first, _) = asks(&daemon, &attempt, "not-paired").await;
    let (second, _) = asks(&daemon, &attempt.clone().scopes(MORE), "not-paired").await;
    assert_ne!(first, second);
    let void = operator.call("device.pair.approve", json!({ "requestId": first })).await.unwrap_err();
    assert!(void["message"].as_str().unwrap().starts_with("unknown requestId"), "{void}");
    let refused = helper.call("device.pair.approve", json!({ "requestId": second })).await.unwrap_err();
    assert_eq!(refused["message"], "missing scope: operator.write");
    asks(&daemon, &attempt, "not-paired").await;

    operator.call("device.pair.reject", json!({ "requestId": second })).await.unwrap();
    let (third, _) = asks(&daemon, &attempt, "not-paired").await;
    assert_ne!(third, second);
    helper.call("device.pair.approve", json!({ "requestId": third })).await.unwrap();
    may(&mut daemon.attempt(&attempt).await.unwrap(), READ).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_device_without_a_secret_is_told_to_prove_itself_and_not_to_wait() {
    let daemon = Daemon::start().await;
    let attempt = stranger("laptop", 4);
    for auth in [json!({}), json!({ "token": format!("{TOKEN}x") })] {
        let refused = daemon.attempt(&attempt.clone().auth(auth)).await.err().unwrap();
        assert_eq!(refused.error["code"], "INVALID_REQUEST", "{refused:?}");
    }
    let list = daemon.client().await.call("device.pair.list", json!({})).await.unwrap();
    assert_eq!(list["pending"], json!([]));
    daemon.stop().await;
}

#[tokio::test]
async fn a_changed_secret_sends_away_whoever_came_with_the_old_one() {
    let daemon = Daemon::exactly(PLAIN).await;
    let device = Attempt::cli().signed(3);
    let token = daemon.attempt(&device).await.unwrap().hello["auth"]["deviceToken"].clone();
    let own = device.auth(json!({ "deviceToken": token }));
    let mut by_secret = daemon.attempt(&Attempt::cli()).await.unwrap();
    let mut by_token = daemon.attempt(&own).await.unwrap();
    let mut admin = daemon.client().await;
    let hash = admin.call("config.get", json!({})).await.unwrap()["hash"].clone();
    let change =
        json!({ "raw": r#"{ "gateway": { "auth": { "token": "another-token" } } }"#, "baseHash": hash });
    admin.call("config.patch", change).await.unwrap();
    for client in [&mut by_secret, &mut admin] {
        assert_eq!(client.closed().await, (4001, "gateway auth changed".to_owned()));
    }
    by_token.call("health", json!({})).await.unwrap();
    let refused = daemon.attempt(&Attempt::cli()).await.err().unwrap();
    assert_eq!(refused.error["details"]["code"], "AUTH_TOKEN_MISMATCH");
    for auth in [json!({ "token": "another-token" }), json!({ "deviceToken": token })] {
        daemon.attempt(&Attempt::cli().signed(3).auth(auth)).await.unwrap();
    }
    daemon.stop().await;
}
