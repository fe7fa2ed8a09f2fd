//! Where models are served: `models.providers.*`, and the providers that an API key in the environment is enough for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::types::ModelRef;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::SecretString;

use super::problem::{Kind, Problems, Severity};
use super::read::{Cursor, Reader, not_set};
use super::tree::{Place, Value};
use super::variables::is_name;

/// The provider of the models that are part of Offshoot.
pub const BUILTIN: &str = "builtin";
/// The one API that models are spoken to with.
const API: &str = "openai-completions";
/// Largest value of a setting in seconds.
const MAX_SECONDS: u32 = 1_000_000_000;

/// A provider that needs only its key: id, base URL, and the variable that may hold the key.
const WELL_KNOWN: &[(&str, &str, &str)] = &[
    ("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    ("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    ("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    ("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    ("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    ("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    ("together", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    ("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
];

/// An endpoint that speaks OpenAI's chat completions.
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
    pub models: Vec<ProviderModel>,
    api: Option<String>,
}

/// What the configuration says about one model.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderModel {
    /// The name that the provider knows it by.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Tokens of a prompt and its answer together.
    pub context_window: Option<u32>,
    /// Tokens of one answer.
    pub max_tokens: Option<u32>,
    /// What it costs.
    pub cost: Option<Cost>,
    api: Option<String>,
}

/// Prices in dollars for a million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Of the prompt.
    pub input: f64,
    /// Of the answer.
    pub output: f64,
    /// Of the prompt, taken from the provider's cache.
    pub cache_read: f64,
    /// Of the prompt, put into the provider's cache.
    pub cache_write: f64,
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
    /// The model, or its provider as a whole, speaks another API.
    #[error("{model} speaks {api}, which is not supported: only {API} is")]
    Api {
        /// The model.
        model: ModelRef,
        /// What it speaks.
        api: String,
    },
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
        match provider.api_of(model.model()) {
            None => Ok(provider),
            Some(api) => Err(Unavailable::Api { model: model.clone(), api: api.to_owned() }),
        }
    }

    /// The providers that can be used.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.entries.values().filter_map(|entry| entry.as_ref().ok())
    }
}

impl Provider {
    /// What the configuration says about a model, if it lists it.
    #[must_use]
    pub fn model(&self, id: &str) -> Option<&ProviderModel> {
        self.models.iter().find(|model| model.id == id)
    }

    /// The API of a model where it is not the supported one.
    fn api_of(&self, id: &str) -> Option<&str> {
        let own = self.model(id).and_then(|model| model.api.as_deref());
        own.or(self.api.as_deref()).filter(|api| *api != API)
    }
}

/// Something that keeps a provider, or one of its models, from being used. It stops the daemon only if an agent needs it.
pub(super) struct Fault {
    provider: String,
    reach: Reach,
    place: Place,
    path: String,
    kind: Kind,
    text: String,
}

#[derive(PartialEq, Eq)]
enum Reach {
    Provider,
    ModelsWithoutApi,
    Model(String),
}

impl Fault {
    fn affects(&self, model: &ModelRef, listed: &BTreeMap<(String, String), bool>) -> bool {
        self.provider == model.provider()
            && match &self.reach {
                Reach::Provider => true,
                Reach::Model(id) => id == model.model(),
                Reach::ModelsWithoutApi => {
                    let key = (self.provider.clone(), model.model().to_owned());
                    !listed.get(&key).copied().unwrap_or(false)
                }
            }
    }
}

/// The providers and what is wrong with them.
#[derive(Default)]
pub(super) struct Found {
    pub(super) providers: Providers,
    faults: Vec<Fault>,
    /// For each listed model, whether it names its own API.
    listed: BTreeMap<(String, String), bool>,
}

impl Found {
    /// Says what is wrong: an error where a model in `used` needs it, else a warning. Each of `used` stands beside the
    /// setting that names it.
    pub(super) fn report(&self, used: &[(ModelRef, String)], problems: &mut Problems) {
        for fault in &self.faults {
            let user = used.iter().find(|(model, _)| fault.affects(model, &self.listed));
            let (severity, text) = match user {
                Some((_, path)) => (Severity::Error, format!("{} (needed by {path})", fault.text)),
                None => (Severity::Warning, format!("{} (no agent needs it)", fault.text)),
            };
            problems.add(severity, fault.place, fault.kind, &fault.path, text);
        }
    }
}

