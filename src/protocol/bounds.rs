//! Bounds on what a client says of itself, checked while it is read. No error quotes a value: it may be a secret.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::Serializer;

/// Reads a string of `MIN` to `MAX` bytes.
pub(super) fn text<'de, D: Deserializer<'de>, const MIN: usize, const MAX: usize>(
    deserializer: D,
) -> Result<String, D::Error> {
    Text::<MIN, MAX>::deserialize(deserializer).map(|text| text.0)
}

/// Reads a string of `MIN` to `MAX` bytes, or null for none.
pub(super) fn optional_text<'de, D: Deserializer<'de>, const MIN: usize, const MAX: usize>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    Ok(Option::<Text<MIN, MAX>>::deserialize(deserializer)?.map(|text| text.0))
}

/// Reads at most `COUNT` strings of 1 to `MAX` bytes; null is the empty list.
pub(super) fn texts<'de, D: Deserializer<'de>, const COUNT: usize, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Texts<COUNT, MAX>>::deserialize(deserializer)?.map_or_else(Vec::new, |texts| texts.0))
}

/// Reads a secret of up to `MAX` bytes, or null for none. An empty one is none.
pub(super) fn secret<'de, D: Deserializer<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
    let text = Option::<Text<0, MAX>>::deserialize(deserializer)?.map(|text| text.0);
    Ok(text.filter(|text| !text.is_empty()).map(SecretString::from))
}

/// Writes a secret for the one who is to have it.
pub(super) fn expose<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => serializer.serialize_some(secret.expose_secret()),
        None => serializer.serialize_none(),
    }
}

struct Text<const MIN: usize, const MAX: usize>(String);

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded<const MIN: usize, const MAX: usize>;

        impl<const MIN: usize, const MAX: usize> Visitor<'_> for Bounded<MIN, MAX> {
            type Value = Text<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a string of {MIN} to {MAX} bytes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                if (MIN..=MAX).contains(&text.len()) {
                    return Ok(Text(text.to_owned()));
                }
                Err(E::custom(format_args!("must be a string of {MIN} to {MAX} bytes")))
            }
        }

        deserializer.deserialize_str(Bounded)
    }
}

struct Texts<const COUNT: usize, const MAX: usize>(Vec<String>);

impl<'de, const COUNT: usize, const MAX: usize> Deserialize<'de> for Texts<COUNT, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded<const COUNT: usize, const MAX: usize>;

        impl<'de, const COUNT: usize, const MAX: usize> Visitor<'de> for Bounded<COUNT, MAX> {
            type Value = Texts<COUNT, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {COUNT} strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while let Some(Text(text)) = items.next_element::<Text<1, MAX>>()? {
                    if texts.len() == COUNT {
                        return Err(A::Error::custom(format_args!(
                            "must be a list of at most {COUNT} strings"
                        )));
                    }
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }

        deserializer.deserialize_seq(Bounded)
    }
}
