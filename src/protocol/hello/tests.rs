use offshoot_actors::types::Role;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::{
    AdminSnapshot, AuthMethod, Features, Granted, GrantedDevice, HelloOk, NewerDefaults, Policy, Server,
    SessionDefaults, Snapshot,
};
use crate::protocol::event::StateVersion;
use crate::protocol::version::Protocol;

fn device() -> GrantedDevice {
    let scopes = ["operator.write", "operator.read", "operator.admin"].map(str::to_owned).to_vec();
    GrantedDevice { token: Some("hunter2".into()), scopes, issued_at_ms: 1_795_255_353_805 }
}

fn hello(protocol: Protocol, device: Option<GrantedDevice>) -> HelloOk {
    let granted = Granted {
        method: AuthMethod::Token,
        role: Role::Operator,
        scopes: vec!["operator.read".to_owned(), "operator.admin".to_owned()],
        device,
    };
    let snapshot = Snapshot {
        presence: Vec::new(),
        health: to_raw_value(&json!({"ok": true})).unwrap().into(),
        state_version: StateVersion { presence: 1, health: 2 },
        uptime_ms: 8_240,
        session_defaults: SessionDefaults {
            default_agent_id: "main".to_owned(),
            main_key: "main".to_owned(),
            main_session_key: "agent:main:main".to_owned(),
            scope: "per-sender",
            newer: Some(NewerDefaults {
                model_configured: true,
                ownership: "legacy",
                selection_required: false,
            }),
        },
        admin: Some(AdminSnapshot { config_path: None, state_dir: "state".to_owned(), auth_mode: "token" }),
    };
    let features =
        Features { methods: ["health"].into(), events: ["tick"].into(), capabilities: Some(["a"].into()) };
    let server = Server { version: "0.1.0".to_owned(), conn_id: "c1".to_owned() };
    HelloOk::new(protocol, server, features, snapshot, &granted, Policy::default())
}

fn value(hello: &HelloOk) -> Value {
    serde_json::to_value(hello).unwrap()
}

#[test]
fn generation_3_has_its_own_shape() {
    assert_eq!(
        value(&hello(Protocol::V3, Some(device()))),
        json!({"type": "hello-ok", "protocol": 3, "server": {"version": "0.1.0", "connId": "c1"},
            "features": {"methods": ["health"], "events": ["tick"]},
            "snapshot": {"presence": [], "health": {"ok": true}, "stateVersion": {"presence": 1, "health": 2},
                "uptimeMs": 8240, "sessionDefaults": {"defaultAgentId": "main", "mainKey": "main",
                "mainSessionKey": "agent:main:main", "scope": "per-sender"},
                "stateDir": "state", "authMode": "token"},
            "auth": {"deviceToken": "hunter2", "role": "operator",
                "scopes": ["operator.admin", "operator.read", "operator.write"], "issuedAtMs": 1_795_255_353_805_i64},
            "policy": {"maxPayload": 26_214_400, "maxBufferedBytes": 52_428_800, "tickIntervalMs": 30_000}})
    );
}

#[test]
fn generation_4_has_its_own_shape_and_no_build() {
    let value = value(&hello(Protocol::V4, Some(device())));
    assert_eq!(value["protocol"], 4);
    assert_eq!(value["server"], json!({"version": "0.1.0", "connId": "c1"}));
    assert_eq!(value["features"]["capabilities"], json!(["a"]));
    let defaults = &value["snapshot"]["sessionDefaults"];
    assert_eq!(
        (&defaults["modelConfigured"], &defaults["ownership"], &defaults["selectionRequired"]),
        (&json!(true), &json!("legacy"), &json!(false))
    );
    assert_eq!(
        value["auth"],
        json!({"method": "token", "role": "operator", "scopes": ["operator.read", "operator.admin"],
            "deviceToken": "hunter2", "issuedAtMs": 1_795_255_353_805_i64})
    );
    assert_eq!(value["policy"]["attachments"], json!({"maxBytes": 19_464_192, "maxImageBytes": 6_291_456}));
}

#[test]
fn without_a_device_generation_3_is_told_nothing_and_generation_4_what_it_has() {
    assert!(value(&hello(Protocol::V3, None)).get("auth").is_none());
    assert_eq!(
        value(&hello(Protocol::V4, None))["auth"],
        json!({"method": "token", "role": "operator", "scopes": ["operator.read", "operator.admin"]})
    );
}

#[test]
fn a_token_that_is_not_shown_again_is_left_out() {
    let known = GrantedDevice { token: None, ..device() };
    let auth = value(&hello(Protocol::V3, Some(known)))["auth"].clone();
    assert!(auth.get("deviceToken").is_none());
    assert_eq!(auth["issuedAtMs"], 1_795_255_353_805_i64);
}

#[test]
fn who_is_no_administrator_is_told_no_paths() {
    let mut hello = hello(Protocol::V4, None);
    hello.snapshot.admin = None;
    let snapshot = &value(&hello)["snapshot"];
    assert!(["configPath", "stateDir", "authMode"].iter().all(|name| snapshot.get(name).is_none()));
}

#[test]
fn debug_shows_no_token() {
    assert!(!format!("{:?} {:?}", hello(Protocol::V4, Some(device())), device()).contains("hunter2"));
}
