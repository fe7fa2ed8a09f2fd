//! Reads `models.providers`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::policy::cost::Price;
use offshoot_actors::types::ModelRef;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::SecretString;

use super::super::problem::{Kind, Problems, Severity};
use super::super::read::{Cursor, Reader, not_set};
use super::super::tree::{Place, Value};
use super::super::variables::is_name;
use super::{BUILTIN, Provider, Providers, Unavailable};
use crate::models::{DEFAULT_API, MaxTokensField, ModelSpec, is_supported, unsupported};

/// Largest value of a setting in seconds.
const MAX_SECONDS: u32 = 1_000_000_000;

/// The request field that bounds an answer, by its name.
const MAX_TOKENS_FIELDS: &[(&str, MaxTokensField)] = &[
    ("max_tokens", MaxTokensField::MaxTokens),
    ("max_completion_tokens", MaxTokensField::MaxCompletionTokens),
];

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

/// Something that keeps a provider, or one of its models, from being used. It stops the daemon only if an agent needs it.
pub(in crate::config) struct Fault {
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
pub(in crate::config) struct Found {
    pub(in crate::config) providers: Providers,
    /// What their models cost, as far as it is said.
    pub(in crate::config) prices: Vec<(ModelRef, Price)>,
    faults: Vec<Fault>,
    /// For each listed model, whether it names its own API.
    listed: BTreeMap<(String, String), bool>,
}

impl Found {
    /// Says what is wrong: an error where a model in `used` needs it, else a warning. Each of `used` stands beside the
    /// setting that names it.
    pub(in crate::config) fn report(&self, used: &[(ModelRef, String)], problems: &mut Problems) {
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
pub(in crate::config) fn read(root: &Cursor<'_>, reader: &mut Reader<'_>) -> Found {
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
                Some(key) => {
                    Ok(Arc::new(Provider { api_key: Some(key.trim().into()), ..Provider::new(id, base_url) }))
                }
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
                api: api.unwrap_or_else(|| DEFAULT_API.to_owned()),
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
        if !is_supported(&api) {
            self.fault(&cursor, reach, Kind::Value, unsupported(cursor.quote()));
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

    fn models(&mut self, parent: &Cursor<'_>) -> Vec<ModelSpec> {
        let Some(models) = self.reader.list(parent, "models") else { return Vec::new() };
        models.items().filter_map(|cursor| self.model(&cursor)).collect()
    }

    /// A price that cannot be one is passed over: no model is worse for it.
    fn price(&mut self, at: &Cursor<'_>, model: &str) {
        let Some(cost) = self.reader.section(at, "cost") else { return };
        let amount = |name: &str| {
            let cursor = cost.get(name)?;
            match cursor.node.value {
                Value::Number(dollars) if dollars.is_finite() && dollars >= 0.0 => Some(dollars),
                _ => {
                    let text =
                        "not a price in US dollars for a million tokens: what this model costs is not known";
                    self.reader.warning(&cursor, Kind::Value, text);
                    Some(f64::NAN)
                }
            }
        };
        let [input, output, read, write] = ["input", "output", "cacheRead", "cacheWrite"].map(amount);
        // What comes from the cache costs as much as the rest, unless something else is said.
        let (input, output) = (input.unwrap_or_default(), output.unwrap_or_default());
        let price =
            Price { input, output, cache_read: read.unwrap_or(input), cache_write: write.unwrap_or(input) };
        let known =
            [price.input, price.output, price.cache_read, price.cache_write].iter().all(|p| p.is_finite());
        if known && let Ok(model) = format!("{}/{model}", self.id).parse() {
            self.found.prices.push((model, price));
        }
    }

    fn model(&mut self, at: &Cursor<'_>) -> Option<ModelSpec> {
        if !self.reader.is_object(at) {
            return None;
        }
        let max_tokens = self.reader.whole_at(at, "maxTokens", 1..=u32::MAX);
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
        let mut model = ModelSpec { max_tokens, api, ..ModelSpec::new(id) };
        self.price(at, &model.id);
        if let Some(compat) = self.reader.section(at, "compat") {
            let mut flag = |name, usual| self.reader.bool_at(&compat, name).unwrap_or(usual);
            model.streams_usage = flag("supportsUsageInStreaming", model.streams_usage);
            model.takes_tools = flag("supportsTools", model.takes_tools);
            model.max_tokens_field = self.reader.word_at(&compat, "maxTokensField", MAX_TOKENS_FIELDS);
        }
        Some(model)
    }
}
