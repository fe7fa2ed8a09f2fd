//! `diagnostics.otel`.

use secrecy::ExposeSecret;

use super::environment;
use crate::config::{Config, load_text};

fn load(vars: &[(&str, &str)], otel: &str) -> Result<Config, String> {
    let text = format!("{{ diagnostics: {{ otel: {{ {otel} }} }} }}");
    load_text(&environment(vars), "offshoot.json", &text).map_err(|error| error.to_string())
}

#[test]
fn the_file_wins_over_the_environment_which_turns_nothing_on() {
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://there:1/base/"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=word,broken"),
        ("OTEL_SERVICE_NAME", "theirs"),
    ];
    assert!(load(&vars, "").unwrap().otel.is_none());
    let theirs = load(&vars, "enabled: true").unwrap().otel.unwrap();
    assert_eq!(
        (theirs.endpoint.as_str(), theirs.service.as_str()),
        ("http://there:1/base/v1/traces", "theirs")
    );
    assert_eq!((theirs.headers.len(), theirs.headers[0].1.expose_secret()), (1, "word"));
    let own = "enabled: true, endpoint: 'https://here/v1/traces', serviceName: 'own', headers: { a: 'b' }";
    let own = load(&vars, own).unwrap().otel.unwrap();
    assert_eq!((own.endpoint.as_str(), own.service.as_str()), ("https://here/v1/traces", "own"));
    assert_eq!(own.headers[0].0, "a");
    let usual = load(&[], "enabled: true").unwrap().otel.unwrap();
    assert_eq!((usual.endpoint.as_str(), usual.sample_rate), ("http://localhost:4318/v1/traces", 1.0));
}

#[test]
fn what_cannot_work_is_named_and_secrets_are_not() {
    for wrong in
        ["endpoint: 'here'", "sampleRate: 2", "headers: { 'a b': 'word' }", "headers: { a: 'wo\\nrd' }"]
    {
        let error = load(&[], &format!("enabled: true, {wrong}")).unwrap_err();
        assert!(error.contains("diagnostics.otel.") && !error.contains("word"), "{error}");
    }
    let otel = "enabled: true, endpoint: 'http://me:word@here', headers: { a: 'word' }";
    let config = load(&[], otel).unwrap();
    assert!(!format!("{:?} {:?}", config.otel, config.problems).contains("word"));
}

#[test]
fn a_build_without_it_says_so() {
    let config = load(&[], "enabled: true").unwrap();
    let said = config.problems.iter().any(|problem| problem.text.contains("--features otlp"));
    assert_eq!(said, !cfg!(feature = "otlp"), "{:?}", config.problems);
}
