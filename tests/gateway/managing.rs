//! What clients may change of sessions, and what they are told when they may not.

use serde_json::{Value, json};

use crate::rig::{Client, Connect, Daemon};

async fn refusal(client: &mut Client, method: &str, params: Value) -> String {
    client.call(method, params).await.unwrap_err()["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn creating_a_session_that_is_there_changes_no_more_than_patching_it_may() {
    let daemon = Daemon::start().await;
    let mut admin = daemon.client().await;
    let desk = |more: Value| {
        let mut params = json!({"key": "desk"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let model = json!({"model": "builtin/rehearsal", "label": "one"});
    admin.call("sessions.create", desk(model.clone())).await.unwrap();
    for protocol in [3, 4] {
        let connect =
            Connect { protocol, scopes: vec!["operator.write", "operator.read"], ..Connect::default() };
        let mut writer = daemon.connect(connect).await;
        for method in ["sessions.create", "sessions.patch"] {
            let refused = refusal(&mut writer, method, desk(json!({"model": "builtin/other"}))).await;
            assert_eq!(refused, "missing scope: operator.admin", "{method}");
            let renamed = writer.call(method, desk(json!({"label": format!("{method} {protocol}")}))).await;
            assert_eq!(renamed.is_ok(), protocol == 4, "{method} {renamed:?}");
        }
        writer.call("sessions.create", desk(json!({}))).await.unwrap();
        writer.call("sessions.create", desk(json!({"model": "builtin/rehearsal"}))).await.unwrap();
        // What is new is made as it is asked for.
        let new = json!({"key": format!("new-{protocol}"), "model": "builtin/rehearsal", "label": format!("n{protocol}")});
        writer.call("sessions.create", new).await.unwrap();
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_message_that_is_not_acceptable_ends_nothing() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let id = client.send("agent", json!({"message": "Wait: 1h", "idempotencyKey": "slow"})).await;
    client.answer(&id).await.unwrap();
    let steer = |message: &str| json!({"key": "main", "message": message, "idempotencyKey": "steer"});
    for message in ["", "/reset"] {
        client.call("sessions.steer", steer(message)).await.unwrap_err();
    }
    let waited = client.call("agent.wait", json!({"runId": "slow", "timeoutMs": 1})).await.unwrap();
    assert_eq!(waited["status"], "timeout");
    let steered = client.call("sessions.steer", steer("Reply with exactly: HERE")).await.unwrap();
    assert_eq!((&steered["status"], &steered["interruptedActiveRun"]), (&json!("started"), &json!(true)));
    assert_eq!(client.call("agent.wait", json!({"runId": "slow"})).await.unwrap()["status"], "error");
    assert_eq!(client.call("agent.wait", json!({"runId": "steer"})).await.unwrap()["status"], "ok");
    let again = client.call("sessions.steer", steer("Reply with exactly: HERE")).await.unwrap();
    assert_eq!((&again["status"], again.get("interruptedActiveRun")), (&json!("ok"), None));
    daemon.stop().await;
}

#[tokio::test]
async fn a_message_that_was_accepted_ends_what_is_before_it_also_when_it_is_sent_again() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let say = |message: &str, name: &str| json!({"key": "main", "message": message, "idempotencyKey": name});
    client.call("sessions.send", say("Wait: 1h", "slow")).await.unwrap();
    // As a steering message whose connection ended before it could end anything.
    client.call("sessions.send", say("Wait: 2h", "steer")).await.unwrap();
    client.call("sessions.send", say("Wait: 3h", "later")).await.unwrap();
    let steered = client.call("sessions.steer", say("Wait: 2h", "steer")).await.unwrap();
    assert_eq!((&steered["status"], &steered["interruptedActiveRun"]), (&json!("in_flight"), &json!(true)));
    assert_eq!(client.call("agent.wait", json!({"runId": "slow"})).await.unwrap()["status"], "error");
    for open in ["steer", "later"] {
        let waited = client.call("agent.wait", json!({"runId": open, "timeoutMs": 1})).await.unwrap();
        assert_eq!(waited["status"], "timeout", "{open}");
    }
    let again = client.call("sessions.steer", say("Wait: 2h", "steer")).await.unwrap();
    assert_eq!((&again["status"], again.get("interruptedActiveRun")), (&json!("in_flight"), None));
    daemon.stop().await;
}

#[tokio::test]
async fn a_message_that_was_accepted_is_known_after_its_session_is_another_or_none() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let made = client.call("sessions.create", json!({"key": "desk"})).await.unwrap();
    let chat = |name: &str| {
        let id = &made["sessionId"];
        json!({"sessionKey": "desk", "message": "hello", "idempotencyKey": name, "sessionId": id})
    };
    let send = |name: &str| json!({"key": "desk", "message": "hello", "idempotencyKey": name});
    client.call("chat.send", chat("one")).await.unwrap();
    client.call("sessions.send", send("two")).await.unwrap();
    for name in ["one", "two"] {
        client.call("agent.wait", json!({"runId": name})).await.unwrap();
    }
    client.call("sessions.delete", json!({"key": "desk"})).await.unwrap();
    for (method, first, new) in
        [("chat.send", chat("one"), chat("new")), ("sessions.send", send("two"), send("new"))]
    {
        assert_eq!(client.call(method, first).await.unwrap()["status"], "ok", "{method}");
        client.call(method, new).await.unwrap_err();
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_session_is_found_by_the_same_names_everywhere() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    client.call("sessions.create", json!({"key": "desk"})).await.unwrap();
    let woken =
        client.call("wake", json!({"mode": "now", "text": "hello", "sessionKey": "Desk"})).await.unwrap();
    assert_eq!(woken["sessionKey"], "agent:main:desk");
    let tools = client.call("tools.effective", json!({"sessionKey": "desk"})).await.unwrap();
    assert_eq!(tools["agentId"], "main");
    for (method, params) in [
        ("wake", json!({"mode": "now", "text": "hello", "agentId": "nobody"})),
        ("tools.invoke", json!({"name": "agents_list", "sessionKey": "agent:nobody:main"})),
    ] {
        let refused = refusal(&mut client, method, params).await;
        assert!(refused.contains("unknown agent id"), "{refused}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_guards_a_request_and_is_not_there_is_refused_by_its_name() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let agent =
        |more: Value| ("agent", json!({"message": "Reply with exactly: X", "idempotencyKey": "k"}), more);
    let send = |more: Value| {
        (
            "chat.send",
            json!({"sessionKey": "main", "message": "Reply with exactly: X", "idempotencyKey": "k"}),
            more,
        )
    };
    let history = |more: Value| ("chat.history", json!({"sessionKey": "main"}), more);
    for (method, params, more) in [
        agent(json!({"to": "+15550100"})),
        agent(json!({"lane": "nested"})),
        agent(json!({"thinking": "high"})),
        agent(json!({"inputProvenance": {"kind": "internal_system"}})),
        agent(json!({"bootstrapContextMode": "lightweight"})),
        send(json!({"thinking": "high"})),
        send(json!({"queueMode": "interrupt"})),
        send(json!({"suppressCommandInterpretation": true})),
        send(json!({"sessionId": "00000000-0000-4000-8000-000000000000"})),
        history(json!({"messageId": "1"})),
        history(json!({"sessionId": "00000000-0000-4000-8000-000000000000"})),
    ] {
        let name = more.as_object().unwrap().keys().next().unwrap().clone();
        let mut params = params;
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = refusal(&mut client, method, params).await;
        assert!(refused.starts_with(&format!("invalid {method} params: {name} ")), "{refused}");
    }
    let created = client.call("sessions.create", json!({"key": "desk"})).await.unwrap();
    let same = json!({"sessionKey": "desk", "message": "Reply with exactly: X", "idempotencyKey": "k", "deliver": false,
        "sessionId": created["sessionId"], "queueMode": "followup"});
    assert_eq!(client.call("chat.send", same).await.unwrap()["status"], "started");
    daemon.stop().await;
}

#[tokio::test]
async fn no_day_is_too_odd_to_be_asked_for() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    for method in ["usage.cost", "sessions.usage"] {
        let refused = refusal(&mut client, method, json!({"startDate": "9999-13-01"})).await;
        assert!(refused.contains("startDate"), "{refused}");
        client.call(method, json!({"startDate": "2026-01-01", "endDate": "2026-01-02"})).await.unwrap();
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_happens_in_a_session_is_told_before_its_end() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    client.call("sessions.subscribe", json!({})).await.unwrap();
    for round in 0..20 {
        let params =
            json!({"message": "Wait: 1h", "idempotencyKey": format!("r{round}"), "sessionKey": "desk"});
        let id = client.send("agent", params).await;
        client.answer(&id).await.unwrap();
        client.call("sessions.delete", json!({"key": "desk"})).await.unwrap();
        let of_desk = |event: &Value| event["payload"]["sessionKey"] == "agent:main:desk";
        let gone = |event: &Value| of_desk(event) && event["payload"]["reason"] == "delete";
        let events = client.events_until(gone).await;
        let chats = events.iter().filter(|event| of_desk(event) && event["event"] == "chat");
        assert_eq!(chats.filter(|event| event["payload"]["state"] == "aborted").count(), 1, "round {round}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn agents_that_another_file_lists_are_changed_there() {
    let daemon = Daemon::with_file("{}").await;
    let mut client = daemon.client().await;
    let owned = async |client: &mut Client| {
        client.call("config.get", json!({})).await.unwrap()["agentRosterIncludeOwned"].take()
    };
    assert_eq!(owned(&mut client).await, false);
    daemon.write("agents.json5", "{ list: [{ id: 'main' }, { id: 'other' }] }");
    let text = "{ agents: { $include: 'agents.json5' } }";
    daemon.configure(text);
    client.event("health", |_| true).await;
    assert_eq!(owned(&mut client).await, true);
    for (method, params) in [
        ("agents.create", json!({"name": "third", "workspace": "/w"})),
        ("agents.update", json!({"agentId": "other", "name": "Other"})),
        ("agents.delete", json!({"agentId": "other"})),
    ] {
        let refused = refusal(&mut client, method, params).await;
        assert_eq!(refused, "the agents are listed in agents.json5: edit it there", "{method}");
    }
    assert_eq!(daemon.configuration(), text);
    daemon.stop().await;
}

#[tokio::test]
async fn a_tree_has_no_session_whose_name_only_begins_like_its_own() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    for key in ["main", "main2"] {
        let params = json!({"message": "Wait: 1h", "idempotencyKey": key, "sessionKey": key});
        let id = client.send("agent", params).await;
        client.answer(&id).await.unwrap();
    }
    let tree = client.call("sessions.tree", json!({"key": "main"})).await.unwrap();
    let paths: Vec<&str> =
        tree["actors"].as_array().unwrap().iter().map(|a| a["path"].as_str().unwrap()).collect();
    assert!(paths.iter().any(|path| path.contains("agent:main:main")), "{paths:?}");
    assert!(!paths.iter().any(|path| path.contains("agent:main:main2")), "{paths:?}");
    assert_eq!(tree["sessions"].as_array().unwrap().len(), 1);
    // It waits for runs that do not end, and a stop would wait with it.
    drop(client);
    daemon.stop().await;
}

#[tokio::test]
async fn what_does_not_exist_is_an_empty_list() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    client.call("sessions.create", json!({"key": "desk"})).await.unwrap();
    for (method, params, list) in [
        ("channels.pairing.list", json!({}), "requests"),
        ("environments.list", json!({}), "environments"),
        ("question.list", json!({}), "questions"),
        ("sessions.catalog.list", json!({}), "catalogs"),
        ("sessions.compaction.list", json!({"key": "desk"}), "checkpoints"),
        ("skills.library.list", json!({"scope": "all"}), "entries"),
        ("skills.search", json!({"query": "x"}), "results"),
        ("themes.list", json!({}), "themes"),
    ] {
        assert_eq!(client.call(method, params).await.unwrap()[list], json!([]), "{method}");
    }
    assert_eq!(client.call("openclaw.approval.list", json!({})).await.unwrap(), json!([]));
    daemon.stop().await;
}

#[tokio::test]
async fn lanes_tell_what_runs_and_what_waits() {
    let daemon = Daemon::with("{ agents: { defaults: { maxConcurrent: 1 } } }").await;
    let mut client = daemon.client().await;
    for (session, key) in [("agent:main:main", "one"), ("agent:main:other", "two")] {
        let params = json!({"message": "Wait: 1h", "idempotencyKey": key, "sessionKey": session});
        let id = client.send("agent", params).await;
        client.answer(&id).await.unwrap();
    }
    // A run is accepted before it asks for its place.
    let lanes = loop {
        let lanes = client.call("diagnostics.lanes", json!({})).await.unwrap();
        if lanes["lanes"][0]["queuedCount"] == 1 {
            break lanes;
        }
    };
    let main =
        json!({"lane": "main", "activeCount": 1, "queuedCount": 1, "maxConcurrent": 1, "blockedBy": null});
    assert_eq!((&lanes["lanes"][0], &lanes["lanes"][1]["lane"]), (&main, &json!("subagent")));
    // It waits for runs that do not end, and a stop would wait with it.
    drop(client);
    daemon.stop().await;
}
