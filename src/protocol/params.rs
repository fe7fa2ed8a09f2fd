//! Typed parameters out of a request, with errors that say where.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment, Track};

use super::error::ErrorShape;

/// Most names of unknown members that are kept of one request.
const MAX_UNKNOWN: usize = 8;
/// Longest path or problem that an error carries, in bytes.
const MAX_TEXT: usize = 300;

/// Parameters, and the members beside them that nobody reads.
#[derive(Debug, Clone)]
pub struct Params<T> {
    /// What was asked for.
    pub value: T,
    /// Paths of members that the type does not know, for a debug line; cut in number and length.
    pub unknown: Vec<String>,
}

/// Reads the parameters of `method`. Left out or null, they are `{}`.
///
/// # Errors
/// `INVALID_REQUEST` with the place of the first problem. Its text quotes no value, which may be a secret.
pub fn parse<T: DeserializeOwned>(method: &str, params: Option<&RawValue>) -> Result<Params<T>, ErrorShape> {
    let text = params.map(RawValue::get).filter(|text| *text != "null").unwrap_or("{}");
    let mut json = serde_json::Deserializer::from_str(text);
    let mut track = Track::new();
    let mut unknown = Vec::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| {
        if unknown.len() < MAX_UNKNOWN {
            unknown.push(cut(&member(&path)).to_owned());
        }
    });
    match read {
        Ok(value) => Ok(Params { value, unknown }),
        Err(error) => {
            let place = pointer(&track.path());
            let at = if place.is_empty() { String::new() } else { format!("at {}: ", cut(&place)) };
            Err(ErrorShape::invalid(format!("invalid {method} params: {at}{}", cut(&problem(&error)))))
        }
    }
}

/// The way to a member, with dots.
fn member(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path::{Map, NewtypeStruct, NewtypeVariant, Root, Seq, Some};
    let (parent, step) = match path {
        Root => return String::new(),
        Some { parent } | NewtypeStruct { parent } | NewtypeVariant { parent } => return member(parent),
        Seq { parent, index } => (member(parent), index.to_string()),
        Map { parent, key } => (member(parent), cut(key).to_owned()),
    };
    if parent.is_empty() { step } else { format!("{parent}.{step}") }
}

/// The path as a JSON pointer, empty for the root.
fn pointer(path: &Path) -> String {
    let steps = path.iter().map(|segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{key}"),
        Segment::Enum { variant } => format!("/{variant}"),
        Segment::Unknown => "/?".to_owned(),
    });
    steps.collect()
}

/// The error without the place that serde gives it and without the value that it quotes.
fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let quotes = ["invalid type: ", "invalid value: "].iter().any(|start| text.starts_with(start));
    match text.rsplit_once(", expected ") {
        Some((_, expected)) if quotes || text.starts_with("unknown variant ") => {
            format!("must be {expected}")
        }
        _ => text.to_owned(),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::value::{RawValue, to_raw_value};
    use serde_json::{Value, json};

    use super::{Params, parse};

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", expecting = "an object")]
    struct Wanted {
        session_key: Option<String>,
        #[serde(default)]
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(expecting = "an object")]
    struct Item {
        size: u8,
        kind: Kind,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        One,
        Two,
    }

    fn read(value: &Value) -> Result<Params<Wanted>, String> {
        parse("test", Some(&to_raw_value(value).unwrap())).map_err(|error| error.message)
    }

    #[test]
    fn left_out_and_null_parameters_are_an_empty_object() {
        let null = RawValue::from_string("null".to_owned()).unwrap();
        for params in [None, Some(&*null)] {
            let read: Params<Wanted> = parse("test", params).unwrap();
            assert_eq!(read.value, Wanted { session_key: None, items: Vec::new() });
        }
    }

    #[test]
    fn unknown_members_are_named_with_their_path() {
        let read = read(&json!({"x": 1, "items": [{"size": 1, "kind": "one", "deep": {"y": 2}}]})).unwrap();
        assert_eq!(read.unknown, ["items.0.deep", "x"]);
        assert_eq!(read.value.items, [Item { size: 1, kind: Kind::One }]);
    }

    #[test]
    fn a_problem_has_its_place_and_quotes_no_value() {
        for (value, expected) in [
            (json!("hunter2"), "must be an object"),
            (json!({"sessionKey": 5}), "at /sessionKey: must be a string"),
            (json!({"items": "hunter2"}), "at /items: must be a sequence"),
            (
                json!({"items": [{"size": 1, "kind": "one"}, {"kind": "two"}]}),
                "at /items/1: missing field `size`",
            ),
            (json!({"items": [{"size": 256, "kind": "two"}]}), "at /items/0/size: must be u8"),
            (json!({"items": [{"size": "hunter2, expected x"}]}), "at /items/0/size: must be u8"),
            (json!({"items": [{"size": 1, "kind": "hunter2"}]}), "at /items/0/kind: must be `one` or `two`"),
        ] {
            let message = read(&value).unwrap_err();
            assert_eq!(message, format!("invalid test params: {expected}"), "{value}");
        }
    }

    #[test]
    fn nesting_too_deep_is_a_problem_not_a_crash() {
        #[derive(Debug, Deserialize)]
        struct Any {
            #[serde(rename = "v")]
            _v: Value,
        }
        let text = format!(r#"{{"v":{}{}}}"#, "[".repeat(500), "]".repeat(500));
        let raw = RawValue::from_string(text).unwrap();
        let error = parse::<Any>("test", Some(&raw)).unwrap_err();
        assert!(error.message.contains("recursion limit"), "{}", error.message);
        assert!(error.message.len() < 700);
    }
}
