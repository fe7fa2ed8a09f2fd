//! Proofs: what one is good for, and who may not go on guessing.

use serde_json::{Value, json};

use super::{Door, Heard, TOKEN};

#[tokio::test]
async fn a_token_for_reading_makes_no_administrator_of_a_service_of_this_machine() {
    let door = Door::open().await;
    let (_, hello) = door.enter(Some("reader"), json!({ "scopes": ["operator.read"] })).await.unwrap();
    let token = hello["auth"]["deviceToken"].clone();
    assert!(token.is_string(), "{hello}");
    let service = json!({ "id": "gateway-client", "version": "1", "platform": "linux", "mode": "backend" });
    let as_service = |scope: &str| json!({ "client": service.clone(), "auth": { "deviceToken": token.clone() }, "scopes": [scope] });
    let refused = door.enter(Some("reader"), as_service("operator.admin")).await.map(|(_, hello)| hello);
    assert_eq!(refused.unwrap_err()["details"]["code"], "PAIRING_REQUIRED");
    let (_, hello) = door.enter(Some("reader"), as_service("operator.read")).await.unwrap();
    assert_eq!(hello["auth"]["scopes"], json!(["operator.read"]));
    door.close().await;
}

/// Two failures lock out, on this machine too.
const STERN: &str = "auth: { mode: 'token', token: 'the-shared-token',
                             rateLimit: { maxAttempts: 2, exemptLoopback: false } }";

async fn reason(door: &Door, device: Option<&str>, auth: Value) -> String {
    match door.enter(device, json!({ "auth": auth, "scopes": ["operator.read"] })).await {
        Ok(_) => "in".to_owned(),
        Err(error) => error["details"]["authReason"].as_str().unwrap_or_default().to_owned(),
    }
}

#[tokio::test]
async fn what_else_a_client_offers_does_not_make_a_guess_at_the_secret_free() {
    for beside in [
        json!({ "token": "guess", "deviceToken": "some" }),
        json!({ "token": "guess", "bootstrapToken": "some" }),
        json!({ "password": "guess", "deviceToken": "some" }),
        json!({ "password": "guess" }),
    ] {
        let door = Door::with(STERN).await;
        for _ in 0..2 {
            assert_ne!(reason(&door, Some("guesser"), beside.clone()).await, "rate_limited");
        }
        assert_eq!(
            reason(&door, Some("guesser"), json!({ "token": TOKEN })).await,
            "rate_limited",
            "{beside}"
        );
        door.close().await;
    }
}

#[tokio::test]
async fn a_device_that_is_known_may_not_guess_at_the_secret_and_one_that_only_comes_back_guesses_nothing() {
    let door = Door::with(STERN).await;
    let (_, hello) = door.enter(Some("known"), json!({ "scopes": ["operator.read"] })).await.unwrap();
    let token = &hello["auth"]["deviceToken"];
    for _ in 0..4 {
        assert_eq!(reason(&door, Some("known"), json!({ "token": token })).await, "in");
    }
    for _ in 0..2 {
        let guess = json!({ "token": "guess", "deviceToken": token });
        assert_eq!(reason(&door, Some("known"), guess).await, "in");
    }
    assert_eq!(reason(&door, Some("known"), json!({ "token": TOKEN })).await, "rate_limited");
    assert_eq!(reason(&door, Some("known"), json!({ "deviceToken": token })).await, "in");
    door.close().await;
}

#[tokio::test]
async fn a_client_that_sends_the_token_of_its_device_as_both_comes_back_as_often_as_it_likes() {
    let door = Door::with(STERN).await;
    let (_, hello) = door.enter(Some("known"), json!({ "scopes": ["operator.read"] })).await.unwrap();
    let token = &hello["auth"]["deviceToken"];
    let both = json!({ "token": token, "deviceToken": token });
    for _ in 0..10 {
        assert_eq!(reason(&door, Some("known"), both.clone()).await, "in");
    }
    assert_eq!(reason(&door, Some("known"), json!({ "token": TOKEN })).await, "in", "nothing was counted");
    door.close().await;
}

#[tokio::test]
async fn a_worker_is_closed_without_an_answer() {
    let door = Door::open().await;
    let mut guest = door.knock(&[]).await;
    let params = guest.params(None, json!({ "role": "worker" }));
    guest.send("connect", params).await;
    let heard = guest.heard().await;
    assert!(matches!(&heard, Heard::Closed(1008, reason) if reason == "invalid-handshake"), "{heard:?}");
    door.close().await;
}
