//! Answers whose payload is JSON already.

use crate::text;

/// A response, but for its id and its payload.
pub const RESPONSE: &str = r#"{"type":"res","id":,"ok":true,"payload":}"#;

/// Writes the text of a response that carries a payload that is JSON already.
///
/// # Errors
/// Never in practice: an id can be written as JSON.
pub fn write_response(id: &str, payload: &str, into: &mut Vec<u8>) -> serde_json::Result<()> {
    into.extend_from_slice(br#"{"type":"res","id":"#);
    serde_json::to_writer(&mut *into, id)?;
    into.extend_from_slice(br#","ok":true,"payload":"#);
    into.extend_from_slice(payload.as_bytes());
    into.push(b'}');
    Ok(())
}

/// Appends the whole frame of such a response.
///
/// # Errors
/// Never in practice: an id can be written as JSON.
pub fn append_response(id: &str, payload: &str, into: &mut Vec<u8>) -> serde_json::Result<()> {
    text::framed(into, |into| write_response(id, payload, into))
}
