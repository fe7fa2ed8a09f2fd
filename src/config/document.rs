//! A configuration as plain JSON: what is in the file, before anything of it is understood.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Number, Value as Json};

use super::read::{REDACTED, is_secret_name, names_a_user};
use super::tree::{Node, Value, whole};

/// What a configuration holds, with its includes, its variables as they are written. Its `Debug` shows no secret.
#[derive(Clone, PartialEq)]
pub struct Document(Arc<Json>);

impl Document {
    pub(super) fn of(node: &Node) -> Self {
        Self(Arc::new(json(node)))
    }

    /// All of it. It holds secrets.
    #[must_use]
    pub fn value(&self) -> &Json {
        &self.0
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document")
    }
}

pub(super) fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(value) => match whole(*value) {
            Some(whole) => whole.into(),
            None => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        },
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Object(members) => {
            Json::Object(members.iter().map(|member| (member.name.clone(), json(&member.node))).collect())
        }
    }
}

/// The same with a placeholder for every secret. Names of variables and references to secrets are none.
#[must_use]
pub fn redacted(value: &Json) -> Json {
    redact(value, false)
}

fn redact(value: &Json, secret: bool) -> Json {
    match value {
        Json::String(text) if is_shown_as_placeholder(text) && (secret || names_a_user(text)) => {
            REDACTED.into()
        }
        Json::Array(items) => items.iter().map(|item| redact(item, secret)).collect(),
        Json::Object(members) => {
            let secret = secret && !is_reference(members);
            let redact = |(name, value): (&String, &Json)| {
                (name.clone(), redact(value, secret || is_secret_name(name)))
            };
            Json::Object(members.iter().map(redact).collect())
        }
        other => other.clone(),
    }
}

/// Whether a text in a secret's place is the secret itself.
pub(super) fn is_shown_as_placeholder(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let variable = name.is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    });
    !text.is_empty() && !variable
}

/// `{source, provider, id}` says where a secret is.
pub(super) fn is_reference(members: &Map<String, Json>) -> bool {
    members.contains_key("source") && members.contains_key("id")
}
