//! Where models are served: `models.providers.*`, and the providers that an API key in the environment is enough for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::types::ModelRef;
use secrecy::SecretString;

use crate::models::{DEFAULT_API, ModelSpec, is_supported, unsupported};

mod read;

pub(super) use read::read;

/// The provider of the models that are part of Offshoot.
pub const BUILTIN: &str = "builtin";

/// An endpoint that serves models.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Its id, lower case: the first part of its models' names.
    pub id: String,
    /// The URL that `/chat/completions` is added to. No slash at its end, no user name, no query.
    pub base_url: String,
    /// Sent as a bearer token. A server that asks for none has none.
    pub api_key: Option<SecretString>,
    /// Added to each request; the names and values are valid in HTTP.
    pub headers: Vec<(String, SecretString)>,
    /// The longest time of one model call, if the configuration sets one.
    pub timeout: Option<Duration>,
    /// What is known of its models. Models that are not listed may be called all the same.
    pub models: Vec<ModelSpec>,
    /// What it speaks, where a model does not say otherwise. It may be nothing that is supported.
    pub api: String,
}

/// Why a model cannot be called, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Nothing is known of the provider.
    #[error("the provider {0:?} is not configured: set models.providers.{0}.baseUrl")]
    NotConfigured(String),
    /// The provider is known, its key is not.
    #[error(
        "the provider {provider:?} has no key: set models.providers.{provider}.apiKey \
         or the environment variable {variable}"
    )]
    NoKey {
        /// The provider.
        provider: String,
        /// The variable that may hold its key.
        variable: &'static str,
    },
    /// The provider's settings do not allow it.
    #[error("the provider {provider:?} cannot be used: {reason}")]
    Unusable {
        /// The provider.
        provider: String,
        /// The setting and what is wrong with it.
        reason: String,
    },
    /// Offshoot itself has no such model.
    #[error("{0} does not exist: builtin/rehearsal is the only model that is part of Offshoot")]
    NotBuiltIn(ModelRef),
}

/// The providers that models are called at.
#[derive(Debug, Clone, Default)]
pub struct Providers {
    entries: BTreeMap<String, Result<Arc<Provider>, Unavailable>>,
}

impl Providers {
    /// The provider that serves a model.
    ///
    /// # Errors
    /// [`Unavailable`] tells what to set. Models of [`BUILTIN`] are not served by a provider.
    pub fn serving(&self, model: &ModelRef) -> Result<&Arc<Provider>, Unavailable> {
        let id = model.provider();
        let entry = self.entries.get(id).ok_or_else(|| Unavailable::NotConfigured(id.to_owned()))?;
        let provider = entry.as_ref().map_err(Clone::clone)?;
        let api = provider.api_of(model.model());
        if is_supported(api) {
            return Ok(provider);
        }
        let reason = format!("the API of {model}: {}", unsupported(format_args!("{api:?}")));
        Err(Unavailable::Unusable { provider: id.to_owned(), reason })
    }

    /// The providers that can be used.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.entries.values().filter_map(|entry| entry.as_ref().ok())
    }
}

impl FromIterator<Provider> for Providers {
    fn from_iter<I: IntoIterator<Item = Provider>>(providers: I) -> Self {
        let entries = providers.into_iter().map(|provider| (provider.id.clone(), Ok(Arc::new(provider))));
        Self { entries: entries.collect() }
    }
}

impl Provider {
    /// An endpoint without a key, where nothing is known of the models. `id` is lower case.
    #[must_use]
    pub fn new(id: impl Into<String>, base_url: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            base_url: base_url.into(),
            api_key: None,
            headers: Vec::new(),
            timeout: None,
            models: Vec::new(),
            api: DEFAULT_API.to_owned(),
        }
    }

    /// What the configuration says about a model, if it lists it.
    #[must_use]
    pub fn model(&self, id: &str) -> Option<&ModelSpec> {
        self.models.iter().find(|model| model.id == id)
    }

    fn api_of(&self, id: &str) -> &str {
        self.model(id).and_then(|model| model.api.as_deref()).unwrap_or(&self.api)
    }
}
