use offshoot_actors::types::Outcome;
use serde_json::{Value, json};

use super::*;
use crate::tools::testing::{Store, key, run_id};

const MAIN: &str = "agent:main:main";

fn asked(arguments: Value) -> Result<Wish, BadArguments> {
    wish(arguments::read(arguments::object(&arguments.to_string())?)?)
}

#[test]
fn actions_and_their_names() {
    assert_eq!(asked(json!({})), Ok(Wish::List));
    assert_eq!(asked(json!({"action": "list", "target": "x"})), Ok(Wish::List));
    for action in ["cancel", "kill"] {
        assert_eq!(asked(json!({"action": action, "target": " x "})), Ok(Wish::Cancel("x".to_owned())));
        for all in ["all", "ALL", "*"] {
            assert_eq!(asked(json!({"action": action, "target": all})), Ok(Wish::CancelAll));
        }
    }
    assert_eq!(
        asked(json!({"action": "steer", "target": "all", "message": " hurry "})),
        Ok(Wish::Steer { target: "all".to_owned(), message: "hurry".to_owned() }),
        "everybody is a target of cancel alone"
    );
}

#[test]
fn what_is_missing_or_too_long_is_named() {
    let error = |arguments| asked(arguments).unwrap_err().to_string();
    assert!(error(json!({"action": "cancel"})).contains("\"target\""));
    assert!(error(json!({"action": "steer", "target": "1"})).contains("\"message\""));
    assert!(error(json!({"action": "steer", "message": "x"})).contains("\"target\""));
    let long = "ä".repeat(MAX_MESSAGE + 1);
    assert_eq!(
        error(json!({"action": "steer", "target": "1", "message": long})),
        "parameter \"message\" has 4001 characters, 4000 are allowed"
    );
    assert_eq!(
        error(json!({"action": "wait"})),
        r#"parameter "action" must be one of "list", "cancel", "kill", "steer", not "wait""#
    );
}

#[test]
fn sample_arguments_fit_the_schema() {
    let schema = schema::of::<Parameters>();
    assert!(jsonschema::is_valid(&schema, &json!({"action": "steer", "target": "1", "message": "x"})));
    assert!(jsonschema::is_valid(&schema, &json!({"recentMinutes": 1_440})));
    assert!(!jsonschema::is_valid(&schema, &json!({"recentMinutes": 0})));
    assert!(!jsonschema::is_valid(&schema, &json!({"action": "wait"})));
}

#[test]
fn a_leaf_controls_nobody() {
    let refusal = check_role(Role::Leaf).unwrap_err();
    assert_eq!(refusal.message, "Leaf subagents cannot control other sessions.");
    assert!(check_role(Role::Main).is_ok() && check_role(Role::Orchestrator).is_ok());
}

fn store() -> Store {
    let mut store = Store::default();
    store.add_session(MAIN, None);
    store.add_session("agent:main:subagent:a", Some(MAIN)).label = Some("survey".to_owned());
    store.add_session("agent:main:subagent:b", Some("agent:main:subagent:a")).label =
        Some("detail".to_owned());
    store.add_session("agent:main:subagent:c", Some(MAIN));
    store.user("agent:main:subagent:a", "Survey the field");
    store.add_run("agent:main:subagent:a", 1_000);
    store.add_run("agent:main:subagent:b", 2_000);
    store.add_ended_run("agent:main:subagent:c", 500, 65_000);
    store
}

async fn family(store: Store) -> Family {
    Family::read(&store.shared(), &key(MAIN), Timestamp(0)).await.unwrap()
}

#[tokio::test]
async fn the_list_shows_who_runs_and_who_ended() {
    let storage = store().shared();
    let family = Family::read(&storage, &key(MAIN), Timestamp(0)).await.unwrap();
    let request = list::Request { caller: &key(MAIN), role: Role::Main, minutes: 30, now: Timestamp(11_000) };
    let list = serde_json::to_value(list::list(&storage, &family, &request).await.unwrap()).unwrap();
    assert_eq!(list["status"], "ok");
    assert_eq!(list["action"], "list");
    assert_eq!(list["requesterSessionKey"], MAIN);
    assert_eq!(list["callerSessionKey"], MAIN);
    assert_eq!(list["callerIsSubagent"], false);
    assert_eq!(list["total"], 3);
    assert_eq!(
        list["active"][1],
        json!({
            "index": 2,
            "runId": run_id(1_000).to_string(),
            "sessionKey": "agent:main:subagent:a",
            "label": "survey",
            "task": "Survey the field",
            "status": "running",
            "pendingDescendants": 1,
            "depth": 1,
            "runtime": "10s",
            "runtimeMs": 10_000,
            "childSessions": ["agent:main:subagent:b"],
            "model": "p/main",
            "totalTokens": 15,
            "startedAt": 1_000,
        })
    );
    let ended = &list["recent"][0];
    assert_eq!((&ended["index"], &ended["status"], &ended["label"]), (&json!(3), &json!("ok"), &json!("c")));
    assert_eq!((&ended["runtime"], &ended["endedAt"]), (&json!("1m5s"), &json!(65_500)));
    assert_eq!(
        list["text"],
        "Running: 2\n1. detail [running] p/main, 9s\n2. survey [running] p/main, 10s, 1 open below\n\n\
         Ended in the last 30 minutes: 1\n3. c [ok] p/main, 1m5s\n"
    );
}

