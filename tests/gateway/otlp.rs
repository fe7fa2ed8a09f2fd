//! Traces as a collector gets them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::rig::Daemon;

const PATIENCE: Duration = Duration::from_secs(30);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const SECRET: &str = "a-secret-of-the-collector";

/// A collector, which is not ready until it is opened.
struct Collector {
    address: String,
    open: Arc<AtomicBool>,
    requests: mpsc::UnboundedReceiver<(bool, String, Value)>,
    spans: BTreeMap<String, Value>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicBool::new(true));
        let ready = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (mut text, mut bytes) = (String::new(), [0; 65_536]);
                let (head, body) = loop {
                    let count = socket.read(&mut bytes).await.unwrap();
                    text.push_str(&String::from_utf8_lossy(&bytes[..count]));
                    if let Some((head, body)) = text.split_once("\r\n\r\n")
                        && let Ok(body) = serde_json::from_str::<Value>(body)
                    {
                        break (head.to_owned(), body);
                    }
                    assert_ne!(count, 0, "the request ended early");
                };
                let taken = ready.load(Ordering::SeqCst);
                let status = if taken { "200 OK" } else { "503 Service Unavailable" };
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
                socket.write_all(answer.as_bytes()).await.unwrap();
                if sender.send((taken, head, body)).is_err() {
                    return;
                }
            }
        });
        Self { address, open, requests, spans: BTreeMap::new() }
    }

    fn config(&self) -> String {
        format!(
            "{{ diagnostics: {{ otel: {{ enabled: true, endpoint: '{}', headers: {{ authorization: '{SECRET}' }} }} }},
                agents: {{ defaults: {{ subagents: {{ maxSpawnDepth: 3 }} }} }},
                hooks: {{ enabled: true, token: 'hook-token' }} }}",
            self.address
        )
    }

    /// Takes the next request, and its spans if it was ready for it.
    async fn next(&mut self) -> (bool, String) {
        let next = tokio::time::timeout(PATIENCE, self.requests.recv()).await;
        let (taken, head, body) = next.expect("something is exported").unwrap();
        if taken {
            let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
            let named = spans.iter().map(|span| (span["spanId"].as_str().unwrap().to_owned(), span.clone()));
            self.spans.extend(named);
        }
        (taken, head)
    }

    /// Waits until so many runs are over.
    async fn runs(&mut self, count: usize) -> Vec<Value> {
        while self.named("invoke_agent").len() < count {
            self.next().await;
        }
        self.named("invoke_agent")
    }

    /// The spans whose names begin like this, in the order of their beginning.
    fn named(&self, name: &str) -> Vec<Value> {
        let named = self.spans.values().filter(|span| span["name"].as_str().unwrap().starts_with(name));
        let mut named: Vec<Value> = named.cloned().collect();
        named.sort_by_key(|span| span["startTimeUnixNano"].as_str().unwrap().to_owned());
        named
    }
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a str {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|attribute| attribute["key"] == key);
    let value = &found.unwrap_or_else(|| panic!("{key} is missing in {span}"))["value"];
    value["stringValue"].as_str().or_else(|| value["intValue"].as_str()).unwrap()
}

