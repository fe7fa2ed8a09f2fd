//! What went wrong, as a kind for the run and in words for a person, without secrets.

use std::cmp::Reverse;
use std::error::Error as _;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use offshoot_actors::ports::{ModelError, ModelErrorKind};
use offshoot_actors::types::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// Longest quotation of what a provider says, in characters.
const MAX_QUOTE: usize = 400;
/// Nothing shorter is a secret, and taking it out would only garble the quotation.
const MIN_SECRET: usize = 4;
/// Words before a secret that are none themselves.
const SCHEMES: &[&str] = &["basic", "bearer", "token"];
/// Longer wishes to wait are cut to this: a run has its own deadline.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Puts failures of one provider into words.
pub(super) struct Reporter {
    id: String,
    /// Host and port, the part of the address that holds no secret.
    host: String,
    secrets: Vec<SecretString>,
}

impl Reporter {
    /// For the provider `id` at `host`, never quoting any of `secrets`.
    pub(super) fn new(id: String, host: String, secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let mut secrets: Vec<SecretString> =
            secrets.into_iter().filter(|secret| secret.expose_secret().len() >= MIN_SECRET).collect();
        // A secret may hold another one; taking the shorter one out first would leave the rest of the longer.
        secrets.sort_by_key(|secret| Reverse(secret.expose_secret().len()));
        Self { id, host, secrets }
    }

    /// An answer with a status that is no success. `complete` says whether `body` is all of it.
    pub(super) fn status(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        complete: bool,
        now: Timestamp,
    ) -> ModelError {
        let said = Said::parse(body);
        let kind = refine(kind_of_status(status.as_u16()), &said);
        let mut error = if status.is_redirection() {
            self.redirected(headers)
        } else {
            let what = format!("status {}", status.as_u16());
            self.error(kind, &what, &self.quote(&said.message, complete))
        };
        error.retry_after = retry_after(headers, now);
        error
    }

    /// An error object inside an answer that began well.
    pub(super) fn in_stream(&self, error: &Value) -> ModelError {
        let said = Said::of(error);
        let base = said.status.map_or(ModelErrorKind::Server, kind_of_status);
        self.error(refine(base, &said), "an error in its answer", &self.quote(&said.message, true))
    }

    /// No connection, or it broke before the answer began.
    pub(super) fn network(&self, error: &reqwest::Error) -> ModelError {
        let mut cause = error.source();
        let mut deepest = String::new();
        while let Some(error) = cause {
            deepest = error.to_string();
            cause = error.source();
        }
        let what = if error.is_timeout() { "no connection in time" } else { "no answer" };
        self.error(ModelErrorKind::Network, what, &self.quote(&deepest, true))
    }

    /// The HTTP client cannot be made.
    pub(super) fn client(&self, error: &reqwest::Error) -> ModelError {
        let message = format!("the HTTP client of provider {} cannot start: {error}", self.id);
        ModelError::new(ModelErrorKind::BadRequest, message)
    }

    /// No byte for too long.
    pub(super) fn stalled(&self, after: Duration) -> ModelError {
        ModelError::new(
            ModelErrorKind::Stalled,
            format!(
                "provider {} at {} sent nothing for {after:?}; agents.defaults.llm.idleTimeoutSeconds sets how long it may",
                self.id, self.host
            ),
        )
    }

    /// The whole call took too long.
    pub(super) fn too_slow(&self, after: Duration) -> ModelError {
        ModelError::new(
            ModelErrorKind::Stalled,
            format!("provider {} at {} did not finish its answer within {after:?}", self.id, self.host),
        )
    }

    /// The answer ended before it was complete.
    pub(super) fn cut(&self) -> ModelError {
        ModelError::new(
            ModelErrorKind::Cut,
            format!("provider {} at {} ended its answer before it was complete", self.id, self.host),
        )
    }

    /// The answer does not have the protocol's form.
    pub(super) fn protocol(&self, problem: &str, quoted: &[u8]) -> ModelError {
        let quote = self.quote(&String::from_utf8_lossy(quoted), true);
        self.error(ModelErrorKind::Protocol, &self.quote(problem, true), &quote)
    }

    fn redirected(&self, headers: &HeaderMap) -> ModelError {
        let to = headers.get(LOCATION).map(|to| self.quote(&String::from_utf8_lossy(to.as_bytes()), true));
        let Self { id, host, .. } = self;
        let to = to.as_deref().unwrap_or("an address that it does not name");
        let message = format!(
            "provider {id} at {host} redirects to {to}, which is not followed because the key would go there; \
             if it is right, put it into models.providers.{id}.baseUrl"
        );
        ModelError::new(ModelErrorKind::BadRequest, message)
    }

    fn error(&self, kind: ModelErrorKind, what: &str, quote: &str) -> ModelError {
        let Self { id, host, .. } = self;
        let colon = if quote.is_empty() { "" } else { ": " };
        let advice = match kind {
            ModelErrorKind::Auth => format!("; check models.providers.{id}.apiKey"),
            ModelErrorKind::Billing => format!("; the account of models.providers.{id}.apiKey has no credit"),
            ModelErrorKind::NotFound => format!("; check the model's name and models.providers.{id}.baseUrl"),
            ModelErrorKind::Network | ModelErrorKind::Protocol => {
                format!("; check models.providers.{id}.baseUrl")
            }
            _ => String::new(),
        };
        ModelError::new(kind, format!("provider {id} at {host}: {what}{colon}{quote}{advice}"))
    }