/// Reads `models.providers` and adds the well-known ones.
pub(super) fn read(root: &Cursor<'_>, reader: &mut Reader<'_>) -> Found {
    let mut found = Found::default();
    if let Some(models) = reader.section(root, "models")
        && let Some(providers) = reader.section(&models, "providers")
    {
        for (member, cursor) in providers.members() {
            let id = member.name.trim().to_ascii_lowercase();
            if id.is_empty() || id.contains('/') || id == BUILTIN {
                let text = format!("a provider's name is not empty, holds no slash and is not {BUILTIN}");
                reader.error(&cursor, Kind::Value, text);
            } else if found.providers.entries.contains_key(&id) {
                let text = format!("the provider {id:?} is configured twice: names are the same in any case");
                reader.error(&cursor, Kind::Value, text);
            } else if reader.is_object(&cursor) {
                let provider = ProviderReader { id: &id, reader, found: &mut found }.read(&cursor);
                found.providers.entries.insert(id, provider.map(Arc::new));
            }
        }
    }
    for &(id, base_url, variable) in WELL_KNOWN {
        found.providers.entries.entry(id.to_owned()).or_insert_with(|| {
            match reader.variables.get(variable) {
                None => Err(Unavailable::NoKey { provider: id.to_owned(), variable }),
                Some(key) => Ok(Arc::new(Provider {
                    id: id.to_owned(),
                    base_url: base_url.to_owned(),
                    api_key: Some(key.trim().into()),
                    headers: Vec::new(),
                    timeout: None,
                    models: Vec::new(),
                    api: None,
                })),
            }
        });
    }
    found
}

struct ProviderReader<'r, 'v> {
    id: &'r str,
    reader: &'r mut Reader<'v>,
    found: &'r mut Found,
}

impl ProviderReader<'_, '_> {
    fn read(&mut self, at: &Cursor<'_>) -> Result<Provider, Unavailable> {
        let first_fault = self.found.faults.len();
        let well_known = WELL_KNOWN.iter().find(|(id, ..)| *id == self.id);
        let api = self.api(at, Reach::ModelsWithoutApi);
        let base_url = match at.get("baseUrl") {
            Some(cursor) => self.base_url(&cursor),
            None => {
                let known = well_known.map(|(_, base_url, _)| (*base_url).to_owned());
                if known.is_none() {
                    let text = "baseUrl is missing: add the URL that /chat/completions is added to";
                    self.fault(at, Reach::Provider, Kind::Value, text);
                }
                known
            }
        };
        let mut api_key = at.get("apiKey").and_then(|cursor| self.secret(&cursor));
        if let (None, Some((_, _, variable))) = (&api_key, well_known) {
            api_key = self.reader.variables.get(variable).map(|key| key.trim().into());
            if api_key.is_none() && at.get("baseUrl").is_none() && self.found.faults.len() == first_fault {
                let text = format!("apiKey is missing: add it, or set the environment variable {variable}");
                self.fault(at, Reach::Provider, Kind::Value, text);
            }
        }
        let headers = self.headers(at);
        let timeout = self.reader.whole_at(at, "timeoutSeconds", 1..=MAX_SECONDS);
        let models = self.models(at);
        let fault = self.found.faults[first_fault..].iter().find(|fault| fault.reach == Reach::Provider);
        match (base_url, fault) {
            (Some(base_url), None) => Ok(Provider {
                id: self.id.to_owned(),
                base_url,
                api_key,
                headers,
                timeout: timeout.map(|seconds| Duration::from_secs(seconds.into())),
                models,
                api,
            }),
            (_, fault) => {
                let reason = fault.map_or_else(
                    || format!("models.providers.{}.baseUrl is wrong", self.id),
                    |fault| format!("{}: {}", fault.path, fault.text),
                );
                Err(Unavailable::Unusable { provider: self.id.to_owned(), reason })
            }
        }
    }

    fn fault(&mut self, at: &Cursor<'_>, reach: Reach, kind: Kind, text: impl Into<String>) {
        let path = at.trail.to_string();
        let (provider, text) = (self.id.to_owned(), text.into());
        self.found.faults.push(Fault { provider, reach, place: at.place(), path, kind, text });
    }

    fn api(&mut self, parent: &Cursor<'_>, reach: Reach) -> Option<String> {
        let cursor = parent.get("api")?;
        let api = self.reader.text(&cursor)?;
        if api != API {
            self.fault(&cursor, reach, Kind::Value, format!("{api:?} is not supported: only {API} is"));
        }
        Some(api)
    }

