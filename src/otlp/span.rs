//! Spans as a collector reads them: the JSON form of OTLP.

use serde::{Serialize, Serializer};

use super::context::{SpanId, TraceId};
use super::note::Nanos;

/// Work inside the daemon.
pub(super) const INTERNAL: u8 = 1;
/// A request to somebody outside.
pub(super) const CLIENT: u8 = 3;
const ERROR: u8 = 2;

/// A span that is over.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_span_id: Option<SpanId>,
    pub(super) name: String,
    pub(super) kind: u8,
    #[serde(serialize_with = "text")]
    pub(super) start_time_unix_nano: Nanos,
    #[serde(serialize_with = "text")]
    pub(super) end_time_unix_nano: Nanos,
    pub(super) attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<Moment>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) links: Vec<Link>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<Status>,
}

/// A moment in a span.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Moment {
    #[serde(serialize_with = "text")]
    pub(super) time_unix_nano: Nanos,
    pub(super) name: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) attributes: Vec<Attribute>,
}

/// Another span that a span follows from.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Link {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
}

/// That a span failed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Status {
    code: u8,
    message: String,
}

impl Status {
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self { code: ERROR, message: message.into() }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Attribute {
    key: &'static str,
    value: Value,
}

impl Attribute {
    pub(super) fn text(key: &'static str, value: impl ToString) -> Self {
        Self { key, value: Value::Text(value.to_string()) }
    }

    pub(super) const fn number(key: &'static str, value: u64) -> Self {
        Self { key, value: Value::Number(value) }
    }
}

#[derive(Debug, Clone, Serialize)]
enum Value {
    #[serde(rename = "stringValue")]
    Text(String),
    /// Whole numbers of 64 bits are texts in this form.
    #[serde(rename = "intValue", serialize_with = "text")]
    Number(u64),
}

/// What is sent: spans of one process.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Export<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Debug, Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Debug, Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: &'a [Span],
}

#[derive(Debug, Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

impl<'a> Export<'a> {
    pub(super) fn new(service: &str, instance: &str, spans: &'a [Span]) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let resource = Resource {
            attributes: vec![
                Attribute::text("service.name", service),
                Attribute::text("service.version", version),
                Attribute::text("service.instance.id", instance),
            ],
        };
        let scope_spans = [ScopeSpans { scope: Scope { name: "offshoot", version }, spans }];
        Self { resource_spans: [ResourceSpans { resource, scope_spans }] }
    }
}

fn text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}
