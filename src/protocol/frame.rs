//! Frames: requests as they come in, responses as they go out, and both as a client sees them.

pub use offshoot_frames::request::{FrameError, MAX_DEPTH, MAX_ID, MAX_METHOD, Request};
pub use offshoot_frames::response::{RESPONSE, append_response, write_response};
use serde::{Deserialize, Serialize};

use super::error::ErrorShape;
use super::event::StateVersion;

/// The id to answer and the answer to what is no request, if it has an id.
#[must_use]
pub fn answer_to(error: &FrameError) -> Option<(&str, ErrorShape)> {
    Some((error.id()?, ErrorShape::invalid(error.to_string())))
}

/// A response on the wire.
#[derive(Serialize)]
struct Response<'a, P> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ErrorShape>,
}

/// The text of a response that carries `payload`.
///
/// # Errors
/// The payload cannot be written as JSON.
pub fn response(id: &str, payload: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(&Response { kind: "res", id, ok: true, payload: Some(payload), error: None })
}

/// The text of a response that refuses.
///
/// # Errors
/// The details of the error cannot be written as JSON.
pub fn refusal(id: &str, error: &ErrorShape) -> serde_json::Result<String> {
    let payload = error.payload.as_ref();
    serde_json::to_string(&Response { kind: "res", id, ok: false, payload, error: Some(error) })
}

/// The text of a request, as a client writes it.
///
/// # Errors
/// The parameters cannot be written as JSON.
pub fn request(id: &str, method: &str, params: &impl Serialize) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Out<'a, P> {
        #[serde(rename = "type")]
        kind: &'static str,
        id: &'a str,
        method: &'a str,
        params: &'a P,
    }
    serde_json::to_string(&Out { kind: "req", id, method, params })
}

/// What a gateway sends, as a client reads it. Unknown members are ignored.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub enum ServerFrame {
    /// The answer to a request, or the first of two.
    #[serde(rename = "res")]
    Response {
        /// That of the request.
        id: String,
        /// Whether it was done.
        ok: bool,
        /// The result.
        payload: Option<serde_json::Value>,
        /// Why not.
        error: Option<ErrorShape>,
    },
    /// Something that happened.
    #[serde(rename = "event")]
    #[serde(rename_all = "camelCase")]
    Event {
        /// Its name.
        event: String,
        /// What it says.
        payload: Option<serde_json::Value>,
        /// Its number on this connection.
        seq: Option<u64>,
        /// What the client's copies of presence and health are compared with.
        state_version: Option<StateVersion>,
    },
}

#[cfg(test)]
mod tests;
