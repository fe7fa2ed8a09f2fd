//! `diagnostics.otel`: where traces go.

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::problem::Kind;
use super::read::{Cursor, Reader};
use super::tree::Value;

/// Where a collector listens if nobody says otherwise.
const COLLECTOR: &str = "http://localhost:4318";
/// What follows a collector's address.
const PATH: &str = "/v1/traces";
const SERVICE: &str = "offshoot";

/// Where traces go. Its `Debug` shows no secret.
#[derive(Clone)]
pub struct Otel {
    /// The address that takes traces. It may hold a name or a password.
    pub endpoint: Url,
    /// What is sent with every request.
    pub headers: Vec<(HeaderName, SecretString)>,
    /// `service.name`.
    pub service: String,
    /// Of the traces that begin here, the share that is exported: from 0 to 1.
    pub sample_rate: f64,
    /// Whether providers of models are told the trace.
    pub propagate: bool,
}

impl std::fmt::Debug for Otel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Otel")
            .field("host", &self.endpoint.host_str())
            .field("service", &self.service)
            .field("sample_rate", &self.sample_rate)
            .finish_non_exhaustive()
    }
}

/// Reads it; none if traces are not to be exported.
pub(super) fn read(root: &Cursor<'_>, reader: &mut Reader<'_>) -> Option<Otel> {
    let diagnostics = reader.section(root, "diagnostics")?;
    let any = reader.bool_at(&diagnostics, "enabled").unwrap_or(true);
    let otel = reader.section(&diagnostics, "otel")?;
    let enabled = reader.bool_at(&otel, "enabled").unwrap_or(false);
    let traces = reader.bool_at(&otel, "traces").unwrap_or(true);
    let endpoint = endpoint(&otel, reader);
    let headers = headers(&otel, reader);
    let service = otel.get("serviceName").and_then(|name| reader.filled_text(&name));
    let sample_rate = rate(&otel, reader).unwrap_or(1.0);
    let propagate = reader.bool_at(&otel, "propagate").unwrap_or(false);
    if !(any && enabled && traces) {
        return None;
    }
    if !cfg!(feature = "otlp")
        && let Some(cursor) = otel.get("enabled")
    {
        let text = "this build has no OTLP, and no trace is exported: build with --features otlp";
        reader.warning(&cursor, Kind::Value, text);
    }
    let variable = |name| reader.variables.get(name).map(str::to_owned);
    let service = service.or_else(|| variable("OTEL_SERVICE_NAME"));
    Some(Otel {
        endpoint: endpoint?,
        headers,
        service: service.unwrap_or_else(|| SERVICE.to_owned()),
        sample_rate,
        propagate,
    })
}

/// The configured one, else that of the environment, else the usual one.
fn endpoint(otel: &Cursor<'_>, reader: &mut Reader<'_>) -> Option<Url> {
    const FORM: &str = "an http or https URL such as http://localhost:4318";
    if let Some(cursor) = otel.get("endpoint") {
        let text = reader.filled_text(&cursor)?;
        let url = url(&with_path(&text));
        if url.is_none() {
            reader.wrong(&cursor, FORM);
        }
        return url;
    }
    let exact = reader.variables.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").map(str::to_owned);
    let base = reader.variables.get("OTEL_EXPORTER_OTLP_ENDPOINT").map(with_path);
    let named = exact.or(base).unwrap_or_else(|| with_path(COLLECTOR));
    let url = url(&named);
    if url.is_none() {
        let text = format!("the environment's OTEL_EXPORTER_OTLP_ENDPOINT is not {FORM}");
        reader.error(otel, Kind::Variable, text);
    }
    url
}

fn with_path(base: &str) -> String {
    let base = base.trim().trim_end_matches('/');
    if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") }
}

fn url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// The configured ones, else those of the environment, which are written `name=value,name=value`.
fn headers(otel: &Cursor<'_>, reader: &mut Reader<'_>) -> Vec<(HeaderName, SecretString)> {
    let Some(section) = reader.section(otel, "headers") else {
        let vars = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
        let all = vars.iter().find_map(|name| reader.variables.get(name)).unwrap_or_default();
        let pairs = all.split(',').filter_map(|pair| pair.split_once('='));
        let read = pairs.filter_map(|(name, value)| {
            let value = value.trim();
            HeaderValue::from_str(value).ok()?;
            Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value.into()))
        });
        return read.collect();
    };
    let mut read = Vec::new();
    for (member, cursor) in section.members() {
        let Ok(name) = HeaderName::from_bytes(member.name.as_bytes()) else {
            reader.error(&cursor, Kind::Value, "not a name that an HTTP header can have");
            continue;
        };
        let Some(value) = reader.secret_at(&section, &member.name) else { continue };
        if HeaderValue::from_str(value.expose_secret()).is_err() {
            reader.error(&cursor, Kind::Value, "holds characters that an HTTP header cannot carry");
        } else {
            read.push((name, value));
        }
    }
    read
}

fn rate(otel: &Cursor<'_>, reader: &mut Reader<'_>) -> Option<f64> {
    let cursor = otel.get("sampleRate")?;
    match cursor.node.value {
        Value::Number(rate) if (0.0..=1.0).contains(&rate) => Some(rate),
        _ => {
            reader.wrong(&cursor, "a number from 0 to 1");
            None
        }
    }
}
