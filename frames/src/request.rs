//! Requests as they come in.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Longest id of a request, in bytes.
pub const MAX_ID: usize = 512;
/// Longest name of a method, in bytes.
pub const MAX_METHOD: usize = 256;
/// Most levels of objects and lists in a frame, itself included; what reads parameters goes no deeper either.
pub const MAX_DEPTH: usize = 128;
/// Most names of unknown members that are kept of one frame.
const MAX_UNKNOWN: usize = 8;
/// Longest name of an unknown member that is kept, in bytes.
const MAX_UNKNOWN_NAME: usize = 64;

/// A request of a client, as it lies in the text.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Chosen by the client; its answers carry it. Not empty, at most [`MAX_ID`] bytes.
    pub id: Cow<'a, str>,
    /// Not empty, at most [`MAX_METHOD`] bytes.
    pub method: Cow<'a, str>,
    /// As they were sent; whoever carries it out reads them.
    pub params: Option<&'a RawValue>,
    /// Members that no generation of the protocol knows, for a debug line; cut in number and length.
    pub unknown: Vec<String>,
}

/// Why a text is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is not even JSON.
    #[error("not JSON")]
    NotJson,
    /// It is JSON.
    #[error("invalid request frame: {problem}")]
    Invalid {
        /// The id to answer, if there is one.
        id: Option<String>,
        /// What is wrong. Quotes nothing of the frame.
        problem: Cow<'static, str>,
    },
}

impl FrameError {
    /// The id to answer, if the frame has one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Invalid { id, .. } => id.as_deref(),
            Self::NotJson => None,
        }
    }
}

impl<'a> Request<'a> {
    /// Reads a request. The caller bounds the length of the text.
    ///
    /// # Errors
    /// [`FrameError`] tells what the text is instead.
    pub fn parse(text: &'a str) -> Result<Self, FrameError> {
        if nested_too_deep(text) {
            let problem = format!("nested deeper than {MAX_DEPTH} levels").into();
            return Err(FrameError::Invalid { id: None, problem });
        }
        // Almost all of them have strings where strings belong. What is wrong with the others is found out member by member.
        if let Ok(wire) = serde_json::from_str::<Wire<'a, Name<'a>>>(text) {
            return wire.into_request();
        }
        match serde_json::from_str::<Wire<'a, &'a RawValue>>(text) {
            Ok(wire) => wire.into_request(),
            Err(error) if error.is_data() && serde_json::from_str::<IgnoredAny>(text).is_ok() => {
                Err(FrameError::Invalid { id: None, problem: "must be an object".into() })
            }
            Err(_) => Err(FrameError::NotJson),
        }
    }
}

/// A member that should be a string.
trait Text<'a>: Deserialize<'a> {
    /// The string, if it is one.
    fn text(self) -> Option<Cow<'a, str>>;
}

/// A string that is copied only if it holds escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Text<'a> for Name<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        Some(self.0)
    }
}

impl<'a> Text<'a> for &'a RawValue {
    fn text(self) -> Option<Cow<'a, str>> {
        serde_json::from_str::<Name<'a>>(self.get()).ok().map(|Name(text)| text)
    }
}

/// The members of a request, none of them checked yet.
struct Wire<'a, T> {
    kind: Option<T>,
    id: Option<T>,
    method: Option<T>,
    params: Option<&'a RawValue>,
    expected_profile: bool,
    unknown: Vec<String>,
}

impl<'de, T: Text<'de>> Deserialize<'de> for Wire<'de, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Text<'de>> Visitor<'de> for Members<T> {
            type Value = Wire<'de, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Wire<'de, T>, A::Error> {
                let mut wire = Wire {
                    kind: None,
                    id: None,
                    method: None,
                    params: None,
                    expected_profile: false,
                    unknown: Vec::new(),
                };
                while let Some(Name(name)) = members.next_key()? {
                    match &*name {
                        "type" => wire.kind = Some(members.next_value()?),
                        "id" => wire.id = Some(members.next_value()?),
                        "method" => wire.method = Some(members.next_value()?),
                        "params" => wire.params = Some(members.next_value()?),
                        "expectedProfileId" => {
                            // One that says nothing does not take back another.
                            wire.expected_profile |= members.next_value::<&RawValue>()?.get() != "null";
                        }
                        "traceparent" => {
                            members.next_value::<IgnoredAny>()?;
                        }
                        other => {
                            if wire.unknown.len() < MAX_UNKNOWN {
                                let kept = &other[..other.floor_char_boundary(MAX_UNKNOWN_NAME)];
                                wire.unknown.push(kept.to_owned());
                            }
                            members.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(wire)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

impl<'a, T: Text<'a>> Wire<'a, T> {
    fn into_request(self) -> Result<Request<'a>, FrameError> {
        let id = string(self.id, "id", MAX_ID);
        let refuse = |problem: Cow<'static, str>| FrameError::Invalid {
            id: id.as_ref().ok().map(ToString::to_string),
            problem,
        };
        if !string(self.kind, "type", MAX_METHOD).is_ok_and(|kind| kind == "req") {
            return Err(refuse("type must be \"req\"".into()));
        }
        if self.expected_profile {
            return Err(refuse(
                "expectedProfileId: this gateway has no profiles to check; leave it out".into(),
            ));
        }
        let method = string(self.method, "method", MAX_METHOD).map_err(refuse)?;
        match id {
            Ok(id) => Ok(Request {
                id,
                method,
                params: self.params.filter(|params| params.get() != "null"),
                unknown: self.unknown,
            }),
            Err(problem) => Err(FrameError::Invalid { id: None, problem }),
        }
    }
}

/// The member as a string of 1 to `max` bytes, else what is wrong with it.
fn string<'a>(
    member: Option<impl Text<'a>>,
    name: &str,
    max: usize,
) -> Result<Cow<'a, str>, Cow<'static, str>> {
    let Some(member) = member else { return Err(format!("{name} is missing").into()) };
    match member.text() {
        Some(text) if (1..=max).contains(&text.len()) => Ok(text),
        _ => Err(format!("{name} must be a string of 1 to {max} bytes").into()),
    }
}

/// Whether brackets outside of strings nest deeper than [`MAX_DEPTH`].
fn nested_too_deep(text: &str) -> bool {
    // Each level takes a byte: most requests are too short to be deep.
    if text.len() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}