    /// Foreign text as an error may show it: one line, bounded, without secrets.
    fn quote(&self, text: &str, complete: bool) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret.expose_secret(), "[redacted]");
        }
        if !complete {
            // A secret may have been cut in two where the text ends.
            let longest = self.secrets.iter().map(|secret| secret.expose_secret().len()).max().unwrap_or(0);
            let end = text.floor_char_boundary(text.len().saturating_sub(longest));
            text.truncate(end);
        }
        let words: Vec<&str> = text
            .split(|c: char| c.is_whitespace() || c.is_control())
            .filter(|word| !word.is_empty())
            .collect();
        let line = words.join(" ");
        match line.char_indices().nth(MAX_QUOTE) {
            Some((end, _)) => format!("{}...", &line[..end]),
            None => line,
        }
    }
}

/// What a provider must not be quoted with of a configured header: its value, and the parts of it that a server
/// takes as the secret: each word but the scheme's name, and what a `Basic` word stands for.
pub(super) fn secrets_of_header(name: &str, value: &SecretString) -> Vec<SecretString> {
    let whole = value.expose_secret();
    let mut secrets = vec![value.clone()];
    let mut words = whole.split_whitespace();
    let known = |word: &str| SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
    let scheme = words.clone().next().filter(|word| {
        words.clone().nth(1).is_some()
            && (name.to_ascii_lowercase().ends_with("authorization") || known(word))
    });
    if scheme.is_some() {
        words.next();
    }
    let basic = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic"));
    for word in words {
        secrets.push(word.into());
        if basic && let Some(pair) = STANDARD.decode(word).ok().and_then(|pair| String::from_utf8(pair).ok())
        {
            secrets.extend(pair.split_once(':').map(|(_, password)| password.into()));
            secrets.push(pair.into());
        }
    }
    secrets
}

/// What an error body says, whichever of the usual forms it has.
#[derive(Debug, Default)]
struct Said {
    message: String,
    /// The names that the error goes by, lower case.
    names: Vec<String>,
    /// An HTTP status given as the error's code.
    status: Option<u16>,
}

impl Said {
    fn parse(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Self::of(&value),
            Err(_) => Self { message: String::from_utf8_lossy(body).into_owned(), ..Self::default() },
        }
    }

    fn of(value: &Value) -> Self {
        let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
        let error = value.get("error").unwrap_or(value);
        let message = match error {
            Value::String(text) => text.clone(),
            _ => ["message", "detail", "error_description"]
                .iter()
                .find_map(|field| error.get(field)?.as_str())
                .map_or_else(|| error.to_string(), str::to_owned),
        };
        let fields = ["code", "type", "status"].iter().filter_map(|field| error.get(field));
        let (mut names, mut status) = (Vec::new(), None);
        for field in fields {
            match field {
                Value::String(name) => names.push(name.to_ascii_lowercase()),
                other => status = status.or_else(|| other.as_u64().and_then(|code| u16::try_from(code).ok())),
            }
        }
        Self { message, names, status }
    }

    fn is(&self, known: &[&str]) -> bool {
        self.names.iter().any(|name| known.contains(&name.as_str()))
    }
}

fn kind_of_status(status: u16) -> ModelErrorKind {
    match status {
        401 | 403 => ModelErrorKind::Auth,
        402 => ModelErrorKind::Billing,
        404 => ModelErrorKind::NotFound,
        429 => ModelErrorKind::RateLimited,
        503 | 529 => ModelErrorKind::Overloaded,
        // A time-out or a conflict on the provider's side passes like its other failures.
        408 | 409 | 425 | 500..=599 => ModelErrorKind::Server,
        _ => ModelErrorKind::BadRequest,
    }
}

/// The kind by the error's name, where that says more than its status.
fn refine(kind: ModelErrorKind, said: &Said) -> ModelErrorKind {
    use ModelErrorKind::{
        Auth, BadRequest, Billing, ContextLength, NotFound, Overloaded, RateLimited, Server,
    };
    let too_long = said.is(&["context_length_exceeded", "exceed_context_size_error"])
        // Servers without codes say it in this sentence, which all of them took from one source.
        || said.message.contains("maximum context length");
    match kind {
        BadRequest | Server if too_long => ContextLength,
        RateLimited | Server | BadRequest if said.is(&["insufficient_quota", "billing_error"]) => Billing,
        Server if said.is(&["overloaded_error", "overloaded", "unavailable"]) => Overloaded,
        Server if said.is(&["rate_limit_exceeded", "rate_limit_error", "resource_exhausted"]) => RateLimited,
        Server if said.is(&["invalid_api_key", "authentication_error", "permission_error"]) => Auth,
        Server | BadRequest if said.is(&["model_not_found"]) => NotFound,
        Server if said.is(&["invalid_request_error"]) => BadRequest,
        other => other,
    }
}

/// How long the provider asks to wait: in milliseconds, in seconds, or until a date. The date counts from
/// the provider's own clock where it says what that is.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let wish = if let Some(millis) = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        Duration::try_from_secs_f64(millis / 1_000.0).ok()?
    } else {
        let value = text(RETRY_AFTER.as_str())?;
        if let Ok(seconds) = value.parse::<f64>() {
            Duration::try_from_secs_f64(seconds).ok()?
        } else {
            let until = httpdate::parse_http_date(value).ok()?;
            let from = text(DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok());
            let own =
                || SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(now.0).unwrap_or_default());
            until.duration_since(from.unwrap_or_else(own)).unwrap_or_default()
        }
    };
    Some(wish.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests;
