//! From a configuration to what a tree is started with.

use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use offshoot_actors::TreeOptions;
use offshoot_actors::ports::{
    Answer, BoxFuture, Clock, EventSink, Host, ModelError, ModelErrorKind, ModelRequest, ModelSink, Models,
    Storage, TokioClock,
};
use offshoot_actors::types::{ModelRef, Timestamp};

use crate::config::{Aliases, BUILTIN, Config, Durability, Named, Provider, Providers, Unavailable};
use crate::gateway::traces::Traces;
use crate::ids::SystemIds;
use crate::models::{ProviderSpec, Registry, SpecError, TRACEPARENT};
use crate::store;
use crate::tools::AgentTools;

/// A clock that reads the calendar's time once and counts on from there.
#[must_use]
pub fn clock() -> Arc<dyn Clock> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
    Arc::new(TokioClock::starting_at(Timestamp(millis)))
}

/// What a tree is started with under this configuration.
///
/// # Errors
/// A provider or an alias of the configuration cannot work.
pub fn tree_options(
    config: &Config,
    clock: Arc<dyn Clock>,
    storage: Arc<dyn Storage>,
    events: Arc<dyn EventSink>,
    host: Host,
) -> Result<TreeOptions, SpecError> {
    let models = Arc::new(LiveModels::new(config, Arc::clone(&clock))?);
    Ok(tree_options_with(config, clock, storage, models, events, host))
}

/// The same with models that can be exchanged while the tree runs.
pub(crate) fn tree_options_with(
    config: &Config,
    clock: Arc<dyn Clock>,
    storage: Arc<dyn Storage>,
    models: Arc<LiveModels>,
    events: Arc<dyn EventSink>,
    host: Host,
) -> TreeOptions {
    let tools = Arc::new(AgentTools::new(Arc::clone(&clock)));
    let ids = Arc::new(SystemIds);
    let mut options = TreeOptions::new(clock, ids, storage, models, tools, config.settings.clone());
    options.events = events;
    options.host = host;
    options
}

/// The durability of the store that a configuration asks for.
#[must_use]
pub const fn durability(config: &Config) -> store::Durability {
    match config.durability {
        Durability::Full => store::Durability::Full,
        Durability::Normal => store::Durability::Normal,
    }
}

/// The models of the configuration in force. A call that is under way goes on with what it began with.
pub(crate) struct LiveModels {
    clock: Arc<dyn Clock>,
    current: RwLock<Arc<ConfiguredModels>>,
    /// Where runs are in their traces, for providers.
    traces: OnceLock<Arc<Traces>>,
}

impl fmt::Debug for LiveModels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveModels").field("current", &self.current).finish_non_exhaustive()
    }
}

impl LiveModels {
    /// Those of a configuration.
    ///
    /// # Errors
    /// A provider or an alias of it cannot work.
    pub(crate) fn new(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, SpecError> {
        let current = RwLock::new(Arc::new(ConfiguredModels::new(config, Arc::clone(&clock))?));
        Ok(Self { clock, current, traces: OnceLock::new() })
    }

    /// From now on providers are told where a run is in its trace, where the settings say so.
    pub(crate) fn tell_providers(&self, traces: Arc<Traces>) {
        // There is one for the life of the process.
        let _ = self.traces.set(traces);
    }

    /// What a configuration makes of them, not yet in force.
    ///
    /// # Errors
    /// A provider or an alias of it cannot work.
    pub(crate) fn made_of(&self, config: &Config) -> Result<ConfiguredModels, SpecError> {
        ConfiguredModels::new(config, Arc::clone(&self.clock))
    }

    /// Puts others in force.
    pub(crate) fn set(&self, models: ConfiguredModels) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(models);
    }

