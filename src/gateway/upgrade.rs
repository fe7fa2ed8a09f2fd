//! From an HTTP request to a WebSocket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use offshoot_actors::kit::Handle;
use tokio_tungstenite::tungstenite::Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::admission::Place;
use super::http::{Request, Response, empty, text};
use super::listener::GatewayMsg;
use super::peer::Peer;
use super::wire::Wire;

/// A WebSocket whose upgrade was answered.
#[derive(Debug)]
pub(crate) struct Upgraded {
    pub(crate) wire: Wire,
    /// What the client sent right behind its request.
    pub(crate) read: Bytes,
    pub(crate) peer: Peer,
    /// Those of the request: a proxy may vouch in them.
    pub(crate) headers: HeaderMap,
    pub(crate) place: Place,
}

/// Whether the request asks for a WebSocket.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    names(headers, &CONNECTION, "upgrade") && names(headers, &UPGRADE, "websocket")
}

/// Whether a list header names this word.
fn names(headers: &HeaderMap, header: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
}

/// Answers the request, and hands the socket to the gateway once the answer is written.
pub(crate) fn answer(
    mut request: Request<Incoming>,
    peer: Peer,
    place: Place,
    gateway: Handle<GatewayMsg>,
) -> Response {
    let headers = request.headers();
    let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let decoded = key.and_then(|key| STANDARD.decode(key.as_bytes()).ok());
    let (Some(b"13"), Some(key), true) = (version, key, decoded.is_some_and(|key| key.len() == 16)) else {
        let mut response = text(StatusCode::UPGRADE_REQUIRED, "This needs version 13 of WebSocket.\n");
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    };
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "A WebSocket begins with GET.\n");
    }
    let Ok(accept) = HeaderValue::try_from(derive_accept_key(key.as_bytes())) else {
        return text(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is not valid.\n");
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let headers = std::mem::take(request.headers_mut());
    // It ends with the connection: an upgrade that fails resolves to an error.
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Wire>>() else { return };
        let (mut wire, read) = (parts.io.into_inner(), parts.read_buf);
        wire.wait_for_ever();
        let upgraded = Upgraded { wire, read, peer, headers, place };
        // A gateway that stops takes no more connections.
        drop(gateway.send(GatewayMsg::Upgraded(Box::new(upgraded))));
    });
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}
