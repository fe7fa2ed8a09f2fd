//! The chat completions client against a server on loopback that says exactly what each test writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use offshoot::models::{MaxTokensField, ModelSpec, ProviderSpec, Registry};
use offshoot_actors::ports::{
    Answer, ModelError, ModelErrorKind, ModelRequest, ModelSink, Models, StopReason, TokioClock, ToolSpec,
};
use offshoot_actors::types::{Entry, Origin, RunId, Timestamp, ToolCall, Transcript, Usage};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

const KEY: &str = "sk-test-0123456789";
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// What the server does after it has read the request.
enum Part {
    /// Sends these bytes at once.
    Send(Vec<u8>),
    /// Sends nothing and waits until the client goes away.
    Hold,
}

fn send(text: impl Into<Vec<u8>>) -> Part {
    Part::Send(text.into())
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn delta(delta: &Value) -> String {
    event(&json!({"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}))
}

fn finish(reason: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

/// An answer with a length, as errors come.
fn plain(status: &str, headers: &str, body: &str) -> Part {
    let length = body.len();
    send(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"))
}

struct Request {
    head: String,
    body: Value,
}

/// A server for one request.
struct Server {
    url: String,
    request: oneshot::Receiver<Request>,
    /// The client closed the connection while the server held it.
    left: oneshot::Receiver<()>,
}

async fn serve(parts: Vec<Part>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (request_to, request) = oneshot::channel();
    let (left_to, left) = oneshot::channel();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let _ = request_to.send(read_request(&mut socket).await);
        for part in parts {
            match part {
                Part::Send(bytes) => {
                    // A client that has heard enough hangs up; that is its right.
                    if socket.write_all(&bytes).await.is_err() {
                        let _ = left_to.send(());
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                Part::Hold => {
                    let end = socket.read(&mut [0; 16]).await;
                    assert!(matches!(end, Ok(0) | Err(_)), "nothing but the end was expected");
                    let _ = left_to.send(());
                    return;
                }
            }
        }
    });
    Server { url, request, left }
}

async fn read_request(socket: &mut TcpStream) -> Request {
    let mut bytes = Vec::new();
    loop {
        assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0, "the request ended early");
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let body = &bytes[end + 4..];
        if body.len() == length.parse::<usize>().unwrap() {
            return Request { head, body: serde_json::from_slice(body).unwrap() };
        }
    }
}

/// Hears the text and wakes whoever waits for its beginning.
#[derive(Default)]
struct Heard {
    pieces: Mutex<Vec<String>>,
    first: Notify,
}

impl ModelSink for Heard {
    fn text(&self, piece: &str) {
        self.pieces.lock().unwrap().push(piece.to_owned());
        self.first.notify_one();
    }
}

impl Heard {
    fn text(&self) -> String {
        self.pieces.lock().unwrap().concat()
    }
}

fn provider(url: &str) -> ProviderSpec {
    let mut spec = ProviderSpec::new("test", url);
    spec.api_key = Some(KEY.into());
    spec
}

fn registry(spec: ProviderSpec) -> Registry {
    Registry::new([spec], [], Arc::new(TokioClock::starting_at(Timestamp(0)))).unwrap()
}

fn request() -> ModelRequest {
    let run = RunId(Uuid::nil());
    let mut transcript = Transcript::default();
    let entry = Entry::User { text: "hi".into(), origin: Origin::Operator };
    transcript.push(Some(run), Timestamp(0), entry);
    let tool = ToolSpec {
        name: "look".into(),
        description: "Looks.".into(),
        parameters: r#"{"type":"object","properties":{"at":{"type":"string"}}}"#.into(),
        parallel: true,
        idempotent: true,
        yields: false,
        groups: &[],
    };
    ModelRequest {
        model: "test/some/model".parse().unwrap(),
        agent: "main".parse().unwrap(),
        session: "agent:main:main".parse().unwrap(),
        run,
        step: 7,
        system: Some("be brief".into()),
        transcript,
        tools: Arc::new([Arc::new(tool)]),
    }
}

async fn ask_with(spec: ProviderSpec) -> (Result<Answer, ModelError>, String) {
    let heard = Arc::new(Heard::default());
    let answer = registry(spec).call(request(), Arc::<Heard>::clone(&heard)).await;
    let text = heard.text();
    (answer, text)
}

async fn ask(parts: Vec<Part>) -> (Result<Answer, ModelError>, String) {
    let server = serve(parts).await;
    ask_with(provider(&server.url)).await
}

async fn failure(parts: Vec<Part>) -> ModelError {
    let error = ask(parts).await.0.unwrap_err();
    assert!(!error.message.contains(KEY), "{error}");
    error
}

#[tokio::test]
async fn text_is_streamed_and_usage_counted() {
    let stream = [
        ": keep-alive\r\n\r\n".to_owned(),
        delta(&json!({"role": "assistant", "content": ""})).replace('\n', "\r\n"),
        delta(&json!({"content": "Grü"})),
        ": keep-alive\n\n".to_owned(),
        delta(&json!({"content": "ße 👋"})),
        finish("stop"),
        event(&json!({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 3,
                      "prompt_tokens_details": {"cached_tokens": 8}}})),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat();
    let bytes = stream.into_bytes().into_iter().map(|byte| send([byte]));
    let parts = std::iter::once(send(STREAM)).chain(bytes).collect();
    let (answer, heard) = ask(parts).await;
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), heard.as_str()), ("Grüße 👋", "Grüße 👋"));
    assert_eq!(answer.stop, StopReason::End);
    assert_eq!(answer.usage, Usage { input: 12, output: 3, cached: 8 });
}

#[tokio::test]
async fn tool_calls_come_together_from_their_pieces() {
    let call = |call: Value| delta(&json!({"tool_calls": [call]}));
    let parts = [
        STREAM.to_owned(),
        call(
            json!({"index": 0, "id": "a", "type": "function", "function": {"name": "look", "arguments": ""}}),
        ),
        call(json!({"index": 0, "function": {"arguments": "{\"at\":"}})),
        call(json!({"index": 1, "function": {"name": "look", "arguments": "{}"}})),
        call(json!({"index": 0, "function": {"arguments": "\"x\"}"}})),
        finish("tool_calls"),
    ];
    let answer = ask(parts.into_iter().map(send).collect()).await.0.unwrap();
    let expected = |id: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: "look".into(),
        arguments: arguments.into(),
    };
    assert_eq!(answer.tool_calls, [expected("a", "{\"at\":\"x\"}"), expected("call_7_1", "{}")]);
    assert_eq!(answer.stop, StopReason::Tools);
}

#[tokio::test]
async fn the_request_is_the_protocols() {
    let server = serve(vec![send(STREAM), send(finish("stop"))]).await;
    let mut spec = provider(&server.url);
    spec.headers = vec![("X-Team".into(), "blue".into())];
    let model = ModelSpec { max_tokens: Some(99), ..ModelSpec::new("some/model") };
    spec.models = vec![model];
    ask_with(spec).await.0.unwrap();
    let Request { head, body } = server.request.await.unwrap();
    assert!(head.starts_with("post /v1/chat/completions http/1.1\r\n"), "{head}");
    for header in [&format!("authorization: bearer {KEY}"), "x-team: blue", "content-type: application/json"]
    {
        assert!(head.lines().any(|line| line == header), "{header} in {head}");
    }
    assert_eq!(
        body,
        json!({
            "model": "some/model",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
            "stream": true,
            "stream_options": {"include_usage": true},
            "tools": [{"type": "function", "function": {
                "name": "look",
                "description": "Looks.",
                "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
            }}],
            "max_tokens": 99,
        })
    );
}

#[tokio::test]
async fn a_model_says_what_its_server_does_not_take() {
    let server = serve(vec![send(STREAM), send(finish("stop"))]).await;
    let mut spec = provider(&server.url);
    spec.models = vec![ModelSpec {
        max_tokens: Some(5),
        max_tokens_field: Some(MaxTokensField::MaxCompletionTokens),
        streams_usage: false,
        takes_tools: false,
        ..ModelSpec::new("some/model")
    }];
    ask_with(spec).await.0.unwrap();
    let body = server.request.await.unwrap().body;
    assert_eq!(body["max_completion_tokens"], 5);
    for absent in ["tools", "stream_options", "max_tokens"] {
        assert_eq!(body.get(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_streamed_is_taken_too() {
    let body = json!({
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant",
            "content": "look:", "tool_calls": [{"id": "a", "type": "function",
            "function": {"name": "look", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 5},
    });
    let (answer, heard) =
        ask(vec![plain("200 OK", "content-type: application/json\r\n", &body.to_string())]).await;
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), heard.as_str()), ("look:", "look:"));
    assert_eq!((answer.tool_calls.len(), answer.stop), (1, StopReason::Tools));
    assert_eq!(answer.usage, Usage { input: 4, output: 5, cached: 0 });
}

#[tokio::test]
async fn the_end_counts_even_if_the_server_hangs_after_it() {
    let done =
        vec![send(STREAM), send(delta(&json!({"content": "x"}))), send("data: [DONE]\n\n"), Part::Hold];
    assert_eq!(ask(done).await.0.unwrap().text, "x");

    let server =
        serve(vec![send(STREAM), send(delta(&json!({"content": "x"}))), send(finish("stop")), Part::Hold])
            .await;
    let mut spec = provider(&server.url);
    spec.stall_timeout = Duration::from_secs(1);
    assert_eq!(ask_with(spec).await.0.unwrap().text, "x");
}

#[tokio::test]
async fn a_rate_limit_comes_with_the_wish_to_wait() {
    let body = r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
    let error = failure(vec![plain("429 Too Many Requests", "retry-after: 7\r\n", body)]).await;
    assert_eq!(error.kind, ModelErrorKind::RateLimited);
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    assert!(error.message.contains("slow down"), "{error}");

    let dates = "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\ndate: Sun, 06 Nov 1994 08:49:07 GMT\r\n";
    let error = failure(vec![plain("429 Too Many Requests", dates, "")]).await;
    assert_eq!(error.retry_after, Some(Duration::from_secs(30)));
}

#[tokio::test]
async fn statuses_become_kinds_and_say_what_to_do() {
    use ModelErrorKind as Kind;
    let error =
        failure(vec![plain("401 Unauthorized", "", &format!("{{\"error\":\"bad key {KEY}\"}}"))]).await;
    assert_eq!(error.kind, Kind::Auth);
    assert!(error.message.contains("models.providers.test.apiKey"), "{error}");
    assert!(error.message.contains("bad key [redacted]"), "{error}");

    let long = r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#;
    for (status, body, kind) in [
        ("400 Bad Request", long, Kind::ContextLength),
        ("400 Bad Request", "{}", Kind::BadRequest),
        ("402 Payment Required", "", Kind::Billing),
        ("404 Not Found", "", Kind::NotFound),
        ("500 Internal Server Error", "", Kind::Server),
        ("503 Service Unavailable", "", Kind::Overloaded),
        ("302 Found", "", Kind::BadRequest),
    ] {
        assert_eq!(failure(vec![plain(status, "location: http://127.0.0.1:1/\r\n", body)]).await.kind, kind);
    }
}

#[tokio::test]
async fn an_endless_error_body_is_not_read_to_its_end() {
    let head = "HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\n\r\n";
    let error = failure(vec![send(head), send("oh no ".repeat(4_000)), Part::Hold]).await;
    assert_eq!(error.kind, ModelErrorKind::Server);
    assert!(error.message.len() < 1_000);
}

#[tokio::test]
async fn an_error_inside_the_stream_ends_it() {
    let error = event(&json!({"error": {"message": format!("no room, {KEY}"), "code": 503}}));
    let error =
        failure(vec![send(STREAM), send(delta(&json!({"content": "x"}))), send(error), Part::Hold]).await;
    assert_eq!(error.kind, ModelErrorKind::Overloaded);
    assert!(error.message.contains("no room"), "{error}");
}

#[tokio::test]
async fn silence_is_a_stall_before_and_during_the_answer() {
    let (quiet, text) = (vec![Part::Hold], delta(&json!({"content": "x"})));
    for parts in [quiet, vec![send(STREAM), send(text), Part::Hold]] {
        let server = serve(parts).await;
        let mut spec = provider(&server.url);
        spec.stall_timeout = Duration::from_millis(100);
        spec.connect_timeout = Duration::from_secs(1);
        let error = ask_with(spec).await.0.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Stalled, "{error}");
        server.left.await.expect("the connection is closed");
    }
}

#[tokio::test]
async fn a_call_as_a_whole_may_have_a_limit() {
    let server = serve(vec![send(STREAM), send(delta(&json!({"content": "x"}))), Part::Hold]).await;
    let mut spec = provider(&server.url);
    spec.request_timeout = Some(Duration::from_secs(1));
    assert_eq!(ask_with(spec).await.0.unwrap_err().kind, ModelErrorKind::Stalled);
    server.left.await.expect("the connection is closed");
}

#[tokio::test]
async fn an_answer_without_its_end_is_cut() {
    let text = delta(&json!({"content": "half of"}));
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    for parts in [
        vec![send(STREAM)],
        vec![send(STREAM), send(text.clone())],
        vec![send(STREAM), send(text), send("data: {\"choi")],
        vec![send(chunked), send(chunk.clone())],
        vec![send(chunked), send(&chunk[..20])],
        vec![send("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"choices\":[")],
        vec![send("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"choices\":[")],
    ] {
        let error = failure(parts).await;
        assert_eq!(error.kind, ModelErrorKind::Cut, "{error}");
    }
}

#[tokio::test]
async fn garbage_is_called_garbage() {
    for parts in [
        vec![send(STREAM), send("<!doctype html><p>welcome</p>")],
        vec![send(STREAM), send("data: {\"choices\": 5}\n\n")],
        vec![send(STREAM), send("data: hello\n\n")],
        vec![send(STREAM), send(b"data: \xff\xfe\n\n".to_vec())],
        vec![plain("200 OK", "", "{\"status\":\"ok\"}")],
        vec![plain("200 OK", "", &format!("{{\"choices\":\"{KEY}\"}}"))],
    ] {
        let error = failure(parts).await;
        assert_eq!(error.kind, ModelErrorKind::Protocol, "{error}");
    }
}

#[tokio::test]
async fn an_event_without_end_is_refused_and_the_server_left() {
    let parts = vec![send(STREAM), send("data: "), send(vec![b'x'; 9 << 20]), Part::Hold];
    let error = failure(parts).await;
    assert_eq!(error.kind, ModelErrorKind::Protocol);
    assert!(error.message.contains("8 MiB"), "{error}");
}

#[tokio::test]
async fn no_connection_is_a_network_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let error = ask_with(provider(&url)).await.0.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Network);
    assert!(error.message.contains("models.providers.test.baseUrl"), "{error}");

    assert_eq!(failure(vec![]).await.kind, ModelErrorKind::Network);
}

#[tokio::test]
async fn a_cancelled_call_closes_its_connection() {
    let server = serve(vec![send(STREAM), send(delta(&json!({"content": "x"}))), Part::Hold]).await;
    let heard = Arc::new(Heard::default());
    let call = tokio::spawn(registry(provider(&server.url)).call(request(), Arc::<Heard>::clone(&heard)));
    heard.first.notified().await;
    call.abort();
    server.left.await.expect("the connection is closed");
    assert!(call.await.unwrap_err().is_cancelled());
}

/// The environment of a process cannot be changed safely, so another one runs the test with these proxies.
#[test]
fn loopback_is_never_asked_through_a_proxy() {
    let nowhere = "http://127.0.0.1:9";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "text_is_streamed_and_usage_counted"])
        .envs([("HTTP_PROXY", nowhere), ("http_proxy", nowhere), ("ALL_PROXY", nowhere)])
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
