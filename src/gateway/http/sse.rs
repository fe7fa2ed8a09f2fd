//! Server-sent events: a response whose body comes in pieces.

use std::convert::Infallible;
use std::time::Duration;

use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Bytes;

use super::Response;

/// How long a stream may be silent: a client that is gone is found out by writing to it.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What is written then. Clients pass over it.
pub(super) const COMMENT: &str = ": keepalive\n\n";
/// The last line of a stream in the form of OpenAI's.
pub(super) const DONE: &str = "data: [DONE]\n\n";

/// Where the pieces come from. Dropped when the client goes away.
pub(super) trait Pieces: Send + 'static {
    /// The next piece; none at the end.
    fn next(&mut self) -> impl Future<Output = Option<String>> + Send;
}

/// One event without a name.
pub(super) fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// One event.
pub(super) fn event(name: &str, value: &Value) -> String {
    format!("event: {name}\ndata: {value}\n\n")
}

/// A response that sends each piece as it comes.
pub(super) fn response(pieces: impl Pieces) -> Response {
    let frames = stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(piece))), pieces))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies would hold the pieces back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
