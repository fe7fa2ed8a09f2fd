//! `gateway.*`, kept as it is written for whoever serves clients.

use std::fmt;

use serde_json::Value;

use super::read::{Cursor, is_secret_name};
use super::variables::Variables;

/// The `gateway` section: an object, empty if the configuration has none. Its `Debug` shows no secret.
#[derive(Clone, PartialEq)]
pub struct Gateway(Value);

impl Gateway {
    /// Variables that are set are replaced, the others stay as they are written.
    pub(super) fn read(root: &Cursor<'_>, variables: &Variables<'_>) -> Self {
        let section = root.get("gateway");
        let value = section.map(|section| section.node.to_json(&|text| variables.substitute_known(text)));
        Self(value.unwrap_or_else(|| Value::Object(serde_json::Map::new())))
    }

    /// The section with its secrets.
    #[must_use]
    pub const fn value(&self) -> &Value {
        &self.0
    }

    /// The section with each secret replaced by `[redacted]`, for showing.
    #[must_use]
    pub fn redacted(&self) -> Value {
        redact(&self.0)
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gateway").field(&self.redacted()).finish()
    }
}

fn redact(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(redact).collect(),
        Value::Object(members) => {
            let redacted = members.iter().map(|(name, value)| {
                let hidden = is_secret_name(name) && !value.is_null();
                (name.clone(), if hidden { "[redacted]".into() } else { redact(value) })
            });
            Value::Object(redacted.collect())
        }
        plain => plain.clone(),
    }
}