    /// The URL may hold a password, so no problem quotes it.
    fn base_url(&mut self, cursor: &Cursor<'_>) -> Option<String> {
        let raw = self.reader.raw_text(cursor)?;
        let reason = match self.reader.variables.substitute(raw) {
            Err(name) => {
                self.fault(cursor, Reach::Provider, Kind::Variable, not_set(&name));
                return None;
            }
            Ok(text) => match Url::parse(text.trim()) {
                Ok(url) if !matches!(url.scheme(), "http" | "https") => "not a URL with http or https",
                Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                    "holds a user name or a password: put them into headers.Authorization"
                }
                Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                    "holds a ? or a #: end it with the path that /chat/completions is added to"
                }
                Ok(url) => return Some(url.as_str().trim_end_matches('/').to_owned()),
                Err(_) => "not a URL such as https://host/v1",
            },
        };
        self.fault(cursor, Reach::Provider, Kind::Value, reason);
        None
    }

    /// A secret as a string, as the name of a variable, or as `{source: "env", id}`.
    fn secret(&mut self, cursor: &Cursor<'_>) -> Option<SecretString> {
        let variables = self.reader.variables;
        let value = match &cursor.node.value {
            Value::Text(text) if is_name(text) && variables.get(text).is_some() => {
                variables.get(text).map(str::to_owned)?
            }
            Value::Text(text) if is_name(text) && text.ends_with("_API_KEY") => {
                let text = format!("the environment variable {text} is not set");
                self.fault(cursor, Reach::Provider, Kind::Variable, text);
                return None;
            }
            Value::Text(text) => match variables.substitute(text) {
                Ok(text) => text.into_owned(),
                Err(name) => {
                    self.fault(cursor, Reach::Provider, Kind::Variable, not_set(&name));
                    return None;
                }
            },
            Value::Object(_) => self.secret_ref(cursor)?,
            _ => {
                self.reader.wrong(cursor, "a string or {source: \"env\", id: \"NAME\"}");
                return None;
            }
        };
        let value = value.trim();
        if HeaderValue::from_str(value).is_err() {
            let text = "holds characters that an HTTP header cannot carry";
            self.fault(cursor, Reach::Provider, Kind::Value, text);
            return None;
        }
        (!value.is_empty()).then(|| value.into())
    }

    fn secret_ref(&mut self, cursor: &Cursor<'_>) -> Option<String> {
        let Some(source) = cursor.get("source") else {
            self.reader.error(
                cursor,
                Kind::Value,
                "source is missing: write {source: \"env\", id: \"NAME\"}",
            );
            return None;
        };
        if self.reader.raw_text(&source)? != "env" {
            let text = "secrets are read from the environment only: write {source: \"env\", id: \"NAME\"}";
            self.fault(&source, Reach::Provider, Kind::Value, text);
            return None;
        }
        let Some(id) = cursor.get("id") else {
            let text = "id is missing: add the name of the environment variable";
            self.reader.error(cursor, Kind::Value, text);
            return None;
        };
        let name = self.reader.raw_text(&id)?;
        let value = self.reader.variables.get(name).map(str::to_owned);
        if value.is_none() {
            let text = "the environment variable that it names is not set";
            self.fault(&id, Reach::Provider, Kind::Variable, text);
        }
        value
    }

    fn headers(&mut self, parent: &Cursor<'_>) -> Vec<(String, SecretString)> {
        let Some(headers) = self.reader.section(parent, "headers") else { return Vec::new() };
        let mut read = Vec::new();
        for (member, cursor) in headers.members() {
            if HeaderName::from_bytes(member.name.as_bytes()).is_err() {
                self.reader.error(&cursor, Kind::Value, "not a name that an HTTP header can have");
            } else if let Some(value) = self.secret(&cursor) {
                read.push((member.name.clone(), value));
            }
        }
        read
    }

    fn models(&mut self, parent: &Cursor<'_>) -> Vec<ProviderModel> {
        let Some(models) = self.reader.list(parent, "models") else { return Vec::new() };
        models.items().filter_map(|cursor| self.model(&cursor)).collect()
    }

    fn model(&mut self, at: &Cursor<'_>) -> Option<ProviderModel> {
        if !self.reader.is_object(at) {
            return None;
        }
        let name = self.reader.text_at(at, "name");
        let context_window = self.reader.whole_at(at, "contextWindow", 1..=u32::MAX);
        let max_tokens = self.reader.whole_at(at, "maxTokens", 1..=u32::MAX);
        let cost = self.reader.section(at, "cost").map(|cost| {
            let mut price = |name| self.reader.amount_at(&cost, name).unwrap_or(0.0);
            Cost {
                input: price("input"),
                output: price("output"),
                cache_read: price("cacheRead"),
                cache_write: price("cacheWrite"),
            }
        });
        let Some(id) = at.get("id") else {
            self.reader.error(
                at,
                Kind::Value,
                "id is missing: add the name that the provider knows the model by",
            );
            return None;
        };
        let id = self.reader.filled_text(&id)?;
        let api = self.api(at, Reach::Model(id.clone()));
        self.found.listed.insert((self.id.to_owned(), id.clone()), api.is_some());
        Some(ProviderModel {
            name: name.unwrap_or_else(|| id.clone()),
            id,
            context_window,
            max_tokens,
            cost,
            api,
        })
    }
}
