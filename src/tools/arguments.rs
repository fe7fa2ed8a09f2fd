//! A tool's arguments: from the text that a model wrote to a Rust type.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use super::{reply, schema};

/// Bytes of the arguments of one call.
pub(super) const MAX_ARGUMENTS: usize = 1 << 20;

/// Arguments that a tool does not take, and what it takes instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadArguments(pub(super) String);

/// The arguments as an object. Models write nothing at all for a tool without parameters.
pub(super) fn object(text: &str) -> Result<Map<String, Value>, BadArguments> {
    if text.len() > MAX_ARGUMENTS {
        return Err(BadArguments(format!(
            "the arguments have {} bytes, {MAX_ARGUMENTS} are allowed: send less text",
            text.len()
        )));
    }
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(BadArguments(format!("the arguments must be a JSON object, not {}", kind(&other)))),
        Err(error) => Err(BadArguments(format!("the arguments are not valid JSON: {error}"))),
    }
}

/// The arguments as a type all of whose fields may be absent. A `null` counts as absent.
pub(super) fn read<T>(mut object: Map<String, Value>) -> Result<T, BadArguments>
where
    T: DeserializeOwned + JsonSchema,
{
    object.retain(|_, value| !value.is_null());
    object.values_mut().for_each(whole);
    T::deserialize(Value::Object(object.clone())).map_err(|error| explain::<T>(&object, &error))
}

/// The value, unless it is outside of the range that the schema names too.
pub(super) fn within(name: &str, value: u32, range: RangeInclusive<u32>) -> Result<u32, BadArguments> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(BadArguments(format!(
            "parameter {name:?} must be from {} to {}, not {value}",
            range.start(),
            range.end()
        )))
    }
}

/// Text that says something, without white space around it.
pub(super) fn filled(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// `3.0` is an integer to JSON, but not to serde.
fn whole(value: &mut Value) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Some(number) = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < EXACT)
        && !value.is_i64()
        && !value.is_u64()
    {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        let integer = number as i64;
        *value = Value::Number(Number::from(integer));
    }
}

/// Names the parameter that is wrong and what it should be, without repeating its value.
fn explain<T>(object: &Map<String, Value>, error: &serde_json::Error) -> BadArguments
where
    T: DeserializeOwned + JsonSchema,
{
    let schema = schema::of::<T>();
    let properties = schema["properties"].as_object();
    for (name, value) in object {
        let Some(property) = properties.and_then(|properties| properties.get(name)) else {
            let known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            return BadArguments(format!(
                "unknown parameter {:?}; supported: {}",
                reply::clip(name, 64).0,
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            ));
        };
        let alone = Map::from_iter([(name.clone(), value.clone())]);
        if T::deserialize(Value::Object(alone)).is_err() {
            return BadArguments(format!(
                "parameter {name:?} must be {}, not {}",
                expected(property),
                kind(value)
            ));
        }
    }
    BadArguments(format!("wrong arguments: {error}"))
}

/// What a property's schema asks for, in words.
fn expected(property: &Value) -> String {
    if let Some(values) = property["enum"].as_array() {
        let values: Vec<String> = values.iter().map(Value::to_string).collect();
        return match values.as_slice() {
            [only] => only.clone(),
            _ => format!("one of {}", values.join(", ")),
        };
    }
    match property["type"].as_str() {
        Some("integer") => match (property["minimum"].as_f64(), property["maximum"].as_f64()) {
            (Some(min), Some(max)) => format!("an integer from {min} to {max}"),
            (Some(min), None) => format!("an integer of at least {min}"),
            _ => "an integer".to_owned(),
        },
        Some("number") => "a number".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("array") => format!("a list, each item {}", expected(&property["items"])),
        Some("object") => "an object".to_owned(),
        _ => "a string".to_owned(),
    }
}

/// What a value is, in words. Short strings are shown: they are mostly a misspelt choice.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.chars().count() <= 32 => format!("{text:?}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Sample {
        name: Option<String>,
        #[schemars(range(min = 1, max = 9))]
        count: Option<u32>,
        seconds: Option<f64>,
        colour: Option<Colour>,
        many: Option<Vec<Colour>>,
        flag: Option<bool>,
    }

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
        Green,
    }

    fn parse(text: &str) -> Result<Sample, BadArguments> {
        read(object(text)?)
    }

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn nothing_and_null_are_absent() {
        assert_eq!(parse("").unwrap(), Sample::default());
        assert_eq!(parse(r#"{"name": null, "count": null}"#).unwrap(), Sample::default());
    }

    #[test]
    fn a_whole_float_is_an_integer() {
        assert_eq!(parse(r#"{"count": 3.0}"#).unwrap().count, Some(3));
        assert_eq!(parse(r#"{"seconds": 3}"#).unwrap().seconds, Some(3.0));
        assert_eq!(parse(r#"{"seconds": 0.5}"#).unwrap().seconds, Some(0.5));
        assert!(parse(r#"{"seconds": 1e300}"#).unwrap().seconds.is_some());
    }

    #[test]
    fn errors_name_the_parameter_and_what_it_takes() {
        assert_eq!(error(r#"{"name": 5}"#), r#"parameter "name" must be a string, not 5"#);
        assert_eq!(
            error(r#"{"name": "x", "count": "3"}"#),
            r#"parameter "count" must be an integer from 1 to 9, not "3""#
        );
        assert_eq!(
            error(r#"{"count": 1.5}"#),
            r#"parameter "count" must be an integer from 1 to 9, not 1.5"#
        );
        assert_eq!(error(r#"{"seconds": true}"#), r#"parameter "seconds" must be a number, not true"#);
        assert_eq!(error(r#"{"flag": "yes"}"#), r#"parameter "flag" must be true or false, not "yes""#);
        assert_eq!(
            error(r#"{"colour": "blue"}"#),
            r#"parameter "colour" must be one of "red", "green", not "blue""#
        );
        assert_eq!(
            error(r#"{"many": ["blue"]}"#),
            r#"parameter "many" must be a list, each item one of "red", "green", not a list"#
        );
    }

    #[test]
    fn an_unknown_parameter_is_named_with_the_known_ones() {
        assert_eq!(
            error(r#"{"surprise": 1}"#),
            r#"unknown parameter "surprise"; supported: colour, count, flag, many, name, seconds"#
        );
    }

    #[test]
    fn what_is_no_object() {
        assert_eq!(error("[1]"), "the arguments must be a JSON object, not a list");
        assert!(error("{").starts_with("the arguments are not valid JSON: "));
        assert!(error(&" ".repeat(MAX_ARGUMENTS + 1)).contains("1048576 are allowed"));
        assert!(parse(&"[".repeat(100_000)).is_err(), "depth is bounded");
    }

    #[test]
    fn long_values_are_not_repeated() {
        let text = json!({"count": "x".repeat(100_000), "y".repeat(1_000): 1}).to_string();
        assert!(error(&text).len() < 300);
    }

    #[test]
    fn ranges_hold() {
        assert_eq!(within("limit", 9, 1..=9), Ok(9));
        assert_eq!(
            within("limit", 0, 1..=9).unwrap_err().to_string(),
            r#"parameter "limit" must be from 1 to 9, not 0"#
        );
    }
}