#[tokio::test]
async fn the_spans_of_a_tree_nest_as_the_tree_did() {
    let mut collector = Collector::start().await;
    let daemon = Daemon::with(&collector.config()).await;
    let mut client = daemon.client().await;
    let middle = json!({ "task": "Spawn: {\"task\": \"Reply with exactly: LEAF\"}", "label": "middle" });
    let message = format!("Call: sessions_list {{}}\nWait: 0ms\nSpawn: {middle}");
    let id = client.send("agent", json!({ "message": message, "idempotencyKey": "k" })).await;
    let accepted = client.answer(&id).await.unwrap();
    assert_eq!(client.answer(&id).await.unwrap()["result"]["payloads"][0]["text"], "LEAF");

    let runs = collector.runs(3).await;
    let root = &runs[0];
    assert!(root.get("parentSpanId").is_none(), "{root}");
    assert_eq!(attribute(root, "offshoot.run").replace('-', ""), root["traceId"]);
    assert_eq!(
        accepted["traceparent"],
        format!("00-{}-{}-01", root["traceId"].as_str().unwrap(), root["spanId"].as_str().unwrap())
    );
    assert_eq!(runs[1]["parentSpanId"], root["spanId"]);
    assert_eq!(attribute(&runs[1], "offshoot.label"), "middle");
    assert_eq!(runs[2]["parentSpanId"], runs[1]["spanId"]);
    assert!(collector.spans.values().all(|span| span["traceId"] == root["traceId"]));

    let tools = collector.named("execute_tool");
    let of_root: Vec<&str> = tools
        .iter()
        .filter(|tool| tool["parentSpanId"] == root["spanId"])
        .map(|tool| attribute(tool, "gen_ai.tool.name"))
        .collect();
    assert_eq!(of_root, ["sessions_list", "sessions_spawn", "sessions_yield"]);
    let announces = collector.named("announce");
    let links = |announce: &Value| announce["links"][0]["spanId"].clone();
    let mut told: Vec<_> = announces.iter().map(|one| (links(one), one["parentSpanId"].clone())).collect();
    let mut expected = vec![
        (runs[1]["spanId"].clone(), root["spanId"].clone()),
        (runs[2]["spanId"].clone(), runs[1]["spanId"].clone()),
    ];
    told.sort_by_key(|(child, _)| child.to_string());
    expected.sort_by_key(|(child, _)| child.to_string());
    assert_eq!(told, expected);

    let steps = collector.named("chat");
    let of_leaf: Vec<&Value> =
        steps.iter().filter(|step| step["parentSpanId"] == runs[2]["spanId"]).collect();
    assert_eq!((of_leaf.len(), attribute(of_leaf[0], "gen_ai.request.model")), (1, "rehearsal"));
    assert_eq!(
        attribute(of_leaf[0], "gen_ai.usage.input_tokens"),
        attribute(&runs[2], "gen_ai.usage.input_tokens")
    );
    for span in collector.spans.values() {
        assert!(span["startTimeUnixNano"].as_str() <= span["endTimeUnixNano"].as_str(), "{span}");
        assert!(span.get("status").is_none(), "{span}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_that_a_restart_goes_on_with_is_in_the_same_trace() {
    let mut collector = Collector::start().await;
    let daemon = Daemon::with(&collector.config()).await;
    let mut client = daemon.client().await;
    let message = r#"Spawn: {"task": "Call: sessions_list {}\nWait: 1h"}"#;
    let id = client.send("agent", json!({ "message": message, "idempotencyKey": "k" })).await;
    client.answer(&id).await.unwrap();
    while collector.named("execute_tool sessions_list").is_empty() {
        collector.next().await;
    }
    let before = collector.named("execute_tool sessions_list").remove(0);
    let daemon = daemon.restart().await;
    let mut client = daemon.client().await;
    client.call("chat.abort", json!({ "sessionKey": "main" })).await.unwrap();
    let mut runs = collector.runs(2).await;
    runs.sort_by_key(|run| run.get("parentSpanId").is_some());
    assert_eq!(runs[1]["parentSpanId"], runs[0]["spanId"]);
    assert_eq!(before["parentSpanId"], runs[1]["spanId"]);
    for span in [&before, &runs[0], &runs[1]] {
        assert_eq!(span["traceId"], attribute(&runs[0], "offshoot.run").replace('-', ""));
    }
    let ends = runs.iter().map(|run| (attribute(run, "offshoot.state"), &run["status"]["code"]));
    assert!(ends.clone().all(|end| end == ("cancelled", &json!(2))), "{:?}", ends.collect::<Vec<_>>());
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_begins_the_trace_and_is_told_where_its_run_is() {
    let mut collector = Collector::start().await;
    let results = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let daemon = Daemon::with(&collector.config()).await;
    let callback = format!("http://{}/", results.local_addr().unwrap());
    let sent = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(format!("http://{}/hooks/agent", daemon.address()))
        .bearer_auth("hook-token")
        .header("traceparent", PARENT)
        .body(json!({ "message": "Reply with exactly: X", "callbackUrl": callback }).to_string())
        .send()
        .await
        .unwrap();
    let told = sent.headers()["traceparent"].to_str().unwrap().to_owned();
    let answer: Value = serde_json::from_str(&sent.text().await.unwrap()).unwrap();
    assert_eq!(answer["traceparent"], told);
    let run = collector.runs(1).await.remove(0);
    assert_eq!((&run["traceId"], &run["parentSpanId"]), (&json!(TRACE), &json!("00f067aa0ba902b7")));
    assert_eq!(told, format!("00-{TRACE}-{}-01", run["spanId"].as_str().unwrap()));
    let (mut socket, _) = results.accept().await.unwrap();
    let mut head = Vec::new();
    while !String::from_utf8_lossy(&head).contains("\r\n\r\n") {
        assert_ne!(socket.read_buf(&mut head).await.unwrap(), 0);
    }
    assert!(String::from_utf8_lossy(&head).contains(&format!("traceparent: {told}")));

    // The same for a spawn, whose run is below the client's span too.
    let mut client = daemon.client().await;
    let wish = json!({ "task": "Reply with exactly: Y", "traceparent": PARENT });
    let spawned = client.call("sessions.spawn", wish).await.unwrap();
    let spawned_run = spawned["runId"].as_str().unwrap().to_owned();
    let span = loop {
        let runs = collector.named("invoke_agent");
        match runs.into_iter().find(|run| attribute(run, "offshoot.run") == spawned_run) {
            Some(span) => break span,
            None => drop(collector.next().await),
        }
    };
    assert_eq!((&span["traceId"], &span["parentSpanId"]), (&json!(TRACE), &json!("00f067aa0ba902b7")));
    daemon.stop().await;
}

#[tokio::test]
async fn a_collector_that_is_not_ready_gets_the_spans_later_and_nobody_waits_for_it() {
    let mut collector = Collector::start().await;
    collector.open.store(false, Ordering::SeqCst);
    let daemon = Daemon::with(&collector.config()).await;
    let mut client = daemon.client().await;
    for number in 0..20 {
        let params = json!({ "message": "Reply with exactly: X", "idempotencyKey": format!("k{number}") });
        let id = client.send("agent", params).await;
        client.answer(&id).await.unwrap();
        assert_eq!(client.answer(&id).await.unwrap()["status"], "ok");
    }
    let (taken, head) = collector.next().await;
    assert!(!taken && head.contains(SECRET), "the header is sent");
    collector.open.store(true, Ordering::SeqCst);
    assert_eq!(collector.runs(20).await.len(), 20);

    // Nor does the end of the daemon.
    collector.open.store(false, Ordering::SeqCst);
    let id =
        client.send("agent", json!({ "message": "Reply with exactly: X", "idempotencyKey": "last" })).await;
    client.answer(&id).await.unwrap();
    client.answer(&id).await.unwrap();
    tokio::time::timeout(PATIENCE, daemon.stop()).await.unwrap();
}
