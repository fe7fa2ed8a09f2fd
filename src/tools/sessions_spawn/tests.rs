use offshoot_actors::types::ModelChoice;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tools::testing::{key, run_id};

fn parsed(arguments: Value) -> Result<SpawnRequest, BadArguments> {
    parse(key("agent:main:main"), arguments::object(&arguments.to_string())?)
}

fn error(arguments: Value) -> String {
    parsed(arguments).unwrap_err().to_string()
}

fn with(name: &str, value: Value) -> Value {
    let mut object = Map::from_iter([("task".to_owned(), json!("Do it"))]);
    object.insert(name.to_owned(), value);
    Value::Object(object)
}

#[test]
fn a_task_is_enough() {
    let request = parsed(json!({"task": " Do it "})).unwrap();
    assert_eq!(request.task, "Do it");
    assert_eq!((request.label, request.agent, request.model, request.timeout), (None, None, None, None));
    assert_eq!((request.mode, request.cleanup), (Mode::Run, Cleanup::Keep));
    assert_eq!(request.on_parent_exit, OnParentExit::Stop);
    assert!(request.expects_completion);
}

#[test]
fn every_parameter_arrives() {
    let request = parsed(json!({
        "task": "Do it", "label": "l", "agentId": "helper", "model": "p/m", "runTimeoutSeconds": 1.5,
        "timeoutSeconds": 9, "mode": "session", "cleanup": "delete", "runtime": "subagent",
        "expectsCompletionMessage": false, "onParentExit": "hand-over",
    }))
    .unwrap();
    assert_eq!(request.on_parent_exit, OnParentExit::HandOver);
    assert_eq!(request.label.as_deref(), Some("l"));
    assert_eq!(request.agent.as_deref(), Some("helper"));
    assert_eq!(request.model.as_deref(), Some("p/m"));
    assert_eq!(request.timeout, Some(Duration::from_millis(1_500)), "the newer name wins");
    assert_eq!((request.mode, request.cleanup), (Mode::Session, Cleanup::Delete));
    assert!(!request.expects_completion);
}

#[test]
fn the_call_that_started_it_all() {
    let request = parsed(json!({
        "task": "Reply with exactly: SUBAGENT_OK", "runtime": "subagent", "mode": "run",
        "cleanup": "delete", "timeoutSeconds": 20, "runTimeoutSeconds": 20,
    }))
    .unwrap();
    assert_eq!(request.timeout, Some(Duration::from_secs(20)));
    assert_eq!(request.cleanup, Cleanup::Delete);
}

#[test]
fn channel_delivery_is_refused_in_the_words_that_clients_know() {
    for name in CHANNEL_DELIVERY {
        for value in [json!("x"), json!(null)] {
            assert_eq!(
                error(with(name, value)),
                format!(
                    "sessions_spawn does not support \"{name}\". Use \"message\" or \"sessions_send\" for \
                     channel delivery."
                )
            );
        }
    }
}

#[test]
fn what_offshoot_does_not_have_yet_is_named_unless_it_asks_for_nothing() {
    for (name, default) in NOT_YET {
        let refusal = error(with(name, json!("something else")));
        assert!(refusal.contains(&format!("{name:?} is not supported by Offshoot yet")), "{name}: {refusal}");
        assert!(parsed(with(name, json!(null))).is_ok(), "{name}");
        assert!(parsed(with(name, json!(" "))).is_ok(), "{name}");
        if let Some(default) = default {
            let default = serde_json::from_str(default).unwrap();
            assert!(parsed(with(name, default)).is_ok(), "{name}");
        }
    }
    assert!(error(with("thread", json!(true))).ends_with("leave it out or pass false"));
}

#[test]
fn an_unknown_parameter_is_named_with_what_there_is() {
    let refusal = error(with("prompt", json!("x")));
    assert!(refusal.starts_with("unknown parameter \"prompt\"; supported: agentId, "), "{refusal}");
    assert!(refusal.contains("runTimeoutSeconds"));
}

