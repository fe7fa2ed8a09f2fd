use offshoot_actors::ports::TokioClock;
use offshoot_actors::types::Timestamp;

use super::*;

fn registry(specs: Vec<ProviderSpec>, aliases: &[(&str, &str)]) -> Result<Registry, SpecError> {
    let aliases = aliases.iter().map(|(alias, model)| ((*alias).to_owned(), model.parse().unwrap()));
    Registry::new(specs, aliases, Arc::new(TokioClock::starting_at(Timestamp(0))))
}

fn refusal(registry: &Registry, name: &str) -> String {
    let error = registry.resolve(name).unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::NotFound);
    error.to_string()
}

#[tokio::test]
async fn names_and_aliases_lead_to_models() {
    let specs = vec![ProviderSpec::new("Local", "http://127.0.0.1:1/v1")];
    let registry = registry(specs, &[("Fast", "local/a/b:7"), ("toy", "builtin/rehearsal")]).unwrap();
    for (name, model) in [
        ("local/a/b:7", "local/a/b:7"),
        (" LOCAL/Any ", "local/Any"),
        ("fAST", "local/a/b:7"),
        ("toy", "builtin/rehearsal"),
        ("builtin/rehearsal", "builtin/rehearsal"),
    ] {
        assert_eq!(registry.resolve(name).unwrap().as_str(), model);
    }
}

#[tokio::test]
async fn what_does_not_exist_is_refused_with_the_setting_to_add() {
    let registry = registry(vec![], &[("lost", "nowhere/x")]).unwrap();
    assert!(refusal(&registry, "openai/gpt").contains("add models.providers.openai with baseUrl and apiKey"));
    assert!(refusal(&registry, "lost").contains("models.providers.nowhere"));
    assert!(refusal(&registry, "gpt").contains("agents.defaults.models.<provider/model>.alias"));
    assert!(refusal(&registry, "builtin/genius").contains("builtin/rehearsal"));
    assert!(refusal(&registry, "/x").contains("provider/model"));
}

#[tokio::test]
async fn an_unknown_kind_of_provider_is_refused_only_when_it_is_asked_for() {
    let mut spec = ProviderSpec::new("claude", "https://api.example.com");
    spec.api = "anthropic-messages".to_owned();
    let registry = registry(vec![spec], &[]).unwrap();
    let refusal = refusal(&registry, "claude/opus");
    assert!(refusal.contains("models.providers.claude.api") && refusal.contains("openai-completions"));
}

#[tokio::test]
async fn a_model_may_be_of_another_kind_than_its_provider() {
    let own = |id: &str, api: &str| ModelSpec { api: Some(api.to_owned()), ..ModelSpec::new(id) };
    let mut spec = ProviderSpec::new("mixed", "https://api.example.com");
    spec.api = "anthropic-messages".to_owned();
    spec.models = vec![own("known", DEFAULT_API), own("unknown", "ollama")];
    let registry = registry(vec![spec], &[]).unwrap();
    assert!(registry.resolve("mixed/known").is_ok());
    assert!(refusal(&registry, "mixed/unknown").contains("\"ollama\" is not supported"));
    assert!(refusal(&registry, "mixed/other").contains("\"anthropic-messages\" is not supported"));
}

#[tokio::test]
async fn specifications_that_contradict_each_other_name_their_setting() {
    let provider = |id: &str| ProviderSpec::new(id, "http://h");
    let path = |specs, aliases: &[(&str, &str)]| registry(specs, aliases).unwrap_err().path;
    assert_eq!(path(vec![provider("a"), provider("A")], &[]), "models.providers.a");
    assert_eq!(path(vec![provider("builtin")], &[]), "models.providers.builtin");
    assert_eq!(path(vec![provider("a/b")], &[]), "models.providers");
    assert_eq!(path(vec![], &[("x", "a/b"), ("X", "a/c")]), "agents.defaults.models.a/c.alias");
    assert_eq!(path(vec![], &[("x/y", "a/b")]), "agents.defaults.models.a/b.alias");
}
