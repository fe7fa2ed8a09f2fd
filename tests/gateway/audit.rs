//! The audit record, as what clients do fills it and as a client reads it.

use std::time::Duration;

use offshoot_actors::contract;
use serde_json::{Value, json};

use crate::rig::{Attempt, Client, Daemon, Device};

/// Rows, the newest first, after everything that was entered before.
async fn rows(daemon: &Daemon, client: &mut Client, params: Value) -> Vec<Value> {
    contract::apply(daemon.storage(), Vec::new()).await;
    let page = client.call("audit.list", params).await.unwrap();
    page["rows"].as_array().unwrap().clone()
}

async fn of(daemon: &Daemon, client: &mut Client, event: &str) -> Vec<Value> {
    rows(daemon, client, json!({ "event": event })).await
}

#[tokio::test]
async fn who_comes_in_and_who_is_sent_away_is_on_record() {
    let daemon = Daemon::start().await;
    let mut admin = daemon.client().await;
    daemon.attempt(&Attempt::cli().signed_by("laptop", 3)).await.ok().unwrap();
    let opened = of(&daemon, &mut admin, "connection.opened").await;
    let [laptop, first] = opened.as_slice() else { panic!("{opened:?}") };
    assert_eq!(first["origin"]["scopes"], json!(["operator.admin"]));
    assert_eq!((&first["facts"]["proof"], &first["facts"]["client"]), (&json!("token"), &json!("cli/cli")));
    assert_eq!(laptop["origin"]["kind"], "client");
    assert!(laptop["origin"]["device"].as_str().is_some_and(|device| device.len() == 64), "{laptop}");
    let wrong = Attempt::cli().scopes(&["operator.everything"]);
    for _ in 0..20 {
        daemon.attempt(&wrong).await.err().unwrap();
    }
    let refused = of(&daemon, &mut admin, "connection.refused").await;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(
        (&refused[0]["origin"]["device"], &refused[0]["facts"]["address"]),
        (&Value::Null, &json!("127.0.0.1"))
    );
    assert!(refused[0]["facts"]["reason"].as_str().unwrap().contains("operator.everything"), "{refused:?}");
    // What was only counted is entered at the end.
    let daemon = daemon.restart().await;
    let mut admin = daemon.client().await;
    let refused = of(&daemon, &mut admin, "connection.refused").await;
    assert_eq!((refused.len(), &refused[0]["facts"]["times"]), (2, &json!("19")), "{refused:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_call_without_the_right_is_on_record_and_bounded() {
    let daemon = Daemon::start().await;
    let mut admin = daemon.client().await;
    let mut reader = daemon.client_with(&["operator.read", "operator.write"]).await;
    let refused = reader.call("audit.list", json!({})).await.unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("missing scope: operator.admin"), "{refused}");
    for n in 0..30 {
        reader.call("sessions.delete", json!({ "key": "main" })).await.unwrap_err();
        reader.call(&format!("made.up.{n}"), json!({})).await.unwrap_err();
    }
    reader.call("sessions.create", json!({ "key": "desk" })).await.unwrap();
    reader.call("sessions.patch", json!({ "key": "desk", "model": "builtin/other" })).await.unwrap_err();
    reader.call("log.level", json!({ "level": "debug" })).await.unwrap_err();
    let refused = of(&daemon, &mut admin, "call.refused").await;
    let methods: Vec<_> = refused.iter().map(|row| row["facts"]["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["log.level", "sessions.patch", "made.up.0", "sessions.delete", "audit.list"]);
    assert_eq!(refused[0]["origin"]["scopes"], json!(["operator.read", "operator.write"]));
    daemon.stop().await;
}

#[tokio::test]
async fn a_refused_request_by_http_is_on_record_once() {
    let daemon = Daemon::start().await;
    let mut admin = daemon.client().await;
    let url = format!("http://{}/tools/invoke", daemon.address());
    for _ in 0..3 {
        let sent = reqwest::Client::new().post(&url).bearer_auth("wrong").body("{}").send().await.unwrap();
        assert_eq!(sent.status(), 401);
    }
    let refused = of(&daemon, &mut admin, "request.refused").await;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(
        (&refused[0]["facts"]["request"], &refused[0]["facts"]["status"]),
        (&json!("POST /tools/invoke"), &json!("401"))
    );
    daemon.stop().await;
}

#[tokio::test]
async fn what_clients_do_is_on_record_with_who_did_it() {
    let daemon = Daemon::with_file("{}").await;
    let mut client = daemon.client().await;
    let desk = |more: Value| {
        let mut params = json!({ "key": "desk" });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    client.call("sessions.create", desk(json!({}))).await.unwrap();
    client
        .call("sessions.send", desk(json!({ "message": "Wait: 1h", "idempotencyKey": "a" })))
        .await
        .unwrap();
    client
        .call("sessions.steer", desk(json!({ "message": "Wait: 2h", "idempotencyKey": "s" })))
        .await
        .unwrap();
    client.call("sessions.abort", desk(json!({}))).await.unwrap();
    client.call("sessions.patch", desk(json!({ "label": "tidy" }))).await.unwrap();
    client.call("sessions.reset", desk(json!({}))).await.unwrap();
    client.call("sessions.delete", desk(json!({}))).await.unwrap();
    let invoke = json!({ "name": "sessions_list", "sessionKey": "main", "args": {} });
    client.call("tools.invoke", invoke).await.unwrap();
    let written = rows(&daemon, &mut client, json!({ "sessionKey": "desk", "origin": "client" })).await;
    let events: Vec<_> = written.iter().rev().map(|row| row["event"].as_str().unwrap()).collect();
    for event in ["run.accepted", "run.cancelled", "session.changed", "session.reset", "session.deleted"] {
        assert!(events.contains(&event), "{event} is not in {events:?}");
    }
    let changed = written.iter().find(|row| row["event"] == "session.changed").unwrap();
    assert_eq!(
        (&changed["facts"], &changed["sessionKey"]),
        (&json!({ "label": "tidy" }), &json!("agent:main:desk"))
    );
    assert_eq!(of(&daemon, &mut client, "tool.invoked").await[0]["facts"]["tool"], "sessions_list");
    daemon.stop().await;
}

/// The only row of an event, with who asked for it and what it says.
async fn only(daemon: &Daemon, client: &mut Client, event: &str) -> Value {
    let mut found = of(daemon, client, event).await;
    assert_eq!(found.len(), 1, "{event}: {found:?}");
    found.remove(0)
}

#[tokio::test]
async fn what_is_written_into_files_transcripts_and_the_log_is_on_record() {
    let daemon = Daemon::with_file("{ gateway: { reload: { debounceMs: 0 } } }").await;
    let mut client = daemon.client().await;
    let hash = client.call("config.get", json!({})).await.unwrap()["hash"].clone();
    let raw = "{ agents: { defaults: { subagents: { maxSpawnDepth: 2 } } } }";
    client.call("config.patch", json!({ "raw": raw, "baseHash": hash })).await.unwrap();
    let hash = client.call("config.get", json!({})).await.unwrap()["hash"].clone();
    let written = only(&daemon, &mut client, "config.written").await;
    assert_eq!((&written["facts"]["method"], &written["facts"]["hash"]), (&json!("config.patch"), &hash));

    let file = json!({ "agentId": "main", "name": "AGENTS.md", "content": "a secret of the workspace" });
    client.call("agents.files.set", file).await.unwrap();
    let row = only(&daemon, &mut client, "agent.file.written").await;
    assert_eq!(row["facts"], json!({ "agent": "main", "file": "AGENTS.md" }));

    let first = json!({ "sessionKey": "main", "message": "Reply with exactly: X", "idempotencyKey": "k" });
    client.call("chat.send", first).await.unwrap();
    client.event("chat", |chat| chat["state"] == "final").await;
    client.call("chat.inject", json!({ "sessionKey": "main", "message": "FYI" })).await.unwrap();
    let injected = only(&daemon, &mut client, "message.injected").await;
    assert_eq!((&injected["sessionKey"], &injected["runId"]), (&json!("agent:main:main"), &Value::Null));
    assert_eq!(injected["facts"], json!({ "seq": "2" }));

    client.call("log.level", json!({ "level": "offshoot=info" })).await.unwrap();
    client.call("log.level", json!({ "reset": true })).await.unwrap();
    let levels = of(&daemon, &mut client, "log.level").await;
    let said: Vec<_> = levels.iter().map(|row| &row["facts"]["level"]).collect();
    assert_eq!(said, ["as configured", "offshoot=info"]);

    for row in levels.iter().chain([&written, &row, &injected]) {
        let origin = &row["origin"];
        assert_eq!(
            (&origin["kind"], &origin["scopes"]),
            (&json!("client"), &json!(["operator.admin"])),
            "{row}"
        );
    }

    // Nobody says who changed the file beside the gateway.
    daemon.configure("{ gateway: { reload: { debounceMs: 0 } }, agents: { list: [{ id: 'other' }] } }");
    let reloaded = async {
        loop {
            if let Some(row) = of(&daemon, &mut client, "config.reloaded").await.pop() {
                return row;
            }
        }
    };
    let reloaded = tokio::time::timeout(Duration::from_secs(20), reloaded).await.unwrap();
    let hash = client.call("config.get", json!({})).await.unwrap()["hash"].clone();
    assert_eq!(
        (&reloaded["origin"]["kind"], &reloaded["facts"]),
        (&json!("timer"), &json!({ "hash": hash }))
    );
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_decided_of_devices_is_on_record_without_what_they_prove_themselves_with() {
    const READ: &[&str] = &["operator.read"];
    let daemon = Daemon::start().await;
    let mut admin = daemon.client().await;
    let attempt = Attempt::cli().scopes(READ).proxied().signed_by("laptop", 3);
    let device = Device::named("laptop").id;
    let asks = async || {
        let refused = daemon.attempt(&attempt).await.err().unwrap();
        refused.error["details"]["requestId"].clone()
    };
    let first = asks().await;
    admin.call("device.pair.reject", json!({ "requestId": first })).await.unwrap();
    let rejected = only(&daemon, &mut admin, "device.rejected").await;
    assert_eq!((&rejected["facts"]["request"], &rejected["facts"]["device"]), (&first, &json!(device)));
    assert_eq!(
        (&rejected["facts"]["scopes"], &rejected["facts"]["reason"]),
        (&json!("operator.read"), &json!("not-paired"))
    );

    let second = asks().await;
    admin.call("device.pair.approve", json!({ "requestId": second })).await.unwrap();
    admin.call("device.token.revoke", json!({ "deviceId": device, "role": "operator" })).await.unwrap();
    let revoked = only(&daemon, &mut admin, "device.token_revoked").await;
    let facts = json!({ "device": device, "role": "operator", "scopes": "operator.read" });
    assert_eq!(revoked["facts"], facts);

    let code = admin.call("device.code.issue", json!({ "scopes": READ })).await.unwrap();
    let issued = only(&daemon, &mut admin, "setup_code.issued").await;
    let facts = json!({ "code": code["codeId"], "role": "operator", "scopes": "operator.read" });
    assert_eq!(issued["facts"], facts);
    for row in [&rejected, &revoked, &issued] {
        assert_eq!(row["origin"]["scopes"], json!(["operator.admin"]), "{row}");
        assert!(!row.to_string().contains(code["code"].as_str().unwrap()), "{row}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_record_is_read_by_pages_and_filters() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let run = (1..=5).map(|n| contract::audit(&contract::key(&format!("s{n}")), n)).collect();
    contract::apply(daemon.storage(), run).await;
    let (mut before, mut found) = (Value::Null, Vec::new());
    loop {
        let mut params = json!({ "event": "spawn.", "limit": 2 });
        if !before.is_null() {
            params["before"] = before;
        }
        let page = client.call("audit.list", params).await.unwrap();
        found.extend(page["rows"].as_array().unwrap().iter().map(|row| row["sessionKey"].clone()));
        before = page["nextBefore"].clone();
        if before.is_null() {
            break;
        }
    }
    assert_eq!(found, (1..=5).rev().map(|n| json!(format!("agent:main:s{n}"))).collect::<Vec<_>>());
    let one = rows(&daemon, &mut client, json!({ "runId": contract::run_id(3).to_string() })).await;
    assert_eq!((one.len(), &one[0]["origin"]["kind"]), (1, &json!("agent")));
    for (params, problem) in [
        (json!({ "origin": "nobody" }), "at /origin"),
        (json!({ "runId": "x" }), "at /runId"),
        (json!({ "limit": 501 }), "at /limit"),
        (json!({ "event": "e".repeat(200) }), "at /event"),
    ] {
        let refused = client.call("audit.list", params).await.unwrap_err();
        assert!(refused["message"].as_str().unwrap().contains(problem), "{refused}");
    }
    daemon.stop().await;
}
