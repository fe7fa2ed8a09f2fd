//! HTTP on the gateway's port: one file for each of its surfaces, one line for each in the router.
//!
//! A request passes the check of its page and host first, whatever it asks for. A surface that is not for everybody asks
//! [`access`] who calls.

mod access;
mod agent_run;
mod body;
mod chat;
mod control_ui;
mod conversation;
mod hooks;
mod metrics;
mod models;
pub(crate) mod page;
mod path;
mod probes;
mod responses;
mod sessions;
mod sse;
mod tools;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use offshoot_actors::kit::Handle;
use offshoot_actors::types::Refusal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::Bytes;

use super::admission::Place;
use super::audit;
use super::daemon::Daemon;
use super::listener::GatewayMsg;
use super::peer::Peer;
use super::traces::Asking;
use super::upgrade;
use super::wire::Wire;
use crate::config::Config;

pub(crate) type Request<B> = http::Request<B>;
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(crate) type Response = http::Response<Body>;

/// How long a client may take to send the head of a request, the first one or the next.
pub(crate) const HEADER_WITHIN: Duration = Duration::from_secs(15);
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The longest head of a request.
const MAX_HEAD: usize = 64 * 1024;

/// A request with everything that answering it needs.
struct Call {
    daemon: Arc<Daemon>,
    /// The configuration in force when it came.
    config: Arc<Config>,
    peer: Peer,
    request: Request<Incoming>,
    /// From where in a trace it comes, and which run it starts.
    asking: Arc<Asking>,
}

impl Call {
    fn method(&self) -> &Method {
        self.request.method()
    }

    fn path(&self) -> &str {
        self.request.uri().path()
    }

    fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// A header's value, if it has one that is a text.
    fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers().get(name)?.to_str().ok()?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// Refuses every method but one.
    fn only(&self, method: &Method) -> Result<(), Refused> {
        if self.method() == method { Ok(()) } else { Err(not_allowed(method.as_str()).into()) }
    }
}

/// A response with a text for people.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = full(status, text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A response with a JSON document.
pub(crate) fn json(status: StatusCode, document: &Value) -> Response {
    let mut response = full(status, document.to_string().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    full(status, Bytes::new())
}

fn full(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// What is refused, in the form that clients of these endpoints know.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    /// `invalid_request_error`, `api_error`, ...
    kind: &'static str,
    message: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// The answer to a caller who may not do this.
    fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// A refusal of the tree: the message with what helps.
    fn refused(refusal: &Refusal) -> Self {
        let (status, kind) = match refusal.code {
            "store" | "gone" | "stopping" => (StatusCode::SERVICE_UNAVAILABLE, "api_error"),
            "queue_full" => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error"),
            "unknown_run" | "unknown_session" => (StatusCode::NOT_FOUND, "not_found"),
            "idempotency_conflict" => (StatusCode::CONFLICT, "invalid_request_error"),
            _ => (StatusCode::BAD_REQUEST, "invalid_request_error"),
        };
        Self::new(status, kind, refusal.to_string())
    }

    fn starting() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", "the gateway is starting; try again")
    }

    fn shape(&self) -> Value {
        json!({ "error": { "message": self.message, "type": self.kind } })
    }

    fn response(&self) -> Response {
        json(self.status, &self.shape())
    }
}

/// The response to a request that is not carried out.
#[derive(Debug)]
struct Refused(Box<Response>);

impl From<Response> for Refused {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        problem.response().into()
    }
}

impl From<body::BodyError> for Refused {
    fn from(error: body::BodyError) -> Self {
        error.response().into()
    }
}

/// Carried out or refused, it is a response.
fn either(result: Result<Response, Refused>) -> Response {
    result.unwrap_or_else(|refused| *refused.0)
}

fn not_allowed(allowed: &str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "Not Found")
}

/// Serves one connection until it is closed or becomes a WebSocket.
pub(crate) async fn serve(
    stream: TokioIo<Wire>,
    remote: SocketAddr,
    place: Place,
    daemon: Arc<Daemon>,
    gateway: Handle<GatewayMsg>,
) {
    // Held until the first request shows that the client can speak, or for as long as a WebSocket is not connected.
    let place = Arc::new(Mutex::new(Some(place)));
    // From the first request on, until all of the last answer is written.
    let at_work = OnceLock::new();
    let ending = Arc::clone(&daemon);
    let service = service_fn(|request| {
        at_work.get_or_init(|| daemon.ending.enter());
        let place = place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (daemon, gateway) = (Arc::clone(&daemon), gateway.clone());
        async move { Ok::<_, Infallible>(with_headers(answer(request, remote, place, daemon, gateway).await)) }
    });
    let mut serving = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_WITHIN)
            .max_buf_size(MAX_HEAD)
            .serve_connection(stream, service)
            .with_upgrades()
    );
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = ending.ending.begun() => {
            // Answers what is at work; a client that asks nothing is not waited for.
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%remote, %error, "an HTTP connection ended early");
    }
}

