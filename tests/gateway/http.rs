//! The HTTP surfaces, asked as programs and browsers ask them.

use reqwest::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::rig::{Daemon, TOKEN};

mod callbacks;
mod page;

const OPEN: &str = r#"{
    gateway: { http: { endpoints: { chatCompletions: { enabled: true, maxBodyBytes: 5000 },
                                    responses: { enabled: true } } } },
    agents: { list: [{ id: "main" }, { id: "research" }] },
    hooks: { enabled: true, token: "hook-token" },
}"#;

fn client() -> Client {
    Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

fn ask(daemon: &Daemon, method: Method, path: &str) -> RequestBuilder {
    client().request(method, format!("http://{}{path}", daemon.address()))
}

fn get(daemon: &Daemon, path: &str) -> RequestBuilder {
    ask(daemon, Method::GET, path).bearer_auth(TOKEN)
}

fn post(daemon: &Daemon, path: &str, body: &Value) -> RequestBuilder {
    ask(daemon, Method::POST, path).bearer_auth(TOKEN).body(body.to_string())
}

async fn sent(request: RequestBuilder) -> (StatusCode, Value) {
    read(request.send().await.unwrap()).await
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn said(text: &str) -> Value {
    json!([{ "role": "user", "content": text }])
}

/// The documents of a stream, and whether it came to its end.
async fn streamed(request: RequestBuilder) -> (Vec<Value>, bool) {
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream; charset=utf-8");
    let text = response.text().await.unwrap();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let done = lines.last() == Some(&"[DONE]");
    (lines.into_iter().filter_map(|line| serde_json::from_str(line).ok()).collect(), done)
}

#[tokio::test]
async fn only_who_knows_the_secret_is_served() {
    let daemon = Daemon::with(OPEN).await;
    let unauthorized = json!({ "error": { "message": "Unauthorized", "type": "unauthorized" } });
    for path in ["/v1/models", "/sessions/main/history"] {
        assert_eq!(
            sent(ask(&daemon, Method::GET, path)).await,
            (StatusCode::UNAUTHORIZED, unauthorized.clone())
        );
    }
    for path in ["/v1/chat/completions", "/v1/responses", "/tools/invoke", "/sessions/main/kill"] {
        let wrong = ask(&daemon, Method::POST, path).bearer_auth("wrong").body("{}");
        assert_eq!(sent(wrong).await, (StatusCode::UNAUTHORIZED, unauthorized.clone()), "{path}");
    }
    let (status, models) = sent(get(&daemon, "/v1/models")).await;
    assert_eq!(status, StatusCode::OK);
    let ids: Vec<&str> =
        models["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(ids, ["openclaw", "openclaw/default", "openclaw/main", "openclaw/research"]);
    assert_eq!(sent(get(&daemon, "/v1/models/openclaw%2Fresearch")).await.0, StatusCode::OK);
    assert_eq!(sent(get(&daemon, "/v1/models/openclaw/nobody")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(sent(get(&daemon, "/v1/models/gpt-4o")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(sent(post(&daemon, "/v1/models", &json!({}))).await.0, StatusCode::METHOD_NOT_ALLOWED);
    daemon.stop().await;
}

#[tokio::test]
async fn endpoints_that_are_not_open_are_not_there() {
    let daemon = Daemon::start().await;
    for path in ["/v1/models", "/v1/chat/completions", "/v1/responses", "/hooks/wake", "/chat"] {
        assert_eq!(sent(get(&daemon, path)).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(sent(get(&daemon, "/")).await.0, StatusCode::OK);
    daemon.stop().await;
}

#[tokio::test]
async fn pages_of_others_get_nothing() {
    let daemon = Daemon::with(OPEN).await;
    let foreign = get(&daemon, "/v1/models").header("origin", "https://evil.example");
    assert_eq!(sent(foreign).await.0, StatusCode::FORBIDDEN);
    let rebound = get(&daemon, "/").header("host", "evil.example").header("user-agent", "Mozilla/5.0");
    assert_eq!(sent(rebound).await.0, StatusCode::FORBIDDEN);
    let own = get(&daemon, "/v1/models").header("origin", format!("http://{}", daemon.address()));
    assert_eq!(sent(own).await.0, StatusCode::OK);
    daemon.stop().await;
}

#[tokio::test]
async fn an_agent_answers_as_a_model_does() {
    let daemon = Daemon::with(OPEN).await;
    let asked = json!({ "model": "openclaw/research", "messages": said("Reply with exactly: HELLO") });
    let (status, answer) = sent(post(&daemon, "/v1/chat/completions", &asked)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "openclaw/research");
    assert_eq!(answer["choices"][0]["message"], json!({ "role": "assistant", "content": "HELLO" }));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let usage = &answer["usage"];
    assert!(usage["completion_tokens"].as_u64().unwrap() > 0);
    let asked = json!({
        "model": "openclaw",
        "messages": said("Reply with exactly: one two three\nStream: 3"),
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let (chunks, done) = streamed(post(&daemon, "/v1/chat/completions", &asked)).await;
    assert!(done);
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant" }));
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "one two three");
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert!(last["usage"]["total_tokens"].as_u64().unwrap() > 0);
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_be_answered_is_an_error_that_says_so() {
    let daemon = Daemon::with(OPEN).await;
    for (asked, status, words) in [
        (json!({ "model": "gpt-4o", "messages": said("x") }), 400, "Invalid `model`"),
        (json!({ "model": "openclaw/nobody", "messages": said("x") }), 400, "Unknown agent 'nobody'."),
        (json!({ "messages": [] }), 400, "Missing user message"),
        (json!({ "messages": said("x"), "tools": [{}] }), 400, "`tools`"),
        (json!({ "messages": "x" }), 400, "messages"),
        (json!({ "messages": said("Fail: boom") }), 500, "boom"),
        (json!({ "messages": said(&"x".repeat(6_000)) }), 413, "5000"),
    ] {
        let (found, answer) = sent(post(&daemon, "/v1/chat/completions", &asked)).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(found.as_u16(), status, "{answer}");
        assert!(message.contains(words), "{answer}");
    }
    let asked = json!({ "messages": said("Fail: boom"), "stream": true });
    let (chunks, done) = streamed(post(&daemon, "/v1/chat/completions", &asked)).await;
    assert!(done);
    assert!(chunks.last().unwrap()["error"]["message"].as_str().unwrap().contains("boom"));
    daemon.stop().await;
}

#[tokio::test]
async fn a_user_has_one_session_that_remembers() {
    let daemon = Daemon::with(OPEN).await;
    let first = "Reply with exactly: ONE";
    let asked = json!({ "messages": said(first), "user": "bob" });
    sent(post(&daemon, "/v1/chat/completions", &asked)).await;
    let all = json!([
        { "role": "user", "content": first },
        { "role": "assistant", "content": "ONE" },
        { "role": "user", "content": [{ "type": "text", "text": "Reply with exactly: TWO" }] },
    ]);
    let asked = json!({ "messages": all, "user": "bob" });
    let (_, answer) = sent(post(&daemon, "/v1/chat/completions", &asked)).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "TWO");
    let path = "/sessions/agent%3Amain%3Aopenai-user%3Abob/history";
    let (_, history) = sent(get(&daemon, path)).await;
    assert_eq!(history["messages"].as_array().unwrap().len(), 4, "{history}");
    assert_eq!(history["messages"][2]["content"], "Reply with exactly: TWO");
    let (_, page) = sent(get(&daemon, &format!("{path}?limit=3"))).await;
    assert_eq!((&page["hasMore"], page["messages"].as_array().unwrap().len()), (&json!(true), 3));
    let cursor = page["nextCursor"].as_str().unwrap();
    let (_, page) = sent(get(&daemon, &format!("{path}?limit=3&cursor={cursor}"))).await;
    assert_eq!((&page["hasMore"], &page["messages"][0]["content"]), (&json!(false), &json!(first)));
    assert_eq!(sent(get(&daemon, "/sessions/agent:main:none/history")).await.0, StatusCode::NOT_FOUND);
    daemon.stop().await;
}

#[tokio::test]
async fn a_response_follows_an_earlier_one_also_after_a_restart() {
    let daemon = Daemon::with(OPEN).await;
    let asked = json!({ "input": "Reply with exactly: ONE" });
    let (status, first) = sent(post(&daemon, "/v1/responses", &asked)).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    assert_eq!(first["output"][0]["content"][0]["text"], "ONE");
    let daemon = daemon.restart().await;
    let asked = json!({
        "input": "Reply with exactly: TWO",
        "previous_response_id": first["id"],
        "stream": true,
    });
    let (events, done) = streamed(post(&daemon, "/v1/responses", &asked)).await;
    assert!(done);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let mut expected = vec![
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ];
    let deltas = kinds.iter().filter(|kind| **kind == "response.output_text.delta").count();
    assert!(deltas > 0);
    expected.extend(std::iter::repeat_n("response.output_text.delta", deltas));
    expected.extend([
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]);
    assert_eq!(kinds, expected);
    let listed = post(&daemon, "/tools/invoke", &json!({ "tool": "sessions_list" }));
    let (_, listed) = sent(listed).await;
    assert_eq!(listed["result"]["details"]["count"], 1, "{listed}");
    let unknown = json!({ "input": "x", "previous_response_id": "resp_unknown" });
    assert_eq!(sent(post(&daemon, "/v1/responses", &unknown)).await.0, StatusCode::NOT_FOUND);
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_stops_when_its_client_goes_away() {
    let daemon = Daemon::with(OPEN).await;
    let mut watcher = daemon.client().await;
    for stream in [true, false] {
        let asked = json!({ "messages": said("Wait: 1h"), "stream": stream }).to_string();
        let mut socket = TcpStream::connect(daemon.address()).await.unwrap();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
             content-length: {}\r\n\r\n{asked}",
            asked.len()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let phase = |name: &'static str| {
            move |event: &Value| event["stream"] == "lifecycle" && event["data"]["phase"] == name
        };
        let started = watcher.event("agent", phase("start")).await;
        drop(socket);
        let ended = |event: &Value| event["runId"] == started["runId"] && event["stream"] == "lifecycle";
        let ended = watcher.event("agent", ended).await;
        assert_ne!(ended["data"]["phase"], "start");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn requests_have_an_end_also_when_the_gateway_stops_before_their_runs_do() {
    let daemon = Daemon::with(OPEN).await;
    let mut watcher = daemon.client().await;
    let (chat, responses) = ("/v1/chat/completions", "/v1/responses");
    let whole = post(&daemon, chat, &json!({ "messages": said("Wait: 1h") }));
    let streams = [
        post(&daemon, chat, &json!({ "messages": said("Wait: 1h"), "stream": true })),
        post(&daemon, responses, &json!({ "input": "Wait: 1h", "stream": true })),
    ];
    let [chat, responses] = streams.map(|request| tokio::spawn(streamed(request)));
    let whole = tokio::spawn(sent(whole));
    for _ in 0..3 {
        watcher.event("agent", |event| event["data"]["phase"] == "start").await;
    }
    daemon.stop().await;
    let (status, answer) = whole.await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    let (chunks, done) = chat.await.unwrap();
    assert!(done && chunks.last().unwrap()["error"]["message"].is_string(), "{chunks:?}");
    let (events, done) = responses.await.unwrap();
    assert!(done && events.last().unwrap()["type"] == "response.failed", "{events:?}");
}

#[tokio::test]
async fn programs_use_the_tools_that_are_open_to_them() {
    let daemon = Daemon::with(OPEN).await;
    let invoke = |body: Value| sent(post(&daemon, "/tools/invoke", &body));
    let (status, answer) = invoke(json!({ "tool": "agents_list" })).await;
    assert_eq!((status, &answer["ok"]), (StatusCode::OK, &json!(true)), "{answer}");
    assert_eq!(answer["result"]["content"][0]["type"], "text");
    let (status, answer) = invoke(json!({ "name": "sessions_spawn", "args": { "task": "x" } })).await;
    assert_eq!((status, &answer["error"]["type"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    assert_eq!(invoke(json!({})).await.0, StatusCode::BAD_REQUEST);
    let (status, answer) = invoke(json!({ "tool": "sessions_history" })).await;
    assert_eq!((status, &answer["error"]["type"]), (StatusCode::BAD_REQUEST, &json!("tool_error")));
    daemon.stop().await;
}

#[tokio::test]
async fn clients_spawn_with_the_tool_and_are_told_what_has_no_meaning_outside_a_run() {
    let open = r#"{ gateway: { tools: { allow: ["sessions_spawn", "sessions_yield"] } } }"#;
    let daemon = Daemon::with(open).await;
    let invoke = |body: Value| sent(post(&daemon, "/tools/invoke", &body));
    let arguments = json!({ "task": "Reply with exactly: x" });
    let spawn = json!({ "tool": "sessions_spawn", "args": arguments, "idempotencyKey": "k" });
    let (status, first) = invoke(spawn.clone()).await;
    let details = &first["result"]["details"];
    assert_eq!((status, &details["status"]), (StatusCode::OK, &json!("accepted")), "{first}");
    assert_eq!(invoke(spawn.clone()).await.1["result"]["details"]["runId"], details["runId"]);
    let mut client = daemon.client().await;
    let spawn = json!({ "name": "sessions_spawn", "args": arguments, "idempotencyKey": "k" });
    let answer = client.call("tools.invoke", spawn.clone()).await.unwrap();
    // Both hold the shared secret.
    assert_eq!(answer["output"]["details"]["runId"], details["runId"], "{answer}");
    for (name, more) in [
        ("sessions_yield", json!({})),
        ("subagents", json!({ "idempotencyKey": "k" })),
        ("agents_list", json!({ "dryRun": true })),
        ("agents_list", json!({ "confirm": true })),
    ] {
        let mut body = more;
        body["name"] = json!(name);
        let (status, refused) = invoke(body.clone()).await;
        let text = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(status == StatusCode::BAD_REQUEST && text.contains("not supported"), "{body}: {refused}");
        let refused = client.call("tools.invoke", body.clone()).await.unwrap_err();
        assert!(refused["message"].as_str().unwrap().contains("not supported"), "{body}: {refused}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_session_is_stopped_by_its_key() {
    let daemon = Daemon::with(OPEN).await;
    let asked = json!({ "messages": said("Reply with exactly: x"), "user": "eve" });
    sent(post(&daemon, "/v1/chat/completions", &asked)).await;
    let kill = |key: &str| post(&daemon, &format!("/sessions/{key}/kill"), &json!({}));
    // The answer may be here before the session has heard that its run has ended: the first takes that end along.
    sent(kill("agent%3Amain%3Aopenai-user%3Aeve")).await;
    let (status, answer) = sent(kill("agent%3Amain%3Aopenai-user%3Aeve")).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({ "ok": true, "killed": false })));
    let (status, answer) = sent(kill("agent%3Amain%3Anone")).await;
    assert_eq!((status, &answer["error"]["type"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    daemon.stop().await;
}

fn hook(daemon: &Daemon, name: &str, body: &Value) -> RequestBuilder {
    let request = ask(daemon, Method::POST, &format!("/hooks/{name}"));
    request.header("x-openclaw-token", "hook-token").body(body.to_string())
}

#[tokio::test]
async fn webhooks_have_a_secret_of_their_own() {
    let daemon = Daemon::with(OPEN).await;
    let wake = json!({ "text": "Reply with exactly: x" });
    assert_eq!(sent(post(&daemon, "/hooks/wake", &wake)).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(sent(hook(&daemon, "wake?token=hook-token", &wake)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(
        sent(hook(&daemon, "wake", &wake)).await,
        (StatusCode::OK, json!({ "ok": true, "mode": "now" }))
    );
    let refused = (StatusCode::BAD_REQUEST, json!({ "ok": false, "error": "text required" }));
    assert_eq!(sent(hook(&daemon, "wake", &json!({}))).await, refused);
    assert_eq!(sent(hook(&daemon, "other", &json!({}))).await.0, StatusCode::NOT_FOUND);
    let get = ask(&daemon, Method::GET, "/hooks/wake").header("x-openclaw-token", "hook-token");
    assert_eq!(sent(get).await.0, StatusCode::METHOD_NOT_ALLOWED);
    for wrong in [
        json!({}),
        json!({ "message": "x", "sessionKey": "a" }),
        json!({ "message": "x", "agentId": "nobody" }),
        json!({ "message": "x", "to": "someone" }),
        json!({ "message": "x", "callbackUrl": "file:///etc/passwd" }),
    ] {
        assert_eq!(sent(hook(&daemon, "agent", &wrong)).await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let again = || {
        hook(&daemon, "agent", &json!({ "message": "Reply with exactly: x" })).header("idempotency-key", "k")
    };
    let (first, second) = (sent(again()).await.1, sent(again()).await.1);
    assert_eq!(first["ok"], true);
    assert_eq!(first["runId"], second["runId"]);
    daemon.stop().await;
}

#[tokio::test]
async fn the_control_ui_is_served_from_its_folder() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("assets")).unwrap();
    std::fs::write(root.path().join("index.html"), "<html><script src=\"./assets/a.js\"></script></html>")
        .unwrap();
    std::fs::write(root.path().join("assets/a.js"), "code").unwrap();
    let config = json!({ "gateway": { "controlUi": { "root": root.path(), "basePath": "/claw" } } });
    let daemon = Daemon::with(&config.to_string()).await;
    let moved = ask(&daemon, Method::GET, "/claw?a=b").send().await.unwrap();
    assert_eq!(
        (moved.status(), &moved.headers()[LOCATION]),
        (StatusCode::FOUND, &"/claw/?a=b".parse().unwrap())
    );
    for path in ["/claw/", "/claw/chat", "/claw/index.html"] {
        let page = ask(&daemon, Method::GET, path).send().await.unwrap();
        assert_eq!(page.headers()["x-frame-options"], "DENY");
        assert!(
            page.headers()["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'")
        );
        let (status, text) = read(page).await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.as_str().unwrap().contains("src=\"/claw/assets/a.js\""), "{text}");
    }
    let file = ask(&daemon, Method::GET, "/claw/assets/a.js").send().await.unwrap();
    let tag = file.headers()[ETAG].clone();
    assert_eq!(file.headers()["content-length"], "4");
    assert_eq!(read(file).await.1, "code");
    let known = ask(&daemon, Method::GET, "/claw/assets/a.js").header(IF_NONE_MATCH, tag);
    assert_eq!(sent(known).await.0, StatusCode::NOT_MODIFIED);
    let head = ask(&daemon, Method::HEAD, "/claw/assets/a.js").send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "4");
    assert_eq!(sent(ask(&daemon, Method::GET, "/claw/assets/b.js")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(sent(ask(&daemon, Method::POST, "/claw/")).await.0, StatusCode::METHOD_NOT_ALLOWED);
    for path in ["/claw/__openclaw/control-ui-config.json", "/claw/control-ui-config.json"] {
        let (status, config) = sent(ask(&daemon, Method::GET, path)).await;
        assert_eq!(
            (status, &config["basePath"], &config["assistantAgentId"]),
            (StatusCode::OK, &json!("/claw"), &json!("main"))
        );
        let behind = ask(&daemon, Method::GET, path).header("x-forwarded-for", "192.0.2.1");
        assert_eq!(sent(behind).await.0, StatusCode::UNAUTHORIZED);
    }
    let (_, avatar) = sent(ask(&daemon, Method::GET, "/claw/avatar/main?meta=1")).await;
    assert_eq!(avatar["avatarUrl"], Value::Null);
    assert_eq!(sent(ask(&daemon, Method::GET, "/")).await.0, StatusCode::OK);
    assert_eq!(sent(ask(&daemon, Method::GET, "/healthz")).await.0, StatusCode::OK);
    daemon.stop().await;
}