#[test]
fn wrong_types_name_the_parameter() {
    assert_eq!(error(json!({"task": 5})), r#"parameter "task" must be a string, not 5"#);
    assert_eq!(
        error(with("mode", json!("thread"))),
        r#"parameter "mode" must be one of "run", "session", not "thread""#
    );
    assert_eq!(
        error(with("runTimeoutSeconds", json!("20"))),
        r#"parameter "runTimeoutSeconds" must be a number, not "20""#
    );
    assert_eq!(
        error(with("expectsCompletionMessage", json!("yes"))),
        r#"parameter "expectsCompletionMessage" must be true or false, not "yes""#
    );
    assert_eq!(error(with("runtime", json!(1))), r#"parameter "runtime" must be "subagent", not 1"#);
}

#[test]
fn another_runtime_is_named() {
    assert_eq!(
        error(with("runtime", json!("acp"))),
        r#"runtime "acp" is not supported by Offshoot yet: leave it out or pass "subagent""#
    );
}

#[test]
fn a_task_is_needed() {
    for arguments in [json!({}), json!({"task": null}), json!({"task": "  "})] {
        assert!(error(arguments).contains("\"task\""));
    }
}

#[test]
fn timeouts_have_bounds() {
    assert_eq!(parsed(with("timeoutSeconds", json!(0))).unwrap().timeout, Some(Duration::ZERO));
    assert_eq!(parsed(with("timeoutSeconds", json!(31_536_000))).unwrap().timeout, Some(MAX_TIMEOUT));
    for value in [json!(-1), json!(-0.5), json!(31_536_001), json!(1e300)] {
        assert!(error(with("runTimeoutSeconds", value)).contains("from 0 (no limit) to 31536000"));
    }
}

fn accepted() -> Accepted {
    Accepted {
        run: run_id(1),
        session: key("agent:helper:subagent:a"),
        agent: "helper".parse().unwrap(),
        model: ModelChoice {
            primary: "router/lab/large".parse().unwrap(),
            fallbacks: vec!["p/small".parse().unwrap()],
        },
        timeout: Some(Duration::from_secs(20)),
        depth: 2,
        mode: Mode::Run,
        expects_completion: true,
        tools: Vec::new().into(),
    }
}

#[test]
fn an_accepted_spawn_says_what_was_resolved() {
    let mut value = serde_json::to_value(shape(&accepted(), true)).unwrap();
    let note = value.as_object_mut().unwrap().remove("note").unwrap();
    assert!(note.as_str().unwrap().contains("Do not poll"));
    assert_eq!(
        value,
        json!({
            "status": "accepted",
            "childSessionKey": "agent:helper:subagent:a",
            "runId": "00000001-0000-4000-8000-000000000000",
            "mode": "run",
            "modelApplied": true,
            "context": "isolated",
            "expectsCompletionMessage": true,
            "resolvedModel": "router/lab/large",
            "resolvedProvider": "router",
            "fallbacks": ["p/small"],
            "runTimeoutSeconds": 20,
            "depth": 2,
        })
    );
}

#[test]
fn an_accepted_spawn_without_a_deadline_or_a_model_of_its_own() {
    let value = serde_json::to_value(shape(&Accepted { timeout: None, ..accepted() }, false)).unwrap();
    assert_eq!(value["runTimeoutSeconds"], 0);
    assert!(value.get("modelApplied").is_none());
    let short = Accepted { timeout: Some(Duration::from_millis(1_500)), ..accepted() };
    assert_eq!(serde_json::to_value(shape(&short, false)).unwrap()["runTimeoutSeconds"], 1.5);
}

#[test]
fn sample_arguments_fit_the_schema() {
    let schema = schema::of::<Parameters>();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&json!({"task": "x"})));
    assert!(validator.is_valid(&json!({"task": "x", "mode": "session", "runTimeoutSeconds": 0.5})));
    assert!(!validator.is_valid(&json!({})), "the task is required");
    assert!(!validator.is_valid(&json!({"task": "x", "mode": "thread"})));
    assert!(!validator.is_valid(&json!({"task": "x", "runTimeoutSeconds": -1})));
    assert!(!validator.is_valid(&json!({"task": "x", "runtime": "acp"})));
    assert_eq!(
        schema["properties"]["runTimeoutSeconds"]["maximum"].as_f64(),
        Some(MAX_TIMEOUT.as_secs_f64())
    );
}

proptest! {
    #[test]
    fn whatever_the_schema_takes_is_parsed(
        task in "[a-z]{1,9}",
        label in prop::option::of("[a-z ]{0,9}"),
        seconds in prop::option::of(0.0_f64..31_536_000.0),
        mode in prop::option::of(prop::sample::select(vec!["run", "session"])),
        cleanup in prop::option::of(prop::sample::select(vec!["keep", "delete"])),
        expects in prop::option::of(any::<bool>()),
    ) {
        let mut object = json!({"task": task}).as_object().unwrap().clone();
        let optional = [
            ("label", label.map(Value::from)),
            ("timeoutSeconds", seconds.map(Value::from)),
            ("mode", mode.map(Value::from)),
            ("cleanup", cleanup.map(Value::from)),
            ("expectsCompletionMessage", expects.map(Value::from)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                object.insert(name.to_owned(), value);
            }
        }
        let arguments = Value::Object(object);
        prop_assert!(jsonschema::is_valid(&schema::of::<Parameters>(), &arguments));
        prop_assert!(parsed(arguments).is_ok());
    }

    #[test]
    fn no_arguments_panic(text in r#"[{}\[\]":,a-zA-Z0-9 .\-]{0,60}"#) {
        if let Ok(object) = arguments::object(&text) {
            let _ = parse(key("agent:main:main"), object);
        }
    }
}
