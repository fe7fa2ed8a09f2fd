use proptest::prelude::*;
use serde_json::json;

use super::super::{Environment, load};
use super::*;

const TEXT: &str = r#"// The daemon.
{
  gateway: {
    port: 18789, // usual
    auth: { mode: 'token', token: "hunter2-token" },
  },
  agents: {
    list: [
      { id: "main", default: true }, // the first
      { id: "research", subagents: { allowAgents: ["main"] } },
    ],
  },
  env: { OPENAI_API_KEY: "sk-secret", FROM: "${FROM}" },
}
"#;

fn file(text: &str) -> ConfigFile {
    ConfigFile { path: "/nowhere/offshoot.json".into(), text: Some(text.to_owned()) }
}

#[test]
fn a_change_leaves_everything_else_as_it_stands() {
    let file = file(TEXT);
    let mut value = file.value();
    value["gateway"]["port"] = 19_000.into();
    value["agents"]["list"][1]["name"] = "Research".into();
    value["agents"]["list"].as_array_mut().unwrap().push(json!({ "id": "third" }));
    value["env"].as_object_mut().unwrap().remove("FROM");
    let text = file.with(&value).unwrap();
    assert_eq!(ConfigFile::parse(&text).unwrap(), value);
    for kept in [
        "// The daemon.",
        "port: 19000, // usual",
        "mode: 'token'",
        "// the first",
        "allowAgents: [\"main\"]",
    ] {
        assert!(text.contains(kept), "{kept} in {text}");
    }
    assert_eq!(file.with(&file.value()).unwrap(), TEXT);
}

#[test]
fn secrets_are_shown_nowhere_and_come_back() {
    let file = file(TEXT);
    let shown = super::super::redacted(&file.value());
    assert_eq!(shown["gateway"]["auth"]["token"], REDACTED);
    assert_eq!(shown["env"], json!({ "OPENAI_API_KEY": REDACTED, "FROM": "${FROM}" }));
    let text = file.redacted_text().unwrap();
    assert!(!text.contains("hunter2") && !text.contains("sk-secret"), "{text}");
    assert!(text.contains("// usual"));
    assert_eq!(file.replaced_by(&text).unwrap(), TEXT);
    // As a form sends it: all values, no comments.
    let mut form = shown;
    form["gateway"]["port"] = 1.into();
    let text = file.replaced_by(&form.to_string()).unwrap();
    assert!(
        text.contains("// usual") && text.contains("hunter2-token") && text.contains("port: 1,"),
        "{text}"
    );
}

#[test]
fn a_secret_that_is_switched_off_is_not_shown_either() {
    let off = "{\n  // token: \"hunter2\"\n  gateway: { port: 1 },\n}";
    assert_eq!(file(off).redacted_text(), None);
    assert_eq!(file("{ // plain\n }").redacted_text().as_deref(), Some("{ // plain\n }"));
}

#[test]
fn a_placeholder_without_a_secret_is_refused() {
    let file = file("{ gateway: { auth: { mode: 'token' } } }");
    let error = file.replaced_by(&json!({ "gateway": { "auth": { "token": REDACTED } } }).to_string());
    assert_eq!(
        error.unwrap_err().to_string(),
        "gateway.auth.token holds a placeholder, and the file has no secret there: write the secret"
    );
}

#[test]
fn placeholders_in_lists_follow_ids() {
    let before = json!({ "list": [{ "id": "a", "token": "one" }, { "id": "b", "token": "two" }] });
    let mut value = json!({ "list": [{ "id": "b", "token": REDACTED }] });
    restore(&mut value, &before).unwrap();
    assert_eq!(value["list"][0]["token"], "two");
    let mut value = json!({ "list": [{ "id": "c", "token": REDACTED }] });
    assert!(restore(&mut value, &before).is_err());
}

#[test]
fn a_patch_merges_objects_and_lists_by_id() {
    let mut value = json!({ "a": { "b": 1, "c": 2 }, "list": [{ "id": "x", "n": 1 }], "plain": [1, 2] });
    let patch = json!({ "a": { "b": null, "d": { "e": null, "f": 3 } }, "plain": [3],
        "list": [{ "id": "x", "m": 2 }, { "id": "y" }] });
    let mut replaced = value.clone();
    merge_patch(&mut value, &patch, &[]);
    assert_eq!(
        value,
        json!({ "a": { "c": 2, "d": { "f": 3 } }, "plain": [3], "list": [{ "id": "x", "n": 1, "m": 2 }, { "id": "y" }] })
    );
    merge_patch(&mut replaced, &patch, &["list".to_owned()]);
    assert_eq!(replaced["list"], patch["list"]);
}

