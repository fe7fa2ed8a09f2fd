//! A run that a restart cut in the middle of a step, as clients hear of it.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::Daemon;

/// Takes the next call of a model, and answers with the first piece of text.
async fn call(model: &TcpListener, piece: &str) -> TcpStream {
    let (mut stream, _) = model.accept().await.unwrap();
    let (mut request, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "the request is whole");
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() >= length.trim().parse().unwrap() {
            break;
        }
    }
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n";
    let delta = json!({ "choices": [{ "index": 0, "delta": { "content": piece } }] });
    stream.write_all(format!("{head}data: {delta}\n\n").as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn text_that_a_restart_cut_off_is_replaced_by_what_the_step_says_when_it_is_made_again() {
    let model = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = model.local_addr().unwrap();
    let daemon = Daemon::with(&format!(
        "{{ models: {{ providers: {{ own: {{ baseUrl: 'http://{address}/v1' }} }} }},
            agents: {{ defaults: {{ model: 'own/m', recovery: {{ grace: 0 }} }} }} }}"
    ))
    .await;
    let mut client = daemon.client().await;
    let params = json!({ "sessionKey": "main", "message": "go", "idempotencyKey": "cut" });
    client.call("chat.send", params).await.unwrap();
    let cut = call(&model, "wrong and long").await;
    let told = client.event("chat", |chat| chat["state"] == "delta").await;
    assert_eq!((&told["deltaText"], told.get("replace")), (&json!("wrong and long"), None));
    let daemon = daemon.restart().await;
    drop(cut);
    let mut client = daemon.client().await;
    let mut again = call(&model, "right").await;
    let told = client.event("agent", |agent| agent["stream"] == "assistant").await;
    assert_eq!(told["runId"], "cut");
    assert_eq!(told["data"], json!({ "text": "right", "delta": "right", "replace": true }));
    let told = client.event("chat", |chat| chat["state"] == "delta").await;
    assert_eq!((&told["deltaText"], &told["replace"]), (&json!("right"), &json!(true)));
    let stop = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
    again.write_all(format!("data: {stop}\n\ndata: [DONE]\n\n").as_bytes()).await.unwrap();
    drop(again);
    let last = client.event("chat", |chat| chat["state"] == "final").await;
    assert_eq!(last["message"]["content"][0]["text"], "right");
    daemon.stop().await;
}
