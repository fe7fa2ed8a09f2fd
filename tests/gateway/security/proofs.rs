//! Proofs: what one is good for, and who may not go on guessing.

use serde_json::json;

use super::Door;

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