#[test]
fn what_is_no_configuration_is_refused() {
    for raw in ["", "[]", "{", "{ a: }", "5"] {
        assert!(file(TEXT).replaced_by(raw).is_err(), "{raw}");
    }
    let damaged = file("{ a: ");
    assert!(matches!(damaged.with(&json!({})), Err(EditError::Damaged(_))));
    assert_eq!(damaged.replaced_by("{ b: 1 }").unwrap(), "{ b: 1 }");
}

#[test]
fn what_is_written_is_what_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let vars = [("OFFSHOOT_STATE_DIR".to_owned(), dir.path().display().to_string())];
    let environment = Environment { home: None, vars: vars.into() };
    // There is no file yet: the first write makes one, and it counts.
    let none = load(&environment, None).unwrap();
    let file = ConfigFile::of(&none).unwrap();
    assert!(!file.exists());
    file.write(&file.with(&json!({ "agents": { "$include": "./agents.json" } })).unwrap()).unwrap();
    assert_ne!(none.stamps, none.stamps.now());
    let (missing, stamps) = none.read_again();
    assert!(missing.is_err(), "what it includes is not there");
    assert_eq!(stamps, stamps.now());
    std::fs::write(dir.path().join("agents.json"), r#"{ list: [{ id: "one" }] }"#).unwrap();
    assert_ne!(stamps, stamps.now(), "what is missing is waited for");
    let config = none.reload().unwrap();
    assert_eq!(config.settings.default_agent.as_str(), "one");
    assert_eq!(config.stamps, config.stamps.now());
    std::fs::write(dir.path().join("agents.json"), r#"{ list: [{ id: "one" } ] }"#).unwrap();
    assert_ne!(config.stamps, config.stamps.now(), "an included file");
    assert_eq!(config.document.value()["agents"]["list"][0]["id"], "one");
    let file = ConfigFile::of(&config).unwrap();
    assert_eq!((file.hash(), file.exists()), (config.hash.clone(), true));
    // What is wrong is found before it is written, includes and all.
    let wrong = config.check(&file, r#"{ agents: { $include: "./agents.json" }, gateway: { port: 0 } }"#);
    assert!(wrong.unwrap_err().problems().iter().any(|problem| problem.path == "gateway.port"));
    let right = r#"{ agents: { $include: "./agents.json" }, gateway: { port: 7 } }"#;
    let checked = config.check(&file, right).unwrap();
    file.write(right).unwrap();
    let again = config.reload().unwrap();
    assert_eq!((again.gateway.port, &again.hash), (7, &checked.hash));
    // A file that is gone is no reason to forget what it said.
    std::fs::remove_file(file.path()).unwrap();
    assert!(again.reload().is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z \"'/\\\\\n]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c$ ]{1,2}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]{1,2}", any_json(), 0..5)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

proptest! {
    #[test]
    fn any_object_becomes_any_other(from in any_object(), to in any_object()) {
        let text = serde_json::to_string_pretty(&from).unwrap();
        let changed = rewritten(&text, &from, &to).unwrap();
        prop_assert_eq!(ConfigFile::parse(&changed).unwrap(), to);
    }
}

#[test]
fn what_an_address_says_of_its_user_is_not_shown_and_comes_back() {
    let text = r#"{ models: { proxy: "https://me:s3cret@host/v1", plain: "https://host/@me" }, mail: { smtpPass: "s3cret",
        passphrase: "s3cret", bypass: "yes", webhookUrl: "https://host/s3cret" } }"#;
    let file = file(text);
    let shown = super::super::redacted(&file.value());
    assert!(!shown.to_string().contains("s3cret"), "{shown}");
    assert_eq!(
        (&shown["models"]["plain"], &shown["mail"]["bypass"]),
        (&json!("https://host/@me"), &json!("yes"))
    );
    assert!(!file.redacted_text().unwrap().contains("s3cret"));
    let mut back = shown;
    restore(&mut back, &file.value()).unwrap();
    assert_eq!(back, file.value());
}