async fn answer(
    request: Request<Incoming>,
    remote: SocketAddr,
    place: Option<Place>,
    daemon: Arc<Daemon>,
    gateway: Handle<GatewayMsg>,
) -> Response {
    let upgrades = upgrade::is_asked_for(request.headers());
    if daemon.is_stopping() && (upgrades || !probes::serves(request.uri().path())) {
        return stopping();
    }
    let config = daemon.config();
    let peer = Peer::of(remote, request.headers(), &config.gateway.auth.proxies);
    if upgrades {
        let place = place.or_else(|| daemon.enter(remote.ip()));
        return match place {
            Some(place) => upgrade::answer(request, peer, place, gateway),
            None => crowded(),
        };
    }
    // A page that may not speak to the gateway gets nothing, not even what is for everybody.
    let origins = &config.gateway.control_ui.origins;
    if let Err(refused) = origins.check_host(&peer).and_then(|()| origins.check(&peer)) {
        let message = refused.error_shape().message;
        audit::answered(&daemon, &peer, request.method(), request.uri().path(), StatusCode::FORBIDDEN);
        return Problem::forbidden(message).response();
    }
    // It can speak, and from here on it is one of the connections that speak HTTP, however long the answer takes.
    drop(place);
    let (asked, sender) = ((request.method().clone(), request.uri().clone()), peer.clone());
    let traceparent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let asking = Asking::new(&daemon.traces, traceparent);
    let call = Call { daemon: Arc::clone(&daemon), config, peer, request, asking: Arc::clone(&asking) };
    let answered = AssertUnwindSafe(route(call)).catch_unwind().await;
    let mut response =
        answered.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"));
    audit::answered(&daemon, &sender, &asked.0, asked.1.path(), response.status());
    if let Some(value) = asking.traceparent().and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().insert(TRACEPARENT, value);
    }
    response
}

/// The surfaces in the order in which they are asked.
fn route(call: Call) -> BoxFuture<'static, Response> {
    let gateway = &call.config.gateway;
    match call.path() {
        path if hooks::serves(gateway, path) => Box::pin(hooks::answer(call)),
        path if models::serves(gateway, path) => Box::pin(models::answer(call)),
        "/tools/invoke" => Box::pin(tools::answer(call)),
        path if sessions::serves(path) => Box::pin(sessions::answer(call)),
        "/v1/responses" if gateway.responses.enabled => Box::pin(responses::answer(call)),
        "/v1/chat/completions" if gateway.chat_completions.enabled => Box::pin(chat::answer(call)),
        path if page::serves(gateway, path) => ready(page::answer(&call)),
        metrics::PATH if gateway.metrics.enabled => Box::pin(metrics::answer(call)),
        path if control_ui::serves(gateway, path) => Box::pin(control_ui::answer(call)),
        probes::HEALTH | probes::HEALTHZ => ready(probes::live(call.method())),
        probes::READY | probes::READYZ => ready(probes::ready(call.method(), &call.peer, &call.daemon)),
        "/" if matches!(*call.method(), Method::GET | Method::HEAD) => {
            let hint = "offshoot: the gateway is here; clients connect by WebSocket.\n";
            ready(text(StatusCode::OK, hint))
        }
        _ => ready(not_found()),
    }
}

fn ready(response: Response) -> BoxFuture<'static, Response> {
    Box::pin(std::future::ready(response))
}

/// What every response carries.
fn with_headers(mut response: Response) -> Response {
    const PERMISSIONS: HeaderName = HeaderName::from_static("permissions-policy");
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(PERMISSIONS)
        .or_insert(HeaderValue::from_static("camera=(), geolocation=(), microphone=()"));
    if response.status() == StatusCode::UNAUTHORIZED {
        // RFC 9110, section 11.6.1.
        response.headers_mut().entry(WWW_AUTHENTICATE).or_insert(HeaderValue::from_static("Bearer"));
    }
    response
}

/// The answer to who comes after the end has begun: nothing is begun any more, and the connection is not used again.
fn stopping() -> Response {
    let problem =
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", "the gateway is stopping; try again");
    let mut response = problem.response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

const CROWDED: &str = "Too many unauthenticated sockets";

fn crowded() -> Response {
    text(StatusCode::SERVICE_UNAVAILABLE, CROWDED)
}

/// How long the refusal of a connection may take.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);
/// Refused connections that are waited for at once: a crowd must not keep as many open as it likes.
static REFUSED: Semaphore = Semaphore::const_new(256);

/// Refuses a connection before anything of it is looked at.
pub(crate) async fn refuse_crowd(mut stream: TcpStream) {
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{CROWDED}",
        CROWDED.len()
    );
    let refuse = async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await?;
        // Closed while something of it is unread, the connection would be reset and the answer lost with it.
        if let Ok(_waited_for) = REFUSED.try_acquire() {
            let mut unread = [0; 1_024];
            while stream.read(&mut unread).await? > 0 {}
        }
        std::io::Result::Ok(())
    };
    // Whoever does not take even this is cut off.
    let _ = tokio::time::timeout(REFUSED_WITHIN, refuse).await;
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn whoever_has_no_proof_reads_what_proof_is_wanted() {
        let wanted = |status| with_headers(empty(status)).headers().get(WWW_AUTHENTICATE).cloned();
        assert_eq!(wanted(StatusCode::UNAUTHORIZED).unwrap(), "Bearer");
        assert_eq!(wanted(StatusCode::OK), None);
    }

    #[tokio::test]
    async fn whoever_has_sent_a_request_already_reads_why_it_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(&[b'x'; 4_000]).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        let refused = tokio::spawn(refuse_crowd(stream));
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with(CROWDED), "{answer}");
        drop(client);
        refused.await.unwrap();
    }
}
