use offshoot_actors::types::Role;
use secrecy::ExposeSecret;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::ConnectParams;
use crate::protocol::client::{ClientId, ClientMode};
use crate::protocol::error::ErrorCode;

fn minimal() -> Value {
    json!({"minProtocol": 3, "maxProtocol": 4,
        "client": {"id": "cli", "version": "dev", "platform": "linux", "mode": "cli"}})
}

fn with(path: &str, value: Value) -> Value {
    let mut params = minimal();
    let (parent, name) = path.rsplit_once('/').unwrap();
    if !parent.is_empty() && params.pointer(parent).is_none() {
        params[&parent[1..]] = json!({});
    }
    params.pointer_mut(parent).unwrap()[name] = value;
    params
}

fn read(params: &Value) -> Result<(ConnectParams, Vec<String>), String> {
    ConnectParams::parse(Some(&to_raw_value(params).unwrap())).map_err(|error| {
        assert_eq!(error.code, ErrorCode::InvalidRequest);
        error.message
    })
}

#[test]
fn the_captured_connects_of_both_generations_are_read() {
    let captured = json!({"minProtocol": 3, "maxProtocol": 4,
        "client": {"id": "cli", "version": "1.0.0", "platform": "linux", "mode": "cli"},
        "role": "operator",
        "scopes": ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.pairing"],
        "caps": ["tool-events"], "auth": {"token": "tok-secret-123"},
        "device": {"id": "c92b66eb36fa2bf5dade634dc5f94000d9fd233e76a152b445f87a31505dade8",
            "publicKey": "Yti7gUyK0Bn9euotILYR59mSqcuHsHo7FQ6OhGwnPCk", "signature": "T62V", "signedAt": 1_795_255_353_788_i64,
            "nonce": "194d5847-92c0-44a1-a8be-c474339e8add"}});
    let (params, unknown) = read(&captured).unwrap();
    assert_eq!(unknown, [""; 0]);
    assert_eq!((params.client.id, params.client.mode), (ClientId::Cli, ClientMode::Cli));
    assert_eq!(params.role().unwrap(), Role::Operator);
    assert_eq!(params.scopes.len(), 5);
    assert_eq!(params.scopes[0], "operator.admin");
    assert_eq!(params.device.as_ref().unwrap().signed_at, 1_795_255_353_788);
    assert_eq!(params.auth.token.as_ref().unwrap().expose_secret(), "tok-secret-123");
    assert_eq!(serde_json::to_value(&params).unwrap(), captured);
}

#[test]
fn what_is_left_out_is_nothing() {
    let (params, _) = read(&minimal()).unwrap();
    assert_eq!(params.role().unwrap(), Role::Operator);
    assert!(params.scopes.is_empty() && params.caps.is_empty() && params.device.is_none());
    assert!(params.auth.token.is_none() && params.auth.password.is_none());
    for (path, value) in [
        ("/auth", Value::Null),
        ("/device", Value::Null),
        ("/scopes", Value::Null),
        ("/auth/token", json!("")),
    ] {
        let (params, _) = read(&with(path, value)).unwrap();
        assert!(params.auth.token.is_none() && params.scopes.is_empty() && params.device.is_none());
    }
}

#[test]
fn members_without_a_meaning_are_named_and_ignored() {
    let mut params = with("/client/buildId", json!("2026.9.6"));
    params["client"]["timeZone"] = json!("Europe/Berlin");
    params["client"]["novelty"] = json!([]);
    params["modelCatalog"] = json!({"agentId": "main"});
    params["auth"] = json!({"approvalRuntimeToken": "hunter2"});
    let (params, unknown) = read(&params).unwrap();
    assert_eq!(params.client.build_id.as_deref(), Some("2026.9.6"));
    assert_eq!(unknown, ["auth.approvalRuntimeToken", "client.novelty", "modelCatalog"]);
}

#[test]
fn a_member_that_guards_is_refused_by_name() {
    let message = read(&with("/auth/agentRuntimeIdentityToken", json!("hunter2"))).unwrap_err();
    assert!(message.contains("agentRuntimeIdentityToken") && !message.contains("hunter2"), "{message}");
}

#[test]
fn each_problem_names_its_place_and_quotes_nothing() {
    let ids = "must be one of webchat-ui";
    for (params, expected) in [
        (json!({}), "missing field `minProtocol`"),
        (json!({"minProtocol": 3, "maxProtocol": 3}), "missing field `client`"),
        (with("/minProtocol", json!(0)), "at /minProtocol: must be a whole number from 1"),
        (with("/maxProtocol", json!("4")), "at /maxProtocol: must be u32"),
        (with("/client", json!("hunter2")), "at /client: must be an object"),
        (with("/client/id", json!("hunter2")), &format!("at /client/id: {ids}")),
        (with("/client/mode", json!("operator")), "at /client/mode: must be one of webchat cli ui"),
        (with("/client/version", json!("")), "at /client/version: must be a string of 1 to 128 bytes"),
        (
            with("/client/platform", json!("x".repeat(257))),
            "at /client/platform: must be a string of 1 to 256 bytes",
        ),
        (with("/scopes", json!(vec!["s"; 65])), "at /scopes: must be a list of at most 64 strings"),
        (with("/scopes", json!(["a", 5])), "at /scopes/1: must be a string of 1 to 128 bytes"),
        (with("/auth", json!("hunter2")), "at /auth: must be an object"),
        (with("/auth/token", json!(["hunter2"])), "at /auth/token: must be a string of 0 to 4096 bytes"),
        (
            with("/auth/password", json!("hunter2".repeat(600))),
            "at /auth/password: must be a string of 0 to 4096",
        ),
        (with("/device", json!({"id": "a"})), "at /device: missing field `publicKey`"),
        (with("/device", json!("hunter2")), "at /device: must be an object"),
        (with("/permissions", json!({"camera": "hunter2"})), "at /permissions/camera: must be a boolean"),
    ] {
        let message = read(&params).unwrap_err();
        assert!(message.starts_with(&format!("invalid connect params: {expected}")), "{params}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert!(ConnectParams::parse(None).is_err());
}

#[test]
fn another_role_is_no_role() {
    for (role, expected) in
        [("operator", Some(Role::Operator)), ("node", Some(Role::Node)), ("worker", None), ("", None)]
    {
        let (params, _) = read(&with("/role", json!(role))).unwrap();
        assert_eq!(params.role().ok(), expected);
    }
    let (params, _) = read(&with("/role", json!("worker"))).unwrap();
    assert_eq!(params.role().unwrap_err().message, "invalid role");
    assert!(params.is_of_a_worker());
}

#[test]
fn debug_shows_no_secret() {
    let auth = json!({"token": "hunter2", "password": "hunter2", "deviceToken": "hunter2", "bootstrapToken": "hunter2"});
    let (params, _) = read(&with("/auth", auth)).unwrap();
    assert!(!format!("{params:?} {params:#?}").contains("hunter2"));
}
