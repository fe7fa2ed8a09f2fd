//! `models.*`: the models that the configuration names.

use std::collections::BTreeMap;

use offshoot_actors::types::{ModelChoice, ModelRef};
use serde_json::{Value, json};

use super::{Answer, Call, Method, READ, answer, now};
use crate::config::{BUILTIN, Config};
use crate::protocol::version::Protocol;

pub(super) const METHODS: &[Method] =
    &[now("models.list", READ, list), now("models.authStatus", READ, auth_status)];

fn list(call: &Call) -> Answer {
    let config = call.daemon.config();
    answer(&json!({ "models": models(&config, call.client.protocol) }))
}

/// Every model that a provider lists, an alias stands for, or an agent uses, by name.
pub(crate) fn models(config: &Config, protocol: Protocol) -> Vec<Value> {
    let mut models: BTreeMap<ModelRef, Value> = BTreeMap::new();
    for provider in config.providers.iter() {
        for spec in &provider.models {
            if let Ok(model) = format!("{}/{}", provider.id, spec.id).parse::<ModelRef>() {
                models.insert(model, json!(null));
            }
        }
    }
    let settings = &config.settings;
    let choices = settings
        .agents
        .values()
        .flat_map(|agent| [Some(&agent.model), agent.subagents.model.as_ref()])
        .chain([settings.subagents.model.as_ref()]);
    let used =
        choices.flatten().flat_map(|ModelChoice { primary, fallbacks }| fallbacks.iter().chain([primary]));
    for model in used.chain(config.aliases.iter().map(|(_, model)| model)) {
        models.entry(model.clone()).or_insert(Value::Null);
    }
    let default = settings.agent(&settings.default_agent).map(|agent| agent.model.primary.clone());
    for (model, value) in &mut models {
        *value = row(config, model, default.as_ref() == Some(model), protocol);
    }
    models.into_values().collect()
}

fn row(config: &Config, model: &ModelRef, default: bool, protocol: Protocol) -> Value {
    // What is known of a model beyond its name is what its provider's settings say.
    let said = said_of(config, model);
    let said = |name: &str| said.and_then(|said| said.get(name)).cloned();
    let mut row = json!({
        "id": model.model(),
        "name": said("name").filter(Value::is_string).unwrap_or_else(|| model.model().into()),
        "provider": model.provider(),
    });
    for name in ["contextWindow", "reasoning", "input"] {
        if let Some(value) = said(name) {
            row[name] = value;
        }
    }
    if protocol == Protocol::V4 {
        let available = model.provider() == BUILTIN || config.providers.serving(model).is_ok();
        row["tags"] = if default { json!(["default"]) } else { json!([]) };
        row["thinkingLevels"] = json!([{ "id": "off", "label": "off" }]);
        row["thinkingDefault"] = "off".into();
        row["available"] = available.into();
    }
    row
}

fn said_of<'c>(config: &'c Config, model: &ModelRef) -> Option<&'c Value> {
    let providers = config.document.value().pointer("/models/providers")?.as_object()?;
    let provider = providers.iter().find(|(id, _)| id.trim().eq_ignore_ascii_case(model.provider()))?.1;
    provider.get("models")?.as_array()?.iter().find(|said| said["id"] == *model.model())
}

fn auth_status(call: &Call) -> Answer {
    let config = call.daemon.config();
    let providers: Vec<Value> = config
        .providers
        .iter()
        .map(|provider| {
            // Keys do not lapse, as far as anybody here knows.
            let kind = if provider.api_key.is_some() { "api_key" } else { "none" };
            json!({
                "provider": provider.id,
                "displayName": provider.id,
                "status": "static",
                "profiles": [{ "profileId": format!("{}:default", provider.id), "type": kind, "status": "static" }],
            })
        })
        .collect();
    answer(&json!({ "ts": call.now().0, "providers": providers }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load_text};

    #[test]
    fn models_are_those_that_the_configuration_names_once_each() {
        let text = r#"{ models: { providers: { local: { baseUrl: "http://127.0.0.1:1/v1", models: [
              { id: "large", name: "Large One", contextWindow: 32000, reasoning: true, input: ["text"] } ] } } },
            agents: { defaults: { model: { primary: "local/large", fallbacks: ["local/other"] },
              models: { "local/other": { alias: "o" } } } } }"#;
        let config = load_text(&Environment::default(), "offshoot.json", text).unwrap();
        let new = models(&config, Protocol::V4);
        let names: Vec<_> = new.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(names, ["large", "other"]);
        assert_eq!(new[0]["name"], "Large One");
        assert_eq!((&new[0]["contextWindow"], &new[0]["tags"][0]), (&json!(32_000), &json!("default")));
        assert_eq!((&new[1]["name"], &new[1]["available"]), (&json!("other"), &json!(true)));
        let old = models(&config, Protocol::V3);
        assert_eq!(old[0].get("available"), None);
        assert_eq!(old.len(), 2);
    }
}