    fn current(&self) -> Arc<ConfiguredModels> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Models for LiveModels {
    fn resolve(&self, name: &str) -> Result<ModelRef, ModelError> {
        self.current().resolve(name)
    }

    fn call(&self, request: ModelRequest, sink: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>> {
        let traces = self.traces.get();
        let traceparent = traces.and_then(|traces| traces.for_provider(request.run, &request.session));
        let call = self.current().call(request, sink);
        match traceparent {
            Some(traceparent) => Box::pin(TRACEPARENT.scope(traceparent, call)),
            None => call,
        }
    }
}

/// The registry of models, which for a model that cannot be called names the setting that is missing.
#[derive(Debug)]
pub(crate) struct ConfiguredModels {
    registry: Registry,
    providers: Providers,
    aliases: Aliases,
}

impl ConfiguredModels {
    fn new(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, SpecError> {
        let specs = config.providers.iter().map(|provider| spec(provider, config.idle_timeout));
        let aliases = config.aliases.iter().map(|(name, model)| (name.to_owned(), model.clone()));
        let registry = Registry::new(specs, aliases, clock)?;
        Ok(Self { registry, providers: config.providers.clone(), aliases: config.aliases.clone() })
    }
}

impl Models for ConfiguredModels {
    fn resolve(&self, name: &str) -> Result<ModelRef, ModelError> {
        let Ok(Named { model, .. }) = self.aliases.resolve(name, &self.providers) else {
            return self.registry.resolve(name);
        };
        if model.provider() != BUILTIN {
            let missing = |error: Unavailable| ModelError::new(ModelErrorKind::NotFound, error.to_string());
            self.providers.serving(&model).map_err(missing)?;
        }
        self.registry.resolve(model.as_str())
    }

    fn call(&self, request: ModelRequest, sink: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>> {
        self.registry.call(request, sink)
    }
}

fn spec(provider: &Provider, idle_timeout: Option<Duration>) -> ProviderSpec {
    let mut spec = ProviderSpec::new(&provider.id, &provider.base_url);
    spec.api_key = provider.api_key.clone();
    spec.headers = provider.headers.clone();
    spec.request_timeout = provider.timeout;
    spec.stall_timeout = idle_timeout.unwrap_or(spec.stall_timeout);
    spec.api = provider.api.clone();
    spec.models = provider.models.clone();
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load_text};
    use crate::models::DEFAULT_STALL_TIMEOUT;

    fn models(text: &str) -> ConfiguredModels {
        let config = load_text(&Environment::default(), "offshoot.json", text).unwrap();
        ConfiguredModels::new(&config, clock()).unwrap()
    }

    #[test]
    fn a_configured_model_resolves_by_name_and_by_alias() {
        let models = models(
            r#"{ models: { providers: { local: { baseUrl: "http://127.0.0.1:1/v1" } } },
                 agents: { defaults: { models: { "local/large": { alias: "Big" } } } } }"#,
        );
        assert_eq!(models.resolve("local/any").unwrap().as_str(), "local/any");
        assert_eq!(models.resolve("big").unwrap().as_str(), "local/large");
        assert_eq!(models.resolve("builtin/rehearsal").unwrap(), ModelRef::rehearsal());
    }

    #[test]
    fn a_name_without_a_provider_is_one_of_openais_where_that_can_be_used() {
        let with_key = models(r#"{ models: { providers: { openai: { apiKey: "key" } } } }"#);
        assert_eq!(with_key.resolve(" gpt-5.4 ").unwrap().as_str(), "openai/gpt-5.4");
        let text = models("{}").resolve("gpt-5.4").unwrap_err().message;
        assert!(text.contains("write provider/model"), "{text}");
        assert!(with_key.resolve(" ").is_err());
    }

    #[test]
    fn what_the_configuration_says_of_a_provider_reaches_the_registry() {
        let text = r#"{ models: { providers: { mixed: { baseUrl: "http://127.0.0.1:1/v1", api: "ollama",
            models: [{ id: "one", api: "openai-completions", maxTokens: 9 }] } } } }"#;
        let models = models(text);
        let provider = models.providers.iter().next().unwrap();
        let spec = spec(provider, None);
        assert_eq!((spec.api.as_str(), &spec.models), ("ollama", &provider.models));
        assert!(models.resolve("mixed/one").is_ok());
        let text = models.resolve("mixed/two").unwrap_err().message;
        assert!(text.contains("\"ollama\" is not supported: use openai-completions"), "{text}");
    }

    #[test]
    fn how_long_a_provider_may_be_silent_is_configured_or_usual() {
        let stall = |llm: &str| {
            let text = format!(
                "{{ agents: {{ defaults: {{ {llm} }} }}, models: {{ providers: {{ a: {{ baseUrl: 'http://a' }} }} }} }}"
            );
            let config = load_text(&Environment::default(), "offshoot.json", &text).unwrap();
            spec(config.providers.iter().next().unwrap(), config.idle_timeout).stall_timeout
        };
        assert_eq!(stall("llm: { idleTimeoutSeconds: 300 }"), Duration::from_secs(300));
        assert_eq!(stall("llm: { idleTimeoutSeconds: 0 }"), Duration::MAX);
        assert_eq!(stall("llm: {}"), DEFAULT_STALL_TIMEOUT);
    }

    #[test]
    fn a_model_that_cannot_be_called_names_the_setting() {
        let models = models("{}");
        let text = models.resolve("openai/gpt-5.4").unwrap_err().message;
        assert!(text.contains("models.providers.openai.apiKey"), "{text}");
        assert!(text.contains("OPENAI_API_KEY"), "{text}");
        let text = models.resolve("nowhere/x").unwrap_err().message;
        assert!(text.contains("models.providers.nowhere.baseUrl"), "{text}");
        assert!(models.resolve("builtin/other").is_err());
    }
}
