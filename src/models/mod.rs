//! The models that there are: a name leads to a provider, a provider answers.
//!
//! [`Registry`] implements the tree's `Models` port. It holds one provider per configured id and the built-in
//! one. Nothing is opened or built before a model is called, so that a daemon that only rehearses has no
//! socket, and a start does not pay for TLS. There are no retries here: a failed call says what kind of
//! failure it met and how long the provider asks to wait, and the run decides.
//!
//! A new kind of provider is a file with an implementation of `Provider` and a line in `KINDS`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use offshoot_actors::ports::{
    Answer, BoxFuture, Clock, ModelError, ModelErrorKind, ModelRequest, ModelSink, Models,
};
use offshoot_actors::types::ModelRef;

mod openai;
pub mod rehearsal;
pub mod render;
mod spec;

pub use spec::{
    DEFAULT_API, DEFAULT_CONNECT_TIMEOUT, DEFAULT_STALL_TIMEOUT, MaxTokensField, ModelSpec, ProviderSpec,
    SpecError,
};

/// The provider of the models that are part of the program.
const BUILTIN: &str = "builtin";

tokio::task_local! {
    /// Where in a trace a call is made, for the provider: set only where providers are to know.
    pub(crate) static TRACEPARENT: String;
}

/// Makes a provider of its specification, without opening anything.
type Make = fn(ProviderSpec, &Arc<dyn Clock>) -> Result<Arc<dyn Provider>, SpecError>;

/// Every kind of provider, under the name that `models.providers.<id>.api` has for it.
const KINDS: &[(&str, Make)] = &[("openai-completions", openai::make)];

/// Answers for the models of one provider.
trait Provider: Send + Sync {
    /// Whether it has a model of this name.
    fn check(&self, model: &ModelRef) -> Result<(), ModelError>;

    /// Calls a model. Dropping the future ends the call.
    fn call(&self, request: ModelRequest, sink: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>>;
}

/// Whether there is a kind of provider of this name.
#[must_use]
pub fn is_supported(api: &str) -> bool {
    KINDS.iter().any(|(name, _)| *name == api)
}

/// What is said of a kind of provider that there is not.
#[must_use]
pub fn unsupported(quoted: impl fmt::Display) -> String {
    let known: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    format!("{quoted} is not supported: use {}", known.join(" or "))
}

/// A provider as it is configured: of one kind, or of several where a model names its own.
struct Configured {
    id: String,
    api: String,
    /// The models that name their own kind.
    apis: BTreeMap<String, String>,
    /// The kinds that are supported of those that are named.
    kinds: BTreeMap<&'static str, Arc<dyn Provider>>,
}

impl Configured {
    fn new(spec: ProviderSpec, clock: &Arc<dyn Clock>) -> Result<Self, SpecError> {
        let apis: BTreeMap<String, String> =
            spec.models.iter().filter_map(|model| Some((model.id.clone(), model.api.clone()?))).collect();
        let mut kinds = BTreeMap::new();
        for (name, make) in KINDS {
            if spec.api == *name || apis.values().any(|api| api == name) {
                kinds.insert(*name, make(spec.clone(), clock)?);
            }
        }
        Ok(Self { id: spec.id, api: spec.api, apis, kinds })
    }

    /// A kind that is not supported is refused here, when a model of it is asked for.
    fn serving(&self, model: &ModelRef) -> Result<&Arc<dyn Provider>, ModelError> {
        let own = self.apis.get(model.model());
        let api = own.unwrap_or(&self.api);
        self.kinds.get(api.as_str()).ok_or_else(|| {
            let setting = if own.is_some() { "models[].api" } else { "api" };
            let text = unsupported(format_args!("{api:?}"));
            let message = format!("models.providers.{}.{setting} of model {model}: {text}", self.id);
            ModelError::new(ModelErrorKind::NotFound, message)
        })
    }
}

impl Provider for Configured {
    fn check(&self, model: &ModelRef) -> Result<(), ModelError> {
        self.serving(model)?.check(model)
    }

