//! JSON Schemas from Rust types, in the plain form that every model API takes.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// The schema of a tool's arguments: one object, nothing referenced, no alternatives.
pub(super) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Value::Object(root) = &mut schema {
        root.remove("title");
        // The tool's own description is elsewhere.
        root.remove("description");
        root.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    }
    simplify(&mut schema);
    schema
}

/// Drops what says that a value may be absent: providers differ on `null`, and `required` says it already.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            drop_null(object);
            object.remove("format");
            object.remove("default");
            object.values_mut().for_each(simplify);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}

fn drop_null(object: &mut Map<String, Value>) {
    let null = Value::from("null");
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| *kind != null);
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(mut alternatives)) = object.remove("anyOf") else {
        return;
    };
    alternatives.retain(|schema| schema.get("type") != Some(&null));
    match (alternatives.len(), alternatives.pop()) {
        (1, Some(Value::Object(only))) => {
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
        (_, last) => {
            alternatives.extend(last);
            object.insert("anyOf".to_owned(), Value::Array(alternatives));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
        Green,
    }

    /// Not for the model.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    #[expect(dead_code, reason = "only its schema is of interest")]
    struct Sample {
        /// What.
        #[schemars(required)]
        what: Option<String>,
        /// Which.
        main_colour: Option<Colour>,
        /// How many.
        #[schemars(range(min = 1, max = 9))]
        count: Option<u32>,
        /// Names.
        names: Option<Vec<String>>,
    }

    #[test]
    fn options_become_plain_properties() {
        assert_eq!(
            of::<Sample>(),
            json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["what"],
                "properties": {
                    "what": {"type": "string", "description": "What."},
                    "mainColour": {"type": "string", "enum": ["red", "green"], "description": "Which."},
                    "count": {"type": "integer", "minimum": 1, "maximum": 9, "description": "How many."},
                    "names": {"type": "array", "items": {"type": "string"}, "description": "Names."},
                },
            })
        );
    }
}