#[tokio::test]
async fn a_long_list_is_cut() {
    let mut store = Store::default();
    store.add_session(MAIN, None);
    for n in 0..150 {
        let name = format!("agent:main:subagent:{n}");
        store.add_session(&name, Some(MAIN));
        store.add_run(&name, n);
    }
    let storage = store.shared();
    let family = Family::read(&storage, &key(MAIN), Timestamp(0)).await.unwrap();
    let request = list::Request { caller: &key(MAIN), role: Role::Main, minutes: 30, now: Timestamp(200) };
    let list = serde_json::to_value(list::list(&storage, &family, &request).await.unwrap()).unwrap();
    assert_eq!(list["total"], 150);
    assert_eq!(list["active"].as_array().unwrap().len(), 100);
    assert!(list["text"].as_str().unwrap().contains("and 50 more"));
}

#[tokio::test]
async fn a_cancel_names_what_went_with_it() {
    let family = family(store()).await;
    let child = family.find("survey").unwrap().unwrap();
    let stopped = Stopped { ended: vec![run_id(2_000), run_id(1_000)], already: None };
    let reply = cancelled(Action::Kill, "survey".to_owned(), child, &family, &stopped);
    assert_eq!(
        serde_json::to_value(reply).unwrap(),
        json!({
            "status": "ok",
            "action": "kill",
            "target": "survey",
            "runId": run_id(1_000).to_string(),
            "sessionKey": "agent:main:subagent:a",
            "label": "survey",
            "cascadeKilled": 1,
            "cascadeLabels": ["detail"],
            "text": "Cancelled survey and 1 sub-agent below it.",
        })
    );
}

#[tokio::test]
async fn who_has_ended_is_done() {
    let family = family(store()).await;
    let child = family.find("3").unwrap().unwrap();
    let stopped = Stopped { ended: Vec::new(), already: Some(Outcome::ok("done")) };
    let reply = cancelled(Action::Cancel, "3".to_owned(), child, &family, &stopped);
    assert_eq!((reply.status, reply.text.as_str()), ("done", "c has ended before (ok)."));
    assert_eq!(reply.cascade_killed, None);
}

#[tokio::test]
async fn everybody_at_once() {
    let family = family(store()).await;
    let reply = all_cancelled(Action::Cancel, &family, &[run_id(1_000), run_id(2_000)]);
    assert_eq!(
        serde_json::to_value(reply).unwrap(),
        json!({
            "status": "ok", "action": "cancel", "target": "all", "killed": 2,
            "labels": ["detail", "survey"], "text": "Cancelled 2 sub-agents.",
        })
    );
    assert_eq!(all_cancelled(Action::Cancel, &family, &[]).killed, 0);
}

#[tokio::test]
async fn a_steer_names_the_run_that_takes_it() {
    let family = family(store()).await;
    let child = family.find("survey").unwrap().unwrap();
    let (main, grandparent) = (child.parent.clone().unwrap(), key("agent:main:other"));
    let reply = |caller, steered| steered_reply("survey".to_owned(), caller, child, steered);
    let queued = reply(&main, Steered::Queued(child.run));
    assert_eq!((queued.status, queued.mode, queued.run_id), ("accepted", Some("steer"), child.run));
    let started = reply(&main, Steered::Started(run_id(9)));
    assert!(started.text.ends_with("Its result comes to you by itself."), "{}", started.text);
    let deeper = reply(&grandparent, Steered::Started(run_id(9)));
    assert!(deeper.text.contains("is not announced to you"), "{}", deeper.text);
    assert_eq!((started.mode, started.run_id), (Some("restart"), run_id(9)));
}

#[tokio::test]
async fn an_unknown_target_is_refused() {
    let storage = store().shared();
    let family = Family::read(&storage, &key(MAIN), Timestamp(0)).await.unwrap();
    let failure = find(&storage, &key(MAIN), &family, "nobody").await.unwrap_err();
    assert_eq!(failure.to_string().split(" (").next(), Some("Unknown subagent target \"nobody\"."));
    let caller = key("agent:main:subagent:a");
    let own = Family::read(&storage, &caller, Timestamp(0)).await.unwrap();
    assert!(find(&storage, &caller, &own, "agent:main:subagent:c").await.is_err(), "a sibling is no child");
}

#[test]
fn durations_for_people() {
    let shown = |seconds| human(Duration::from_secs(seconds));
    assert_eq!((shown(0), shown(59), shown(61)), ("0s".to_owned(), "59s".to_owned(), "1m1s".to_owned()));
    assert_eq!(shown(7_860), "2h11m");
}