    fn call(&self, request: ModelRequest, sink: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>> {
        match self.serving(&request.model) {
            Ok(provider) => provider.call(request, sink),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }
}

/// Every model that can be called.
pub struct Registry {
    providers: BTreeMap<String, Arc<dyn Provider>>,
    aliases: BTreeMap<String, ModelRef>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("providers", &self.providers.keys())
            .field("aliases", &self.aliases)
            .finish()
    }
}

impl Registry {
    /// The built-in models and the given providers; `aliases` are short names without a slash, in any case.
    ///
    /// A provider of an unknown kind is no error: its models are refused when they are asked for.
    ///
    /// # Errors
    /// The first specification or alias that cannot work, by the name of its setting.
    pub fn new(
        specs: impl IntoIterator<Item = ProviderSpec>,
        aliases: impl IntoIterator<Item = (String, ModelRef)>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SpecError> {
        let mut providers: BTreeMap<String, Arc<dyn Provider>> = BTreeMap::new();
        providers.insert(BUILTIN.to_owned(), Arc::new(rehearsal::Rehearsal::new(Arc::clone(&clock))));
        for mut spec in specs {
            spec.id = provider_id(&spec.id)?;
            let id = spec.id.clone();
            let provider = Arc::new(Configured::new(spec, &clock)?);
            if providers.insert(id.clone(), provider).is_some() {
                let problem = if id == BUILTIN {
                    "this id belongs to the built-in models, choose another"
                } else {
                    "configured twice, ids do not differ by case: remove one"
                };
                return Err(SpecError {
                    path: format!("models.providers.{id}"),
                    problem: problem.to_owned(),
                });
            }
        }
        let mut names = BTreeMap::new();
        for (alias, model) in aliases {
            let name = alias.trim().to_lowercase();
            let path = || format!("agents.defaults.models.{model}.alias");
            if name.is_empty() || name.contains('/') {
                let problem = format!("{alias:?} is no alias: use a name without a slash");
                return Err(SpecError { path: path(), problem });
            }
            match names.get(&name) {
                Some(other) if *other != model => {
                    let problem = format!("{alias:?} is the alias of {other} too: choose another");
                    return Err(SpecError { path: path(), problem });
                }
                _ => names.insert(name, model),
            };
        }
        Ok(Self { providers, aliases: names })
    }

    fn provider(&self, model: &ModelRef) -> Result<&Arc<dyn Provider>, ModelError> {
        let id = model.provider();
        self.providers.get(id).ok_or_else(|| {
            ModelError::new(
                ModelErrorKind::NotFound,
                format!(
                    "no provider {id} is configured for model {model}: add models.providers.{id} with \
                     baseUrl and apiKey"
                ),
            )
        })
    }
}

/// A provider's id as model references have it.
fn provider_id(id: &str) -> Result<String, SpecError> {
    let normal = id.trim().to_ascii_lowercase();
    if normal.is_empty()
        || normal.contains('/')
        || normal.chars().any(|c| c.is_control() || c.is_whitespace())
    {
        let problem = format!("{id:?} is no provider id: use a name without slashes and spaces");
        return Err(SpecError { path: "models.providers".to_owned(), problem });
    }
    Ok(normal)
}

impl Models for Registry {
    fn resolve(&self, name: &str) -> Result<ModelRef, ModelError> {
        let name = name.trim();
        let model = if name.contains('/') {
            name.parse::<ModelRef>()?
        } else {
            self.aliases.get(&name.to_lowercase()).cloned().ok_or_else(|| {
                ModelError::new(
                    ModelErrorKind::NotFound,
                    format!(
                        "unknown model {name:?}: write provider/model, or make it an alias with \
                         agents.defaults.models.<provider/model>.alias"
                    ),
                )
            })?
        };
        self.provider(&model)?.check(&model)?;
        Ok(model)
    }

    fn call(&self, request: ModelRequest, sink: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>> {
        match self.provider(&request.model) {
            Ok(provider) => provider.call(request, sink),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }
}

#[cfg(test)]
mod tests;
